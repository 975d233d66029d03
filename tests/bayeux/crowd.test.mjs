// A hundred clients on every transport, a hundred messages: nothing lost, doubled or out of order.

import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {CometDClient, FayeClient, PATIENCE, Server, until} from "./harness.mjs";

let server;
before(async () => server = await Server.start(["--history-messages", "1000"]));
after(() => server.stop());

test("100 clients, 100 messages of 10 publishers", {timeout: 3 * PATIENCE}, async () => {
    const url = server.url + "/bayeux";
    const kinds = [
        () => new CometDClient(url, {transport: "long-polling"}),
        () => new CometDClient(url, {transport: "long-polling", ack: true}),
        () => new CometDClient(url, {transport: "websocket"}),
        () => new FayeClient(url, {transport: "long-polling"}),
        () => new FayeClient(url, {transport: "websocket"}),
    ];
    const clients = Array.from({length: 100}, (_, index) => kinds[index % kinds.length]());
    const got = clients.map(() => []);
    await Promise.all(clients.map(async (client, index) => {
        await client.connect();
        await client.subscribe("/crowd/*", data => got[index].push(data));
    }));
    const publishers = clients.slice(0, 9);
    await Promise.all(publishers.map(async (client, from) => {
        for (let number = 0; number < 10; number++) await client.publish("/crowd/x", {from, number});
    }).concat((async () => {
        for (let number = 0; number < 10; number++) await server.publish("crowd/x", {from: 9, number});
    })()));
    await until("everybody has everything", () => got.every(mine => mine.length >= 100));
    await server.publish("crowd/x", "the end");
    await until("the end has come", () => got.every(mine => mine.includes("the end")));
    for (const mine of got) {
        assert.deepEqual(mine, got[0], "the same messages in the same order for all");
        assert.equal(mine.length, 101);
    }
    for (let from = 0; from < 10; from++) {
        const numbers = got[0].filter(data => data.from === from).map(data => data.number);
        assert.deepEqual(numbers, Array.from({length: 10}, (_, number) => number));
    }
    await Promise.all(clients.map(client => client.close()));
});
