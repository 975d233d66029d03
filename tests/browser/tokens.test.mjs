// Tokens that end, are renewed, and are taken back, on the real server.

import { after, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { PATIENCE_MS, expectInOrder, newContext, openPage, startProxy, startServer, until, untilOpen } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const folder = mkdtempSync(`${tmpdir()}/encke-tokens-`), secret = randomBytes(48).toString('hex');
after(() => rmSync(folder, { recursive: true }));
writeFileSync(`${folder}/secret`, secret, { mode: 0o600 });
writeFileSync(`${folder}/encke.toml`, `
[tokens]
leeway_seconds = 0
[[tokens.keys]]
id = "k"
algorithm = "HS256"
file = "secret"
[[channels]]
match = "open/**"
[[channels]]
match = "**"
subscribe = "token"
`);
const CONFIG = ['--config', `${folder}/encke.toml`];
const server = await startServer(...CONFIG, '--heartbeat', '1'), calm = await startServer(...CONFIG);
const pause = ms => new Promise(done => setTimeout(done, ms));

/** A token of `subject` for so many seconds. */
function sign(subject, seconds, subscribe = ['**']) {
  const now = Date.now() / 1000, part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = [{ alg: 'HS256', kid: 'k' }, { sub: subject, iat: Math.floor(now), exp: now + seconds, jti: randomBytes(8).toString('hex'), encke: { subscribe } }].map(part).join('.');
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
}

/** A page whose client asks for tokens by calling `sign`. */
async function open(url, options, make, context, prepare = () => {}) {
  const page = await (context ?? await newContext()).newPage();
  const asked = [];
  await page.exposeFunction('sign', () => {
    asked.push(Date.now());
    return make(asked.length);
  });
  await page.goto(url + '/healthz');
  await page.evaluate(prepare);
  await page.evaluate(async options => {
    const { Encke } = await import('/encke.js');
    const comet = new Encke('', { patience: 2000, pollSeconds: 2, share: false, ...options, token: () => window.sign() });
    window.one = { comet, data: [], gaps: [], states: [] };
    comet.on('message', ({ data }) => one.data.push(data));
    comet.on('gap', gap => one.gaps.push(gap));
    comet.on('state', state => one.states.push(state));
  }, options);
  return Object.assign(page, { asked });
}

// It is renewed at half of its time, so that there are as many seconds for that as the machine may need. They run beside each
// other, as most of it is waiting.
describe('a token that ends every twelve seconds is renewed in time, and nothing is lost', { concurrency: true }, () => {
  for (const technique of ['websocket', 'sse', 'stream', 'poll', 'jsonp']) {
    test(technique, { timeout }, async () => {
      const proxy = await startProxy(calm.port), channel = `renewed/${technique}`;
      const page = await open(proxy.url, { patience: 20000, techniques: [technique], channels: [channel] }, () => sign('alice', 12));
      await untilOpen(page, technique);
      let count = 0;
      for (; page.asked.length < 3; count++) {
        await calm.publish(channel, [count]);
        await pause(100);
      }
      await calm.publish(channel, [count]);
      await expectInOrder(page, count + 1);
      if (technique === 'websocket') assert.equal(proxy.requests.websocket, 1, 'on the open socket');
      const failed = await page.evaluate(() => one.states.filter(({ state }) => state === 'waiting'));
      assert.deepEqual(failed, [], 'it was never without');
      await page.context().close();
    });
  }
});

test('a token that could not be renewed in time is asked for again, and nothing is lost', { timeout }, async () => {
  for (const technique of ['websocket', 'sse', 'poll']) {
    const channel = `late/${technique}`, tokens = [sign('alice', 3)];
    // It gives the same one until it has ended.
    const page = await open(server.url, { techniques: [technique], channels: [channel] }, () => {
      const [, body] = tokens[0].split('.');
      if (JSON.parse(Buffer.from(body, 'base64url')).exp < Date.now() / 1000) tokens.unshift(sign('alice', 3));
      return tokens[0];
    });
    await untilOpen(page, technique);
    for (let n = 0; n < 60; n++) {
      await server.publish(channel, [n]);
      await pause(100);
    }
    await expectInOrder(page, 60);
    await page.context().close();
  }
});

test('a token that is refused is told with its reason, and does not make it spin', { timeout }, async () => {
  const proxy = await startProxy(server.port);
  // Pauses are drawn; the longest ones.
  const longest = () => { Math.random = () => 1; };
  const page = await open(proxy.url, { channels: ['closed/a'] }, () => sign('alice', -5), undefined, longest);
  await until(page, 'the reason is told', () => one.states.some(({ state, error }) => state === 'waiting' && /expired/.test(error)));
  await pause(3000);
  const { websocket = 0, sse = 0 } = proxy.requests;
  assert.ok(websocket <= 8 && sse <= 8, JSON.stringify(proxy.requests));
  await page.context().close();
});

test('a channel that the token does not grant silences no other', { timeout }, async () => {
  for (const techniques of [['websocket', 'sse'], ['stream'], ['poll']]) {
    const page = await open(server.url, { techniques, channels: ['granted/a', 'secret/b'] }, () => sign('alice', 60, ['granted/*']));
    await until(page, 'it is told', () => one.states.at(-1)?.refused?.includes('secret/b') && one.comet.state === 'open');
    const before = await page.evaluate(() => one.data.length);
    await server.publish('granted/a', [0]);
    await expectInOrder(page, before + 1);
    await page.evaluate(() => one.comet.subscribe('granted/c', 'secret/d'));
    await until(page, 'that, too', () => one.states.at(-1).refused?.includes('secret/d') && one.comet.state === 'open');
    await server.publish('granted/c', [1]);
    await expectInOrder(page, before + 2);
    await page.context().close();
  }
});

test('tabs of one subject share, and a tab with fewer rights goes its own way', { timeout }, async () => {
  const context = await newContext(), options = { share: true, techniques: ['sse'] };
  const a = await open(server.url, { ...options, channels: ['tabs/a'] }, () => sign('carol', 5), context);
  await untilOpen(a);
  const b = await open(server.url, { ...options, channels: ['tabs/b'] }, () => sign('carol', 5), context);
  await untilOpen(b);
  await until(b, 'it follows', () => one.states.at(-1).shared && one.comet.state === 'open');
  for (let n = 0; n < 80; n++) {
    await server.publish('tabs/a', [n]);
    await server.publish('tabs/b', [n]);
    await pause(100);
  }
  await expectInOrder(a, 80);
  await expectInOrder(b, 80);
  const other = await open(server.url, { ...options, channels: ['tabs/a', 'tabs/b'] }, () => sign('dave', 5), context);
  await untilOpen(other);
  assert.notEqual(await other.evaluate(() => one.states.at(-1).shared), true);
  await context.close();
});

test('who is here is not known without the second file of the client, and that is told', { timeout }, async () => {
  const page = await openPage(`http://127.0.0.1:${server.port}/healthz`);
  await page.route('**/encke.more.js', route => route.abort());
  await page.evaluate(async () => {
    const { Encke } = await import('/encke.js');
    const comet = new Encke('', { channels: 'open/a', share: false, techniques: ['stream'] });
    window.one = { data: [], states: [], told: [], members: comet.presence('open/a') };
    comet.on('presence', event => one.told.push(event));
  });
  await until(page, 'it is told', () => one.told.length > 0);
  const told = await page.evaluate(() => one.told.map(({ channel, members, error }) => [channel, members === one.members, typeof error]));
  assert.deepEqual(told, [['open/a', true, 'string']]);
  await page.close();
});
