// The network between tabs and a server: every connection is a wire with delays, on which things go wrong.

import { currentTab } from './simulation.mjs';

/**
 * A connection of a tab. What is sent arrives in order, later while there is a hole; `rule` is what somebody on
 * the way does to it: `stall` lets nothing through, `buffer` only when the answer is over, `cut` ends it soon.
 */
class Wire {
  constructor(network, tab, technique) {
    Object.assign(this, { network, tab, technique, world: network.world, held: [], last: 0 });
    this.rule = network.rules[technique];
    this.world.wires.add(this);
  }

  arrival() {
    const { network, world } = this, base = Math.max(world.now, network.holeUntil);
    return this.last = Math.max(this.last, base + network.delay());
  }

  /** Up to the server. */
  up(task) { this.world.at(this.arrival(), () => this.isOver || task()); }

  /** Down to the page. */
  down(task) {
    if (this.rule === 'stall') return;
    if (this.rule === 'buffer') return void this.held.push(task);
    this.world.at(this.arrival(), () => this.isOver || this.page(task));
  }

  page(task) {
    this.tab.do(() => {
      if (this.isOver) return;
      this.tab.heard = this.world.now;
      task();
    });
  }

  /** The server has said all. */
  end(task) {
    const held = this.held.splice(0);
    if (this.rule === 'buffer') this.rule = undefined;
    for (const part of held) this.down(part);
    this.down(() => {
      this.close();
      task();
    });
  }

  /** The connection is gone for both; the page notices. */
  cut() {
    if (this.isOver) return;
    this.close();
    this.tab.do(() => this.onfail?.());
  }

  close() {
    this.isOver = true;
    this.world.wires.delete(this);
    this.onclose?.();
  }
}

export class Network {
  constructor(world, server) {
    Object.assign(this, { world, server, rules: {}, holeUntil: 0, isDown: false, latency: 40, cache: undefined });
  }

  delay() { return 1 + this.world.random() * this.latency; }

  install() {
    const network = this;
    this.world.set({
      fetch: (url, init = {}) => network.fetch(url, init),
      WebSocket: class {
        constructor(url) {
          network.count();
          const wire = this.wire = network.connect(url, 'websocket', () => this.onerror?.({}));
          wire.onfail = () => this.onclose?.({});
          wire.up(() => network.server.accept({ ...parse(url), wire, as: 'websocket' }, {
            open: () => wire.down(() => this.onopen?.({})),
            send: text => wire.down(() => this.onmessage?.({ data: text })),
            end: () => wire.end(() => this.onclose?.({})),
            refuse: () => wire.end(() => { this.onerror?.({}); this.onclose?.({}); }),
          }));
        }

        send(text) { this.wire.up(() => this.wire.oncommand?.(text)); }
        close() { this.wire.close(); }
      },
    });
  }

  count() { currentTab().requests.push(this.world.now); }

  /** A new wire, which fails by itself where the network or a rule wants that. */
  connect(url, technique, fail) {
    const wire = new Wire(this, currentTab(), technique);
    wire.onfail = fail;
    const { rule } = wire;
    if (this.isDown || rule === 'refuse') this.world.at(wire.arrival(), () => { wire.close(); wire.tab.do(fail); });
    else if (rule === 'cut') this.world.after(500 + this.world.below(4000), () => wire.cut());
    return wire;
  }

  fetch(url, { signal }) {
    return new Promise((done, fail) => {
      if (signal?.aborted) return fail(signal.reason);
      this.count();
      const asked = parse(url), { as } = asked;
      const parts = [], readers = [];
      let failure;
      const wire = this.connect(url, as === 'sse-envelope' ? 'sse' : as, () => {
        failure = TypeError('network error');
        fail(failure);
        readers.splice(0).forEach(reader => reader.fail(failure));
      });
      const onclose = new Set([() => signal?.removeEventListener('abort', aborted)]);
      Object.defineProperty(wire, 'onclose', { get: () => () => onclose.forEach(task => task()), set: task => onclose.add(task) });
      const aborted = () => {
        wire.close();
        failure = signal.reason;
        fail(failure);
        readers.splice(0).forEach(reader => reader.fail(failure));
      };
      signal?.addEventListener('abort', aborted);
      const push = part => readers.length ? readers.shift().done(part) : parts.push(part);
      const answer = (status, headers, body) => ({
        status, ok: status >= 200 && status < 300,
        headers: { get: name => headers[name.toLowerCase()] ?? null },
        json: async () => JSON.parse(body),
        text: async () => body,
        body: {
          getReader: () => ({
            cancel: async () => {},
            read: () => new Promise((given, broken) => {
              if (parts.length) given(parts.shift());
              else if (failure) broken(failure);
              else readers.push({ done: given, fail: broken });
            }),
          }),
        },
      });
      const reply = {
        whole: (status, headers, body) => {
          if (this.cache && status === 200) this.cache.set(url, [status, headers, body]);
          wire.end(() => done(answer(status, headers, body)));
        },
        begin: headers => wire.down(() => done(answer(200, headers))),
        send: text => wire.down(() => push({ done: false, value: new TextEncoder().encode(text) })),
        end: () => wire.end(() => push({ done: true })),
      };
      const kept = this.cache?.get(url), refusal = this.rules[as === 'sse-envelope' ? 'sse' : as];
      if (kept) reply.whole(...kept);
      else if (refusal?.status) wire.up(() => reply.whole(refusal.status, refusal.headers ?? {}, '{"detail":"refused on the way"}'));
      else wire.up(() => this.server.accept({ ...asked, wire }, reply));
    });
  }

  /** Nothing gets through for so long; what is sent arrives afterwards. */
  hole(ms) { this.holeUntil = Math.max(this.holeUntil, this.world.now + ms); }

  cut() { for (const wire of [...this.world.wires]) wire.cut(); }
}

function parse(url) {
  const { pathname, searchParams } = new URL(url);
  const channels = pathname.replace('/sub/', '').split(',').map(decodeURIComponent);
  return { channels, ...Object.fromEntries(searchParams) };
}
