// Clients of Mercure that are not ours, unmodified: each gets what it selects, typed or not, private with a token, comes
// back after cuts and restarts without losing anything silently, and takes openings and heartbeats for nothing.

import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { EventSource } from 'eventsource';
import { librariesOf, numbers, until } from './foreign.mjs';
import { PATIENCE_MS, startProxy, startServer } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const KEY = 'a key of thirty-two bytes or more, for the tests of clients';
process.env.ENCKE_MERCURE_PUBLISHER_KEY = process.env.ENCKE_MERCURE_SUBSCRIBER_KEY = KEY;
const HUB = '/.well-known/mercure';
const inPage = await librariesOf('mercure-page.mjs');

/** A token that grants this. */
function token(mercure) {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
  const message = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ mercure })}`;
  return `${message}.${createHmac('sha256', KEY).update(message).digest('base64url')}`;
}
const PUBLISHER = token({ publish: ['*'] }), SUBSCRIBER = token({ subscribe: ['https://example.com/books/{id}'] });

async function publish(url, fields) {
  const answer = await fetch(url + HUB, {
    method: 'POST', headers: { Authorization: `Bearer ${PUBLISHER}` }, body: new URLSearchParams(fields),
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.text();
}

const CLIENTS = {
  'EventSource of the browser': inPage('EventSource of the browser'),
  'event-source-polyfill': inPage('event-source-polyfill'),
  '@microsoft/fetch-event-source': inPage('@microsoft/fetch-event-source'),
  eventsource: async (_, url) => {
    const seen = { opens: 0, data: [], typed: [], gaps: [], errors: [] };
    const source = new EventSource(url);
    source.onopen = () => seen.opens++;
    source.onmessage = ({ data }) => seen.data.push(JSON.parse(data));
    source.addEventListener('update', ({ data }) => seen.typed.push(JSON.parse(data)));
    source.addEventListener('encke.gap', ({ data }) => seen.gaps.push(JSON.parse(data)));
    after(() => source.close());
    return { seen: async () => seen, close: () => source.close() };
  },
};

const OPTIONS = ['--mercure-anonymous', '--heartbeat', '1', '--sse-retry-ms', '200'];
const topic = n => `https://example.com/books/${n % 3}`;

/** The client listens by a proxy to a server of its own. */
async function listen(client, more = '', ...options) {
  const server = await startServer(...OPTIONS, ...options), proxy = await startProxy(server.port);
  const selector = encodeURIComponent('https://example.com/books/{id}');
  const { seen, close } = await client(proxy.url, `${proxy.url}${HUB}?topic=${selector}&topic=x${more}`);
  await until('it is open', async () => (await seen()).opens > 0);
  const got = async count => {
    await until(`${count} updates have come`, async () => (await seen()).data.length >= count);
    const { data, errors } = await seen();
    assert.deepEqual(errors, []);
    return data;
  };
  const send = async (from, to) => {
    for (const n of numbers(from, to)) await publish(server.url, { topic: topic(n), data: `${n}` });
  };
  return { server, proxy, seen, close, got, send };
}

for (const [name, client] of Object.entries(CLIENTS)) {
  describe(name, { concurrency: 2 }, () => {
    test('gets what it selects, in order, and takes heartbeats for nothing', { timeout }, async () => {
      const { server, send, got, seen, close } = await listen(client);
      await send(0, 20);
      const before = (await server.stats()).heartbeats;
      await until('there were heartbeats', async () => (await server.stats()).heartbeats > before + 1);
      await publish(server.url, { topic: topic(0), data: '"typed"', type: 'update' });
      await publish(server.url, { topic: topic(0), data: '"private"', private: 'on' });
      await publish(server.url, { topic: 'elsewhere', data: '"elsewhere"' });
      await send(20, 40);
      assert.deepEqual(await got(40), numbers(0, 40));
      const { typed, gaps } = await seen();
      assert.deepEqual([typed, gaps], [['typed'], []]);
      await close();
    });

    test('gets private updates by a token in the URL', { timeout }, async () => {
      const { server, got, close } = await listen(client, `&authorization=${SUBSCRIBER}`);
      await publish(server.url, { topic: topic(0), data: '1', private: 'on' });
      await publish(server.url, { topic: 'x', data: '2', private: 'on' });
      await publish(server.url, { topic: 'x', data: '3' });
      assert.deepEqual(await got(2), [1, 3]);
      await close();
    });

    test('comes back after cuts and has lost nothing', { timeout }, async () => {
      const { proxy, seen, send, got, close } = await listen(client);
      for (let round = 0; round < 3; round++) {
        await send(round * 10, round * 10 + 5);
        await got(round * 10 + 5);
        proxy.set({ mercure: 'cut' });
        await send(round * 10 + 5, round * 10 + 10);
        proxy.set({});
      }
      assert.deepEqual(await got(30), numbers(0, 30));
      assert.deepEqual((await seen()).gaps, []);
      await close();
    });

    test('comes back when its stream has had its time, or its server has restarted', { timeout }, async () => {
      const { server, send, seen, got, close } = await listen(client, '', '--limits-stream-seconds', '1');
      await send(0, 5);
      const { opens } = await seen();
      await until('it has come back', async () => (await seen()).opens > opens);
      await send(5, 8);
      await got(8);
      await server.stop('SIGTERM');
      const again = await startServer(...OPTIONS, '--listen', `127.0.0.1:${server.port}`);
      for (const n of [8, 9]) await publish(again.url, { topic: topic(n), data: `${n}` });
      assert.deepEqual(await got(10), numbers(0, 10));
      assert.equal((await seen()).gaps.length, 1, 'of the history that ended');
      await close();
    });
  });
}
