// Latest values: whole ones out of what has changed, and the tables that pages show.

import { matches } from './names.js';

const isObject = value => value !== null && typeof value === 'object' && !Array.isArray(value);

/** A merge patch applied (RFC 7396), to a copy. */
function patched(value, patch) {
  if (!isObject(patch)) return patch;
  const result = { ...isObject(value) ? value : {} };
  for (const [name, change] of Object.entries(patch)) {
    if (change === null) delete result[name];
    else Object.defineProperty(result, name, { value: patched(result[name], change), writable: true, enumerable: true, configurable: true });
  }
  return result;
}

/** The members of `value` that differ from those of the value before; all of them if that was nothing of the kind. */
function changed(value, before) {
  if (!isObject(value)) return undefined;
  if (!isObject(before)) return Object.keys(value);
  return [...new Set([...Object.keys(value), ...Object.keys(before)])]
    .filter(name => !Object.hasOwn(before, name) || JSON.stringify(value[name]) !== JSON.stringify(before[name]));
}

/** The tables of a client; `take` decides what is news. */
export class Values {
  constructor(comet) {
    this._comet = comet;
    this._tables = new Map();
    this._plain = ''; // the newest message without a key
  }

  // That of a channel; what the page sees of it lives on.
  _table(channel) {
    if (!this._tables.has(channel)) this._tables.set(channel, { _values: this._comet.values(channel), _ids: new Map() });
    return this._tables.get(channel);
  }

  /** Forgets what was known of a channel, or of all that a pattern matches: a snapshot comes. */
  _forget(pattern) {
    for (const [channel, { _values, _ids }] of this._tables) {
      if (!matches(pattern, channel)) continue;
      _values.clear();
      _ids.clear();
    }
  }

  /** Makes a whole value of what came; says whether that is news. */
  _take(envelope, isNews) {
    const comet = this._comet, { gap, id, channel, key, next, removed, patch, base, data64 } = envelope;
    if (gap) {
      // A fresh snapshot follows, whose numbers begin anew.
      this._forget(gap.channel);
      comet.after = '';
    }
    // The place says how far all channels are, those that joined with a snapshot, too.
    if (next) comet._link._line?._joins?.clear();
    if (!id) return isNews;
    if (key === undefined) {
      if (!comet._isNew(id, this._plain)) return false;
      this._plain = id;
      return true;
    }
    const { _values: values, _ids: ids } = this._table(channel), held = ids.get(key), before = values.get(key);
    if (held && !comet._isNew(id, held)) return false;
    // What was under way when a channel was left is nobody's. Only who has a line knows what all tabs want.
    if (!held && comet._link._run && !comet._link._wanted().some(wanted => matches(wanted, channel))) return false;
    if (patch !== undefined && base !== held) {
      // That cannot be: everything is asked for anew.
      for (const name of this._tables.keys()) this._forget(name);
      comet.after = '';
      comet._link._again();
      return false;
    }
    ids.set(key, id);
    if (removed) return values.delete(key);
    if (patch !== undefined) envelope.data = patched(before, patch);
    delete envelope.patch;
    delete envelope.base;
    if (data64) envelope.data = Uint8Array.from(atob(data64), byte => byte.charCodeAt());
    envelope.changed = changed(envelope.data, before);
    values.set(key, envelope.data);
    return true;
  }
}
