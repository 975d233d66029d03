// What is committed is what the source makes.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { build } from './build.mjs';

test('the served client is made from its source', async () => {
  for (const [path, text] of Object.entries(await build())) {
    const file = new URL('../../src/web/' + path, import.meta.url), packed = new URL(file.href + '.gz');
    for (const committed of [await readFile(file), gunzipSync(await readFile(packed))]) {
      assert.ok(committed.toString() === text, `src/web/${path} is stale: run \`npm run build\` in tests/browser`);
    }
  }
});
