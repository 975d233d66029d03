// What is committed is what the source makes.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { build } from './build.mjs';

test('the served client is made from its source', async () => {
  for (const [path, text] of Object.entries(await build())) {
    const committed = await readFile(new URL('../../src/web/' + path, import.meta.url), 'utf8');
    assert.ok(committed === text, `src/web/${path} is stale: run \`npm run build\` in tests/browser`);
  }
});
