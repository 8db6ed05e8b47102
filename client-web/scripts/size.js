// What the client costs a page, as esbuild bundles and minifies it, in brotli.
//
// - core: the negotiation, and all that it imports: who is tried when, exactness, what a hub says
// - entry: what `import { Fanwire } from 'fanwire'` loads at once: the core, EventSource's face, SSE, memory
// - whole: with what is loaded when it is used: WebTransport, SSE by fetch, tokens, changing topics, publishing

import { build } from 'esbuild';
import { brotliCompressSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';

/** In brotli. */
export const BYTES_MAX = { core: 5000, entry: 7250, whole: 12_500 };

const source = (path) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));

/** @param {string} entry @param {boolean} isWhole with what is loaded later */
async function bundled(entry, isWhole) {
  const later = {
    name: 'later',
    setup({ onResolve }) {
      onResolve({ filter: /.*/ }, ({ path, kind }) => (kind === 'dynamic-import' && !isWhole ? { path, external: true } : undefined));
    },
  };
  const { outputFiles } = await build({
    entryPoints: [source(entry)], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, plugins: [later],
  });
  const [{ contents }] = outputFiles;
  return { minified: contents.length, brotli: brotliCompressSync(contents).length };
}

export async function sizes() {
  const [core, entry, whole] = await Promise.all([bundled('negotiation.js', false), bundled('fanwire.js', false), bundled('fanwire.js', true)]);
  return { core, entry, whole };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, { minified, brotli }] of Object.entries(await sizes())) {
    console.log(`${name}: ${brotli} bytes in brotli, of ${BYTES_MAX[name]} allowed; ${minified} minified`);
  }
}
