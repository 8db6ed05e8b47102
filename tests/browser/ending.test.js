// How feeds end: the page goes, the hub goes, or the hub says why it can't.

import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { test } from 'node:test';
import { browserTest } from './support/browsers.js';
import { feedUrl, openFeed, visit, WAYS } from './support/feed.js';
import { startHub } from './support/hub.js';
import { until, within } from './support/wait.js';

for (const [way, options] of Object.entries(WAYS)) {
  browserTest(`the hub knows at once that a page has closed its feed, ${way}`, async (t, { page }) => {
    // With one place only, the next subscriber tells whether it is free.
    const hub = await startHub(t, { flags: ['--subscribers-max', '1'] });
    await visit(page, hub.http);
    const feed = await openFeed(page, { ...options, url: feedUrl('place') });
    assert.equal(await hasPlace(hub), false);
    await feed.close();
    await until('the place is free', () => hasPlace(hub), AT_ONCE_MS);
  });

  browserTest(`the hub knows at once that a page was reloaded, left or closed, ${way}`, async (t, { page }) => {
    const hub = await startHub(t, { flags: ['--subscribers-max', '1'] });
    await visit(page, hub.http);
    const leaves = { reloaded: () => page.reload(), left: () => page.goto(`${hub.http}/readyz`), closed: () => page.close() };
    for (const [how, leave] of Object.entries(leaves)) {
      // Chromium keeps a page in its back/forward cache, together with its EventSource.
      if (how === 'left' && way === 'native EventSource') continue;
      await openFeed(page, { ...options, url: feedUrl('place') });
      assert.equal(await hasPlace(hub), false);
      await leave();
      await until(`the place of a page that was ${how} is free`, () => hasPlace(hub), AT_ONCE_MS);
    }
  });
}

browserTest('feeds that are closed while they connect leave no subscriber behind', async (t, { page }) => {
  const hub = await startHub(t, { flags: ['--subscribers-max', '1', '--retry', '200ms'] });
  await visit(page, hub.http);
  await page.evaluate(async () => {
    const { Fanwire } = await import('/client/fanwire.js');
    for (let n = 0; n < 5; n++) {
      await new Promise((resolve) => {
        class Connecting extends WebTransport {
          constructor(url, options) {
            super(url, options);
            queueMicrotask(() => resolve(feed.close()));
          }
        }
        const environment = { WebTransport: Connecting };
        const feed = new Fanwire('/events?topic=place', { transport: 'webtransport', environment });
      });
    }
  });
  // It gets in only when they have all gone.
  await openFeed(page, { kind: 'client', transport: 'webtransport', url: feedUrl('place') });
});

browserTest('a hub that shuts down says so in each feed, after the last event, with a time to come back', async (t, { page }) => {
  for (const { records, controls } of await feedsOfAShutdown(t, page)) {
    assert.deepEqual(records.map(({ data }) => data), ['last words']);
    const { bye } = controls.find((control) => control.bye) ?? assert.fail(`no bye in ${JSON.stringify(controls)}`);
    assert.equal(bye.code, 1);
    assert.equal(bye.reason, 'the hub is shutting down');
    assert.ok(Number.isInteger(bye.retry_ms) && bye.retry_ms >= 0 && bye.retry_ms <= 30_000, `retry_ms ${bye.retry_ms}`);
  }
});

browserTest('a hub that shuts down closes each session with code and reason', async (t, { page }) => {
  for (const { ends } of await feedsOfAShutdown(t, page)) {
    assert.deepEqual(ends, [{ closeCode: 1, reason: 'the hub is shutting down' }]);
  }
});

for (const transport of ['webtransport', 'sse']) {
  browserTest(`the client hears of a shutdown, and comes back when the hub does, ${transport}`, async (t, { page }) => {
    const hub = await startHub(t, { flags: ['--retry', '500ms'] });
    await visit(page, hub.http);
    const feed = await openFeed(page, { kind: 'client', transport, url: feedUrl('upgrade'), heartbeat: 1, connectTimeoutMs: 2000 });
    const ended = hub.drain();
    const { code, reason, isTerminal } = await feed.saw('errors');
    assert.deepEqual({ code, reason, isTerminal }, { code: 1, reason: 'the hub is shutting down', isTerminal: false });
    await ended;
    await hub.start();
    await feed.openedTimes(2, 20_000);
    await hub.publishForm({ topic: 'upgrade', data: 'hello again' });
    await feed.receivedUpTo('hello again');
  });
}

browserTest('a native EventSource whose hub shuts down waits, and comes back when the hub does', async (t, { page }) => {
  const hub = await startHub(t, { flags: ['--retry', '500ms'] });
  await visit(page, hub.http);
  const feed = await openFeed(page, { kind: 'eventsource', url: feedUrl('upgrade') });
  const ended = hub.drain();
  assert.deepEqual(await feed.saw('errors'), { readyState: 0 });
  await ended;
  await hub.start();
  await feed.openedTimes(2, 20_000);
  await hub.publishForm({ topic: 'upgrade', data: 'hello again' });
  await feed.receivedUpTo('hello again');
});

browserTest('a feed that is asked for wrongly is ended for good, with code and reason', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const raw = await openFeed(page, { kind: 'raw', url: '/events?heartbeat=5' }, { withinMs: 0 });
  const { closeCode, reason } = await raw.saw('ends');
  assert.equal(closeCode, 2);
  assert.match(reason, /^no_matcher: /);
  const client = await openFeed(page, { kind: 'client', transport: 'webtransport', url: '/events?heartbeat=5' }, { withinMs: 0 });
  assert.deepEqual(await client.saw('errors'), { code: 2, status: null, reason, isTerminal: true, transport: 'webtransport', readyState: 2 });
  const native = await openFeed(page, { kind: 'eventsource', url: '/events?heartbeat=5' }, { withinMs: 0 });
  assert.deepEqual(await native.saw('errors'), { readyState: 2 });
});

browserTest('a feed that is refused says bye in-band before its session closes', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const feeds = [];
  for (let n = 0; n < 5; n++) feeds.push(await openFeed(page, { kind: 'raw', url: '/events?heartbeat=5' }, { withinMs: 0 }));
  for (const feed of feeds) await feed.saw('ends');
  const byes = await Promise.all(feeds.map(async (feed) => (await feed.state()).controls.find(({ bye }) => bye)?.bye));
  for (const bye of byes) assert.deepEqual({ code: bye?.code, retry_ms: bye?.retry_ms }, { code: 2, retry_ms: null }, JSON.stringify(byes));
});

browserTest('a page that finds the hub full gets in by itself when there is room', async (t, { page }) => {
  const hub = await startHub(t, { flags: ['--subscribers-max', '1', '--retry', '200ms'] });
  await visit(page, hub.http);
  for (const [way, options] of Object.entries(WAYS)) {
    const holder = await openFeed(page, { kind: 'raw', url: feedUrl('full') });
    const waiting = await openFeed(page, { ...options, url: feedUrl('full') }, { withinMs: 0 });
    if (options.kind === 'raw') {
      const { closeCode, reason } = await waiting.saw('ends');
      assert.equal(closeCode, 4);
      assert.match(reason, /subscribers/);
    } else {
      const { readyState } = await waiting.saw('errors');
      assert.equal(readyState, 0, way);
    }
    await holder.close();
    if (options.kind === 'raw') {
      await until('the place is free', () => hasPlace(hub), AT_ONCE_MS);
      continue;
    }
    await hub.publishForm({ topic: 'full', data: 'before' });
    // EventSource also opens the stream that only tells it to come back later.
    await until(`${way} gets in`, async () => {
      await hub.publishForm({ topic: 'full', data: 'inside' });
      return (await waiting.state()).records.some(({ data }) => data === 'inside');
    });
    await waiting.close();
    await until('the place is free', () => hasPlace(hub), AT_ONCE_MS);
  }
});

browserTest('a shutdown is over soon, though a page is open', async (t, { page }) => {
  const hub = await startHub(t);
  await page.goto(`${hub.http}/livez`);
  const { code } = await within('the hub has ended', hub.drain(), AT_ONCE_MS);
  assert.equal(code, 0);
  assert.match(hub.log, /drained/);
});

test('a connection that was opened ahead, and says nothing, does not hold up a shutdown', async (t) => {
  const hub = await startHub(t);
  const socket = connect(hub.port, '127.0.0.1');
  socket.on('error', () => {});
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  // Answered, so the connection before it has been accepted.
  await fetch(`${hub.http}/livez`);
  const { code } = await within('the hub has ended', hub.drain(), AT_ONCE_MS);
  assert.equal(code, 0);
});

/** What five feeds of a page have of a hub that shuts down. */
async function feedsOfAShutdown(t, page) {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const feeds = [];
  for (let n = 0; n < 5; n++) feeds.push(await openFeed(page, { kind: 'raw', url: feedUrl('last') }));
  await hub.publishForm({ topic: 'last', data: 'last words' });
  hub.drain();
  for (const feed of feeds) await feed.saw('ends');
  return Promise.all(feeds.map((feed) => feed.state()));
}

/** Whether one more subscriber gets in. */
async function hasPlace(hub) {
  const aborter = new AbortController();
  const response = await fetch(`${hub.http}/events?topic=place`, { signal: aborter.signal });
  aborter.abort();
  if (response.ok) return true;
  assert.equal(response.status, 503);
  return false;
}

/** Far below any timeout after which a connection counts as dead. */
const AT_ONCE_MS = 3000;
