// SSE read with fetch, and requests on the control stream: byte by byte.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME, FrameDecoder, writeFrame } from '../src/frames.js';
import { ControlStream } from '../src/transport/control.js';
import { SseParser, connectSseFetch } from '../src/transport/sse-fetch.js';
import { FakeTime } from './support/fakes.js';
import { vectors } from './support/vectors.js';

const messages = vectors('messages').vectors;
const events = vectors('events').vectors;
const turn = () => new Promise((resolve) => setImmediate(resolve));

function parsed(pieces) {
  const got = [];
  const parser = new SseParser(({ type, data, lastEventId }) => got.push([type, data, lastEventId]));
  for (const piece of pieces) parser.feed(piece);
  return { got, retryMs: parser.retryMs };
}

test('an event stream is read as the standard says, however it is cut', () => {
  const text = [
    ':a comment\n', 'retry: 1500\n', 'retry: soon\n', 'data: one\ndata:two\ndata:  three\n\n', 'id: 7\r\nevent: note\r\ndata\r\n\r\n',
    'event: nothing\n\n', 'data: four\rid: bad\0id\r\r', 'unknown: x\ndata: five: six\nid\n\n', 'data: grüße 🎈\n\n', 'data: unfinished\n',
  ].join('');
  const expected = [
    ['message', 'one\ntwo\n three', ''], ['note', '', '7'], ['message', 'four', '7'], ['message', 'five: six', ''], ['message', 'grüße 🎈', ''],
  ];
  for (let size = 1; size < 12; size++) {
    const pieces = [];
    for (let i = 0; i < text.length; i += size) pieces.push(text.slice(i, i + size));
    assert.deepEqual(parsed(pieces), { got: expected, retryMs: 1500 }, `in pieces of ${size}`);
  }
});

test('an event without an end is not kept for ever', () => {
  const parser = new SseParser(() => {});
  assert.throws(() => {
    for (let i = 0; i < 100; i++) parser.feed(`data: ${'x'.repeat(1024 * 1024)}`);
  }, /longer than allowed/);
});

/** A connection, what it gave, and what was fetched. */
function connect(answers, extra = {}) {
  const asked = [];
  const got = [];
  const fetch = async (url, init) => {
    asked.push({ url: url.href, ...init });
    const answer = answers.shift();
    return typeof answer === 'function' ? answer(init.signal) : answer;
  };
  const connection = connectSseFetch({
    url: new URL('https://hub.example/events?topic=a'),
    lastEventId: () => '#0a1b2c3d4e:41',
    withCredentials: true,
    types: new Set(),
    environment: { ...new FakeTime().environment(), fetch },
    tokens: null,
    onMessage: (message) => got.push(message),
    onEnd: (end) => got.push(end),
    ...extra,
  });
  return { asked, got, connection };
}

const stream = (...blocks) => new Response(blocks.join(''), { headers: { 'Content-Type': 'text/event-stream; charset=utf-8' } });

async function until(isSo) {
  for (let i = 0; i < 200 && !isSo(); i++) await turn();
  assert.ok(isSo());
}

test('a feed by fetch: the same messages, and an end', async () => {
  const { asked, got } = connect([stream('retry: 2000\n: fanwire\n', messages[0].sse_control, events[0].sse_control, events[2].sse_control)]);
  await until(() => got.length === 4);
  assert.deepEqual(got.slice(0, 3).map(({ name }) => name), ['hello', 'event', 'event']);
  assert.deepEqual(got[3], { reason: 'the event stream was cut', retryMs: null });
  assert.equal(asked[0].url, 'https://hub.example/events?topic=a&last_event_id=%230a1b2c3d4e%3A41&control=1');
  assert.deepEqual([asked[0].credentials, asked[0].headers], ['include', { Accept: 'text/event-stream' }]);
});

test('a token goes in a header; one that is refused is asked for anew, once', async () => {
  const tokens = async () => ({ get: async (refused) => (refused === 'old' ? 'new' : 'old'), expires() {} });
  const refusal = () => Response.json({ error: { code: 'invalid_token', message: 'no' } }, { status: 401 });
  const once = connect([refusal(), stream(messages[0].sse_control)], { tokens });
  await until(() => once.got.length === 2);
  assert.deepEqual(once.asked.map(({ headers }) => headers.Authorization), ['Bearer old', 'Bearer new']);
  const twice = connect([refusal(), refusal()], { tokens });
  await until(() => twice.got.length === 1);
  assert.deepEqual(twice.got, [{ reason: 'the hub answered 401: invalid_token: no', status: 401, retryMs: null, isTerminal: true }]);
  const failing = connect([], { tokens: async () => ({ get: () => Promise.reject(new Error('signed out')) }) });
  await until(() => failing.got.length === 1);
  assert.deepEqual(failing.got, [{ reason: 'signed out' }]);
});

test('what is no event stream is no feed', async () => {
  const html = connect([new Response('<html>')]);
  await until(() => html.got.length === 1);
  assert.equal(html.got[0].isTerminal, undefined);
  const shed = connect([stream('retry: 4200\n\n')]);
  await until(() => shed.got.length === 1);
  assert.equal(shed.got[0].retryMs, 4200);
  const malformed = connect([stream(messages[0].sse_control, 'event: fanwire\ndata: {\n\n', events[0].sse_control)]);
  await until(() => malformed.got.length === 2);
  assert.match(malformed.got[1].reason, /JSON/);
});

test('close() ends the request, and says nothing', async () => {
  let aborted = false;
  const { got, connection } = connect([(signal) => new Promise((resolve, reject) => signal.addEventListener('abort', () => {
    aborted = true;
    reject(signal.reason);
  }))]);
  await turn();
  connection.close();
  await turn();
  assert.deepEqual([aborted, got], [true, []]);
});

/** A session whose control stream a test answers. */
const expiries = [];
function session() {
  const sent = [];
  let answers;
  const decoder = new FrameDecoder();
  return {
    sent,
    answer: (body) => answers.enqueue(writeFrame(FRAME.ANSWER, body)),
    fail: (error) => answers.error(error),
    opened: 0,
    async createBidirectionalStream() {
      this.opened++;
      const readable = new ReadableStream({ start: (controller) => (answers = controller) });
      const writable = new WritableStream({
        write(bytes) {
          decoder.feed(bytes);
          for (let frame = decoder.next(); frame; frame = decoder.next()) sent.push([frame.type, JSON.parse(new TextDecoder().decode(frame.payload))]);
        },
      });
      return { readable, writable };
    },
  };
}

test('requests on the control stream are answered in any order', async () => {
  const fake = session();
  const control = new ControlStream(fake, (ms) => expiries.push(ms));
  const first = control.request(FRAME.SUBSCRIBE, { match: ['b'] });
  const second = control.request(FRAME.AUTH, { token: 'x'.repeat(300) });
  await until(() => fake.sent.length === 2);
  assert.deepEqual(fake.sent, [[0x11, { request_id: 1, match: ['b'] }], [0x10, { request_id: 2, token: 'x'.repeat(300) }]]);
  fake.answer({ request_id: 99, ok: {} });
  fake.answer({ request_id: 2, error: { code: 'invalid_token', message: 'no' } });
  fake.answer({ request_id: 1, ok: { from_seq: 5 } });
  await assert.rejects(second, { name: 'RequestError', code: 'invalid_token' });
  let isInForce = false;
  first.then(() => (isInForce = true));
  await turn();
  assert.equal(isInForce, false, 'a change holds from where the feed shows it');
  control.shows(1);
  await first;
  const third = control.request(FRAME.AUTH, { token: 'y' });
  await until(() => fake.sent.length === 3);
  fake.answer({ request_id: 3, ok: { expires_at_ms: 1234 } });
  await third;
  assert.deepEqual(expiries, [1234]);
  assert.equal(fake.opened, 1);
});

test('requests whose session ends fail', async () => {
  const fake = session();
  const control = new ControlStream(fake, (ms) => expiries.push(ms));
  const asked = control.request(FRAME.SUBSCRIBE, { match: ['b'] });
  await until(() => fake.sent.length === 1);
  fake.fail(new Error('gone'));
  await assert.rejects(asked, /gone/);
});
