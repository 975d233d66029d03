// The client in a world drawn from a seed, and what must hold in it: every message once and in order, or a gap;
// `open` means that something was heard within the patience; requests are bounded; all is well when the world is.
//
// ENCKE_CLIENT_SEEDS: how many; ENCKE_CLIENT_SEED: replays one.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Encke } from '../../src/web/encke.js';
import { Network } from './network.mjs';
import { Server } from './server.mjs';
import { Tab, World } from './simulation.mjs';

const SEEDS = +(process.env.ENCKE_CLIENT_SEEDS ?? 1000);
const ONLY = process.env.ENCKE_CLIENT_SEED;
const ONCE = [1338, 3370, 6015, 6763, 9377]; // worlds in which something was lost once
const REQUESTS_MAX = 10; // in any second, of one client
const CHANNELS = ['x', 'y', 'z/1', 'z/2'];
const TECHNIQUES = ['websocket', 'sse', 'stream', 'poll'];
const PATIENCE = 5000, POLL_SECONDS = 25;

/** One client and what it was given, channel by channel: numbers, and `gap` for each notice. */
class Watched {
  constructor(run, tab, channels, options) {
    Object.assign(this, { run, tab, rows: new Map(), states: [], refused: [], mayCheckAt: 0 });
    tab.watched = this;
    tab.do(() => {
      const comet = this.comet = new Encke('http://push.test', { channels, pollSeconds: POLL_SECONDS, patience: PATIENCE, ...options });
      comet.on('message', ({ channel, data }) => this.rows.get(channel)?.push(data));
      comet.on('gap', ({ channel }) => this.rows.get(channel)?.push('gap'));
      comet.on('state', state => {
        this.states.push(state);
        // Whoever is told that a channel is refused is told that it begins anew.
        this.refused = state.refused ?? [];
        for (const channel of this.refused) if (this.rows.has(channel)) this.rows.set(channel, []);
      });
    });
    channels.forEach(channel => this.rows.set(channel, []));
  }

  subscribe(channel) {
    this.tab.do(() => {
      if (!this.rows.has(channel)) this.rows.set(channel, []);
      this.comet.subscribe(channel);
    });
  }

  unsubscribe(channel) {
    this.tab.do(() => {
      this.rows.delete(channel);
      this.comet.unsubscribe(channel);
    });
  }

  /** What holds at any moment. */
  look() {
    const { tab, comet, run: { world, server, published } } = this, heard = world.now - Math.max(tab.heard, tab.heardTab ?? 0);
    if (tab.isHung || tab.isGone || world.now < this.mayCheckAt || comet.state !== 'open') return;
    const patience = Math.max(2.5 * server.heartbeat, POLL_SECONDS) * 1000 + PATIENCE;
    assert.ok(heard <= patience, `${tab.name} is open and has heard nothing for ${heard} ms`);
    if (comet.shared) assert.ok(world.now - tab.heardTab <= 2 * PATIENCE, `${tab.name} follows somebody who is silent`);
    // From here on all must come.
    for (const [channel, row] of this.rows) if (!row.length && !this.refused.includes(channel)) row.push({ from: published.get(channel) });
  }

  /** That nothing is missing, twice or out of order. */
  check(isEnd) {
    for (const [channel, row] of this.rows) {
      let last, from, isGap = false;
      for (const entry of row) {
        if (entry === 'gap') isGap = true;
        // What was on its way when it opened may still come.
        else if (entry.from !== undefined) from = entry.from;
        else if (last === undefined) {
          assert.ok(entry <= from + 1 || from === undefined || isGap, `${this.tab.name}: ${channel} lost what is between ${from} and ${entry}`);
          [last, isGap] = [entry, false];
        }
        else {
          assert.ok(entry > last, `${this.tab.name}: ${channel} ${entry} after ${last}`);
          assert.ok(entry === last + 1 || isGap, `${this.tab.name}: ${channel} lost what is between ${last} and ${entry}`);
          [last, isGap] = [entry, false];
        }
      }
      if (isEnd) assert.equal(last ?? from, this.run.published.get(channel), `${this.tab.name}: ${channel} ends too soon`);
    }
  }
}

/** The most requests in any second. */
const worst = times => {
  let most = 0;
  for (let from = 0, to = 0; to < times.length; to++) {
    while (times[to] - times[from] >= 1000) from++;
    most = Math.max(most, to - from + 1);
  }
  return most;
};

async function simulate(seed) {
  const world = new World(seed), server = new Server(world, { heartbeat: world.pick([1, 15, 60]), ring: world.pick([5, 20, 100]) });
  const network = new Network(world, server), run = { world, server, network, published: new Map(CHANNELS.map(name => [name, 0])) };
  world.install();
  if (world.chance(0.7)) world.shareTabs();
  network.install();
  network.latency = world.pick([2, 40, 150]);
  const order = world.chance(0.5) ? TECHNIQUES : TECHNIQUES.filter(() => world.chance(0.5));
  const techniques = order.length ? order : ['poll'], options = { techniques, share: world.chance(0.8) };
  const clients = [], log = [], look = () => clients.forEach(client => client.look());
  const living = () => clients.filter(({ tab }) => !tab.isGone);
  const open = () => {
    const channels = CHANNELS.filter(() => world.chance(0.5));
    clients.push(new Watched(run, new Tab(world, `tab ${clients.length}`), channels.length ? channels : ['x'], options));
  };
  const publish = channel => {
    run.published.set(channel, run.published.get(channel) + 1);
    server.publish(channel, run.published.get(channel));
  };
  const heal = () => {
    network.rules = {};
    network.isDown = false;
    network.cache = undefined;
    server.refusal = undefined;
    server.forbidden.clear();
    living().forEach(({ tab }) => tab.wake());
  };
  const faults = {
    cut: () => network.cut(),
    hole: () => network.hole(world.below(20000)),
    restart: () => server.restart(),
    down: () => {
      network.cut();
      network.isDown = true;
      world.after(world.below(15000), () => { network.isDown = false; });
    },
    rule: () => { network.rules[world.pick(TECHNIQUES)] = world.pick(['stall', 'buffer', 'refuse', 'cut', { status: 403 },
      { status: 503, headers: { 'retry-after': '2' } }, { status: 404 }, undefined]); },
    // Plain polls at places that repeat are what a cache can answer.
    cache: () => { network.cache = new Map(); world.after(world.below(5000), () => { network.cache = undefined; }); },
    refuse: () => { server.refusal = world.pick([403, 503, 429, 401, 500]); world.after(world.below(8000), () => { server.refusal = undefined; }); },
    forbid: () => {
      const channel = world.pick(CHANNELS);
      server.forbidden.add(channel);
      world.after(world.below(20000), () => server.forbidden.delete(channel));
    },
    hang: () => {
      const { tab, ...client } = world.pick(living());
      tab.hang();
      world.after(world.below(30000), () => {
        tab.wake();
        tab.watched.mayCheckAt = world.now + PATIENCE;
      });
    },
    crash: () => { if (living().length > 1) world.pick(living()).tab.crash(); },
    close: () => {
      const { tab, comet } = world.pick(living());
      if (living().length < 2) return;
      tab.do(() => comet.close());
      tab.isGone = true;
    },
    open: () => { if (living().length < 4) open(); },
    subscribe: () => world.pick(living()).subscribe(world.pick(CHANNELS)),
    unsubscribe: () => world.pick(living()).unsubscribe(world.pick(CHANNELS)),
    online: () => { const { tab, comet } = world.pick(living()); tab.do(() => comet._link._again()); },
    heal,
  };
  try {
    open();
    for (let i = world.below(3); i > 0; i--) open();
    // Some worlds are about tabs that come, go and change their minds, one thing close upon the other.
    const isRestless = world.chance(0.3), names = isRestless ? ['open', 'crash', 'close', 'subscribe', 'unsubscribe', 'subscribe', 'hang'] : Object.keys(faults);
    const busy = world.pick([50, 300, 2000]), pause = isRestless ? 600 : 8000;
    for (let turn = 0; turn < (isRestless ? 40 : 12); turn++) {
      const name = world.pick(names);
      log.push(`${world.now - 1e12}: ${name}`);
      faults[name]();
      // Something is published all the while, now and then in bursts.
      for (let left = world.below(pause); left > 0;) {
        const step = 1 + world.below(busy);
        await world.pass(step, look);
        left -= step;
        for (let burst = world.chance(0.05) ? world.below(10) : 1; burst > 0; burst--) publish(world.pick(CHANNELS));
      }
      living().forEach(client => client.check());
    }
    heal();
    log.push(`${world.now - 1e12}: the end begins`);
    await world.pass(150000, look);
    CHANNELS.forEach(publish);
    await world.pass(10000, look);
    for (const client of living()) {
      client.check(client.rows.size > 0);
      if (client.rows.size) assert.equal(client.comet.state, 'open', `${client.tab.name} is ${client.comet.state}`);
      // And by the best way.
      if (client.rows.size) assert.equal(client.comet.technique, techniques[0], client.tab.name);
    }
    const most = Math.max(...world.tabs.map(({ requests }) => worst(requests)));
    assert.ok(most <= REQUESTS_MAX, `${most} requests in a second`);
    return most;
  } catch (error) {
    error.message = `seed ${seed}: ${error.message}\n${log.join('\n')}\n${clients.map(({ tab, states, rows }) =>
      `${tab.name}: ${states.slice(-8).map(state => JSON.stringify(state)).join(' ')} ${JSON.stringify([...rows])}`).join('\n').slice(0, 3000)}`;
    throw error;
  } finally {
    for (const { tab, comet } of clients) {
      tab.isHung = false;
      tab.do(() => comet.close());
    }
    await world.pass(1000);
    world.restore();
  }
}

test(`${ONLY ? 'one world' : `${SEEDS} worlds`}: every message once, in order, or a gap`, { timeout: 3600000 }, async context => {
  let most = 0;
  const seeds = ONLY ? [+ONLY] : [...Array(SEEDS).keys(), ...ONCE.filter(seed => seed >= SEEDS)];
  for (const seed of seeds) most = Math.max(most, await simulate(seed));
  context.diagnostic(`at most ${most} requests in a second`);
});
