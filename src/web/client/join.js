// How channels are joined where no command does it: from a place on that was known before.

import { isRefusal } from './http.js';
import { claims } from './names.js';
import { batch } from './poll.js';

const FAILED_MS = 5000; // how long a channel is not asked for again that could not be asked for

/** Makes an open line carry what is wanted: by commands where it takes some, else by another line. */
export async function join(link, line) {
  await 0; // for all that are named in one go
  const wanted = link._wanted(), has = line._channels, fresh = wanted.filter(channel => !has.has(channel));
  if (!line._send || !wanted.length) return redraw(link, line, fresh);
  for (const channel of has) {
    if (!wanted.includes(channel) && has.delete(channel)) line._send({ unsubscribe: [channel] });
  }
  for (const channel of fresh) {
    // A command that is under way has its number; its answer carries it.
    if (line._asked.includes(channel)) continue;
    line._send({ subscribe: [channel], ref: line._asked.push(channel) });
    if (link._comet._keep) joins(link, line).add(channel);
  }
}

// A channel that joins with a snapshot has another place than the line, until the line says one for all: if it is
// over before, the channel joins again.
function joins(link, line) {
  if (!line._joins) {
    line._joins = new Set();
    line._signal.addEventListener('abort', () => line._joins.forEach(channel => line._channels.delete(channel)));
  }
  return line._joins;
}

/** Takes the server's word on a command. */
export function joined(link, line, { ref, error }) {
  const [channel] = line._asked.splice(ref - 1, 1, 0);
  if (line !== link._line) return;
  if (error) link._refuse([channel], Error(error));
  else link._has(line._channels.add(channel));
  link._comet._changed();
  link._sync();
}

// The line goes on until another can be drawn.
async function redraw(link, line, fresh) {
  try {
    if (fresh.length && line._technique !== 'jsonp') await advance(link, fresh);
  } catch (error) {
    link._refuse(fresh, error, FAILED_MS);
  }
  const wanted = link._wanted(), has = line._channels;
  if (line !== link._line || wanted.length === has.size && wanted.every(channel => has.has(channel))) return;
  link._had = new Set([...has, ...fresh]);
  line._cut('again');
}

/** Brings us to a place from which on `fresh` can be listened to together with what we have. */
export async function advance(link, fresh) {
  const place = await probe(link, fresh), had = () => [...link._had ?? []], comet = link._comet, isBegun = had().length;
  if (!place) return;
  if (isBegun) await drain(comet, had, () => place);
  if (comet._keep && isBegun) await snapshot(link, fresh.filter(channel => !link._isRefused(channel)));
  else if (isBegun || comet.after === 'now') comet._move(place);
}

/**
 * Takes the latest values of `channels`. We go on from the place behind them, or from where we were with the others if that
 * is older: what comes again is no news.
 */
export async function snapshot(link, channels) {
  const comet = link._comet, all = [];
  for (let place = '', messages; ;) {
    ({ messages, next: place } = await ask(comet, channels, place));
    all.push(...messages);
    if (messages.length) continue;
    // What an older line still brings must not take us beyond that place.
    link._line?._cut('again');
    link._had = new Set([...link._had, ...channels]);
    const { after } = comet;
    all.forEach(envelope => comet._take(envelope));
    comet.after = comet._isNew(place, after) ? after : place;
    return;
  }
}

/** Where the server is, if it lets us listen to `channels`; those that it refuses are noted. */
export async function probe(link, channels) {
  try {
    return (await ask(link._comet, channels, 'now')).next;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    if (channels.length < 2) return link._refuse(channels, error);
  }
  let place;
  for (const channel of channels) place = await probe(link, [channel]) ?? place;
  return place;
}

/**
 * Takes what waits on the channels that `had` names, to the end or up to a place that does not move. What has joined the
 * line while an answer was under way would be left behind by it: then all are asked for anew.
 */
export async function drain(comet, had, goal) {
  for (let batch, channels; (channels = had()).length && batch?.messages.length !== 0 && !(batch && goal() && !comet._isNew(goal()));) {
    const answer = await ask(comet, channels);
    if (!had().every(channel => channels.includes(channel))) continue;
    batch = answer;
    batch.messages.forEach(envelope => comet._take(envelope));
    comet._move(batch.next);
  }
}

/** What waits on `channels` right now. */
export async function ask(comet, channels, after) {
  const stop = new AbortController(), timer = setTimeout(() => stop.abort(), comet.patience);
  try {
    const isGood = comet._bearer && !(claims(comet._bearer).exp * 1000 < Date.now() + comet.patience);
    const token = isGood ? comet._bearer : await comet._credential();
    return await batch(comet, await comet._get('interval', channels, { token, after, signal: stop.signal }), channels);
  } finally {
    clearTimeout(timer);
  }
}
