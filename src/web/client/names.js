// Channels, places in the history, and what else is a matter of text.

/** The techniques, best first. */
export const ORDER = ['websocket', 'sse', 'stream', 'poll', 'jsonp'];

/** Throws unless all of `names` can be listened to; the server judges alike. */
export function check(names) {
  for (const name of names) {
    // An empty segment, `.` and `..` would reach another path. encodeURIComponent throws at half a character.
    if (typeof name !== 'string' || /[\0-\x1f\x7f-\x9f]|(^|\/)(\.{0,2}(\/|$)|\*\*\/)/.test(name) ||
      encodeURIComponent(name).replace(/%../g, 1).length > 255) throw TypeError(`bad channel: ${name}`);
  }
  return names;
}

/** One name, or any number of them, as an array. */
export const list = names => typeof names === 'string' ? [names] : [...names ?? []];

/** How a channel is written in a path. */
export const path = channel => channel.split('/').map(encodeURIComponent).join('/');

/** Whether `pattern` stands for `channel`: a segment `*` is any one segment, a last `**` is all that follow. */
export const matches = (pattern, channel) => {
  const want = pattern.split('/'), have = channel.split('/');
  const open = want.at(-1) === '**' && want.pop();
  return (open ? have.length > want.length : have.length === want.length) &&
    want.every((segment, i) => segment === '*' || segment === have[i]);
};

/** Whether a place is that of a message, and not a way to begin. */
export const isId = place => place.includes(':');

/** The history that a place belongs to; a server that starts again begins another. */
export const epoch = place => place.split(':')[0];

/** What a token says of itself, if it is a JWT. */
export const claims = token => {
  try {
    return JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')));
  } catch {
    return {};
  }
};
