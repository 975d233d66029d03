// Latest values in a browser: snapshots, changes, removals, patches, across techniques, tabs and cuts.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, newContext, openPage, startProxy, startServer, until, untilOpen } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const server = await startServer('--heartbeat', '1');
const pause = ms => new Promise(done => setTimeout(done, ms));
let channels = 0, seed = 11;
const below = count => (seed = (seed * 1103515245 + 12345) % 2147483648) % 65521 % count;

/** What the table of a channel must become. */
class Table {
  constructor(channel) { Object.assign(this, { channel, values: {} }); }

  async ask(method, key, body, media) {
    const answer = await fetch(`${server.url}/pub/${this.channel}?key=${key}`, { method, body: body && JSON.stringify(body), headers: media && { 'Content-Type': media } });
    assert.ok(answer.ok, await answer.text());
  }

  async put(key, value) {
    this.values[key] = value;
    await this.ask('POST', key, value, 'application/json');
  }

  async patch(key, change) {
    this.values[key] = { ...this.values[key], ...change };
    await this.ask('PATCH', key, change, 'application/merge-patch+json');
  }

  async remove(key) {
    delete this.values[key];
    await this.ask('DELETE', key);
  }

  /** Something happens to one of so many keys. */
  async step(keys) {
    const key = `k${below(keys)}`, what = below(10);
    if (!this.values[key] || what < 3) await this.put(key, { price: below(1000), bid: below(1000), name: `the instrument ${key} of the exchange`, at: below(9) });
    else if (what < 9) await this.patch(key, { price: below(1000), ...below(2) && { bid: below(1000) } });
    else await this.remove(key);
  }
}

async function start(page, options) {
  await page.evaluate(async options => {
    const { Encke } = await import('/encke.js');
    const comet = new Encke('', { patience: 2000, heartbeat: 1000, pollSeconds: 1, share: false, latest: true, ...options });
    // What a page makes of the messages must be the same as the tables.
    window.one = { comet, data: [], gaps: [], states: [], made: {}, wrong: [] };
    comet.on('message', ({ channel, key, data, changed, removed }) => {
      const rows = one.made[channel] ??= {}, before = rows[key];
      one.data.push(data);
      if (removed) delete rows[key];
      else {
        rows[key] = data;
        const differ = Object.keys({ ...data, ...before }).filter(name => !before || JSON.stringify(before[name]) !== JSON.stringify(data[name]));
        if (one.gaps.length === 0 && differ.sort().join() !== [...changed].sort().join()) one.wrong.push([key, before, data, changed]);
      }
    });
    comet.on('gap', gap => { one.gaps.push(gap); delete one.made[gap.channel]; });
    comet.on('state', state => one.states.push(state));
  }, options);
  await untilOpen(page);
}

const sorted = value => JSON.stringify(Object.fromEntries(Object.entries(value).sort()));

/** Waits until the page has the table. */
async function untilSame(page, table) {
  const want = sorted(table.values);
  const have = () => page.evaluate(channel => [Object.fromEntries(one.comet.values(channel)), one.made[channel] ?? {}], table.channel);
  for (const end = Date.now() + PATIENCE_MS; ; await pause(50)) {
    const [values, made] = await have();
    if (sorted(values) === want && sorted(made) === want) break;
    const differ = rows => Object.keys({ ...rows, ...table.values }).filter(key => JSON.stringify(rows[key]) !== JSON.stringify(table.values[key]))
      .slice(0, 5).map(key => [key, rows[key], table.values[key]]);
    if (Date.now() > end) assert.fail(`${table.channel}: ${JSON.stringify([differ(values), differ(made)])}`);
  }
  assert.deepEqual(await page.evaluate(() => one.wrong), []);
}

for (const technique of ['websocket', 'sse', 'stream', 'poll', 'jsonp']) {
  for (const options of [{}, { delta: true }, { rate: 5, delta: true }]) {
    test(`tables by ${technique} ${JSON.stringify(options)}: snapshot, changes, a cut`, { timeout }, async () => {
      const proxy = await startProxy(server.port), table = new Table(`table/${channels++}`);
      for (let n = 0; n < 60; n++) await table.step(20);
      const page = await openPage(proxy.url + '/healthz');
      await start(page, { techniques: [technique], channels: [table.channel], ...options });
      await untilSame(page, table);
      for (let n = 0; n < 60; n++) await table.step(20);
      await untilSame(page, table);
      proxy.set({ [technique]: 'cut' });
      for (let n = 0; n < 60; n++) await table.step(20);
      proxy.set({});
      await untilSame(page, table);
      assert.deepEqual(await page.evaluate(() => one.gaps), []);
      await page.context().close();
    });
  }
}

for (const technique of ['websocket', 'sse', 'poll']) {
  test(`a table that joins later by ${technique}, and one that leaves`, { timeout }, async () => {
    const [old, late] = [new Table(`join/${channels++}`), new Table(`join/${channels++}`)], page = await openPage(server.url + '/healthz');
    for (let n = 0; n < 40; n++) await Promise.all([old.step(10), late.step(300)]);
    await start(page, { techniques: [technique], channels: [old.channel], delta: true });
    await untilSame(page, old);
    await page.evaluate(channel => one.comet.subscribe(channel), late.channel);
    for (let n = 0; n < 40; n++) await Promise.all([old.step(10), late.step(300)]);
    await untilSame(page, late);
    await untilSame(page, old);
    await page.evaluate(channel => one.comet.unsubscribe(channel), old.channel);
    for (let n = 0; n < 10; n++) await Promise.all([old.step(10), late.step(300)]);
    await untilSame(page, late);
    assert.equal(await page.evaluate(channel => one.comet.values(channel).size, old.channel), 0);
    await page.context().close();
  });
}

test('tabs share tables, each with its own', { timeout }, async () => {
  const context = await newContext(), [x, y] = [new Table(`shared/${channels++}`), new Table(`shared/${channels++}`)];
  for (let n = 0; n < 60; n++) await Promise.all([x.step(20), y.step(150)]);
  const options = { techniques: ['websocket'], share: true, delta: true }, pages = [];
  for (const own of [[x], [y], [x, y]]) {
    const page = await openPage(server.url + '/healthz', context);
    await start(page, { ...options, channels: own.map(({ channel }) => channel) });
    pages.push([page, own]);
  }
  const isSame = async () => {
    for (const [page, own] of pages) for (const table of own) await untilSame(page, table);
  };
  await isSame();
  for (let n = 0; n < 60; n++) await Promise.all([x.step(20), y.step(150)]);
  await isSame();
  await until(pages[2][0], 'it follows', () => one.states.at(-1).shared);
  const [[leader]] = pages.splice(0, 1);
  await leader.close();
  for (let n = 0; n < 60; n++) await Promise.all([x.step(20), y.step(150)]);
  await isSame();
  await context.close();
});

test('messages without a key come once beside the table', { timeout }, async () => {
  const table = new Table(`mixed/${channels++}`), page = await openPage(server.url + '/healthz');
  await table.put('a', { price: 1 });
  await start(page, { techniques: ['websocket'], channels: [table.channel] });
  await untilSame(page, table);
  await server.publish(table.channel, [1, 2, 3]);
  await until(page, 'they have come', () => one.data.length >= 4);
  assert.deepEqual(await page.evaluate(() => one.data), [{ price: 1 }, 1, 2, 3]);
  await page.context().close();
});
