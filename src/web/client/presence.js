// Who is here: a table of a channel's members that changes as they come and go.

import { check } from './names.js';

/** Keeps the table of who is on a channel, which the page has already, until the client is closed. */
export function presence(comet, channel) {
  const [name] = check(['encke/presence/' + channel]), looking = comet._looking ??= {};
  if (looking[name] || comet._gone.signal.aborted) return;
  // It has a place and a line of its own, as it needs the latest values of nothing else.
  const { url, techniques, share, patience, heartbeat, pollSeconds, credentials } = comet;
  const token = comet.token && (() => comet._credential());
  const other = looking[name] = new comet.constructor(url,
    { channels: name, latest: true, token, techniques, share, patience, heartbeat, pollSeconds, credentials });
  const members = other._maps['/' + name] = comet.values('/' + channel), told = more => comet._emit('presence', { channel, members, ...more });
  comet._gone.signal.addEventListener('abort', () => other.close());
  // Of a crowd there is only the count.
  other.on('message', ({ key, data }) => told(key === undefined && { count: data.count, anonymous: data.anonymous }));
  other.on('gap', () => told());
  other.on('state', ({ error }) => error && told({ error }));
}
