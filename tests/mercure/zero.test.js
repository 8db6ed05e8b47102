// Clients of Mercure 0.x that others made, with the tokens that they make themselves, against a hub that speaks it.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSource } from 'eventsource';
import eventSourcePolyfill from 'event-source-polyfill';
import ReconnectingEventSource from 'reconnecting-eventsource';
import { startHub } from '../browser/support/hub.js';
import { temporaryDirectory } from '../browser/support/process.js';
import { until } from '../browser/support/wait.js';
import { lines, runPython, skip } from './python.js';

const SCRIPT = 'zero.py';
const SECRET = '!ChangeThisMercureHubJWTSecretKey!';
const FLAGS = ['--mercure-0x', 'http', '--token-secret', SECRET, '--token-mercure-0x', 'publish,subscribe', '--allow-anonymous', '--subscriptions'];
const BOOK = 'https://example.com/books/1';
const BOOKS = 'https://example.com/books/{id}';

/** As the libraries of 0.x make them. @param {object} grants */
function token(grants) {
  const parts = [{ alg: 'HS256', typ: 'JWT' }, { mercure: grants }];
  const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}

/** @typedef {{ isOpen: boolean, events: { type: string, data: string, id: string }[] }} Story */

/**
 * Each subscriber: npm's, as its own documentation has it subscribe with a token.
 * @type {Record<string, (url: URL, token: string, story: Story) => () => void>}
 */
const SUBSCRIBERS = {
  'eventsource, with a header': (url, token, story) => {
    const fetchWith = (/** @type {string | URL} */ input, /** @type {RequestInit} */ init) =>
      fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } });
    return follow(new EventSource(url, { fetch: fetchWith }), story);
  },
  'eventsource, with the query': (url, token, story) => follow(new EventSource(withToken(url, token)), story),
  'eventsource, with a cookie': (url, token, story) => {
    const fetchWith = (/** @type {string | URL} */ input, /** @type {RequestInit} */ init) =>
      fetch(input, { ...init, headers: { ...init.headers, Cookie: `mercureAuthorization=${token}` } });
    return follow(new EventSource(url, { fetch: fetchWith }), story);
  },
  'event-source-polyfill': (url, token, story) => {
    const options = { headers: { Authorization: `Bearer ${token}` }, lastEventIdQueryParameterName: 'Last-Event-Id' };
    return follow(new eventSourcePolyfill.EventSourcePolyfill(url.href, options), story);
  },
  'reconnecting-eventsource': (url, token, story) => {
    return follow(new ReconnectingEventSource(withToken(url, token).href, { eventSourceClass: EventSource }), story);
  },
  'fetch-event-source, in a page': (url, token, story) => {
    const controller = new AbortController();
    // It looks at the page's visibility, and Sec-Fetch-Dest is what a browser adds.
    globalThis.window ??= globalThis;
    globalThis.document ??= /** @type {any} */ ({ addEventListener() {}, removeEventListener() {} });
    fetchEventSource(withToken(url, token).href, {
      headers: { 'Sec-Fetch-Dest': 'empty' },
      signal: controller.signal,
      openWhenHidden: true,
      fetch,
      onopen: async ({ status }) => {
        story.isOpen = status === 200;
      },
      onclose: () => {
        throw new Error('it is to come back');
      },
      onmessage: ({ event, data, id }) => void story.events.push({ type: event || 'message', data, id }),
    });
    return () => controller.abort();
  },
};

test('what publishers of 0.x publish with their own tokens, subscribers of 0.x get with theirs', { skip, timeout: 120_000 }, async (t) => {
  const hub = await startHub(t, { flags: FLAGS });
  const url = new URL('/.well-known/mercure', hub.http);
  const mine = 'https://example.com/users/1/{+what}';
  const granted = Object.entries(SUBSCRIBERS).map(([name, subscribe]) => {
    const story = { name, isOpen: false, events: [] };
    t.after(subscribe(withTopics(url, BOOKS, 'chat'), token({ subscribe: [BOOKS, mine] }), story));
    return story;
  });
  const stranger = { isOpen: false, events: [] };
  t.after(follow(new EventSource(withTopics(url, BOOKS)), stranger));
  const consumer = runPython(t, SCRIPT, ['consume', url.href, '3', BOOKS]);
  const [authentified] = await lines(runPython(t, SCRIPT, ['hub-url', url.href, SECRET, BOOK, '{"user":1}']));
  const ofFlask = { isOpen: false, events: [] };
  t.after(follow(new EventSource(authentified ?? ''), ofFlask));
  await until('all are subscribed', () => [...granted, stranger, ofFlask].every(({ isOpen }) => isOpen) && consumer.lines.length > 0);

  const updates = [
    { topic: BOOK, data: 'lines\n\n  and: more', id: 'urn:uuid:1', type: 'book' },
    { topic: BOOK, data: 'private', private: true },
    { topic: 'https://example.com/other', data: 'not asked for' },
  ];
  /** @type {Record<string, string>} */
  const keys = { 'mercure-publisher': SECRET, 'flask-mercure-sse': SECRET, pymercure: token({ publish: [BOOKS, 'https://example.com/other'] }) };
  const expected = [];
  for (const [name, key] of Object.entries(keys)) {
    // pymercure is older than private updates.
    const its = name === 'pymercure' ? updates.filter((update) => !update.private) : updates;
    const ids = await lines(runPython(t, SCRIPT, [name, url.href, key], its));
    assert.equal(ids.length, its.length, name);
    for (const [i, { topic, data, type = 'message', private: isPrivate = false }] of its.entries()) {
      if (topic === BOOK) expected.push({ type, data, id: ids[i], isPrivate });
    }
  }
  assert.deepEqual([expected.length, expected[0]?.id], [5, 'urn:uuid:1']);
  const seen = (/** @type {boolean} */ isGranted) =>
    expected.filter((event) => isGranted || !event.isPrivate).map(({ type, data, id }) => ({ type, data, id }));
  await until('every event is there', () => [...granted, ofFlask].every(({ events }) => events.length >= 5) && stranger.events.length >= 3);
  for (const { name, events } of granted) assert.deepEqual(events, seen(true), name);
  assert.deepEqual(ofFlask.events, seen(true));
  assert.deepEqual(stranger.events, seen(false));
  await until('pymercure has every event', () => consumer.lines.length >= 4);
  const consumed = consumer.lines.slice(1).map((line) => JSON.parse(line));
  assert.deepEqual(consumed.map(({ type, data, id }) => ({ type, data, id })), seen(false));
});

test('subscribers of 0.x come back after a restart with their last event ids, whichever way they say it, and miss nothing', { timeout: 60_000 }, async (t) => {
  const { path, remove } = await temporaryDirectory();
  t.after(remove);
  const hub = await startHub(t, { flags: [...FLAGS, '--retry', '100ms', '--data-dir', path] });
  const url = new URL('/.well-known/mercure', hub.http);
  const stories = Object.entries(SUBSCRIBERS).map(([name, subscribe]) => {
    const story = { name, isOpen: false, /** @type {Story['events']} */ events: [] };
    t.after(subscribe(withTopics(url, BOOKS), token({ subscribe: [BOOKS] }), story));
    return story;
  });
  await until('all are subscribed', () => stories.every(({ isOpen }) => isOpen));
  const publish = async (/** @type {string} */ data) => {
    const body = new URLSearchParams({ topic: BOOK, data, private: 'on' });
    const answer = await fetch(url, { method: 'POST', body, headers: { Authorization: `Bearer ${token({ publish: ['*'] })}` } });
    assert.equal(answer.status, 200);
  };
  await publish('1');
  await until('all have the first', () => stories.every(({ events }) => events.length === 1));
  await hub.kill();
  await hub.start();
  // Before or after they are back: they come with the id of the first.
  await publish('2');
  await publish('3');
  const lacking = () => stories.filter(({ events }) => events.length < 3).map(({ name }) => name);
  await until('all have the others', () => lacking().length === 0).catch((error) => assert.deepEqual(lacking(), [], error.message));
  for (const { name, events } of stories) assert.deepEqual(events.map(({ data }) => data), ['1', '2', '3'], name);
});

test('flask-mercure-sse and eventsource learn who is subscribed', { skip, timeout: 60_000 }, async (t) => {
  const hub = await startHub(t, { flags: FLAGS });
  const url = new URL('/.well-known/mercure', hub.http);
  const every = '/.well-known/mercure/subscriptions/{topic}{/subscriber}';
  const watcher = { isOpen: false, events: /** @type {Story['events']} */ ([]) };
  t.after(follow(new EventSource(withToken(withTopics(url, every), token({ subscribe: [every] }))), watcher));
  await until('it watches', () => watcher.isOpen);
  const [authentified] = await lines(runPython(t, SCRIPT, ['hub-url', url.href, SECRET, 'chat', '{"user":"somebody"}']));
  const story = { isOpen: false, events: [] };
  const close = follow(new EventSource(authentified ?? ''), story);
  t.after(close);
  const told = () => watcher.events.map(({ data }) => JSON.parse(data)).filter(({ topic }) => topic === 'chat');
  const [begun] = await until('its beginning is told', () => told().length === 1 && told());
  assert.deepEqual([begun.type, begun.active, begun.payload], ['Subscription', true, { user: 'somebody' }]);
  const [answer] = await lines(runPython(t, SCRIPT, ['subscriptions', url.href, SECRET, 'chat']));
  const list = JSON.parse(answer ?? '');
  const { '@context': context, ...document } = begun;
  assert.deepEqual([list['@context'], list.type, list.subscriptions], [context, 'Subscriptions', [document]]);
  close();
  await until('its end is told', () => told().length === 2);
  assert.deepEqual(told()[1], { ...begun, active: false });
});

/** @param {URL} url @param {string[]} topics */
function withTopics(url, ...topics) {
  const with_ = new URL(url);
  for (const topic of topics) with_.searchParams.append('topic', topic);
  return with_;
}

/** @param {URL} url @param {string} token */
function withToken(url, token) {
  const with_ = new URL(url);
  with_.searchParams.append('authorization', token);
  return with_;
}

/** What an EventSource brings; gives what closes it. @param {any} source @param {Story} story */
function follow(source, story) {
  source.addEventListener('open', () => (story.isOpen = true));
  source.onopen = () => (story.isOpen = true);
  for (const type of ['message', 'book']) {
    source.addEventListener(type, (/** @type {MessageEvent} */ { data, lastEventId }) => story.events.push({ type, data, id: lastEventId }));
  }
  return () => source.close();
}
