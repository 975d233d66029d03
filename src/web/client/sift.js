// Channels that are refused together.

import { isRefusal } from './http.js';
import { ask } from './join.js';

/** Finds those that it is about, each alone; says whether there is anything left to try. */
export async function sift(link, channels) {
  if (link._comet._tabs?._unload(channels.length)) return true;
  const refused = new Map();
  for (const channel of channels) {
    await ask(link._comet, [channel], 'now').catch(error => isRefusal(error) && refused.set(channel, error));
  }
  // Where all are, it is not about channels: none of them begins anew.
  if (refused.size === channels.length) return 0;
  refused.forEach((error, channel) => link._refuse([channel], error));
  return refused.size;
}
