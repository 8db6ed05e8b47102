import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FRAME, FrameDecoder, Malformed, readEvent, readFrame } from '../src/frames.js';
import { bytesOf, vectors } from './support/vectors.js';

test('a long frame that comes in small pieces is put together', () => {
  const payload = Uint8Array.from({ length: 50_000 }, (_, i) => i % 251);
  const bytes = new Uint8Array([0x0a, 0x80, 0x00, 0xc3, 0x50, ...payload, 0x0b, 0x00]);
  const decoder = new FrameDecoder();
  const frames = [];
  for (let i = 0; i < bytes.length; i += 7) {
    decoder.feed(bytes.subarray(i, i + 7));
    for (let frame = decoder.next(); frame; frame = decoder.next()) frames.push([frame.type, frame.payload.slice()]);
  }
  assert.deepEqual(frames, [[0x0a, payload], [0x0b, new Uint8Array()]]);
  assert.ok(decoder.isEmpty);
});

test('a chunk is not written to, and binary data does not share its memory', () => {
  const { frame_hex: hex, event } = vectors('events').vectors.find(({ event }) => event.binary && event.text);
  const chunk = bytesOf(hex);
  const decoder = new FrameDecoder();
  decoder.feed(chunk);
  const { data } = readFrame(decoder.next(), '0a1b2c3d4e');
  chunk.fill(0);
  assert.equal(Buffer.from(data).toString('base64'), event.text);
  const part = Uint8Array.from([0x0a]);
  decoder.feed(part);
  assert.equal(decoder.next(), null);
  decoder.feed(Uint8Array.from([0x01, 0x07]));
  assert.deepEqual([...decoder.next().payload], [7]);
  assert.deepEqual([...part], [0x0a]);
});

test('a frame beyond the limit is refused before it is buffered', () => {
  const decoder = new FrameDecoder(10);
  decoder.feed(Uint8Array.from([0x01, 11]));
  assert.throws(() => decoder.next(), Malformed);
});

test('text that is no UTF-8 is refused', () => {
  const payload = Uint8Array.from([0, 1, 0, 0, 1, 0x74, 0xff]);
  assert.throws(() => readEvent(payload, '0a1b2c3d4e'), /UTF-8/);
});

test('a number beyond 2^53 − 1 is refused', () => {
  const payload = bytesOf('00' + 'c020000000000000' + '00' + '00' + '0174');
  assert.throws(() => readEvent(payload, '0a1b2c3d4e'), /2\^53/);
});

test('an event before hello is refused', () => {
  assert.throws(() => readFrame({ type: FRAME.EVENT, payload: new Uint8Array() }, null), Malformed);
});

test('garbage is either malformed or read, and nothing else', () => {
  let seed = 42; // mulberry32: the same garbage each time
  const random = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  let refused = 0;
  for (let round = 0; round < 3000; round++) {
    const decoder = new FrameDecoder(256);
    try {
      for (let chunk = 0; chunk < 4; chunk++) {
        // Small first bytes, so that known types and short lengths come up.
        decoder.feed(Uint8Array.from({ length: 1 + random() * 40 }, () => (random() < 0.5 ? random() * 8 : random() * 256)));
        for (let frame = decoder.next(); frame; frame = decoder.next()) readFrame(frame, '0a1b2c3d4e');
      }
    } catch (error) {
      assert.ok(error instanceof Malformed, `${round}: ${error.stack}`);
      refused++;
    }
  }
  assert.ok(refused > 100);
});

test('every cut of an event is malformed or a shorter event', () => {
  for (const { frame_hex: hex } of vectors('events').vectors) {
    const decoder = new FrameDecoder();
    decoder.feed(bytesOf(hex));
    const { payload } = decoder.next();
    for (let end = 0; end < payload.length; end++) {
      try {
        readEvent(payload.subarray(0, end), '0a1b2c3d4e');
      } catch (error) {
        assert.ok(error instanceof Malformed);
      }
    }
  }
});
