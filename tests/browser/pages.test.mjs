// What happens to a page: sleep, another network, the Back button, a server that comes back.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, expectInOrder, openPage, startClient, startProxy, startServer, until, untilOpen } from './harness.mjs';

const timeout = 2 * PATIENCE_MS;
const server = await startServer();
const OPTIONS = { share: false, techniques: ['stream'], patience: 3000 };

/** Lets the page believe that it was shown again. */
const show = page => page.evaluate(() => { document.dispatchEvent(new Event('visibilitychange')); });

test('a laptop that wakes reconnects at once', { timeout }, async () => {
  const proxy = await startProxy(server.port);
  const page = await openPage(proxy.url + '/healthz');
  await startClient(page, { ...OPTIONS, patience: 20000, channels: ['sleep'] });
  await untilOpen(page, 'stream');
  await server.publish('sleep', [0]);
  await expectInOrder(page, 1);

  // Asleep: the clock goes on, timers do not, and the connection dies without a word.
  proxy.set({ stream: 'stall' });
  await server.publish('sleep', [1, 2]);
  await show(page);
  assert.equal(await page.evaluate(() => one.states.length), 2, 'a short nap changes nothing');
  proxy.set({});
  await page.evaluate(() => { const now = Date.now; Date.now = () => now() + 3600e3; });
  await show(page);
  await expectInOrder(page, 3);
  assert.equal(proxy.requests.stream, 2);
  await page.close();
});

test('a page that waits tries at once when it is shown or online', { timeout }, async () => {
  for (const signal of ['visibilitychange', 'online']) {
    const proxy = await startProxy(server.port), channel = 'signal/' + signal;
    const page = await openPage(proxy.url + '/healthz');
    // The longest pauses, of which those from four seconds on never end by themselves.
    await page.evaluate(() => {
      const { setTimeout } = window;
      Math.random = () => 1;
      window.setTimeout = (task, ms, ...more) => ms >= 4000 && ms <= 30000 ? 0 : setTimeout(task, ms, ...more);
    });
    await startClient(page, { ...OPTIONS, channels: [channel] });
    await untilOpen(page, 'stream');
    proxy.set({ stream: 'cut' });
    await until(page, 'it waits long', () => one.states.at(-1).wait >= 4000);
    await server.publish(channel, [0]);
    proxy.set({});
    await page.evaluate(signal => { (signal === 'online' ? window : document).dispatchEvent(new Event(signal)); }, signal);
    await expectInOrder(page, 1);
    await page.close();
  }
});

test('a page in the back-forward cache holds no connection and resumes when it is restored', { timeout }, async () => {
  const page = await openPage(server.url + '/healthz');
  await startClient(page, { ...OPTIONS, share: true, channels: ['back'] });
  await untilOpen(page, 'stream');
  await server.publish('back', [0]);
  await expectInOrder(page, 1);
  const subscribers = async () => (await (await fetch(server.url + '/pub/back')).json()).subscribers;
  await page.evaluate(() => { dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true })); });
  const deadline = Date.now() + PATIENCE_MS;
  while (await subscribers() > 0) assert.ok(Date.now() < deadline, 'the hidden page still listens');
  await server.publish('back', [1, 2]);
  await page.evaluate(() => { dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true })); });
  await expectInOrder(page, 3);
  await page.close();
});

test('a page of another origin listens', { timeout }, async () => {
  const page = await openPage(server.url.replace('127.0.0.1', 'localhost') + '/healthz');
  for (const technique of ['websocket', 'sse', 'stream', 'poll', 'jsonp']) {
    await startClient(page, { url: server.url, share: false, techniques: [technique], channels: ['cors/' + technique] }, technique);
    await untilOpen(page, technique, technique);
    await server.publish('cors/' + technique, [0, 1]);
    await expectInOrder(page, 2, technique);
  }
  await page.close();
});

test('a page of another origin embeds a forever frame', { timeout }, async () => {
  const page = await openPage(server.url.replace('127.0.0.1', 'localhost') + '/healthz');
  await page.evaluate(url => {
    window.one = { data: [], states: [] };
    addEventListener('message', ({ origin, data }) => {
      if (origin === url && data.next) one.states.push(data);
      if (origin === url && 'data' in data) one.data.push(data.data);
    });
    const frame = document.createElement('iframe');
    frame.src = `${url}/sub/cors/frame?as=iframe&callback=postMessage`;
    document.body.append(frame);
  }, server.url);
  await until(page, 'the frame says where it starts', () => one.states.length === 1);
  const values = ['</script>', '<!--', '\u2028', 1];
  await server.publish('cors/frame', values);
  await until(page, 'all has come', count => one.data.length === count, values.length);
  assert.deepEqual(await page.evaluate(() => one.data), values);
  await page.close();
});

test('the plain script defines Encke', { timeout }, async () => {
  const page = await openPage(server.url + '/healthz');
  await page.addScriptTag({ url: server.url + '/encke.global.js' });
  const [url, state] = await page.evaluate(() => {
    const comet = new Encke();
    comet.close();
    return [comet.url, comet.state];
  });
  assert.deepEqual([url, state], [server.url, 'closed']);
  await page.close();
});
