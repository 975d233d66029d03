// The page of operators: what it shows, what it does, and that it shows nothing to others.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE_MS, newContext, openPage, startServer } from './harness.mjs';

const timeout = 2 * PATIENCE_MS;
const wait = (page, condition, argument) => page.waitForFunction(condition, argument, { timeout: PATIENCE_MS, polling: 20 });
const isLive = page => wait(page, () => document.querySelector('#state').textContent === 'live');
const rows = (page, list) => page.evaluate(list => [...document.querySelectorAll(`#${list} tr`)].map(row => row.innerText), list);

test('figures, channels and connections are shown, a message is published, a connection is ended', { timeout }, async () => {
  const server = await startServer(), holder = new AbortController(), evil = '<img src=x onerror="window.evil=1">';
  await server.publish(evil, [{ text: evil }]);
  await server.publish('news', [1, 2, 3]);
  const stream = (await fetch(server.url + '/sub/news?as=stream', { signal: holder.signal })).body.getReader();
  const page = await openPage(server.url + '/admin'), wrong = [];
  page.on('pageerror', error => wrong.push(String(error)));
  await isLive(page);
  await wait(page, () => /Delivered a second/.test(document.querySelector('#readings').innerText) && document.querySelectorAll('#curves path').length === 5);
  await wait(page, () => document.querySelectorAll('#channels tr').length === 2 && document.querySelectorAll('#connections tr').length >= 2);
  await wait(page, () => /stream/.test(document.querySelector('#techniques').innerText));

  // What others have named and written is text.
  assert.ok((await rows(page, 'channels')).some(row => row.startsWith(evil)));
  await page.getByRole('button', { name: evil }).click();
  await wait(page, () => document.querySelector('#detail').open && /recent/.test(document.querySelector('#detail pre').textContent));
  await page.getByRole('button', { name: 'Close' }).click();
  assert.equal(await page.evaluate(() => window.evil), undefined);

  await page.fill('#find-channels input', 'new');
  await wait(page, () => document.querySelectorAll('#channels tr').length === 1);
  await page.fill('#publish input[name=channel]', 'news');
  await page.fill('#publish input[name=data]', '{"from":"admin"}');
  await page.locator('#publish button').click();
  await wait(page, () => /1 subscriber$/.test(document.querySelector('#published').textContent));
  let said = '';
  while (!said.includes('{"from":"admin"}')) said += new TextDecoder().decode((await stream.read()).value);

  await page.fill('#find-connections input', 'news');
  await wait(page, () => document.querySelectorAll('#connections tr').length === 1 && document.querySelector('#connections button'));
  await page.getByRole('button', { name: 'Why' }).click();
  await wait(page, () => /round trip us: \d+/.test(document.querySelector('#detail pre').textContent));
  await page.getByRole('button', { name: 'Close' }).click();
  page.on('dialog', dialog => dialog.accept());
  await page.getByRole('button', { name: 'End' }).click();
  await assert.rejects(async () => { while (!(await stream.read()).done); throw Error('ended'); });
  await wait(page, () => document.querySelectorAll('#connections tr').length === 0);
  assert.deepEqual(wrong, []);
  await page.close();
});

test('it comes back after a restart', { timeout }, async () => {
  const server = await startServer(), page = await openPage(server.url + '/admin');
  await isLive(page);
  await server.stop('SIGKILL');
  await wait(page, () => document.querySelector('#state').textContent === 'trying again');
  const again = await startServer('--listen', `127.0.0.1:${server.port}`), { epoch } = await again.stats();
  await isLive(page);
  await wait(page, epoch => document.querySelector('#about').textContent.endsWith(epoch), epoch);
  await page.close();
});

test('with a token, it asks for it', { timeout }, async () => {
  process.env.ENCKE_PUBLISH_TOKEN = 'a-token-that-is-long-enough';
  const server = await startServer();
  delete process.env.ENCKE_PUBLISH_TOKEN;
  const page = await openPage(server.url + '/admin');
  await page.fill('#login input', 'wrong');
  await page.locator('#login button').click();
  await wait(page, () => document.querySelector('#state').textContent === 'no access');
  await page.fill('#login input', 'a-token-that-is-long-enough');
  await page.locator('#login button').click();
  await isLive(page);
  await page.close();
});

test('it fits a telephone and a wide window, light and dark', { timeout }, async () => {
  const server = await startServer(), context = await newContext();
  for (const [width, colorScheme] of [[390, 'light'], [390, 'dark'], [1400, 'light'], [1400, 'dark']]) {
    const page = await openPage(server.url + '/admin', context);
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme });
    await isLive(page);
    await wait(page, () => document.querySelectorAll('#curves path').length === 5);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
    await page.close();
  }
});
