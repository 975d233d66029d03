// The demos: they load nothing from elsewhere, complain of nothing, fit a phone, and work.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, openPage, startServer } from './harness.mjs';

const timeout = 2 * PATIENCE_MS;
const TECHNIQUES = (process.env.TECHNIQUES ?? 'websocket,sse,stream,poll,jsonp').split(',');
const NAMES = { websocket: 'WebSocket', sse: 'SSE', stream: 'Streaming', poll: 'Polling', jsonp: 'JSONP' };
const server = await startServer('--demo', '--heartbeat', '1', '--presence-seconds', '1');

/** Opens a page of the server and collects what the browser has to say about it. */
async function open(path, context) {
  const page = await openPage('about:blank', context);
  page.complaints = [];
  page.on('console', message => message.type() === 'error' && page.complaints.push(message.text()));
  page.on('pageerror', error => page.complaints.push(error.message));
  page.on('request', request => {
    if (!/^(https?|wss?):..127\.0\.0\.1:|^data:/.test(request.url())) page.complaints.push(request.url());
  });
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(server.url + path);
  return page;
}

for (const path of ['/', '/demo/ticker', '/demo/chat', '/demo/techniques']) {
  test(`${path} fits a phone and a desk and loads nothing from elsewhere`, { timeout }, async () => {
    const page = await open(path);
    for (const width of [390, 1400]) {
      await page.setViewportSize({ width, height: 900 });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `at ${width}`);
    }
    await page.waitForFunction(() => document.querySelector('[data-state=open]'));
    if (TECHNIQUES.length === 5) assert.deepEqual(page.complaints, []);
    await page.close();
  });
}

test('the ticker goes on by each technique and after a cut, without a fault', { timeout }, async () => {
  const page = await open('/demo/ticker');
  const count = () => page.textContent('#messages').then(text => Number(text.replace(',', '')));
  for (const technique of TECHNIQUES) {
    await page.click(`.choice button:text-is("${NAMES[technique]}")`);
    await page.waitForSelector('#state[data-state=open]');
    const before = await count();
    await page.waitForFunction(before => Number(document.querySelector('#messages').textContent.replace(',', '')) > before + 3, before);
  }
  // It is cut for five seconds, in which a slow machine might not look.
  await page.evaluate(() => {
    const state = document.querySelector('#state');
    new MutationObserver(() => { window.wasCut ||= state.textContent === 'cut'; }).observe(state, { childList: true, characterData: true, subtree: true });
  });
  await page.click('button:has-text("Cut the line")');
  await page.waitForFunction(() => window.wasCut);
  const cut = await count();
  await page.waitForSelector('#state[data-state=open]');
  await page.waitForFunction(cut => Number(document.querySelector('#messages').textContent.replace(',', '')) > cut + 20, cut);
  assert.equal(await page.textContent('#faults'), '0');
  assert.equal(await page.locator('#rows tr').count(), 57);
  await page.close();
});

test('the ticker sorts, opens an instrument, and takes less when it is slow', { timeout }, async () => {
  const page = await open('/demo/ticker');
  await page.waitForFunction(() => document.querySelectorAll('#rows tr').length === 57);
  await page.click('#head button:has-text("Last")');
  const prices = () => page.$$eval('#rows td.last', cells => cells.map(cell => Number(cell.textContent.replace(',', ''))));
  assert.ok((await prices())[0] > 2500, 'the dearest first');
  await page.click('#rows button:text-is("SPX08Q4")');
  await page.waitForSelector('#name:has-text("SPX08Q4")');
  await page.waitForSelector('#chart .price');
  await page.hover('#chart');
  await page.waitForSelector('#read:has-text("volume")');
  await page.check('#slow');
  await page.waitForSelector('#state[data-state=open]:has-text("Long polling")');
  const figures = () => page.$$eval('#published, #messages', all => all.map(one => Number(one.textContent.replace(',', ''))));
  const [published, received] = await figures();
  await page.waitForFunction(before => Number(document.querySelector('#published').textContent.replace(',', '')) > before + 1000, published);
  const [later, had] = await figures();
  assert.ok(had - received < (later - published) / 2, `${had - received} of ${later - published}`);
  assert.equal(await page.textContent('#faults'), '0');
  await page.close();
});

/** Waits until a page lists just these. */
const lists = (page, ...names) =>
  page.waitForFunction(names => [...document.querySelectorAll('#who li')].map(line => line.textContent).join() === names, names.join());

/** Who is on a channel, as the server tells. */
const presence = async channel => (await fetch(`${server.url}/presence/${channel}`)).json();

test('guests of a chat room see each other come and leave, by each technique', { timeout }, async () => {
  const a = await open('/demo/chat#seen');
  await a.fill('[name=name]', 'Johann');
  await a.dispatchEvent('[name=name]', 'change');
  await lists(a, 'Johann (you)');
  for (const technique of TECHNIQUES) {
    const b = await open('/demo/chat#seen', await a.context().browser().newContext());
    await b.click(`.choice button:text-is("${NAMES[technique]}")`);
    await b.fill('[name=name]', technique);
    await b.dispatchEvent('[name=name]', 'change');
    await lists(a, ...['Johann (you)', technique].sort((one, other) => one.localeCompare(other)));
    await lists(b, ...['Johann', technique + ' (you)'].sort((one, other) => one.localeCompare(other)));
    const { count, members } = await presence('demo/chat/seen');
    assert.deepEqual([count, members.map(({ info }) => info.name).sort()], [2, ['Johann', technique].sort()]);
    await b.context().close();
    await lists(a, 'Johann (you)');
  }
  assert.deepEqual(a.complaints, []);
  await a.close();
});

test('two tabs of a browser are one guest, by one name, in whatever rooms', { timeout }, async () => {
  const a = await open('/demo/chat#one'), b = await open('/demo/chat#one', a.context());
  await b.fill('[name=name]', 'Wilhelm');
  await b.dispatchEvent('[name=name]', 'change');
  for (const page of [a, b]) await lists(page, 'Wilhelm (you)');
  assert.equal(await a.inputValue('[name=name]'), 'Wilhelm');
  await b.goto(server.url + '/demo/chat#two');
  for (const page of [a, b]) await lists(page, 'Wilhelm (you)');
  // The list of the first room looked the same.
  const counts = async () => `${(await presence('demo/chat/one')).count} ${(await presence('demo/chat/two')).count}`;
  for (const end = Date.now() + PATIENCE_MS; await counts() !== '1 1';) assert.ok(Date.now() < end, await counts());
  for (const page of [a, b]) await lists(page, 'Wilhelm (you)');
  await b.close();
  await a.close();
});

test('a server without a demo has a chat, and no list', { timeout }, async () => {
  const plain = await startServer(), page = await openPage(`${plain.url}/demo/chat#plain`, await (await open('/')).context().browser().newContext());
  await page.fill('[name=text]', 'hello');
  await page.click('.say button');
  await page.waitForSelector('#log p:text-is("hello")');
  assert.ok(await page.isHidden('#here'));
  await page.close();
});

test('guests of a chat room hear and see each other, and who comes later reads the history', { timeout }, async () => {
  const a = await open('/demo/chat#test'), b = await open('/demo/chat#test', await a.context().browser().newContext());
  for (const [page, name] of [[a, 'Johann'], [b, 'Caroline']]) {
    await page.fill('[name=name]', name);
    await page.dispatchEvent('[name=name]', 'change');
  }
  for (const page of [a, b]) {
    for (const name of ['Johann', 'Caroline']) await page.waitForSelector(`#who li:has-text("${name}")`);
  }
  await a.fill('[name=text]', '<b>3.3 years</b>');
  await a.click('.say button');
  await b.waitForSelector('#log p:text-is("<b>3.3 years</b>")');
  const c = await open('/demo/chat#test', await a.context().browser().newContext());
  await c.waitForSelector('#log p:text-is("<b>3.3 years</b>")');
  await a.click('#rooms a:text-is("comets")');
  await a.waitForFunction(() => !document.querySelector('#log p'));
  await b.waitForFunction(() => !document.querySelector('#who').textContent.includes('Johann'));
  for (const page of [a, b, c]) await page.close();
});

test('who comes through a proxy speaks, and a page that is refused says why', { timeout }, async () => {
  const page = await open('/demo/chat');
  await page.setExtraHTTPHeaders({ 'X-Forwarded-For': '192.0.2.1' });
  await page.fill('[name=text]', 'from elsewhere');
  await page.click('.say button');
  await page.waitForSelector('#log li:has-text("from elsewhere")');
  const body = JSON.stringify({ status: 429, title: 'Too Many Requests', detail: 'too many messages' });
  await page.route('**/pub/**', route => route.fulfill({ status: 429, contentType: 'application/problem+json', body }));
  await page.fill('[name=text]', 'hello');
  await page.click('.say button');
  await page.waitForSelector('#refused:has-text("too many messages")');
  assert.equal(await page.inputValue('[name=text]'), 'hello', 'what was typed is not lost');
  await page.close();
});

test('the techniques show what they put on the wire', { timeout }, async () => {
  const page = await open('/demo/techniques');
  await page.fill('[name=text]', 'Halley');
  await page.waitForFunction(expected => document.querySelectorAll('.state[data-state=open]').length >= expected, TECHNIQUES.length);
  await page.click('button:has-text("Publish")');
  await page.waitForFunction(expected => [...document.querySelectorAll('.wire')].filter(wire => wire.textContent.includes('Halley')).length >= expected,
    TECHNIQUES.length === 5 ? 6 : TECHNIQUES.length);
  await page.close();
});
