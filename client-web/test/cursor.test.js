import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatCursor, parseControlId, parseCursor } from '../src/cursor.js';

test('cursors round-trip', () => {
  for (const text of ['#0a1b2c3d4e:0', '#vvvvvvvvvv:9007199254740991']) assert.equal(formatCursor(parseCursor(text)), text);
});

test('what is no cursor is refused', () => {
  const bad = ['', '#', '#0000000000', '#0000000000:', '#0000000000:+1', '#000000000w:1', '#000000000:1', '0000000000:1'];
  for (const text of [...bad, '#0000000000:9007199254740992', '#0000000000:1 ', '#0000000000:1\n', '#0000000000:1e3', null, 7]) {
    assert.equal(parseCursor(text), null, String(text));
  }
});

test('a control id carries what EventSource hides', () => {
  assert.deepEqual(parseControlId('#0a1b2c3d4e:7;t=5;n=a%3Bb%20%C3%A9;b;later=1 the id; of #a'), {
    cursor: { epoch: '0a1b2c3d4e', seq: 7 },
    at: 5,
    topic: 'a;b é',
    binary: true,
    id: 'the id; of #a',
  });
});

test('a control id with broken attributes is still a place', () => {
  const id = parseControlId('#0a1b2c3d4e:7;t=soon;n;;t');
  assert.deepEqual(id, { cursor: { epoch: '0a1b2c3d4e', seq: 7 }, at: null, topic: null, binary: false, id: null });
});

test('an id of another kind is none', () => {
  for (const text of ['', 'urn:uuid:1', '#0a1b2c3d4e', ' #0a1b2c3d4e:7']) assert.equal(parseControlId(text), null);
});
