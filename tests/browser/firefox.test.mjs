// Firefox beside Chromium: its own EventSource, which gives up where others do not, and the client across restarts, in tabs
// of which one hangs, and where the browser lets nobody share.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, startProxy, startServer } from './harness.mjs';
import { missing, startFirefox } from './firefox.mjs';

const options = { skip: missing, timeout: 3 * PATIENCE_MS };
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
const SERVER = ['--heartbeat', '1', '--sse-retry-ms', '200'];
const firefox = missing ? undefined : await startFirefox();
after(() => firefox?.close());

/** Gives the page an EventSource of its own, as `window.seen`. */
async function listen(page, path) {
  await page.evaluate(path => {
    const source = new EventSource(path), seen = window.seen = { opens: 0, began: 0, errors: 0, data: [], gaps: 0 };
    window.source = source;
    source.onopen = () => seen.opens++;
    source.onerror = () => seen.errors++;
    source.onmessage = ({ data }) => seen.data.push(JSON.parse(data));
    source.addEventListener('encke.open', () => seen.began++);
    source.addEventListener('encke.gap', () => seen.gaps++);
  }, path);
  await page.until('it has an answer', () => seen.opens > 0);
}

/** A page with a client, as `window.one`. */
async function start(server, channel, settings, browser = firefox) {
  const page = await browser.openPage(server.url + '/healthz');
  await page.evaluate(async ([channel, settings]) => {
    const { Encke } = await import('/encke.js');
    const comet = new Encke('', { channels: [channel], ...settings });
    const seen = window.one = { data: [], gaps: [], states: [] };
    window.comet = comet;
    comet.on('message', ({ data }) => seen.data.push(data));
    comet.on('gap', gap => seen.gaps.push(gap));
    comet.on('state', state => seen.states.push(state));
  }, [channel, settings]);
  await page.until('it is open', () => comet.state === 'open');
  return page;
}

const expect = async (page, name, data, gaps) => {
  await page.until(`${data.length} messages have come`, ([name, count]) => window[name].data.length >= count, [name, data.length]);
  const seen = await page.evaluate(name => window[name], name);
  assert.deepEqual(seen.data, data);
  assert.equal(name === 'one' ? seen.gaps.length : seen.gaps, gaps);
};

/** The server is away until the page has noticed, as `condition` tells, and comes back without a history. */
async function restart(server, page, what, condition) {
  await server.stop('SIGKILL');
  await page.until(what, condition);
  return startServer(...SERVER, '--listen', `127.0.0.1:${server.port}`);
}

test('the EventSource of Firefox gets all in order, takes heartbeats for nothing, and loses nothing by cuts', options, async () => {
  const server = await startServer(...SERVER), proxy = await startProxy(server.port);
  const page = await firefox.openPage(proxy.url + '/healthz');
  await listen(page, '/sub/cuts?as=sse');
  const { heartbeats } = await server.stats();
  while ((await server.stats()).heartbeats < heartbeats + 2) await new Promise(done => setTimeout(done, 50));
  for (let round = 0; round < 3; round++) {
    await server.publish('cuts', range(round * 20, round * 20 + 10));
    await expect(page, 'seen', range(0, round * 20 + 10), 0);
    proxy.drop();
    await server.publish('cuts', range(round * 20 + 10, round * 20 + 20));
  }
  await expect(page, 'seen', range(0, 60), 0);
  await page.close();
});

test('the EventSource of Firefox comes back after a server drained and restarted, and is told of the gap', options, async () => {
  const server = await startServer(...SERVER, '--drain-seconds', '5');
  const page = await firefox.openPage(server.url + '/healthz');
  await listen(page, '/sub/restart?as=sse');
  await server.publish('restart', range(0, 5));
  await expect(page, 'seen', range(0, 5), 0);
  await server.stop('SIGTERM');
  const again = await startServer(...SERVER, '--listen', `127.0.0.1:${server.port}`);
  await page.until('it is there again', () => seen.gaps > 0);
  await again.publish('restart', range(5, 8));
  await expect(page, 'seen', range(0, 8), 1);
  await page.close();
});

test('the EventSource of Firefox that meets a limit goes on when there is room', options, async () => {
  // The page is another server's: it has no connection to this one that would be let in.
  const server = await startServer(...SERVER, '--limits-connections', '2'), url = server.url + '/sub/full?as=sse';
  const page = await firefox.openPage((await startServer()).url + '/healthz'), holders = [];
  for (let n = 0; n < 2; n++) {
    const holder = new AbortController();
    holders.push(holder);
    assert.equal((await fetch(url, { signal: holder.signal })).status, 200);
  }
  await listen(page, url);
  await page.until('it was sent away', () => seen.errors > 0);
  assert.notEqual(await page.evaluate(() => source.readyState), 2);
  assert.equal(await page.evaluate(() => seen.began), 0);
  holders.forEach(holder => holder.abort());
  await page.until('it is there', () => seen.began > 0);
  while (!await server.publish('full', range(0, 3)).then(() => true, () => false));
  await expect(page, 'seen', range(0, 3), 0);
  await page.close();
});

for (const technique of [undefined, 'websocket', 'sse', 'stream', 'poll', 'jsonp']) {
  test(`the client comes back after a restart and is told of the gap, by ${technique ?? 'what it finds'}`, options, async () => {
    const server = await startServer(...SERVER);
    const page = await start(server, 'restart', { ...technique && { techniques: [technique] }, patience: 3000 });
    await server.publish('restart', range(0, 5));
    await expect(page, 'one', range(0, 5), 0);
    const again = await restart(server, page, 'it knows', () => comet.state !== 'open');
    await page.until('it is open again', () => comet.state === 'open');
    await again.publish('restart', range(5, 8));
    await expect(page, 'one', range(0, 8), 1);
    await page.close();
  });
}

/** Three tabs that share a line, and have had 20 messages. */
async function openTabs(server, browser) {
  const tabs = [];
  for (let n = 0; n < 3; n++) tabs.push(await start(server, 'tabs', { patience: 2000 }, browser));
  for (const tab of tabs.slice(1)) await tab.until('it shares', () => one.states.at(-1).shared);
  await server.publish('tabs', range(0, 20));
  for (const tab of tabs) await expect(tab, 'one', range(0, 20), 0);
  return tabs;
}

test('of three tabs that share, one waits in an alert: nobody loses anything', options, async () => {
  const server = await startServer(...SERVER), tabs = await openTabs(server), [leader, ...others] = tabs;
  await leader.alert();
  await server.publish('tabs', range(20, 40));
  for (const tab of others) await expect(tab, 'one', range(0, 40), 0);
  await leader.closeDialog();
  await server.publish('tabs', range(40, 60));
  for (const tab of tabs) await expect(tab, 'one', range(0, 60), 0);
  for (const tab of tabs) await tab.close();
});

test('of three tabs that share, one hangs: the others go on without it, and follow it again', options, async () => {
  // Each page in a process of its own, or a page that hangs would hold up all of them.
  const browser = await startFirefox({ 'dom.ipc.processCount.webIsolated': 4, 'dom.ipc.keepProcessesAlive.webIsolated.max': 0 });
  try {
    const server = await startServer(...SERVER), tabs = await openTabs(server, browser), [leader, ...others] = tabs;
    const before = await Promise.all(others.map(tab => tab.evaluate(() => one.states.length)));
    await leader.evaluate(() => {
      setTimeout(() => { for (const end = Date.now() + 8000; Date.now() < end;); }, 0);
    });
    // It may follow again before anybody looks.
    const alone = from => one.states.slice(from).some(({ state, shared }) => state === 'open' && !shared);
    for (const [i, tab] of others.entries()) await tab.until('it goes on alone', alone, before[i]);
    await server.publish('tabs', range(20, 40));
    for (const tab of others) await expect(tab, 'one', range(0, 40), 0);
    for (const tab of others) await tab.until('it follows again', () => one.states.at(-1).state === 'open' && one.states.at(-1).shared);
    await server.publish('tabs', range(40, 60));
    for (const tab of tabs) await expect(tab, 'one', range(0, 60), 0);
  } finally {
    await browser.close();
  }
});

test('where cookies are blocked and nothing can be shared, a page connects by itself', options, async () => {
  const strict = await startFirefox({ 'network.cookie.cookieBehavior': 2 });
  try {
    const server = await startServer(...SERVER);
    const page = await start(server, 'blocked', {}, strict);
    const error = await page.evaluate(() => { try { new BroadcastChannel('x'); } catch ({ name }) { return name; } });
    assert.equal(error, 'SecurityError', 'the fault that is tested is there');
    await server.publish('blocked', range(0, 10));
    await expect(page, 'one', range(0, 10), 0);
    assert.ok(!await page.evaluate(() => one.states.at(-1).shared));
  } finally {
    await strict.close();
  }
});
