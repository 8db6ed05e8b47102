// What goes beyond EventSource: memory, probes, topics, tokens, the iterator.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fanwire } from '../src/fanwire.js';
import { FRAME } from '../src/frames.js';
import { HEAD_START_MS } from '../src/negotiation.js';
import { EPOCH, FakeTime, FakeTransport, cursor } from './support/fakes.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Waits until something is so, without a clock. */
async function until(what, isSo) {
  for (let i = 0; i < 200; i++) {
    if (isSo()) return;
    await turn();
  }
  assert.fail(`never: ${what}`);
}

function start(options = {}, time = new FakeTime(), environment = {}) {
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
  if (sse.connections.length === 1) time.advance(HEAD_START_MS);
  return { time, sse, wt, fanwire, got };
}

const counts = ({ sse, wt }) => [sse.connections.length, wt.connections.length];
const ping = (seq) => ({ name: 'ping', watermark: { epoch: EPOCH, seq } });

test('what worked is remembered for the next feed, with what the hub offered', () => {
  const first = start();
  const offer = { url: 'https://hub.example:4433/events' };
  first.wt.last.request.onOffer(offer);
  first.wt.last.hello(0);
  const second = start({}, first.time);
  assert.deepEqual(counts(second), [0, 1]);
  assert.deepEqual(second.wt.last.request.offer, offer);
  second.time.advance(100);
  assert.deepEqual(counts(second), [1, 1]);
});

test('an offer that failed is asked for again, and is no proof that WebTransport fails', () => {
  const first = start();
  first.wt.last.request.onOffer({ url: '/old' });
  first.wt.last.hello(0);
  const second = start({}, first.time);
  second.wt.last.end();
  second.sse.last.hello(0);
  assert.equal(second.time.stored.size, 0);
  second.time.advance(2000);
  assert.equal(second.wt.last.request.offer, null);
  second.wt.last.request.onOffer({ url: '/new' });
  second.wt.last.end();
  assert.deepEqual(counts(start({}, first.time)), [1, 0]);
});

test('memory expires, and what isn’t ours is none', () => {
  const { time, wt } = start();
  wt.last.hello(0);
  const [[key, value]] = [...time.stored];
  assert.deepEqual(counts(start({}, time)), [0, 1]);
  for (const other of ['nonsense', '{}', 'null', '7', '{"works":true,"untilMs":1e300}']) {
    time.stored.set(key, other);
    assert.deepEqual(counts(start({}, time)), [1, 1], other);
  }
  time.stored.set(key, value);
  time.nowMs += 24 * 3_600_000 + 1;
  assert.deepEqual(counts(start({}, time)), [1, 1]);
});

test('where storage is forbidden nothing is remembered, and nothing breaks', () => {
  const forbidden = () => {
    throw new DOMException('forbidden', 'SecurityError');
  };
  const one = start({}, new FakeTime(), { storage: forbidden });
  one.wt.last.hello(0);
  assert.equal(one.fanwire.transport, 'webtransport');
  assert.deepEqual(counts(start({}, one.time, { storage: forbidden })), [1, 1]);
});

test('a network that changes makes what is remembered void, and is a reason to try', () => {
  for (const change of [
    ({ page }) => page.dispatchEvent(new Event('online')),
    ({ connection }) => {
      connection.type = 'cellular';
      connection.dispatchEvent(new Event('change'));
    },
  ]) {
    const one = start();
    one.sse.last.hello(0);
    one.wt.last.end();
    assert.equal(one.time.stored.size, 1);
    one.time.nowMs += 600;
    change(one.time);
    assert.equal(one.time.stored.size, 0);
    assert.deepEqual(counts(one), [1, 2]);
    one.fanwire.close();
    change(one.time);
    assert.deepEqual(counts(one), [1, 2]);
  }
});

test('an estimate that changes is no new network', () => {
  const one = start();
  one.sse.last.hello(0);
  one.wt.last.end();
  one.time.nowMs += 600;
  one.time.connection.dispatchEvent(new Event('change'));
  assert.deepEqual([one.time.stored.size, ...counts(one)], [1, 1, 1]);
});

test('a page that is seen again tries at once, and keeps what it remembers', () => {
  const one = start();
  one.sse.last.hello(0);
  one.wt.last.end();
  one.time.nowMs += 600;
  one.time.document.visibilityState = 'hidden';
  one.time.document.dispatchEvent(new Event('visibilitychange'));
  assert.deepEqual(counts(one), [1, 1]);
  one.time.document.visibilityState = 'visible';
  one.time.document.dispatchEvent(new Event('visibilitychange'));
  assert.deepEqual([one.time.stored.size, ...counts(one)], [1, 1, 2]);
});

test('WebKit starts and stays on SSE, unless it is let in', () => {
  const WebKit = { isWebKit: true, WebTransport: class {}, EventSource: class {} };
  const used = (options) => {
    const sse = new FakeTransport();
    const feed = new Fanwire('/events?topic=a', { environment: { ...new FakeTime().environment(), ...WebKit, fetch: async () => Response.error() }, transports: { sse: sse.connect }, ...options });
    const uses = feed.links.webtransport !== null;
    feed.close();
    return uses;
  };
  assert.deepEqual([used({}), used({ webkit: true }), used({ transport: 'webtransport' })], [false, true, true]);
});

test('topics before the first hello are simply asked for', async () => {
  const { sse, fanwire, got } = start({ transport: 'sse' });
  const added = fanwire.subscribe('b', 'a');
  await added;
  assert.equal(fanwire.url, 'https://hub.example/events?topic=a&topic=b');
  sse.last.hello(0);
  assert.equal(sse.connections.length, 2, 'the first one had asked for less');
  assert.equal(sse.last.request.url.search, '?topic=a&topic=b');
  sse.last.hello(0);
  sse.last.event(1);
  assert.deepEqual(got, [1]);
});

test('WebTransport is asked in band; the change holds from where the feed says so', async () => {
  const { sse, wt, fanwire } = start();
  const asked = [];
  wt.last.request.onMessage({ name: 'hello', cursor: { epoch: EPOCH, seq: 4 }, verdict: 'live', heartbeatMs: 15_000 });
  wt.last.answer = (type, body) => {
    asked.push([type, body]);
    return Promise.resolve({ request_id: 7, from_seq: 9 });
  };
  let isDone = false;
  const added = fanwire.subscribe('b').then(() => (isDone = true));
  await until('it is asked', () => asked.length === 1);
  assert.deepEqual(asked, [[FRAME.SUBSCRIBE, { match: ['b'] }]]);
  await turn();
  assert.equal(isDone, false);
  wt.last.say({ name: 'changed', requestId: 7, fromSeq: 9 });
  await added;
  assert.equal(fanwire.cursor, cursor(9), 'up to there the feed is complete');
  wt.last.end();
  assert.equal(sse.last.request.url.search, '?topic=a&topic=b');
  assert.equal(sse.last.request.lastEventId, cursor(9));
});

test('a session that ends before the change shows: the next transport is asked', async () => {
  const { sse, wt, fanwire } = start();
  wt.last.hello(4);
  let asked = 0;
  wt.last.answer = () => {
    asked++;
    return Promise.resolve({ request_id: 1 });
  };
  const added = fanwire.subscribe('b');
  await until('it is asked', () => asked === 1);
  wt.last.end();
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
  const { wt, fanwire } = start();
  wt.last.hello(4);
  wt.last.answer = () => Promise.reject(Object.assign(new Error('no'), { name: 'RequestError', code: 'bad_topic' }));
  await assert.rejects(fanwire.subscribe('b'), { code: 'bad_topic' });
  assert.equal(fanwire.url, 'https://hub.example/events?topic=a');
  await assert.rejects(fanwire.unsubscribe('a'), /needs a topic/);
  fanwire.close();
  await assert.rejects(fanwire.subscribe('b'), /closed/);
});

test('SSE: adding a topic replays nothing, loses nothing and repeats nothing', async () => {
  const { time, sse, fanwire, got } = start({ transport: 'sse' });
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
  assert.deepEqual([bridge.request.url.search, bridge.request.lastEventId, bridge.request.heartbeatSeconds], ['?topic=a', cursor(2), 1]);
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
  const { sse, fanwire, got } = start({ transport: 'sse' });
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
  const { sse, fanwire } = start({ transport: 'sse' });
  await fanwire.subscribe('b');
  sse.last.hello(3);
  sse.last.hello(3);
  const errors = [];
  fanwire.onerror = (event) => errors.push(event);
  await fanwire.unsubscribe('a');
  assert.deepEqual([sse.last.request.url.search, sse.last.request.lastEventId, fanwire.readyState], ['?topic=b', cursor(3), 1]);
  sse.last.hello(3);
  assert.deepEqual(errors, []);
});

test('changes are made one after the other', async () => {
  const { sse, fanwire } = start({ transport: 'sse' });
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
  const { sse, fanwire } = start({ transport: 'sse' });
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
  const { sse, fanwire } = start({ transport: 'sse' });
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

test('an iterator throws where the feed was ended for good, and lets go where its reader does', async () => {
  const one = start({ transport: 'sse' });
  const events = one.fanwire.events();
  one.sse.last.say({ name: 'bye', code: 2, reason: 'no matcher', retryMs: null });
  await assert.rejects(events.next(), /no matcher/);
  assert.deepEqual(await events.next(), { value: undefined, done: true });
  const other = start({ transport: 'sse' });
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
  const one = start({ token: async () => jwt(nowSeconds + 60 * ++asked, asked) }, time);
  const tokens = await Promise.all([one.sse, one.wt].map(({ last }) => last.request.token(null)));
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
  const one = start({ transport: 'sse', token: () => ({ token: 'opaque', expiresAtMs: nowMs + 30_000 }) }, time);
  await one.sse.last.request.token(null);
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
  const one = start({ transport: 'sse', token: () => ({ token: `t${++asked}`, expiresAtMs: time.environment().wallMs() + 30_000 }) }, time);
  const { token } = one.sse.last.request;
  assert.deepEqual([await token(null), await token(null)], ['t1', 't1']);
  // Both transports were refused it.
  assert.deepEqual(await Promise.all([token('t1'), token('t1')]), ['t2', 't2']);
  time.nowMs += 31_000;
  assert.equal(await token(null), 't3');
});
