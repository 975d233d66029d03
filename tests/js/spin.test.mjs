// Whatever a server answers, and however fast: the client asks no more than a stated number of times a second.
//
// ENCKE_CLIENT_SEEDS: how many servers; ENCKE_CLIENT_SEED: replays one.

import { setMaxListeners } from 'node:events';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Encke } from '../../src/web/encke.js';
import { Tab, World } from './simulation.mjs';

const SEEDS = +(process.env.ENCKE_CLIENT_SEEDS ?? 1000);
const ONLY = process.env.ENCKE_CLIENT_SEED;
const REQUESTS_MAX = 10;
const STATUSES = [200, 200, 200, 201, 204, 204, 206, 304, 400, 401, 403, 404, 407, 408, 410, 413, 418, 429, 500, 502, 503, 504, 599];
const TIMES = ['0', '-1', '1', '3456000', '1e308', '99999999999999999999', 'NaN', 'never', 'Thu, 01 Jan 1970 00:00:00 GMT', '2147483648', '4294967296'];

async function abuse(seed) {
  const world = new World(seed), tab = new Tab(world, 'tab');
  const { pick, chance, below } = Object.fromEntries(['pick', 'chance', 'below'].map(name => [name, world[name].bind(world)]));
  world.install();
  // A server of one mood does the same most of the time: that is what a client could take for progress.
  const mood = below(6), latency = pick([0, 0, 1, 30, 400]);
  let count = 0;
  const id = () => pick([`e:${++count}`, `e:${below(9)}`, `f${++count}:1`, `e:${below(9)}~3`, 'nonsense', '', `e:${'9'.repeat(400)}`]);
  const envelope = () => pick([
    () => ({ id: id(), channel: 'a', data: 1 }), () => ({ id: id(), channel: 'b', data64: pick(['AA==', '%']) }),
    () => ({ gap: pick([{ channel: 'a' }, {}, 1]) }), () => ({ next: id(), heartbeat: pick([0, -1, 1e-9, 1e99, 15, 'x']) }),
    () => ({ ref: below(4), ok: true }), () => ({ ref: below(4), error: 'no' }), () => pick([null, 7, [], 'x', {}]),
  ])();
  const text = value => chance(0.05) ? '{"broken' : JSON.stringify(value);
  const headers = () => ({
    'retry-after': chance(0.3) ? pick(TIMES) : null, 'encke-next': chance(0.7) ? id() : null,
    'encke-gap': chance(mood === 1 ? 0.9 : 0.1) ? pick(['a', 'a, b', '%', '']) : null, 'encke-heartbeat': chance(0.3) ? pick(TIMES) : null,
  });
  const batch = () => text(mood === 2 && chance(0.9) ? { messages: [{ id: `e:${++count}`, channel: 'a', data: 1 }], next: `e:${count}` }
    : pick([{ messages: Array.from({ length: below(3) }, envelope), next: id(), gap: chance(0.2) }, {}, [], { messages: 1 }]));
  const chunk = () => pick([() => '\n', () => `retry: ${pick(TIMES)}\n`, () => `data: ${text(envelope())}\n\n`, () => text(envelope()) + '\n', () => ':\n'])();
  const later = task => world.after(latency ? below(latency) : 0, () => tab.do(task));
  const ask = () => tab.requests.push(world.now);
  world.set({
    fetch: (url, { signal }) => new Promise((done, fail) => {
      if (signal?.aborted) return fail(signal.reason);
      ask();
      if (signal) setMaxListeners(0, signal);
      signal?.addEventListener('abort', () => fail(signal.reason));
      if (chance(mood === 0 ? 0.8 : 0.2)) return later(() => fail(TypeError('network error')));
      if (chance(0.05)) return undefined; // never
      const sent = headers(), body = batch();
      later(() => done({
        status: mood === 3 ? pick(STATUSES) : pick([200, 200, 200, pick(STATUSES)]), ok: true, headers: { get: name => sent[name.toLowerCase()] ?? null },
        json: async () => JSON.parse(body),
        text: async () => body,
        body: chance(0.05) ? null : { getReader: () => ({ cancel: async () => {}, read: () => new Promise((given, broken) => {
          signal?.addEventListener('abort', () => broken(signal.reason));
          later(() => chance(0.3) ? given({ done: true }) : given({ done: false, value: new TextEncoder().encode(chunk()) }));
        }) }) },
      }));
    }),
    WebSocket: class {
      constructor() {
        ask();
        const talk = () => later(() => {
          if (this.isClosed) return;
          if (chance(0.3)) return this.onclose?.(pick([{}, { reason: 'no' }]));
          this.onmessage?.({ data: chance(0.05) ? new Blob([]) : text(envelope()) });
          talk();
        });
        later(() => chance(0.5) ? (this.onopen?.({}), talk()) : this.onerror?.({}));
      }

      send() {}
      close() { this.isClosed = true; }
    },
  });
  let comet;
  tab.do(() => {
    comet = new Encke('http://push.test', { channels: ['a', 'b'], token: chance(0.3) ? () => pick(['t', undefined]) : undefined, share: false });
    comet.on('state', () => {});
  });
  for (let minute = 0; minute < 3; minute++) {
    await world.pass(20000);
    tab.do(() => pick([() => comet.subscribe(pick(['c', 'd'])), () => comet.unsubscribe('a'), () => {}])());
  }
  tab.do(() => comet.close());
  await world.pass(1000);
  world.restore();
  let most = 0;
  for (let from = 0, to = 0; to < tab.requests.length; to++) {
    while (tab.requests[to] - tab.requests[from] >= 1000) from++;
    most = Math.max(most, to - from + 1);
  }
  assert.ok(most <= REQUESTS_MAX, `seed ${seed}: ${most} requests in a second`);
  assert.ok(tab.requests.length > 1, `seed ${seed}: it has given up`);
  return [most, tab.requests.length];
}

test(`${ONLY ? 'one server' : `${SEEDS} servers`} that answer anything: at most ${REQUESTS_MAX} requests in any second`, { timeout: 3600000 }, async context => {
  const errors = [];
  const note = error => errors.push(error);
  process.on('unhandledRejection', note);
  let most = 0, all = 0, seeds = 0;
  for (let seed = ONLY ? +ONLY : 0; seed < (ONLY ? +ONLY + 1 : SEEDS); seed++, seeds++) {
    const [worst, total] = await abuse(seed);
    most = Math.max(most, worst);
    all += total;
    assert.deepEqual(errors, [], `seed ${seed}`);
  }
  process.off('unhandledRejection', note);
  context.diagnostic(`at most ${most} requests in a second, ${(all / seeds / 60).toFixed(2)} in the mean`);
});
