// A page that comes back goes on exactly where it was: nothing lost, nothing twice, on whatever transport.

import assert from 'node:assert/strict';
import { browserTest, CHROMIUM, testIn } from './support/browsers.js';
import { feedUrl, openFeed, visit, WAYS } from './support/feed.js';
import { startHub } from './support/hub.js';
import { startTcpRelay, startUdpRelay } from './support/relay.js';
import { until } from './support/wait.js';

browserTest('a page that comes back with its cursor, from any way to any other, gets what it missed and nothing else', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  for (const [from, fromOptions] of Object.entries(WAYS)) {
    for (const [to, toOptions] of Object.entries(WAYS)) {
      const topic = `${from} to ${to}`;
      const first = await openFeed(page, { ...fromOptions, url: feedUrl(topic) });
      await publishNumbers(hub, topic, 0, 5);
      const seen = await first.received(5);
      const cursor = fromOptions.kind === 'eventsource' ? seen.at(-1).id : seen.at(-1).cursor;
      await first.close();
      await publishNumbers(hub, topic, 5, 12);
      const second = await openFeed(page, { ...toOptions, ...at(topic, toOptions, cursor) });
      await publishNumbers(hub, topic, 12, 15);
      assert.deepEqual(seen.map(({ data }) => data), numbers(0, 5), topic);
      assert.deepEqual((await second.received(10)).map(({ data }) => data), numbers(5, 15), topic);
      await second.close();
    }
  }
});

// Firefox puts no page there that has a connection.
testIn(CHROMIUM, 'a page that comes out of the back/forward cache goes on at its cursor', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const feeds = [];
  for (const transport of ['webtransport', 'sse']) feeds.push(await openFeed(page, { kind: 'client', transport, url: feedUrl('rest') }));
  await publishNumbers(hub, 'rest', 0, 5);
  for (const feed of feeds) await feed.received(5);
  await page.goto(`${hub.http}/readyz`);
  await publishNumbers(hub, 'rest', 5, 10);
  await page.goBack();
  await publishNumbers(hub, 'rest', 10, 15);
  for (const feed of feeds) {
    assert.deepEqual((await feed.received(15)).map(({ data }) => data), numbers(0, 15));
    const { errors, opened } = await feed.state();
    assert.deepEqual({ errors, opened }, { errors: [], opened: 2 });
  }
});

browserTest('a page that asks for the earliest gets all that the hub keeps, and then what is new', async (t, { page }) => {
  const hub = await startHub(t);
  await publishNumbers(hub, 'kept', 0, 20);
  await visit(page, hub.http);
  for (const [way, options] of Object.entries(WAYS)) {
    const feed = await openFeed(page, { ...options, ...at('kept', options, 'earliest') });
    await feed.received(20);
    await feed.close();
    assert.deepEqual((await feed.state()).records.map(({ data }) => data), numbers(0, 20), way);
  }
});

browserTest('a native EventSource that the network cuts comes back by itself, without loss', async (t, { page }) => {
  const hub = await startHub(t, { flags: ['--retry', '200ms'] });
  const relay = await startTcpRelay(t, hub.port);
  await visit(page, relay.origin);
  const feed = await openFeed(page, { kind: 'eventsource', url: feedUrl('cut') });
  await publishNumbers(hub, 'cut', 0, 5);
  await feed.received(5);
  for (const [from, to] of [[5, 30], [30, 31]]) {
    relay.cut();
    await until('the page has noticed', async () => (await feed.state()).readyState === 0);
    await publishNumbers(hub, 'cut', from, to);
    relay.mend();
    await feed.received(to);
  }
  await publishNumbers(hub, 'cut', 31, 32);
  assert.deepEqual((await feed.received(32)).map(({ data }) => data), numbers(0, 32));
});

browserTest('a native EventSource that is cut before its first event still gets what is published meanwhile', async (t, { page }) => {
  const hub = await startHub(t, { flags: ['--retry', '200ms'] });
  const relay = await startTcpRelay(t, hub.port);
  await visit(page, relay.origin);
  await publishNumbers(hub, 'cut', 0, 5);
  const feed = await openFeed(page, { kind: 'eventsource', url: feedUrl('cut') });
  relay.cut();
  await feed.saw('errors');
  await publishNumbers(hub, 'cut', 5, 10);
  relay.mend();
  await feed.openedTimes(2);
  await publishNumbers(hub, 'cut', 10, 11);
  assert.deepEqual((await feed.receivedUpTo('10')).map(({ data }) => data), numbers(5, 11));
});

browserTest('the client on SSE, cut while events keep coming, misses nothing', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startTcpRelay(t, hub.port);
  await visit(page, relay.origin);
  const feed = await openFeed(page, { kind: 'client', transport: 'sse', url: feedUrl('cut') });
  for (let n = 0; n < 300; n += 10) {
    if (n === 100 || n === 200) relay.cut();
    await publishNumbers(hub, 'cut', n, n + 10);
    if (n === 130 || n === 230) relay.mend();
    if (n === 190) await feed.openedTimes(2);
  }
  assert.deepEqual((await feed.received(300, 15_000)).map(({ data }) => data), numbers(0, 300));
  const { opened, controls } = await feed.state();
  assert.equal(opened, 3);
  assert.deepEqual(controls.filter(({ gap }) => gap), []);
});

browserTest('the client on WebTransport, whose packets vanish for a while, notices the silence and misses nothing', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startUdpRelay(t, hub.tlsPort);
  await visit(page, hub.http);
  const feed = await openFeed(page, {
    kind: 'client', transport: 'webtransport', url: feedUrl('cut'), heartbeat: 1, connectTimeoutMs: 2000, relay: relay.port,
  });
  await publishNumbers(hub, 'cut', 0, 50);
  await feed.received(50);
  relay.cut();
  await publishNumbers(hub, 'cut', 50, 100);
  const { reason } = await feed.saw('errors');
  assert.match(reason, /nothing came for 1.5 s/);
  relay.mend();
  await publishNumbers(hub, 'cut', 100, 150);
  assert.deepEqual((await feed.received(150, 15_000)).map(({ data }) => data), numbers(0, 150));
});

browserTest('the client that loses UDP goes on over SSE, and back to WebTransport when it works again', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startUdpRelay(t, hub.tlsPort);
  await visit(page, hub.http);
  const feed = await openFeed(page, { kind: 'client', url: feedUrl('moving'), heartbeat: 1, connectTimeoutMs: 1500, relay: relay.port });
  const over = (transport) => until(`${transport} delivers`, async () => (await feed.state()).transport === transport, 15_000);
  await over('webtransport');
  await publishNumbers(hub, 'moving', 0, 20);
  await feed.received(20);
  relay.cut();
  await publishNumbers(hub, 'moving', 20, 40);
  await over('sse');
  await publishNumbers(hub, 'moving', 40, 60);
  await feed.received(60);
  relay.mend();
  await over('webtransport');
  await publishNumbers(hub, 'moving', 60, 80);
  const records = await feed.received(80);
  assert.deepEqual(records.map(({ data }) => data), numbers(0, 80));
  assert.equal(records[0].transport, 'webtransport');
  assert.equal(records[50].transport, 'sse');
  assert.equal(records[79].transport, 'webtransport');
});

browserTest('after the hub crashed and came back without its log, feeds go on, and the client tells of the loss', async (t, { page }) => {
  const hub = await startHub(t, { flags: ['--retry', '200ms'] });
  await visit(page, hub.http);
  const feeds = {
    'client over WebTransport': await openFeed(page, { kind: 'client', transport: 'webtransport', url: feedUrl('crash'), heartbeat: 1, connectTimeoutMs: 2000 }),
    'client over SSE': await openFeed(page, { kind: 'client', transport: 'sse', url: feedUrl('crash') }),
    'native EventSource': await openFeed(page, { kind: 'eventsource', url: feedUrl('crash') }),
  };
  await publishNumbers(hub, 'crash', 0, 3);
  for (const feed of Object.values(feeds)) await feed.received(3);
  await hub.kill();
  await hub.start();
  await publishNumbers(hub, 'crash', 3, 6);
  for (const [way, feed] of Object.entries(feeds)) {
    assert.deepEqual((await feed.received(6, 20_000)).map(({ data }) => data), numbers(0, 6), way);
    if (way === 'native EventSource') continue;
    const { gap } = await feed.saw('controls', 'gap');
    assert.equal(gap.reason, 'new_epoch', way);
  }
});

/** @param {string} topic @param {Record<string, unknown>} options @param {string} lastEventId */
function at(topic, { kind }, lastEventId) {
  return kind === 'client' ? { url: feedUrl(topic), lastEventId } : { url: feedUrl(topic, { last_event_id: lastEventId }) };
}

/** With somebody else's events in between. */
async function publishNumbers(hub, topic, from, to) {
  await hub.publishLines(numbers(from, to).flatMap((data) => [{ topic, data }, { topic: 'noise', data }]));
}

/** @param {number} from @param {number} to */
function numbers(from, to) {
  return Array.from({ length: to - from }, (_, i) => `${from + i}`);
}
