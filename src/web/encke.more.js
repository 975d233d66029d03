// What the client loads when it needs it: the tabs that share a line, polling, what is rarer still.

export { join, joined } from './client/join.js';
export { jsonp } from './client/jsonp.js';
export { poll } from './client/poll.js';
export { presence } from './client/presence.js';
export { problem } from './client/problem.js';
export { publish } from './client/publish.js';
export { ended, renew } from './client/renew.js';
export { sift } from './client/sift.js';
export { Tabs } from './client/tabs.js';
export { Values } from './client/values.js';
