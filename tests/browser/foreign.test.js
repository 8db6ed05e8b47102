// A hub for trying is open to this machine's pages, and to no other page that happens to be open in the browser.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { BROWSERS, launchFor, openTab } from './support/browsers.js';
import { test } from 'node:test';
import { feedUrl, openFeed } from './support/feed.js';
import { startHub } from './support/hub.js';
import { listen } from './support/process.js';
import { until } from './support/wait.js';

const WAYS_OUT = [
  { title: 'a fetch', run: publishByFetch },
  { title: 'a fetch that wants no answer, and so needs no leave', run: publishWithoutCors },
  { title: 'an HTML form', run: publishByForm },
];

for (const kind of BROWSERS) {
  test(`${kind.name}: a page of a foreign origin can neither publish nor listen`, { skip: kind.missing, timeout: 60_000 }, async (t) => {
    const { hub, tab, origins } = await setUp(t, kind);
    const hash = await certificateHash(hub);

    for (const [origin, isAllowed] of /** @type {[string, boolean][]} */ ([[origins.evil, false], [origins.good, true]])) {
      await tab.page.goto(`${origin}/blank`);
      for (const { title, run } of WAYS_OUT) {
        const answer = await tab.page.evaluate(run, `${hub.http}/events`, `${title} of ${origin}`);
        if (title === 'a fetch') assert.equal(answer.ok, isAllowed, `${title} of ${origin}`);
      }
      // The browser has sent all three: the hub has refused them, or has them.
      await until('all are refused, or taken', async () => {
        const kept = await hub.kept();
        return isAllowed ? kept.length === WAYS_OUT.length : refusals(hub) >= WAYS_OUT.length;
      });

      const native = await openFeed(tab.page, { kind: 'eventsource', url: `${hub.http}${feedUrl('secret')}` }, { withinMs: 0 });
      if (isAllowed) await native.openedTimes(1);
      else assert.deepEqual(await native.saw('errors'), { readyState: 2 });

      const url = `${hub.https}${feedUrl('secret')}`;
      const session = openFeed(tab.page, { kind: 'raw', url, hash });
      if (isAllowed) await session;
      // Refused while it is being set up: neither ready nor ever a stream.
      else await assert.rejects(session, /WebTransport/);
    }
    assert.deepEqual(await hub.kept(), WAYS_OUT.map(({ title }) => `${title} of ${origins.good}`));
    assert.match(hub.log, /session refused.*foreign_origin|foreign_origin.*session refused/);
  });

  test(`${kind.name}: a name that points at this machine by its owner’s will gets nothing (DNS rebinding)`, { skip: kind.missing, timeout: 60_000 }, async (t) => {
    const { hub, tab, origins } = await setUp(t, kind);
    const rebound = `http://evil.example:${hub.port}`;
    for (const path of ['/', '/events?topic=secret', '/.well-known/fanwire', '/client/fanwire.js']) {
      const response = await tab.page.goto(`${rebound}${path}`);
      assert.equal(response?.status(), 403, path);
    }
    // What is left of the last page is of the same origin as the hub, as far as the browser knows.
    const answers = await tab.page.evaluate(async () => {
      const answer = async (/** @type {RequestInit} */ init) => {
        const response = await fetch('/events?topic=secret', init);
        return { status: response.status, code: (await response.json()).error.code };
      };
      return [await answer({}), await answer({ method: 'POST', body: new URLSearchParams({ topic: 'a', data: 'evil' }) })];
    });
    assert.deepEqual(answers, [{ status: 403, code: 'foreign_host' }, { status: 403, code: 'foreign_host' }]);
    const native = await openFeed(tab.page, { kind: 'eventsource', url: feedUrl('secret') }, { withinMs: 0 });
    assert.deepEqual(await native.saw('errors'), { readyState: 2 });

    await tab.page.goto(`${origins.evil}/blank`);
    const url = `https://evil.example:${hub.tlsPort}${feedUrl('secret')}`;
    await assert.rejects(openFeed(tab.page, { kind: 'raw', url, hash: await certificateHash(hub) }), /WebTransport/);
    assert.match(hub.log, /session refused.*foreign_host|foreign_host.*session refused/);
    assert.deepEqual(await hub.kept(), []);
  });
}

/** Two sites, whose names point at this machine; the hub's owner has listed one of them. */
async function setUp(t, kind) {
  const server = createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>a site</title>');
  });
  const port = await listen(server);
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const origins = { evil: `http://evil.example:${port}`, good: `http://good.example:${port}` };
  const hub = await startHub(t, { flags: ['--allowed-origins', origins.good], log: 'fanwire=debug' });
  // WebTransport is for secure pages only; these two stand for https ones.
  const browser = await launchFor(t, kind, {
    args: [
      '--host-resolver-rules=MAP evil.example 127.0.0.1, MAP good.example 127.0.0.1',
      `--unsafely-treat-insecure-origin-as-secure=${origins.evil},${origins.good}`,
    ],
    preferences: {
      'network.dns.localDomains': 'evil.example,good.example',
      'dom.securecontext.allowlist': 'evil.example,good.example',
    },
  });
  return { hub, origins, tab: await openTab(t, kind, browser) };
}

/** Refusals of requests in the hub's log. @param {{ log: string }} hub */
function refusals({ log }) {
  return (log.match(/code="foreign_origin" path="\/events"/g) ?? []).length;
}

/** @param {{ http: string }} hub */
async function certificateHash(hub) {
  const { webtransport } = await (await fetch(`${hub.http}/.well-known/fanwire`)).json();
  return webtransport.certificate_hashes[0].value;
}

/** @param {string} url @param {string} data */
async function publishByFetch(url, data) {
  try {
    const response = await fetch(url, { method: 'POST', body: new URLSearchParams({ topic: 'a', data }) });
    return { ok: response.ok };
  } catch (error) {
    return { ok: false, error: String(error) };
  }
}

/** @param {string} url @param {string} data */
async function publishWithoutCors(url, data) {
  const { type } = await fetch(url, { method: 'POST', mode: 'no-cors', body: new URLSearchParams({ topic: 'a', data }) });
  return { type };
}

/** @param {string} url @param {string} data */
async function publishByForm(url, data) {
  const frame = Object.assign(document.createElement('iframe'), { name: `frame${Math.random()}` });
  const form = Object.assign(document.createElement('form'), { action: url, method: 'POST', target: frame.name });
  for (const [name, value] of [['topic', 'a'], ['data', data]]) {
    form.append(Object.assign(document.createElement('input'), { name, value }));
  }
  document.body.append(frame, form);
  form.submit();
  return {};
}
