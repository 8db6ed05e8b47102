// Private events reach a page whose token grants them, over every transport, and go on when its token is replaced by the next.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { browserTest } from './support/browsers.js';
import { feedUrl, visit } from './support/feed.js';
import { startHub } from './support/hub.js';
import { clientModules, startOtherSite } from './support/other-site.js';
import { until } from './support/wait.js';

const WAYS = { webtransport: { transport: 'webtransport' }, sse: { transport: 'sse' }, 'whatever is best': {} };

for (const [way, options] of Object.entries(WAYS)) {
  browserTest(`a token that expires is replaced by the next one, and nothing is lost, ${way}`, async (t, { page }) => {
    const hub = await startHub(t, { flags: KEYS });
    await visit(page, hub.http);
    // The first one lives for some seconds, so it is replaced about half-way.
    await open(page, options, [token({ seconds: 5 }), token({ seconds: 3600 })]);
    const publish = publisher(hub);
    const startMs = Date.now();
    for (let n = 0; Date.now() < startMs + 7000; n++) await publish(`${n}`, true);
    await publish('end', true);
    await until('the end', async () => (await state(page)).got.at(-1) === 'end');
    const { got, errors, asked, transport } = await state(page);
    assert.deepEqual(got.slice(0, -1), Array.from({ length: got.length - 1 }, (_, i) => `${i + Number(got[0])}`));
    assert.equal(got[0], '0');
    assert.deepEqual(errors, []);
    assert.equal(asked, 2);
    if (way !== 'sse') assert.equal(transport, 'webtransport');
  });

  browserTest(`a token that the hub refuses is asked for anew, ${way}`, async (t, { page }) => {
    const hub = await startHub(t, { flags: KEYS });
    await visit(page, hub.http);
    await open(page, options, [token({ secret: 'somebody else’s secret, which is as long' }), token({})]);
    await until('it is let in', async () => (await state(page)).readyState === 1, 15_000);
    await publisher(hub)('private', true);
    await until('the event', async () => (await state(page)).got.length === 1);
    assert.equal((await state(page)).asked, 2);
  });

  browserTest(`a token that stays refused ends the feed, ${way}`, async (t, { page }) => {
    const hub = await startHub(t, { flags: KEYS });
    await visit(page, hub.http);
    await open(page, options, [token({ secret: 'somebody else’s secret, which is as long' })]);
    await until('the end', async () => (await state(page)).readyState === 2, 15_000);
    const { errors } = await state(page);
    assert.equal(errors.length, 1);
    assert.ok(errors[0].isTerminal && (errors[0].status === 401 || errors[0].code === 3), JSON.stringify(errors));
  });
}

browserTest('a page publishes with its token, and without one it may not', async (t, { page }) => {
  const hub = await startHub(t, { flags: KEYS });
  await visit(page, hub.http);
  await open(page, {}, [token({})]);
  await until('it is let in', async () => (await state(page)).readyState === 1);
  await page.evaluate(() => globalThis.feed.publish({ topic: 'a', data: 'mine', private: true }));
  await until('the event', async () => (await state(page)).got[0] === 'mine');
  const code = await page.evaluate(async () => {
    const { Fanwire } = await import('/client/fanwire.js');
    const stranger = new Fanwire('/events?topic=a');
    return stranger.publish({ topic: 'a', data: 'x' }).then(() => null, (error) => error.code).finally(() => stranger.close());
  });
  assert.equal(code, 'no_token');
});

browserTest('a page of another site that the hub allows shows its token in a header, and one that it doesn’t gets nothing', async (t, { page }) => {
  const origin = await startOtherSite(t);
  const hub = await startHub(t, { flags: [...KEYS, '--allowed-origins', origin] });
  const closed = await startHub(t, { flags: KEYS });
  await page.goto(`${origin}/blank`);
  const modules = await clientModules(hub.http);
  const ask = (/** @type {string} */ at, /** @type {string} */ shown) => page.evaluate(async (files, url, given) => {
    const { Fanwire } = await globalThis.eval(files);
    let sources = 0;
    const environment = { EventSource: class extends EventSource { constructor(...all) { super(...all); sources++; } } };
    const feed = new Fanwire(url, { transport: 'sse', sse: 'fetch', token: async () => given, environment });
    const got = new Promise((resolve) => (feed.onmessage = ({ data }) => resolve(data)));
    try {
      await new Promise((resolve, reject) => {
        feed.onopen = resolve;
        feed.onerror = ({ fanwire }) => reject(new Error(fanwire.reason));
      });
      await feed.publish({ topic: 'a', data: 'private', private: true });
      return { data: await got, sources };
    } catch (error) {
      return { failed: error.message };
    } finally {
      feed.close();
    }
  }, modules, `${at}/events?topic=a`, shown);
  assert.deepEqual(await ask(hub.http, token({})), { data: 'private', sources: 0 });
  assert.match((await ask(hub.http, token({ secret: 'somebody else’s secret, which is as long' }))).failed ?? '', /401/);
  // The browser isn't even let ask.
  const { failed } = await ask(closed.http, token({}));
  assert.ok(failed && !/answered/.test(failed), failed);
});

browserTest('a feed that needs its cookie stays where cookies are', async (t, { page }) => {
  const hub = await startHub(t, { flags: [...KEYS, '--allow-anonymous', '--cookie', 'token'] });
  await visit(page, hub.http);
  await page.evaluate((value) => (document.cookie = `token=${value}; path=/`), token({}));
  await open(page, { withCredentials: true }, null);
  await until('it is let in', async () => (await state(page)).readyState === 1);
  await until('WebTransport is refused', async () => (await state(page)).links.webtransport?.state === 'off');
  await publisher(hub)('private', true);
  await until('the event', async () => (await state(page)).got.length === 1);
  assert.equal((await state(page)).transport, 'sse');
});

/** A feed of topic a in the page; its token provider gives these, and the last one again and again. */
function open(page, options, tokens) {
  return page.evaluate(async (url, given, all) => {
    const { Fanwire } = await import('/client/fanwire.js');
    globalThis.story = { got: [], errors: [], asked: 0 };
    const { got, errors } = globalThis.story;
    const token = all && (async () => all[Math.min(globalThis.story.asked++, all.length - 1)]);
    globalThis.feed = new Fanwire(url, { ...given, ...(token && { token }) });
    globalThis.feed.onmessage = ({ data }) => got.push(data);
    globalThis.feed.onerror = ({ fanwire }) => errors.push(fanwire);
    // Whoever publishes next is heard.
    if (all?.length === 2) await new Promise((resolve) => (globalThis.feed.onopen = resolve));
  }, feedUrl('a'), options, tokens);
}

function state(page) {
  return page.evaluate(() => {
    const { readyState, transport, links } = globalThis.feed;
    return { ...globalThis.story, readyState, transport, links };
  });
}

function publisher(hub) {
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${token({})}` };
  return async (/** @type {string} */ data, /** @type {boolean} */ isPrivate) => {
    const body = JSON.stringify({ topic: 'a', data, private: isPrivate });
    const response = await fetch(`${hub.http}/events`, { method: 'POST', headers, body });
    assert.equal(response.status, 200, await response.text());
  };
}

/** An access token, as an application's server makes them. [RFC 9068] */
function token({ seconds = 3600, secret = SECRET }) {
  const now = Math.floor(Date.now() / 1000);
  const grant = (/** @type {string} */ action) => ({
    type: 'https://mercure.rocks/authorization-detail', actions: [action], topics: [{ match: 'a' }],
  });
  const claims = {
    iss: ISSUER, aud: RESOURCE, sub: 'somebody', client_id: 'page', jti: `${now}-${seconds}`, iat: now, exp: now + seconds,
    authorization_details: [grant('publish'), grant('subscribe')],
  };
  const part = (/** @type {unknown} */ value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const message = `${part({ alg: 'HS256', typ: 'at+jwt' })}.${part(claims)}`;
  return `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
}

const SECRET = 'a secret of the tests, long enough to be one';
const ISSUER = 'https://app.example';
const RESOURCE = 'https://hub.example/.well-known/mercure';
const KEYS = ['--resource', RESOURCE, '--token-issuer', ISSUER, '--token-secret', SECRET];
