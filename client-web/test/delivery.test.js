// What comes out of order: streams that are joined, datagrams of which some are late, and a position that remembers.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME, Malformed, writeFrame } from '../src/frames.js';
import { LoosePosition } from '../src/loose.js';
import { Negotiation } from '../src/negotiation.js';
import { Position } from '../src/position.js';
import { AHEAD_MAX, Chain } from '../src/transport/chain.js';
import { Newest, readSession as readDatagrams, TOPICS_MAX } from '../src/transport/datagrams.js';
import { readSession as readLanes } from '../src/transport/lanes.js';
import { cursor, EPOCH } from './support/fakes.js';

const at = (seq) => ({ epoch: EPOCH, seq });
const hello = (seq, verdict = 'live') => ({ name: 'hello', cursor: at(seq), verdict, heartbeatMs: 1000 });
const event = (prevSeq, seq, topic = 't') => ({ name: 'event', cursor: at(seq), prevSeq, topic });
const gap = (from, to) => ({ name: 'gap', reason: 'evicted', from, to, cursor: at(to) });
const ping = (seq) => ({ name: 'ping', watermark: at(seq) });

/** What comes out, in a few characters each. */
function told() {
  const got = [];
  const give = (message, changed) => {
    const { name, cursor: place, watermark, isLoose } = message;
    got.push(`${name[0]}${(place ?? watermark)?.seq ?? ''}${isLoose ? '?' : ''}${changed === undefined ? '' : `#${changed}`}`);
    return name !== 'bye';
  };
  return { got, give };
}

function chained(...said) {
  const { got, give } = told();
  const chain = new Chain(give);
  chain.take(hello(4), null);
  for (const [message, prev = null] of said) chain.take(message, prev);
  return { got: got.slice(1), chain };
}

test('events are given at once, and the watermark waits for what is missing', () => {
  assert.deepEqual(chained([event(6, 9)], [event(4, 5)], [event(5, 6)], [event(9, 11)]).got, ['e9?', 'e5', 'e6', 'p9', 'e11']);
});

test('what is no event comes after all that is before it', () => {
  const { got, chain } = chained(
    [event(5, 6)], [ping(7), 6], [gap(8, 9), 6], [{ name: 'changed', requestId: 3, fromSeq: 9 }, 9], [event(9, 10)], [{ name: 'bye' }, 10], [event(4, 5)],
  );
  assert.deepEqual(got, ['e6?', 'e10?', 'e5', 'p6', 'p7', 'g9', 'p10', 'p10#3', 'b']);
  assert.ok(chain.isOver);
});

test('a bye is the last word, though something is missing', () => {
  const { got, chain } = chained([{ name: 'bye' }, 9]);
  chain.lastWord();
  assert.deepEqual(got, []);
  const { got: all, give } = told();
  const cut = new Chain(give);
  cut.take(hello(4), null);
  cut.take({ name: 'bye' }, 9);
  cut.lastWord();
  assert.deepEqual(all, ['h4', 'b']);
});

test('repeats and forks make no sense, and what is ahead is bounded', () => {
  for (const bad of [[event(3, 4)], [event(4, 5)], [event(7, 10)], [event(8, 8)], [gap(5, 6), 4], [hello(4)]]) {
    assert.throws(() => chained([event(4, 5)], [event(7, 9)], bad), Malformed, JSON.stringify(bad));
  }
  const many = Array.from({ length: AHEAD_MAX }, (_, i) => [event(2 * i + 5, 2 * i + 7)]);
  assert.throws(() => chained(...many, [event(100_001, 100_002)]), Malformed);
  assert.throws(() => new Chain(() => true).take(event(4, 5), null), Malformed);
});

test('what is older than what came of its topic is dropped, and what is late is marked', () => {
  const { got, give } = told();
  const newest = new Newest(give);
  for (const message of [hello(3), event(8, 9, 'a'), event(0, 8, 'a'), event(0, 5, 'b'), event(0, 9, 'a'), ping(12), event(9, 11, 'c'), event(0, 13, 'a')]) newest.take(message);
  assert.deepEqual(got, ['h3', 'e9', 'e5?', 'p12', 'e11?', 'e13']);
});

test('of a topic that was forgotten nothing old comes again', () => {
  const { got, give } = told();
  const newest = new Newest(give);
  newest.take(hello(0));
  for (let seq = 1; seq <= TOPICS_MAX + 2; seq++) newest.take(event(0, seq, `${seq}`));
  const count = got.length;
  newest.take(event(0, 2, 'new'));
  newest.take(event(0, 1, '1'));
  assert.equal(got.length, count, 'it may be older than what came');
  newest.take(event(0, TOPICS_MAX + 3, '1'));
  assert.equal(got.length, count + 1);
});

function position(startId = null) {
  const own = new Position(startId);
  const negotiation = new Negotiation({ kind: 'sse', position: own, random: () => 0.5, connectTimeoutMs: 1 });
  negotiation.live = 'webtransport';
  return { own, negotiation, loose: new LoosePosition(negotiation) };
}
const loosely = (seq) => ({ ...event(0, seq), isLoose: true });

test('what came ahead of the cursor does not move it, and does not come again', () => {
  const { loose } = position();
  loose.start(hello(4), null);
  assert.ok(loose.event(loosely(9)) && loose.event(event(4, 5)) && loose.event(loosely(7)));
  assert.equal(loose.resumeId, cursor(5));
  // Another connection, which goes on at the cursor.
  loose.start(hello(5, 'resumed'), cursor(5));
  assert.deepEqual([6, 7, 8, 9, 10].map((seq) => loose.event(event(seq - 1, seq))), [true, false, true, false, true]);
  assert.equal(loose.resumeId, cursor(10));
  assert.equal(loose.duplicates, 2);
});

test('what was delivered of a gap is not in it', () => {
  const { loose, negotiation } = position();
  loose.start(hello(4), null);
  for (const seq of [6, 9, 12]) loose.event(loosely(seq));
  const last = loose.gap(gap(5, 10));
  assert.deepEqual([...negotiation.out, last].map(({ from, to }) => [from, to]), [[5, 5], [7, 8], [10, 10]]);
  assert.equal(loose.event(event(10, 12)), false);
});

test('what is late is new once, and nothing that another transport brought', () => {
  const { loose } = position();
  loose.start(hello(4), null);
  loose.event(event(4, 20));
  // A session takes over that was asked for an older place.
  loose.start(hello(10, 'resumed'), cursor(10));
  assert.equal(loose.event(loosely(15)), false);
  loose.event(event(10, 30));
  assert.equal(loose.event(loosely(25)), true);
  assert.equal(loose.resumeId, cursor(30));
});

test('another log has another memory', () => {
  const { loose } = position();
  loose.start(hello(4), null);
  loose.event(loosely(6));
  const cursorThere = { epoch: 'vvvvvvvvvv', seq: 0 };
  loose.start({ ...hello(0, 'new_epoch'), cursor: cursorThere }, cursor(4));
  assert.ok(loose.event({ ...event(0, 6), cursor: { ...cursorThere, seq: 6 } }));
  assert.throws(() => loose.event(loosely(7)));
});

// Sessions: streams and datagrams as a test gives them.

const frame = writeFrame;
const eventFrame = (prevSeq, seq, topic = 't') => {
  const payload = [prevSeq, seq, 1, 0, topic.length, ...Buffer.from(topic), 120];
  return Uint8Array.of(FRAME.EVENT, payload.length, ...payload);
};
const helloFrame = (seq, verdict = 'live') => frame(FRAME.HELLO, { version: 1, cursor: cursor(seq), verdict, heartbeat_ms: 1000 });
const pingFrame = (seq, prev) => frame(FRAME.PING, { watermark: cursor(seq), prev_seq: prev });
const byeFrame = (prev) => frame(FRAME.BYE, { code: 1, reason: 'drain', retry_ms: 1, prev_seq: prev });
const joined = (...frames) => Uint8Array.from(frames.flatMap((bytes) => [...bytes]));

function session() {
  const streams = new TransformStream();
  const datagrams = new TransformStream(undefined, undefined, { highWaterMark: 100 });
  const incoming = streams.writable.getWriter();
  const sent = datagrams.writable.getWriter();
  return {
    incomingUnidirectionalStreams: streams.readable,
    datagrams: { readable: datagrams.readable },
    open() {
      const { readable, writable } = new TransformStream(undefined, undefined, { highWaterMark: 100 });
      incoming.write(readable);
      const writer = writable.getWriter();
      return { write: (...frames) => writer.write(joined(...frames)), close: () => writer.close() };
    },
    send: (...frames) => sent.write(joined(...frames)),
    close() {
      incoming.close();
      sent.close();
    },
  };
}
const turns = async () => {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
};

test('lanes are joined, whichever comes first', async () => {
  const { got, give } = told();
  const wire = session();
  const reading = readLanes(wire, give);
  const lane = wire.open();
  lane.write(frame(0x06, { lane: 3 }), eventFrame(5, 6));
  await turns();
  assert.deepEqual(got, [], 'lanes wait for the hello');
  const feed = wire.open();
  feed.write(helloFrame(4), pingFrame(6, 6));
  await turns();
  assert.deepEqual(got, ['h4', 'e6?']);
  wire.open().write(frame(0x06, { lane: 5 }), eventFrame(4, 5));
  await turns();
  assert.deepEqual(got.slice(2), ['e5', 'p6', 'p6']);
  feed.write(byeFrame(6));
  await reading;
  assert.equal(got.at(-1), 'b');
});

test('a bye that waits is heard when the session ends, and other streams than lanes make no sense', async () => {
  const { got, give } = told();
  const wire = session();
  const reading = readLanes(wire, give);
  const feed = wire.open();
  feed.write(helloFrame(4), byeFrame(9));
  feed.close();
  await turns();
  assert.deepEqual(got, ['h4']);
  wire.close();
  await reading;
  assert.deepEqual(got, ['h4', 'b']);
  const bad = session();
  const failing = readLanes(bad, give);
  bad.open().write(helloFrame(4));
  bad.open().write(helloFrame(4));
  await assert.rejects(failing, Malformed);
});

test('datagrams wait for history', async () => {
  const { got, give } = told();
  const wire = session();
  const reading = readDatagrams(wire, give);
  wire.send(eventFrame(8, 9), eventFrame(9, 10));
  const feed = wire.open();
  feed.write(helloFrame(4, 'resumed'), eventFrame(4, 8));
  await turns();
  assert.deepEqual(got, ['h4', 'e8']);
  feed.write(pingFrame(8, 8));
  wire.send(eventFrame(6, 7, 'other'));
  await turns();
  assert.deepEqual(got.slice(2), ['p8', 'e9', 'e10', 'e7?']);
  feed.write(byeFrame(10));
  await reading;
  assert.equal(got.at(-1), 'b');
  const bad = session();
  const failing = readDatagrams(bad, give);
  bad.open().write(helloFrame(4), pingFrame(4, 4));
  bad.send(eventFrame(4, 5).slice(0, -1));
  await assert.rejects(failing, Malformed);
});
