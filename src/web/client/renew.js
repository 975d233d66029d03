// Tokens that end: they are renewed before, and what the server says when one has ended is understood.

import { claims } from './names.js';

const BEFORE_MS = 30000; // a token is renewed so long before it ends, or at half of what it has left

/** Renews the token of a line for as long as it lives. */
export async function renew(line) {
  const comet = line._comet;
  for (let { exp } = claims(line._token); ;) {
    const left = exp * 1000 - Date.now();
    if (!(left > 0)) return;
    await new Promise(done => {
      const timer = setTimeout(done, Math.min(Math.max(left / 2, left - BEFORE_MS, 1000), 1e9));
      line._signal.addEventListener('abort', () => (clearTimeout(timer), done()));
    });
    // A timer has an end that some tokens outlive.
    if (exp * 1000 - Date.now() > Math.max(left / 2, BEFORE_MS)) continue;
    const token = !line._why && await Promise.resolve(comet._credential()).catch(() => 0);
    // Who gives the same one again has no other: the server says when it has ended.
    if (line._why || !(claims(token).exp > exp)) return;
    exp = claims(token).exp;
    line._token = token;
    if (line._send) line._send({ token });
    // The next poll carries it; a stream has to be asked for again.
    else if (['sse', 'stream'].includes(line._technique)) line._cut('again');
  }
}

/** Why a line ends, or which of its channels it may no longer have. */
export function ended(line, { revoked, channels }) {
  if (!revoked || !channels) return;
  line._link._refuse(channels, Error('the right to listen was revoked'));
  channels.forEach(channel => line._channels.delete(channel));
  line._comet._changed();
}
