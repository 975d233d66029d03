// The client's decisions, one by one.

import { mock, test } from 'node:test';
import assert from 'node:assert/strict';
import { Encke } from '../../src/web/encke.js';
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

check('what is to blame is tried again beside what works, later each time', {}, async world => {
  await world.start({ techniques: ['stream', 'poll'], patience: 5000 });
  let number = 0;
  /** Polls are answered once a second, streams never, until there is a stream; says after how long. */
  const untilStream = async () => {
    const streams = () => techniques(world).filter(technique => technique === 'stream').length, before = streams();
    for (let seconds = 0; ; seconds++) {
      if (streams() > before) return seconds;
      assert.ok(seconds < 200, 'it never tries');
      await world.poll().batch([message(++number)], `e:${number}`);
      await pass(1000);
    }
  };
  await pass(5000); // the stream is held back
  for (const [least, most] of [[9, 12], [23, 28], [43, 49]]) {
    const seconds = await untilStream();
    assert.ok(seconds >= least && seconds <= most, `after ${seconds} s`);
  }
  assert.deepEqual(data(world), Array.from({ length: number }, (_, i) => i + 1), 'nothing is lost or waits meanwhile');
  await world.last().begin(`e:${number}`);
  await world.last().send(line(number + 1));
  assert.ok(world.poll().aborted);
  assert.deepEqual(world.states.at(-1), { state: 'open', technique: 'stream' });
  assert.equal(data(world).length, number + 1);
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
  check(`Retry-After in ${what} is honoured when everything is refused`, { random: 0 }, async world => {
    await world.start({ techniques: ['stream', 'poll'] });
    await world.last().answer(503, { detail: 'full' }, { 'Retry-After': field() });
    assert.equal(world.last().query.as, 'poll', 'one technique refused says nothing of the others');
    await world.last().refuse();
    assert.equal(world.states.at(-1).error, 'full', 'the server says more than the network');
    await pass(6900);
    assert.equal(world.requests.length, 2);
    await pass(100);
    assert.deepEqual(techniques(world), ['stream', 'poll', 'stream']);
  });
}

for (const [field, most] of [['3456000', 2], ['1e300', 2], ['Fri, 31 Dec 9999 23:59:59 GMT', 2], [String(2 ** 31), 2], ['-7', 30], ['soon', 30]]) {
  check(`Retry-After: ${field} neither stops it for ever nor makes it spin`, { random: 0.5 }, async world => {
    await world.start({ techniques: ['stream'] });
    await world.last().answer(503, {}, { 'Retry-After': field });
    for (let second = 0; second < 302; second++) {
      await pass(1000);
      if (!world.last().answered) await world.last().answer(503, {}, { 'Retry-After': field });
    }
    assert.ok(world.requests.length >= 2 && world.requests.length <= most, `${world.requests.length} requests`);
  });
}

for (const status of [403, 404, 426, 500, 503]) {
  check(`a ${status} to one technique does not end the search`, {}, async world => {
    await world.start({ techniques: ['sse', 'stream', 'poll'] });
    await world.last().answer(status, { detail: 'not so' });
    await world.last().answer(status, { detail: 'not so' });
    await world.last().batch([message(1)], 'e:1');
    assert.deepEqual(world.states.at(-1), { state: 'open', technique: 'poll' });
  });
}

check('an event stream that is refused says why', { random: 0 }, async world => {
  await world.start({ techniques: ['sse'] });
  await world.last().answer(200, 'retry: 62000\n: {"status":503,"detail":"it is \\"full\\""}\n', { 'Retry-After': '62' });
  assert.deepEqual(world.states.at(-1), { state: 'waiting', technique: 'sse', wait: 62000, error: 'it is "full"' });
});

check('a 429 ends the round: it is about all of us', { random: 0 }, async world => {
  await world.start({ techniques: ['sse', 'poll'] });
  await world.last().answer(429, { detail: 'too often' }, { 'Retry-After': '3' });
  assert.deepEqual([world.requests.length, world.states.at(-1).error, world.states.at(-1).wait], [1, 'too often', 3000]);
});

check('an event stream that says no more than when to come back is a refusal', { random: 0 }, async world => {
  await world.start({ techniques: ['sse'] });
  await world.last().begin();
  await world.last().send('retry: 4000\n\n');
  await world.last().end();
  assert.deepEqual(world.states.map(({ state }) => state), ['connecting', 'waiting']);
  assert.equal(world.states.at(-1).wait, 4000);
});

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

check('channels that join begin now, after what the others have had; the stream goes on until then', {}, async world => {
  const comet = await world.start({ techniques: ['stream'] });
  await world.last().begin('e:1');
  await world.last().send('\n');
  comet.subscribe('b', ['c']);
  assert.equal(comet.state, 'connecting', 'at once: nobody believes that it listens already');
  await settle();
  const [old, probe] = world.requests;
  assert.deepEqual([probe.path, probe.query], ['/sub/b,c', { as: 'interval', after: 'now' }]);
  await old.send(line(2));
  await probe.answer(304, undefined, { 'Encke-Next': 'e:9' });
  const drain = world.last();
  assert.deepEqual([drain.path, drain.query], ['/sub/a', { as: 'interval', after: 'e:2' }]);
  await drain.batch([message(3), message(9)], 'e:9');
  assert.ok(old.aborted);
  assert.deepEqual([world.last().path, world.last().query], ['/sub/a,b,c', { as: 'stream', after: 'e:9' }]);
  assert.deepEqual(data(world), [2, 3, 9]);
  await world.last().begin();
  await world.last().send('\n');
  assert.equal(comet.state, 'open');
  comet.unsubscribe('a', 'b', 'c');
  await settle();
  assert.equal(world.requests.length, 4, 'nothing to listen to');
  comet.subscribe('d');
  await settle();
  assert.deepEqual([world.last().path, world.last().query.after], ['/sub/d', 'now']);
});

check('on an open WebSocket channels join and leave by commands', { sockets: true }, async world => {
  const comet = await world.start({ techniques: ['websocket'] }), [socket] = world.sockets;
  await socket.open();
  await socket.say({ next: 'e:0', heartbeat: 15 });
  comet.subscribe('b');
  comet.subscribe('bad');
  await settle();
  const [, one, other] = socket.sent;
  assert.deepEqual([one.subscribe, other.subscribe], [['b'], ['bad']]);
  await socket.say(message(1));
  assert.deepEqual(data(world), [1], 'what is open goes on');
  assert.equal(comet.state, 'connecting');
  await socket.say({ ref: one.ref, ok: true });
  await socket.say({ ref: other.ref, error: 'it is forbidden' });
  assert.deepEqual(world.states.at(-1), { state: 'open', technique: 'websocket', error: 'it is forbidden', refused: ['bad'] });
  comet.unsubscribe('a');
  await settle();
  assert.deepEqual(socket.sent.at(-1), { unsubscribe: ['a'] });
  assert.deepEqual([world.sockets.length, world.requests.length], [1, 0]);
});

check('one channel that is forbidden does not silence the others', {}, async world => {
  await world.start({ techniques: ['stream'], channels: ['a', 'bad'] });
  await world.last().answer(403, { detail: 'bad is forbidden' });
  for (const wanted of ['/sub/a', '/sub/bad']) {
    assert.deepEqual([world.last().path, world.last().query.as], [wanted, 'interval']);
    await (wanted === '/sub/a' ? world.last().batch([], 'e:1') : world.last().answer(403, { detail: 'bad is forbidden' }));
  }
  assert.deepEqual([world.last().path, world.last().query.as], ['/sub/a', 'stream']);
  await world.last().begin('e:1');
  await world.last().send('\n');
  const { state, error, refused } = world.states.at(-1);
  assert.deepEqual([state, error, refused], ['open', 'bad is forbidden', ['bad']]);
});

check('a server that says its heartbeat is waited for so long', { sockets: true }, async world => {
  await world.start({ techniques: ['stream'] });
  const stream = world.last();
  stream.done(new Response(new ReadableStream({ start: body => { stream.body = body; } }), { headers: { 'Encke-Heartbeat': '60' } }));
  await settle();
  await stream.send('\n');
  await pass(149900);
  assert.ok(!stream.aborted);
  await pass(100);
  assert.ok(stream.aborted);
});

check('names are checked where they are given', {}, async world => {
  const comet = await world.start(), long = 'x'.repeat(256);
  for (const name of ['', '..', 'a/../b', './a', 'a//b', '/a', 'a/', 'a\nb', '\x7f', '\ud800', 'a/**/b', long, 'é'.repeat(128), 7, null]) {
    assert.throws(() => comet.subscribe(name), { name: /TypeError|URIError/ }, JSON.stringify(name));
    assert.throws(() => new Encke('http://push.test', { channels: [name] }), JSON.stringify(name));
    await assert.rejects(comet.publish(name, 1), JSON.stringify(name));
  }
  assert.equal(world.requests.length, 1, 'nothing was asked for');
  for (const name of ['a.b', '...', 'a,b', '*', 'a/**', '**', 'é/x y', 'x'.repeat(255)]) comet.subscribe(name);
  const other = new Encke('http://push.test', { channels: 'word', share: false });
  assert.deepEqual([...other.channels], ['word'], 'a string is one channel');
  other.close();
});

check('a poll that brings only a gap is no failure', {}, async world => {
  await world.start({ techniques: ['poll'], after: 'e:1' });
  await world.last().batch([], 'e:7', { 'Encke-Gap': 'a' });
  assert.deepEqual(world.states.map(({ state }) => state), ['connecting', 'open']);
  assert.equal(world.last().query.after, 'e:7');
  await world.last().answer(200, { messages: [], next: 'e:8', gap: true });
  assert.deepEqual(world.gaps, [{ channel: 'a', after: 'e:1' }, { channel: 'a', after: 'e:7' }]);
  assert.equal(world.last().query.after, 'e:8');
});

check('a cache that answers polls with what we have is paused for', { random: 1 }, async world => {
  await world.start({ techniques: ['poll'] });
  await world.last().batch([message(1)], 'e:1');
  for (let n = 0; n < 50; n++) {
    if (!world.last().answered) await world.last().batch([message(1)], 'e:1');
    await pass(100);
  }
  assert.ok(world.requests.length < 8, `${world.requests.length} requests in five seconds`);
});

check('a message of a history that we have left is not news', {}, async world => {
  await world.start({ techniques: ['stream'], after: 'e:1' });
  await world.last().begin('e:1');
  await world.last().send(line(2) + line(1, { id: 'f:1' }) + line(3) + line(2, { id: 'f:2' }));
  assert.deepEqual(data(world), [2, 1, 2]);
});

check('where a new history begins is no place until the gap is told', {}, async world => {
  await world.start({ techniques: ['stream'], after: 'e:5' });
  await world.last().begin('f:0');
  await world.last().end();
  await pass(1000);
  assert.equal(world.last().query.after, 'e:5');
});

check('publishing says what went wrong', {}, async world => {
  const comet = await world.start({ channels: [], token: () => 't' });
  const sent = [
    [{ a: 1 }, 'application/json'], [null, 'application/json'], [[1, 2], 'application/json'],
    ['text', 'text/plain; charset=utf-8'], [new Uint8Array(1), 'application/octet-stream'],
    [new ArrayBuffer(3), 'application/octet-stream'], [new DataView(new ArrayBuffer(3)), 'application/octet-stream'],
    [new Blob(['x']), 'application/octet-stream'], [new Blob(['x'], { type: 'image/png' }), 'image/png'],
  ];
  for (const [value, type] of sent) {
    const answer = comet.publish('x/y z', value, { ttl: 5, event: undefined });
    await settle();
    const { path, query, headers, init } = world.last();
    assert.deepEqual([path, query, init.method], ['/pub/x/y z', { ttl: '5' }, 'POST']);
    assert.deepEqual([headers.get('Content-Type'), headers.get('Authorization')], [type, 'Bearer t']);
    assert.equal(init.body, type === 'application/json' ? JSON.stringify(value) : value);
    await world.last().answer(201, { id: 'e:1' });
    assert.deepEqual(await answer, { id: 'e:1' });
  }
  await assert.rejects(comet.publish('x', undefined), TypeError);
  await assert.rejects(comet.publish('x', () => 1), TypeError);
  const refused = comet.publish('x', 1);
  refused.catch(() => {});
  await settle();
  await world.last().answer(403, { detail: 'only loopback peers' });
  await assert.rejects(refused, { message: 'only loopback peers', status: 403 });
});

check('what failed beside what worked is not tried first by the next page, for a time', {}, async world => {
  const stored = new Map();
  globalThis.sessionStorage = { getItem: key => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  const first = async () => {
    world.comet?.close();
    await world.start();
    return world.last().query.as;
  };
  await world.start();
  await world.last().refuse();
  await world.last().begin();
  await world.last().send('\n');
  assert.equal(await first(), 'stream');
  world.comet.close();
  await world.start({ techniques: ['sse'] });
  assert.equal(world.last().query.as, 'sse-envelope', 'unless there is nothing else');
  await pass(10000);
  assert.equal(await first(), 'sse-envelope', 'ten seconds later it may have changed');
});

check('nobody is to blame when nothing is answered', {}, async world => {
  await world.start({ techniques: ['stream', 'poll'] });
  for (let n = 0; n < 5; n++) {
    assert.equal(world.last().query.as, 'stream');
    await world.last().refuse();
    await world.last().refuse();
    for (const { length } = world.requests; world.requests.length === length;) await pass(100);
  }
});

/** A page that is loading: scripts are answered by hand. */
function createPage(world, readyState) {
  const page = { readyState, scripts: [], listeners: [] };
  page.head = { append: script => page.scripts.push(script) };
  page.createElement = () => ({ remove() {} });
  globalThis.document = page;
  globalThis.addEventListener = (type, listener) => type === 'load' && page.listeners.push(listener);
  const { restore } = world;
  world.restore = () => {
    restore();
    delete globalThis.document;
    delete globalThis.addEventListener;
  };
  page.load = async () => {
    page.readyState = 'complete';
    page.listeners.forEach(listener => listener());
    await pass(100);
  };
  const globals = () => Object.keys(globalThis).filter(name => name.startsWith('encke'));
  return Object.assign(page, { globals, answer: async (...args) => {
    const script = page.scripts.at(-1);
    globalThis[new URL(script.src).searchParams.get('callback')](...args);
    script.onload();
    await settle();
  } });
}

check('JSONP waits until the page is loaded, and leaves no globals', { random: 1 }, async world => {
  const page = createPage(world, 'interactive');
  await world.start({ techniques: ['poll', 'jsonp'] });
  await world.last().refuse();
  await pass(500);
  assert.deepEqual([page.scripts.length, world.states.at(-1).state], [0, 'waiting']);
  await page.load();
  await world.last().refuse();
  assert.equal(page.scripts.length, 1);
  await page.answer([message(1)], 'e:1');
  await page.answer([], 'e:4', true);
  assert.deepEqual([data(world), world.gaps], [[1], [{ channel: 'a', after: 'e:1' }]]);
  assert.equal(page.globals().length, 1, 'that of the script that waits');
  world.comet.close();
  page.scripts.at(-1).onerror();
  assert.deepEqual(page.globals(), []);
});

check('JSONP is never where the next page begins', { random: 1 }, async world => {
  const stored = new Map(), page = createPage(world, 'complete');
  globalThis.sessionStorage = { getItem: key => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  const options = { techniques: ['stream', 'poll', 'jsonp'] };
  await world.start(options);
  await world.last().refuse();
  await world.last().refuse();
  await page.answer([message(1)], 'e:1');
  assert.equal(world.comet.technique, 'jsonp');
  world.comet.close();
  await world.start(options);
  assert.equal(world.last().query.as, 'stream');
});

check('polls that do not wait are not repeated at once', { random: 1 }, async world => {
  await world.start({ techniques: ['poll'] });
  await world.last().batch([], 'e:1');
  await settle();
  assert.equal(world.requests.length, 1);
  await pass(1000);
  assert.equal(world.last().query.after, 'e:1');
});

/** A value of a key. */
const value = (number, key, more) => line(number, { key, data: undefined, ...more });
const table = comet => Object.fromEntries(comet.values('a'));

// A client with the value of one channel that is about to be joined by another; what it lacks of the first is asked for.
async function startJoining(world) {
  const comet = await world.start({ techniques: ['poll'], channels: ['old'], latest: true });
  await world.last().batch([message(1, { channel: 'old', key: 'k' })], 'e:1');
  comet.subscribe('late');
  await settle();
  await pass(1000);
  await world.last().batch([], 'e:5'); // where the server is
  await pass(1000);
  const { path, query } = world.last();
  assert.deepEqual([path, query.as, query.after], ['/sub/old', 'interval', 'e:1']);
  return comet;
}

check('latest values: who joins with a snapshot leaves nothing of the others behind', {}, async world => {
  await startJoining(world);
  await world.last().batch([], 'e:5');
  await pass(1000);
  assert.deepEqual([world.last().path, world.last().query.after], ['/sub/late', '']);
  await world.last().batch([message(9, { channel: 'late', key: 'k' })], 'e:9');
  await pass(1000);
  await world.last().batch([], 'e:10');
  await pass(1000);
  // Nobody has asked what `old` had after 5.
  assert.deepEqual([world.poll().path, world.poll().query.after], ['/sub/old,late', 'e:5']);
  await world.poll().batch([message(7, { channel: 'old', key: 'k' }), message(9, { channel: 'late', key: 'k' })], 'e:10');
  assert.deepEqual(data(world), [1, 9, 7]);
});

check('latest values: what was under way when a channel was left does not come back', {}, async world => {
  const comet = await startJoining(world);
  comet.unsubscribe('old');
  await world.last().batch([message(3, { channel: 'old', key: 'k' })], 'e:5');
  assert.equal(comet.values('old').size, 0);
});

check('latest values: what is asked for, whole values out of patches, and what changed', {}, async world => {
  const comet = await world.start({ techniques: ['stream'], rate: 2, delta: true });
  assert.deepEqual(world.last().query, { after: '', latest: '1', rate: '2', delta: '1', as: 'stream' });
  await world.last().begin('e:0~9');
  await world.last().send(value(3, 'A', { data: { price: 1, deep: { x: 1, y: 2 } } }) + value(7, 'B', { data: [1] }) + '{"next":"e:7~2"}\n');
  await world.last().send(value(10, 'A', { base: 'e:3', patch: { price: 2, deep: { y: null }, more: 'm' } }) + value(11, 'B', { removed: true }) + value(12, 'C', { removed: true }));
  assert.deepEqual(world.messages.map(({ id, data, changed, removed, patch, base }) => [id, data, changed, removed, patch, base]), [
    ['e:3', { price: 1, deep: { x: 1, y: 2 } }, ['price', 'deep'], undefined, undefined, undefined],
    ['e:7', [1], undefined, undefined, undefined, undefined],
    ['e:10', { price: 2, deep: { x: 1 }, more: 'm' }, ['price', 'deep', 'more'], undefined, undefined, undefined],
    ['e:11', undefined, undefined, true, undefined, undefined],
  ], 'a removal of what we never had is nothing');
  assert.deepEqual(table(comet), { A: { price: 2, deep: { x: 1 }, more: 'm' } });
  await world.last().end();
  await pass(1000);
  assert.equal(world.last().query.after, 'e:12');
});

check('a place in a snapshot is kept', {}, async world => {
  await world.start({ techniques: ['stream'], latest: true });
  await world.last().begin('e:0~9');
  await world.last().send('\n');
  await world.last().end();
  await pass(1000);
  assert.equal(world.last().query.after, 'e:0~9');
  await world.last().begin();
  await world.last().send(value(3, 'A', { data: 1 }) + '{"next":"e:3~6"}\n');
  await world.last().end();
  await pass(2000);
  assert.equal(world.last().query.after, 'e:3~6');
});

check('after a gap the table begins anew, with numbers that may be lower', {}, async world => {
  const comet = await world.start({ techniques: ['stream'], latest: true });
  await world.last().begin('e:0~50');
  await world.last().send(value(40, 'A', { data: 1 }) + value(50, 'B', { data: 1 }) + line(51, { data: 'plain' }));
  await world.last().send('{"gap":{"channel":"a"}}\n' + value(40, 'A', { data: 1 }) + line(51, { data: 'plain' }) + value(60, 'A', { data: 2 }));
  assert.deepEqual(table(comet), { A: 2 });
  assert.deepEqual(world.messages.map(({ data }) => data), [1, 1, 'plain', 1, 2]);
});

check('a patch of what we do not hold makes us ask for everything', {}, async world => {
  const comet = await world.start({ techniques: ['stream'], delta: true });
  await world.last().begin('e:0~9');
  await world.last().send(value(3, 'A', { data: { x: 1 } }) + value(5, 'A', { base: 'e:4', patch: { x: 2 } }));
  assert.deepEqual([world.requests.length, world.last().query.after, world.messages.length], [2, '', 1]);
  await world.last().begin('e:0~9');
  await world.last().send(value(5, 'A', { data: { x: 2 } }));
  assert.deepEqual(table(comet), { A: { x: 2 } });
});

check('a patch does not reach where it must not', {}, async world => {
  const comet = await world.start({ techniques: ['stream'], delta: true });
  await world.last().begin('e:0~9');
  await world.last().send(value(3, '__proto__', { data: { x: 1 } }));
  await world.last().send('{"id":"e:5","channel":"a","key":"__proto__","base":"e:3","patch":{"__proto__":{"bad":1}}}\n');
  assert.equal({}.bad, undefined);
  assert.deepEqual(Object.keys(comet.values('a').get('__proto__')), ['x', '__proto__']);
});

const here = (number, key, more) => value(number, key, { channel: 'encke/presence/chat/lobby', ...more });
const people = members => [...members].map(([id, { info }]) => id + (info ? ' ' + info.name : ''));

check('who is here is a table that changes as they come and go, and ends with the client', {}, async world => {
  const comet = await world.start({ techniques: ['stream'], token: () => 'secret' }), told = [];
  comet.on('presence', event => told.push(event));
  const members = comet.presence('chat/lobby');
  assert.equal(comet.presence('chat/lobby'), members);
  await settle();
  assert.equal(world.requests.length, 2, 'one line of its own');
  const { path, query, headers } = world.last();
  assert.deepEqual([path, query, headers.get('authorization')],
    ['/sub/encke/presence/chat/lobby', { after: '', latest: '1', as: 'stream' }, 'Bearer secret']);
  const line = world.last();
  await line.begin('e:0~9');
  await line.send(here(3, 'alice', { data: { id: 'alice', info: { name: 'Alice' } } }) + here(5, 'bob', { data: { id: 'bob' } }));
  assert.deepEqual(people(members), ['alice Alice', 'bob']);
  assert.deepEqual([told.length, told[1].channel, told[1].members === members], [2, 'chat/lobby', true]);
  await line.send(here(6, 'alice', { removed: true }) + here(7, 'bob', { data: { id: 'bob', info: { name: 'Bob' } } }));
  assert.deepEqual(people(members), ['bob Bob']);
  await line.send(here(8, undefined, { data: { count: 1200, anonymous: 7 } }));
  assert.deepEqual([told.at(-1).count, told.at(-1).anonymous], [1200, 7]);
  // After a gap everybody is told anew.
  await line.send('{"gap":{"channel":"encke/presence/chat/lobby"}}\n' + here(4, 'carol', { data: { id: 'carol' } }));
  assert.deepEqual(people(members), ['carol']);
  assert.equal(world.messages.length, 0, 'messages are what the page asked for');
  comet.close();
  await settle();
  assert.ok(line.aborted);
  await pass(60000);
  assert.equal(world.requests.length, 2);
});

check('who may not know who is here is told so', {}, async world => {
  const comet = await world.start({ techniques: ['stream'] }), told = [];
  comet.on('presence', event => told.push(event.error));
  assert.equal(comet.presence('hall').size, 0);
  await settle();
  await world.last().answer(403, { detail: 'subscribing to "encke/presence/hall" is not allowed' });
  assert.match(told[0], /not allowed/);
  assert.notEqual(comet.state, 'closed');
});
