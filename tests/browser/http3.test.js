// Over HTTP/3 it is the same hub. Chromium alone can be made to speak HTTP/3 to a certificate that nobody signed.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:tls';
import { test } from 'node:test';
import { CHROMIUM, launchFor, openTab, testIn } from './support/browsers.js';
import { feedUrl, openFeed, visit } from './support/feed.js';
import { startHub } from './support/hub.js';
import { until } from './support/wait.js';

const options = { skip: CHROMIUM.missing, timeout: 60_000 };

test('Chromium: EventSource and fetch over HTTP/3 give the same ids and bytes', options, async (t) => {
  const hub = await startHub(t);
  const { page, protocols } = await openOverHttp3(t, hub);
  const native = await openFeed(page, { kind: 'eventsource', url: feedUrl('h3', { heartbeat: 1 }), types: ['note'] });
  const client = await openFeed(page, { kind: 'client', transport: 'sse', url: feedUrl('h3'), types: ['note'] });
  const ids = [await hub.publishForm({ topic: 'h3', data: 'Grüße 🎈\r\nzwei', type: 'note', id: 'eins' })];
  ids.push(
    await page.evaluate(async () => {
      const response = await fetch('/events', { method: 'POST', body: new URLSearchParams({ topic: 'h3', data: 'x'.repeat(1_000_000) }) });
      return response.text();
    }),
  );
  await hub.publishForm({ topic: 'h3', data: 'end' });
  for (const feed of [native, client]) {
    const records = await feed.receivedUpTo('end');
    assert.deepEqual(records.slice(0, 2).map(({ id }) => id), ids);
    assert.equal(records[0].data, 'Grüße 🎈\nzwei');
    assert.equal(records[1].data.bytes, 1_000_000);
  }
  for (const path of ['/livez', '/client/fanwire.js', `/events?topic=h3&heartbeat=1`, '/events']) {
    assert.equal(protocols.get(path), 'h3', `${path} of ${JSON.stringify([...protocols])}`);
  }
});

test('Chromium: 1,000 numbered events arrive in order over HTTP/3, none lost, none twice', options, async (t) => {
  const hub = await startHub(t);
  const { page, protocols } = await openOverHttp3(t, hub);
  const feed = await openFeed(page, { kind: 'eventsource', url: feedUrl('numbers', { heartbeat: 1 }) });
  const expected = Array.from({ length: 1000 }, (_, n) => `${n}`);
  for (let n = 0; n < 1000; n += 100) await hub.publishLines(expected.slice(n, n + 100).map((data) => ({ topic: 'numbers', data })));
  assert.deepEqual((await feed.received(1000)).map(({ data }) => data), expected);
  assert.equal(protocols.get('/events?topic=numbers&heartbeat=1'), 'h3');
  const { errors } = await feed.state();
  assert.deepEqual(errors, []);
});

test('Chromium: a feed over HTTP/3 that a page closes is noticed by the next heartbeat', options, async (t) => {
  const hub = await startHub(t, { flags: ['--subscribers-max', '1'] });
  const { page } = await openOverHttp3(t, hub);
  const feed = await openFeed(page, { kind: 'eventsource', url: feedUrl('place', { heartbeat: 1 }) });
  await feed.close();
  await until('the place is free', async () => {
    const aborter = new AbortController();
    const { ok } = await fetch(`${hub.http}/events?topic=place`, { signal: aborter.signal });
    aborter.abort();
    return ok;
  }, 3000);
});

test('Chromium: sessions, fetches and event streams share one page and its HTTP/3 connections', options, async (t) => {
  const hub = await startHub(t);
  const { page, protocols } = await openOverHttp3(t, hub);
  await shareOnePage(hub, page);
  assert.equal(protocols.get('/events'), 'h3');
});

testIn(CHROMIUM, 'sessions, fetches and event streams share one page', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  await shareOnePage(hub, page);
});

/** @param {Awaited<ReturnType<typeof startHub>>} hub @param {import('puppeteer-core').Page} page */
async function shareOnePage(hub, page) {
  const feeds = [];
  for (let n = 0; n < 5; n++) feeds.push(await openFeed(page, { kind: 'raw', url: feedUrl(['shared', `own/${n}`]) }));
  for (let n = 0; n < 2; n++) feeds.push(await openFeed(page, { kind: 'eventsource', url: feedUrl(['shared', `own/${n + 5}`]) }));
  feeds.push(await openFeed(page, { kind: 'client', url: feedUrl(['shared', 'own/7']) }));
  // All at once, from within the page: 100 events that all feeds get, and ten for each alone.
  const ids = await page.evaluate(async (count) => {
    const publish = async (/** @type {string} */ topic, /** @type {string} */ data) => {
      const response = await fetch('/events', { method: 'POST', body: new URLSearchParams({ topic, data }) });
      if (!response.ok) throw new Error(`${response.status}`);
      return response.text();
    };
    const shared = Array.from({ length: 100 }, (_, n) => publish('shared', `shared ${n}`));
    const own = Array.from({ length: 10 * count }, (_, n) => publish(`own/${n % count}`, `own ${n}`));
    return { shared: await Promise.all(shared), own: await Promise.all(own) };
  }, feeds.length);
  const seqOf = (/** @type {string} */ cursor) => Number(cursor.split(':')[1]);
  for (const [n, feed] of feeds.entries()) {
    const expected = [...ids.shared, ...ids.own.filter((_, i) => i % feeds.length === n)].sort((a, b) => seqOf(a) - seqOf(b));
    assert.deepEqual((await feed.received(expected.length)).map(({ id }) => id), expected, `feed ${n}`);
  }
}

/** A page that has everything of the hub over HTTP/3, and which protocol each path came over. */
async function openOverHttp3(t, hub) {
  const browser = await launchFor(t, CHROMIUM, {
    args: [
      `--origin-to-force-quic-on=127.0.0.1:${hub.tlsPort}`,
      `--ignore-certificate-errors-spki-list=${await publicKeyHash(hub.tlsPort)}`,
    ],
  });
  const { page } = await openTab(t, CHROMIUM, browser);
  const session = await page.createCDPSession();
  await session.send('Network.enable');
  /** @type {Map<string, string | undefined>} */
  const protocols = new Map();
  session.on('Network.responseReceived', ({ response }) => {
    const { pathname, search } = new URL(response.url);
    protocols.set(pathname + search, response.protocol);
  });
  await visit(page, hub.https);
  return { page, protocols };
}

/** Base64 of the SHA-256 of the public key, as Chromium takes it. @param {number} port */
async function publicKeyHash(port) {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const key = socket.getPeerX509Certificate()?.publicKey.export({ type: 'spki', format: 'der' });
  socket.destroy();
  return createHash('sha256').update(/** @type {Buffer} */ (key)).digest('base64');
}
