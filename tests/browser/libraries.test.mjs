// Clients that are not ours, unmodified: each delivers in order, takes heartbeats for nothing, and comes back after a
// cut, a restart and a limit without losing anything silently.

import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { PATIENCE_MS, openPage, startProxy, startServer } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const RETRY = ['--sse-retry-ms', '200'];
const { outputFiles: [script] } = await esbuild.build({
  entryPoints: [fileURLToPath(new URL('library-page.mjs', import.meta.url))], bundle: true, format: 'iife', write: false,
});
const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
let channels = 0;

/** Waits until `look()` holds. */
async function until(what, look) {
  for (const end = Date.now() + PATIENCE_MS; !await look();) {
    if (Date.now() > end) throw Error(`waited in vain until ${what}`);
    await new Promise(done => setTimeout(done, 20));
  }
}

/** A library in a page; `seen()` tells what it said. */
const inPage = name => async (origin, url) => {
  const page = await openPage(origin + '/healthz');
  await page.addScriptTag({ content: script.text });
  await page.evaluate(([name, url]) => window.listen(name, url), [name, url]);
  return { seen: () => page.evaluate(() => ({ ...seen, take: undefined })), close: () => page.close() };
};

/** A library of Node; `open` calls `say` with what it hears and returns how to end it. */
const inNode = open => async (origin, url) => {
  const seen = { opens: 0, data: [], ids: [], gaps: [], errors: [] };
  const close = open(url, seen);
  after(close);
  return { seen: async () => seen, close };
};

const take = (seen, text, id) => {
  seen.data.push(JSON.parse(text));
  seen.ids.push(id);
};

const CLIENTS = {
  'EventSource of the browser': inPage('EventSource of the browser'),
  'event-source-polyfill': inPage('event-source-polyfill'),
  'reconnecting-eventsource': inPage('reconnecting-eventsource'),
  '@microsoft/fetch-event-source': inPage('@microsoft/fetch-event-source'),
  'WebSocket of the browser': inPage('WebSocket of the browser'),
  eventsource: inNode((url, seen) => {
    const source = new EventSource(url);
    Object.defineProperty(seen, 'isDead', { enumerable: true, get: () => source.readyState === 2 });
    source.onopen = () => seen.opens++;
    source.onmessage = ({ data, lastEventId }) => take(seen, data, lastEventId);
    source.addEventListener('encke.gap', ({ data }) => seen.gaps.push(JSON.parse(data)));
    return () => source.close();
  }),
  ws: inNode((url, seen) => {
    let socket, place = 'now', isOver = false;
    const open = () => {
      socket = new WebSocket(`${url.replace('http', 'ws').replace('?as=sse', '')}?after=${place}`);
      socket.on('open', () => seen.opens++);
      socket.on('error', () => {});
      socket.on('message', text => {
        const { id, next, gap, data } = JSON.parse(text);
        if (gap) seen.gaps.push(gap);
        if (id) take(seen, JSON.stringify(data), id);
        place = id ?? next ?? place;
      });
      socket.on('close', () => isOver || setTimeout(open, 200));
    };
    open();
    return () => {
      isOver = true;
      socket.terminate();
    };
  }),
  curl: inNode((url, seen) => {
    // A loop in a shell, as people write it; a line at a time.
    let place, child, isOver = false;
    const open = () => {
      child = spawn('curl', ['-sN', url, ...place ? ['-H', `Last-Event-ID: ${place}`] : []], { stdio: ['ignore', 'pipe', 'ignore'] });
      let rest = '', event;
      child.stdout.on('data', data => {
        const lines = (rest + data).split('\n');
        rest = lines.pop();
        for (const line of lines) {
          const [, field, value] = /^(\w*): ?(.*)$/.exec(line) ?? [];
          if (field === 'id') place = value;
          if (field === 'event') event = value;
          if (field === 'data') {
            if (event === 'encke.open') seen.opens++;
            else if (event === 'encke.gap') seen.gaps.push(JSON.parse(value));
            else take(seen, value, place);
          }
          if (!line) event = undefined;
        }
      });
      child.on('exit', () => isOver || setTimeout(open, 200));
    };
    open();
    return () => {
      isOver = true;
      child.kill();
    };
  }),
};

/** The client listens by a proxy to a server of its own. */
async function listen(client, ...options) {
  const server = await startServer('--heartbeat', '1', ...RETRY, ...options), proxy = await startProxy(server.port);
  const channel = `library/${channels++}`;
  const { seen, close } = await client(proxy.url, `${proxy.url}/sub/${channel}?as=sse`);
  await until('it is open', async () => (await seen()).opens > 0);
  const got = async count => {
    await until(`${count} messages have come`, async () => (await seen()).data.length >= count);
    const { data, errors } = await seen();
    assert.deepEqual(errors, []);
    return data;
  };
  return { server, proxy, channel, seen, close, got, publish: (...range) => server.publish(channel, numbers(...range)) };
}

for (const [name, client] of Object.entries(CLIENTS)) {
  const cut = /websocket|^ws$/i.test(name) ? { websocket: 'cut' } : { sse: 'cut' };
  describe(name, { concurrency: 3 }, () => {
    test('gets all in order, and takes openings and heartbeats for nothing', { timeout }, async () => {
      const { publish, got, seen, close } = await listen(client);
      await publish(0, 200);
      await new Promise(done => setTimeout(done, 2500)); // heartbeats
      await publish(200, 300);
      assert.deepEqual(await got(300), numbers(0, 300));
      assert.deepEqual((await seen()).gaps, []);
      await close();
    });

    test('comes back after cuts and has lost nothing', { timeout }, async () => {
      const { proxy, publish, got, seen, close } = await listen(client);
      for (let round = 0; round < 3; round++) {
        await publish(round * 20, round * 20 + 10);
        await got(round * 20 + 10);
        proxy.set(cut);
        await publish(round * 20 + 10, round * 20 + 20);
        await new Promise(done => setTimeout(done, 300));
        proxy.set({});
      }
      assert.deepEqual(await got(60), numbers(0, 60));
      assert.deepEqual((await seen()).gaps, []);
      await close();
    });

    test('comes back after a restart that takes longer than its pause, and is told of the gap', { timeout }, async () => {
      const { server, channel, publish, got, seen, close } = await listen(client);
      await publish(0, 5);
      await got(5);
      await server.stop('SIGKILL');
      await new Promise(done => setTimeout(done, 1500));
      const again = await startServer('--heartbeat', '1', ...RETRY, '--listen', `127.0.0.1:${server.port}`);
      await again.publish(channel, numbers(5, 8));
      assert.deepEqual(await got(8), numbers(0, 8));
      assert.equal((await seen()).gaps.length, 1);
      await close();
    });

    test('is not dead when it meets a limit', { timeout }, async () => {
      const server = await startServer('--heartbeat', '1', '--limits-subscribers-per-channel', '1');
      const url = `${server.url}/sub/full?as=sse`, holder = new AbortController();
      assert.equal((await fetch(url, { signal: holder.signal })).status, 200);
      const { seen, close } = await client(server.url, url);
      await new Promise(done => setTimeout(done, 1000));
      const { isDead, data, errors } = await seen();
      assert.deepEqual([!!isDead, data, errors], [false, [], []]);
      holder.abort();
      await close();
    });
  });
}
