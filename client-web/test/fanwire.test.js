import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { Fanwire } from '../src/fanwire.js';
import '../src/beside.js';
import { HEAD_START_MS } from '../src/negotiation.js';
import { EPOCH, FakeTime, FakeTransport, cursor } from './support/fakes.js';

const OTHER = 'vvvvvvvvvv';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** What is loaded beside a feed joins it a moment after it began. */
async function join(time) {
  time.advance(HEAD_START_MS);
  await turn();
}

/** A Fanwire on fakes, and a record of all that it fires. */
async function start(options = {}) {
  const time = new FakeTime();
  const sse = new FakeTransport();
  const wt = new FakeTransport();
  const fanwire = new Fanwire('/events?topic=t', {
    environment: time.environment(),
    transports: { sse: sse.connect, webtransport: wt.connect },
    ...options,
  });
  const fired = [];
  const events = [];
  for (const type of ['open', 'error', 'hello', 'gap', 'transportchange']) {
    fanwire.addEventListener(type, (event) => fired.push([type, event.detail ?? event.fanwire ?? null]));
  }
  fanwire.onmessage = (event) => events.push(event);
  // Where both may be used, WebTransport begins then.
  if (!options.transport) await join(time);
  const seqs = () => events.map((event) => event.fanwire.seq);
  const types = () => fired.map(([type]) => type);
  return { time, sse, wt, fanwire, fired, types, events, seqs };
}

test('an event looks like EventSource’s, and says where it is from', async () => {
  const { sse, fanwire, events } = await start({ transport: 'sse' });
  assert.equal(fanwire.url, 'https://hub.example/events?topic=t');
  assert.equal(fanwire.readyState, Fanwire.CONNECTING);
  sse.last.hello(5, { verdict: 'live' });
  assert.equal(fanwire.readyState, fanwire.OPEN);
  sse.last.event(7, { id: 'mine' });
  sse.last.event(8);
  const [first, second] = events;
  assert.ok(first instanceof MessageEvent);
  assert.deepEqual([first.data, first.lastEventId, first.origin], ['7', cursor(7), 'https://hub.example']);
  assert.deepEqual(first.fanwire, { cursor: cursor(7), seq: 7, topic: 't', at: 1007, id: 'mine', transport: 'sse' });
  assert.equal(second.fanwire.id, cursor(8));
});

test('withCredentials is told, and goes along with every request', async () => {
  for (const withCredentials of [undefined, false, true]) {
    const inits = [];
    const asked = [];
    class Source extends EventTarget {
      static newest;
      readyState = 0;
      constructor(url, init) {
        super();
        inits.push(init);
        Source.newest = this;
      }
      refuse() {
        this.readyState = 2;
        this.dispatchEvent(new Event('error'));
      }
      close() {}
    }
    const fetch = async (url, { method = 'GET', credentials }) => {
      asked.push([method, credentials]);
      return method === 'POST' ? Response.json({ id: 'x', cursor: cursor(1) }) : new Response(null, { status: 204 });
    };
    const environment = { ...new FakeTime().environment(), EventSource: Source, fetch };
    const own = new Fanwire('/events?topic=t', { environment, transport: 'sse', ...(withCredentials === undefined ? {} : { withCredentials }) });
    assert.equal(own.withCredentials, withCredentials ?? false);
    assert.deepEqual(inits, [{ withCredentials: withCredentials ?? false }]);
    await own.publish({ topic: 't', data: 'x' });
    // Why it was refused is asked in the same way.
    const over = new Promise((resolve) => (own.onerror = resolve));
    Source.newest.refuse();
    assert.equal((await over).fanwire.isTerminal, true);
    const byFetch = new Fanwire('/events?topic=t', { environment, transport: 'sse', sse: 'fetch', withCredentials });
    await new Promise((resolve) => (byFetch.onerror = resolve));
    const credentials = withCredentials ? 'include' : 'same-origin';
    assert.deepEqual(asked, [['POST', credentials], ['GET', credentials], ['GET', credentials]]);
  }
});

test('a cut feed comes back at its cursor, without a loss or a repetition', async () => {
  const { time, sse, fanwire, seqs, types } = await start({ transport: 'sse', lastEventId: 'earliest' });
  assert.equal(sse.last.request.lastEventId, 'earliest');
  sse.last.hello(0, { verdict: 'earliest' });
  sse.last.event(1);
  sse.last.event(2);
  sse.last.end();
  assert.equal(fanwire.readyState, Fanwire.CONNECTING);
  time.advance(1000);
  assert.equal(sse.connections.length, 2);
  assert.equal(sse.last.request.lastEventId, cursor(2));
  sse.last.hello(2);
  sse.last.event(2);
  sse.last.event(3);
  assert.deepEqual(seqs(), [1, 2, 3]);
  assert.equal(fanwire.duplicatesDropped, 1);
  assert.equal(fanwire.cursor, cursor(3));
  assert.deepEqual(types(), ['hello', 'transportchange', 'open', 'transportchange', 'error', 'hello', 'transportchange', 'open']);
});

test('what comes from a connection that is over is not heard', async () => {
  const { time, sse, seqs } = await start({ transport: 'sse' });
  sse.last.hello(0);
  const [old] = sse.connections;
  old.end();
  time.advance(1000);
  sse.last.hello(0);
  old.event(1);
  old.end();
  sse.last.event(1);
  assert.deepEqual(seqs(), [1]);
  assert.equal(sse.connections.length, 2);
});

test('the wait grows with full jitter, and begins anew once a connection held', async () => {
  const waits = [];
  const fake = new FakeTime();
  const transport = new FakeTransport();
  const fanwire = new Fanwire('/events', {
    transport: 'sse',
    environment: fake.environment(() => 0.999999),
    transports: { sse: transport.connect },
  });
  fanwire.addEventListener('state', ({ detail }) => {
    if (detail.links.sse.state === 'waiting') waits.push(detail.links.sse.retryMs);
  });
  for (let i = 0; i < 8; i++) {
    transport.last.end();
    fake.advance(waits.at(-1));
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  transport.last.hello(0);
  transport.last.end();
  assert.equal(waits.at(-1), 30_000, 'a hello alone proves little');
  fake.advance(30_000);
  transport.last.hello(0);
  fake.advance(10_000);
  transport.last.end();
  assert.equal(waits.at(-1), 1000);
});

test('the shortest wait is half a second', async () => {
  const time = new FakeTime();
  const transport = new FakeTransport();
  new Fanwire('/events', { transport: 'sse', environment: time.environment(() => 0), transports: { sse: transport.connect } });
  transport.last.end();
  time.advance(499);
  assert.equal(transport.connections.length, 1);
  time.advance(1);
  assert.equal(transport.connections.length, 2);
});

test('a bye says when to come back', async () => {
  const { time, sse } = await start({ transport: 'sse' });
  sse.last.hello(4);
  sse.last.say({ name: 'bye', code: 1, reason: 'drain', retryMs: 1200 });
  assert.ok(sse.last.isClosed);
  time.advance(1199);
  assert.equal(sse.connections.length, 1);
  time.advance(1);
  assert.equal(sse.last.request.lastEventId, cursor(4));
});

test('a bye with null, even before hello, is the end', async () => {
  const { time, wt, fanwire, fired } = await start({ transport: 'webtransport' });
  wt.last.say({ name: 'bye', code: 2, reason: 'no matcher', retryMs: null, isTerminal: true });
  assert.equal(fanwire.readyState, Fanwire.CLOSED);
  assert.deepEqual(fired, [['error', { reason: 'no matcher', transport: 'webtransport', code: 2, status: null, isTerminal: true }]]);
  time.advance(1e9);
  assert.equal(wt.connections.length, 1);
  assert.equal(time.pending, 0);
});

test('a wait longer than timers can take is cut', async () => {
  const { time, sse } = await start({ transport: 'sse' });
  sse.last.say({ name: 'bye', code: 4, reason: 'limit', retryMs: 1e12 });
  time.advance(3_599_999);
  assert.equal(sse.connections.length, 1);
  time.advance(1);
  assert.equal(sse.connections.length, 2);
});

test('silence of one and a half heartbeats is a dead connection; a ping is none', async () => {
  const { time, sse, fanwire, fired } = await start({ transport: 'sse', heartbeat: 2 });
  assert.equal(sse.last.request.heartbeat, 2);
  sse.last.hello(0, { heartbeatMs: 2000 });
  time.advance(2999);
  sse.last.say({ name: 'ping', watermark: { epoch: EPOCH, seq: 9 } });
  assert.equal(fanwire.cursor, cursor(9), 'a quiet feed’s cursor doesn’t grow old');
  time.advance(2999);
  assert.equal(fanwire.readyState, Fanwire.OPEN);
  time.advance(1);
  assert.equal(fanwire.readyState, Fanwire.CONNECTING);
  assert.equal(fired.at(-1)[1].reason, 'nothing came for 3 s');
  assert.ok(sse.connections[0].isClosed);
});

test('a hub that doesn’t say hello is given up', async () => {
  const { time, wt, types } = await start({ transport: 'webtransport' });
  time.advance(10_000);
  assert.ok(wt.connections[0].isClosed);
  assert.deepEqual(types(), ['error']);
  time.advance(1000);
  assert.equal(wt.connections.length, 2);
});

test('a gap is told and sets the cursor', async () => {
  const { sse, fanwire, fired, seqs } = await start({ transport: 'sse', lastEventId: cursor(42) });
  sse.last.hello(42);
  sse.last.say({ name: 'gap', reason: 'evicted', from: 43, to: 97, cursor: { epoch: EPOCH, seq: 97 } });
  assert.deepEqual(fired.at(-1), ['gap', { transport: 'sse', reason: 'evicted', from: 43, to: 97, cursor: cursor(97) }]);
  assert.equal(fanwire.cursor, cursor(97));
  sse.last.event(98);
  assert.deepEqual(seqs(), [98]);
});

test('a new log is a gap and begins at its own numbers', async () => {
  const { time, sse, fired, seqs } = await start({ transport: 'sse' });
  sse.last.hello(40);
  sse.last.event(41);
  sse.last.end();
  time.advance(1000);
  sse.last.hello(0, { verdict: 'new_epoch', epoch: OTHER });
  sse.last.say({ name: 'gap', reason: 'new_epoch', from: null, to: 0, cursor: { epoch: OTHER, seq: 0 } });
  sse.last.event(1, { epoch: OTHER });
  assert.equal(fired.filter(([type]) => type === 'gap').length, 1);
  assert.deepEqual(seqs(), [41, 1]);
});

test('a log that lost its newest events repeats nothing', async () => {
  const { time, sse, seqs } = await start({ transport: 'sse' });
  sse.last.hello(8);
  sse.last.event(9);
  sse.last.event(10);
  sse.last.end();
  time.advance(1000);
  sse.last.hello(8, { verdict: 'unknown_cursor' });
  sse.last.say({ name: 'gap', reason: 'unknown_cursor', from: null, to: 8, cursor: { epoch: EPOCH, seq: 8 } });
  sse.last.event(9);
  sse.last.event(11);
  assert.deepEqual(seqs(), [9, 10, 11]);
});

test('a cursor that never was does not keep events away', async () => {
  const { sse, seqs } = await start({ transport: 'sse', lastEventId: cursor(9_007_199_254_740_991) });
  sse.last.hello(0, { verdict: 'unknown_cursor' });
  sse.last.event(1);
  assert.deepEqual(seqs(), [1]);
});

test('a cursor of another log in the middle of a feed ends the connection', async () => {
  const { sse, fired, seqs } = await start({ transport: 'sse' });
  sse.last.hello(0);
  sse.last.event(1, { epoch: OTHER });
  assert.deepEqual(seqs(), []);
  assert.match(fired.at(-1)[1].reason, /another log/);
});

test('an event before hello ends the connection', async () => {
  const { sse, seqs } = await start({ transport: 'sse' });
  sse.last.event(1);
  assert.ok(sse.last.isClosed);
  assert.deepEqual(seqs(), []);
});

test('auto: SSE delivers until WebTransport’s hello, then only WebTransport', async () => {
  const { sse, wt, fanwire, seqs, events, fired } = await start();
  assert.equal(wt.connections.length, 1, 'it starts beside');
  sse.last.hello(0, { verdict: 'live' });
  sse.last.event(1);
  sse.last.event(2);
  const oldSse = sse.last;
  wt.last.hello(0, { verdict: 'live' });
  assert.ok(oldSse.isClosed);
  oldSse.event(3);
  wt.last.event(1, { prevSeq: 0 });
  wt.last.event(2, { prevSeq: 1 });
  wt.last.event(3, { prevSeq: 2 });
  assert.deepEqual(seqs(), [1, 2, 3]);
  assert.deepEqual(events.map((event) => event.fanwire.transport), ['sse', 'sse', 'webtransport']);
  assert.equal(fanwire.transport, 'webtransport');
  assert.deepEqual(fired.filter(([type]) => type === 'open').length, 1, 'a handover is no reopening');
  assert.deepEqual(fired.at(-1), ['transportchange', { from: 'sse', to: 'webtransport' }]);
});

test('auto: SSE that is lost before the rest is loaded: it is loaded when SSE is back, as a module that couldn’t be had may be lost for ever', async () => {
  const time = new FakeTime();
  const [sse, wt] = [new FakeTransport(), new FakeTransport()];
  const fanwire = new Fanwire('/events', { environment: time.environment(), transports: { sse: sse.connect, webtransport: wt.connect } });
  sse.last.end();
  for (let i = 0; i < 10; i++) {
    time.advance(3000);
    await turn();
    sse.last.end();
  }
  assert.equal(fanwire.links.webtransport, null);
  time.advance(60_000);
  sse.last.hello(0);
  time.advance(3000);
  await turn();
  assert.deepEqual([fanwire.links.webtransport.state, wt.connections.length], ['connecting', 1]);
});

test('auto: WebTransport that began ahead of what SSE delivered is asked again, at the cursor', async () => {
  const { sse, wt, fanwire, seqs } = await start();
  assert.equal(wt.last.request.lastEventId, null);
  sse.last.hello(0, { verdict: 'live' });
  const [ahead] = wt.connections;
  ahead.hello(2, { verdict: 'live' });
  assert.ok(ahead.isClosed);
  assert.equal(fanwire.transport, 'sse');
  sse.last.event(1);
  assert.equal(wt.connections.length, 2);
  assert.equal(wt.last.request.lastEventId, cursor(0));
  wt.last.hello(0);
  for (const seq of [1, 2, 3]) wt.last.event(seq);
  assert.deepEqual(seqs(), [1, 2, 3]);
});

test('auto: when WebTransport fails SSE goes on at its cursor, and WebTransport comes back later', async () => {
  const { time, sse, wt, fanwire, seqs, types } = await start();
  wt.last.hello(0, { verdict: 'live' });
  assert.equal(fanwire.transport, 'webtransport');
  wt.last.event(1);
  wt.last.end();
  assert.equal(fanwire.transport, null);
  assert.equal(sse.connections.length, 2, 'at once');
  assert.equal(sse.last.request.lastEventId, cursor(1));
  sse.last.hello(1);
  sse.last.event(2);
  assert.equal(wt.connections.length, 1, 'not at once');
  time.advance(1000);
  assert.equal(wt.connections.length, 2);
  assert.equal(wt.last.request.lastEventId, cursor(2));
  sse.last.event(3);
  const oldSse = sse.last;
  wt.last.hello(2);
  oldSse.event(4);
  wt.last.event(3);
  wt.last.event(4);
  assert.deepEqual(seqs(), [1, 2, 3, 4]);
  assert.ok(oldSse.isClosed);
  assert.equal(types().filter((type) => type === 'error').length, 1);
});

test('auto: a WebTransport that never gets through is no news', async () => {
  const { time, sse, wt, fanwire, types } = await start();
  sse.last.hello(0);
  for (let i = 0; i < 5; i++) {
    wt.last.end({ reason: 'UDP is blocked' });
    time.advance(14_000);
    sse.last.say({ name: 'ping', watermark: { epoch: EPOCH, seq: i } });
  }
  assert.equal(fanwire.transport, 'sse');
  assert.equal(sse.connections.length, 1);
  assert.deepEqual(types(), ['hello', 'transportchange', 'open']);
  wt.last.end({ reason: 'not here', isTerminal: true });
  assert.equal(fanwire.readyState, Fanwire.OPEN);
});

test('auto: without WebTransport in the browser there is only SSE', async () => {
  const sse = new FakeTransport();
  const environment = new FakeTime().environment();
  const fanwire = new Fanwire('/events', { environment, transports: { sse: sse.connect } });
  sse.last.hello(0);
  assert.equal(fanwire.transport, 'sse');
  assert.equal(fanwire.links.webtransport, null);
});

test('a transport that the browser lacks is said so, once listeners are there', async () => {
  const fanwire = new Fanwire('/events', { transport: 'webtransport', environment: new FakeTime().environment() });
  assert.equal(fanwire.readyState, Fanwire.CONNECTING);
  const error = await new Promise((resolve) => (fanwire.onerror = resolve));
  assert.match(error.fanwire.reason, /WebTransport is not available/);
  assert.equal(fanwire.readyState, Fanwire.CLOSED);
});

test('close() in a listener is the end of delivery', async () => {
  const { time, sse, wt, fanwire, seqs } = await start();
  fanwire.addEventListener('message', () => fanwire.close());
  sse.last.hello(0);
  sse.last.event(1);
  sse.last.event(2);
  wt.last.hello(0);
  assert.deepEqual(seqs(), [1]);
  assert.ok(sse.last.isClosed && wt.last.isClosed);
  time.advance(1e6);
  assert.deepEqual([sse.connections.length, wt.connections.length, time.pending], [1, 1, 0]);
});

test('close() on the news of a loss is the last that is heard, and opens no other transport', async () => {
  const { sse, wt, fanwire, types } = await start();
  fanwire.addEventListener('transportchange', ({ detail }) => detail.to ?? fanwire.close());
  wt.last.hello(0);
  wt.last.end();
  assert.deepEqual(types(), ['hello', 'transportchange', 'open', 'transportchange']);
  assert.equal(sse.connections.length, 1);
});

test('a signal closes', async () => {
  const aborter = new AbortController();
  const { sse, fanwire } = await start({ transport: 'sse', signal: aborter.signal });
  aborter.abort();
  assert.equal(fanwire.readyState, Fanwire.CLOSED);
  assert.ok(sse.last.isClosed);
  assert.equal((await start({ transport: 'sse', signal: aborter.signal })).sse.connections.length, 0);
});

/** What a browser fires at the page. */
const pageEvent = (type, persisted) => Object.assign(new Event(type), { persisted });

test('a page that goes takes its connections along, and stays silent', async () => {
  const { time, sse, wt, fanwire, types } = await start();
  sse.last.hello(0);
  wt.last.hello(0);
  time.page.dispatchEvent(pageEvent('pagehide', false));
  assert.ok(sse.last.isClosed && wt.last.isClosed);
  assert.deepEqual([fanwire.readyState, fanwire.transport], [Fanwire.CONNECTING, null]);
  assert.equal(types().includes('error'), false, 'nothing failed');
  wt.last.event(1);
  wt.last.end();
  time.advance(1e6);
  assert.deepEqual([sse.connections.length, wt.connections.length, time.pending], [1, 1, 0]);
  assert.equal(fanwire.cursor, cursor(0));
});

test('a page that comes out of the back/forward cache goes on at its cursor', async () => {
  const { time, sse, wt, fanwire, seqs, fired } = await start();
  time.page.dispatchEvent(pageEvent('pageshow', false)); // As every page gets it once it has loaded.
  assert.deepEqual([sse.connections.length, wt.connections.length], [1, 1]);
  wt.last.hello(3);
  wt.last.event(4);
  time.page.dispatchEvent(pageEvent('pagehide', true));
  assert.equal(wt.last.pageRests, true);
  fired.length = 0;
  time.page.dispatchEvent(pageEvent('pageshow', true));
  assert.equal(wt.last.request.lastEventId, cursor(4));
  assert.equal(sse.connections.length, 1, 'WebTransport worked here: it has a head start');
  wt.last.hello(4);
  wt.last.event(4);
  wt.last.event(5);
  assert.deepEqual(seqs(), [4, 5]);
  assert.deepEqual([fanwire.readyState, fanwire.transport], [Fanwire.OPEN, 'webtransport']);
  assert.deepEqual(fired.map(([type]) => type), ['hello', 'transportchange', 'open']);
});

test('a page that goes while a feed waits to try again leaves no timer behind', async () => {
  const { time, sse } = await start({ transport: 'sse' });
  await join(time);
  sse.last.end();
  time.page.dispatchEvent(pageEvent('pagehide', true));
  assert.equal(time.pending, 0);
  time.page.dispatchEvent(pageEvent('pageshow', true));
  assert.equal(sse.connections.length, 2, 'at once: the wait is over');
});

test('a feed that is closed does not come back with its page, and holds on to nothing of it', async () => {
  const { time, sse, wt, fanwire } = await start();
  const listeners = () => ['pagehide', 'pageshow'].map((type) => getEventListeners(time.page, type).length);
  assert.deepEqual(listeners(), [2, 1]);
  fanwire.close();
  assert.deepEqual(listeners(), [0, 0]);
  time.page.dispatchEvent(pageEvent('pagehide', true));
  time.page.dispatchEvent(pageEvent('pageshow', true));
  assert.deepEqual([sse.connections.length, wt.connections.length], [1, 1]);
  assert.equal(fanwire.readyState, Fanwire.CLOSED);
});

test('close() on the news that the page goes is the last that is heard', async () => {
  const { time, wt, fanwire, types } = await start();
  wt.last.hello(0);
  fanwire.addEventListener('state', () => fanwire.close());
  time.page.dispatchEvent(pageEvent('pagehide', true));
  assert.equal(fanwire.readyState, Fanwire.CLOSED);
  assert.deepEqual(types(), ['hello', 'transportchange', 'open', 'transportchange']);
  time.page.dispatchEvent(pageEvent('pageshow', true));
  assert.equal(wt.connections.length, 1);
});

test('without a page, as in a worker, a feed is what it is elsewhere', async () => {
  const time = new FakeTime();
  const sse = new FakeTransport();
  const environment = { ...time.environment(), page: undefined };
  const fanwire = new Fanwire('/events', { transport: 'sse', environment, transports: { sse: sse.connect } });
  sse.last.hello(0);
  fanwire.close();
  assert.ok(sse.last.isClosed);
});

test('another instance goes on with the cursor of the first, over another transport', async () => {
  const first = await start({ transport: 'sse' });
  first.sse.last.hello(0);
  first.sse.last.event(3);
  first.fanwire.close();
  const second = await start({ transport: 'webtransport', lastEventId: first.fanwire.cursor });
  assert.equal(second.wt.last.request.lastEventId, cursor(3));
  second.wt.last.hello(3);
  second.wt.last.event(3);
  second.wt.last.event(4);
  assert.deepEqual(second.seqs(), [4]);
});

test('a type that is listened to later is asked for on the live connection', async () => {
  const { time, sse, fanwire } = await start({ transport: 'sse' });
  sse.last.hello(0);
  const got = [];
  fanwire.addEventListener('update', (event) => got.push(event.data));
  assert.ok(sse.last.listened.includes('update'));
  sse.last.event(1, { type: 'update' });
  sse.last.end();
  time.advance(1000);
  assert.ok(sse.last.listened.includes('update'));
  assert.deepEqual(got, ['1']);
});

test('handlers can be set, read and taken away', async () => {
  const { sse, fanwire, seqs } = await start({ transport: 'sse' });
  sse.last.hello(0);
  sse.last.event(1);
  fanwire.onmessage = null;
  sse.last.event(2);
  assert.equal(fanwire.onmessage, null);
  assert.deepEqual(seqs(), [1]);
});

test('a last_event_id in the URL is where it starts, and not where it comes back', async () => {
  const sse = new FakeTransport();
  const time = new FakeTime();
  new Fanwire('/events?topic=t&last_event_id=urn:1', {
    transport: 'sse',
    environment: time.environment(),
    transports: { sse: sse.connect },
  });
  assert.equal(sse.last.request.lastEventId, 'urn:1');
  assert.equal(sse.last.request.url.search, '?topic=t');
  sse.last.hello(5);
  sse.last.end();
  time.advance(1000);
  assert.equal(sse.last.request.lastEventId, 'urn:1', 'what follows a hello proves it, and nothing did');
  sse.last.hello(5);
  sse.last.say({ name: 'ping', watermark: { epoch: EPOCH, seq: 6 } });
  sse.last.end();
  time.advance(2000);
  assert.equal(sse.last.request.lastEventId, cursor(6));
});
