// Tabs that hang, crash or do not fit; channels that join; pages with strict rules.

import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { PATIENCE_MS, expectInOrder, newContext, openPage, startClient, startProxy, startServer, until, untilOpen, untilShared } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const PATIENCE = 2000;
// Where nothing is to fail, nobody is taken for dead because the machine is slow.
const CALM = { patience: 20000 };
const server = await startServer('--heartbeat', '1'), calm = await startServer();
const range = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);
const isShared = page => page.evaluate(() => one.states.at(-1).shared === true);
const pause = ms => new Promise(done => setTimeout(done, ms));

/** So many tabs of one browser, opened one after the other; the first one leads. */
async function openTabs(origin, ...options) {
  const context = await newContext(), pages = [];
  for (const own of options) {
    const page = await openPage(origin + '/healthz', context);
    await startClient(page, { patience: PATIENCE, heartbeat: 1000, ...own });
    await untilOpen(page);
    pages.push(page);
  }
  return pages;
}

/** How many listen to a channel. */
const listeners = async (channel, url) => {
  const answer = await fetch(`${url}/pub/${channel}`);
  return answer.status === 404 ? 0 : (await answer.json()).subscribers;
};

/** Waits until so many listen to it. */
async function untilListeners(channel, count, { url } = server) {
  for (const end = Date.now() + PATIENCE_MS; await listeners(channel, url) !== count; await pause(50)) {
    assert.ok(Date.now() < end, `${await listeners(channel, url)} listen to ${channel}, not ${count}`);
  }
}

test('a leader that hangs in an alert starves nobody, and is followed again', { timeout }, async () => {
  const channels = ['alert/x'];
  const [leader, b, c] = await openTabs(server.url, { channels }, { channels }, { channels });
  for (const page of [b, c]) await untilShared(page);
  assert.equal(await isShared(leader), false);
  const dialog = new Promise(shown => leader.on('dialog', shown));
  const hung = leader.evaluate(() => alert('hm?'));
  const shown = await dialog;
  for (let n = 0; n < 60; n++) {
    await server.publish('alert/x', [n]);
    await pause(100);
  }
  for (const page of [b, c]) {
    await expectInOrder(page, 60);
    assert.equal(await isShared(page), false, 'it has a way of its own');
  }
  await shown.dismiss();
  await hung;
  for (const page of [b, c]) await untilShared(page);
  await server.publish('alert/x', range(60, 100));
  for (const page of [leader, b, c]) await expectInOrder(page, 100);
  await untilListeners('alert/x', 1);
  await leader.context().close();
});

test('the channels of a crashed tab go, and its leadership is taken', { timeout }, async () => {
  const [leader, b, c] = await openTabs(server.url, { channels: ['crash/a'] }, { channels: ['crash/b'] }, { channels: ['crash/a', 'crash/c'] });
  await untilListeners('crash/b', 1);
  const crash = async page => {
    const session = await page.context().newCDPSession(page);
    session.send('Page.crash').catch(() => {});
    await new Promise(gone => page.on('crash', gone));
  };
  await crash(b);
  await untilListeners('crash/b', 0);
  await untilShared(c);
  await server.publish('crash/a', range(0, 10));
  await crash(leader);
  await server.publish('crash/a', range(10, 20));
  await expectInOrder(c, 20);
  await until(c, 'it leads', () => one.comet.state === 'open' && !one.states.at(-1).shared);
  await c.context().close();
});

test('three tabs of 40 channels: what does not fit goes alone', { timeout }, async () => {
  const own = tab => range(0, 40).map(n => `many/${tab}/${n}`);
  const pages = await openTabs(server.url, ...['a', 'b', 'c'].map(tab => ({ channels: own(tab) })));
  for (const [i, tab] of ['a', 'b', 'c'].entries()) {
    await untilOpen(pages[i]);
    for (let n = 0; n < 40; n++) await server.publish(`many/${tab}/${n}`, [n]);
    await expectInOrder(pages[i], 40);
  }
  await pages[0].context().close();
});

test('a server that takes fewer channels than we share makes us share fewer', { timeout }, async () => {
  const small = await startServer('--heartbeat', '1', '--limits-channels-per-request', '3');
  const [a, b] = await openTabs(small.url, { techniques: ['sse'], channels: ['few/1', 'few/2'] }, { techniques: ['sse'], channels: ['few/3', 'few/4'] });
  await small.publish('few/1', range(0, 5));
  await small.publish('few/3', range(0, 5));
  await expectInOrder(a, 5);
  await expectInOrder(b, 5);
  await a.context().close();
});

test('channels join a busy WebSocket by a command; what is open goes on', { timeout }, async () => {
  const proxy = await startProxy(calm.port), [page] = await openTabs(proxy.url, { ...CALM, heartbeat: 15000, share: false, channels: ['busy/a'] });
  let count = 0, isBusy = true;
  const storm = (async () => {
    for (; isBusy; count++) {
      await calm.publish('busy/a', [count]);
      await pause(10);
    }
  })();
  for (const name of ['busy/b', 'busy/c', 'busy/d']) {
    await page.evaluate(async name => {
      one.comet.subscribe(name);
      if (one.comet.state !== 'connecting') throw Error(one.comet.state);
    }, name);
    await untilOpen(page);
    await untilListeners(name, 1, calm);
  }
  isBusy = false;
  await storm;
  await expectInOrder(page, count);
  assert.deepEqual(proxy.requests, { websocket: 1 });
  await page.evaluate(() => one.comet.unsubscribe('busy/a'));
  await untilListeners('busy/a', 0, calm);
  await page.context().close();
});

for (const technique of ['sse', 'stream', 'poll']) {
  test(`channels join a line by ${technique} while it is busy, and once`, { timeout }, async () => {
    const proxy = await startProxy(server.port), name = `join-${technique}`;
    const [page] = await openTabs(proxy.url, { share: false, techniques: [technique], channels: [`${name}/a`] });
    let count = 0, isBusy = true;
    const storm = (async () => {
      for (; isBusy; count++) {
        await server.publish(`${name}/a`, [count]);
        await pause(40);
      }
    })();
    await until(page, 'it is busy', () => one.data.length > 5);
    await page.evaluate(name => one.comet.subscribe(name), `${name}/b`);
    await untilOpen(page);
    await server.publish(`${name}/b`, ['joined']);
    await until(page, 'it has joined', () => one.data.includes('joined'));
    isBusy = false;
    await storm;
    await until(page, 'all have come', count => one.data.length > count, count);
    const data = await page.evaluate(() => one.data.filter(value => value !== 'joined'));
    assert.deepEqual(data, range(0, count));
    await page.context().close();
  });
}

test('tabs with other tokens do not share; those of one subject do', { timeout }, async () => {
  const token = sub => `x.${Buffer.from(JSON.stringify({ sub })).toString('base64url')}.y`;
  const context = await newContext();
  const open = async sub => {
    const page = await openPage(server.url + '/healthz', context);
    await page.evaluate(async token => {
      const { Encke } = await import('/encke.js'), states = [];
      // The server has no keys, and takes no tokens: they are for the tabs alone.
      const fetch = window.fetch;
      window.fetch = (url, init) => fetch(url, { ...init, headers: {} });
      const comet = new Encke('', { channels: ['who'], techniques: ['sse'], patience: 2000, token: async () => token });
      comet.on('state', state => states.push(state));
      window.one = { comet, states, data: [] };
    }, token(sub));
    await untilOpen(page);
    return page;
  };
  const [alice, bob, again] = [await open('alice'), await open('bob'), await open('alice')];
  await untilShared(again);
  assert.deepEqual([await isShared(alice), await isShared(bob)], [false, false]);
  await context.close();
});

test('where tabs cannot speak to each other, each has a way of its own', { timeout }, async () => {
  for (const broken of ['BroadcastChannel', 'locks', 'storage']) {
    const page = await openPage(server.url + '/healthz');
    await page.evaluate(broken => {
      const fail = () => { throw new DOMException('The operation is insecure.', 'SecurityError'); };
      if (broken === 'BroadcastChannel') window.BroadcastChannel = class { constructor() { fail(); } };
      if (broken === 'locks') navigator.locks.request = async () => fail();
      if (broken === 'storage') Object.defineProperty(window, 'sessionStorage', { get: fail });
    }, broken);
    await startClient(page, { channels: ['insecure'], patience: PATIENCE });
    await untilOpen(page);
    await page.context().close();
  }
});

/** Serves pages of another origin: path → [media type, text, header fields]. */
async function startPages(pages) {
  const other = http.createServer(({ url }, answer) => {
    const [media, text, fields] = pages[url] ?? ['text/plain', ''];
    answer.writeHead(200, { 'Content-Type': media, ...fields }).end(text);
  });
  await new Promise(ready => other.listen(0, '127.0.0.1', ready));
  after(() => {
    other.close();
    other.closeAllConnections();
  });
  return `http://127.0.0.1:${other.address().port}`;
}

test('a page of another origin that allows nothing but scripts and connections of ours', { timeout }, async () => {
  const { url } = server, policy = `default-src 'none'; script-src 'self' ${url}; connect-src ${url} ${url.replace('http', 'ws')}; require-trusted-types-for 'script'`;
  const origin = await startPages({
    '/': ['text/html', `<!doctype html><script src="${url}/encke.global.js"></script><script src="/page.js"></script>`, { 'Content-Security-Policy': policy }],
    '/page.js': ['text/javascript', `const comet = new Encke('${url}', { channels: 'strict' }); window.one = { comet, data: [], gaps: [], states: [] };
      comet.on('message', ({ data }) => one.data.push(data)); comet.on('state', state => one.states.push(state));`],
  });
  const context = await newContext(), page = await context.newPage(), wrong = [];
  page.on('console', message => message.type() === 'error' && !message.text().includes('favicon') && wrong.push(message.text()));
  page.on('pageerror', error => wrong.push(String(error)));
  await page.goto(origin);
  await untilOpen(page, 'websocket');
  await server.publish('strict', [0]);
  await expectInOrder(page, 1);
  await page.evaluate(() => one.comet.subscribe('strict/other'));
  await untilOpen(page);
  await server.publish('strict/other', [1]);
  await expectInOrder(page, 2);
  assert.deepEqual(wrong, []);
  await context.close();
});

test('a page that begins with JSONP is loaded, and keeps no globals', { timeout }, async () => {
  const context = await newContext(), page = await context.newPage();
  await page.route('**/scripts', route => route.fulfill({
    contentType: 'text/html',
    body: `<!doctype html><link rel="icon" href="data:,"><script type="module">
      import { Encke } from '/encke.js';
      window.one = { comet: new Encke('', { channels: 'scripts', techniques: ['jsonp'], share: false, pollSeconds: 1 }), data: [], gaps: [], states: [] };
      one.comet.on('message', ({ data }) => one.data.push(data));
      one.comet.on('state', state => one.states.push(state));
    </script>`,
  }));
  // With a script that waits for news it would go on loading.
  await page.goto(server.url + '/scripts', { waitUntil: 'load', timeout: PATIENCE_MS });
  await untilOpen(page, 'jsonp');
  for (let n = 0; n < 5; n++) {
    await server.publish('scripts', [n]);
    await until(page, 'it has come', n => one.data.length > n, n);
  }
  const globals = () => page.evaluate(() => Object.keys(window).filter(name => name.startsWith('encke')).length);
  assert.ok(await globals() <= 1, 'that of the poll that waits');
  await page.evaluate(() => one.comet.close());
  await until(page, 'it is gone', () => !Object.keys(window).some(name => name.startsWith('encke')));
  await context.close();
});
