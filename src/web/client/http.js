// Requests: how often they may be made, and who refuses them.

const TURNS = 10, TURNS_MS = 1000; // so many requests in this time at most, whatever the answers are

/** Makes a function that returns when the next request may be made. */
export function turnstile() {
  let times = [];
  return async () => {
    for (let now; now = Date.now(), times = times.filter(time => time <= now && time > now - TURNS_MS), times.length >= TURNS;) {
      await new Promise(done => setTimeout(done, times[0] + TURNS_MS - now));
    }
    times.push(Date.now());
  };
}

/** Whether the server does not want what was asked for, whoever asks however. */
export const isRefusal = ({ status }) => status >= 400 && status < 500 && ![401, 408, 429].includes(status);
