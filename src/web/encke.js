// Encke's client: a class that always finds a way to the server and never loses its place.
//
// Whatever the technique, all it takes to go on is the place: the id of the last message. Lines come and go, the
// place stays. What a line brings that is not behind the place is not news, so two lines may overlap.
//
// A line (client/line.js): one attempt by one technique.
//
//                answered               silence, end, error
//   connecting ───────────▶ open ───────────────────────────▶ over
//        └─────────────────────────────────────────────────────▲ not answered in time, refused, error
//
// A link (client/link.js) draws lines, one after the other:
//
//               ┌── the next technique of the round, at once ──┐
//               ▼                                              │ over without an answer
//   idle ──▶ connecting ──────────── answered ──────────▶ open │
//     ▲         ▲  └───────────────────┬──────────────────┼────┘
//     │         │        round is over │                  │ over: after a pause, the same way
//     │         └── time, `online` ── waiting ◀───────────┘
//     └── no channel is wanted           a better technique is tried beside an open line, and replaces it
//
// A technique that fails while another is answered is to blame, and not tried for a time; when none is answered it
// was the network, and nobody is. Refusals are the server's: its reason reaches the page.
//
// The tabs of an origin (client/tabs.js) share the link of one of them:
//
//              the lock is ours                    alone: a link of our own
//   new ─────────────────────────▶ leading             ▲  │
//    │                               ▲      no sign of │  │ it covers our channels,
//    │ a leader covers our channels  │    life; denied │  ▼ and we came to its place
//    └───────────────────────────────┴──────────── following
//
// The server serves this as one file without comments.

import { turnstile } from './client/http.js';
import { Link } from './client/link.js';
import { ORDER, check, epoch, isId, list, matches, path } from './client/names.js';
import { more } from './client/more.js';

const EPOCHS_MAX = 9; // histories that we have left and will not take for new ones
const ANSWERS = [200, 204, 304, 408]; // to a poll; 408 for who asked for it instead of 204

const page = globalThis;

export class Encke {
  constructor(url = '', {
    channels, token, latest, rate, delta, after = latest || rate || delta ? '' : 'now', techniques = ORDER, share = true,
    patience = 5000, heartbeat = 15000, pollSeconds = 25, credentials,
  } = {}) {
    // Without a place, latest values begin with a snapshot.
    if (latest || rate || delta) this._also = { latest: 1, ...rate && { rate }, ...delta && { delta: 1 } };
    Object.assign(this, { token, after, techniques, share, patience, heartbeat, pollSeconds, credentials, state: 'connecting' });
    this.url = new URL(url || '/', page.location?.href).href.replace(/\/+$/, '');
    this.channels = new Set(check(list(channels)));
    this._on = {};
    this._epochs = [];
    this._maps = {};
    this._turn = turnstile();
    this._gone = new AbortController();
    this._link = new Link(this);
    const listen = (target, type, handler) => target?.addEventListener?.(type, handler, { signal: this._gone.signal });
    listen(page, 'online', () => this._link._again());
    listen(page, 'load', () => setTimeout(() => this._link._rouse(), 0));
    listen(page.document, 'visibilitychange', () => document.hidden || this._link._look());
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
    for (const channel of check(channels.flat())) {
      this.channels.add(channel);
      this._link._refused.delete(channel);
    }
    this._sync();
  }

  unsubscribe(...channels) {
    for (const channel of channels.flat()) {
      this.channels.delete(channel);
      this._keep?._forget(channel);
    }
    this._sync();
  }

  values(channel) {
    return this._maps['/' + channel] ??= new Map(); // no name of a property begins so
  }

  presence(channel) {
    const members = this.values('/' + channel); // nor does a channel
    more(({ presence }) => presence(this, channel)).catch(({ message: error }) => this._emit('presence', { channel, members, error }));
    return members;
  }

  publish(...what) {
    return more(({ publish }) => publish(this, ...what));
  }

  close() {
    this._gone.abort();
    this._stop();
    this._changed();
  }

  // With the other tabs, or alone where that is not possible; some browsers throw where cookies are blocked.
  async _start() {
    const run = this._run = {};
    try {
      if (this._also) this._keep ??= await more(({ Values }) => new Values(this));
    } catch {
      return setTimeout(() => run === this._run && this._start(), this.patience);
    }
    try {
      if (run !== this._run) return;
      if (!this.share || !page.navigator?.locks) throw 0;
      this._tabs ??= await more(({ Tabs }) => new Tabs(this));
      if (run === this._run) await this._tabs._start();
    } catch {
      if (run === this._run) this._link._start();
    }
  }

  _stop() {
    this._run = 0;
    this._tabs?._stop();
    this._link._stop();
  }

  _sync() {
    if (this._gone.signal.aborted) return;
    this._link._sync();
    this._tabs?._follow();
    this._changed();
  }

  async _credential() {
    const { token } = this;
    return this._bearer = await (typeof token === 'function' ? token() : token);
  }

  // Only fetch can send a token in a header; elsewhere it has to be in the query.
  _url(as, channels, { query, token, after = this.after }) {
    const all = new URLSearchParams({ after, ...this._also, ...as && { as }, ...token && { access_token: token }, ...query });
    return `${this.url}/sub/${[...channels].map(path)}?${all}`;
  }

  _fetch(url, token, init, headers) {
    if (token) headers = { ...headers, Authorization: 'Bearer ' + token };
    const { credentials } = this;
    return fetch(url, { cache: 'no-store', ...credentials && { credentials }, ...init, headers: { Accept: 'application/json', ...headers } });
  }

  async _get(as, channels, { token, signal, ...rest }) {
    await this._turn();
    const answer = await this._fetch(this._url(as, channels, rest), token, { signal });
    // An event stream that is refused is a 200, as browsers never come back after anything else.
    if (!ANSWERS.includes(answer.status) || answer.headers.get('Retry-After')) {
      this._take({ next: answer.headers.get('Encke-Next') });
      throw await more(({ problem }) => problem(answer));
    }
    return answer;
  }

  // Whether `id` lies behind our place. Another epoch is another history: that of a server that started again.
  _isNew(id, than = this.after) {
    const [epoch, number] = id.split(':'), [before, last] = than.split(':'), more = parseInt(number) - parseInt(last);
    // A place in a snapshot is longer than the id of its last value.
    return isId(id) && (epoch === before ? more > 0 || !more && number.length > last.length : !this._epochs.includes(epoch));
  }

  _move(id) {
    if (!id || !this._isNew(id)) return false;
    const before = epoch(this.after);
    if (isId(this.after) && epoch(id) !== before) this._epochs = [before, ...this._epochs].slice(0, EPOCHS_MAX);
    this.after = id;
    return true;
  }

  // Takes what a line or another tab brought; says whether it was news.
  _take(envelope) {
    const { gap, id, channel, next, data64 } = envelope;
    // Where a stream begins in another history than ours is no place before the gap is told: it might be cut until then.
    let isNews = (id || next && (!isId(this.after) || epoch(next) === epoch(this.after))) && this._move(id ?? next);
    if (this._keep) isNews = this._keep._take(envelope, isNews);
    if (this._gone.signal.aborted || !gap && !(id && isNews)) return isNews;
    if (data64) {
      envelope.data = Uint8Array.from(atob(data64), byte => byte.charCodeAt());
      delete envelope.data64;
    }
    this._tabs?._repeat(envelope);
    // What joins begins when the rest has come to that place, even if another tab has it already.
    const about = gap ? gap.channel : channel, { _had: had } = this._link;
    if ([...this.channels].some(pattern => (had?.has(pattern) ?? true) && matches(pattern, about))) this._emit(gap ? 'gap' : 'message', gap ?? envelope);
    return true;
  }

  // Says how we are, if that is new.
  _changed() {
    const link = this._link, tabs = this._tabs, shared = !link._run && tabs?._news;
    let { state, ...more } = shared ? shared.status : link._status();
    if (state === 'open' && !(shared ? tabs._isFollowing && tabs._isCovered() : link._isOpen())) state = 'connecting';
    if (this._gone.signal.aborted) state = 'closed', more = {};
    const refused = [...link._refused].filter(([channel]) => this.channels.has(channel));
    if (refused.length) more = { error: refused[0][1]._error, ...more, refused: refused.map(([channel]) => channel) };
    const status = { state, ...more, ...shared && { shared: true } }, text = JSON.stringify(status);
    this.state = state;
    this.technique = more.technique;
    tabs?._report();
    if (text === this._told) return;
    this._told = text;
    this._emit('state', status);
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
}
