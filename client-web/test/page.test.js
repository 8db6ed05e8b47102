// The page's own reckoning: what it measures and how it writes that down.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as format from '../../server/src/page/format.js';
import { Arrivals, Latencies, LATENCIES_KEPT, Meter, SLICE_MS, Versus } from '../../server/src/page/meter.js';

test('quantiles are of the newest latencies only', () => {
  const latencies = new Latencies();
  assert.equal(latencies.quantile(0.5), null);
  latencies.add(4000);
  for (let i = 0; i < LATENCIES_KEPT; i++) latencies.add(i % 100);
  assert.deepEqual([latencies.size, latencies.quantile(0.5), latencies.quantile(0.99), latencies.quantile(1)], [3000, 49, 98, 99]);
  assert.equal(latencies.counts.reduce((sum, count) => sum + count, 0), LATENCIES_KEPT);
});

test('a latency out of range is kept at its edge', () => {
  const latencies = new Latencies();
  latencies.add(-3); // clocks of two machines
  latencies.add(1e9);
  assert.deepEqual([latencies.quantile(0), latencies.quantile(0.5), latencies.quantile(1)], [null, 0, 5000]);
});

test('arrivals older than a minute are gone, whatever the pause', () => {
  const arrivals = new Arrivals();
  const sum = (atMs) => {
    let all = 0;
    arrivals.forEach(atMs, (_, live, late) => (all += live + late));
    return all;
  };
  for (let atMs = 0; atMs < 120_000; atMs += 100) arrivals.add(atMs, false);
  assert.equal(sum(119_999), 600);
  assert.equal(arrivals.perSecond(119_999), 10);
  assert.equal(sum(119_999 + 30_000), 300);
  assert.equal(sum(1e7), 0);
  arrivals.add(1e7 + SLICE_MS, true);
  assert.equal(sum(1e7 + SLICE_MS), 1);
});

test('what was caught up is counted, and left out of the latencies', () => {
  const meter = new Meter();
  const event = (seq, at, epoch = 'e') => meter.event({ epoch, seq, at, bytes: 2 }, { wallMs: 1000 + seq, nowMs: seq });
  meter.hello({ connectMs: 3, wallMs: 1000 });
  assert.equal(event(1, 999).isLate, false, 'merely on its way');
  meter.hello({ connectMs: 4, wallMs: 2000 });
  assert.equal(event(2, 1500).isLate, true);
  assert.equal(event(3, 2000).isLate, false);
  assert.deepEqual([meter.events, meter.caughtUp, meter.reconnects, meter.latencies.size, meter.bytes], [3, 1, 1, 2, 6]);
});

test('duplicates are counted within a log, losses as the hub tells them', () => {
  const meter = new Meter();
  for (const [epoch, seq] of [['a', 5], ['a', 6], ['a', 6], ['a', 4], ['b', 1]]) {
    meter.event({ epoch, seq, at: null, bytes: 0 }, { wallMs: 0, nowMs: 0 });
  }
  assert.equal(meter.duplicates, 2);
  meter.gap({ from: 43, to: 97 });
  meter.gap({ from: null, to: 0 });
  assert.deepEqual([meter.gaps, meter.lost, meter.lostUncounted], [2, 55, 1]);
});

test('a race has a winner only where both brought the event', () => {
  const versus = new Versus();
  for (let i = 0; i < 100; i++) {
    versus.arrived('sse', `${i}`, i);
    versus.arrived('sse', `${i}`, i);
    versus.arrived('webtransport', `${i}`, i + 0.5);
  }
  assert.deepEqual(versus.result, { pairs: 100, webtransportFirst: 0, sseFirst: 1, medianMs: -0.5 });
});

test('numbers as people read them', () => {
  assert.deepEqual([7.84, 31.6, 9.96, 0].map(format.percent), ['7.8 %', '32 %', '10 %', '0.0 %']);
  assert.deepEqual([0, 1023, 24 * 2 ** 30, 907 * 2 ** 20].map(format.memory), ['0 B', '1023 B', '24.0 GiB', '907 MiB']);
  assert.deepEqual([999, 1000, 34_700, 9e6].map(format.data), ['999 B', '1.00 kB', '34.7 kB', '9.00 MB']);
  assert.deepEqual([0, 3.25, 31, 12_345].map(format.milliseconds), ['0 ms', '3.3 ms', '31 ms', '12.3 s']);
  assert.deepEqual([59.9, 70, 3700, 90_000].map(format.duration), ['59 s', '1 min 10 s', '1 h 1 min', '1 d 1 h']);
  assert.deepEqual([format.counted(1, 'event'), format.counted(1200, 'event')], ['1 event', '1,200 events']);
});
