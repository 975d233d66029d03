// The unmodified browser builds of CometD's and Faye's clients, in a real browser, on every transport they have, on
// pages of the server's own origin and of another one. Node runs them in tests/bayeux, through failures as well.

import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PATIENCE_MS, newContext, openPage, startServer } from './harness.mjs';

const require = createRequire(import.meta.url);
const PACKAGES = { cometd: dirname(require.resolve('cometd')), faye: dirname(require.resolve('faye/package.json')) };

// What a page has to load to be on that transport, in the browser's words.
const BY = {
  'websocket': 'websocket', 'eventsource': 'eventsource', 'long-polling': 'xhr', 'cross-origin-long-polling': 'xhr',
  'callback-polling': 'script',
};
// Faye's long polling and eventsource are for the page's own origin, its cross-origin long polling for others.
const CLIENTS = [
  { family: 'CometD', transport: 'websocket' },
  { family: 'CometD', transport: 'long-polling' },
  { family: 'CometD', transport: 'long-polling', ack: true, timesync: true },
  { family: 'CometD', transport: 'callback-polling' },
  { family: 'CometD' },
  { family: 'Faye', transport: 'websocket' },
  { family: 'Faye', transport: 'eventsource', only: 'its own origin' },
  { family: 'Faye', transport: 'long-polling', only: 'its own origin' },
  { family: 'Faye', transport: 'cross-origin-long-polling', only: 'another origin' },
  { family: 'Faye', transport: 'callback-polling' },
  { family: 'Faye' },
];

const server = await startServer('--bayeux-publish', '**');
// Another name is another origin.
const PAGES = { 'its own origin': server.url, 'another origin': server.url.replace('127.0.0.1', 'localhost') };
const BURST = 20;
let rooms = 0;

/** A page of that origin that finds the packages' files, as they are, below `/vendor/`. */
async function openVendorPage(origin) {
  const context = await newContext();
  await context.route('**/vendor/**', route => {
    const [, name, ...path] = new URL(route.request().url()).pathname.slice(1).split('/');
    const file = PACKAGES[name] ? join(PACKAGES[name], ...path) : fileURLToPath(new URL('./bayeux-page.mjs', import.meta.url));
    return route.fulfill({ path: file, contentType: 'text/javascript' });
  });
  const page = await openPage(origin + '/healthz', context);
  const loads = new Set();
  page.on('request', request => new URL(request.url()).pathname.startsWith('/bayeux') && loads.add(request.resourceType()));
  page.on('websocket', socket => new URL(socket.url()).pathname.startsWith('/bayeux') && loads.add('websocket'));
  return { page, loads };
}

/** Waits until everybody in the page has heard so much; gives what. */
async function untilHeard(page, counts) {
  await page.waitForFunction(counts => Object.entries(counts).every(([who, count]) => globalThis.test.heard[who].length >= count),
    counts, { timeout: PATIENCE_MS, polling: 10 }).catch(() => {}); // What is missing, the caller shows.
  return page.evaluate(() => globalThis.test.heard);
}

/** A client and its page: all it does, and what the others hear. */
async function play(origin, { family, ...options }) {
  const { page, loads } = await openVendorPage(PAGES[origin]);
  const room = `room${rooms++}`;
  const used = await page.evaluate(async args => {
    const { start } = await import('/vendor/page/bayeux-page.mjs');
    await start(args);
    return globalThis.test.transport();
  }, { server: server.url, family, options, room });

  const own = [1, 'two ü \u2028 </script>', { three: [3] }, null, false, '', 0];
  await page.evaluate(async ([room, own]) => {
    const { one, two } = globalThis.test;
    for (const data of own) await one.publish(`/${room}/a`, data);
    await two.publish(`/${room}/a`, 'the other family');
  }, [room, own]);
  await server.publish(`${room}/a`, [{ native: true }]);
  await page.evaluate(room => globalThis.test.one.publish(`/${room}/deep/er`, 'below'), room);
  const all = [...own, 'the other family', { native: true }];
  const expected = { one: all.map(data => [`/${room}/a`, data]), two: [...all, 'below'], stream: all, encke: all };
  const counts = Object.fromEntries(Object.entries(expected).map(([who, messages]) => [who, messages.length]));
  assert.deepEqual(await untilHeard(page, counts), expected);

  const { transport = used } = options;
  assert.equal(used, transport);
  assert.ok(loads.has(BY[transport]), `${transport} is ${BY[transport]}, and the page loaded ${[...loads]}`);

  // Many at once, none lost or twice and in one order for all; then nothing to those who left.
  await page.evaluate(([room, burst]) => Promise.all(
    Array.from({ length: burst }, (_, n) => globalThis.test.one.publish(`/${room}/a`, n))), [room, BURST]);
  const { one, two, stream, encke } = await untilHeard(page,
    Object.fromEntries(Object.entries(counts).map(([who, count]) => [who, count + BURST])));
  const burst = two.slice(expected.two.length);
  assert.deepEqual(burst.toSorted((a, b) => a - b), Array.from({ length: BURST }, (_, n) => n));
  assert.deepEqual(one.slice(all.length).map(([, data]) => data), burst);
  assert.deepEqual([stream, encke].map(heard => heard.slice(all.length)), [burst, burst]);
  await page.evaluate(async room => {
    await globalThis.test.cancel();
    await globalThis.test.one.publish(`/${room}/b`, 'nobody asked');
  }, room);
  const left = await untilHeard(page, { two: two.length + 1 });
  assert.deepEqual([left.two.at(-1), left.one.length], ['nobody asked', one.length]);
  await page.evaluate(() => Promise.all([globalThis.test.one.close(), globalThis.test.two.close()]));
  await page.context().close();
}

for (const origin of Object.keys(PAGES)) {
  describe(`a page of ${origin}`, { concurrency: 4 }, () => {
    for (const client of CLIENTS.filter(({ only = origin }) => only === origin)) {
      const { family, transport = 'as it comes', ack } = client;
      const name = `${family}, ${transport}${ack ? ' with ack and timesync' : ''}`;
      test(name, { timeout: 2 * PATIENCE_MS }, () => play(origin, client));
    }
  });
}
