// What the client's choice of a transport costs, in time. Not part of `npm run faults`: it wants a machine that does nothing else.

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { BROWSERS, testIn } from '../support/browsers.js';
import { visit } from '../support/feed.js';
import { startHub } from '../support/hub.js';
import { favourWebTransport, PRELOADED } from '../support/memory.js';
import { startTcpRelay } from '../support/relay.js';
import { firstEvent, learned } from './in-page.js';
import { Network, networkMissing } from './network.js';
import { startPublisher, TOPIC } from './publisher.js';
import { report } from './report.js';
import { BACK_MS } from './scenarios.js';
import { HEARTBEAT_MS, openStory } from './story.js';

/** @typedef {import('node:test').TestContext} TestContext */
/** @typedef {import('../support/browsers.js').Tab} Tab */
/**
 * How a page may begin.
 * @typedef {object} Start
 * @property {string} name
 * @property {boolean} isBlocked UDP
 * @property {number} [lost] of all packets, of 1
 * @property {number} [tcpDelayMs] each way, to the page and to SSE
 * @property {'works' | 'quicker' | 'fails' | null} memory of WebTransport; `quicker`: wrong here, where SSE is one request more on a connection that is open
 * @property {boolean} [isPreloaded] with what the README has a page without a bundler preload
 * @property {number} laterMsMax than a bare EventSource, in the median; for `NO_SLOWER_MS` what two EventSources differ by, where that is more
 */

/** No slower, for whoever looks at it: what the client's own code may take, an eighth of a frame on a screen. Two EventSources differ by as much. */
const NO_SLOWER_MS = 2;
/** That WebTransport has at the most, where it is remembered to be the quicker one. */
const HEAD_START_MS = 100;
/** @type {Start[]} */
const STARTS = [
  { name: 'UDP open, nothing remembered', isBlocked: false, memory: null, laterMsMax: NO_SLOWER_MS },
  { name: 'UDP open, remembered to work', isBlocked: false, memory: 'works', laterMsMax: NO_SLOWER_MS },
  { name: 'UDP open, remembered to work, modules preloaded', isBlocked: false, memory: 'works', isPreloaded: true, laterMsMax: NO_SLOWER_MS },
  { name: 'UDP open, TCP 60 ms longer, remembered to work, modules preloaded', isBlocked: false, tcpDelayMs: 30, memory: 'works', isPreloaded: true, laterMsMax: NO_SLOWER_MS },
  { name: 'UDP open, wrongly remembered to be quicker', isBlocked: false, memory: 'quicker', laterMsMax: HEAD_START_MS },
  { name: '5 % of all packets lost, nothing remembered', isBlocked: false, lost: 0.05, memory: null, laterMsMax: 20 },
  { name: 'UDP blocked, nothing remembered', isBlocked: true, memory: null, laterMsMax: 20 },
  { name: 'UDP blocked, remembered to fail', isBlocked: true, memory: 'fails', laterMsMax: 20 },
  { name: 'UDP blocked, wrongly remembered to be quicker', isBlocked: true, memory: 'quicker', laterMsMax: HEAD_START_MS },
];
/** Twice a bare EventSource: what these two differ by is chance. */
const WHO = /** @type {const} */ (['bare', 'own', 'again']);
const ROUNDS = 20;
const LONG_ROUNDS = 3;
const LONG = { timeoutMs: 600_000 };

for (const kind of BROWSERS) {
  const usable = {
    ...kind,
    missing: networkMissing || kind.missing,
    // Firefox rounds its clock to a millisecond, for pages that nobody trusts.
    launch: () => kind.launch({ preferences: { 'privacy.reduceTimerPrecision': false } }),
  };
  for (const start of STARTS) testIn(usable, `the first event, ${start.name}`, (t, tab) => measureStart(t, tab, start), LONG);
  testIn(usable, 'the next event over SSE after UDP is cut, and the return', measureCuts, LONG);
  testIn(usable, 'the return after UDP was cut for a minute', measureLongCuts, LONG);
}

/**
 * From the constructor to the first event, a bare EventSource, the client and an EventSource again in turns, each in a page that was just
 * loaded. The event is there already: it is asked for.
 * @param {TestContext} t @param {Tab} tab @param {Start} start
 */
async function measureStart(t, { page, kind }, { name, isBlocked, lost, tcpDelayMs, memory, isPreloaded, laterMsMax }) {
  const hub = await startHub(t);
  const origin = tcpDelayMs ? (await startTcpRelay(t, hub.port, { delayMs: tcpDelayMs })).origin : hub.http;
  const network = new Network(t, hub);
  await hub.publishForm({ topic: 'first', data: 'event' });
  const url = '/events?topic=first&last_event_id=earliest';
  await visit(page, origin);
  if (memory === 'fails') await network.dropUdp();
  const preloaded = isPreloaded ? PRELOADED : [];
  const works = memory !== 'fails';
  if (memory) await page.evaluate(learned, url, works, preloaded);
  if (memory === 'quicker') await page.evaluate(favourWebTransport);
  const stored = memory ? await page.evaluate(() => ({ ...localStorage })) : {};
  await network.restore();
  if (isBlocked) await network.dropUdp();
  if (lost) await network.losePackets(lost);

  /** @type {Record<typeof WHO[number], number>[]} */
  const turns = [];
  /** @type {Set<string>} */
  const over = new Set();
  for (let round = 0; round <= ROUNDS; round++) {
    const turn = { bare: 0, own: 0, again: 0 };
    for (let place = 0; place < WHO.length; place++) {
      // Each is first, second and last equally often.
      const who = /** @type {typeof WHO[number]} */ (WHO[(round + place) % WHO.length]);
      await visit(page, origin);
      const { ms, transport } = await page.evaluate(firstEvent, who, url, stored, preloaded);
      turn[who] = ms;
      // The first round warms up.
      if (who === 'own' && round > 0) over.add(transport);
    }
    if (round > 0) turns.push(turn);
  }
  const result = {
    start: name,
    browser: kind.name,
    eventSourceMs: spread(turns.flatMap(({ bare, again }) => [bare, again])).median,
    fanwireMs: spread(turns.map(({ own }) => own)).median,
    laterMs: spread(turns.map(({ bare, own, again }) => own - (bare + again) / 2)).median,
    chanceMs: spread(turns.map(({ bare, again }) => Math.abs(again - bare))).median,
    over: [...over].sort().join(', '),
  };
  t.diagnostic(JSON.stringify(result));
  await report(result);
  // The other limits are wide enough for chance.
  const allowedMs = laterMsMax === NO_SLOWER_MS ? Math.max(laterMsMax, result.chanceMs) : laterMsMax;
  assert.ok(result.laterMs <= allowedMs, `${result.laterMs} ms later than a bare EventSource, and ${allowedMs} are allowed`);
}

/** @param {TestContext} t @param {Tab} tab */
async function measureCuts(t, { page, kind }) {
  const hub = await startHub(t);
  const network = new Network(t, hub);
  const publisher = startPublisher(t, hub);
  const onMs = [];
  const backMs = [];
  for (let round = 0; round < ROUNDS; round++) {
    await visit(page, hub.http);
    const story = await openStory(page, `/events?topic=${TOPIC}`);
    await story.over('webtransport');
    // Anywhere between two heartbeats.
    await publisher.more(10 + round * 2);
    const cutMs = Date.now();
    await network.dropUdp();
    onMs.push((await story.nextOver('sse')).atMs - cutMs);
    const mendMs = Date.now();
    await network.restore();
    backMs.push((await story.nextOver('webtransport', BACK_MS)).atMs - mendMs);
    await story.close();
  }
  await publisher.stop();
  const result = { cut: 'short', browser: kind.name, onMs: spread(onMs), backMs: spread(backMs) };
  t.diagnostic(JSON.stringify(result));
  await report(result);
  assert.ok(result.onMs.p95 <= 1.5 * HEARTBEAT_MS + 1000, `events went on after ${result.onMs.p95} ms`);
  assert.ok(result.backMs.most <= 30_000, `back after ${result.backMs.most} ms`);
}

/** When a client waits longest between attempts. @param {TestContext} t @param {Tab} tab */
async function measureLongCuts(t, { page, kind }) {
  const hub = await startHub(t);
  const network = new Network(t, hub);
  const publisher = startPublisher(t, hub);
  const backMs = [];
  for (let round = 0; round < LONG_ROUNDS; round++) {
    await visit(page, hub.http);
    const story = await openStory(page, `/events?topic=${TOPIC}`);
    await story.over('webtransport');
    await network.dropUdp();
    await delay(60_000);
    await story.over('sse');
    const mendMs = Date.now();
    await network.restore();
    backMs.push((await story.nextOver('webtransport', 2 * BACK_MS)).atMs - mendMs);
    await story.close();
  }
  await publisher.stop();
  const result = { cut: 'a minute', browser: kind.name, backMs: spread(backMs) };
  t.diagnostic(JSON.stringify(result));
  await report(result);
  assert.ok(result.backMs.most <= 30_000, `back after ${result.backMs.most} ms`);
}

/** @param {number[]} values @returns {import('./report.js').Spread} */
function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (/** @type {number} */ share) => rounded(sorted[Math.ceil(share * sorted.length) - 1] ?? NaN);
  const middle = sorted.length / 2;
  const median = rounded(((sorted[Math.ceil(middle) - 1] ?? NaN) + (sorted[Math.floor(middle)] ?? NaN)) / 2);
  return { median, p95: at(0.95), most: at(1) };
}

/** @param {number} ms */
function rounded(ms) {
  return Math.round(ms * 10) / 10;
}
