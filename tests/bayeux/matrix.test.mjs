// Every client on every transport: all it does, across to the other family and to server-sent events.

import assert from "node:assert/strict";
import {after, before, test} from "node:test";
import {CometDClient, FayeClient, PATIENCE, Server, until} from "./harness.mjs";

let server;
before(async () => server = await Server.start(["--bayeux-mounts", "/bayeux,/cometd"]));
after(() => server.stop());

const clients = {
    "CometD long-polling": url => new CometDClient(url, {transport: "long-polling"}),
    "CometD long-polling with ack": url => new CometDClient(url, {transport: "long-polling", ack: true}),
    "CometD websocket": url => new CometDClient(url, {transport: "websocket"}),
    "CometD websocket with ack": url => new CometDClient(url, {transport: "websocket", ack: true}),
    "CometD callback-polling": url => new CometDClient(url, {transport: "callback-polling"}),
    "CometD as it comes": url => new CometDClient(url),
    "Faye long-polling": url => new FayeClient(url, {transport: "long-polling"}),
    "Faye websocket": url => new FayeClient(url, {transport: "websocket"}),
    "Faye as it comes": url => new FayeClient(url),
    "Faye browser websocket": url => new FayeClient(url, {transport: "websocket", browser: true}),
    "Faye browser eventsource": url => new FayeClient(url, {transport: "eventsource", browser: true}),
    "Faye browser cross-origin-long-polling": url => new FayeClient(url, {transport: "cross-origin-long-polling", browser: true}),
    "Faye browser callback-polling": url => new FayeClient(url, {transport: "callback-polling", browser: true}),
};

const other = {
    CometD: url => new FayeClient(url, {transport: "websocket"}),
    Faye: url => new CometDClient(url, {transport: "long-polling"}),
};

for (const [name, make] of Object.entries(clients)) {
    test(name, {timeout: 2 * PATIENCE}, async () => {
        const mount = name.startsWith("CometD") ? "/cometd" : "/bayeux";
        const client = make(server.url + mount);
        const peer = other[name.split(" ")[0]](server.url + "/bayeux");
        await Promise.all([client.connect(), peer.connect()]);
        const room = name.replaceAll(/[^a-zA-Z]/g, "");
        const [mine, theirs, streamed] = [[], [], []];
        const one = await client.subscribe(`/${room}/*`, (data, channel) => mine.push([channel, data]));
        await client.subscribe(`/${room}/a`, () => {});
        await peer.subscribe(`/${room}/**`, data => theirs.push(data));
        const stream = await server.listen(`${room}/a`, streamed);

        const all = [1, "two ü \u2028", {three: [3]}, null, false, "", 0];
        for (const data of all) await client.publish(`/${room}/a`, data);
        await until("all came back", () => mine.length >= all.length);
        assert.deepEqual(mine.map(([, data]) => data), all);
        assert.equal(mine[0][0], `/${room}/a`);
        await peer.publish(`/${room}/a`, "from the other family");
        await server.publish(`${room}/a`, {native: true});
        await client.publish(`/${room}/deep/er`, "below");
        await until("the others came", () => mine.length >= all.length + 2 && theirs.length >= all.length + 3);
        assert.deepEqual(mine.slice(all.length).map(([, data]) => data), ["from the other family", {native: true}]);
        assert.deepEqual(theirs, [...all, "from the other family", {native: true}, "below"]);
        await until("the stream has all", () => streamed.length >= all.length + 2);
        assert.deepEqual(streamed, theirs.slice(0, -1));
        if (client.type && client.transport) assert.equal(client.type, client.transport);

        await one.cancel();
        const before = mine.length;
        await client.publish(`/${room}/b`, "nobody asked");
        await until("the peer has it", () => theirs.length === all.length + 4);
        assert.equal(mine.length, before);
        stream.close();
        await Promise.all([client.close(), peer.close()]);
    });
}
