// The tabs of an origin share one line. Whoever holds a lock leads: it listens for all and repeats what it hears.

import { advance, drain, snapshot } from './join.js';
import { claims, epoch, path } from './names.js';

const SHARED_MAX = 100, SHARED_BYTES_MAX = 4000; // channels of one line, and what they take in a request
const BEATS = 4; // signs of life in a patience, both ways; who gives none is not waited for
const SOLO_MS = 60000; // before whoever could not come to where the others are tries again

export class Tabs {
  constructor(comet) {
    this._comet = comet;
    this._link = comet._link;
    this._max = SHARED_MAX;
  }

  // Looks for others. Throws where that is not possible.
  async _start() {
    const comet = this._comet, { url, techniques, credentials, token } = comet, run = this._run = {};
    // Only the same subject has the same rights; who has no known one shares with nobody.
    const { sub } = token ? claims(await comet._credential()) : {};
    const who = sub ? 'sub ' + sub : typeof token === 'function' ? 0 : token ?? '', isOver = () => run !== this._run;
    if (isOver()) return;
    if (who === 0) throw 0;
    const name = ['encke/2', url, techniques, credentials, who].join(' '), quit = this._quit = new AbortController();
    this._bus = new BroadcastChannel(name);
    this._bus.onmessage = ({ data }) => this._hear(data);
    navigator.locks.request(name, { signal: quit.signal }, () => new Promise(free => {
      this._free = free;
      isOver() ? free() : this._lead();
    })).catch(() => isOver() || this._alone());
    this._me = Math.random();
    this._missed = this._bare = 0;
    this._say({ hello: [], ask: 1 });
    this._tick();
  }

  _stop() {
    this._run = undefined;
    clearTimeout(this._timer);
    this._say({ bye: 1 });
    this._bus?.close();
    this._quit?.abort();
    this._free?.();
    this._bus = this._free = this._members = this._leader = this._news = this._held = this._isFollowing = undefined;
  }

  _say(what) {
    this._bus?.postMessage({ ...what, from: this._me });
  }

  // Both ways, a sign of life is asked for: pages that are not looked at answer sooner than their timers run.
  _tick() {
    const { _members: members } = this;
    this._timer = setTimeout(() => this._tick(), this._comet.patience / BEATS);
    if (members) {
      const { size } = members;
      for (const [id, member] of members) if (++member.missed > BEATS) members.delete(id);
      this._link._sync();
      // Who is left out hears of it before anything that is repeated after it.
      if (size) this._report(1);
      return;
    }
    this._bare = this._news?.status.state === 'open' && !this._isCovered() ? this._bare + 1 : 0;
    if (++this._missed > 1) this._say({ hello: this._offered(), ask: 1 });
    if (this._missed >= BEATS || this._bare >= BEATS) this._alone();
  }

  _lead() {
    this._members = new Map();
    this._isFollowing = this._held = this._news = undefined;
    this._link._start();
    this._report();
  }

  // A line of our own is better than none; the leader may come back, or have room.
  _alone(ms = 0) {
    this._soloUntil = Date.now() + ms;
    this._isFollowing = this._held = undefined;
    this._link._start();
    this._comet._changed();
  }

  // The channels of other tabs, as many as fit on one line.
  _others() {
    const shared = new Set(this._link._mine()), others = new Set();
    this._denied = [];
    for (const [id, { hello }] of this._members ?? []) {
      const all = new Set([...shared, ...hello]);
      if (all.size > this._max || [...all].map(path).join().length > SHARED_BYTES_MAX) this._denied.push(id);
      else for (const channel of hello) shared.add(channel), others.add(channel);
    }
    return [...others].filter(channel => !this._link._isRefused(channel));
  }

  // So many channels were refused together: fewer are tried, if there are others than ours.
  _unload(size) {
    const isShared = this._others().length;
    if (isShared) this._max = size - 1;
    return isShared;
  }

  _repeat(envelope) {
    if (this._members?.size) this._say({ envelope });
  }

  _report(beat) {
    if (!this._members) return;
    const wanted = this._link._wanted(), covered = wanted.filter(channel => this._link._had?.has(channel));
    const members = [...this._members.keys()];
    this._say({ status: this._link._status(), covered, members, denied: this._denied, after: this._comet.after, beat });
  }

  _hear({ hello, ask, bye, from, status, covered, members: all, denied, after, beat, envelope }) {
    const { _members: members } = this;
    if (members) {
      const known = members.get(from)?.hello;
      if (hello) members.set(from, { hello, missed: 0 });
      if (bye) members.delete(from);
      if (ask || `${known}` !== `${hello}`) {
        this._link._sync();
        this._report();
      }
    } else if (status) {
      if (from !== this._leader) this._isFollowing = this._held = undefined;
      this._leader = from;
      this._missed = 0;
      this._news = { status, covered, denied, after, _isIn: all.includes(this._me) };
      if (beat || !this._news._isIn) this._say({ hello: this._offered() });
      this._follow();
    } else if (envelope && from === this._leader) {
      this._missed = 0;
      this._isFollowing ? this._comet._take(envelope) : this._held?.push(envelope);
    }
  }

  // Whether all that comes on our channels is repeated for us.
  _isCovered() {
    return this._news?._isIn && this._link._mine().every(channel => this._news.covered.includes(channel));
  }

  // What the leader is asked for: channels that the server lets us have.
  _offered() {
    return this._link._mine().filter(channel => this._had?.has(channel));
  }

  // The leader has spoken, or our channels have changed.
  async _follow() {
    const link = this._link, comet = this._comet, { covered, denied, after, _isIn } = this._news ?? {};
    if (!covered || this._soloUntil > Date.now()) return;
    const mine = link._mine(), had = mine.filter(channel => link._had?.has(channel));
    // What we left and join again begins anew; what an older request brings of it is not ours. A line of our own knows.
    if (link._had && !link._run) link._had = new Set(had);
    if (this._had) this._had = new Set(mine.filter(channel => this._had.has(channel)));
    if (!_isIn || !had.every(channel => covered.includes(channel))) this._isFollowing = undefined;
    if (this._isCovered()) {
      // A channel that joins with a snapshot has another place than the rest.
      if (comet._keep && had.length < mine.length) this._isFollowing = undefined;
      if (this._isFollowing) {
        link._has(new Set(mine));
        if (epoch(after) === epoch(comet.after)) comet._move(after);
      } else if (!this._held) {
        await this._catchUp(mine);
        // Our channels may have changed meanwhile.
        if (`${link._mine()}` !== `${mine}`) return this._follow();
      }
    } else {
      this._held = undefined;
      if (denied.includes(this._me)) this._alone();
      else this._offer(mine);
    }
    comet._changed();
  }

  // The leader covers our channels: we come to where it is and go on with it.
  async _catchUp(mine) {
    const held = this._held = [], link = this._link, had = () => {
      // Somebody else catches up by now, or nobody has to.
      if (held !== this._held) throw 0;
      return link._mine().filter(channel => link._had?.has(channel) ?? true);
    };
    try {
      // What joins begins here.
      if (had().length) await drain(this._comet, had, () => this._comet._keep ? undefined : held.find(({ id }) => id)?.id);
      if (this._comet._keep && had().length < mine.length) await snapshot(link, mine.filter(channel => !had().includes(channel)));
    } catch {
      if (held === this._held) this._alone(SOLO_MS);
    }
    if (held !== this._held) return;
    this._held = undefined;
    // What joined a line of our own meanwhile must not begin anew.
    if (`${link._mine()}` !== `${mine}`) return;
    // After a restart of the server the leader may still be in the history before it, or come from there.
    const now = epoch(this._comet.after);
    if ([this._news.after, ...held.map(({ id }) => id ?? now)].some(place => epoch(place) !== now)) return;
    this._isFollowing = true;
    link._stop();
    link._has(this._had = new Set(mine));
    this._say({ hello: mine });
    for (const envelope of held) this._comet._take(envelope);
  }

  // Asks the leader for `mine`, once the server says that we may.
  async _offer(mine) {
    const fresh = mine.filter(channel => !this._had?.has(channel));
    if (this._isOffering || !fresh.length) return;
    this._isOffering = true;
    try {
      await advance(this._link, fresh);
      this._had = new Set(mine);
      this._say({ hello: this._offered() });
    } catch {
      this._alone(SOLO_MS);
    }
    this._isOffering = false;
  }
}
