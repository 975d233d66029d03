// FDAjax in a real browser: pages that send exactly what the module's own client sent, and evaluate what comes as it
// did. That client ran on Prototype 1.5; here is what of it reaches the wire.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, test } from 'node:test';
import { chromium } from 'playwright-core';

const BINARY = process.env.ENCKE ?? new URL('../../target/debug/encke', import.meta.url).pathname;
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const PATIENCE_MS = 60000;
const timeout = 3 * PATIENCE_MS;

/** The options of the demo pages, but what is kept is kept for longer than any test waits. */
const OPTIONS = [
  '--fdajax', '--fdajax-session-cookie=PHPSESSID', '--fdajax-mes-live-max=60000', '--fdajax-win-timeout=60000',
  '--fdajax-allow-peer-call=chat,gchat', '--fdajax-js-peer-func=fdajax.peer_call',
  '--fdajax-js-grp-peer-func=fdajax.grp_peer_call', '--fdajax-js-logout-code=fdajax.stoploop();',
  '--fdajax-js-maxwin-code=fdajax.maxwin();', '--fdajax-js-nocookies=fdajax.nocookies();',
  '--fdajax-js-notfound=fdajax.notfound();', '--fdajax-js-no-guests=fdajax.no_guests();',
  '--fdajax-js-ping-code=fdajax.ping();', '--fdajax-js-relogin=fdajax.relogin', '--fdajax-js-redirect=fdajax.redirect',
  '--fdajax-js-alert-id-func=unw.set_alert_id',
  '--fdajax-html-begin=<html><head><script>var fdajax = parent.fdajax;</script></head><body>',
];

/** The client: what the module's fdajax.js did, as far as it can be seen from outside. */
const CLIENT = `<!DOCTYPE html><title>FDAjax</title><script>
const log = [];
var unw = {
  set_alert_id: id => log.push('alert ' + id),
  show: text => log.push('unwanted ' + text),
};
function show(text) { log.push('show ' + text); }
// Prototype encodes as encodeURIComponent does and adds an empty parameter on some browsers.
function request(parameters, done, asynchronous = true) {
  const query = Object.entries(parameters).map(([name, value]) => name + '=' + encodeURIComponent(value)).join('&');
  const xhr = new XMLHttpRequest();
  xhr.open('get', '/live.fdajax?' + query + '&_=', asynchronous);
  xhr.setRequestHeader('X-Requested-With', 'XMLHttpRequest');
  xhr.setRequestHeader('Accept', 'text/javascript, text/html, application/xml, text/xml, */*');
  xhr.onreadystatechange = () => {
    if (xhr.readyState !== 4) return;
    const is_success = xhr.status >= 200 && xhr.status < 300;
    // Prototype evaluates scripts by itself; the client would then evaluate them a second time.
    const type = xhr.getResponseHeader('Content-type') || '';
    if (type.match(/^(text|application)\\/(x-)?(java|ecma)script(;.*)?$/i)) log.push('evaluated twice');
    done(is_success, xhr.responseText);
  };
  xhr.send(null);
}
var fdajax = {
  user_id: 0, win_id: 1 + Math.floor(Math.random() * 2147483646), running: false,
  start(parameters) {
    Object.assign(fdajax, parameters, { running: true });
    fdajax.poll();
  },
  poll() {
    const { user_id, win_id, types, force } = fdajax;
    const parameters = { cmd: 'wait', ...(force ? { force } : {}), user_id, win_id, types };
    request(parameters, (is_success, text) => {
      if (!fdajax.running) return;
      if (is_success) window.eval(text);
      else log.push('failure');
      if (fdajax.running) setTimeout(fdajax.poll, is_success ? 50 : 10000);
    });
  },
  unload() {
    fdajax.running = false;
    const { user_id, win_id } = fdajax;
    // Browsers of today refuse a synchronous request of a page that leaves; the server then sees it leave.
    try { request({ cmd: 'cancel', user_id, win_id, mes: 'noresult' }, () => {}, false); } catch { }
  },
  stop(why) { fdajax.running = false; log.push(why); },
  stoploop: () => fdajax.stop('stoploop'), maxwin: () => fdajax.stop('maxwin'),
  nocookies: () => fdajax.stop('nocookies'), notfound: () => fdajax.stop('notfound'),
  no_guests: () => fdajax.stop('no_guests'), relogin: why => fdajax.stop('relogin ' + why),
  ping: () => log.push('ping'),
  redirect(slot) {
    fdajax.running = false;
    location.host = location.host.replace(/^www\\d?/, 'www' + slot);
  },
  peer_call: (user, type, id, ...rest) => log.push(['peer', user, type, id, ...rest].join(' ')),
  grp_peer_call: (user, type, ...rest) => log.push(['group', user, type, ...rest].join(' ')),
  say: (nick, text) => request({
    cmd: 'chat_sig', user_id: fdajax.user_id, types: 'gchat', mes: JSON.stringify(nick) + ',' + JSON.stringify(text),
  }, (is_success, word) => log.push(word)),
};
window.onbeforeunload = fdajax.unload;
if (location.hash) fdajax.start(JSON.parse(decodeURIComponent(location.hash.slice(1))));
</script>`;

async function startServer() {
  const child = spawn(BINARY, ['serve', '--listen', '127.0.0.1:0', ...OPTIONS], { stdio: ['ignore', 'ignore', 'pipe'] });
  after(() => child.kill('SIGKILL'));
  return new Promise((found, failed) => {
    let said = '';
    child.stderr.on('data', data => {
      const match = /listening on \S+:(\d+)/.exec(said += data);
      if (match) found(+match[1]);
    });
    child.on('exit', () => failed(Error(`the server left:\n${said}`)));
  });
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'], timeout: PATIENCE_MS });
after(() => browser.close());

/** A site for one test: a window is also given what came in the second before it, so tests must not share a server. */
async function startSite() {
  const port = await startServer();
  const host = slot => `http://www${slot}.fd.localhost:${port}`;

  /** A browser with that session. */
  async function visitor(session) {
    const context = await browser.newContext();
    await context.addCookies([{ name: 'PHPSESSID', value: session, domain: '.fd.localhost', path: '/' }]);
    await context.route('**/page.html', route => route.fulfill({ contentType: 'text/html', body: CLIENT }));
    return context;
  }

  /** A window of a visitor, whose client runs with these parameters. */
  async function openWindow(context, parameters, slot = '') {
    const page = await context.newPage();
    page.on('pageerror', error => page.evaluate(text => log.push('error ' + text), String(error)).catch(() => {}));
    await page.goto(`${host(slot)}/page.html#${encodeURIComponent(JSON.stringify(parameters))}`);
    return page;
  }

  /** What the application is answered. */
  async function admin(query) {
    const answer = await fetch(`http://127.0.0.1:${port}/live.fdajax?${query}`);
    assert.equal(answer.status, 200, query);
    return answer.text();
  }

  /** Waits until that many subscribers listen to a channel. */
  async function listeners(channel, count) {
    await until(`${count} listen to ${channel}`, async () => {
      const answer = await fetch(`http://127.0.0.1:${port}/pub/${channel}`, { headers: { Accept: 'application/json' } });
      return (answer.ok ? (await answer.json()).subscribers : 0) === count;
    });
  }
  return { host, visitor, openWindow, admin, listeners };
}

/** Waits until `condition` holds. */
async function until(what, condition) {
  for (const deadline = Date.now() + PATIENCE_MS; !await condition();) {
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await new Promise(later => setTimeout(later, 20));
  }
}

/** Waits until a page has logged these lines, and no others. */
async function logged(page, ...lines) {
  const deadline = Date.now() + PATIENCE_MS;
  let log;
  while (Date.now() < deadline) {
    log = await page.evaluate(() => log).catch(() => []);
    if (log.length >= lines.length) break;
    await new Promise(later => setTimeout(later, 20));
  }
  assert.deepEqual(log, lines);
}

test('two guests chat through a group', { timeout }, async () => {
  const { visitor, openWindow, listeners } = await startSite();
  const [ann, bob] = await Promise.all([visitor('ann'), visitor('bob')]);
  const parameters = { types: 'gchat', force: 1 };
  const [a, b] = [await openWindow(ann, parameters), await openWindow(bob, parameters)];
  await listeners('fdajax/groups/gchat', 2);
  await a.evaluate(() => fdajax.say('ann', 'Hi, "Bob" </script> (~!*) é €'));
  const hi = 'group 0 gchat ann Hi, "Bob" </script> (~!*) é €';
  await logged(b, hi);
  // Its own words come by one connection, and what they were answered by another.
  await a.waitForFunction(() => log.length >= 2, undefined, { timeout: PATIENCE_MS });
  assert.deepEqual((await a.evaluate(() => log)).toSorted(), ['CMD_OK', hi]);
  await b.evaluate(() => fdajax.say('bob', 'Hello'));
  await b.waitForFunction(() => log.includes('CMD_OK') && log.includes('group 0 gchat bob Hello'), undefined,
    { timeout: PATIENCE_MS });
  await a.close();
  // The client that left frees its place; the other goes on.
  await b.evaluate(() => fdajax.say('bob', 'Bye'));
  await b.waitForFunction(() => log.includes('group 0 gchat bob Bye'), undefined, { timeout: PATIENCE_MS });
  await Promise.all([ann.close(), bob.close()]);
});

test('a second window is sent to another slot, and both get what comes', { timeout }, async () => {
  const { host, visitor, openWindow, admin, listeners } = await startSite();
  assert.equal(await admin('cmd=login&user_id=5&ip_addr=127.0.0.1&sess_id=five'), 'LOGIN_OK');
  const five = await visitor('five');
  const first = await openWindow(five, { user_id: 5, types: 'mes|feed' });
  await listeners('fdajax/users/5', 2);
  const second = await openWindow(five, { user_id: 5, types: 'mes|feed' });
  await second.waitForURL(host(1) + '/**', { timeout: PATIENCE_MS });
  await listeners('fdajax/users/5', 3);
  assert.equal(await admin('cmd=push&peer_id=5&types=mes&mes=' + encodeURIComponent('show("to both")')), 'CMD_OK');
  await Promise.all([first, second].map(page => logged(page, 'show to both')));
  assert.equal(await admin('cmd=logout&user_id=5'), 'LOGOUT_OK');
  // Between two polls the page learns of it by the next, which finds no session.
  await second.waitForFunction(() => log.length === 2, undefined, { timeout: PATIENCE_MS });
  const end = await second.evaluate(() => log[1]);
  assert.ok(['stoploop', 'notfound'].includes(end), end);
  await five.close();
});

test('an alert waits for the next page, until it is dismissed', { timeout }, async () => {
  const { visitor, openWindow, admin } = await startSite();
  assert.equal(await admin('cmd=login&user_id=6&ip_addr=127.0.0.1&sess_id=six'), 'LOGIN_OK');
  assert.equal(await admin('cmd=alert&peer_id=6&mes=' + encodeURIComponent('show("call home")')), 'CMD_OK');
  assert.equal(await admin('cmd=push&peer_id=6&types=chat,1&mes=' + encodeURIComponent('show("hi")')), 'CMD_OK');
  const six = await visitor('six');
  const page = await openWindow(six, { user_id: 6, types: 'unw|mes' });
  await logged(page, 'alert 1', 'show call home', 'alert 2', 'unwanted hi');
  const dismiss = id => page.evaluate(id => new Promise(done =>
    request({ cmd: 'cancel', user_id: 6, alert_id: id }, (_, word) => done(word))), id);
  assert.equal(await dismiss(1), 'CLOSED');
  assert.equal(await dismiss(1), 'NOT_FOUND');
  // A window between two polls keeps its slot for a while, and the page would be sent to another.
  await until('it waits again', async () => (await admin('cmd=info')).includes('<td>open</td>'));
  await page.reload();
  await logged(page, 'alert 2', 'unwanted hi');
  await six.close();
});

test('a hidden frame streams', { timeout }, async () => {
  const { visitor, openWindow, admin, listeners } = await startSite();
  const seven = await visitor('seven');
  const page = await openWindow(seven, { types: 'gchat' });
  await listeners('fdajax/groups/gchat', 1);
  await page.evaluate(() => {
    fdajax.show = show;
    const frame = document.createElement('iframe');
    frame.style.display = 'none';
    frame.src = '/live.fdajax?cmd=stream&force=1&user_id=0&win_id=77&types=feed&win_st=1';
    document.body.append(frame);
  });
  await logged(page, 'maxwin');
  await listeners('fdajax/groups/feed', 1);
  for (const [n, text] of ['one', 'two\\nlines', 'drei'].entries()) {
    await admin('cmd=push&types=feed&mes=' + encodeURIComponent(`fdajax.show("${text}")`));
    await page.waitForFunction(n => log.length === n + 2, n, { timeout: PATIENCE_MS });
  }
  await logged(page, 'maxwin', 'show one', 'show two\nlines', 'show drei');
  const word = await page.evaluate(() => new Promise(done =>
    request({ cmd: 'cancel', user_id: 0, win_id: 77 }, (_, word) => done(word))));
  assert.equal(word, 'CLOSED');
  await listeners('fdajax/groups/feed', 0);
  await seven.close();
});
