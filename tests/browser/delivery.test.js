// What is published is what a page gets: the same id and the same bytes, whichever way it listens.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { browserTest } from './support/browsers.js';
import { feedUrl, openFeed, visit, WAYS } from './support/feed.js';
import { startHub } from './support/hub.js';

for (const [way, options] of Object.entries(WAYS)) {
  browserTest(`an event that a form publishes arrives with its id and its text, ${way}`, async (t, { page }) => {
    const hub = await startHub(t);
    await visit(page, hub.http);
    const feed = await openFeed(page, { ...options, url: feedUrl('letters', { heartbeat: 5 }), types: ['note'] });
    const expected = [];
    for (const { publisher, sent, data = sent.data ?? '' } of LETTERS) {
      const id = await hub.publishForm({ topic: 'letters', ...sent });
      assert.match(id, sent.id ? new RegExp(`^${sent.id}$`) : /^#[0-9a-v]{10}:\d+$/, publisher);
      expected.push({ id, type: sent.type ?? 'message', data });
    }
    const records = await feed.received(expected.length);
    assert.deepEqual(records.map(({ id, type, data }) => ({ id, type, data })), expected);
    if (options.kind !== 'eventsource') {
      // A cursor and a time for each, also for those that have a publisher's id.
      for (const { cursor, at, topic } of records) {
        assert.match(cursor, /^#[0-9a-v]{10}:\d+$/);
        assert.ok(Math.abs(Date.now() - at) < 60_000, `${at} is about now`);
        assert.equal(topic, 'letters');
      }
    }
  });

  browserTest(
    `a NUL in text arrives, ${way}`,
    async (t, { page }) => {
      const hub = await startHub(t);
      await visit(page, hub.http);
      const feed = await openFeed(page, { ...options, url: feedUrl('nul') });
      await hub.publishForm({ topic: 'nul', data: 'before \0 after' });
      const [{ data }] = await feed.received(1);
      assert.equal(data, 'before \0 after');
    },
    way === 'native EventSource' || way === 'client over SSE' ? { Firefox: 'its EventSource drops NUL from data' } : {},
  );

  browserTest(`binary data arrives as it was, ${way}`, async (t, { page }) => {
    const hub = await startHub(t);
    await visit(page, hub.http);
    const feed = await openFeed(page, { ...options, url: feedUrl('blobs') });
    const blobs = [Buffer.from([...Array(256).keys()]), Buffer.from([0]), Buffer.alloc(0), Buffer.from('text, but sent as binary')];
    for (const blob of blobs) await hub.publishJson({ topic: 'blobs', data_base64: blob.toString('base64') });
    const records = await feed.received(blobs.length);
    const expected = blobs.map((blob) => blob.toString('base64'));
    // Native EventSource has text only: there it is the base64 itself.
    const received = records.map(({ data }) => (options.kind === 'eventsource' ? data : data.base64));
    assert.deepEqual(received, expected);
  });

  browserTest(`an event of 1 MiB arrives whole, ${way}`, async (t, { page }) => {
    const hub = await startHub(t);
    await visit(page, hub.http);
    const feed = await openFeed(page, { ...options, url: feedUrl('large') });
    // Cut between two characters.
    const data = Buffer.from('Füllstoff 🎈 '.repeat(MIB / 8)).subarray(0, MIB).toString().replace(/\uFFFD+$/, '');
    const blob = randomBytes(MIB);
    const id = await hub.publishForm({ topic: 'large', data });
    await hub.publishJson({ topic: 'large', data_base64: blob.toString('base64') });
    await hub.publishForm({ topic: 'large', data: 'after' });
    const [first, second, after] = await feed.received(3, 20_000);
    assert.equal(first.id, id);
    assert.deepEqual(first.data, { isBinary: false, ...digest(Buffer.from(data)) });
    const isText = options.kind === 'eventsource';
    assert.deepEqual(second.data, { isBinary: !isText, ...digest(isText ? Buffer.from(blob.toString('base64')) : blob) });
    assert.equal(after.data, 'after');
  });

  browserTest(`1,000 numbered events arrive in order, none lost, none twice, ${way}`, async (t, { page }) => {
    const hub = await startHub(t);
    await visit(page, hub.http);
    const feed = await openFeed(page, { ...options, url: feedUrl('numbers') });
    const ids = [];
    for (let start = 0; start < 1000; start += 50) {
      // In bursts, with single ones between them, and with others' events that this page didn't ask for.
      const burst = Array.from({ length: 49 }, (_, i) => ({ topic: i % 7 ? 'numbers' : ['other', 'numbers'], data: `${start + i}` }));
      const answers = await hub.publishLines(burst.flatMap((draft) => [draft, { topic: 'noise', data: 'noise' }]));
      ids.push(...answers.filter((_, i) => i % 2 === 0).map(({ id }) => id));
      ids.push(await hub.publishForm({ topic: 'numbers', data: `${start + 49}` }));
    }
    await hub.publishForm({ topic: 'numbers', data: 'end' });
    const records = (await feed.receivedUpTo('end', 20_000)).slice(0, -1);
    assert.deepEqual(records.map(({ data }) => data), Array.from({ length: 1000 }, (_, i) => `${i}`));
    assert.deepEqual(records.map(({ id }) => id), ids);
  });
}

browserTest('both transports, open at once, give the same events the same cursor, topic and time', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const topic = 'räume/1 ; n=%41?&# 🎈';
  const feeds = [];
  for (const options of Object.values(WAYS)) {
    if (options.kind !== 'eventsource') feeds.push(await openFeed(page, { ...options, url: feedUrl(topic), types: ['note'] }));
  }
  await hub.publishJson({ topic: [topic, 'alias'], data: { a: [1, 'ü'] }, id: 'a publisher’s; t=1 id', type: 'note' });
  await hub.publishJson({ topic: ['alias', topic], data_base64: 'AAEC' });
  const [raw, ...others] = await Promise.all(
    feeds.map(async (feed) => {
      const records = await feed.received(2);
      return records.map(({ id, cursor, topic: canonical, at, type, data }) => ({ id, cursor, canonical, at, type, data }));
    }),
  );
  assert.equal(raw?.[0]?.canonical, topic);
  assert.equal(raw?.[1]?.canonical, 'alias');
  assert.equal(raw?.[0]?.data, '{"a":[1,"ü"]}');
  for (const other of others) assert.deepEqual(other, raw);
});

browserTest('a page publishes with a form, with fetch, with the client and in its WebTransport session', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const feed = await openFeed(page, { kind: 'client', transport: 'sse', url: feedUrl('said') });
  const raw = await openFeed(page, { kind: 'raw', url: feedUrl('said') });

  const byFetch = await page.evaluate(async () => {
    const response = await fetch('/events', { method: 'POST', body: new URLSearchParams({ topic: 'said', data: 'by fetch' }) });
    return response.text();
  });
  const { id: byClient } = await feed.call('publish', { topic: 'said', data: 'by the client' });
  const { ok } = await raw.call('request', 0x13, { request_id: 7, topic: 'said', data: 'in the session' });
  // An HTML form, that shows its answer in a frame.
  const byForm = await page.evaluate(async () => {
    const frame = document.createElement('iframe');
    frame.name = 'answer';
    const form = document.createElement('form');
    Object.assign(form, { action: '/events', method: 'POST', target: 'answer' });
    for (const [name, value] of [['topic', 'said'], ['data', 'by a form']]) {
      form.append(Object.assign(document.createElement('input'), { name, value }));
    }
    document.body.append(frame, form);
    form.submit();
    await new Promise((resolve) => {
      frame.onload = () => frame.contentDocument?.URL.endsWith('/events') && resolve(null);
    });
    return frame.contentDocument?.body.textContent;
  });

  const expected = [[byFetch, 'by fetch'], [byClient, 'by the client'], [ok.id, 'in the session'], [byForm, 'by a form']];
  for (const received of [await feed.received(4), await raw.received(4)]) {
    assert.deepEqual(received.map(({ id, data }) => [id, data]), expected);
  }
});

/** @param {Buffer} bytes */
function digest(bytes) {
  return { bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

const MIB = 1024 * 1024;

/** What publishers send, and where the text changes: what arrives. */
const LETTERS = [
  { publisher: 'plain', sent: { data: 'plain' } },
  { publisher: 'multibyte', sent: { data: 'Grüße, 世界, עולם, 🎈👩‍👩‍👧‍👦, e\u0301' } },
  { publisher: 'line ends', sent: { data: 'a\r\nb\rc\nd\n\ne\r\r\n' }, data: 'a\nb\nc\nd\n\ne\n\n' },
  { publisher: 'only a line end', sent: { data: '\n' } },
  { publisher: 'separators that are no line ends in SSE', sent: { data: 'a\u2028b\u2029c\u0085d\u000be\u000cf' } },
  { publisher: 'empty data', sent: { data: '' } },
  { publisher: 'no data', sent: {} },
  { publisher: 'leading spaces', sent: { data: '  two spaces, then\n one' } },
  { publisher: 'a byte order mark', sent: { data: '\ufeffafter the mark' } },
  { publisher: 'control characters', sent: { data: 'escape \x1b, bell \x07, tab \t' } },
  { publisher: 'text that looks like an event stream', sent: { data: 'x\n\nid: 7\nevent: evil\ndata: y\n: comment\nretry: 1\n\n' } },
  { publisher: 'a type', sent: { data: 'typed', type: 'note' } },
  { publisher: 'an id', sent: { data: 'named', id: 'urn:uuid:3' } },
  { publisher: 'a type and an id beyond ASCII', sent: { data: 'both', type: 'note', id: 'späti 🎈; t=1' } },
  { publisher: 'an id that was used before', sent: { data: 'named again', id: 'urn:uuid:3' } },
  { publisher: 'a reconnection time', sent: { data: 'slowly', retry: '1500' } },
];
