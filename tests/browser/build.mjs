// Makes what the server serves from the client's source: `npm run build` after each change of src/web/encke.js.
// The results are committed, so that building the server takes no Node; a test compares them.

import { readFile, writeFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { minify } from 'terser';

const WEB = new URL('../../src/web/', import.meta.url);
const OPTIONS = {
  module: true,
  ecma: 2020,
  compress: { passes: 3 },
  // What is private, and what only a Line has.
  mangle: { properties: { regex: /^_|^(alive|batch|catchUp|comet|cut|due|opened|timer)$/ } },
};

/** The served files: path → text. */
export async function build() {
  const { code } = await minify(await readFile(new URL('encke.js', WEB), 'utf8'), OPTIONS);
  const [, name] = /export\{(\w+) as Encke\};$/.exec(code) ?? [];
  const [inner, exported] = name ? [code, `export{${name} as Encke};`] : [code.replace('export class', 'class'), ''];
  if (!exported && inner === code) throw Error('the client exports something other than the class Encke');
  const script = `(()=>{${inner.replace(exported, '')}globalThis.Encke=${name ?? 'Encke'}})();`;
  return { 'dist/encke.js': code + '\n', 'dist/encke.global.js': script + '\n' };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [path, text] of Object.entries(await build())) await writeFile(new URL(path, WEB), text);
}
