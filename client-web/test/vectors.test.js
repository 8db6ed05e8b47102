// The vectors that the hub is tested against too.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FrameDecoder, readFrame } from '../src/frames.js';
import { readControl } from '../src/message.js';
import { readSseEvent } from '../src/transport/sse.js';
import { bytesOf, chunksOf, parseBlock, vectors } from './support/vectors.js';

const framesOf = (bytes, size = bytes.length) => {
  const decoder = new FrameDecoder();
  const frames = [];
  for (const chunk of chunksOf(bytes, size)) {
    decoder.feed(chunk);
    for (let frame = decoder.next(); frame; frame = decoder.next()) frames.push({ ...frame, payload: frame.payload.slice() });
  }
  return { frames, isEmpty: decoder.isEmpty };
};

const events = vectors('events');
for (const { name, event, prev_seq: prevSeq, frame_hex: hex, sse_control: sse } of events.vectors) {
  const expected = {
    name: 'event',
    cursor: { epoch: events.epoch, seq: event.seq },
    at: event.at,
    topic: event.topic,
    id: event.id,
    type: event.type ?? 'message',
    data: event.binary ? Uint8Array.from(Buffer.from(event.text, 'base64')) : event.text,
  };

  test(`event over WebTransport, in chunks of any size: ${name}`, () => {
    const bytes = bytesOf(hex);
    for (let size = 1; size <= bytes.length; size++) {
      const { frames, isEmpty } = framesOf(bytes, size);
      assert.equal(frames.length, 1);
      assert.ok(isEmpty);
      assert.deepEqual(readFrame(frames[0], events.epoch), { ...expected, prevSeq });
    }
  });

  test(`event over SSE: ${name}`, () => {
    assert.deepEqual(readSseEvent(parseBlock(sse.replace(/\n\n$/, ''))), expected);
  });
}

const messages = vectors('messages');
for (const { message, frame_type: type, frame_hex: hex, sse_control: sse } of messages.vectors) {
  const [[name, body]] = Object.entries(message);
  test(`message: ${JSON.stringify(message)}`, () => {
    const [frame] = framesOf(bytesOf(hex)).frames;
    assert.equal(frame.type, type);
    const read = readFrame(frame, null);
    assert.equal(read.name, name);
    if (name === 'changed') assert.deepEqual([read.requestId, read.fromSeq], [body.request_id, body.from_seq]);
    else assert.deepEqual(read, readControl(name, body));
    const block = parseBlock(sse.replace(/\n\n$/, ''));
    assert.equal(block.type, 'fanwire');
    assert.deepEqual(JSON.parse(block.data), message);
  });
}

for (const { answer, frame_hex: hex } of messages.answers) {
  test(`an answer is no message of a feed: ${JSON.stringify(answer)}`, () => {
    const [frame] = framesOf(bytesOf(hex)).frames;
    assert.deepEqual(JSON.parse(new TextDecoder().decode(frame.payload)), answer);
    assert.equal(readFrame(frame, null), null);
  });
}

for (const { name, hex, types, error } of vectors('streams').vectors) {
  test(`stream: ${name}`, () => {
    const bytes = bytesOf(hex);
    for (let size = 1; size <= bytes.length; size++) {
      const decoder = new FrameDecoder();
      const seen = [];
      let failed = false;
      try {
        for (const chunk of chunksOf(bytes, size)) {
          decoder.feed(chunk);
          for (let frame = decoder.next(); frame; frame = decoder.next()) seen.push(frame.type);
        }
      } catch {
        failed = true;
      }
      assert.deepEqual([seen, failed], [types, error]);
    }
  });
}
