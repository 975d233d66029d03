// A model of the server, as small as its contract allows: one sequence, a ring a channel, every technique.

const BATCH = 5; // small, so that whoever is behind asks more than once

export class Server {
  constructor(world, { heartbeat = 15, ring = 20, channelsMax = 100 } = {}) {
    Object.assign(this, { world, heartbeat, ring, channelsMax, epochs: 0, forbidden: new Set(), listeners: new Set() });
    this.restart();
  }

  /** Forgets everything; connections end. */
  restart() {
    for (const listener of [...this.listeners]) listener.wire.cut();
    this.listeners = new Set();
    Object.assign(this, { epoch: `e${this.epochs++}`, seq: 0, rings: new Map(), evicted: new Map() });
  }

  id(seq = this.seq) { return `${this.epoch}:${seq}`; }

  publish(channel, data) {
    const ring = this.rings.get(channel) ?? [];
    this.rings.set(channel, ring);
    ring.push({ seq: ++this.seq, channel, data });
    if (ring.length > this.ring) this.evicted.set(channel, ring.shift().seq);
    for (const listener of [...this.listeners]) if (listener.channels.has(channel)) this.serve(listener);
  }

  /** Takes a request; `reply` is how it is answered. */
  accept({ channels, as, after, timeout, wire }, reply) {
    const bad = channels.find(channel => this.forbidden.has(channel));
    const status = this.refusal ?? (bad ? 403 : channels.length > this.channelsMax ? 400 : 0);
    const detail = bad ? `${bad} is forbidden` : `at most ${this.channelsMax} channels`;
    if (status) return reply.refuse ? reply.refuse() : reply.whole(status, this.refusalHeaders ?? {}, JSON.stringify({ detail }));
    const [epoch, number] = after.split(':');
    const listener = { channels: new Map(), as, wire, reply, cursor: this.seq, told: new Set() };
    let stranger = false;
    if (after === 'oldest') listener.cursor = 0;
    else if (number !== undefined) {
      stranger = epoch !== this.epoch || +number > this.seq;
      listener.cursor = stranger ? 0 : +number;
    }
    for (const channel of channels) listener.channels.set(channel, listener.cursor);
    listener.gaps = channels.filter(channel => stranger || (this.evicted.get(channel) ?? 0) > listener.cursor && after !== 'oldest');
    wire.onclose = () => this.listeners.delete(listener);
    this.open(listener, +timeout);
  }

  open(listener, timeout) {
    const { as, reply, wire } = listener, next = this.id(listener.cursor), { heartbeat } = this;
    const headers = { 'encke-next': next, 'encke-heartbeat': `${heartbeat}` };
    const beat = text => this.world.after(heartbeat * 1000, () => wire.isOver || (reply.send(text), beat(text)));
    this.listeners.add(listener);
    if (as === 'websocket') {
      reply.open();
      wire.oncommand = text => this.obey(listener, JSON.parse(text));
      reply.send(JSON.stringify({ next, heartbeat }));
    } else if (as === 'sse-envelope') {
      reply.begin(headers);
      reply.send(`retry: 2000\nevent: encke.open\ndata: ${JSON.stringify({ next, heartbeat })}\n\n`);
      beat(':\n');
    } else if (as === 'stream') {
      reply.begin(headers);
      reply.send('\n');
      beat('\n');
    }
    this.serve(listener);
    if (as === 'interval') this.nothing(listener, 304);
    if (as === 'poll') this.world.after(timeout * 1000, () => this.nothing(listener, 204));
  }

  nothing(listener, status) {
    if (this.listeners.delete(listener)) listener.reply.whole(status, { 'encke-next': this.id() }, '');
  }

  obey(listener, { subscribe, unsubscribe, ref }) {
    for (const channel of unsubscribe ?? []) listener.channels.delete(channel);
    const bad = (subscribe ?? []).find(channel => this.forbidden.has(channel));
    if (!bad) for (const channel of subscribe ?? []) if (!listener.channels.has(channel)) listener.channels.set(channel, this.seq);
    if (ref !== undefined) listener.reply.send(JSON.stringify(bad ? { ref, error: `${bad} is forbidden` } : { ref, ok: true }));
  }

  /** Gives a listener what is behind its cursor. */
  serve(listener) {
    const { channels, as, reply } = listener, isPoll = as === 'poll' || as === 'interval';
    const news = [...channels].flatMap(([channel, floor]) => (this.rings.get(channel) ?? [])
      .filter(({ seq }) => seq > Math.max(floor, listener.cursor))).sort((one, other) => one.seq - other.seq);
    const gaps = listener.gaps.splice(0), given = isPoll ? news.slice(0, BATCH) : news;
    if (!given.length && !(isPoll && gaps.length)) {
      for (const channel of gaps) this.tell(listener, { gap: { channel } });
      return;
    }
    listener.cursor = given.at(-1)?.seq ?? this.seq;
    const envelopes = given.map(({ seq, channel, data }) => ({ id: this.id(seq), channel, data }));
    if (isPoll) {
      this.listeners.delete(listener);
      const headers = { 'encke-next': this.id(listener.cursor), ...gaps.length && { 'encke-gap': gaps.join(', ') } };
      return reply.whole(200, headers, JSON.stringify({ messages: envelopes, next: this.id(listener.cursor), gap: gaps.length > 0 }));
    }
    for (const channel of gaps) this.tell(listener, { gap: { channel } });
    for (const envelope of envelopes) this.tell(listener, envelope);
  }

  tell({ as, reply }, envelope) {
    const text = JSON.stringify(envelope);
    reply.send(as === 'sse-envelope' ? `id: ${envelope.id}\ndata: ${text}\n\n` : as === 'stream' ? text + '\n' : text);
  }
}
