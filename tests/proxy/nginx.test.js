// Event streams through nginx as people have it: whatever it does by default must not hold an event back.

import assert from 'node:assert/strict';
import { get } from 'node:http';
import { test } from 'node:test';
import { createGunzip } from 'node:zlib';
import { CHROMIUM, launchFor, openTab } from '../browser/support/browsers.js';
import { feedUrl, openFeed, visit } from '../browser/support/feed.js';
import { startHub } from '../browser/support/hub.js';
import { until, within } from '../browser/support/wait.js';
import { nginxMissing, startNginx } from './nginx.js';

/**
 * What is set besides `proxy_pass` and `gzip on`.
 * @type {Record<string, { location?: string, encoding?: 'gzip', heartbeats?: number }>}
 */
const CONFIGURATIONS = {
  'a bare proxy_pass (HTTP/1.0 to the hub, buffering on)': {},
  'proxy_http_version 1.1 and no Connection header': { location: "proxy_http_version 1.1; proxy_set_header Connection '';" },
  'a read timeout of 2 s, and heartbeats below it': { location: 'proxy_read_timeout 2s;', heartbeats: 3 },
  'buffers as small as they get': { location: 'proxy_buffer_size 1k; proxy_buffers 2 1k; proxy_busy_buffers_size 1k;' },
  'gzip of event streams': { location: 'gzip_types text/event-stream; gzip_min_length 1;', encoding: 'gzip' },
};

for (const [title, options] of Object.entries(CONFIGURATIONS)) {
  test(`nginx, ${title}: each event arrives before the next is published`, { skip: nginxMissing, timeout: 60_000 }, async (t) => {
    const { hub, nginx } = await setUp(t, options);
    // Every browser takes gzip.
    const stream = await openStream(t, `${nginx.origin}${feedUrl('through', { heartbeat: 1 })}`, 'gzip');
    assert.match(stream.headers['content-type'] ?? '', /^text\/event-stream/);
    assert.equal(stream.headers['content-encoding'], options.encoding);
    await until('its first bytes are here', () => stream.text.includes('retry:'), PROMPT_MS);
    for (let n = 0; n < 10; n++) {
      await publishThrough(nginx, `event ${n}`);
      await until(`event ${n} is here`, () => stream.text.includes(`data: event ${n}\n`), PROMPT_MS);
    }
    const before = stream.text.length;
    const heartbeats = () => (stream.text.slice(before).match(/^: ping$/gm) ?? []).length;
    await until('heartbeats are here', () => heartbeats() >= (options.heartbeats ?? 1));
    await hub.publishForm({ topic: 'through', data: 'still here' });
    await until('the stream lives', () => stream.text.includes('data: still here\n'), PROMPT_MS);
    assert.equal(stream.hasEnded, false);
  });

  test(`nginx, ${title}: a burst of large events arrives whole and in order`, { skip: nginxMissing, timeout: 60_000 }, async (t) => {
    const { hub, nginx } = await setUp(t, options);
    const stream = await openStream(t, `${nginx.origin}${feedUrl('burst')}`, 'identity');
    await until('it is open', () => stream.text.includes('retry:'));
    const sent = Array.from({ length: 100 }, (_, n) => `${n} ${'ä'.repeat(10_000)}`);
    await hub.publishLines(sent.map((data) => ({ topic: 'burst', data })));
    await until('all of it is here', () => stream.text.includes(`data: ${sent.at(-1)}\n`));
    assert.deepEqual([...stream.text.matchAll(/^data: (.*)$/gm)].map(([, data]) => data), sent);
  });

  test(`nginx, ${title}: the hub knows when a subscriber behind it has gone`, { skip: nginxMissing, timeout: 60_000 }, async (t) => {
    const { nginx } = await setUp(t, options, ['--subscribers-max', '1']);
    const stream = await openStream(t, `${nginx.origin}${feedUrl('place', { heartbeat: 1 })}`, 'identity');
    await until('it is open', () => stream.text.includes('retry:'));
    const ask = async () => {
      const aborter = new AbortController();
      const { ok } = await fetch(`${nginx.origin}/events?topic=place`, { signal: aborter.signal });
      aborter.abort();
      return ok;
    };
    assert.equal(await ask(), false);
    stream.close();
    await until('the place is free', ask, 3000);
  });
}

for (const title of /** @type {const} */ (['a bare proxy_pass (HTTP/1.0 to the hub, buffering on)', 'proxy_http_version 1.1 and no Connection header'])) {
  test(`Chromium behind nginx, ${title}: EventSource and the client get each event at once, and publish`, { skip: nginxMissing || CHROMIUM.missing, timeout: 60_000 }, async (t) => {
    const { hub, nginx } = await setUp(t, CONFIGURATIONS[title]);
    const { page } = await openTab(t, CHROMIUM, await launchFor(t, CHROMIUM, {}));
    await visit(page, nginx.origin);
    const native = await openFeed(page, { kind: 'eventsource', url: feedUrl('through') });
    const client = await openFeed(page, { kind: 'client', transport: 'sse', url: feedUrl('through') });
    const expected = [];
    for (let n = 0; n < 10; n++) {
      const data = `Nummer ${n} 🎈`;
      const id = n % 2 ? await publishThrough(nginx, data) : (await client.call('publish', { topic: 'through', data })).id;
      expected.push({ id, data });
      for (const feed of [native, client]) await feed.received(n + 1, PROMPT_MS);
    }
    for (const feed of [native, client]) {
      const { records, errors } = await feed.state();
      assert.deepEqual(records.map(({ id, data }) => ({ id, data })), expected);
      assert.deepEqual(errors, []);
    }
    // A stream that the hub ends, ends at the page too, and at once.
    hub.drain();
    assert.equal((await client.saw('errors', null, PROMPT_MS)).code, 1);
    await native.saw('errors', null, PROMPT_MS);
  });
}

test('nginx: what a publisher sends through it is answered as by the hub itself', { skip: nginxMissing, timeout: 60_000 }, async (t) => {
  const { hub, nginx } = await setUp(t, {});
  assert.match(await publishThrough(nginx, 'one'), /^#[0-9a-v]{10}:1$/);
  const big = 'x'.repeat(900_000);
  assert.match(await publishThrough(nginx, big), /^#[0-9a-v]{10}:2$/);
  const refused = await fetch(`${nginx.origin}/events`, { method: 'POST', body: new URLSearchParams({ data: 'no topic' }) });
  assert.equal(refused.status, 400);
  assert.equal((await refused.json()).error.code, 'no_topic');
  assert.deepEqual(await hub.kept(), ['one', big]);
});

test('nginx that passes a foreign Host on is refused, and told why', { skip: nginxMissing, timeout: 60_000 }, async (t) => {
  const { nginx } = await setUp(t, { location: 'proxy_set_header Host hub.example;' });
  const response = await fetch(`${nginx.origin}/events?topic=a`);
  assert.equal(response.status, 403);
  assert.equal((await response.json()).error.code, 'foreign_host');
});

/** A hub with nginx in front. */
async function setUp(t, options, flags = []) {
  const hub = await startHub(t, { flags });
  return { hub, nginx: await startNginx(t, { upstreamPort: hub.port, ...options }) };
}

/** @param {{ origin: string }} nginx @param {string} data */
async function publishThrough(nginx, data) {
  const response = await fetch(`${nginx.origin}/events`, { method: 'POST', body: new URLSearchParams({ topic: 'through', data }) });
  assert.equal(response.status, 200);
  return response.text();
}

/**
 * A stream's text, as it comes.
 * @param {import('node:test').TestContext} t @param {string} url @param {'identity' | 'gzip'} encoding
 */
async function openStream(t, url, encoding) {
  const request = get(url, { headers: { 'Accept-Encoding': encoding }, agent: false });
  t.after(() => request.destroy());
  const response = await within('the head of the response is here', new Promise((resolve, reject) => {
    request.on('response', resolve).on('error', reject);
  }), PROMPT_MS);
  const stream = { text: '', hasEnded: false, headers: response.headers, close: () => request.destroy() };
  const body = response.headers['content-encoding'] === 'gzip' ? response.pipe(createGunzip()) : response;
  body.setEncoding('utf8').on('data', (/** @type {string} */ text) => (stream.text += text));
  for (const source of new Set([response, body])) {
    source.on('error', () => {}).on('close', () => (stream.hasEnded = true));
  }
  return stream;
}

/** From the publication of an event to its arrival, on two cores that are busy. */
const PROMPT_MS = 1000;
