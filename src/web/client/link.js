// Keeps one line open for all channels that are wanted: finds a technique, comes back, lets channels join.

import { Line } from './line.js';
import { isRefusal } from './http.js';
import { more } from './more.js';

const RETRY_MS = 1000, RETRY_MS_MAX = 30000;
const WAIT_MS_MAX = 300000; // no `Retry-After` makes anybody wait longer
const SHORT_MS = 10000, SHORT_MAX = 3; // so many lines in a row that lived no longer, and something else is tried
const BLAME_MS = 10000, BLAME_MS_MAX = 3.6e6; // how long a technique is not tried; doubled each time
const REFUSED_MS = 60000, FAILED_MS = 5000; // how long a channel is not asked for again
const CHECK_MS = 1000; // how often an open line looks for something better

const page = globalThis;
const isHttpStream = technique => technique === 'sse' || technique === 'stream';

export class Link {
  constructor(comet) {
    Object.assign(this, { _comet: comet, _refused: new Map(), _blamed: {}, _key: 'encke ' + comet.url });
    try {
      // Storage is missing in Node and forbidden in some frames.
      Object.assign(this._blamed, JSON.parse(sessionStorage.getItem(this._key)));
    } catch {}
  }

  _start() {
    if (this._run) return;
    Object.assign(this, { _retry: RETRY_MS, _failures: 0, _short: 0, _checkAt: 0, _pause: 0 });
    this._loop(this._run = {});
  }

  _stop() {
    this._run = 0;
    this._again();
    this._line = undefined;
  }

  // Begins anew, without a pause.
  _again() {
    this._trial?._cut('again');
    this._line?._cut('again');
    this._rouse();
  }

  // The page is looked at again: timers may have slept.
  _look() {
    if (this._pause || Date.now() > this._line?._due) this._again();
  }

  _rouse() {
    clearTimeout(this._timer);
    this._wake?.();
  }

  _sleep(ms) {
    return new Promise(wake => {
      this._wake = wake;
      if (ms >= 0) this._timer = setTimeout(wake, ms);
    });
  }

  _status() {
    const { _line: line } = this;
    return this._pause || { state: line?._opened ? 'open' : 'connecting', technique: line?._technique };
  }

  // Our own channels, but for those that are refused at present.
  _mine() {
    return [...this._comet.channels].filter(channel => !this._isRefused(channel));
  }

  _isRefused(channel) {
    return this._refused.get(channel)?._until > Date.now();
  }

  // What we listen to is refused no longer.
  _has(channels) {
    for (const channel of channels) this._refused.delete(channel);
    this._had = channels;
  }

  _wanted() {
    return [...new Set([...this._mine(), ...this._comet._tabs?._others() ?? []])];
  }

  _isOpen() {
    return this._line?._opened && this._mine().every(channel => this._line._channels.has(channel));
  }

  // Draws lines, a round of techniques without a pause, for as long as `run` is the current one.
  async _loop(run) {
    const comet = this._comet;
    let round = [];
    while (run === this._run) {
      const wanted = this._wanted();
      this._isIdle = !wanted.length;
      if (this._isIdle) {
        this._line = undefined;
        comet._changed();
        await this._sleep(this._refused.size ? REFUSED_MS : undefined);
        continue;
      }
      // A channel that joins begins at another place than the others: it does so when they are open.
      let channels = wanted.filter(channel => this._had?.has(channel) ?? true);
      if (!channels.length) {
        comet.after = comet._keep ? '' : 'now';
        channels = wanted;
      }
      if (!round.length) {
        round = this._candidates();
        this._failed = [];
        this._reason = 0;
      }
      let line;
      if (round.length) {
        line = this._line = new Line(this, round.shift(), channels);
        this._pause = 0;
        comet._changed();
        // A better one may take its place.
        while (await line._over, run === this._run && line !== this._line) line = this._line;
        if (run !== this._run) return;
      }
      round = line ? this._judge(line, round) : [];
      if (round.length || line?._why === 'again') continue;
      // Everybody refuses all of them together.
      if (channels.length > 1 && !line?._opened && isRefusal(this._reason) && await more(({ sift }) => sift(this, channels)).catch(() => 0)) continue;
      await this._rest(line);
    }
  }

  // What can be tried here, what failed lately behind the rest, and scripts last of all.
  _candidates() {
    const rank = technique => technique === 'jsonp' ? 2 : this._isBlamed(technique) ? 1 : 0;
    return this._usable().sort((one, other) => rank(one) - rank(other));
  }

  _usable() {
    const { document } = page;
    return this._comet.techniques.filter(technique => technique === 'websocket' ? page.WebSocket :
      // A page that is still loading would never have loaded with scripts that wait.
      technique !== 'jsonp' || document && !['loading', 'interactive'].includes(document.readyState));
  }

  // What to try next, without a pause, after `line` ended.
  _judge({ _technique: technique, _opened: opened, _why: why, _error: error, _retry, _isAsking }, round) {
    if (why === 'again') return opened ? [...new Set([technique, ...this._candidates()])] : [];
    // The server's own word says more than that of the browser.
    if (error && !(this._reason.status && !error.status)) this._reason = error;
    if (!opened) {
      if (_retry >= 0) this._reason = { message: 'full', _wait: _retry };
      this._failed.push(technique);
      // What holds back one stream over HTTP holds back the other.
      if (why === 'silent' && isHttpStream(technique)) {
        this._failed.push(...round.filter(isHttpStream));
        round.sort((one, other) => isHttpStream(one) - isHttpStream(other));
      }
      return _isAsking || error?.status === 429 ? [] : round;
    }
    if (_retry >= 0) this._retry = Math.min(_retry, RETRY_MS_MAX);
    const isShort = why === 'silent' || Date.now() - opened < SHORT_MS;
    this._short = isShort ? this._short + 1 : 0;
    if (!isShort) this._failures = 0;
    // A token that was good is too old.
    if (error?.status === 401 && !this._failures++) return [technique];
    if (this._short < SHORT_MAX) return [];
    // It opens and does not last. That may be the technique, if there is another.
    this._short = 0;
    this._blame(isHttpStream(technique) ? ['sse', 'stream'] : [technique]);
    const next = this._candidates();
    return next[0] === technique ? [] : next;
  }

  // A pause. Full jitter: clients that lost the same server must not all return at once.
  async _rest(line) {
    const { _wait = 0, message } = this._reason;
    const wait = Math.min(Math.max(_wait || 0, 0), WAIT_MS_MAX) +
      Math.random() * Math.min(RETRY_MS_MAX, this._retry * 2 ** this._failures);
    this._failures = Math.min(this._failures + 1, 9);
    this._pause = { state: 'waiting', technique: line?._technique, wait, error: message };
    this._comet._changed();
    await this._sleep(wait);
  }

  // A technique that failed while another was answered is to blame, for a time.
  _blame(techniques) {
    for (const technique of techniques) {
      const [, before] = this._blamed[technique] ?? [], ms = Math.min(before * 2 || BLAME_MS, BLAME_MS_MAX);
      this._blamed[technique] = [Date.now() + ms, ms];
    }
    this._remember();
  }

  _isBlamed(technique) {
    const [until, ms] = this._blamed[technique] ?? [], left = until - Date.now();
    return left > 0 && left <= ms;
  }

  // For the next page, too.
  _remember() {
    try {
      sessionStorage.setItem(this._key, JSON.stringify(this._blamed));
    } catch {}
  }

  // A line has spoken.
  _opens(line) {
    if (line === this._trial) {
      this._trial = undefined;
      this._line._cut('replaced');
      this._line = line;
    }
    this._has(line._channels);
    this._reason = 0;
    this._blame(this._failed.splice(0).filter(technique => technique !== line._technique));
    this._comet._changed();
    this._sync();
  }

  // An open line shows that it lives: time for what waits for that.
  _heard(line) {
    const now = Date.now(), { _technique: technique } = line;
    if (line !== this._line || this._checkAt - now > 0 && this._checkAt - now < CHECK_MS) return;
    this._checkAt = now + CHECK_MS;
    if (now - line._opened > SHORT_MS && this._blamed[technique]) {
      delete this._blamed[technique];
      this._remember();
    }
    if (this._refused.size) this._sync();
    const order = this._usable(), better = order.slice(0, order.indexOf(technique)).find(other => !this._isBlamed(other));
    if (better && !this._trial && !this._isJoining) this._try(better);
  }

  // Tries a better technique while the line goes on.
  async _try(better) {
    const trial = this._trial = new Line(this, better, this._line._channels);
    await trial._over;
    if (this._trial !== trial) return;
    this._trial = undefined;
    if (trial._why !== 'again') this._blame(trial._why === 'silent' && isHttpStream(better) ? ['sse', 'stream'] : [better]);
  }

  // Makes the open line carry what is wanted.
  async _sync() {
    const { _line: line } = this;
    if (this._isIdle) this._rouse();
    if (!line?._opened || line._why || this._isJoining) return;
    const wanted = this._wanted(), has = [...line._channels];
    if (has.every(channel => wanted.includes(channel)) && wanted.every(channel => has.concat(line._asked).includes(channel))) return;
    this._trial?._cut('again');
    this._isJoining = true;
    // What cannot be done now is told, and tried again.
    await more(({ join }) => join(this, line)).catch(async error => {
      this._refuse(this._wanted().filter(channel => !has.includes(channel)), error, FAILED_MS);
      this._comet._changed();
      await new Promise(done => setTimeout(done, FAILED_MS));
    });
    this._isJoining = false;
    this._comet._changed();
    // There may be another line by now, or other channels.
    this._sync();
  }

  _refuse(channels, error, ms = REFUSED_MS) {
    for (const channel of channels) this._refused.set(channel, { _until: Date.now() + ms, _error: error.message });
  }
}
