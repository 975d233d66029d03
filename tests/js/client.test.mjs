// The client's decisions, one by one.

import { mock, test } from 'node:test';
import assert from 'node:assert/strict';
import { createWorld, event, line, message, pass, settle } from './world.mjs';

/** A test in a world of its own. */
const check = (name, options, body) => test(name, async () => {
  const world = createWorld(options);
  try {
    await body(world);
  } finally {
    world.restore();
  }
});
const techniques = world => world.requests.map(({ query }) => query.as);
const data = world => world.messages.map(({ data }) => data);

check('techniques are tried in order, without a pause, until one works', { sockets: true }, async world => {
  await world.start();
  await world.sockets[0].fail();
  await world.last().answer(501, { detail: 'no' });
  await world.last().refuse();
  assert.deepEqual(techniques(world), ['sse-envelope', 'stream', 'poll']);
  await world.last().batch([message(1)], 'e:1');
  assert.deepEqual(world.states.map(({ state, technique }) => `${state} ${technique}`),
    ['connecting websocket', 'connecting sse', 'connecting stream', 'connecting poll', 'open poll']);
  assert.deepEqual(data(world), [1]);
});

check('the next technique goes on at the same place, and nothing comes twice', {}, async world => {
  await world.start({ techniques: ['stream', 'poll'], after: '-5' });
  assert.equal(world.last().query.after, '-5');
  await world.last().begin('e:0');
  await world.last().send('\n' + line(1) + line(2) + line(3).slice(0, 20));
  await world.last().end();
  await pass(1000);
  assert.deepEqual(world.last().query, { as: 'stream', after: 'e:2' });
  await world.last().refuse();
  assert.deepEqual(world.last().query, { as: 'poll', after: 'e:2', timeout: '1' });
  await world.last().batch([message(2), message(3), message(4)], 'e:4');
  assert.deepEqual(data(world), [1, 2, 3, 4]);
  assert.deepEqual(world.last().query, { as: 'poll', after: 'e:4', timeout: '25' });
});

check('a stream that says where it starts is resumed there, even before its first message', {}, async world => {
  await world.start({ techniques: ['sse'] });
  assert.equal(world.last().query.after, 'now');
  await world.last().begin('e:7');
  await world.last().end();
  await pass(1000);
  assert.equal(world.last().query.after, 'e:7');
});

check('messages of a server that started again are new', {}, async world => {
  await world.start({ techniques: ['stream'], after: 'old:900' });
  await world.last().begin();
  await world.last().send(line(1) + line(2));
  assert.deepEqual(data(world), [1, 2]);
});

check('a stream whose first byte is held back gives way to polling, in time', {}, async world => {
  await world.start({ patience: 5000 });
  await pass(4900);
  assert.deepEqual(techniques(world), ['sse-envelope']);
  await pass(100);
  assert.deepEqual(techniques(world), ['sse-envelope', 'poll']);
  assert.ok(world.requests[0].aborted);
});

check('a head without a body is not yet a sign of life', {}, async world => {
  await world.start({ patience: 5000 });
  await pass(3000);
  await world.last().begin('e:1');
  await pass(2000);
  assert.deepEqual(techniques(world), ['sse-envelope', 'poll']);
  assert.equal(world.last().query.after, 'e:1');
});

check('a stream is dead after two and a half heartbeats of silence', {}, async world => {
  await world.start({ techniques: ['sse'], heartbeat: 10000 });
  await world.last().begin('e:0');
  for (let i = 0; i < 3; i++) {
    await world.last().send(':\n\n');
    await pass(24900);
  }
  assert.equal(world.requests.length, 1);
  await pass(100);
  assert.ok(world.requests[0].aborted);
  await pass(1000);
  assert.equal(world.requests.length, 2);
});

check('three streams in a row that do not last give way to polling', {}, async world => {
  await world.start({ techniques: ['stream', 'poll'] });
  for (let i = 0; i < 3; i++) {
    assert.equal(world.last().query.as, 'stream');
    await world.last().begin('e:0');
    await world.last().send('\n');
    await world.last().end();
    if (i < 2) await pass(1000 * 2 ** i);
  }
  assert.equal(world.last().query.as, 'poll');
});

check('many answers to polls make it try a stream, later each time', {}, async world => {
  await world.start({ techniques: ['stream', 'poll'], patience: 5000 });
  let number = 0;
  const storm = async () => {
    for (let i = 0; i < 40 && world.last().query.as === 'poll'; i++) {
      await world.last().batch([message(++number)], `e:${number}`);
      await pass(100);
    }
    return world.last().query.as;
  };
  await pass(5000); // the stream is held back
  assert.equal(await storm(), 'poll', 'it has just failed');
  await pass(25000);
  await world.last().batch([], `e:${number}`);
  await pass(30000 - 100);
  await world.last().batch([], `e:${number}`);
  assert.equal(await storm(), 'stream', 'a minute later');
  await pass(5000);
  assert.equal(world.last().query.as, 'poll');
  for (let i = 0; i < 4; i++) {
    await pass(20000);
    await world.last().batch([], `e:${number}`);
  }
  assert.equal(await storm(), 'poll', 'a second failure counts for more');
  assert.deepEqual(data(world), Array.from({ length: number }, (_, i) => i + 1));
});

check('a slow channel is polled on', {}, async world => {
  await world.start({ techniques: ['stream', 'poll'] });
  await world.last().refuse();
  for (let number = 1; number < 40; number++) {
    await pass(1000);
    await world.last().batch([message(number)], `e:${number}`);
  }
  assert.equal(world.last().query.as, 'poll');
});

check('pauses double up to half a minute', { random: 1 }, async world => {
  await world.start({ techniques: ['stream'] });
  for (const wait of [1000, 2000, 4000, 8000, 16000, 30000, 30000]) {
    await world.last().refuse();
    assert.deepEqual(world.states.at(-1), { state: 'waiting', technique: 'stream', wait, error: 'no connection' });
    const { length } = world.requests;
    await pass(wait - 100);
    assert.equal(world.requests.length, length);
    await pass(100);
    assert.equal(world.requests.length, length + 1);
  }
});

check('the jitter is full', { random: 0.25 }, async world => {
  await world.start({ techniques: ['stream'] });
  await world.last().refuse();
  assert.equal(world.states.at(-1).wait, 250);
});

for (const [what, field] of [['seconds', () => '7'], ['a date', () => new Date(Date.now() + 7000).toUTCString()]]) {
  check(`Retry-After in ${what} is honoured, by the same technique`, { random: 0 }, async world => {
    await world.start({ techniques: ['stream', 'poll'] });
    await world.last().answer(503, { detail: 'full' }, { 'Retry-After': field() });
    assert.equal(world.states.at(-1).error, 'full');
    await pass(6900);
    assert.equal(world.requests.length, 1);
    await pass(100);
    assert.deepEqual(techniques(world), ['stream', 'stream']);
  });
}

check('the server says with retry: how long the first pause may be', { random: 1 }, async world => {
  await world.start({ techniques: ['sse'] });
  await world.last().begin('e:0');
  await world.last().send('retry: 3000\n: open\nid: e:0\n\n');
  await world.last().end();
  assert.equal(world.states.at(-1).wait, 3000);
});

check('a token is asked for anew before each attempt, and the place is kept', {}, async world => {
  let asked = 0;
  await world.start({ techniques: ['stream'], token: async () => `t${++asked}` });
  assert.equal(world.last().headers.get('Authorization'), 'Bearer t1');
  await world.last().begin('e:0');
  await world.last().send(line(1));
  await world.last().end();
  await pass(1000);
  await world.last().answer(401, { detail: 'expired' });
  await pass(2000);
  assert.equal(world.last().headers.get('Authorization'), 'Bearer t3');
  assert.equal(world.last().query.after, 'e:1');
});

check('a socket carries the token in its address and asks for signs of life', { sockets: true }, async world => {
  await world.start({ techniques: ['websocket'], token: 's3cret', heartbeat: 10000, patience: 2000, after: 'e:0' });
  const [socket] = world.sockets;
  assert.equal(socket.url, 'ws://push.test/sub/a?after=e%3A0&access_token=s3cret');
  await socket.open();
  assert.equal(world.states.at(-1).state, 'connecting', 'until it has spoken');
  assert.equal(socket.sent.length, 1);
  await socket.say({ ref: 0, ok: [] });
  assert.equal(world.states.at(-1).state, 'open');
  await pass(9900);
  await socket.say(message(1));
  await pass(9900);
  assert.equal(socket.sent.length, 1);
  await pass(100);
  assert.equal(socket.sent.length, 2);
  await pass(2000);
  assert.ok(socket.closed, 'it did not answer');
  await pass(1000);
  assert.match(world.sockets[1].url, /after=e%3A1/);
});

check('a socket that never answers gives way to the next technique', { sockets: true }, async world => {
  await world.start({ patience: 2000 });
  await pass(2000);
  assert.ok(world.sockets[0].closed);
  assert.deepEqual(techniques(world), ['sse-envelope']);
});

check('gaps are told by every technique', {}, async world => {
  const gap = { channel: 'a', after: 'e:1', oldest: 'e:5' };
  await world.start({ techniques: ['sse', 'stream', 'poll'], after: 'e:1' });
  await world.last().begin();
  await world.last().send(`data: ${JSON.stringify({ gap })}\n\n`);
  assert.deepEqual(world.gaps, [gap]);
  world.comet.close();
  await world.start({ techniques: ['poll'], channels: ['a', 'b,c'], after: 'e:1' });
  assert.equal(new URL(world.comet.url + world.last().path).pathname, '/sub/a,b,c');
  await world.last().batch([message(5)], 'e:5', { 'Encke-Gap': 'a, b%2Cc' });
  assert.deepEqual(world.gaps, [{ channel: 'a', after: 'e:1' }, { channel: 'b,c', after: 'e:1' }]);
});

check('an event stream is understood wherever it is split', {}, async world => {
  const bytes = new TextEncoder().encode('retry: 1000\n: open\n\n' + event(1, { data: 'Ä\n→' }) + ':\n\n' + event(2));
  for (let at = 1; at < bytes.length; at++) {
    await world.start({ techniques: ['sse'] });
    await world.last().begin('e:0');
    world.last().body.enqueue(bytes.slice(0, at));
    await world.last().send(bytes.slice(at));
    assert.deepEqual(data(world), ['Ä\n→', 2], `split at ${at}`);
    world.comet.close();
  }
});

check('bytes come as bytes', {}, async world => {
  await world.start({ techniques: ['stream'] });
  await world.last().begin();
  await world.last().send('{"id":"e:1","channel":"a","data64":"AP8="}\n');
  assert.deepEqual(data(world), [new Uint8Array([0, 255])]);
});

check('a listener that throws harms nobody else', {}, async world => {
  const comet = await world.start({ techniques: ['stream'] });
  comet.off('message', comet.on('message', () => {}));
  const late = [];
  comet.on('message', () => { throw Error('mine'); });
  comet.on('message', ({ data }) => late.push(data));
  await world.last().begin();
  await world.last().send(line(1) + line(2));
  assert.deepEqual(late, [1, 2]);
  assert.throws(() => mock.timers.tick(1), /mine/);
});

check('a client closed by a listener is told nothing more', {}, async world => {
  const comet = await world.start({ techniques: ['stream'] });
  comet.on('message', () => comet.close());
  await world.last().begin();
  await world.last().send(line(1) + line(2));
  assert.deepEqual(data(world), [1]);
  assert.equal(comet.after, 'e:1');
  assert.ok(world.last().aborted);
  await pass(120000);
  assert.equal(world.requests.length, 1);
  assert.equal(world.states.at(-1).state, 'closed');
});

check('channels that join begin now, after what the others have had', {}, async world => {
  const comet = await world.start({ techniques: ['stream'] });
  await world.last().begin('e:1');
  await world.last().send('\n');
  comet.subscribe('b', ['c']);
  await settle();
  const [old, drain] = world.requests;
  assert.ok(old.aborted);
  assert.deepEqual([drain.path, drain.query], ['/sub/a', { as: 'interval', after: 'e:1' }]);
  await drain.batch([message(2)], 'e:2');
  assert.deepEqual(world.last().query, { as: 'interval', after: 'e:2' });
  await world.last().answer(304, undefined, { 'Encke-Next': 'e:9' });
  assert.deepEqual([world.last().path, world.last().query], ['/sub/a,b,c', { as: 'stream', after: 'e:9' }]);
  assert.deepEqual(data(world), [2]);
  comet.unsubscribe('a', 'b', 'c');
  await settle();
  assert.equal(world.requests.length, 4, 'nothing to listen to');
  comet.subscribe('d');
  await settle();
  assert.equal(world.last().path, '/sub/d');
});

check('publishing says what went wrong', {}, async world => {
  const comet = await world.start({ channels: [], token: () => 't' });
  const sent = [[{ a: 1 }, 'application/json'], ['text', 'text/plain; charset=utf-8'], [new Uint8Array(1), 'application/octet-stream']];
  for (const [value, type] of sent) {
    const answer = comet.publish('x/y z', value, { ttl: 5 });
    await settle();
    const { path, query, headers, init } = world.last();
    assert.deepEqual([path, query, init.method], ['/pub/x/y z', { ttl: '5' }, 'POST']);
    assert.deepEqual([headers.get('Content-Type'), headers.get('Authorization')], [type, 'Bearer t']);
    await world.last().answer(201, { id: 'e:1' });
    assert.deepEqual(await answer, { id: 'e:1' });
  }
  const refused = comet.publish('x', 1);
  refused.catch(() => {});
  await settle();
  await world.last().answer(403, { detail: 'only loopback peers' });
  await assert.rejects(refused, { message: 'only loopback peers', status: 403 });
});

check('what worked is tried first by the next page', {}, async world => {
  const stored = new Map();
  globalThis.sessionStorage = { getItem: key => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  await world.start();
  await world.last().refuse();
  await world.last().begin();
  await world.last().send('\n');
  world.comet.close();
  await world.start();
  assert.equal(world.last().query.as, 'stream');
  world.comet.close();
  await world.start({ techniques: ['poll'] });
  assert.equal(world.last().query.as, 'poll', 'unless it is excluded');
});

check('polls that do not wait are not repeated at once', { random: 1 }, async world => {
  await world.start({ techniques: ['poll'] });
  await world.last().batch([], 'e:1');
  await settle();
  assert.equal(world.requests.length, 1);
  await pass(1000);
  assert.equal(world.last().query.after, 'e:1');
});
