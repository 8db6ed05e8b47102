// `delivery`: in order within each topic, or the newest of each; and in order over SSE, whatever was asked for.

import assert from 'node:assert/strict';
import { browserTest } from './support/browsers.js';
import { feedUrl, openFeed, visit } from './support/feed.js';
import { startHub } from './support/hub.js';
import { startUdpRelay } from './support/relay.js';
import { until } from './support/wait.js';

const TOPICS = 40;
const topicOf = (number) => `t/${number % TOPICS}`;
const drafts = (from, to) => Array.from({ length: to - from }, (_, i) => ({ topic: topicOf(from + i), data: `${from + i}` }));

/** The numbers of each topic, in the order in which they came. */
function byTopic(records) {
  const numbers = new Map(records.map(({ topic }) => [topic, []]));
  for (const { topic, data } of records) numbers.get(topic).push(Number(data));
  return [...numbers.values()];
}

browserTest('per-topic: each topic comes in order, none lost, none twice, and SSE goes on at the cursor', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  await hub.publishLines(drafts(0, 400));
  const options = { kind: 'client', delivery: 'per-topic', url: feedUrl('*', { heartbeat: 1 }) };
  const feed = await openFeed(page, { ...options, transport: 'webtransport', lastEventId: 'earliest' });
  for (let from = 400; from < 2000; from += 100) await hub.publishLines(drafts(from, from + 100));
  const records = await feed.received(2000, 20_000);
  assert.equal(new Set(records.map(({ data }) => data)).size, 2000);
  for (const numbers of byTopic(records)) assert.deepEqual(numbers, numbers.toSorted((a, b) => a - b));
  const { cursor } = await feed.state();
  const rest = await openFeed(page, { ...options, transport: 'sse', lastEventId: cursor });
  await hub.publishLines(drafts(2000, 2040));
  const after = await rest.received(40);
  assert.deepEqual(after.map(({ data }) => Number(data)), Array.from({ length: 40 }, (_, i) => 2000 + i));
});

browserTest('per-topic: a client that loses UDP in mid-stream goes on over SSE and back, with each event once', async (t, { page }) => {
  const hub = await startHub(t);
  const relay = await startUdpRelay(t, hub.tlsPort);
  await visit(page, hub.http);
  const feed = await openFeed(page, { kind: 'client', delivery: 'per-topic', url: feedUrl('*'), heartbeat: 1, connectTimeoutMs: 1500, relay: relay.port });
  const over = (transport) => until(`${transport} delivers`, async () => (await feed.state()).transport === transport, 15_000);
  await over('webtransport');
  const publish = async (from, to) => {
    for (; from < to; from += 20) await hub.publishLines(drafts(from, from + 20));
  };
  await Promise.all([publish(0, 600), until('some have come', async () => (await feed.state()).records.length > 100).then(() => relay.cut())]);
  await over('sse');
  await publish(600, 800);
  relay.mend();
  await over('webtransport');
  await publish(800, 1000);
  const records = await feed.received(1000, 15_000);
  assert.equal(records.length, 1000);
  for (const numbers of byTopic(records)) assert.deepEqual(numbers, Array.from({ length: 25 }, (_, i) => (numbers[0] % TOPICS) + i * TOPICS));
  assert.deepEqual((await feed.state()).controls.filter(({ gap }) => gap), []);
});

browserTest('datagram: history comes whole, and then each topic comes to its newest', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  await hub.publishLines(drafts(0, 400));
  const feed = await openFeed(page, { kind: 'client', delivery: 'datagram', transport: 'webtransport', url: feedUrl('*'), lastEventId: 'earliest' });
  const history = await feed.received(400);
  assert.deepEqual(history.slice(0, 400).map(({ data }) => Number(data)), Array.from({ length: 400 }, (_, i) => i));
  for (let from = 400; from < 4000; from += 400) await hub.publishLines(drafts(from, from + 400));
  // What is lost of them, there is something newer of.
  for (let from = 4000; from < 8000; from += TOPICS) {
    await hub.publishLines(drafts(from, from + TOPICS));
    const records = await feed.received(400);
    const newest = byTopic(records).filter((numbers) => numbers.at(-1) >= 4000);
    if (newest.length === TOPICS) break;
  }
  const records = await feed.received(400);
  for (const numbers of byTopic(records)) {
    assert.ok(numbers.at(-1) >= 4000, `${numbers.at(-1)} is the newest`);
    assert.ok(numbers.every((number, i) => i === 0 || number > numbers[i - 1]), 'never an older one after a newer');
  }
  assert.ok((await feed.state()).records.every(({ transport }) => transport === 'webtransport'));
});

browserTest('over SSE each delivery is in order', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  for (const delivery of ['per-topic', 'datagram']) {
    const feed = await openFeed(page, { kind: 'client', delivery, transport: 'sse', url: feedUrl('*') });
    await hub.publishLines(drafts(0, 500));
    const records = await feed.received(500);
    assert.deepEqual(records.map(({ data }) => Number(data)), Array.from({ length: 500 }, (_, i) => i));
  }
});
