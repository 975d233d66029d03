// What goes wrong on the way: a restart, answers that are lost, a long sleep, too many at once.

import assert from "node:assert/strict";
import {test} from "node:test";
import {CometDClient, FayeClient, PATIENCE, Proxy, Server, until} from "./harness.mjs";

const clients = {
    "CometD long-polling": url => new CometDClient(url, {transport: "long-polling"}),
    "CometD websocket": url => new CometDClient(url, {transport: "websocket"}),
    "Faye long-polling": url => new FayeClient(url, {transport: "long-polling"}),
    "Faye websocket": url => new FayeClient(url, {transport: "websocket"}),
};

/** A client that subscribes after every handshake, as CometD's documentation tells and as Faye's does by itself. */
async function subscriber(make, url, got) {
    const client = make(url);
    if (client instanceof CometDClient) {
        client.inner.addListener("/meta/handshake", reply => {
            if (reply.successful) client.inner.subscribe("/a", event => got.push(event.data));
        });
        await client.connect();
    } else {
        await client.subscribe("/a", data => got.push(data));
    }
    return client;
}

/** Publishes until one of the messages has arrived. */
async function untilDelivered(server, got) {
    let number = 0;
    await until("a message arrives", async () => {
        await server.publish("a", number++);
        await new Promise(resolve => setTimeout(resolve, 50));
        return got.length > 0;
    });
}

for (const [name, make] of Object.entries(clients)) {
    test(`${name}: the server is killed and comes back`, {timeout: 3 * PATIENCE}, async () => {
        let server = await Server.start();
        const got = [];
        const client = await subscriber(make, server.url + "/bayeux", got);
        await untilDelivered(server, got);
        await server.stop();
        await new Promise(resolve => setTimeout(resolve, 500));
        server = await Server.start([], server.port);
        got.length = 0;
        const since = Date.now();
        await untilDelivered(server, got);
        console.log(`${name}: back after ${Date.now() - since} ms`);
        await client.close();
        await server.stop();
    });

    test(`${name}: a sleep longer than maxInterval`, {timeout: 3 * PATIENCE}, async () => {
        const server = await Server.start(["--bayeux-max-interval-ms", "200", "--bayeux-timeout-ms", "500"]);
        const proxy = await Proxy.start(server.port, () => false);
        const got = [];
        const client = await subscriber(make, proxy.url + "/bayeux", got);
        await untilDelivered(server, got);
        const before = client.sessionId;
        proxy.sleep();
        await until("the session has expired", async () => await server.sessions() === 0);
        proxy.asleep = false;
        got.length = 0;
        await untilDelivered(server, got);
        assert.notEqual(client.sessionId, before, "a new session, for the old one had expired");
        await client.close();
        proxy.stop();
        await server.stop();
    });
}

test("answers cut in the middle: with ack nothing is lost or doubled", {timeout: 3 * PATIENCE}, async () => {
    const server = await Server.start(["--history-messages", "1000", "--bayeux-max-interval-ms", "60000"]);
    const proxy = await Proxy.start(server.port, chunk => chunk.includes('"data"'));
    const client = new CometDClient(proxy.url + "/bayeux", {transport: "long-polling", ack: true});
    const got = [];
    await client.connect();
    await client.subscribe("/a", data => got.push(data));
    proxy.cuts = 10;
    const all = Array.from({length: 200}, (_, number) => number);
    for (const number of all) {
        await server.publish("a", number);
        if (number % 10 === 0) await new Promise(resolve => setTimeout(resolve, 20));
    }
    await until("all came", () => got.length >= all.length);
    await server.publish("a", "the end");
    await until("the end came", () => got.includes("the end"));
    assert.deepEqual(got, [...all, "the end"]);
    assert.ok(proxy.cut >= 5, `${proxy.cut} answers were cut`);
    assert.equal(client.handshakes, 1, "the session lived on");
    await client.close();
    proxy.stop();
    await server.stop();
});

test("more clients than may shake hands in a second: all get in", {timeout: 3 * PATIENCE}, async () => {
    const server = await Server.start(["--bayeux-handshakes-per-second", "2"]);
    const names = [...Array(3).fill(["CometD long-polling", "CometD websocket"]).flat(), "Faye long-polling", "Faye websocket"];
    const all = names.map(name => clients[name](server.url + "/bayeux"));
    let refused = 0;
    // CometD's client tells of each failure, and goes on.
    all.forEach(client => client.connect().catch(() => refused++));
    await until("all are in", () => all.every(client => client.sessionId));
    assert.ok(refused > 0, "nobody was too many");
    const got = all.map(() => []);
    await Promise.all(all.map((client, index) => client.subscribe("/a", data => got[index].push(data))));
    await server.publish("a", "welcome");
    await until("all have it", () => got.every(mine => mine.length === 1));
    await Promise.all(all.map(client => client.close()));
    await server.stop();
});
