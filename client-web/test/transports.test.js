// The two transports against the browser's classes, which node doesn't have: stand-ins of them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askForOffer } from '../src/discovery.js';
import { FRAME, Malformed, writeFrame } from '../src/frames.js';
import { publish } from '../src/publish.js';
import { connectSse } from '../src/transport/sse.js';
import { readFeed } from '../src/transport/feed.js';
import { connectWebTransport, readOffer } from '../src/transport/webtransport.js';
import { FakeTime } from './support/fakes.js';
import { bytesOf, parseBlock, vectors } from './support/vectors.js';

const messages = vectors('messages').vectors;
const events = vectors('events').vectors;
const turn = () => new Promise((resolve) => setImmediate(resolve));

class FakeEventSource extends EventTarget {
  static all = [];
  readyState = 0;
  constructor(url, init) {
    super();
    Object.assign(this, { url: new URL(url), init });
    FakeEventSource.all.push(this);
  }
  close() {
    this.readyState = 2;
  }
  feed(block) {
    const { type, data, lastEventId } = parseBlock(block.replace(/\n\n$/, ''));
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId }));
  }
}

/** A request whose outcome is written down. */
function request(environment, extra = {}) {
  const got = [];
  return {
    got,
    url: new URL('https://hub.example/events?topic=a%20b&topic=c'),
    lastEventId: () => '#0a1b2c3d4e:41',
    heartbeat: 2.5,
    withCredentials: false,
    types: new Set(['message', 'update']),
    environment: { ...new FakeTime().environment(), ...environment },
    tokens: null,
    onMessage: (message) => got.push(message),
    onEnd: (end) => got.push(end),
    ...extra,
  };
}

test('SSE asks for control messages and gives both kinds on, in order', () => {
  const sent = request({ EventSource: FakeEventSource });
  connectSse(sent);
  const source = FakeEventSource.all.at(-1);
  assert.equal(source.url.search, '?topic=a+b&topic=c&heartbeat=2.5&last_event_id=%230a1b2c3d4e%3A41&control=1');
  source.feed(messages[0].sse_control);
  source.feed(events[0].sse_control);
  source.feed(events[2].sse_control); // of type `update`
  source.feed(messages[3].sse_control);
  assert.deepEqual(sent.got.map(({ name }) => name), ['hello', 'event', 'event', 'ping']);
  assert.equal(sent.got[2].type, 'update');
});

test('SSE: an event of type error or open is an event', () => {
  const sent = request({ EventSource: FakeEventSource }, { types: new Set(['error', 'open']) });
  connectSse(sent);
  const source = FakeEventSource.all.at(-1);
  source.feed('id: #0a1b2c3d4e:1\nevent: error\ndata: x\n\n');
  source.feed('id: #0a1b2c3d4e:2\nevent: open\ndata: y\n\n');
  source.dispatchEvent(new Event('open'));
  assert.deepEqual(sent.got.map(({ type, data }) => [type, data]), [['error', 'x'], ['open', 'y']]);
  source.dispatchEvent(new Event('error'));
  assert.equal(source.readyState, 2, 'EventSource is not left to reconnect by itself');
  assert.match(sent.got.at(-1).reason, /cut/);
  source.feed('id: #0a1b2c3d4e:3\ndata: z\n\n');
  assert.equal(sent.got.length, 3);
});

test('SSE: what makes no sense ends the connection', () => {
  const hello = messages[0].sse_control;
  for (const block of ['event: fanwire\ndata: {\n\n', 'event: fanwire\ndata: {"ping":1}\n\n', 'id: #0a1b2c3d4e:1;b\ndata: ?\n\n', 'id: #0a1b2c3d4e:1;n=%ff\ndata: x\n\n']) {
    const sent = request({ EventSource: FakeEventSource });
    connectSse(sent);
    FakeEventSource.all.at(-1).feed(hello);
    FakeEventSource.all.at(-1).feed(block);
    assert.equal(sent.got.length, 2);
    assert.ok(sent.got[1].reason, block);
  }
});

test('SSE: a hub without control messages is read as it is', () => {
  const time = new FakeTime();
  const sent = request({ ...time.environment(), EventSource: FakeEventSource });
  connectSse(sent);
  const source = FakeEventSource.all.at(-1);
  source.dispatchEvent(new Event('open'));
  source.feed('id: urn:1\ndata: x\n\n');
  source.feed('data: y\n\n');
  time.advance(10_000);
  assert.deepEqual(sent.got.map(({ name, id, cursor }) => [name, id, cursor]), [
    ['hello', undefined, null], ['event', 'urn:1', null], ['event', null, null],
  ]);
});

test('SSE: a stream that opens and stays quiet is one without control messages', () => {
  const time = new FakeTime();
  const sent = request({ ...time.environment(), EventSource: FakeEventSource });
  connectSse(sent);
  FakeEventSource.all.at(-1).dispatchEvent(new Event('open'));
  time.advance(2999);
  assert.deepEqual(sent.got, []);
  time.advance(1);
  assert.deepEqual(sent.got, [{ name: 'hello', cursor: null, verdict: null, heartbeatMs: null }]);
});

/** A stream that EventSource gives up, and what a fetch of the same says. */
async function refusedWith(answer, readyState = 2) {
  const asked = [];
  const fetch = async (url, init) => {
    asked.push([url.href, init.headers.Accept]);
    if (!answer) throw new TypeError('Failed to fetch');
    return answer;
  };
  const sent = request({ EventSource: FakeEventSource, fetch });
  connectSse(sent);
  const source = FakeEventSource.all.at(-1);
  if (readyState === 0) source.dispatchEvent(new Event('open'));
  source.readyState = readyState;
  source.dispatchEvent(new Event('error'));
  while (sent.got.length === 0) await turn();
  assert.deepEqual(asked, [[source.url.href, 'text/event-stream']]);
  assert.equal(sent.got.length, 1);
  return sent.got[0];
}

test('SSE: EventSource hides why it was refused, so that is asked', async () => {
  const error = JSON.stringify({ error: { code: 'no_matcher', message: 'at least one' } });
  const refused = await refusedWith(new Response(error, { status: 400 }));
  assert.deepEqual(refused, { reason: 'the hub answered 400: no_matcher: at least one', status: 400, retryMs: null, isTerminal: true });
  assert.equal((await refusedWith(new Response('<html>', { status: 404 }))).isTerminal, true);
  assert.equal((await refusedWith(new Response(null, { status: 204 }))).isTerminal, true);
  for (const status of [408, 425, 429, 500, 502, 503]) {
    const end = await refusedWith(new Response('', { status, headers: { 'Retry-After': '7' } }));
    assert.deepEqual([end.isTerminal, end.retryMs], [false, 7000]);
  }
  assert.equal((await refusedWith(null)).isTerminal, undefined);
});

test('SSE: a hub that sheds its load says when to come back, and that is heard', async () => {
  const end = await refusedWith(new Response('retry: 4200\n\n'), 0);
  assert.deepEqual([end.retryMs, end.isTerminal], [4200, undefined]);
});

test('SSE: what was cut, or never answered, is not asked about', () => {
  for (const begin of [(source) => source.feed(messages[0].sse_control), () => {}]) {
    const sent = request({ EventSource: FakeEventSource, fetch: () => assert.fail('asked') });
    connectSse(sent);
    const source = FakeEventSource.all.at(-1);
    begin(source);
    source.dispatchEvent(new Event('error'));
    assert.match(sent.got.at(-1).reason, /cut/);
  }
});

/** What gives a token, as a feed's tokens. */
const tokensOf = (get) => async () => ({ get, expires() {} });

class FakeWebTransport {
  static all = [];
  constructor(url, options) {
    Object.assign(this, { url, options, isClosed: false });
    this.ready = new Promise((resolve, reject) => Object.assign(this, { beReady: resolve, refuse: reject }));
    this.closed = new Promise((resolve, reject) => Object.assign(this, { end: resolve, fail: reject }));
    this.feed = new ReadableStream({ start: (controller) => (this.feedController = controller) });
    this.incomingUnidirectionalStreams = new ReadableStream({ start: (controller) => controller.enqueue(this.feed) });
    this.createBidirectionalStream = async () => ({ readable: new ReadableStream(), writable: new WritableStream() });
    FakeWebTransport.all.push(this);
  }
  close() {
    this.isClosed = true;
  }
}

const discovery = (offer, status = 200) => async () => new Response(JSON.stringify(offer), { status });
const offer = {
  version: 1,
  webtransport: {
    url: 'https://127.0.0.1:4433/events',
    certificate_hashes: [{ algorithm: 'sha-256', value: Buffer.alloc(32, 7).toString('base64') }],
  },
};

test('WebTransport: from discovery to events', async () => {
  const sent = request({ WebTransport: FakeWebTransport, fetch: discovery(offer) });
  connectWebTransport(sent);
  await turn();
  const session = FakeWebTransport.all.at(-1);
  assert.equal(session.url, 'https://127.0.0.1:4433/events?topic=a+b&topic=c&heartbeat=2.5&last_event_id=%230a1b2c3d4e%3A41');
  assert.deepEqual(session.options.serverCertificateHashes, [{ algorithm: 'sha-256', value: new Uint8Array(32).fill(7) }]);
  session.beReady();
  for (const { frame_hex: hex } of [messages[0], events[0], messages[3]]) session.feedController.enqueue(bytesOf(hex));
  await turn();
  assert.deepEqual(sent.got.map(({ name }) => name), ['hello', 'event', 'ping']);
});

test('WebTransport: the reason of a close, and one end only', async () => {
  const time = new FakeTime();
  const sent = request({ ...time.environment(), WebTransport: FakeWebTransport, fetch: discovery(offer) });
  connectWebTransport(sent);
  await turn();
  const session = FakeWebTransport.all.at(-1);
  session.beReady();
  await turn();
  session.feedController.error(new Error('the session is closed'));
  session.end({ closeCode: 2, reason: 'no matcher' });
  await turn();
  time.advance(1000);
  assert.deepEqual(sent.got, [{ reason: 'no matcher', code: 2, isTerminal: true }]);
});

test('WebTransport: ready and closed both reject, and nobody is left with an unhandled rejection', async () => {
  const sent = request({ WebTransport: FakeWebTransport, fetch: discovery(offer) });
  connectWebTransport(sent);
  await turn();
  const session = FakeWebTransport.all.at(-1);
  session.refuse(new Error('Opening handshake failed.'));
  session.fail(new Error('Opening handshake failed.'));
  await turn();
  assert.deepEqual(sent.got, [{ reason: 'Opening handshake failed.' }]);
});

test('WebTransport: a session that is given up while it connects is closed once it is ready', async () => {
  const sent = request({ WebTransport: FakeWebTransport, fetch: discovery(offer) });
  const connection = connectWebTransport(sent);
  await turn();
  const session = FakeWebTransport.all.at(-1);
  connection.close();
  assert.equal(session.isClosed, false, 'Firefox would let go of it, and the hub keep it');
  session.beReady();
  await turn();
  assert.ok(session.isClosed);
  assert.deepEqual(sent.got, []);
});

test('WebTransport: a session that connects while its page is put aside is closed at once', async () => {
  const connection = connectWebTransport(request({ WebTransport: FakeWebTransport, fetch: discovery(offer) }));
  await turn();
  connection.close({ pageRests: true });
  assert.ok(FakeWebTransport.all.at(-1).isClosed);
});

test('WebTransport: close() before discovery has answered opens no session', async () => {
  const before = FakeWebTransport.all.length;
  const sent = request({ WebTransport: FakeWebTransport, fetch: discovery(offer) });
  connectWebTransport(sent).close();
  await turn();
  assert.equal(FakeWebTransport.all.length, before);
  assert.deepEqual(sent.got, []);
});

test('WebTransport: garbage ends the connection', async () => {
  const sent = request({ WebTransport: FakeWebTransport, fetch: discovery(offer) });
  connectWebTransport(sent);
  await turn();
  const session = FakeWebTransport.all.at(-1);
  session.beReady();
  session.feedController.enqueue(bytesOf('0002' + '6e6f'));
  await turn();
  assert.match(sent.got[0].reason, /no JSON/);
  assert.ok(session.isClosed);
});

test('WebTransport: a hub that has none', async () => {
  const sent = request({ WebTransport: FakeWebTransport, fetch: discovery({ version: 1, webtransport: null }) });
  connectWebTransport(sent);
  await turn();
  assert.deepEqual(sent.got, [{ reason: 'this hub offers no WebTransport' }]);
});

test('discovery: behind something that passes only the feed its own URL is tried, where it is https', async () => {
  const environment = { fetch: discovery({}, 404) };
  const url = new URL('https://hub.example/events?topic=a');
  const { url: endpoint, certificateHashes } = readOffer(await askForOffer(url, environment), url);
  assert.deepEqual([endpoint.href, certificateHashes], ['https://hub.example/events', null]);
  await assert.rejects(askForOffer(new URL('http://hub.example/events'), environment), /404/);
});

test('WebTransport: it has no cookies, so a feed that needs them is asked for as such; a token goes in band', async () => {
  const authOf = async (extra) => {
    connectWebTransport(request({ WebTransport: FakeWebTransport, fetch: discovery(offer) }, extra));
    await turn();
    return new URL(FakeWebTransport.all.at(-1).url).searchParams.getAll('auth');
  };
  assert.deepEqual(await authOf({}), []);
  assert.deepEqual(await authOf({ withCredentials: true }), ['required']);
  const url = new URL('https://hub.example/events?topic=a&auth=required');
  assert.deepEqual(await authOf({ url, tokens: tokensOf(async () => 'x') }), ['inband']);
});

test('WebTransport: it asks for what it can read', async () => {
  for (const [inUrl, given, asked] of [
    [null, undefined, null], ['per-topic', undefined, 'per-topic'], ['datagram', 'per-topic', 'per-topic'],
    ['ordered', 'datagram', 'datagram'], ['per-topic', 'ordered', null], ['pigeon', undefined, null],
  ]) {
    const url = new URL('https://hub.example/events?topic=a');
    if (inUrl) url.searchParams.set('delivery', inUrl);
    connectWebTransport(request({ WebTransport: FakeWebTransport, fetch: discovery(offer) }, { url, driver: { options: { delivery: given } } }));
    await turn();
    assert.equal(new URL(FakeWebTransport.all.at(-1).url).searchParams.get('delivery'), asked);
  }
});

test('WebTransport: a token that the hub refuses is asked for anew, and one that stays the same is the end', async () => {
  const frame = (type, body) => {
    const payload = Buffer.from(JSON.stringify(body));
    return Uint8Array.from([type, 0x40 | (payload.length >> 8), payload.length & 0xff, ...payload]);
  };
  for (const [next, isTerminal] of [['new', false], ['old', true]]) {
    const asked = [];
    const token = async (refused) => {
      asked.push(refused);
      return refused ? next : 'old';
    };
    const time = new FakeTime();
    const sent = request({ ...time.environment(), WebTransport: FakeWebTransport, fetch: discovery(offer) }, { tokens: tokensOf(token) });
    connectWebTransport(sent);
    await turn();
    const session = FakeWebTransport.all.at(-1);
    session.beReady();
    session.feedController.enqueue(frame(5, { code: 3, reason: 'no valid token', retry_ms: null }));
    session.end({ closeCode: 3, reason: 'no valid token' });
    await turn();
    time.advance(1000);
    assert.deepEqual(asked, [undefined, 'old']);
    assert.deepEqual(sent.got, [{ reason: 'no valid token', code: 3, isTerminal }]);
  }
});

test('WebTransport: what the hub said before is not asked again; what is no offer is', async () => {
  const sent = request({ WebTransport: FakeWebTransport, fetch: () => assert.fail('asked') }, { offer: offer.webtransport });
  connectWebTransport(sent);
  await turn();
  assert.equal(new URL(FakeWebTransport.all.at(-1).url).port, '4433');
  const said = [];
  const other = request({ WebTransport: FakeWebTransport, fetch: discovery(offer) }, { offer: { url: 'http://[' }, onOffer: (o) => said.push(o) });
  connectWebTransport(other);
  await turn();
  assert.deepEqual(said, [offer.webtransport]);
});

test('a feed is read however it is cut, character by character too', async () => {
  const frames = [messages[0], ...events, messages[1]];
  const bytes = bytesOf(frames.map(({ frame_hex: hex }) => hex).join(''));
  for (const size of [1, 2, 3, 7, 64, bytes.length]) {
    const got = [];
    const stream = new ReadableStream({
      start(controller) {
        for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.subarray(i, i + size));
        controller.close();
      },
    });
    await readFeed(stream, (message) => got.push(message));
    const texts = got.filter(({ name }) => name === 'event').map(({ data }) => data);
    assert.deepEqual(
      texts.map((data) => (typeof data === 'string' ? data : Buffer.from(data).toString('base64'))),
      events.map(({ event }) => event.text),
    );
  }
});

const readAll = async (...frames) => {
  const got = [];
  const stream = new ReadableStream({
    start(controller) {
      for (const frame of frames) controller.enqueue(frame);
      controller.close();
    },
  });
  await readFeed(stream, (message, changed) => got.push(changed === undefined ? message : { ...message, changed }));
  return got;
};
const hello = writeFrame(FRAME.HELLO, { version: 1, cursor: '#0a1b2c3d4e:0', verdict: 'live', heartbeat_ms: 1000 });
const cursorAt = (seq) => ({ epoch: '0a1b2c3d4e', seq });
/** An EVENT with nothing but numbers below 64 and the topic `t`. */
const eventFrame = (prevSeq, seq) => Uint8Array.from([FRAME.EVENT, 6, prevSeq, seq, 1, 0, 1, 't'.charCodeAt(0)]);

test('a hole that the hub did not tell is told, and what it told is none', async () => {
  const ping = writeFrame(FRAME.PING, { watermark: '#0a1b2c3d4e:3' });
  const got = await readAll(hello, eventFrame(0, 1), ping, eventFrame(1, 4), eventFrame(6, 9), eventFrame(9, 10));
  assert.deepEqual(got.map(({ name, cursor, watermark }) => [name, (cursor ?? watermark).seq]), [
    ['hello', 0], ['event', 1], ['ping', 3], ['event', 4], ['gap', 6], ['event', 9], ['event', 10],
  ]);
  assert.deepEqual(got[4], { name: 'gap', reason: 'unannounced', from: 5, to: 6, cursor: cursorAt(6) });
});

test('a change shows in the feed as the progress that it is', async () => {
  const got = await readAll(hello, writeFrame(FRAME.CHANGED, { request_id: 7, from_seq: 9 }), eventFrame(0, 12));
  assert.deepEqual(got[1], { name: 'ping', watermark: cursorAt(9), changed: 7 });
  assert.equal(got[2].name, 'event');
  await assert.rejects(readAll(writeFrame(FRAME.CHANGED, { request_id: 7, from_seq: 9 })), Malformed);
});

test('a feed that starts with an event is malformed', async () => {
  const stream = new ReadableStream({ start: (controller) => controller.enqueue(bytesOf(events[0].frame_hex)) });
  await assert.rejects(readFeed(stream, () => true), Malformed);
});

test('publish: JSON, binary as base64, refusals with their code', async () => {
  const calls = [];
  const answer = (body, status) => async (url, init) => {
    calls.push([url.href, init.method, JSON.parse(init.body)]);
    return new Response(body, { status });
  };
  const url = new URL('https://hub.example/events?topic=a');
  const options = (fetch) => ({ environment: { fetch }, withCredentials: false });
  const published = await publish(url, { topic: 'a', data: 'x', type: 't' }, options(answer('{"id":"#e:1","cursor":"#e:1"}')));
  assert.deepEqual(published, { id: '#e:1', cursor: '#e:1' });
  await publish(url, { topic: 'a', data: new Uint8Array([0, 255]) }, options(answer('{}')));
  assert.deepEqual(calls, [
    ['https://hub.example/events', 'POST', { topic: 'a', data: 'x', type: 't' }],
    ['https://hub.example/events', 'POST', { topic: 'a', data_base64: 'AP8=' }],
  ]);
  const refusal = '{"error":{"code":"bad_topic","message":"no"}}';
  await assert.rejects(publish(url, { topic: '' }, options(answer(refusal, 400))), { code: 'bad_topic', status: 400 });
  await assert.rejects(publish(url, { topic: 'a' }, options(answer('<html>', 502))), { code: 'http', status: 502 });
});
