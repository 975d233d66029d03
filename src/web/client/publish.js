// Publishing.

import { check, path } from './names.js';
import { problem } from './problem.js';

/** Publishes text as text, bytes as bytes and anything else as JSON. */
export async function publish(comet, channel, data, options = {}) {
  check([channel]);
  const isText = typeof data === 'string', kind = Object.prototype.toString.call(data).slice(8, -1);
  const isBytes = /^(ArrayBuffer|Blob|File|DataView|\w+Array)$/.test(kind);
  const body = isText || isBytes ? data : JSON.stringify(data);
  if (body === undefined) throw TypeError('nothing to publish');
  const type = isText ? 'text/plain; charset=utf-8' : isBytes ? data.type || 'application/octet-stream' : 'application/json';
  const query = new URLSearchParams(Object.entries(options).filter(([, value]) => value != null));
  const answer = await comet._fetch(`${comet.url}/pub/${path(channel)}?${query}`, await comet._credential(),
    { method: 'POST', body }, { 'Content-Type': type });
  if (!answer.ok) throw await problem(answer);
  return answer.json();
}
