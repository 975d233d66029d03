// One attempt by one technique: reads until it cannot. Any bytes are a sign of life; a line without one is cut.

import { more } from './more.js';

const TOKEN_MS = 30000; // for whoever is asked for a token
const TIMER_MS_MAX = 1e9; // a longer one would fire at once
const BEAT_MS_MAX = 3.6e6;

export class Line {
  constructor(link, technique, channels) {
    const comet = link._comet, abort = new AbortController();
    Object.assign(this, { _link: link, _comet: comet, _technique: technique, _channels: new Set(channels), _asked: [], _abort: abort });
    this._signal = abort.signal;
    this._beat = comet.heartbeat;
    this._over = this._run();
  }

  async _run() {
    try {
      await Promise.race([new Promise((_, fail) => this._signal.addEventListener('abort', fail)), this._work()]);
    } catch (error) {
      this._error = error;
    }
    this._cut('over');
  }

  async _work() {
    this._alive(TOKEN_MS);
    this._isAsking = 1;
    this._token = await this._comet._credential();
    this._isAsking = 0;
    if (typeof this._comet.token === 'function') more(({ renew }) => renew(this)).catch(() => 0);
    this._alive();
    // A line that was cut meanwhile asks for nothing.
    if (!this._signal.aborted) await TECHNIQUES[this._technique](this);
  }

  // Cuts the line, or does something else, unless there is another sign of life in time.
  _alive(ms = this._comet.patience, late = () => this._cut('silent')) {
    clearTimeout(this._timer);
    if (this._signal.aborted) return;
    ms = Math.min(ms, TIMER_MS_MAX);
    this._due = Date.now() + ms;
    this._timer = setTimeout(late, ms);
    if (this._opened) this._link._heard(this);
  }

  _cut(why) {
    this._why ??= why;
    clearTimeout(this._timer);
    this._abort.abort();
  }

  _open() {
    if (this._opened || this._signal.aborted) return;
    this._opened = Date.now();
    this._link._opens(this);
  }

  // What a line brings that was cut, or replaced by a better one, comes again. Says whether it was news.
  _take(envelope) {
    const beat = envelope.heartbeat * 1000;
    if (beat > 0) this._beat = Math.min(Math.max(beat, 1000), BEAT_MS_MAX);
    if (envelope.revoked) more(({ ended }) => ended(this, envelope)).catch(() => 0);
    const isNews = !this._signal.aborted && this._comet._take(envelope);
    if (envelope.expired) throw Object.assign(Error('token expired'), { status: 401 });
    return isNews;
  }

  _get(as, query) {
    return this._comet._get(as, this._channels, { query, token: this._token, signal: this._signal });
  }
}

const TECHNIQUES = {
  websocket: async line => {
    await line._comet._turn();
    return new Promise((done, fail) => {
      const { _comet: comet, _link: link } = line;
      const socket = new WebSocket(comet._url('', line._channels, { token: line._token }).replace('http', 'ws'));
      line._send = command => socket.send(JSON.stringify(command));
      // Scripts do not see pings: a command that changes nothing asks whether the server is there.
      const ping = () => {
        line._send({ subscribe: [], ref: 0 });
        line._alive();
      };
      line._signal.addEventListener('abort', () => socket.close());
      socket.onopen = ping;
      socket.onerror = () => fail(Error('no WebSocket'));
      // Codes from 4400 on are statuses of HTTP.
      socket.onclose = ({ reason, code } = {}) => reason ? fail(Object.assign(Error(reason), { status: code > 4400 ? code - 4000 : 0 })) : done();
      socket.onmessage = ({ data }) => {
        try {
          const envelope = JSON.parse(data);
          line._open();
          line._take(envelope);
          line._alive(line._beat, ping);
          if (envelope.ref) more(({ joined }) => joined(link, line, envelope));
        } catch (error) {
          fail(error);
        }
      };
    });
  },

  sse: line => read(line, 'sse-envelope', text => {
    // A stream that says no more than when to come back, and why, is none. A heartbeat is a colon.
    if (text.startsWith('retry:')) line._retry = +text.slice(6);
    else if (!/^(:.|$)/.test(text)) line._open();
    return text.startsWith('data:') && text.slice(5);
  }),

  stream: line => read(line, 'stream', text => {
    line._open();
    return text.trim();
  }),

  poll: line => more(({ poll }) => poll(line)),

  jsonp: line => more(({ jsonp }) => jsonp(line)),
};

// Reads an answer that does not end; `pick` finds the envelope in a line of it.
async function read(line, as, pick) {
  const { body, headers } = await line._get(as), reader = body.getReader(), decoder = new TextDecoder();
  // Deno forgets the signal of a request at its next garbage collection, and would read for ever.
  line._signal.addEventListener('abort', () => reader.cancel().catch(() => 0));
  line._take({ next: headers.get('Encke-Next'), heartbeat: headers.get('Encke-Heartbeat') });
  for (let rest = ''; ;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
    rest = lines.pop();
    for (const text of lines) {
      const envelope = pick(text);
      // Others have their say in an event stream, too.
      if (envelope) line._take(JSON.parse(envelope) ?? {});
    }
    line._alive(line._opened ? line._beat * 2.5 : undefined);
  }
}
