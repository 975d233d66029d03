// What the trading page counts, slows down and draws.

/** Bytes of messages that came, as text before any compression of the line; and the pace of answers. */
export const meter = { bytes: 0, slow: 0 };

// The client asks the browser for fetch and WebSocket; these count what comes.
const { fetch: plainFetch, WebSocket: PlainSocket } = globalThis;
globalThis.fetch = async (url, init) => {
  const answer = await plainFetch(url, init);
  if (!answer.body || !String(url).includes('/sub/')) return answer;
  const counted = answer.body.pipeThrough(new TransformStream({
    async transform(chunk, next) {
      meter.bytes += chunk.length;
      if (meter.slow) await new Promise(done => setTimeout(done, chunk.length / meter.slow * 1000));
      next.enqueue(chunk);
    },
  }));
  return new Response(counted, answer);
};
globalThis.WebSocket = class extends PlainSocket {
  constructor(...all) {
    super(...all);
    this.addEventListener('message', ({ data }) => { meter.bytes += data.length; });
  }
};
// JSONP comes as scripts.
new PerformanceObserver(list => {
  for (const { name, initiatorType, encodedBodySize } of list.getEntries()) {
    if (initiatorType === 'script' && name.includes('/sub/')) meter.bytes += encodedBodySize;
  }
}).observe({ type: 'resource' });

const svg = (name, attributes, text = '') => {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
};
const money = new Intl.NumberFormat('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumFractionDigits: 1 });
const clock = time => new Date(time).toLocaleTimeString('en-GB');

/** Draws `points` ({ time, last, volume }) in `root`; `at` is the share of the width where the pointer is, if it is there. Gives what is read there. */
export function chart(root, points, at) {
  const { clientWidth: width, clientHeight: height } = root, right = width - 58, floor = height - 22, top = 10, bars = 60;
  if (!points.length || right < 50) return root.replaceChildren();
  const prices = points.map(point => point.last), low = Math.min(...prices), high = Math.max(...prices), tall = high - low || 1;
  const first = points[0].time, span = Math.max(points.at(-1).time - first, 20000), most = Math.max(...points.map(point => point.volume)) || 1;
  const x = ({ time }) => 4 + (time - first) / span * (right - 8), y = price => top + (high - price) / tall * (floor - bars - top - 12);
  const parts = [];
  for (let n = 0; n <= 4; n++) {
    const price = low + tall * n / 4;
    parts.push(svg('line', { class: 'grid', x1: 0, x2: right, y1: y(price), y2: y(price) }), svg('text', { x: right + 6, y: y(price) + 4 }, money.format(price)));
  }
  for (const [share, anchor] of [[0, 'start'], [.5, 'middle'], [1, 'end']]) {
    parts.push(svg('text', { x: share * right, y: height - 5, 'text-anchor': anchor }, clock(first + share * span)));
  }
  parts.push(svg('text', { x: right + 6, y: floor - bars + 8 }, compact.format(most)));
  for (const point of points) {
    const tallness = point.volume / most * bars;
    parts.push(svg('rect', { class: 'bar', x: x(point) - 1.5, y: floor - tallness, width: 3, height: tallness }));
  }
  parts.push(svg('line', { class: 'grid', x1: 0, x2: right, y1: floor, y2: floor }),
    svg('path', { class: 'price', d: 'M' + points.map(point => `${x(point).toFixed(1)} ${y(point.last).toFixed(1)}`).join('L') }));
  let read;
  if (at !== undefined) {
    read = points.reduce((best, point) => Math.abs(x(point) - at * width) < Math.abs(x(best) - at * width) ? point : best);
    parts.push(svg('line', { class: 'cross', x1: x(read), x2: x(read), y1: top, y2: floor }), svg('circle', { cx: x(read), cy: y(read.last), r: 3.5 }));
  }
  root.replaceChildren(...parts);
  return read && `${clock(read.time)}   ${money.format(read.last)}   volume ${compact.format(read.volume)}`;
}
