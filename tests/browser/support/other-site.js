// A page of another site than the hub's.

import { createServer } from 'node:http';
import { listen } from './process.js';

/** Serves blank pages of a site that isn't the hub's, until the test ends. @param {import('node:test').TestContext} t @returns {Promise<string>} its origin */
export async function startOtherSite(t) {
  const server = createServer((request, response) => response.setHeader('Content-Type', 'text/html').end('<!doctype html>'));
  const port = await listen(server);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  // The hub is at 127.0.0.1; another port alone would be another origin of the same site.
  return `http://localhost:${port}`;
}

/**
 * The client as one script, whose value is its exports: a page may load modules only of a site that lets it, so this one brings its own.
 * @param {string} origin of the hub that serves it
 */
export async function clientModules(origin) {
  const { build } = await import('esbuild').catch(() => ({ build: null }));
  if (!build) throw new Error('npm ci brings esbuild');
  const plugin = {
    name: 'hub',
    setup(/** @type {any} */ { onResolve, onLoad }) {
      onResolve({ filter: /.*/ }, ({ path, importer }) => ({ path: new URL(path, importer || `${origin}/client/`).href, namespace: 'hub' }));
      onLoad({ filter: /.*/, namespace: 'hub' }, async ({ path }) => ({ contents: await (await fetch(path)).text() }));
    },
  };
  const { outputFiles } = await build({ entryPoints: ['./fanwire.js'], bundle: true, write: false, format: 'iife', globalName: 'client', plugins: [plugin] });
  return `${outputFiles[0].text}; client`;
}
