// A world for the client: a clock that is moved by hand, requests that are answered by hand.

import { mock } from 'node:test';
import { Encke } from '../../src/web/encke.js';

/** Lets everything happen that needs no time. */
export async function settle() {
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
}

/** Moves the clock, in steps, so that what timers set off can set timers in turn. */
export async function pass(ms) {
  for (let left = ms; left > 0; left -= 100) {
    mock.timers.tick(Math.min(100, left));
    await settle();
  }
}

/** Replaces clock, chance, fetch and WebSocket until `restore`. */
export function createWorld({ random = 1, sockets = false } = {}) {
  const world = { requests: [], sockets: [], random };
  const before = { fetch: globalThis.fetch, WebSocket: globalThis.WebSocket, random: Math.random };
  mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1e12 });
  Math.random = () => world.random;
  globalThis.fetch = (url, init) => new Promise((done, fail) => {
    const request = new Request(url, init, done, fail);
    world.requests.push(request);
  });
  globalThis.WebSocket = sockets ? class extends Socket {
    constructor(url) {
      super(url);
      world.sockets.push(this);
    }
  } : undefined;
  world.restore = () => {
    world.comet?.close();
    mock.timers.reset();
    Math.random = before.random;
    Object.assign(globalThis, { fetch: before.fetch, WebSocket: before.WebSocket });
    delete globalThis.sessionStorage;
  };
  /** The latest request. */
  world.last = () => world.requests.at(-1);
  /** The latest poll. */
  world.poll = () => world.requests.findLast(({ query }) => query.as === 'poll');
  /** Starts a client whose events are collected. */
  world.start = async options => {
    const comet = world.comet = new Encke('http://push.test', { channels: ['a'], share: false, ...options });
    Object.assign(world, { messages: [], gaps: [], states: [] });
    comet.on('message', message => world.messages.push(message));
    comet.on('gap', gap => world.gaps.push(gap));
    comet.on('state', state => world.states.push(state));
    await settle();
    return comet;
  };
  return world;
}

class Request {
  constructor(url, init, done, fail) {
    const { pathname, searchParams } = new URL(url);
    Object.assign(this, { path: decodeURIComponent(pathname), query: Object.fromEntries(searchParams), init, done, fail });
    this.headers = new Headers(init.headers);
    this.aborted = false;
    init.signal?.addEventListener('abort', () => {
      this.aborted = true;
      fail(init.signal.reason);
      this.body?.error(init.signal.reason);
    });
  }

  /** Answers at once and whole. */
  async answer(status, body, headers = {}) {
    this.answered = true;
    const text = body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body);
    this.done(new Response(text, { status, headers }));
    await settle();
  }

  /** Answers a poll. */
  batch(messages, next, headers) {
    return messages.length
      ? this.answer(200, { messages, next }, { 'Encke-Next': next, ...headers })
      : this.answer(204, undefined, { 'Encke-Next': next, ...headers });
  }

  /** Begins an answer without end. */
  async begin(next) {
    const body = new ReadableStream({ start: controller => { this.body = controller; } });
    this.done(new Response(body, { headers: next ? { 'Encke-Next': next } : {} }));
    await settle();
  }

  async send(text) {
    this.body.enqueue(typeof text === 'string' ? new TextEncoder().encode(text) : text);
    await settle();
  }

  async end() {
    this.body.close();
    await settle();
  }

  async refuse() {
    this.fail(new TypeError('no connection'));
    await settle();
  }
}

class Socket {
  constructor(url) {
    Object.assign(this, { url, sent: [], closed: false });
  }

  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.closed = true; }
  async open() { this.onopen({}); await settle(); }
  async say(value) { this.onmessage({ data: JSON.stringify(value) }); await settle(); }
  async fail() { this.onerror({ type: 'error' }); await settle(); }
}

export const message = (number, more) => ({ id: `e:${number}`, channel: 'a', data: number, ...more });
export const line = (number, more) => JSON.stringify(message(number, more)) + '\n';
export const event = (number, more) => `id: e:${number}\ndata: ${JSON.stringify(message(number, more))}\n\n`;
