// What goes beyond EventSource: memory, probes, topics, tokens, the iterator.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fanwire } from '../src/fanwire.js';
import { FRAME } from '../src/frames.js';
import { HEAD_START_MS } from '../src/negotiation.js';
import { EPOCH, FakeTime, FakeTransport, cursor } from './support/fakes.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Waits until something is so; what is loaded when it is used may come from a disk that is busy. */
async function until(what, isSo) {
  for (const deadlineMs = performance.now() + 5000; performance.now() < deadlineMs; ) {
    if (isSo()) return;
    await turn();
  }
  assert.fail(`never: ${what}`);
}

async function start(options = {}, time = new FakeTime(), environment = {}) {
  const sse = new FakeTransport();
  const wt = new FakeTransport();
  const fanwire = new Fanwire('/events?topic=a', {
    environment: { ...time.environment(), ...environment },
    transports: { sse: sse.connect, webtransport: wt.connect },
    ...options,
  });
  const got = [];
  fanwire.onmessage = ({ fanwire: { seq } }) => got.push(seq);
  // Where nothing is remembered, WebTransport begins a moment later than SSE.
  if (sse.connections.length === 1 && options.transport !== 'sse') time.advance(HEAD_START_MS);
  await until('the rest is loaded', () => options.transport === 'sse' || fanwire.links.webtransport);
  return { time, sse, wt, fanwire, got };
}

const counts = ({ sse, wt }) => [sse.connections.length, wt.connections.length];
const ping = (seq) => ({ name: 'ping', watermark: { epoch: EPOCH, seq } });

test('what worked is remembered for the next feed, with what the hub offered', async () => {
  const first = await start();
  const offer = { url: 'https://hub.example:4433/events' };
  first.wt.last.request.onOffer(offer);
  first.wt.last.hello(0);
  const second = await start({}, first.time);
  assert.deepEqual(counts(second), [0, 1]);
  assert.deepEqual(second.wt.last.request.offer, offer);
  second.time.advance(HEAD_START_MS);
  assert.deepEqual(counts(second), [1, 1]);
});

test('the head start is of what was measured, here and not long ago', async () => {
  const hour = 3_600_000;
  // SSE's hello 90 ms after it began, WebTransport's 40.
  const first = await start({}, new FakeTime());
  first.sse.last.hello(0);
  first.time.advance(40);
  first.wt.last.hello(0);
  const memory = () => JSON.parse(Object.values(first.time.stored)[0]);
  assert.deepEqual([memory().sseMs, memory().webtransportMs], [HEAD_START_MS, 40]);
  const { untilMs } = memory();
  first.fanwire.close();
  first.time.advance(20 * hour);
  // A start of WebTransport alone measures it alone, and lets nothing live longer.
  const second = await start({}, first.time);
  assert.deepEqual(counts(second), [0, 1]);
  second.time.advance(60);
  second.wt.last.hello(0);
  assert.deepEqual(memory(), { works: true, sseMs: HEAD_START_MS, webtransportMs: 60, offer: null, untilMs });
  second.fanwire.close();
  first.time.advance(5 * hour);
  const third = await start({}, first.time);
  assert.deepEqual(counts(third), [1, 1]);
  // Both were measured anew. Where WebTransport was the slower one SSE waits for nothing.
  third.wt.last.hello(0);
  third.fanwire.close();
  assert.equal(memory().untilMs > untilMs, true);
  first.time.stored[Object.keys(first.time.stored)[0]] = JSON.stringify({ ...memory(), webtransportMs: 1000 });
  const fourth = await start({}, first.time);
  assert.deepEqual([fourth.sse.connections.length, fourth.fanwire.links.sse.state], [1, 'connecting']);
});

test('an offer that failed is asked for again, and is no proof that WebTransport fails', async () => {
  const first = await start();
  first.wt.last.request.onOffer({ url: '/old' });
  first.wt.last.hello(0);
  const second = await start({}, first.time);
  second.wt.last.end();
  second.sse.last.hello(0);
  assert.deepEqual(second.time.stored, {});
  second.time.advance(2000);
  assert.equal(second.wt.last.request.offer, null);
  second.wt.last.request.onOffer({ url: '/new' });
  second.wt.last.end();
  assert.deepEqual(counts(await start({}, first.time)), [1, 0]);
});

test('memory expires, and what isn’t ours is none', async () => {
  const { time, wt } = await start();
  wt.last.hello(0);
  const [[key, value]] = Object.entries(time.stored);
  assert.deepEqual(counts(await start({}, time)), [0, 1]);
  for (const other of ['nonsense', '{}', 'null', '7', '{"works":true,"untilMs":1e300}']) {
    time.stored[key] = other;
    assert.deepEqual(counts(await start({}, time)), [1, 1], other);
  }
  time.stored[key] = value;
  time.nowMs += 24 * 3_600_000 + 1;
  assert.deepEqual(counts(await start({}, time)), [1, 1]);
});

test('a failure is remembered for ten minutes', async () => {
  const first = await start();
  first.sse.last.hello(0);
  first.wt.last.end();
  first.fanwire.close();
  const { time } = first;
  const { works, untilMs } = JSON.parse(Object.values(time.stored)[0]);
  assert.equal(works, false);
  const leftMs = untilMs - time.environment().wallMs();
  assert.equal(leftMs, 10 * 60_000);
  // Each start takes the time of a head start.
  time.nowMs += leftMs - 2 * HEAD_START_MS;
  const second = await start({}, time);
  assert.deepEqual(counts(second), [1, 0]);
  second.fanwire.close();
  time.nowMs += 2 * HEAD_START_MS;
  assert.deepEqual(counts(await start({}, time)), [1, 1]);
});

test('where storage is forbidden nothing is remembered, and nothing breaks', async () => {
  const forbidden = () => {
    throw new DOMException('forbidden', 'SecurityError');
  };
  const one = await start({}, new FakeTime(), { storage: forbidden });
  one.wt.last.hello(0);
  assert.equal(one.fanwire.transport, 'webtransport');
  assert.deepEqual(counts(await start({}, one.time, { storage: forbidden })), [1, 1]);
});

test('a network that changes makes what is remembered void, and is a reason to try', async () => {
  for (const change of [
    ({ page }) => page.dispatchEvent(new Event('online')),
    ({ connection }) => {
      connection.type = 'cellular';
      connection.dispatchEvent(new Event('change'));
    },
  ]) {
    const one = await start();
    one.sse.last.hello(0);
    one.wt.last.end();
    assert.equal(Object.keys(one.time.stored).length, 1);
    one.time.nowMs += 600;
    change(one.time);
    assert.deepEqual(one.time.stored, {});
    assert.deepEqual(counts(one), [1, 2]);
    one.fanwire.close();
    change(one.time);
    assert.deepEqual(counts(one), [1, 2]);
  }
});

test('an estimate that changes is no new network', async () => {
  const one = await start();
  one.sse.last.hello(0);
  one.wt.last.end();
  one.time.nowMs += 600;
  one.time.connection.dispatchEvent(new Event('change'));
  assert.deepEqual([Object.keys(one.time.stored).length, ...counts(one)], [1, 1, 1]);
});

test('a page that is seen again tries at once, and keeps what it remembers', async () => {
  const one = await start();
  one.sse.last.hello(0);
  one.wt.last.end();
  one.time.nowMs += 600;
  one.time.document.visibilityState = 'hidden';
  one.time.document.dispatchEvent(new Event('visibilitychange'));
  assert.deepEqual(counts(one), [1, 1]);
  one.time.document.visibilityState = 'visible';
  one.time.document.dispatchEvent(new Event('visibilitychange'));
  assert.deepEqual([Object.keys(one.time.stored).length, ...counts(one)], [1, 1, 2]);
});

test('WebKit starts and stays on SSE, unless it is let in', async () => {
  const agent = (name) => ({ navigator: { userAgent: `Mozilla/5.0 AppleWebKit/605.1.15 ${name}` }, WebTransport: class {}, EventSource: class {} });
  const used = async (options, name = 'Version/26.4 Safari/605.1.15') => {
    const time = new FakeTime();
    const sse = new FakeTransport();
    const environment = { ...time.environment(), ...agent(name), fetch: async () => Response.error() };
    const feed = new Fanwire('/events?topic=a', { environment, transports: { sse: sse.connect }, ...options });
    time.advance(HEAD_START_MS);
    for (let i = 0; i < 20; i++) await turn();
    const uses = feed.links.webtransport !== null;
    feed.close();
    return uses;
  };
  assert.deepEqual([await used({}), await used({ webkit: true }), await used({ transport: 'webtransport' })], [false, true, true]);
  assert.equal(await used({}, 'Chrome/156.0.0.0 Safari/537.36'), true);
});

test('topics before the first hello are simply asked for', async () => {
  const { sse, fanwire, got } = await start({ transport: 'sse' });
  const added = fanwire.subscribe('b', 'a');
  await added;
  assert.equal(fanwire.url, 'https://hub.example/events?topic=a&topic=b');
  assert.equal(sse.connections.length, 2, 'the first one had asked for less');
  assert.ok(sse.connections[0].isClosed);
  assert.equal(sse.last.request.url.search, '?topic=a&topic=b');
  sse.last.hello(0);
  sse.last.event(1);
  assert.deepEqual(got, [1]);
});

test('WebTransport is asked in band; the change holds from where the feed says so', async () => {
  const { sse, wt, fanwire } = await start();
  const asked = [];
  wt.last.request.onMessage({ name: 'hello', cursor: { epoch: EPOCH, seq: 4 }, verdict: 'live', heartbeatMs: 15_000 });
  let inForce;
  wt.last.answer = (type, body) => {
    asked.push([type, body]);
    return new Promise((resolve) => (inForce = resolve));
  };
  let isDone = false;
  const added = fanwire.subscribe('b').then(() => (isDone = true));
  await until('it is asked', () => asked.length === 1);
  assert.deepEqual(asked, [[FRAME.SUBSCRIBE, { match: ['b'] }]]);
  await turn();
  assert.equal(isDone, false);
  wt.last.say(ping(9));
  inForce();
  await added;
  assert.equal(fanwire.cursor, cursor(9), 'up to there the feed is complete');
  wt.last.end();
  assert.equal(sse.last.request.url.search, '?topic=a&topic=b');
  assert.equal(sse.last.request.lastEventId, cursor(9));
});

test('a session that ends before the change shows: the next transport is asked', async () => {
  const { sse, wt, fanwire } = await start();
  wt.last.hello(4);
  let asked = 0;
  let fail;
  wt.last.answer = () => {
    asked++;
    return new Promise((_, reject) => (fail = reject));
  };
  const added = fanwire.subscribe('b');
  await until('it is asked', () => asked === 1);
  wt.last.end();
  fail(new Error('the control stream ended'));
  assert.equal(sse.last.request.url.search, '?topic=a');
  const bridge = sse.last;
  bridge.hello(4);
  await until('a second stream', () => sse.last !== bridge);
  assert.equal(sse.last.request.url.search, '?topic=a&topic=b');
  sse.last.hello(4, { verdict: 'live' });
  await added;
  assert.ok(bridge.isClosed);
});

test('a refused change is told to whoever asked, and changes nothing', async () => {
  const { wt, fanwire } = await start();
  wt.last.hello(4);
  wt.last.answer = () => Promise.reject(Object.assign(new Error('no'), { name: 'RequestError', code: 'bad_topic' }));
  await assert.rejects(fanwire.subscribe('b'), { code: 'bad_topic' });
  assert.equal(fanwire.url, 'https://hub.example/events?topic=a');
  await assert.rejects(fanwire.unsubscribe('a'), /needs a topic/);
  fanwire.close();
  await assert.rejects(fanwire.subscribe('b'), /closed/);
});

test('SSE: adding a topic replays nothing, loses nothing and repeats nothing', async () => {
  const { time, sse, fanwire, got } = await start({ transport: 'sse' });
  const changes = [];
  fanwire.addEventListener('transportchange', ({ detail }) => changes.push(detail.to));
  const [first] = sse.connections;
  first.hello(0);
  first.event(1);
  const added = fanwire.subscribe('b');
  await until('a second stream', () => sse.connections.length === 2);
  const second = sse.last;
  assert.deepEqual([second.request.url.search, second.request.lastEventId], ['?topic=a&topic=b', null]);
  first.event(2);
  // It begins at 5; the first stream, as far as anybody knows, is at 2.
  second.hello(5, { verdict: 'live' });
  await until('the first one is asked how far it is', () => sse.connections.length === 3);
  const bridge = sse.last;
  assert.deepEqual([bridge.request.url.search, bridge.request.lastEventId, bridge.request.heartbeat], ['?topic=a', cursor(2), 1]);
  second.event(6);
  second.event(7);
  bridge.hello(2);
  bridge.event(4);
  bridge.event(6);
  await added;
  assert.ok(bridge.isClosed && first.isClosed);
  second.event(8);
  assert.deepEqual(got, [1, 2, 4, 6, 7, 8]);
  assert.deepEqual(changes, ['sse']);
  second.end();
  time.advance(2000);
  assert.deepEqual([sse.last.request.url.search, sse.last.request.lastEventId], ['?topic=a&topic=b', cursor(8)]);
});

test('SSE: where nothing was missed between the two streams there is no third', async () => {
  const { sse, fanwire, got } = await start({ transport: 'sse' });
  sse.last.hello(5);
  const added = fanwire.subscribe('b');
  await until('a second stream', () => sse.connections.length === 2);
  sse.last.hello(5, { verdict: 'live' });
  sse.last.event(6);
  await added;
  assert.equal(sse.connections.length, 2);
  assert.deepEqual(got, [6]);
});

test('SSE: removing a topic goes on at the cursor, and is no loss of the connection', async () => {
  const { sse, fanwire } = await start({ transport: 'sse' });
  await fanwire.subscribe('b');
  sse.last.hello(3);
  const errors = [];
  fanwire.onerror = (event) => errors.push(event);
  await fanwire.unsubscribe('a');
  assert.deepEqual([sse.last.request.url.search, sse.last.request.lastEventId, fanwire.readyState], ['?topic=b', cursor(3), 1]);
  sse.last.hello(3);
  assert.deepEqual(errors, []);
});

test('changes are made one after the other', async () => {
  const { sse, fanwire } = await start({ transport: 'sse' });
  sse.last.hello(5);
  const changes = [fanwire.subscribe('b'), fanwire.subscribe('c'), fanwire.unsubscribe('a')];
  for (const n of [2, 3]) {
    await until('a stream', () => sse.connections.length === n);
    sse.last.hello(5, { verdict: 'live' });
  }
  await Promise.all(changes);
  assert.equal(sse.last.request.url.search, '?topic=b&topic=c');
});

test('an iterator gives events and gaps in order, and ends with the feed', async () => {
  const { sse, fanwire } = await start({ transport: 'sse' });
  const read = (async () => {
    const seen = [];
    for await (const event of fanwire) seen.push(event.type === 'gap' ? event.detail.reason : event.fanwire.seq);
    return seen;
  })();
  sse.last.hello(0);
  sse.last.event(1);
  sse.last.say({ name: 'gap', reason: 'evicted', from: 2, to: 4, cursor: { epoch: EPOCH, seq: 4 } });
  await turn();
  sse.last.event(5);
  fanwire.close();
  assert.deepEqual(await read, [1, 'evicted', 5]);
});

test('an iterator whose reader is slow leaves out what its queue has no room for, and says so', async () => {
  const { sse, fanwire } = await start({ transport: 'sse' });
  const events = fanwire.events({ queueMax: 2 });
  sse.last.hello(0);
  for (let seq = 1; seq <= 6; seq++) sse.last.event(seq);
  const next = async () => (await events.next()).value;
  assert.deepEqual([(await next()).fanwire.seq, (await next()).fanwire.seq], [1, 2]);
  const { type, detail } = await next();
  assert.deepEqual([type, detail], ['gap', { transport: 'sse', reason: 'overflow', from: 3, to: 6, cursor: cursor(6) }]);
  sse.last.event(7);
  assert.equal((await next()).fanwire.seq, 7);
});

test('what comes before the iterator is loaded is kept, up to its limit, and what is beyond is told', async () => {
  const { sse, fanwire } = await start({ transport: 'sse' });
  const events = fanwire.events({ types: ['message', 'gap'], queueMax: 5000 });
  sse.last.hello(0);
  for (let seq = 1; seq <= 1200; seq++) sse.last.event(seq);
  const first = await events.next();
  sse.last.event(1201);
  const seqs = [first.value.fanwire.seq];
  let gap = null;
  while (seqs.at(-1) !== 1201) {
    const { value } = await events.next();
    if (value.type === 'gap') gap = value.detail;
    else seqs.push(value.fanwire.seq);
  }
  const kept = seqs.at(-2);
  assert.ok(kept > 900 && kept < 1200, `${kept} were kept`);
  assert.deepEqual(seqs, [...Array(kept).keys()].map((i) => i + 1).concat(1201));
  assert.deepEqual(gap, { transport: 'sse', reason: 'overflow', from: kept + 1, to: 1200, cursor: cursor(1200) });
});

test('an iterator throws where the feed was ended for good, and lets go where its reader does', async () => {
  const one = await start({ transport: 'sse' });
  const events = one.fanwire.events();
  one.sse.last.say({ name: 'bye', code: 2, reason: 'no matcher', retryMs: null, isTerminal: true });
  await assert.rejects(events.next(), /no matcher/);
  assert.deepEqual(await events.next(), { value: undefined, done: true });
  const other = await start({ transport: 'sse' });
  other.sse.last.hello(0);
  other.sse.last.event(1);
  const early = (async () => {
    for await (const event of other.fanwire) return event.fanwire.seq;
  })();
  await turn();
  other.sse.last.event(2);
  assert.equal(await early, 2);
  assert.equal(other.fanwire.readyState, 1);
});

/** A JWT as far as anyone reads it here. */
const jwt = (expSeconds, name) => `h.${Buffer.from(JSON.stringify({ exp: expSeconds, name })).toString('base64url')}.s`;

test('a token is asked for once for both transports, and again before it expires', async () => {
  const time = new FakeTime();
  const nowSeconds = time.environment().wallMs() / 1000;
  let asked = 0;
  const one = await start({ token: async () => jwt(nowSeconds + 60 * ++asked, asked) }, time);
  const tokens = await Promise.all([one.sse, one.wt].map(async ({ last }) => (await last.request.tokens()).get()));
  assert.equal(tokens[0], tokens[1]);
  one.wt.last.hello(0);
  const shown = [];
  one.wt.last.answer = async (type, body) => void shown.push([type, body]);
  one.wt.last.say(ping(1));
  for (let s = 0; s < 49; s++) {
    time.advance(1000);
    one.wt.last.say(ping(1));
  }
  await turn();
  assert.deepEqual([asked, shown], [1, []]);
  time.advance(1000);
  await until('it is shown', () => shown.length === 1);
  assert.deepEqual(shown, [[FRAME.AUTH, { token: jwt(nowSeconds + 120, 2) }]]);
  one.fanwire.close();
  await turn();
  assert.equal(time.pending, 0);
});

test('SSE shows another token by beginning anew at its cursor', async () => {
  const time = new FakeTime();
  const nowMs = time.environment().wallMs();
  const one = await start({ transport: 'sse', token: () => ({ token: 'opaque', expiresAtMs: nowMs + 30_000 }) }, time);
  await (await one.sse.last.request.tokens()).get();
  one.sse.last.hello(0, { heartbeatMs: 60_000 });
  one.sse.last.event(3);
  time.advance(20_000);
  await until('it begins anew', () => one.sse.connections.length === 2);
  assert.equal(one.sse.last.request.lastEventId, cursor(3));
  assert.equal(one.fanwire.readyState, Fanwire.OPEN);
});

test('a token that was refused, or has expired, is not shown again', async () => {
  const time = new FakeTime();
  let asked = 0;
  const one = await start({ transport: 'sse', token: () => ({ token: `t${++asked}`, expiresAtMs: time.environment().wallMs() + 30_000 }) }, time);
  const tokens = await one.sse.last.request.tokens();
  const token = (refused) => tokens.get(refused);
  assert.deepEqual([await token(null), await token(null)], ['t1', 't1']);
  // Both transports were refused it.
  assert.deepEqual(await Promise.all([token('t1'), token('t1')]), ['t2', 't2']);
  time.nowMs += 31_000;
  assert.equal(await token(null), 't3');
});
