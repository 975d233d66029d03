// What clients of Mercure have in common, for a page: window.listen(library, url) collects what it says.

import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSourcePolyfill } from 'event-source-polyfill';

/** Listens by something that looks like an EventSource. */
const listens = Class => (url, seen) => {
  const source = new Class(url);
  source.onopen = () => seen.opens++;
  source.onmessage = ({ data }) => seen.data.push(JSON.parse(data));
  source.addEventListener('update', ({ data }) => seen.typed.push(JSON.parse(data)));
  source.addEventListener('encke.gap', ({ data }) => seen.gaps.push(JSON.parse(data)));
};

const LIBRARIES = {
  'EventSource of the browser': listens(EventSource),
  'event-source-polyfill': listens(EventSourcePolyfill),
  // With the defaults that its readers have: it comes back only after a cut.
  '@microsoft/fetch-event-source': (url, seen) => fetchEventSource(url, {
    openWhenHidden: true,
    onopen: async () => { seen.opens++; },
    onmessage: ({ event, data }) => {
      const value = JSON.parse(data);
      if (event === 'encke.gap') seen.gaps.push(value);
      else if (event === 'update') seen.typed.push(value);
      else seen.data.push(value);
    },
    onclose: () => seen.errors.push('a clean end: it would not come back'),
    onerror: () => 200,
  }).catch(error => seen.errors.push(String(error))),
};

window.listen = (library, url) => {
  const seen = window.seen = { opens: 0, data: [], typed: [], gaps: [], errors: [] };
  LIBRARIES[library](url, seen);
};
