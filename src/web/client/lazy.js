// In what is served: the second file is loaded when it is needed.

let loaded;

/** Does something with it; what cannot be loaded is tried again the next time. */
export const more = use => (loaded ??= import('./encke.more.js')).then(use, error => {
  loaded = 0;
  throw error;
});
