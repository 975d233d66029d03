// What tests of clients that are not ours share: libraries in a page, and waiting for what they say.

import { fileURLToPath } from 'node:url';
import * as esbuild from 'esbuild';
import { PATIENCE_MS, openPage } from './harness.mjs';

export const numbers = (from, to) => Array.from({ length: to - from }, (_, n) => from + n);

/** Waits until `look()` holds. */
export async function until(what, look) {
  for (const end = Date.now() + PATIENCE_MS; !await look();) {
    if (Date.now() > end) throw Error(`waited in vain until ${what}`);
    await new Promise(done => setTimeout(done, 20));
  }
}

/** The module `file` with all that it imports, as a script for pages. */
export async function bundled(file) {
  const { outputFiles: [script] } = await esbuild.build({
    entryPoints: [fileURLToPath(new URL(file, import.meta.url))], bundle: true, format: 'iife', write: false,
  });
  return script.text;
}

/** The libraries that the module `file` brings, each in a page of its own; `seen()` tells what `listen` has noted. */
export async function librariesOf(file) {
  const content = await bundled(file);
  return name => async (origin, url) => {
    const page = await openPage(origin + '/healthz');
    await page.addScriptTag({ content });
    await page.evaluate(([name, url]) => window.listen(name, url), [name, url]);
    return { seen: () => page.evaluate(() => ({ ...window.seen, take: undefined })), close: () => page.close() };
  };
}
