// What the demos share: a feed whose technique can be chosen and whose line can be cut.

import { Encke } from '/encke.js';

export const NAMES = {
  websocket: 'WebSocket', sse: 'Server-Sent Events', stream: 'Fetch streaming', poll: 'Long polling', jsonp: 'JSONP',
};
const SHORT = { '': 'Automatic', ...NAMES, sse: 'SSE', stream: 'Streaming', poll: 'Polling' };
const CUT_MS = 5000;

export const $ = (selector, root = document) => root.querySelector(selector);
export const put = (element, text) => { if (element.textContent !== String(text)) element.textContent = text; };
export const make = (tag, properties, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
export const whole = new Intl.NumberFormat('en-US');

/** The client and its place, through every change of technique. */
export class Feed extends EventTarget {
  /** `begin`, if it is there, is called with every new client. */
  constructor(channels, after, options, begin) {
    super();
    Object.assign(this, { channels, options, begin, technique: '' });
    this.open(after);
  }

  open(after) {
    clearTimeout(this.timer);
    this.comet?.close();
    const only = this.technique && { techniques: [this.technique] };
    this.comet = new Encke('', { channels: this.channels, after, ...this.options, ...only });
    for (const type of ['message', 'gap', 'state']) {
      this.comet.on(type, detail => this.dispatchEvent(new CustomEvent(type, { detail })));
    }
    this.begin?.(this.comet);
  }

  use(technique) {
    this.technique = technique;
    this.open(this.comet.after);
  }

  /** With other options, from the same place. */
  set(options) {
    this.options = { ...this.options, ...options };
    this.open(this.comet.after);
  }

  move(channels, after) {
    this.channels = channels;
    this.open(after);
  }

  cut() {
    const { after } = this.comet;
    this.comet.close();
    this.dispatchEvent(new CustomEvent('state', { detail: { state: 'cut' } }));
    this.timer = setTimeout(() => this.open(after), CUT_MS);
  }
}

/** Whether a gap is there because the server was restarted and began a new history: an id is <epoch>:<number>. */
export async function restarted(feed, { after, oldest }) {
  // Polls name no `oldest`, and their place moves on after they have told of the gap.
  await new Promise(done => { setTimeout(done); });
  const [before, now] = [after, oldest ?? feed.comet.after].map(id => String(id).split(':'));
  return before.length > 1 && now.length > 1 && before[0] !== now[0];
}

/** Fills `bar` with the buttons that choose the technique and cut the line. */
export function controls(feed, bar) {
  const choice = make('div', { className: 'choice', role: 'group', ariaLabel: 'Technique' });
  for (const [technique, name] of Object.entries(SHORT)) {
    const button = make('button', { type: 'button', ariaPressed: String(!technique) }, name);
    button.addEventListener('click', () => {
      for (const other of choice.children) other.ariaPressed = String(other === button);
      feed.use(technique);
    });
    choice.append(button);
  }
  const cut = make('button', { type: 'button' }, 'Cut the line for 5 s');
  cut.addEventListener('click', () => feed.cut());
  bar.append(choice, cut);
}

/** Shows in `element` how the feed is. */
export function badge(feed, element) {
  feed.addEventListener('state', ({ detail }) => {
    const { state, technique, shared, error } = detail;
    element.dataset.state = { open: 'open', closed: 'paused' }[state] ?? 'connecting';
    const name = NAMES[technique] ?? '';
    put(element, {
      open: shared ? `${name}, shared with another tab` : name,
      connecting: `connecting: ${name}`,
      waiting: error ? `no connection by ${name}: ${error}` : 'reconnecting',
      cut: 'cut', closed: 'closed',
    }[state]);
  });
}
