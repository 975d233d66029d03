// The server restarts while its pages are open: without a history on disk they say so, with one they just go on.

import { test, after } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PATIENCE_MS, openPage, startServer } from './harness.mjs';

const timeout = 3 * PATIENCE_MS;
const messages = '.messages';

/** Opens `path`, waits for `count` messages in every panel, kills the server, and starts it again at its address. */
async function restart(path, ready, ...options) {
  const first = await startServer('--demo', '--heartbeat', '1', ...options);
  const page = await openPage(first.url + path);
  page.setDefaultTimeout(2 * PATIENCE_MS);
  await ready(page);
  await first.stop('SIGKILL');
  const server = await startServer('--demo', '--heartbeat', '1', '--listen', `127.0.0.1:${first.port}`, ...options);
  return { page, server };
}

const more = async page => {
  const count = () => page.$$eval(messages, all => Math.min(...all.map(one => Number(one.textContent.replace(',', '')))));
  const before = await count();
  await page.waitForFunction(([messages, before]) => [...document.querySelectorAll(messages)]
    .every(one => Number(one.textContent.replace(',', '')) > before + 5), [messages, before]);
};

test('without a history on disk the first page says that the server was restarted', { timeout }, async () => {
  const { page } = await restart('/', more);
  await page.waitForFunction(() => {
    const notices = [...document.querySelectorAll('.gap')];
    return notices.length === 2 && notices.every(notice => !notice.hidden);
  });
  for (const notice of await page.$$eval('.gap', all => all.map(one => one.textContent))) {
    assert.match(notice, /^The server was restarted, and began a new history\./);
  }
  await page.close();
});

test('so does the ticker, by polls as by streams', { timeout }, async () => {
  for (const technique of ['SSE', 'Polling']) {
    const { page } = await restart('/demo/ticker', async page => {
      await page.click(`.choice button:text-is("${technique}")`);
      await page.waitForFunction(() => document.querySelectorAll('#rows tr').length === 57);
    });
    await page.waitForSelector('#gap:has-text("The server was restarted: a fresh snapshot follows.")');
    await page.close();
  }
});

test('with one they go on where they were, and nothing is lost', { timeout }, async () => {
  const directory = mkdtempSync(join(tmpdir(), 'encke-restart-'));
  after(() => rmSync(directory, { recursive: true, force: true }));
  const { page, server } = await restart('/', more, '--store-dir', join(directory, 'store'));
  await more(page);
  assert.deepEqual(await page.$$eval('.gap', all => all.map(one => one.hidden)), [true, true]);
  const answer = await fetch(`${server.url}/sub/demo/ticks?as=interval&after=oldest&max=1000`, { headers: { Accept: 'application/json' } });
  const { messages: ticks } = await answer.json();
  const dates = ticks.map(tick => tick.data.date);
  assert.ok(new Set(ticks.map(tick => tick.id.split(':')[0])).size === 1 && dates.length > 10, 'one history');
  const turns = dates.filter((date, at) => at && date < dates[at - 1]);
  assert.ok(turns.length <= 1, `the days go on: ${turns}`);
  await page.close();
});
