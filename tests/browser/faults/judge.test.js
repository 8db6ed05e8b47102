// The judge of the fault tests, tried with wrong stories: one that lets them pass would be worth nothing.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from './judge.js';

// Two logs, with others' events between the numbers; 4 was in flight when the first hub died.
const PUBLISHED = [
  { n: 0, cursor: '#a:10' },
  { n: 1, cursor: '#a:12' },
  { n: 2, cursor: '#a:14' },
  { n: 3, cursor: '#a:16' },
  { n: 4, cursor: null },
  { n: 5, cursor: '#b:2' },
  { n: 6, cursor: '#b:4' },
];
const hello = (/** @type {string} */ cursor) => ({ hello: { cursor } });
const event = (/** @type {number} */ n, /** @type {string} */ cursor = PUBLISHED[n]?.cursor ?? '#a:99') => ({ event: { n, cursor } });
const gap = (/** @type {Partial<{ reason: string, from: number, to: number, cursor: string }>} */ given) => ({
  gap: { reason: 'evicted', from: null, to: null, cursor: '#a:0', ...given },
});
const start = hello('#a:11');
const newLog = gap({ reason: 'new_epoch', cursor: '#b:0' });

test('every number once and in order is right, and so is a gap that holds what is missing', () => {
  for (const [name, story, missing] of /** @type {[string, import('./judge.js').Entry[], number[]][]} */ ([
    ['all', [start, event(1), event(2), event(3), newLog, event(5), event(6)], []],
    ['what was in flight came', [start, event(1), event(2), event(3), event(4, '#a:18'), newLog, event(5), event(6)], []],
    ['further hellos', [start, event(1), hello('#a:12'), event(2), event(3), hello('#b:0'), newLog, event(5), event(6)], []],
    ['a gap with numbers', [start, event(1), gap({ from: 13, to: 15, cursor: '#a:15' }), event(3), newLog, event(5), event(6)], [2]],
    ['a gap of a log', [start, event(1), newLog, event(5), event(6)], [2, 3]],
    ['a gap into a log', [start, event(1), gap({ reason: 'new_epoch', cursor: '#b:3' }), event(6)], [2, 3, 5]],
  ])) {
    const verdict = judge(PUBLISHED, story);
    assert.deepEqual(verdict.faults, [], name);
    assert.deepEqual(verdict.missing, missing, name);
  }
});

test('what is wrong is found', () => {
  for (const [story, fault] of /** @type {[import('./judge.js').Entry[], RegExp][]} */ ([
    [[start, event(1), event(3), newLog, event(5), event(6)], /^2 is missing, and no gap/],
    [[start, event(1), event(2), event(3), newLog, event(5)], /^6 is missing, and no gap/],
    [[start, event(1), event(2), event(3), event(5), event(6), event(6)], /^6 came twice/],
    [[start, event(1), event(3), event(2), newLog, event(5), event(6)], /^2 came at #a:14, after #a:16/],
    [[start, event(0), event(1), event(2), event(3), newLog, event(5), event(6)], /^0 came at #a:10, after #a:11/],
    [[start, event(1), event(2), event(3), newLog, event(5), event(6), event(7)], /^7 was never published/],
    [[start, event(1), event(2, '#a:15'), event(3), newLog, event(5), event(6)], /^2 came as #a:15, and is #a:14/],
    [[start, event(1), gap({ from: 13, to: 16, cursor: '#a:16' }), event(3), newLog, event(5), event(6)], /^3 came, and is in a gap/],
    [[start, event(1), event(2), gap({ from: 13, to: 14, cursor: '#a:14' }), event(3), newLog, event(5), event(6)], /^2 came, and is in a gap/],
    [[start, event(1), gap({ from: 15, to: 15, cursor: '#a:15' }), event(3), newLog, event(5), event(6)], /^2 is missing, and no gap/],
    [[start, event(1), event(2), newLog, event(3), event(5), event(6)], /^3 came at #a:16, after #b:0/],
    [[start, event(1), event(2), newLog, event(3), event(5), event(6)], /^3 came, and is in a gap/],
    [[start, event(1), newLog, event(6)], /^5 is missing, and no gap/],
    [[event(1), start, event(2), event(3), newLog, event(5), event(6)], /^1 came before the first hello/],
    [[hello('#b:4')], /^nothing was published/],
    [[], /^nothing was published/],
  ])) {
    const { faults } = judge(PUBLISHED, story);
    assert.ok(faults.some((found) => fault.test(found)), `${fault} isn't among ${JSON.stringify(faults)}`);
  }
});

test('a story that is wrong all over is told in a few lines', () => {
  const published = Array.from({ length: 1000 }, (_, n) => ({ n, cursor: `#a:${n + 1}` }));
  const { faults, missing } = judge(published, [hello('#a:0')]);
  assert.equal(faults.length, 13);
  assert.equal(missing.length, 1000);
});
