// One connection for all tabs of an origin, and what becomes of it when tabs come and go.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, expectInOrder, openPage, startClient, startProxy, startServer, until, untilOpen, untilShared } from './harness.mjs';

const timeout = 2 * PATIENCE_MS;
// Nobody takes a line or a leader for dead because the machine is slow: that would be another test.
const STREAM = { techniques: ['stream'], patience: 20000 };
const server = await startServer();
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);

/** Two tabs of one browser, the first of which leads, each with a client of its own channels. */
async function twoTabs(channelsA, channelsB, options) {
  const proxy = await startProxy(server.port);
  const a = await openPage(proxy.url + '/healthz');
  await startClient(a, { ...STREAM, channels: channelsA });
  await untilOpen(a, 'stream');
  const b = await openPage(proxy.url + '/healthz', a.context());
  await startClient(b, { ...STREAM, channels: channelsB, ...options });
  await untilOpen(b, 'stream');
  await untilShared(b);
  return { proxy, a, b };
}

const isShared = page => page.evaluate(() => one.states.at(-1).shared === true);

/** Makes the page wait with what it asks for to catch up, until it calls `letGo`; `catchesUp` tells that it would. */
const holdCatchUp = page => page.evaluate(() => {
  const { fetch } = window, held = new Promise(free => { window.letGo = free; });
  window.fetch = async (url, init) => {
    if (String(url).includes('as=interval')) window.catchesUp = true, await held;
    return fetch(url, init);
  };
});

test('two tabs share one connection, and the second goes on when the first is closed', { timeout }, async () => {
  const { proxy, a, b } = await twoTabs(['tabs/same'], ['tabs/same']);
  assert.equal(await isShared(a), false);
  await server.publish('tabs/same', range(0, 100));
  await expectInOrder(a, 100);
  await expectInOrder(b, 100);
  assert.equal(proxy.requests.stream, 1, 'one request for both');

  await a.close();
  await server.publish('tabs/same', range(100, 200));
  await expectInOrder(b, 200);
  await until(b, 'it connects by itself', () => one.comet.state === 'open' && !one.states.at(-1).shared);
  await server.publish('tabs/same', range(200, 300));
  await expectInOrder(b, 300);
  assert.equal(proxy.requests.stream, 2);
  await b.close();
});

test('each of two tabs gets its own channels, with its own history', { timeout }, async () => {
  await server.publish('tabs/b', range(0, 5));
  const { a, b } = await twoTabs(['tabs/a'], ['tabs/b'], { after: '-5' });
  await expectInOrder(b, 5);
  for (let n = 0; n < 50; n++) {
    await server.publish('tabs/a', [n]);
    await server.publish('tabs/b', [n + 5]);
  }
  await expectInOrder(a, 50);
  await expectInOrder(b, 55);
  await a.close();
  await server.publish('tabs/b', range(55, 60));
  await expectInOrder(b, 60);
  await b.close();
});

test('the followers of a leader that dies in a storm lose nothing', { timeout }, async () => {
  const { proxy, a, b } = await twoTabs(['storm/x'], ['storm/*']);
  const c = await openPage(proxy.url + '/healthz', a.context());
  await startClient(c, { ...STREAM, channels: ['storm/x'] });
  await untilOpen(c, 'stream');
  for (let n = 0; n < 600; n += 5) {
    await server.publish('storm/x', range(n, n + 5));
    if (n === 300) await a.close();
  }
  await expectInOrder(b, 600);
  await expectInOrder(c, 600);
  const leads = page => page.evaluate(() => one.comet.state === 'open' && !one.states.at(-1).shared);
  for (const end = Date.now() + PATIENCE_MS; await leads(b) === await leads(c);) assert.ok(Date.now() < end, 'one of them leads');
  await b.close();
  await c.close();
});

test('a new leader that runs ahead of its followers takes them along', { timeout }, async () => {
  const { proxy, a, b } = await twoTabs(['ahead/x'], ['ahead/*']);
  const c = await openPage(proxy.url + '/healthz', a.context());
  // What c says to a leader, and what b asks for to catch up, wait until they are let go.
  await c.evaluate(() => {
    const { postMessage } = BroadcastChannel.prototype;
    BroadcastChannel.prototype.postMessage = function (message) {
      Promise.resolve(message.hello && window.held).then(() => postMessage.call(this, message));
    };
    window.hold = () => { window.held = new Promise(free => { window.letGo = free; }); };
  });
  await holdCatchUp(b);
  await startClient(c, { ...STREAM, channels: ['ahead/x'] });
  await untilOpen(c, 'stream');
  await server.publish('ahead/x', range(0, 10));
  await expectInOrder(b, 10);
  await expectInOrder(c, 10);

  await c.evaluate(() => hold());
  await a.close();
  await until(b, 'it leads', () => one.comet.state === 'open' && !one.states.at(-1).shared);
  await server.publish('ahead/x', range(10, 20));
  await expectInOrder(b, 20);
  await c.evaluate(() => letGo());
  await until(b, 'it makes sure of its place', () => window.catchesUp);
  await server.publish('ahead/x', range(20, 30));
  await b.evaluate(() => letGo());
  await expectInOrder(b, 30);
  await expectInOrder(c, 30);
  await b.close();
  await c.close();
});

test('clients that come and go in a storm each have an unbroken row', { timeout: 2 * timeout }, async () => {
  const page = await openPage(server.url + '/healthz');
  // What they say to each other, and what they ask for to catch up, takes its time, and not always the same.
  await page.evaluate(async options => {
    const { Encke } = await import('/encke.js'), { fetch } = window, { postMessage } = BroadcastChannel.prototype;
    const pause = ms => new Promise(done => setTimeout(done, ms));
    let seed = 7;
    const random = below => (seed = (seed * 1103515245 + 12345) % 2147483648) % 65521 % below;
    window.fetch = async (url, init) => {
      if (String(url).includes('as=interval')) await pause(random(60));
      return fetch(url, init);
    };
    BroadcastChannel.prototype.postMessage = function (message) {
      message.hello ? pause(random(60)).then(() => postMessage.call(this, message)) : postMessage.call(this, message);
    };
    window.rows = [];
    const living = () => rows.filter(({ comet }) => comet.state !== 'closed');
    const channels = [['rows/x'], ['rows/*'], ['rows/x', 'rows/quiet'], ['rows/**']];
    window.storm = async turns => {
      for (let turn = 0; turn < turns; turn++) {
        while (living().length < 4) {
          const row = { comet: new Encke('', { ...options, channels: channels[random(4)] }), 'rows/x': [], 'rows/y': [] };
          row.comet.on('message', ({ channel, data }) => row[channel].push(data));
          rows.push(row);
        }
        await pause(random(200));
        living()[random(4)].comet.subscribe('rows/y');
        await pause(random(100));
        living()[random(3) && random(4)].comet.close(); // half the time the eldest, who leads
      }
      window.calm = true;
    };
  }, STREAM);
  await page.evaluate(() => storm(30) && 0);
  let count = 0;
  const publish = () => Promise.all(['rows/x', 'rows/y'].map(channel => server.publish(channel, [count])));
  for (; !await page.evaluate(() => window.calm); count++) await publish();
  await until(page, 'all that are left are open', () => rows.every(({ comet }) => comet.state === 'closed' || comet.state === 'open'));
  await publish();
  await until(page, 'they have the last', last => rows.every(row => row.comet.state === 'closed' ||
    row['rows/x'].at(-1) === last && (!row['rows/y'].length || row['rows/y'].at(-1) === last)), count);
  for (const row of await page.evaluate(() => rows.map(row => [row['rows/x'], row['rows/y']]))) {
    for (const [first = 0, ...rest] of row) assert.deepEqual(rest, range(first + 1, first + 1 + rest.length));
  }
  await page.close();
});

test('a channel that joins begins with what comes from then on', { timeout }, async () => {
  const { a, b } = await twoTabs(['join/quiet'], ['join/quiet']);
  await server.publish('join/quiet', [0]);
  await expectInOrder(a, 1);
  await server.publish('join/late', ['before']);
  for (const page of [b, a]) {
    await page.evaluate(() => one.comet.subscribe('join/late'));
    await until(page, 'the tabs listen to it', async () => (await (await fetch('/pub/join%2Flate')).json()).subscribers > 0);
  }
  await untilOpen(a);
  await untilOpen(b);
  await server.publish('join/late', [1]);
  await expectInOrder(a, 2);
  await expectInOrder(b, 2);
  await a.close();
  await b.close();
});

test('a tab is open when the connection has its channels, not before', { timeout }, async () => {
  const a = await openPage(server.url + '/healthz');
  await startClient(a, { ...STREAM, channels: ['open/one'] });
  await untilOpen(a, 'stream');
  await holdCatchUp(a);
  const b = await openPage(server.url + '/healthz', a.context());
  await startClient(b, { ...STREAM, channels: ['open/two'] });
  await until(a, 'it would make sure of its place', () => window.catchesUp);
  await until(b, 'it has heard of the leader', () => one.states.length);
  assert.deepEqual(await b.evaluate(() => one.states.filter(({ state }) => state === 'open')), []);
  await a.evaluate(() => letGo());
  await untilOpen(b, 'stream');
  await server.publish('open/two', [0]);
  await expectInOrder(b, 1);
  await a.close();
  await b.close();
});

test('without locks each tab has a connection of its own', { timeout }, async () => {
  const proxy = await startProxy(server.port);
  const page = await openPage(proxy.url + '/healthz');
  await page.evaluate(() => Object.defineProperty(navigator, 'locks', { value: undefined }));
  await startClient(page, { ...STREAM, channels: ['alone'] }, 'one');
  await startClient(page, { ...STREAM, channels: ['alone'] }, 'two');
  await untilOpen(page, 'stream', 'one');
  await untilOpen(page, 'stream', 'two');
  await server.publish('alone', [0, 1, 2]);
  await expectInOrder(page, 3, 'one');
  await expectInOrder(page, 3, 'two');
  assert.equal(proxy.requests.stream, 2);
  await page.close();
});

test('a leader that does not answer is not waited for', { timeout }, async () => {
  const page = await openPage(server.url + '/healthz');
  // Somebody holds the lock and never says a word.
  await page.evaluate(() => navigator.locks.request(`encke ${location.origin} stream `, () => new Promise(() => {})) && 0);
  await startClient(page, { ...STREAM, patience: 300, channels: ['mute'] });
  await untilOpen(page, 'stream');
  await server.publish('mute', [0, 1]);
  await expectInOrder(page, 2);
  assert.equal(await isShared(page), false);
  await page.close();
});
