// Each technique in a real browser, and every change from one to another in mid-stream.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, expectInOrder, openPage, startClient, startProxy, startServer, until, untilOpen } from './harness.mjs';

const TECHNIQUES = (process.env.TECHNIQUES ?? 'websocket,sse,stream,poll,jsonp').split(',');
const STREAMS = ['websocket', 'sse', 'stream'];
const MESSAGES = 1000, SWITCHED = 300;
// A line that is to fail fails soon, but not while the page is opened on a slow machine.
const CALM = { share: false, patience: 20000, pollSeconds: 1 }, SOON = 3000;
const timeout = 2 * PATIENCE_MS;

const server = await startServer('--heartbeat', '1');
const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
let channels = 0;

/** Publishes 0, 1, 2, … in small lots, calling `halfway` in the middle. */
async function publishAll(channel, count, lot, halfway) {
  for (let from = 0; from < count; from += lot) {
    if (halfway && from >= count / 2) {
      await halfway();
      halfway = undefined;
    }
    await server.publish(channel, numbers(from, Math.min(count, from + lot)));
  }
}

for (const technique of TECHNIQUES) {
  test(`${technique} delivers ${MESSAGES} messages in order`, { timeout }, async () => {
    const page = await openPage(server.url + '/healthz'), channel = `each/${channels++}`;
    await startClient(page, { share: false, techniques: [technique], channels: [channel] });
    await untilOpen(page, technique);
    await publishAll(channel, MESSAGES, 7);
    await expectInOrder(page, MESSAGES);
    await page.close();
  });
}

describe('in mid-stream', { concurrency: 4 }, () => {
  for (const from of TECHNIQUES) {
    for (const to of TECHNIQUES.filter(to => to !== from)) {
      const failures = from === 'sse' || from === 'stream' ? ['cut', 'stall', 'buffer'] : ['cut', 'stall'];
      for (const failure of failures) test(`${from} to ${to}: ${failure}`, { timeout }, () => change(from, to, failure));
    }
  }
});

/** The proxy lets one technique fail when half of the messages have come: the other brings the rest. */
async function change(from, to, failure) {
  const proxy = await startProxy(server.port), channel = `pair/${channels++}`;
  const page = await openPage(proxy.url + '/healthz');
  await startClient(page, { ...CALM, techniques: [from, to], channels: [channel] });
  await untilOpen(page, from);
  await page.evaluate(patience => { one.comet.patience = patience; }, SOON);
  await publishAll(channel, SWITCHED, 10, async () => {
    await until(page, 'half has come', count => window.one.data.length >= count, SWITCHED / 2);
    proxy.set({ [from]: failure });
  });
  await expectInOrder(page, SWITCHED);
  await untilOpen(page, to);
  await page.close();
}

test('a proxy that buffers makes the client poll, and a busy channel makes it stream again', { timeout }, async () => {
  const proxy = await startProxy(server.port), channel = `busy/${channels++}`;
  proxy.set({ websocket: 'cut', sse: 'buffer', stream: 'buffer' });
  const page = await openPage(proxy.url + '/healthz');
  await startClient(page, { ...CALM, patience: 2 * SOON, channels: [channel] });
  await untilOpen(page, 'poll');
  assert.equal(proxy.requests.stream, undefined, 'one stream without a first byte is enough');

  await server.publish(channel, [0]);
  await expectInOrder(page, 1);
  // The penalty is a minute: let the client believe that it has passed.
  proxy.set({});
  await page.evaluate(() => { const now = Date.now; Date.now = () => now() + 61000; });
  let sent = 1;
  const end = Date.now() + PATIENCE_MS;
  while (!await page.evaluate(streams => streams.includes(one.comet.technique) && one.comet.state === 'open', STREAMS)) {
    assert.ok(Date.now() < end, 'it goes on polling');
    await server.publish(channel, [sent++]);
    await until(page, 'it has come', count => one.data.length >= count, sent);
  }
  await expectInOrder(page, sent);
  await page.close();
});
