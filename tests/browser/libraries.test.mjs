// Clients that are not ours, unmodified: each delivers in order, takes heartbeats for nothing, and comes back after a
// cut, a restart and a limit without losing anything silently.

import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';
import { librariesOf, numbers, until } from './foreign.mjs';
import { PATIENCE_MS, startProxy, startServer } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const RETRY = ['--sse-retry-ms', '200'];
const inPage = await librariesOf('library-page.mjs');
let channels = 0;

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

/** Cuts it off; `tries(n)` waits until it has tried to come back so often in vain. */
async function cutOff(proxy, cut) {
  const count = () => Object.values(proxy.requests).reduce((sum, n) => sum + n, 0);
  await cut();
  const before = count();
  return n => until('it tries to come back', () => count() >= before + n);
}

const elsewhere = await startServer();

for (const [name, client] of Object.entries(CLIENTS)) {
  const cut = /websocket|^ws$/i.test(name) ? { websocket: 'cut' } : { sse: 'cut' };
  describe(name, { concurrency: 3 }, () => {
    test('gets all in order, and takes openings and heartbeats for nothing', { timeout }, async () => {
      const { server, publish, got, seen, close } = await listen(client);
      await publish(0, 200);
      const { heartbeats } = await server.stats();
      await until('two heartbeats were sent', async () => (await server.stats()).heartbeats > heartbeats + 1);
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
        const tries = await cutOff(proxy, () => proxy.set(cut));
        await publish(round * 20 + 10, round * 20 + 20);
        await tries(1);
        proxy.set({});
      }
      assert.deepEqual(await got(60), numbers(0, 60));
      assert.deepEqual((await seen()).gaps, []);
      await close();
    });

    test('comes back after a restart that takes longer than its pause, and is told of the gap', { timeout }, async () => {
      const { server, proxy, channel, publish, got, seen, close } = await listen(client);
      await publish(0, 5);
      await got(5);
      const tries = await cutOff(proxy, () => server.stop('SIGKILL'));
      await tries(2);
      const again = await startServer('--heartbeat', '1', ...RETRY, '--listen', `127.0.0.1:${server.port}`);
      await again.publish(channel, numbers(5, 8));
      assert.deepEqual(await got(8), numbers(0, 8));
      assert.equal((await seen()).gaps.length, 1);
      await close();
    });

    test('is not dead when it meets a limit, and goes on when there is room', { timeout }, async () => {
      const server = await startServer('--heartbeat', '1', '--limits-connections', '3', ...RETRY), holders = [];
      const full = await startProxy(server.port), url = `${full.url}/sub/full?as=sse`;
      for (let n = 0; n < 3; n++) {
        const holder = new AbortController();
        holders.push(holder);
        assert.equal((await fetch(`${server.url}/sub/others?as=sse`, { signal: holder.signal })).status, 200);
      }
      // A page of this server would have a connection already that was let in.
      const { seen, close } = await client(elsewhere.url, url);
      await until('it was sent away', () => full.answers > 0);
      const { isDead, data, errors } = await seen();
      assert.deepEqual([!!isDead, data, errors], [false, [], []]);
      holders.forEach(holder => holder.abort());
      const subscribers = async () => {
        const answer = await fetch(server.url + '/pub/full'), said = await answer.json();
        return answer.ok ? said.subscribers : 0;
      };
      await until('it is there', async () => await subscribers() === 1);
      await until('there is room to publish', () => server.publish('full', numbers(0, 3)).then(() => true, () => false));
      await until('all has come', async () => (await seen()).data.length >= 3);
      assert.deepEqual((await seen()).data, numbers(0, 3));
      await close();
    });
  });
}
