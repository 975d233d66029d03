// Polls answered by scripts, for pages of other origins where nothing else gets through.

import { repeat } from './poll.js';

const page = globalThis;
let count = 0;

/** Polling by scripts, until it fails. */
export const jsonp = line => repeat(line, query => ask(line, query));

// Asks once, by a global function that is gone when its script is done.
async function ask(line, query) {
  await line._comet._turn();
  return new Promise((done, fail) => {
    const callback = `encke_${Date.now()}_${count++}`, script = document.createElement('script');
    page[callback] = (messages, next, more) => {
      const gap = more === true;
      if (more?.expired) fail(Object.assign(Error('the token has expired'), { status: 401 }));
      // It does not say on which channel.
      if (gap) line._channels.forEach(channel => line._take({ gap: { channel, after: line._comet.after } }));
      done({ messages, next, gap });
    };
    // Whether anybody waits for it or not, it is fetched and run; it has called by then, if ever.
    script.onload = script.onerror = () => {
      delete page[callback];
      fail(Error('the script failed'));
    };
    script.src = line._comet._url('jsonp', line._channels, { query: { ...query, callback }, token: line._token });
    document.head.append(script);
    script.remove();
  });
}
