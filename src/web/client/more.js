// What is not needed by everybody is in a second file. The server serves it apart (client/lazy.js stands here then).

import * as rest from '../encke.more.js';

/** Does something with it. */
export const more = async use => use(rest);
