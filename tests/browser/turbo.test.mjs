// Hotwire Turbo, and Symfony's UX Turbo, unmodified: what an application broadcasts changes the page, in order and once, by
// whatever way it listens; private updates by a cookie; what is said of gaps changes nothing.

import { describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { bundled, numbers, until } from './foreign.mjs';
import { PATIENCE_MS, newContext, openPage, startProxy, startServer } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const KEY = 'a key of thirty-two bytes or more, for the tests of Turbo';
process.env.ENCKE_MERCURE_PUBLISHER_KEY = process.env.ENCKE_MERCURE_SUBSCRIBER_KEY = KEY;
const HUB = '/.well-known/mercure', OPTIONS = ['--heartbeat', '1', '--sse-retry-ms', '200'];
// What UX Turbo makes of a class, and an entity of it.
const CLASS = 'https://symfony.com/ux-turbo/App%5CEntity%5CBook/{id}', entity = id => CLASS.replace('{id}', id);
const content = await bundled('turbo-page.mjs');

function token(mercure) {
  const part = value => Buffer.from(JSON.stringify(value)).toString('base64url');
  const message = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ mercure })}`;
  return `${message}.${createHmac('sha256', KEY).update(message).digest('base64url')}`;
}

/** What an application broadcasts when a book is new, changes, or goes. */
const stream = (action, id, title = '') => `<turbo-stream action="${action}" target="${action === 'append' ? 'books' : 'book_' + id}">\n` +
  `  <template>\n    <li id="book_${id}">${title}</li>\n  </template>\n</turbo-stream>`;

async function broadcast(url, id, data, more) {
  const body = new URLSearchParams({ topic: entity(id), data, ...more });
  const headers = { Authorization: `Bearer ${token({ publish: ['*'] })}` };
  const answer = await fetch(url + HUB, { method: 'POST', headers, body });
  assert.equal(answer.status, 200, await answer.clone().text());
}

for (const way of ['connectStreamSource of Turbo', '<turbo-mercure-stream-source> of UX Turbo', 'Stimulus controller of UX Turbo']) {
  describe(way, () => {
    test('changes the page as the application says, whatever happens to the line', { timeout }, async () => {
      const server = await startServer(...OPTIONS), proxy = await startProxy(server.port);
      const context = await newContext();
      await context.addCookies([{ name: 'mercureAuthorization', value: token({ subscribe: [CLASS] }), url: proxy.url + HUB, httpOnly: true, sameSite: 'Strict' }]);
      const page = await openPage(proxy.url + '/healthz', context);
      await page.addScriptTag({ content });
      await page.evaluate(([way, hub, topic]) => window.listen(way, hub, topic), [way, proxy.url + HUB, CLASS]);
      const shown = () => page.evaluate(() => [...document.querySelectorAll('#books li')].map(({ textContent }) => textContent));
      const expect = async titles => {
        await until(`the page shows ${titles}`, async () => (await shown()).join() === titles.join())
          .catch(async error => { throw Error(`${error.message}: it shows ${await shown()}`); });
      };
      const listens = async count => until(`it listens for the ${count}. time`, async () => (await server.stats()).streams_started >= count);
      await listens(1);
      for (const id of numbers(0, 5)) await broadcast(server.url, id, stream('append', id, `one ${id}`));
      await expect(numbers(0, 5).map(id => `one ${id}`));
      const before = (await server.stats()).heartbeats;
      await until('there were heartbeats', async () => (await server.stats()).heartbeats > before + 1);
      // Two in one, private, in a type of its own, and of another class.
      await broadcast(server.url, 1, `${stream('replace', 1, 'two 1')}\n${stream('remove', 3)}`);
      await broadcast(server.url, 4, stream('replace', 4, 'private 4'), { private: 'on' });
      await broadcast(server.url, 0, stream('remove', 0), { type: 'other' });
      await broadcast(server.url, 'x/0', stream('remove', 0));
      await broadcast(server.url, 5, stream('append', 5, 'one 5'));
      const titles = ['one 0', 'two 1', 'one 2', 'private 4', 'one 5'];
      await expect(titles);
      // What comes while the line is cut comes once.
      proxy.set({ mercure: 'cut' });
      for (const id of numbers(6, 9)) await broadcast(server.url, id, stream('append', id, `one ${id}`));
      proxy.set({});
      await listens(2);
      await broadcast(server.url, 9, stream('append', 9, 'one 9'));
      titles.push(...numbers(6, 10).map(id => `one ${id}`));
      await expect(titles);
      // A restart, of whose gap Turbo is told: the page stays as it is, and goes on.
      await server.stop('SIGTERM');
      const again = await startServer(...OPTIONS, '--listen', `127.0.0.1:${server.port}`);
      await broadcast(again.url, 10, stream('append', 10, 'one 10'));
      titles.push('one 10');
      await expect(titles);
      await page.close();
    });
  });
}
