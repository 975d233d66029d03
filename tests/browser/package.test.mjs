// The client as a package: what is packed, that bundlers and TypeScript take it, and that it works in Node and Deno.

import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import { PATIENCE_MS, startServer } from './harness.mjs';

const WEB = fileURLToPath(new URL('../../src/web/', import.meta.url));
const MODULES = fileURLToPath(new URL('node_modules/', import.meta.url));
const timeout = 2 * PATIENCE_MS;
const folder = mkdtempSync(`${tmpdir()}/encke-package-`), write = (name, text) => writeFileSync(`${folder}/${name}`, text);
after(() => rmSync(folder, { recursive: true }));

before(() => {
  const [{ filename }] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { cwd: WEB, stdio: ['ignore', 'pipe', 'ignore'] }));
  mkdirSync(`${folder}/node_modules/encke`, { recursive: true });
  execFileSync('tar', ['xzf', `${folder}/${filename}`, '--strip-components=1', '-C', `${folder}/node_modules/encke`]);
  write('package.json', '{"type":"module"}');
});

test('the package has what is needed and nothing else', () => {
  const files = readdirSync(`${folder}/node_modules/encke`, { recursive: true }).sort();
  assert.deepEqual(files, ['README.md', 'dist', 'dist/encke.global.js', 'dist/encke.js', 'dist/encke.more.js', 'encke.d.ts',
    'encke.global.d.ts', 'package.json']);
});

test('a bundler takes it, with the second file as a part of its own', async () => {
  write('page.js', `import { Encke } from 'encke'; globalThis.comet = new Encke('http://push.test', { channels: 'a' });`);
  const { outputFiles } = await esbuild.build({
    entryPoints: [`${folder}/page.js`], bundle: true, splitting: true, format: 'esm', write: false, outdir: `${folder}/out`,
  });
  assert.ok(outputFiles.length >= 2);
});

/** What tsc says of a program, at its strictest. */
function compile(name, text, lib, modules = 'bundler') {
  write(name, text);
  write('tsconfig.json', JSON.stringify({
    compilerOptions: {
      strict: true, noEmit: true, target: 'es2022', types: [], noUncheckedIndexedAccess: true, exactOptionalPropertyTypes: true,
      lib, module: modules === 'bundler' ? 'esnext' : modules, moduleResolution: modules,
    },
    files: [name],
  }));
  try {
    return execFileSync(process.execPath, [`${MODULES}typescript/bin/tsc`], { cwd: folder, encoding: 'utf8' });
  } catch (error) {
    return error.stdout;
  }
}

const PROGRAM = `
import { Encke, type Gap, type Message, type Published, type State, type Technique } from 'encke';
const techniques = ['sse', 'poll'] as const;
const comet = new Encke('https://push.example', { channels: 'one', techniques, token: async () => 't', credentials: 'include' });
new Encke(undefined, { channels: new Set(['a']) });
new Encke('https://push.example', { channels: ['a', 'b'] as const, after: '-5', share: false, patience: 1, heartbeat: 1, pollSeconds: 1 });
comet.on('message', ({ id, channel, data }: Message<{ price: number }>) => id + channel + data.price)
  .on('gap', (gap: Gap) => gap.oldest?.length).on('state', ({ state, refused, error }: State) => state === 'open' && refused?.join() + String(error));
comet.subscribe('a', ['b'] as readonly string[]);
comet.unsubscribe('a');
const values: ReadonlyMap<string, { price: number }> = new Encke('https://push.example', { latest: true, rate: 2, delta: true }).values('a');
const published: Promise<Published> = comet.publish('a', new Uint8Array(1), { ttl: 5 });
const technique: Technique | undefined = comet.technique;
comet.channels.has('a');
comet.token = 'other';
comet.close();
export { published, technique, values };
`;

for (const [what, ...options] of [
  ['in a page', ['es2022', 'dom']],
  ['in Node, without the types of pages', ['es2022'], 'nodenext'],
  ['in a worker', ['es2022', 'webworker']],
]) test(`the types are strict and true ${what}`, { timeout }, () => assert.equal(compile('program.ts', PROGRAM, ...options), ''));

test('the types of the global build', { timeout }, () => {
  const text = `/// <reference types="encke/global" />\nconst comet: Encke = new Encke('', { channels: ['a'] });\ncomet.close();\n`;
  assert.equal(compile('page.ts', text, ['es2022', 'dom']), '');
});

test('the types refuse what is wrong', { timeout }, () => {
  const wrong = [`new Encke('', { channels: 7 })`, `new Encke('', { techniques: ['smoke'] })`, `new Encke('').on('news', () => {})`,
    `new Encke('').subscribe(7)`, `new Encke('').after = 'x'`, `new Encke('', { credentials: 'yes' })`];
  const said = compile('wrong.ts', `import { Encke } from 'encke';\n${wrong.join(';\n')};\n`, ['es2022'], 'nodenext');
  wrong.forEach((text, i) => assert.match(said, new RegExp(`wrong\\.ts\\(${i + 2},\\d+\\): error TS2`), text));
});

test('every member that the types name is there', async () => {
  const { Encke } = await import(`${folder}/node_modules/encke/dist/encke.js`);
  const comet = new Encke('http://127.0.0.1:9', { channels: [], share: false });
  for (const name of ['url', 'channels', 'after', 'state', 'on', 'off', 'subscribe', 'unsubscribe', 'publish', 'values', 'close']) assert.ok(name in comet, name);
  comet.close();
});

const PROGRAM_IN_NODE = `
import { Encke } from 'encke';
const comet = new Encke(process.argv[2], { channels: ['node/a'] }), seen = [];
comet.on('state', async ({ state, technique }) => {
  if (state !== 'open' || seen.length) return;
  seen.push(technique);
  await comet.publish('node/a', { n: 1 });
  await comet.publish('node/a', new Uint8Array([1, 255]));
  await comet.publish('node/a', new Blob(['text']));
});
comet.on('message', ({ data }) => {
  if (seen.push(data) < 4) return;
  console.log(JSON.stringify(seen, (key, value) => value instanceof Uint8Array ? [...value] : value));
  comet.close();
});
`;

for (const [what, text] of [
  ['in Node', PROGRAM_IN_NODE],
  ['in a worker of Node', `import { Worker } from 'node:worker_threads'; new Worker('./program.mjs', { argv: process.argv.slice(2) });`],
]) {
  test(`it works ${what}, and lets the process end`, { timeout }, async () => {
    const server = await startServer();
    write('program.mjs', PROGRAM_IN_NODE);
    write('main.mjs', text);
    const said = execFileSync(process.execPath, ['main.mjs', server.url], { cwd: folder, encoding: 'utf8', timeout: PATIENCE_MS });
    const [technique, ...data] = JSON.parse(said);
    assert.ok(['websocket', 'sse'].includes(technique), technique);
    assert.deepEqual(data, [{ n: 1 }, [1, 255], 'text']);
  });
}

const DENO = ['run', '--no-lock', '--allow-net', '--allow-read', '--allow-env'];

/** Runs a program by Deno; throws if the process does not end by itself. */
const runDeno = (...args) => execFileSync(`${MODULES}.bin/deno`, [...DENO, ...args],
  { cwd: folder, encoding: 'utf8', timeout: PATIENCE_MS, env: { ...process.env, DENO_DIR: `${folder}/deno`, DENO_NO_UPDATE_CHECK: '1' } });

test('it works in Deno, and lets the process end', { timeout }, async () => {
  const server = await startServer();
  write('program.mjs', PROGRAM_IN_NODE);
  const [technique, ...data] = JSON.parse(runDeno('program.mjs', server.url));
  assert.ok(['websocket', 'sse'].includes(technique), technique);
  assert.deepEqual(data, [{ n: 1 }, [1, 255], 'text']);
});

// Deno forgets the signals of requests when it collects garbage: neither a line that is replaced when a channel joins nor
// one that is closed may stay open for that.
for (const technique of ['websocket', 'sse', 'stream', 'poll']) {
  test(`in Deno, close() lets the process end after a channel has joined by ${technique}`, { timeout }, async () => {
    const server = await startServer();
    write('join.mjs', `
      import { Encke } from 'encke';
      const [url, technique] = Deno.args, comet = new Encke(url, { channels: ['deno/a'], techniques: [technique], share: false });
      const then = [() => comet.subscribe('deno/b'), () => comet.publish('deno/b', 'hello')];
      comet.on('state', ({ state }) => {
        if (state !== 'open' || !then.length) return;
        gc();
        then.shift()();
      });
      comet.on('message', ({ channel, data }) => {
        console.log(channel, data);
        gc();
        comet.close();
      });
    `);
    assert.equal(runDeno('--v8-flags=--expose-gc', 'join.mjs', server.url, technique), 'deno/b hello\n');
  });
}

test('it is a symbolic link away for who works on it', () => {
  symlinkSync(WEB, `${folder}/node_modules/linked`);
  execFileSync(process.execPath, ['--input-type=module', '-e', `import { Encke } from 'linked'; if (typeof Encke !== 'function') throw 0`], { cwd: folder });
});
