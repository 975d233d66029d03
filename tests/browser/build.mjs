// Makes what the server serves from the client's source: `npm run build` after each change of src/web/encke.js or
// what it imports. The results are committed, so that building the server takes no Node; a test compares them.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import * as esbuild from 'esbuild';
import { minify } from 'terser';

const WEB = new URL('../../src/web/', import.meta.url);
const MORE = 'encke.more.js';

// The second file stays one of its own, beside the first.
const lazy = {
  name: 'lazy',
  setup: build => {
    build.onResolve({ filter: /\/more\.js$/ }, ({ path, resolveDir }) => ({ path: join(resolveDir, path.replace('more', 'lazy')) }));
    build.onResolve({ filter: /\/encke\.more\.js$/ }, ({ path, kind }) => kind === 'dynamic-import' ? { path, external: true } : undefined);
  },
};

async function bundle(file) {
  const entryPoints = [fileURLToPath(new URL(file, WEB))];
  const { outputFiles } = await esbuild.build({
    entryPoints, bundle: true, format: 'esm', target: 'es2022', write: false, plugins: [lazy],
  });
  return outputFiles[0].text;
}

/** The served files: path → text. */
export async function build() {
  // What is private has the same short names in all of them.
  const names = { props: {} };
  const small = async text => {
    const { code } = await minify(text, {
      module: true,
      ecma: 2020,
      compress: { passes: 3, unsafe: true, unsafe_arrows: true, pure_getters: true },
      mangle: { properties: { regex: /^_/ } },
      nameCache: names,
    });
    return code;
  };
  const code = await small(await bundle('encke.js')), more = await small(await bundle(MORE));
  const [end, name] = /export\{(\w+) as Encke\};$/.exec(code) ?? [];
  if (!end) throw Error('the client exports something other than the class Encke');
  // A script of another origin does not know where it comes from when it imports; the page does when it begins.
  const inner = code.replace(end, '').replace(`import("./${MORE}")`, `import(src?new URL("./${MORE}",src):"./${MORE}")`);
  if (!inner.includes('import(src')) throw Error('the client does not load its second file');
  const script = `(()=>{const src=globalThis.document?.currentScript?.src;${inner}globalThis.Encke=${name}})();`;
  return { 'dist/encke.js': code + '\n', 'dist/encke.global.js': script + '\n', ['dist/' + MORE]: more + '\n' };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  for (const [path, text] of Object.entries(await build())) {
    await writeFile(new URL(path, WEB), text);
    await writeFile(new URL(path + '.gz', WEB), gzipSync(text, { level: 9 }));
  }
}
