// Polls: asking again and again.

const EAGER_MS = 500; // an answer that brings nothing and comes sooner did not wait

/** Long polling, until it fails. */
export const poll = line => repeat(line, async query => batch(line._comet, await line._get('poll', query), line._channels));

/** Asks until that fails; the first wait is short, to see that it works. */
export async function repeat(line, ask) {
  const { _comet: comet } = line;
  for (let seconds = 1; !line._why; seconds = comet.pollSeconds) {
    const began = Date.now();
    line._alive(seconds * 1000 + comet.patience);
    const { messages, next, gap } = await ask({ timeout: seconds });
    line._open();
    let isNews = gap;
    for (const envelope of messages) isNews = line._take(envelope) || isNews;
    if (!line._why) comet._move(next);
    if (!isNews && Date.now() - began < EAGER_MS) throw Error('a poll was answered at once, with nothing new');
  }
}

/** The messages in the answer to a poll of `channels`; its gaps are told. */
export async function batch(comet, answer, channels) {
  const next = answer.headers.get('Encke-Next'), names = answer.headers.get('Encke-Gap'), { after } = comet;
  const all = { messages: [], next, gap: names, ...answer.status === 200 && await answer.json() };
  // Where the field cannot be read, it is not said on which channel.
  const gaps = names ? names.split(', ').map(decodeURIComponent) : all.gap ? channels : [];
  for (const channel of gaps) comet._take({ gap: { channel, after } });
  return all;
}
