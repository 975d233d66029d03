// Runs in the page: the unmodified browser builds of both families with one face, and what the others hear.

import { AckExtension, CometD, TimeSyncExtension } from '/vendor/cometd/cometd.js';

/** A CometD client, on one transport if one is named. */
class CometDClient {
  constructor(url, { transport, ack, timesync }) {
    this.inner = new CometD();
    this.inner.configure({ url, logLevel: 'error' });
    for (const type of this.inner.getTransportTypes()) {
      if (transport && type !== transport) this.inner.unregisterTransport(type);
    }
    if (ack) this.inner.registerExtension('ack', new AckExtension());
    if (timesync) this.inner.registerExtension('timesync', new TimeSyncExtension());
  }

  call(start) {
    return new Promise((done, failed) =>
      start(reply => reply.successful ? done() : failed(Error(JSON.stringify(reply)))));
  }

  get transport() { return this.inner.getTransport().type; }
  connect() { return this.call(done => this.inner.handshake(done)); }
  publish(channel, data) { return this.call(done => this.inner.publish(channel, data, done)); }
  close() { return this.call(done => this.inner.disconnect(done)); }

  async subscribe(channel, take) {
    let subscription;
    const heard = event => take(event.data, event.channel);
    await this.call(done => subscription = this.inner.subscribe(channel, heard, done));
    return () => this.call(done => this.inner.unsubscribe(subscription, done));
  }
}

/** A Faye client, on one transport if one is named: those it prefers to it are switched off. */
class FayeClient {
  constructor(url, { transport }) {
    this.inner = new Faye.Client(url);
    const all = ['websocket', 'eventsource', 'long-polling', 'cross-origin-long-polling', 'callback-polling'];
    if (transport) all.slice(0, all.indexOf(transport)).forEach(type => this.inner.disable(type));
  }

  get transport() { return this.inner._dispatcher.connectionType; }
  connect() { return new Promise(done => this.inner.connect(done)); }
  publish(channel, data) { return this.inner.publish(channel, data).then(() => {}); }
  close() { return this.inner.disconnect(); }

  async subscribe(channel, take) {
    const subscription = this.inner.subscribe(channel).withChannel((from, data) => take(data, from));
    await subscription;
    return () => subscription.cancel();
  }
}

const families = { CometD: CometDClient, Faye: FayeClient };
const load = src => new Promise((onload, onerror) =>
  document.head.append(Object.assign(document.createElement('script'), { src, onload, onerror })));

/**
 * Starts the client under test as `one`, one of the other family as `two`, and in `room` those who have nothing to
 * do with Bayeux: an EventSource and Encke's own client. Everybody's messages are in `heard`.
 */
export async function start({ server, family, options, room }) {
  await load('/vendor/faye/client/faye-browser-min.js');
  await load(`${server}/encke.global.js`);
  const other = family === 'CometD' ? 'Faye' : 'CometD';
  const heard = { one: [], two: [], stream: [], encke: [] };
  const one = new families[family](`${server}/bayeux`, options);
  const two = new families[other](`${server}/bayeux`, {});
  await Promise.all([one.connect(), two.connect()]);
  const cancel = await one.subscribe(`/${room}/*`, (data, channel) => heard.one.push([channel, data]));
  await one.subscribe(`/${room}/a`, () => {});
  await two.subscribe(`/${room}/**`, data => heard.two.push(data));
  const stream = new EventSource(`${server}/sub/${room}/a?as=sse`);
  stream.onmessage = ({ data }) => heard.stream.push(JSON.parse(data));
  const encke = new Encke(server, { channels: [`${room}/a`], share: false });
  encke.on('message', ({ data }) => heard.encke.push(data));
  await Promise.all([
    new Promise(done => stream.onopen = done),
    new Promise(done => encke.on('state', ({ state }) => state === 'open' && done())),
  ]);
  globalThis.test = { one, two, cancel, heard, transport: () => one.transport };
}
