// Which transport a page ends on, and what that costs: nothing that a bare EventSource wouldn't.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { browserTest } from './support/browsers.js';
import { feedUrl, openFeed, visit } from './support/feed.js';
import { startHub } from './support/hub.js';
import { favourWebTransport, PRELOADED } from './support/memory.js';
import { listen } from './support/process.js';
import { startTcpRelay, startUdpRelay } from './support/relay.js';
import { until } from './support/wait.js';

browserTest('where WebTransport is the quicker one a page ends on it, and the next one begins there, with one connection', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startTcpRelay(t, hub.port, { delayMs: 100 });
  await visit(page, relay.origin);
  await preload(page);
  const first = await openFeed(page, { kind: 'client', url: feedUrl('a') });
  await over(first, 'webtransport');
  assert.deepEqual(await first.call('connections'), { EventSource: 1, WebTransport: 1 });
  // A machine that is busy may take longer than the head start; not always.
  for (let load = 1; ; load++) {
    await page.reload();
    await preload(page);
    const next = await openFeed(page, { kind: 'client', url: feedUrl('a') });
    await over(next, 'webtransport');
    const { EventSource, WebTransport } = await next.call('connections');
    assert.equal(WebTransport, 1);
    if (EventSource === 0) break;
    assert.ok(load < 10, 'each of ten pages opened a second connection');
  }
});

browserTest('where SSE is the quicker one it isn’t held back, though WebTransport is remembered to work', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startUdpRelay(t, hub.tlsPort, { delayMs: 50 });
  await visit(page, hub.http);
  await preload(page);
  const options = { kind: 'client', url: feedUrl('a'), relay: relay.port };
  for (let load = 1; load <= 3; load++) {
    const feed = await openFeed(page, options);
    assert.deepEqual(await feed.call('atOnce'), { EventSource: 1, WebTransport: 0 });
    const { hello } = await feed.saw('controls', 'hello');
    assert.equal(hello.transport, 'sse');
    await over(feed, 'webtransport');
    assert.deepEqual(await feed.call('connections'), { EventSource: 1, WebTransport: 1 });
    const [memory] = await page.evaluate(() => Object.values(localStorage).map((value) => JSON.parse(value)));
    assert.ok(memory.works && memory.webtransportMs > memory.sseMs, JSON.stringify(memory));
    await page.reload();
    await preload(page);
  }
});

browserTest('where UDP is blocked a page is on SSE, remembers, and tries again by itself later', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startUdpRelay(t, hub.tlsPort);
  relay.cut();
  await visit(page, hub.http);
  const options = { kind: 'client', url: feedUrl('a'), relay: relay.port, connectTimeoutMs: 1000, heartbeat: 1 };
  const first = await openFeed(page, options);
  await hub.publishForm({ topic: 'a', data: 'x' });
  assert.equal((await first.received(1))[0].transport, 'sse');
  await until('it has given up', async () => (await first.call('links')).webtransport?.state === 'waiting');
  const { errors } = await first.state();
  assert.deepEqual(errors, [], 'nothing failed that anyone would miss');
  const second = await openFeed(page, options);
  assert.deepEqual(await second.call('connections'), { EventSource: 1, WebTransport: 0 });
  relay.mend();
  await page.evaluate(() => dispatchEvent(new Event('online')));
  for (const feed of [first, second]) await over(feed, 'webtransport');
});

browserTest('a page that remembers WebTransport wrongly is on SSE after the head start, and the next one waits for nothing', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startUdpRelay(t, hub.tlsPort);
  await visit(page, hub.http);
  const options = { kind: 'client', url: feedUrl('a'), relay: relay.port };
  await over(await openFeed(page, options), 'webtransport');
  await page.evaluate(favourWebTransport);
  relay.cut();
  // The WebTransport of the second hangs yet when the third begins.
  for (const EventSource of [0, 1]) {
    const feed = await openFeed(page, options);
    assert.deepEqual(await feed.call('atOnce'), { EventSource, WebTransport: 0 });
    const { hello } = await feed.saw('controls', 'hello');
    assert.equal(hello.transport, 'sse');
  }
});

browserTest('a network that goes before the rest of the client is loaded: SSE comes back at its cursor, and the rest is loaded then', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startTcpRelay(t, hub.port);
  await visit(page, relay.origin);
  // Nothing but what a page has at once, as the network goes with the first hello.
  const feed = await openFeed(page, { kind: 'client', transport: 'sse', url: feedUrl('a'), loadsAfterMs: 1000 }, { withinMs: 0 });
  await feed.openedTimes(1);
  relay.cut();
  await feed.saw('errors');
  for (const data of ['1', '2', '3']) await hub.publishForm({ topic: 'a', data });
  relay.mend();
  assert.deepEqual((await feed.received(3)).map(({ data }) => data), ['1', '2', '3']);
  await feed.watches(15_000);
});

browserTest('a certificate that the browser refuses leaves SSE, which waited for nothing', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const seen = await page.evaluate(async (url) => {
    const { Fanwire } = await import('/client/fanwire.js');
    // As with a hub whose certificate changed, or that somebody stands in front of.
    const fetch = async (/** @type {string} */ asked, /** @type {any} */ init) => {
      const offer = await (await globalThis.fetch(asked, init)).json();
      offer.webtransport.certificate_hashes[0].value = btoa('x'.repeat(32));
      return Response.json(offer);
    };
    let sources = 0;
    class Counted extends EventSource {
      /** @param {[string, EventSourceInit]} given */
      constructor(...given) {
        super(...given);
        sources++;
      }
    }
    const feed = new Fanwire(url, { environment: { fetch, EventSource: Counted } });
    const isAtOnce = sources === 1;
    const error = await new Promise((resolve) => {
      feed.addEventListener('state', ({ detail }) => detail.links.webtransport?.reason && resolve(detail.links.webtransport.reason));
    });
    await new Promise((resolve) => (feed.readyState === 1 ? resolve(null) : feed.addEventListener('open', resolve)));
    return { error, isAtOnce, transport: feed.transport };
  }, feedUrl('a'));
  assert.deepEqual([seen.transport, seen.isAtOnce], ['sse', true]);
  assert.ok(seen.error);
});

browserTest('a hub of somebody else, with neither WebTransport nor cursors, is listened to as EventSource does', async (t, { page }) => {
  const asked = [];
  let end = () => {};
  const hub = await startHub(t);
  const server = createServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://hub');
    if (pathname === '/blank') return response.setHeader('Content-Type', 'text/html').end('<!doctype html>');
    if (pathname.startsWith('/client/')) {
      const file = await fetch(`${hub.http}${pathname}`);
      return response.setHeader('Content-Type', 'text/javascript').end(await file.text());
    }
    if (pathname !== '/.well-known/mercure') return response.writeHead(404).end();
    asked.push(searchParams.get('lastEventID'));
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    response.write(`id: urn:${asked.length}\ndata: event ${asked.length}\n\n`);
    end = () => response.destroy();
  });
  const origin = `http://127.0.0.1:${await listen(server)}`;
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  await page.goto(`${origin}/blank`);
  await page.evaluate(async () => {
    const { Fanwire } = await import('/client/fanwire.js');
    const got = [];
    globalThis.got = got;
    globalThis.feed = new Fanwire('/.well-known/mercure?topic=a');
    globalThis.feed.onmessage = ({ data, lastEventId, fanwire: { cursor, transport } }) => got.push({ data, lastEventId, cursor, transport });
  });
  const got = () => page.evaluate(() => globalThis.got);
  await until('the first event', async () => (await got()).length === 1);
  end();
  await until('the second event', async () => (await got()).length === 2);
  assert.deepEqual(await got(), [
    { data: 'event 1', lastEventId: 'urn:1', cursor: null, transport: 'sse' },
    { data: 'event 2', lastEventId: 'urn:2', cursor: null, transport: 'sse' },
  ]);
  assert.deepEqual(asked, [null, 'urn:1']);
});

browserTest('a feed that the hub refuses ends for good, with the status that EventSource keeps to itself', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  for (const options of [{}, { transport: 'sse' }]) {
    const feed = await openFeed(page, { kind: 'client', url: '/events?heartbeat=5', ...options }, { withinMs: 0 });
    const { isTerminal, status, code, readyState } = await feed.saw('errors');
    assert.deepEqual([isTerminal, readyState], [true, 2]);
    assert.ok(status === 400 || code === 2, `status ${status}, code ${code}`);
  }
});

/** Has what a page with a bundler has, and one that follows the README. @param {import('puppeteer-core').Page} page */
async function preload(page) {
  await page.evaluate(async (paths) => {
    for (const path of paths) await import(path);
  }, PRELOADED);
}

/** @param {any} feed @param {string} transport */
function over(feed, transport) {
  return until(`${transport} delivers`, async () => (await feed.state()).transport === transport, 15_000);
}
