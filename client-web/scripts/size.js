// How large the core is: what a page loads for `import { Fanwire } from 'fanwire'` before it can have its first event.
// Everything that the entry imports statically, as esbuild bundles and minifies it, in brotli. What is imported dynamically
// (WebTransport, SSE by fetch, tokens, changing topics, publishing) is loaded when it is used, and reported beside.

import { build } from 'esbuild';
import { brotliCompressSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';

export const CORE_BYTES_MAX = 5000;

const source = (path) => fileURLToPath(new URL(`../src/${path}`, import.meta.url));

/** @param {string} entry @param {boolean} isWhole with what is loaded later */
async function bundled(entry, isWhole) {
  const later = {
    name: 'later',
    setup({ onResolve }) {
      onResolve({ filter: /.*/ }, ({ path, kind }) => (kind === 'dynamic-import' && !isWhole ? { path, external: true } : undefined));
    },
  };
  const { outputFiles, metafile } = await build({
    entryPoints: [source(entry)], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, metafile: true, plugins: [later],
  });
  const [{ contents }] = outputFiles;
  const [{ inputs }] = Object.values(metafile.outputs);
  return { minified: contents.length, brotli: brotliCompressSync(contents).length, inputs };
}

export const coreSize = () => bundled('fanwire.js', false);
export const wholeSize = () => bundled('fanwire.js', true);

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [name, { minified, brotli, inputs }] of Object.entries({ core: await coreSize(), whole: await wholeSize() })) {
    console.log(`${name}: ${brotli} bytes in brotli, ${minified} minified`);
    if (name === 'core') for (const [path, { bytesInOutput }] of Object.entries(inputs)) console.log(`  ${bytesInOutput} ${path}`);
  }
}
