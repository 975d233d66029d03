// What Node's HTTP parser (llhttp, strict as Node ships it) makes of byte streams: one in base64 a line of stdin, one
// answer in JSON a line of stdout, `{requests: [[method, target, version, body in base64]], refused}`. The parser is
// fed in memory, without sockets.

import http from "node:http";
import {createInterface} from "node:readline";
import {Duplex} from "node:stream";

async function read(bytes) {
    const verdict = {requests: [], refused: null};
    // Whether there is a Host is not the parser's business but the server's: it is switched off.
    const server = http.createServer({requireHostHeader: false, keepAliveTimeout: 0, connectionsCheckingInterval: 1 << 30});
    const connection = new Duplex({read() {}, write(chunk, encoding, done) { done(); }});
    // Node closes after the first answer that ends a connection; here nothing is answered before all is read.
    const take = (request, response) => {
        const entry = [request.method, request.url, request.httpVersion, null];
        verdict.requests.push(entry);
        const body = [];
        request.on("data", chunk => body.push(chunk));
        request.on("end", () => { entry[3] = Buffer.concat(body).toString("base64"); response?.end(); });
        request.on("error", () => {});
    };
    server.on("request", take).on("checkContinue", take).on("checkExpectation", take);
    // CONNECT and upgrades take the connection over: what follows is no HTTP.
    for (const event of ["upgrade", "connect"]) server.on(event, request => {
        verdict.requests.push([request.method, request.url, request.httpVersion, ""]);
        verdict.upgraded = true;
    });
    server.on("clientError", error => verdict.refused ??= error.code);
    server.emit("connection", connection);
    connection.push(bytes);
    // Answers are made in later turns of the loop, and with them pipelined requests are taken.
    for (let turn = 0; turn < 6; turn++) await new Promise(setImmediate);
    connection.destroy();
    return verdict;
}

for await (const line of createInterface({input: process.stdin})) {
    console.log(JSON.stringify(await read(Buffer.from(line, "base64"))));
}
process.exit(0);
