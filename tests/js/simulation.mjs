// A world in which everything that happens is drawn from a seed: clock, server, network and tabs.

import { AsyncLocalStorage } from 'node:async_hooks';

const real = { setImmediate, queueMicrotask };
const tabs = new AsyncLocalStorage();

/** The generator mulberry32: numbers from 0 up to, not including, 1. */
export function generator(seed) {
  return () => {
    seed = seed + 0x6d2b79f5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

/** Events in the order of their times, those of one time in the order in which they came. */
class Queue {
  constructor() { Object.assign(this, { heap: [], count: 0 }); }

  push(at, run) {
    const { heap } = this, event = { at, order: this.count++, run };
    let i = heap.push(event) - 1;
    for (let up; i && isBefore(event, heap[up = i - 1 >> 1]); i = up) heap[i] = heap[up];
    heap[i] = event;
    return event;
  }

  pop() {
    const { heap } = this, first = heap[0], last = heap.pop();
    if (!heap.length) return first;
    let i = 0;
    for (let down; (down = 2 * i + 1) < heap.length; i = down) {
      if (down + 1 < heap.length && isBefore(heap[down + 1], heap[down])) down++;
      if (isBefore(last, heap[down])) break;
      heap[i] = heap[down];
    }
    heap[i] = last;
    return first;
  }
}

const isBefore = (one, other) => one.at < other.at || one.at === other.at && one.order < other.order;

/** What a tab is to the world: it may hang or crash, and what happens to it waits or never happens. */
export class Tab {
  constructor(world, name) {
    Object.assign(this, { world, name, waiting: [], isHung: false, isGone: false, requests: [], heard: 0, net: {} });
    world.tabs.push(this);
  }

  /** Runs something in it. */
  do(task) {
    if (this.isGone) return undefined;
    if (this.isHung) return void this.waiting.push(task);
    return tabs.run(this, task);
  }

  hang() { this.isHung = true; }

  wake() {
    this.isHung = false;
    this.waiting.splice(0).forEach(task => this.do(task));
  }

  crash() {
    this.isGone = true;
    this.world.crashed(this);
  }
}

/** Replaces the globals that the client uses, until `restore`. */
export class World {
  constructor(seed) {
    Object.assign(this, { random: generator(seed), queue: new Queue(), now: 1e12, tabs: [], buses: new Set(), locks: new Map() });
    this.before = {};
    this.wires = new Set();
  }

  set(globals) {
    for (const [name, value] of Object.entries(globals)) {
      this.before[name] ??= Object.getOwnPropertyDescriptor(globalThis, name) ?? null;
      Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    }
  }

  install() {
    const world = this, RealDate = Date;
    let timers = 0;
    const pending = new Map();
    class WorldDate extends RealDate {
      constructor(...args) { args.length ? super(...args) : super(world.now); }
      static now() { return world.now; }
    }
    this.set({
      Date: WorldDate,
      setTimeout: (task, ms = 0) => {
        // As timers do: what does not fit into 31 bits fires at once.
        const id = ++timers, tab = tabs.getStore(), delay = ms > 0x7fffffff ? 1 : Math.max(1, ms || 0);
        pending.set(id, this.at(this.now + delay, () => {
          if (!pending.delete(id)) return;
          tab ? tab.do(task) : task();
        }));
        return id;
      },
      clearTimeout: id => { pending.delete(id); },
      sessionStorage: storage(new Map()),
    });
    this.mathRandom = Math.random;
    Math.random = this.random;
  }

  restore() {
    Math.random = this.mathRandom;
    for (const [name, descriptor] of Object.entries(this.before)) {
      descriptor ? Object.defineProperty(globalThis, name, descriptor) : delete globalThis[name];
    }
  }

  /** Does something at a time. */
  at(time, run) { return this.queue.push(Math.max(Math.ceil(time), this.now), run); }
  after(ms, run) { return this.at(this.now + ms, run); }
  below(count) { return Math.floor(this.random() * count); }
  pick(array) { return array[this.below(array.length)]; }
  chance(share) { return this.random() < share; }

  /** Lets time pass. `look` is called after each thing that happened. */
  async pass(ms, look) {
    const end = this.now + ms;
    // What began by itself comes first.
    await new Promise(real.setImmediate);
    while (this.queue.heap.length && this.queue.heap[0].at <= end) {
      const { at, run } = this.queue.pop();
      this.now = at;
      run();
      await new Promise(real.setImmediate);
      look?.();
    }
    this.now = end;
  }

  crashed(tab) {
    for (const bus of this.buses) if (bus.tab === tab) this.buses.delete(bus);
    for (const lock of this.locks.values()) lock.leave(tab);
    for (const wire of [...this.wires]) if (wire.tab === tab) wire.cut();
  }

  /** Tabs of one origin hear each other and queue for locks. */
  shareTabs() {
    const world = this;
    this.set({
      BroadcastChannel: class {
        constructor(name) {
          Object.assign(this, { name, tab: tabs.getStore() });
          if (!this.tab.isGone) world.buses.add(this);
        }

        postMessage(data) {
          // What a tab had begun when it crashed is not heard of.
          if (this.tab.isGone) return;
          if (!world.buses.has(this)) throw Error('the channel is closed');
          for (const bus of world.buses) {
            if (bus === this || bus.name !== this.name) continue;
            const copy = structuredClone(data);
            // In the order in which they were sent.
            bus.last = Math.max(bus.last ?? 0, world.now + world.random() * 3);
            world.at(bus.last, () => bus.tab.do(() => {
              bus.tab.heardTab = world.now;
              if (world.buses.has(bus)) bus.onmessage?.({ data: copy });
            }));
          }
        }

        close() { world.buses.delete(this); }
      },
      navigator: {
        locks: {
          request: (name, { signal }, task) => new Promise((done, fail) => {
            if (!world.locks.has(name)) world.locks.set(name, new Lock(world));
            world.locks.get(name).join({ tab: tabs.getStore(), signal, task, done, fail });
          }),
        },
      },
    });
  }
}

class Lock {
  constructor(world) { Object.assign(this, { world, queue: [] }); }

  join(entry) {
    if (entry.tab.isGone) return;
    this.queue.push(entry);
    entry.signal.addEventListener('abort', () => {
      if (entry !== this.holder) this.queue = this.queue.filter(other => other !== entry), entry.fail(entry.signal.reason);
    });
    this.grant();
  }

  grant() {
    if (this.holder || !this.queue.length) return;
    const entry = this.holder = this.queue.shift();
    this.world.after(1, () => entry.tab.do(async () => {
      if (entry !== this.holder) return;
      await entry.task();
      entry.done();
      this.release(entry);
    }));
  }

  release(entry) {
    if (entry !== this.holder) return;
    this.holder = undefined;
    this.grant();
  }

  leave(tab) {
    this.queue = this.queue.filter(entry => entry.tab !== tab);
    if (this.holder?.tab === tab) this.release(this.holder);
  }
}

export const storage = map => ({ getItem: key => map.get(key) ?? null, setItem: (key, value) => void map.set(key, value) });

/** The tab that runs at present. */
export const currentTab = () => tabs.getStore();
