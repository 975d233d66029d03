// Firefox by the protocol that it speaks itself, WebDriver BiDi (https://w3c.github.io/webdriver-bidi/): no driver is needed.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import WebSocket from 'ws';
import { PATIENCE_MS } from './harness.mjs';

const FIREFOX = process.env.FIREFOX ?? '/usr/bin/firefox-esr';

/** Why Firefox cannot be driven here, or false. */
export const missing = !existsSync(FIREFOX) && `there is no ${FIREFOX}`;

/** Starts a headless Firefox with an empty profile and these preferences. */
export async function startFirefox(preferences = {}) {
  const profile = mkdtempSync(path.join(tmpdir(), 'encke-firefox-'));
  const all = {
    'app.update.enabled': false, 'datareporting.policy.dataSubmissionEnabled': false, 'network.captive-portal-service.enabled': false,
    'network.connectivity-service.enabled': false, 'services.settings.server': 'data:,', 'browser.safebrowsing.update.enabled': false, ...preferences,
  };
  writeFileSync(path.join(profile, 'user.js'),
    Object.entries(all).map(pair => `user_pref(${pair.map(part => JSON.stringify(part)).join(', ')});\n`).join(''));
  const child = spawn(FIREFOX, ['--headless', '--no-remote', '--profile', profile, '--remote-debugging-port', '0', 'about:blank'],
    { stdio: ['ignore', 'ignore', 'pipe'] });
  const gone = once(child, 'exit');
  const address = await new Promise((found, failed) => {
    let log = '';
    child.stderr.on('data', data => {
      const match = /WebDriver BiDi listening on (ws:\S+)/.exec(log += data);
      if (match) found(match[1]);
    });
    gone.then(() => failed(Error(`Firefox left:\n${log}`)));
  });
  const socket = new WebSocket(address + '/session'), waiting = new Map(), events = new Set();
  await once(socket, 'open');
  socket.on('message', text => {
    const { id, result, error, message, method, params } = JSON.parse(text);
    if (method) events.forEach(take => take(method, params));
    const { done, failed } = waiting.get(id) ?? {};
    waiting.delete(id);
    error ? failed?.(Error(`${error}: ${message}`)) : done?.(result);
  });
  let ids = 0;
  const send = (method, params) => new Promise((done, failed) => {
    waiting.set(++ids, { done, failed });
    socket.send(JSON.stringify({ id: ids, method, params }));
  });
  await send('session.new', { capabilities: { alwaysMatch: { unhandledPromptBehavior: { default: 'ignore' } } } });
  await send('session.subscribe', { events: ['browsingContext.userPromptOpened'] });
  /** The next event of a kind that fits. */
  const next = (method, fits) => new Promise(found => {
    const take = (name, params) => {
      if (name !== method || !fits(params)) return;
      events.delete(take);
      found(params);
    };
    events.add(take);
  });
  return {
    openPage: url => openPage(send, next, url),
    async close() {
      socket.terminate();
      child.kill('SIGKILL');
      await gone;
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function openPage(send, next, url) {
  const { context } = await send('browsingContext.create', { type: 'tab' });
  await send('browsingContext.navigate', { context, url, wait: 'complete' });
  /** Runs `task`, which may return a promise, in the page with `argument`; values travel as JSON. */
  const evaluate = async (task, argument) => {
    const expression = `Promise.resolve((${task})(${JSON.stringify(argument)})).then(value => JSON.stringify(value))`;
    const { result, exceptionDetails } = await send('script.evaluate', { expression, target: { context }, awaitPromise: true });
    if (exceptionDetails) throw Error(exceptionDetails.text);
    return result.value && JSON.parse(result.value);
  };
  return {
    evaluate,
    /** Waits until `condition` holds in the page, which looks again every few milliseconds. */
    async until(what, condition, argument) {
      const holds = await evaluate(`async argument => {
        for (const end = performance.now() + ${PATIENCE_MS}; !(${condition})(argument);) {
          if (performance.now() > end) return false;
          await new Promise(done => setTimeout(done, 20));
        }
        return true;
      }`, argument);
      if (!holds) throw Error(`waited in vain until ${what}: ${JSON.stringify(await evaluate(() => window.one ?? window.seen))}`);
    },
    /** Opens a dialog, which stays. */
    async alert() {
      const opened = next('browsingContext.userPromptOpened', prompt => prompt.context === context);
      await evaluate(() => { setTimeout(() => alert('hm?'), 0); });
      await opened;
    },
    closeDialog: () => send('browsingContext.handleUserPrompt', { context, accept: true }),
    close: () => send('browsingContext.close', { context }),
  };
}
