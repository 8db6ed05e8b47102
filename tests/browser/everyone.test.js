// One POST, and whoever listens, in whichever way, has the same event with the same id.

import assert from 'node:assert/strict';
import { browserTest } from './support/browsers.js';
import { feedUrl, openFeed, visit, WAYS } from './support/feed.js';
import { BINARY, cleanEnvironment, startHub } from './support/hub.js';
import { Process } from './support/process.js';
import { until } from './support/wait.js';

browserTest('curl, the command line and a page see the same event with the same id', async (t, { page }) => {
  const hub = await startHub(t);
  const topic = 'everyone';
  const url = (/** @type {string} */ origin) => `${origin}/events?topic=${topic}`;
  const sub = (/** @type {string} */ transport) => ({
    path: BINARY,
    args: ['sub', `${hub.http}/events`, '--topic', topic, '--json', '--transport', transport],
    ready: (/** @type {Process} */ { stderr }) => stderr.includes(`connected over ${transport}`),
    read: (/** @type {Process} */ { stdout }) => stdout.includes('\n') && JSON.parse(stdout),
  });
  const curl = (/** @type {string[]} */ ...args) => ({
    path: 'curl',
    args: ['--silent', '--no-buffer', ...args],
    ready: (/** @type {Process} */ { stdout }) => stdout.includes('retry:'),
    read: (/** @type {Process} */ { stdout }) => {
      const found = /^id: (.*)\n(?:.*\n)*?data: (.*)\n\n/m.exec(stdout);
      return found && { id: found[1], data: found[2] };
    },
  });
  const listeners = {
    'curl on HTTP/1.1': curl(url(hub.http)),
    'curl on HTTP/2': curl('--http2', '--insecure', url(hub.https)),
    'fanwire sub on webtransport': sub('webtransport'),
    'fanwire sub on sse-h3': sub('sse-h3'),
  };
  const processes = Object.entries(listeners).map(([name, { path, args, ready, read }]) => {
    const process = new Process(path, args, cleanEnvironment());
    t.after(() => process.kill());
    return { name, process, ready, read };
  });
  await visit(page, hub.http);
  const feeds = [];
  for (const [way, options] of Object.entries(WAYS)) {
    feeds.push({ way, feed: await openFeed(page, { ...options, url: feedUrl(topic) }) });
  }
  for (const { name, process, ready } of processes) await until(`${name} listens`, () => ready(process));
  const id = await hub.publishForm({ topic, data: 'to everyone' });
  for (const { name, process, read } of processes) {
    const { id: seen, data } = await until(`${name} has it`, () => read(process));
    assert.deepEqual({ id: seen, data }, { id, data: 'to everyone' }, name);
  }
  for (const { way, feed } of feeds) {
    const [{ id: seen, data }] = await feed.received(1);
    assert.deepEqual({ id: seen, data }, { id, data: 'to everyone' }, way);
  }
});
