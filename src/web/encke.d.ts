/** A way to get messages. */
export type Technique = 'websocket' | 'sse' | 'stream' | 'poll' | 'jsonp';

/** A message. */
export interface Message<Data = any> {
  /** Opaque; `after: id` continues behind it. */
  id: string;
  channel: string;
  event?: string;
  key?: string;
  /** A JSON value, text, or a Uint8Array of what is neither; nothing with `removed`. */
  data: Data;
  /** With `latest`: the members of the object that differ from the value before; all of them if there was none. */
  changed?: string[];
  /** The key has no value any more. */
  removed?: true;
}

/** Messages of a channel that left the server's history before they could be fetched. */
export interface Gap {
  channel: string;
  /** The last message before it. */
  after?: string;
  /** The oldest one that the server still has; not known when polling. */
  oldest?: string;
}

/** How the client is. */
export interface State {
  /** `waiting`: for the end of a pause after a failure. */
  state: 'connecting' | 'open' | 'waiting' | 'closed';
  technique?: Technique;
  /** Another tab has the connection. */
  shared?: boolean;
  /** The length of the pause, in milliseconds. */
  wait?: number;
  /** Why there is a pause, or what was refused: the server's own words if it had any. */
  error?: string;
  /** Channels that the server does not let us have, while the others go on. They are asked for again from time to time. */
  refused?: readonly string[];
}

export type Token = string | (() => string | undefined | Promise<string | undefined>);

export interface Options {
  /** What to listen to: one channel or several; `*` stands for a segment, a last `**` for all that follow. */
  channels?: string | Iterable<string>;
  /**
   * Sent as bearer token, as `access_token=` where there are no headers. A function is asked before each attempt, before
   * its token ends (`exp` of a JWT), and once more after a 401.
   */
  token?: Token;
  /**
   * Where to begin: an id, `oldest`, `now` or `-N` for the last N of each channel. Default `now`; with `latest`, the
   * latest value of each key.
   */
  after?: string;
  /** Only the latest values of keys: what has been superseded is left out. */
  latest?: boolean;
  /** At most so many deliveries a second, 0.1 to 50; implies `latest`. */
  rate?: number;
  /** What changed instead of whole values on the way here, where that is smaller; messages have the whole value. Implies `latest`. */
  delta?: boolean;
  /** What to try, in this order. Default: websocket, sse, stream, poll, jsonp. */
  techniques?: readonly Technique[];
  /**
   * Whether the tabs of this origin share one connection. Default true. Those with a token share with those of the
   * same subject (`sub` of a JWT) or, if it is text that names none, of the same token.
   */
  share?: boolean;
  /** Milliseconds to wait for a first sign of life before something else is tried. Default 5000. */
  patience?: number;
  /** Milliseconds between the heartbeats of a server that does not say it; a silence of 2.5 of them is taken for death. Default 15000. */
  heartbeat?: number;
  /** Seconds that a poll may wait. Default 25. */
  pollSeconds?: number;
  /** As in fetch; `include` sends cookies to another origin. */
  credentials?: 'include' | 'omit' | 'same-origin';
}

/** What the server says of a published message. */
export interface Published {
  id: string;
  channel: string;
  subscribers: number;
  messages: number;
}

/** Somebody who is there. */
export interface Member<Info = any> {
  id: string;
  /** What the application says of them to others. */
  info?: Info;
}

/** The members of a channel have changed, or cannot be had. */
export interface Presence {
  channel: string;
  members: ReadonlyMap<string, Member>;
  /** Of a crowd too large to be told by name: how many members, and how many connections without a name. */
  count?: number;
  anonymous?: number;
  /** Why it is not known: the server's own words, or that the client's second file does not come. */
  error?: string;
}

export interface Events {
  message: Message;
  gap: Gap;
  state: State;
  presence: Presence;
}

/** A connection that always finds a way and never loses its place. */
export class Encke {
  /** `url`: where the server is; the page's own origin if left out. Throws a TypeError for a bad URL or channel. */
  constructor(url?: string, options?: Options);

  /** Where the server is. */
  readonly url: string;
  /** What is listened to. */
  readonly channels: ReadonlySet<string>;
  /** The place: the id of the last message, or where to begin. */
  readonly after: string;
  readonly state: State['state'];
  readonly technique?: Technique;
  /** May be changed at any time; the next attempt uses it. */
  token?: Token;

  on<Type extends keyof Events>(type: Type, listener: (value: Events[Type]) => void): this;
  off<Type extends keyof Events>(type: Type, listener: (value: Events[Type]) => void): this;

  /** Listens to more channels, from the moment on that it is open again. Throws a TypeError for a bad channel. */
  subscribe(...channels: (string | readonly string[])[]): void;
  unsubscribe(...channels: (string | readonly string[])[]): void;

  /** With `latest`: the latest values of a channel by key, a map that changes as they do. */
  values(channel: string): ReadonlyMap<string, any>;

  /**
   * Who is on a channel, by id: a map that changes as they come and go, until the client is closed. The event `presence`
   * says when it has. The channel's rule must have presence, and the token a subject.
   */
  presence(channel: string): ReadonlyMap<string, Member>;

  /**
   * Publishes text as text, bytes (an ArrayBuffer, a view of one, a Blob) as bytes and anything else as JSON. Rejects with
   * the server's reason and `status`.
   */
  publish(channel: string, data: unknown, options?: { event?: string; key?: string; ttl?: number }): Promise<Published>;

  /** Ends it for good. */
  close(): void;
}
