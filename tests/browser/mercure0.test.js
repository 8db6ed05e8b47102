// A page of Mercure 0.x: the browser's own EventSource with a cookie and URI templates, and a client that pages bring along.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { browserTest } from './support/browsers.js';
import { visit } from './support/feed.js';
import { startHub } from './support/hub.js';
import { until } from './support/wait.js';

const SECRET = '!ChangeThisMercureHubJWTSecretKey!';
const FLAGS = ['--mercure-0x', 'http', '--token-secret', SECRET, '--token-mercure-0x', 'publish,subscribe'];

browserTest('a page of Mercure 0.x gets what its cookie grants, and knows where its feed begins', async (t, { page }) => {
  const hub = await startHub(t, { flags: FLAGS });
  await visit(page, hub.http);
  const path = '/.well-known/mercure';
  const topics = new URLSearchParams({ topic: 'https://example.com/books/{id}' });
  const cookie = `mercureAuthorization=${token({ subscribe: ['https://example.com/books/{id}'] })}; path=${path}`;
  await page.evaluate((cookie, url) => {
    document.cookie = cookie;
    const story = Object.assign(globalThis, { seen: /** @type {string[]} */ ([]), begins: '', text: '' });
    const source = new EventSource(url);
    source.onmessage = ({ data }) => story.seen.push(data);
    // No page listens to this; it is how the browser knows the id to come back with.
    source.addEventListener('fanwire', ({ lastEventId }) => (story.begins = lastEventId));
    // As fetch-event-source reads, which would take it for an event.
    fetch(url, { headers: { accept: 'text/event-stream' } }).then(async ({ body }) => {
      for await (const piece of /** @type {any} */ (body).pipeThrough(new TextDecoderStream())) story.text += piece;
    });
  }, cookie, `${path}?${topics}`);
  const story = () => page.evaluate(() => /** @type {any} */ ({ seen: globalThis.seen, begins: globalThis.begins, text: globalThis.text }));
  await until('both are open', async () => {
    const { begins, text } = await story();
    return begins && text;
  });
  const { begins, text } = await story();
  assert.match(begins, /^#\w{10}:0$/);
  assert.ok(!text.includes('\n\n'), text);
  const headers = { Authorization: `Bearer ${token({ publish: ['*'] })}` };
  for (const fields of [{ topic: 'https://example.com/books/1/2', data: 'no book' }, { topic: 'https://example.com/books/1', data: 'a book' }]) {
    const answer = await fetch(`${hub.http}${path}`, { method: 'POST', headers, body: new URLSearchParams({ ...fields, private: 'on' }) });
    assert.equal(answer.status, 200);
  }
  await until('both have it', async () => {
    const { seen, text } = await story();
    return seen.length > 0 && text.includes('data: a book\n\n');
  });
  assert.deepEqual((await story()).seen, ['a book']);
});

/** @param {object} grants */
function token(grants) {
  const parts = [{ alg: 'HS256', typ: 'JWT' }, { mercure: grants }];
  const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
  return `${text}.${createHmac('sha256', SECRET).update(text).digest('base64url')}`;
}
