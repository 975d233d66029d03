// Channels that are refused together.

import { probe } from './join.js';

/** Finds those that it is about, each alone; says whether there is anything left to try. */
export async function sift(link, channels) {
  if (link._comet._tabs?._unload(channels.length)) return true;
  for (const channel of channels) await probe(link, [channel]).catch(() => 0);
  const refused = channels.filter(channel => link._refused.has(channel));
  if (refused.length < channels.length) return refused.length;
  refused.forEach(channel => link._refused.delete(channel));
}
