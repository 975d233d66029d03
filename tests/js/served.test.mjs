// What is served of the client.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import vm from 'node:vm';
import { gzipSync } from 'node:zlib';

const BYTES_MAX = 4640; // what every page loads
const MORE_BYTES_MAX = 4864; // what it loads when it shares a line among tabs, has to poll, publishes, looks who is here, …
const served = name => new URL(`../../src/web/dist/${name}`, import.meta.url);

for (const [name, max] of [['encke.js', BYTES_MAX], ['encke.global.js', BYTES_MAX], ['encke.more.js', MORE_BYTES_MAX]]) {
  test(`${name} is at most ${max} bytes when compressed`, async context => {
    const { length } = gzipSync(await readFile(served(name)), { level: 9 });
    context.diagnostic(`${name}: ${length} bytes`);
    assert.ok(length <= max, `${name} has ${length}`);
  });
}

test('both forms have the same class', async () => {
  const { Encke } = await import(served('encke.js'));
  const context = vm.createContext({});
  vm.runInContext(await readFile(served('encke.global.js'), 'utf8'), context);
  const members = type => Object.getOwnPropertyNames(type.prototype);
  assert.deepEqual([...members(context.Encke)], members(Encke));
  for (const name of ['on', 'off', 'subscribe', 'unsubscribe', 'publish', 'close']) assert.ok(members(Encke).includes(name), name);
});
