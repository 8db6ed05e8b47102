// Publishers and subscribers that others made, against the hub as it is: what one publishes, the others get.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { EventSource } from 'eventsource';
import { startHub } from '../browser/support/hub.js';
import { temporaryDirectory } from '../browser/support/process.js';
import { until } from '../browser/support/wait.js';
import { lines, runPython, skip } from './python.js';

const SCRIPT = 'others.py';

const BOOK = 'https://example.com/books/1';
/** As Python's mercure-publisher takes them. */
const UPDATES = [
  { topic: BOOK, data: { status: 'published' } },
  { topic: [BOOK, 'https://example.com/users/42/books/1'], data: 'lines\n\n  and: more\r\n', id: 'urn:uuid:1', type: 'book' },
  { topic: 'not asked for', data: 'x' },
  { topic: BOOK, data: '', id: 'ünïcode 🎉', retry: 3000 },
];
/** What subscribers see of them. */
const EXPECTED = [
  { type: 'message', data: '{"status": "published"}' },
  { type: 'book', data: 'lines\n\n  and: more\n', id: 'urn:uuid:1' },
  { type: 'message', data: '', id: 'ünïcode 🎉' },
];

test('npm eventsource and PyPI httpx-sse get what PyPI mercure-publisher publishes', { skip, timeout: 60_000 }, async (t) => {
  const hub = await startHub(t);
  const url = `${hub.http}/.well-known/mercure`;
  const query = new URLSearchParams({ match_urlpattern: 'https://example.com/books/:id' });
  const source = listen(t, `${url}?${query}`);
  const reader = runPython(t, SCRIPT, ['subscribe', `${url}?${query}`, '3']);
  await until('both are subscribed', () => source.isOpen && reader.lines.length > 0);
  const ids = await publish(t, url, UPDATES);
  assert.deepEqual([ids.length, ids[1], ids[3]], [4, 'urn:uuid:1', 'ünïcode 🎉']);
  const expected = EXPECTED.map((event) => ({ ...event, id: event.id ?? ids[0] }));
  await until('every event is there', () => source.events.length >= 3 && reader.lines.length >= 4);
  assert.deepEqual(source.events, expected);
  const read = reader.lines.slice(1).map((line) => JSON.parse(line));
  assert.deepEqual(read.map(({ event, data, id }) => ({ type: event, data, id })), expected);
  assert.equal(read[2].retry, 3000);
});

test('with tokens, npm eventsource and PyPI httpx-sse get what PyPI mercure-publisher publishes for them alone', { skip, timeout: 60_000 }, async (t) => {
  const [resource, issuer, secret] = ['https://hub.example/.well-known/mercure', 'https://app.example', 'x'.repeat(32)];
  const flags = ['--allow-anonymous', '--resource', resource, '--token-issuer', issuer, '--token-secret', secret];
  const hub = await startHub(t, { flags });
  const url = `${hub.http}/.well-known/mercure`;
  const token = (/** @type {string} */ action) => {
    const topics = [{ match: 'https://example.com/books/:id', match_type: 'urlpattern' }];
    const details = [{ type: 'https://mercure.rocks/authorization-detail', actions: [action], topics }];
    const now = Math.floor(Date.now() / 1000);
    const who = { iss: issuer, aud: resource, sub: 'somebody', client_id: issuer, jti: action, iat: now, exp: now + 60 };
    const parts = [{ alg: 'HS256', typ: 'at+jwt' }, { ...who, authorization_details: details }];
    const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`;
  };
  const bearer = { Authorization: `Bearer ${token('subscribe')}` };
  const granted = listen(t, `${url}?match=${BOOK}`, (input, init) => fetch(input, { ...init, headers: { ...init.headers, ...bearer } }));
  const stranger = listen(t, `${url}?match=${BOOK}`);
  const reader = runPython(t, SCRIPT, ['subscribe', `${url}?match=${BOOK}`, '2', token('subscribe')]);
  await until('all are subscribed', () => granted.isOpen && stranger.isOpen && reader.lines.length > 0);
  const updates = [{ topic: BOOK, data: 'secret', private: true, id: 'one' }, { topic: BOOK, data: 'public', id: 'two' }];
  assert.deepEqual(await publish(t, url, updates), ['401', '401'], "its own tokens are the protocol's 0.x");
  assert.deepEqual(await publish(t, url, updates, token('subscribe')), ['403', '403']);
  assert.deepEqual(await publish(t, url, updates, token('publish')), ['one', 'two']);
  await until('every event is there', () => granted.events.length >= 2 && stranger.events.length >= 1 && reader.lines.length >= 3);
  const data = (/** @type {{ data: string }[]} */ events) => events.map(({ data }) => data);
  assert.deepEqual(data(granted.events), ['secret', 'public']);
  assert.deepEqual(data(reader.lines.slice(1).map((line) => JSON.parse(line))), ['secret', 'public']);
  assert.deepEqual(data(stranger.events), ['public']);
});

test('npm eventsource comes back after a restart with its Last-Event-ID, and misses nothing', { timeout: 60_000 }, async (t) => {
  const { path, remove } = await temporaryDirectory();
  t.after(remove);
  const hub = await startHub(t, { flags: ['--retry', '100ms', '--data-dir', path] });
  const source = listen(t, `${hub.http}/.well-known/mercure?match=a`);
  await until('it is open', () => source.isOpen);
  await hub.publishForm({ topic: 'a', data: '1', id: 'one' });
  await until('it has the first', () => source.events.length === 1);
  await hub.kill();
  source.isOpen = false;
  await hub.start();
  // Before or after it is back: it comes with the id of the first.
  await hub.publishForm({ topic: 'a', data: '2' });
  await hub.publishForm({ topic: 'a', data: '3', id: 'three' });
  await until('it has the others', () => source.events.length >= 3);
  assert.deepEqual(source.events.map(({ data }) => data), ['1', '2', '3']);
});

/**
 * An EventSource, and what it has brought.
 * @param {import('node:test').TestContext} t @param {string} url @param {import('eventsource').FetchLike} [fetch]
 */
function listen(t, url, fetch) {
  const source = new EventSource(url, fetch && { fetch });
  t.after(() => source.close());
  const story = { isOpen: false, /** @type {{ type: string, data: string, id: string }[]} */ events: [] };
  source.addEventListener('open', () => (story.isOpen = true));
  for (const type of ['message', 'book']) {
    source.addEventListener(type, ({ data, lastEventId }) => story.events.push({ type, data, id: lastEventId }));
  }
  return story;
}

/**
 * The ids of what was published, or the statuses that it was refused with.
 * @param {import('node:test').TestContext} t @param {string} url @param {object[]} updates @param {string} [token]
 */
function publish(t, url, updates, token) {
  return lines(runPython(t, SCRIPT, ['publish', url, ...(token ? [token] : [])], updates));
}
