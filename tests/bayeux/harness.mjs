// The server under test, and the unmodified clients with one face.

import {spawn} from "node:child_process";
import {once} from "node:events";
import {existsSync, readFileSync} from "node:fs";
import {createRequire} from "node:module";
import http from "node:http";
import net from "node:net";
import vm from "node:vm";
import {adapt} from "cometd-nodejs-client";
import {AckExtension, CometD} from "cometd";
import faye from "faye";
import {freePort} from "../ports.mjs";

const root = new URL("../../", import.meta.url).pathname;
const binary = process.env.ENCKE_BIN
    ?? ["release", "debug"].map(kind => `${root}target/${kind}/encke`).find(existsSync);

adapt();
addScripts(global.window);

/** How long anything may take before a test fails: it costs only where one does. */
export const PATIENCE = 60_000;

/** Waits until `ask` gives something true; fails with `what` if that takes too long. */
export async function until(what, ask) {
    const deadline = Date.now() + PATIENCE;
    for (;;) {
        const found = await ask();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`waited in vain until ${what}`);
        await new Promise(resolve => setTimeout(resolve, 5));
    }
}

export class Server {
    static async start(options = [], port) {
        const server = new Server();
        port ??= await freePort();
        const all = ["serve", "--listen", `127.0.0.1:${port}`, "--bayeux-publish", "**", ...options];
        server.child = spawn(binary, all, {stdio: ["ignore", "ignore", "pipe"]});
        server.log = "";
        server.child.stderr.on("data", chunk => server.log += chunk);
        const found = await until("the server listens", () => /listening on ([^\s]+):(\d+)/.exec(server.log));
        server.port = Number(found[2]);
        server.url = `http://127.0.0.1:${server.port}`;
        return server;
    }

    async stop() {
        const gone = once(this.child, "exit");
        this.child.kill("SIGKILL");
        await gone;
    }

    /** How many sessions there are. */
    async sessions() {
        return (await (await fetch(`${this.url}/stats`)).json()).bayeux_sessions;
    }

    /** Publishes by the native API. */
    async publish(channel, data) {
        const answer = await fetch(`${this.url}/pub/${channel}`, {
            method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(data),
        });
        if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    }

    /** Listens by server-sent events; the data is added to `got`. */
    async listen(channel, got) {
        const stream = new EventSource(`${this.url}/sub/${channel}?as=sse`);
        stream.onmessage = event => got.push(JSON.parse(event.data));
        await new Promise(resolve => stream.onopen = resolve);
        return stream;
    }
}

/** As much of EventSource as Faye's client and these tests need, for Node has none. */
export class EventSource {
    constructor(url) {
        this.request = http.get(url, {agent: false, headers: {Accept: "text/event-stream"}}, response => {
            if (response.statusCode !== 200) return this.onerror?.();
            this.onopen?.();
            let text = "";
            response.setEncoding("utf8").on("data", chunk => {
                text += chunk;
                const blocks = text.split(/\r?\n\r?\n/);
                text = blocks.pop();
                for (const block of blocks) {
                    const lines = block.split(/\r?\n/);
                    const data = lines.filter(line => line.startsWith("data: "));
                    // A named event is not for onmessage.
                    const isNamed = lines.some(line => line.startsWith("event: "));
                    if (data.length && !isNamed) this.onmessage?.({data: data.map(line => line.slice(6)).join("\n")});
                }
            });
            response.on("close", () => this.onerror?.());
        });
        this.request.on("error", () => this.onerror?.());
    }

    close() {
        this.request.destroy();
    }
}

/** Script elements, which load by HTTP and run in `context`. */
function addScripts(context, run = code => new Function("page", `with (page) {${code}}`)(context)) {
    const head = {
        insertBefore: script => load(script), appendChild: script => load(script),
        removeChild: () => {}, firstChild: null,
    };
    const load = script => {
        script.parentNode = head;
        http.get(script.src, response => {
            let code = "";
            response.setEncoding("utf8").on("data", chunk => code += chunk);
            response.on("end", () => {
                run(code);
                script.onload?.();
            });
        }).on("error", () => script.onerror?.());
    };
    context.document = {
        createElement: () => ({}), getElementsByTagName: () => [head], head, documentElement: head, body: head,
    };
}

/** A CometD client on one transport, or as it is with none named. */
export class CometDClient {
    constructor(url, {transport, ack = false} = {}) {
        this.inner = new CometD();
        this.inner.configure({url, logLevel: "error", backoffIncrement: 100, maxBackoff: 500});
        // JSONP calls a function of the page; in Node the page is the global object.
        for (const type of this.inner.getTransportTypes()) {
            if (transport && type !== transport) this.inner.unregisterTransport(type);
        }
        if (ack) this.inner.registerExtension("ack", new AckExtension());
        this.handshakes = 0;
        this.inner.addListener("/meta/handshake", reply => this.handshakes += reply.successful ? 1 : 0);
    }

    get sessionId() {
        return this.inner.getClientId();
    }

    call(start) {
        return new Promise((resolve, reject) =>
            start(reply => reply.successful ? resolve(reply) : reject(new Error(JSON.stringify(reply)))));
    }

    connect() {
        return this.call(done => this.inner.handshake(done));
    }

    subscribe(channel, take) {
        let subscription;
        return this.call(done => subscription = this.inner.subscribe(channel, event => take(event.data, event.channel), done))
            .then(() => ({cancel: () => this.call(done => this.inner.unsubscribe(subscription, done))}));
    }

    publish(channel, data) {
        return this.call(done => this.inner.publish(channel, data, done));
    }

    close() {
        return this.call(done => this.inner.disconnect(done));
    }
}

/** A Faye client on one transport: those of Node from the package, those of browsers from its bundle. */
export class FayeClient {
    constructor(url, {transport, browser = false} = {}) {
        const page = transport?.includes("-origin") ? "http://page.example/" : url;
        const library = browser ? browserFaye(page) : faye;
        this.inner = new library.Client(url, {retry: 0.5});
        // In the order in which the client prefers them; it shakes hands by one of the later ones in any case.
        const all = ["websocket", "eventsource", "long-polling", "cross-origin-long-polling", "callback-polling"];
        if (transport) all.slice(0, all.indexOf(transport)).forEach(type => this.inner.disable(type));
        this.transport = transport;
    }

    async connect() {
        await new Promise(resolve => this.inner.connect(resolve));
    }

    get sessionId() {
        return this.inner._dispatcher.clientId;
    }

    get type() {
        return this.inner._dispatcher.connectionType;
    }

    async subscribe(channel, take) {
        // What comes from the bundle's page has other prototypes than ours.
        const copy = data => JSON.parse(JSON.stringify(data));
        const subscription = this.inner.subscribe(channel).withChannel((from, data) => take(copy(data), from));
        await subscription;
        // Not the subscription itself, which is a promise.
        return {cancel: () => subscription.cancel()};
    }

    async publish(channel, data) {
        await this.inner.publish(channel, data);
    }

    async close() {
        await this.inner.disconnect();
    }
}

/** Faye's bundle for browsers, in a page at `url`. */
function browserFaye(url) {
    const path = createRequire(import.meta.url).resolve("faye/client/faye-browser.js");
    const page = {
        setTimeout, clearTimeout, setInterval, clearInterval, console, EventSource, WebSocket: global.window.WebSocket,
        XMLHttpRequest: class extends global.window.XMLHttpRequest {
            withCredentials = true;
            // The one in Node has `onload` only.
            onload = () => this.onreadystatechange?.();
            onerror = () => this.onreadystatechange?.();
        },
        location: new URL(url), navigator: {userAgent: "test"}, addEventListener: () => {},
        URL, Promise, encodeURIComponent, decodeURIComponent,
    };
    page.window = page.self = page.global = page;
    addScripts(page, code => vm.runInContext(code, page));
    vm.createContext(page);
    vm.runInContext(readFileSync(path, "utf8"), page);
    return page.Faye;
}

/** A proxy that can cut connections in the middle of an answer. */
export class Proxy {
    /** The next so many answers that `picks` likes are cut after `keep` bytes. */
    cuts = 0;
    asleep = false;
    open = new Set();

    static async start(target, picks) {
        const proxy = new Proxy();
        proxy.cut = 0;
        proxy.server = net.createServer(client => {
            if (proxy.asleep) return client.destroy();
            const upstream = net.connect(target, "127.0.0.1");
            proxy.open.add(client);
            client.on("close", () => proxy.open.delete(client));
            client.on("error", () => upstream.destroy());
            upstream.on("error", () => client.destroy());
            client.on("close", () => upstream.destroy());
            upstream.on("close", () => client.destroy());
            client.on("data", chunk => upstream.write(chunk));
            upstream.on("data", chunk => {
                if (proxy.cuts > 0 && picks(chunk.toString())) {
                    proxy.cuts--;
                    proxy.cut++;
                    client.write(chunk.subarray(0, chunk.length >> 1));
                    setTimeout(() => client.destroy(), 1);
                    return upstream.destroy();
                }
                client.write(chunk);
            });
        });
        await new Promise(resolve => proxy.server.listen(0, "127.0.0.1", resolve));
        proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
        return proxy;
    }

    /** Lets nothing through until `asleep` is false again. */
    sleep() {
        this.asleep = true;
        this.open.forEach(client => client.destroy());
    }

    stop() {
        this.server.close();
        this.open.forEach(client => client.destroy());
    }
}
