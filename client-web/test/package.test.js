// The package as it is published: what it costs, what it says of its types, and whether an empty project can use it.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { BYTES_MAX, sizes } from '../scripts/size.js';
import { startHub } from './support/hub.js';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const bin = (name) => join(ROOT, 'node_modules/.bin', name);
let directory = '';
let tarball = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fanwire-package-'));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', directory], { cwd: ROOT });
  const [{ filename, files }] = JSON.parse(stdout.slice(stdout.indexOf('[')));
  tarball = join(directory, filename);
  const paths = files.map(({ path }) => path);
  for (const path of ['README.md', 'src/fanwire.js', 'types/fanwire.d.ts', 'types/hooks/vue.d.ts']) assert.ok(paths.includes(path), path);
  assert.deepEqual(paths.filter((path) => /test|node_modules|scripts/.test(path)), []);
  await writeFile(join(directory, 'package.json'), '{ "private": true, "type": "module" }');
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', '--strict-peer-deps', tarball], { cwd: directory });
});
after(() => Promise.all([rm(directory, { recursive: true, force: true }), rm(join(ROOT, 'types'), { recursive: true, force: true })]));

test('it costs no more than it may', async () => {
  for (const [name, { brotli }] of Object.entries(await sizes())) assert.ok(brotli <= BYTES_MAX[name], `${name} is ${brotli} bytes in brotli`);
});

test('publint has nothing to say', async () => {
  const { stdout } = await run(bin('publint'), ['run', '--strict', tarball]);
  assert.match(stdout, /All good!/);
});

test('are the types wrong? No', async () => {
  // ES modules are all there is. It fails where something is wrong.
  await run(bin('attw'), ['--profile', 'esm-only', '--format', 'ascii', '--no-emoji', tarball]).catch(({ stdout }) => assert.fail(stdout));
});

test('it brings nothing along', async () => {
  const { dependencies } = JSON.parse(await readFile(join(directory, 'node_modules/fanwire/package.json'), 'utf8'));
  assert.equal(dependencies, undefined);
});

test('it needs no framework, and has hooks where one is there; each of its entries can be imported', async (t) => {
  const modules = join(directory, 'node_modules');
  assert.deepEqual((await readdir(modules)).filter((name) => !name.startsWith('.')), ['fanwire']);
  const namesIn = async (entry) => {
    const program = `console.log(JSON.stringify(Object.keys(await import('${entry}'))))`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program], { cwd: directory });
    return JSON.parse(stdout);
  };
  for (const [entry, name] of Object.entries({ '': 'Fanwire', '/publish': 'PublishError', '/cursor': 'parseControlId', '/frames': 'FRAME' })) {
    assert.ok((await namesIn(`fanwire${entry}`)).includes(name), `fanwire${entry} has no ${name}`);
  }
  for (const framework of ['react', 'vue']) {
    await assert.rejects(namesIn(`fanwire/${framework}`), /ERR_MODULE_NOT_FOUND/);
    await symlink(join(ROOT, 'node_modules', framework), join(modules, framework));
    t.after(() => rm(join(modules, framework)));
    assert.ok((await namesIn(`fanwire/${framework}`)).includes('useFanwire'), framework);
  }
});

const PROGRAM = `
import { Fanwire } from 'fanwire';
const feed = new Fanwire(process.argv[2] + 'events?topic=a');
feed.onopen = () => feed.publish({ topic: 'a', data: 'hello' });
for await (const event of feed) {
  console.log(event.data, event.fanwire.transport);
  break;
}
feed.close();
`;

for (const isBundled of [false, true]) {
  test(`an empty project uses it, ${isBundled ? 'bundled' : 'as it is'}`, async (t) => {
    const hub = await startHub({ demo: false });
    t.after(() => hub.close());
    await writeFile(join(directory, 'program.js'), PROGRAM);
    const path = isBundled ? 'bundle.js' : 'program.js';
    if (isBundled) await run(bin('esbuild'), ['program.js', '--bundle', '--minify', '--format=esm', `--outfile=${path}`], { cwd: directory });
    // In node there is only fetch.
    const { stdout } = await run(process.execPath, [path, hub.url], { cwd: directory, timeout: 20_000 });
    assert.equal(stdout, 'hello sse\n');
  });
}

test('its types hold in a strict project', async () => {
  const program = `
    import { Fanwire } from 'fanwire';
    import { PublishError } from 'fanwire/publish';
    const aborter = new AbortController();
    const feed = new Fanwire('/events?topic=a', { heartbeat: 5, transport: 'auto', token: async () => 'x', signal: aborter.signal });
    const source: EventTarget = feed;
    feed.onmessage = (event) => console.log(event.data);
    const state: 0 | 1 | 2 = feed.readyState;
    const transport: 'webtransport' | 'sse' | null = feed.transport;
    const done: Promise<void> = feed.subscribe('b', 'c');
    const published: Promise<{ id: string, cursor: string }> = feed.publish({ topic: ['a'], data: { a: 1 } });
    published.catch((error: unknown) => error instanceof PublishError && error.code);
    // @ts-expect-error no such transport
    new Fanwire('/events', { transport: 'websocket' });
    // @ts-expect-error an event needs a topic
    void feed.publish({ data: 'x' });
    export { source, state, transport, done };
  `;
  await writeFile(join(directory, 'program.ts'), program);
  const options = ['--strict', '--noEmit', '--target', 'es2022', '--module', 'nodenext', '--lib', 'es2023,dom,dom.iterable'];
  await run(bin('tsc'), [...options, 'program.ts'], { cwd: directory }).catch(({ stdout }) => assert.fail(stdout));
});
