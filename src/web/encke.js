// Encke's client: one class that always finds a way to the server and never loses its place.
//
// Whatever the technique, all it takes to go on is the id of the last message. So one loop tries one technique
// after the other, each a function that reads until it cannot, and the place survives them all. Any bytes are a
// sign of life; a line without one is cut. The tabs of an origin share one connection: whichever holds a lock
// leads, connects for all of them and repeats what it hears.
//
// The server leaves out the comments when it serves this file.

const ORDER = ['websocket', 'sse', 'stream', 'poll', 'jsonp'];
const TOKEN_MS = 30000; // for whoever is asked for a token
const RETRY_MS = 1000, RETRY_MS_MAX = 30000;
const SHORT_MS = 10000, BAD_MAX = 3; // so many streams in a row that lived no longer, and we poll
const BUSY = 10, BUSY_MS = 5000; // so many answers to polls in this time, and we try to stream
const STREAM_AGAIN_MS = 60000; // but not so soon after streams were bad, and later each time
const page = globalThis;

const isStream = technique => ORDER.indexOf(technique) < 3;
const isId = after => after.includes(':');

// An id is epoch:number. Another epoch is another history: that of a server that started again.
const isNewer = (id, than) => {
  const [epoch, number] = id.split(':'), [before, last] = than.split(':');
  return epoch !== before || +number > +last;
};

// A segment `*` is any one segment, a last `**` is all that follow.
const matches = (pattern, channel) => {
  const want = pattern.split('/'), have = channel.split('/');
  const open = want.at(-1) === '**' && want.pop();
  return (open ? have.length > want.length : have.length === want.length) &&
    want.every((segment, i) => segment === '*' || segment === have[i]);
};

const path = channel => channel.split('/').map(encodeURIComponent).join('/');

// Storage is missing in Node and forbidden in some frames.
const remembered = (key, value) => {
  try {
    if (value) sessionStorage.setItem(key, value);
    return sessionStorage.getItem(key);
  } catch {}
};

const TECHNIQUES = {
  websocket: line => new Promise((done, fail) => {
    const socket = new WebSocket(line.url('', line.token).replace('http', 'ws'));
    // Scripts do not see pings: a command that changes nothing asks whether the server is there.
    const ping = () => {
      socket.send('{"subscribe":[],"ref":0}');
      line.alive();
    };
    line.signal.addEventListener('abort', () => socket.close());
    socket.onopen = ping;
    socket.onerror = fail;
    socket.onclose = done;
    socket.onmessage = ({ data }) => {
      line.open();
      line.alive(line.comet.heartbeat, ping);
      line.take(JSON.parse(data));
    };
  }),

  sse: line => read(line, 'sse-envelope', text => {
    if (text.startsWith('retry:')) line.comet._retry = +text.slice(6) || RETRY_MS;
    return text.startsWith('data:') && text.slice(5);
  }),

  stream: line => read(line, 'stream', text => text.trim()),

  poll: line => poll(line, async query => {
    const answer = await line.get('poll', query);
    return line.body(answer);
  }),

  jsonp: line => poll(line, query => new Promise((done, fail) => {
    const name = 'encke_' + Math.random().toString(36).slice(2), script = document.createElement('script');
    const leave = then => value => {
      script.remove();
      page[name] = () => delete page[name]; // an answer may still be on its way
      then(value);
    };
    page[name] = (messages, next, gap) => {
      // It does not say on which channel.
      if (gap) line.channels.forEach(channel => line.take({ gap: { channel, after: line.comet.after } }));
      leave(done)({ messages, next });
    };
    script.onerror = script.onload = leave(fail); // too late when it has called back
    line.signal.addEventListener('abort', script.onerror);
    script.src = line.url('jsonp', line.token) + query + '&callback=' + name;
    document.head.append(script);
  })),
};

// Reads an answer that does not end; `pick` finds the envelope in a line of it.
async function read(line, as, pick) {
  const answer = await line.get(as), reader = answer.body.getReader(), decoder = new TextDecoder();
  line.take({ next: answer.headers.get('Encke-Next') });
  for (let rest = ''; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    line.open();
    line.alive(line.comet.heartbeat * 2.5);
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
    rest = lines.pop();
    for (const text of lines) {
      const envelope = pick(text);
      if (envelope) line.take(JSON.parse(envelope));
    }
  }
}

// Asks again and again; the first wait is short, to see that it works.
async function poll(line, ask) {
  const { comet } = line;
  let since = 0, answers;
  for (let seconds = 1; ; seconds = comet.pollSeconds) {
    const began = Date.now();
    line.alive(seconds * 1000 + comet.patience);
    const batch = await ask('&timeout=' + seconds), now = Date.now();
    line.open();
    line.batch(batch);
    if (!batch.messages.length) {
      if (now - began < 500) throw Error('no news, and it did not wait');
      continue;
    }
    if (now - since > BUSY_MS) since = now, answers = 0;
    if (++answers >= BUSY && comet._mayStream(now)) return line.cut('busy');
  }
}

// One attempt by one technique.
class Line {
  constructor(comet, technique, channels) {
    Object.assign(this, { comet, technique, channels, opened: 0, abort: new AbortController() });
    this.signal = this.abort.signal;
  }

  async run(task) {
    const { comet } = this;
    const cut = new Promise((_, fail) => this.signal.addEventListener('abort', fail));
    try {
      await Promise.race([cut, (async () => {
        this.alive(TOKEN_MS);
        this.token = await comet._credential();
        this.alive();
        if (!this.signal.aborted) await task(this);
      })()]);
    } catch (error) {
      this.error = error;
    }
    this.cut('over');
  }

  // Cuts the line, or does something else, unless there is another sign of life in time.
  alive(ms = this.comet.patience, late = () => this.cut('silent')) {
    clearTimeout(this.timer);
    this.due = Date.now() + ms;
    if (!this.signal.aborted) this.timer = setTimeout(late, ms);
  }

  cut(why) {
    this.why ??= why;
    clearTimeout(this.timer);
    this.abort.abort();
  }

  open() {
    if (this.opened || this.signal.aborted) return;
    this.opened = Date.now();
    this.comet._opened(this);
  }

  // A listener may have closed the client since: what a cut line brings will come again.
  take(envelope) {
    if (!this.signal.aborted) this.comet._take(envelope);
  }

  batch({ messages, next }) {
    for (const envelope of messages) this.take(envelope);
    this.take({ next });
  }

  // Only fetch can send a token in a header; elsewhere it has to be in the query.
  url(as, token, channels = this.channels) {
    const query = new URLSearchParams({ after: this.comet.after });
    if (as) query.set('as', as);
    if (token) query.set('access_token', token);
    return `${this.comet.url}/sub/${channels.map(path)}?${query}`;
  }

  async get(as, query = '', channels) {
    const answer = await this.comet._fetch(this.url(as, '', channels) + query, this.token, { signal: this.signal });
    if (!answer.ok && !answer.headers.get('Encke-Next')) {
      const after = answer.headers.get('Retry-After');
      // It is not the technique that these complain of: wait, and ask the same way again.
      if ([401, 403, 410, 429, 503].includes(answer.status)) {
        this.wait = Math.max(0, +after * 1000 || Date.parse(after) - Date.now() || 0);
      }
      throw await problem(answer);
    }
    return answer;
  }

  // The batch in the answer to a poll.
  async body(answer) {
    const gaps = answer.headers.get('Encke-Gap'), { after } = this.comet;
    for (const name of gaps?.split(', ') ?? []) this.take({ gap: { channel: decodeURIComponent(name), after } });
    return answer.status === 200 ? answer.json() : { messages: [], next: answer.headers.get('Encke-Next') };
  }

  // Takes what `channels` have for us, up to the place `goal` or to the end.
  async catchUp(channels, goal) {
    for (let batch; batch?.messages.length !== 0 && !(goal && isId(this.comet.after) && !isNewer(goal, this.comet.after));) {
      batch = await this.body(await this.get('interval', '', channels));
      this.batch(batch);
    }
  }
}

async function problem(answer) {
  const { detail } = await answer.json().catch(() => ({}));
  return Object.assign(Error(detail || 'status ' + answer.status), { status: answer.status });
}

export class Encke {
  constructor(url = '', {
    channels, token, after = 'now', techniques = ORDER, share = true,
    patience = 5000, heartbeat = 15000, pollSeconds = 25, credentials,
  } = {}) {
    Object.assign(this, { token, after, techniques, share, patience, heartbeat, pollSeconds, credentials, state: 'connecting' });
    this.url = new URL(url || '/', page.location?.href).href.replace(/\/+$/, '');
    this.channels = new Set(channels);
    this._on = {};
    this._retry = RETRY_MS;
    this._bad = this._falls = this._streamAt = 0;
    this._best = remembered('encke ' + this.url);
    this._gone = new AbortController();
    const listen = (target, type, handler) => target?.addEventListener?.(type, handler, { signal: this._gone.signal });
    listen(page, 'online', () => this._again());
    listen(page.document, 'visibilitychange', () => document.hidden || this._look());
    // A page kept for the Back button must hold neither a connection nor a lock.
    listen(page, 'pagehide', () => this._stop());
    listen(page, 'pageshow', event => event.persisted && this._start());
    queueMicrotask(() => this._gone.signal.aborted || this._start()); // after the listeners are there
  }

  on(type, listener) {
    (this._on[type] ??= new Set()).add(listener);
    return this;
  }

  off(type, listener) {
    this._on[type]?.delete(listener);
    return this;
  }

  subscribe(...channels) {
    channels.flat().forEach(channel => this.channels.add(channel));
    this._changed();
  }

  unsubscribe(...channels) {
    channels.flat().forEach(channel => this.channels.delete(channel));
    this._changed();
  }

  async publish(channel, data, options) {
    const text = typeof data === 'string', bytes = ArrayBuffer.isView(data);
    const answer = await this._fetch(`${this.url}/pub/${path(channel)}?${new URLSearchParams(options)}`,
      await this._credential(), {
        method: 'POST', body: text || bytes ? data : JSON.stringify(data),
      }, { 'Content-Type': text ? 'text/plain; charset=utf-8' : bytes ? 'application/octet-stream' : 'application/json' });
    if (!answer.ok) throw await problem(answer);
    return answer.json();
  }

  close() {
    this._gone.abort();
    this._stop();
    this._tell('closed');
  }

  _credential() {
    const { token } = this;
    return typeof token === 'function' ? token() : token;
  }

  _fetch(url, token, init, headers) {
    if (token) headers = { ...headers, Authorization: 'Bearer ' + token };
    const { credentials } = this;
    return fetch(url, { cache: 'no-store', ...credentials && { credentials }, ...init, headers: { Accept: 'application/json', ...headers } });
  }

  // Tries techniques, a round of them without a pause, for as long as `run` is the current one.
  async _loop(run) {
    let queue = [], failures = 0;
    while (run === this._run) {
      const channels = this._wanted();
      if (!channels.length) {
        await this._sleep();
        continue;
      }
      if (!queue.length) queue = this._candidates();
      const line = this._line = new Line(this, queue.shift(), channels);
      this._tell('connecting', line);
      await line.run(() => this._join(line));
      if (run !== this._run) return;
      if (line.opened && Date.now() - line.opened >= SHORT_MS) failures = 0;
      queue = line.why === 'again' ? [] : this._judge(line, queue);
      if (queue.length || line.why === 'again') continue;
      // Full jitter: clients that lost the same server must not all return at once.
      const wait = (line.wait || 0) + Math.random() * Math.min(RETRY_MS_MAX, this._retry * 2 ** failures++);
      this._tell('waiting', line, { wait, error: line.error?.message });
      await this._sleep(wait);
    }
  }

  _candidates() {
    const order = this.techniques.filter(technique =>
      technique === 'websocket' ? page.WebSocket : technique !== 'jsonp' || page.document);
    return [...new Set([this._best, ...order])].filter(technique => order.includes(technique));
  }

  // What to try next, without a pause, after `line` ended; nothing if a pause is due.
  _judge(line, queue) {
    const { technique, opened, why } = line;
    if (why === 'busy') {
      this._best = '';
      return this._candidates();
    }
    if (opened) this._bad = why === 'silent' || Date.now() - opened < SHORT_MS ? this._bad + 1 : 0;
    // A stream without a first byte is one that somebody on the way holds back.
    const held = !opened && why === 'silent' && technique !== 'websocket';
    if (isStream(technique) && (held || this._bad >= BAD_MAX)) {
      const calm = this._candidates().filter(other => !isStream(other));
      this._bad = 0;
      if (calm.length) {
        this._best = calm[0];
        this._mayStream(Infinity);
        return calm;
      }
    }
    return opened || line.wait >= 0 ? [] : queue;
  }

  // Whether to try a stream at the time `now`; if so, the next time is later.
  _mayStream(now) {
    const before = this.techniques.slice(0, this.techniques.indexOf('poll'));
    if (now < this._streamAt || !before.some(isStream)) return false;
    this._streamAt = Date.now() + STREAM_AGAIN_MS * 2 ** Math.min(6, this._falls++);
    return true;
  }

  _opened(line) {
    this._best = line.technique;
    remembered('encke ' + this.url, line.technique);
    this._tell('open', line);
  }

  _sleep(ms) {
    return new Promise(wake => {
      this._wake = wake;
      if (ms >= 0) this._timer = setTimeout(wake, ms);
    });
  }

  _again() {
    clearTimeout(this._timer);
    this._line?.cut('again');
    this._wake?.();
  }

  // The page is looked at again: timers may have slept.
  _look() {
    if (this._bus && !this._tabs) this._hello();
    else if (this.state === 'waiting' || Date.now() > this._line?.due) this._again();
  }

  // Channels that join begin now, while our place may be an old one: so first comes what the others have had.
  async _join(line) {
    const { channels, technique } = line, had = this._covered?.filter(channel => channels.includes(channel));
    if (had && isId(this.after) && had.length < channels.length && technique !== 'jsonp') {
      if (had.length) await line.catchUp(had);
      else this.after = 'now';
    }
    if (line.signal.aborted) return;
    this._covered = channels;
    line.alive();
    await TECHNIQUES[technique](line);
  }

  _take(envelope) {
    const { gap, id, channel, next, data64 } = envelope;
    const isMine = name => [...this.channels].some(pattern => matches(pattern, name));
    if (this._tabs?.size) this._bus.postMessage({ envelope, from: this._me });
    if (gap && isMine(gap.channel)) this._emit('gap', gap);
    if (id && isNewer(id, this.after)) {
      this.after = id;
      if (data64) envelope.data = Uint8Array.from(atob(data64), byte => byte.charCodeAt());
      if (isMine(channel)) this._emit('message', envelope);
    }
    if (next && isNewer(next, this.after)) this.after = next;
  }

  _tell(state, line, more) {
    this.state = state;
    this.technique = line?.technique;
    this._status = { ...more, state, technique: this.technique };
    if (this._tabs) this._report();
    this._emit('state', this._status);
  }

  _emit(type, value) {
    for (const listener of this._on[type] ?? []) {
      try {
        listener(value);
      } catch (error) {
        setTimeout(() => { throw error; }, 0); // the listener's fault, not the line's
      }
    }
  }

  _changed() {
    if (this._bus && !this._tabs) return this._hello();
    if (this._wanted().join() !== this._line?.channels.join()) this._again();
  }

  _start() {
    const { navigator, BroadcastChannel } = page;
    this._me = Math.random();
    if (!this.share || !navigator?.locks || !BroadcastChannel) return this._connect();
    const { token, techniques } = this, name = ['encke', this.url, techniques, typeof token === 'string' ? token : ''].join(' ');
    this._held = [];
    this._bus = new BroadcastChannel(name);
    this._bus.onmessage = ({ data }) => this._hear(data);
    const quit = this._quit = new AbortController();
    navigator.locks.request(name, { signal: quit.signal }, () => new Promise(free => {
      this._free = free;
      clearTimeout(this._lonely);
      this._line = this._line?.cut();
      this._tabs = new Map();
      this._held = 0;
      this._bus.postMessage({ leader: this._me });
      this._connect();
    })).catch(() => quit.signal.aborted || this._alone());
    this._hello();
  }

  _connect() {
    this._loop(this._run = {});
  }

  // No leader answers: a connection of our own is better than none.
  _alone() {
    this._stop();
    this._connect();
  }

  _stop() {
    this._run = 0;
    this._again();
    clearTimeout(this._lonely);
    this._bus?.postMessage({ bye: this._me });
    this._bus?.close();
    this._quit?.abort();
    this._free?.();
    this._bus = this._tabs = this._free = this._line = this._leader = undefined;
  }

  // The channels of all tabs that we connect for.
  _wanted() {
    return [...new Set([...this.channels, ...[...this._tabs ? this._tabs.values() : []].flat()])].sort();
  }

  _hello() {
    this._bus.postMessage({ hello: [...this.channels], from: this._me });
    clearTimeout(this._lonely);
    this._lonely = setTimeout(() => this._alone(), this.patience);
  }

  _report() {
    this._bus.postMessage({ status: this._status, covered: this._covered, after: this.after, from: this._me });
  }

  _hear({ hello, from, bye, leader, status, covered, after, envelope }) {
    if (this._tabs) {
      if (hello) this._tabs.set(from, hello);
      if (bye) this._tabs.delete(bye);
      this._changed();
      if (hello) this._report();
    } else if (leader) {
      // It may be ahead of us or behind: what it repeats waits until it says where it is.
      this._leader = leader;
      this._line = this._line?.cut();
      this._held = [];
      this._hello();
    } else if (status && from === (this._leader ??= from)) this._follow(this._news = { status, covered, after });
    else if (envelope && from === this._leader) this._held ? this._held.push(envelope) : this._take(envelope);
  }

  // The leader says how it is. Once it covers our channels, we come to where it is and go on with it.
  async _follow(news) {
    clearTimeout(this._lonely);
    const { status, covered, after } = news, mine = [...this.channels];
    const open = status.state === 'open', ours = open && mine.every(channel => covered.includes(channel));
    if (ours && !this._line) {
      const had = this._covered?.filter(channel => mine.includes(channel)) ?? mine;
      if (this.after === 'now' || !had.length) this.after = after;
      else if (!isId(this.after) || isId(after) && isNewer(after, this.after)) {
        this._held ||= [];
        const line = this._line = new Line(this, 'poll', mine);
        await line.run(() => line.catchUp(had, isId(after) && after));
        if (line !== this._line) return;
        this._line = undefined;
        if (line.error) return this._alone();
        if (news !== this._news) return this._follow(this._news);
      }
      this._covered = covered;
      const held = this._held || [];
      this._held = 0;
      held.forEach(envelope => this._take(envelope));
    }
    // Nobody is told that we listen before all that comes from then on would come.
    this._tell(open && (this._held || !ours) ? 'connecting' : status.state, status, { ...status, shared: true });
  }
}
