// The server under test, a proxy that can be told to misbehave, and a browser.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import net from 'node:net';
import { after } from 'node:test';
import { chromium } from 'playwright-core';
import { freePort } from '../ports.mjs';

const BINARY = process.env.ENCKE ?? new URL('../../target/debug/encke', import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/**
 * How long anything may take before a test fails: it costs only where one does. A server that leaves sends its clients away
 * for up to 15 s, and one that is full for up to 11 s, so that half a minute would be little on a busy machine.
 */
export const PATIENCE_MS = 60000;

/** Starts the server, on a port of its own unless `--listen` is among the options; it ends with the tests. */
export async function startServer(...options) {
  const listen = options.includes('--listen') ? [] : ['--listen', `127.0.0.1:${await freePort()}`];
  const child = spawn(BINARY, ['serve', ...listen, '--history-messages', '5000', ...options],
    { stdio: ['ignore', 'ignore', 'pipe'] });
  after(() => child.kill('SIGKILL'));
  const port = await new Promise((found, failed) => {
    let log = '';
    child.stderr.on('data', data => {
      log += data;
      const match = /(?<!admin )listening on \S+:(\d+)/.exec(log);
      if (match) found(+match[1]);
    });
    child.on('exit', () => failed(Error(`the server left:\n${log}`)));
  });
  const url = `http://127.0.0.1:${port}`;
  const stats = async () => (await fetch(url + '/stats')).json();
  const stop = signal => new Promise(gone => {
    child.removeAllListeners('exit');
    child.on('exit', gone);
    child.kill(signal);
  });
  return { port, url, stats, stop, publish: (channel, values) => publish(url, channel, values) };
}

/** Publishes `values` as JSON messages, all at once. */
async function publish(url, channel, values) {
  const body = values.map(data => JSON.stringify({ channel, data })).join('\n');
  const answer = await fetch(url + '/pub', { method: 'POST', headers: { 'Content-Type': 'application/x-ndjson' }, body });
  assert.ok(answer.ok, await answer.text());
}

/** The technique that a request head asks for, as the client names them. */
function technique(head) {
  if (head.startsWith('GET /.well-known/mercure')) return 'mercure';
  if (!head.startsWith('GET /sub/')) return undefined;
  if (/^upgrade: websocket/im.test(head)) return 'websocket';
  return /[?&]as=([\w-]+)/.exec(head)[1].replace('sse-envelope', 'sse');
}

/**
 * A proxy before `port` whose `rules` say what becomes of each technique: `cut` ends it and refuses it from then
 * on, `stall` takes it and says nothing more, `buffer` holds back what comes until the answer is over. It counts
 * the requests of each technique and the bytes they brought, and the pieces that answers came in.
 */
export async function startProxy(port) {
  const pipes = new Set();
  const proxy = { rules: {}, requests: {}, bytes: {}, answers: 0 };
  const server = net.createServer(client => {
    const pipe = { client, upstream: net.connect(port, '127.0.0.1'), held: [] };
    pipes.add(pipe);
    const end = () => {
      pipes.delete(pipe);
      if (!pipe.stalled) client.end(Buffer.concat(pipe.held));
      pipe.upstream.destroy();
    };
    client.on('data', data => {
      const head = data.toString('latin1');
      if (/^(GET|POST|OPTIONS) /.test(head)) {
        pipe.technique = technique(head);
        if (pipe.technique) proxy.requests[pipe.technique] = (proxy.requests[pipe.technique] ?? 0) + 1;
        if (proxy.rules[pipe.technique] === 'cut') return client.destroy();
      }
      pipe.upstream.write(data);
    });
    pipe.upstream.on('data', data => {
      const rule = proxy.rules[pipe.technique];
      if (rule === 'stall') pipe.stalled = true;
      else if (rule === 'buffer') pipe.held.push(data);
      else {
        proxy.answers++;
        if (pipe.technique) proxy.bytes[pipe.technique] = (proxy.bytes[pipe.technique] ?? 0) + data.length;
        client.write(data);
      }
    });
    client.on('close', end).on('error', end);
    pipe.upstream.on('close', end).on('error', end);
  });
  await new Promise(ready => server.listen(0, '127.0.0.1', ready));
  after(() => {
    server.close();
    for (const { client, upstream } of pipes) client.destroy(), upstream.destroy();
  });
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.set = rules => {
    proxy.rules = rules;
    for (const pipe of pipes) if (rules[pipe.technique] === 'cut') pipe.client.destroy();
  };
  /** Cuts what is open, once. */
  proxy.drop = () => pipes.forEach(({ client }) => client.destroy());
  return proxy;
}

let browser;

/** What pages share with each other and with no others. */
export async function newContext() {
  browser ??= chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'], timeout: PATIENCE_MS });
  const context = await (await browser).newContext();
  context.setDefaultTimeout(PATIENCE_MS);
  return context;
}

/** A page at `url`, of a browser that shares nothing with others unless a context is named. */
export async function openPage(url, context) {
  const page = await (context ?? await newContext()).newPage();
  await page.goto(url);
  return page;
}

after(async () => (await browser)?.close());

/** Starts a client in the page as `window[name]`; what it says is collected there. */
export async function startClient(page, options, name = 'one') {
  await page.evaluate(async ([options, name]) => {
    const { Encke } = await import('/encke.js');
    const comet = new Encke(options.url, options);
    const seen = { comet, data: [], gaps: [], states: [], used: {} };
    comet.on('message', ({ data }) => {
      seen.data.push(data);
      seen.used[comet.technique] = (seen.used[comet.technique] ?? 0) + 1;
    });
    comet.on('gap', gap => seen.gaps.push(gap));
    comet.on('state', state => seen.states.push({ ...state, at: performance.now() }));
    window[name] = seen;
  }, [options, name]);
}

/** Waits until `condition`, which is run in the page with `argument`, holds. */
export async function until(page, what, condition, argument) {
  try {
    await page.waitForFunction(condition, argument, { timeout: PATIENCE_MS, polling: 10 });
  } catch (error) {
    const seen = await page.evaluate(() => Object.fromEntries(['one', 'two'].filter(name => window[name])
      .map(name => [name, { messages: window[name].data.length, states: window[name].states.slice(-12), used: window[name].used }])));
    throw Error(`waited in vain until ${what}: ${JSON.stringify(seen)}`, { cause: error });
  }
}

/** Waits until the client is open, by `technique` if one is named. */
export const untilOpen = (page, technique, name = 'one') => until(page, `${name} is open by ${technique}`,
  ([name, technique]) => {
    const { comet } = window[name];
    return comet.state === 'open' && (!technique || comet.technique === technique);
  }, [name, technique]);

/** Waits until the client listens by the connection of another tab. */
export const untilShared = (page, name = 'one') => until(page, `${name} shares`,
  name => window[name].comet.state === 'open' && window[name].states.at(-1).shared === true, name);

/** Waits for `count` messages and checks that they are 0, 1, 2, … and that no gap was told. */
export async function expectInOrder(page, count, name = 'one') {
  await until(page, `${count} messages have come`, ([name, count]) => window[name].data.length >= count, [name, count]);
  const { data, gaps } = await page.evaluate(name => ({ data: window[name].data, gaps: window[name].gaps }), name);
  assert.deepEqual(data, Array.from({ length: count }, (_, n) => n));
  assert.deepEqual(gaps, []);
}
