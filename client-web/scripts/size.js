// What the client costs a page, as esbuild bundles and minifies it, in brotli.
//
// - core: what `import { Fanwire } from 'fanwire'` loads at once: EventSource's face, SSE, exactness, coming back
// - webtransport: with what joins a tenth of a second later: WebTransport, the choice between the two, memory, watching the page
// - whole: with what is loaded when it is used: SSE by fetch, tokens, changing topics, iterating, publishing, other ways of delivery

import { build } from 'esbuild';
import { brotliCompressSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';

/** In brotli. */
export const BYTES_MAX = { core: 5000, webtransport: 10_000, whole: 14_500 };

const source = (path) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));
/** What is loaded later and is counted. */
const LATER = { core: /^$/, webtransport: /beside|choice|webtransport|feed|control|discovery|frames/, whole: /./ };

/** @param {RegExp} counted */
async function bundled(counted) {
  const later = {
    name: 'later',
    setup({ onResolve }) {
      onResolve({ filter: /.*/ }, ({ path, kind }) => (kind === 'dynamic-import' && !counted.test(path) ? { path, external: true } : undefined));
    },
  };
  const { outputFiles } = await build({
    entryPoints: [source('fanwire.js')], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, plugins: [later],
  });
  const [{ contents }] = outputFiles;
  return { minified: contents.length, brotli: brotliCompressSync(contents).length };
}

export async function sizes() {
  const measured = Object.entries(LATER).map(async ([name, counted]) => [name, await bundled(counted)]);
  return Object.fromEntries(await Promise.all(measured));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, { minified, brotli }] of Object.entries(await sizes())) {
    console.log(`${name}: ${brotli} bytes in brotli, of ${BYTES_MAX[name]} allowed; ${minified} minified`);
  }
}
