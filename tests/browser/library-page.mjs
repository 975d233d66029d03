// What the libraries have in common, for a page: window.listen(library, url) collects what it says.

import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSourcePolyfill } from 'event-source-polyfill';
import ReconnectingEventSource from 'reconnecting-eventsource';

/** Listens by something that looks like an EventSource. */
const listens = Class => (url, seen) => {
  const source = new Class(url);
  Object.defineProperty(seen, 'isDead', { enumerable: true, get: () => source.readyState === 2 });
  source.onopen = () => seen.opens++;
  source.onmessage = ({ data, lastEventId }) => seen.take(data, lastEventId);
  source.addEventListener('encke.gap', ({ data }) => seen.gaps.push(JSON.parse(data)));
  return () => source.close();
};

const LIBRARIES = {
  'EventSource of the browser': listens(EventSource),
  'event-source-polyfill': listens(EventSourcePolyfill),
  'reconnecting-eventsource': listens(ReconnectingEventSource),
  '@microsoft/fetch-event-source': (url, seen) => {
    const abort = new AbortController();
    fetchEventSource(url, {
      signal: abort.signal,
      openWhenHidden: true,
      onopen: async () => { seen.opens++; },
      // As its readers do: whatever comes is parsed.
      onmessage: ({ event, data, id }) => {
        const value = JSON.parse(data);
        if (event === 'encke.gap') seen.gaps.push(value);
        else if (!event) seen.take(data, id);
      },
      onclose: () => { throw Error('come back'); },
      onerror: () => 200,
    }).catch(error => seen.errors.push(String(error)));
    return () => abort.abort();
  },
  'WebSocket of the browser': (url, seen) => {
    let after = 'now', socket, isOver = false;
    const open = () => {
      socket = new WebSocket(`${url.replace('http', 'ws').replace('?as=sse', '')}?after=${after}`);
      socket.onopen = () => seen.opens++;
      socket.onmessage = ({ data }) => {
        const { id, next, gap, data: value } = JSON.parse(data);
        if (gap) seen.gaps.push(gap);
        if (id) seen.take(JSON.stringify(value), id);
        after = id ?? next ?? after;
      };
      socket.onclose = () => isOver || setTimeout(open, 200);
    };
    open();
    return () => {
      isOver = true;
      socket.close();
    };
  },
};

window.listen = (library, url) => {
  const seen = window.seen = { opens: 0, data: [], ids: [], gaps: [], errors: [] };
  seen.take = (data, id) => {
    try {
      seen.data.push(JSON.parse(data));
      seen.ids.push(id);
    } catch (error) {
      seen.errors.push(`${error} in ${JSON.stringify(data)}`);
    }
  };
  window.leave = LIBRARIES[library](url, seen);
};
