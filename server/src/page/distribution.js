// The drawings of a transport's panel: its latencies as a histogram, its arrivals as a strip.

import { SLICES } from './meter.js';
import { LABEL_FONT } from './surface.js';

/** @typedef {import('./surface.js').Pen} Pen */
/** @typedef {import('./meter.js').Latencies} Latencies */
/** @typedef {import('./meter.js').Arrivals} Arrivals */

/**
 * @param {Pen} pen
 * @param {Latencies} latencies
 * @param {string} tint name of a CSS custom property
 */
export function drawHistogram({ context, width, height, color }, latencies, tint) {
  const bars = EDGES_MS.map((from, i) => {
    const to = EDGES_MS[i + 1] ?? latencies.counts.length;
    let sum = 0;
    for (let ms = from; ms < to; ms++) sum += latencies.counts[ms] ?? 0;
    return sum;
  });
  const highest = Math.max(1, ...bars);
  const [top, bottom] = [18, height - 20];
  const pitch = width / EDGES_MS.length;

  context.font = LABEL_FONT;
  context.textBaseline = 'middle';
  context.textAlign = 'center';
  context.fillStyle = color('muted');
  EDGES_MS.forEach((ms, i) => {
    if (!LABELLED_MS.has(ms)) return;
    const text = i === EDGES_MS.length - 1 ? '1 s+' : ms === 0 ? '0 ms' : `${ms}`;
    context.textAlign = i === EDGES_MS.length - 1 ? 'right' : i === 0 ? 'left' : 'center';
    const x = i === EDGES_MS.length - 1 ? width : i === 0 ? 0 : (i + 0.5) * pitch;
    context.fillText(text, x, height - 7);
  });
  context.fillStyle = color('grid');
  context.fillRect(0, bottom, width, 1);

  bars.forEach((sum, i) => {
    if (sum === 0) return;
    // A single straggler among thousands is what a tail is about: it stays visible.
    const tall = Math.max(2, (sum / highest) * (bottom - top));
    context.fillStyle = color(tint);
    context.beginPath();
    context.roundRect(i * pitch + 1.5, bottom - tall, pitch - 3, tall, [3, 3, 0, 0]);
    context.fill();
  });

  /** @type {[string, number | null][]} */
  const marks = [['p50', latencies.quantile(0.5)], ['p99', latencies.quantile(0.99)]];
  const placed = marks.flatMap(([name, ms]) => (ms === null ? [] : [{ name, bar: barOf(ms) }]));
  const both = placed.length === 2 && placed[0]?.bar === placed[1]?.bar;
  for (const { name, bar } of both ? [{ name: 'p50, p99', bar: placed[0]?.bar ?? 0 }] : placed) {
    const x = Math.round((bar + 0.5) * pitch) + 0.5;
    context.strokeStyle = color('ink');
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, top - 4);
    context.lineTo(x, bottom);
    context.setLineDash([2, 3]);
    context.stroke();
    context.setLineDash([]);
    const half = context.measureText(name).width / 2;
    context.fillStyle = color('ink');
    context.textAlign = 'center';
    context.fillText(name, Math.min(Math.max(x, half), width - half), 7);
  }
}

/**
 * @param {Pen} pen
 * @param {Arrivals} arrivals
 * @param {number} nowMs
 * @param {string} tint name of a CSS custom property
 */
export function drawStrip({ context, width, height, color }, arrivals, nowMs, tint) {
  let highest = 1;
  let highestLate = 1;
  arrivals.forEach(nowMs, (_, live, late) => {
    highest = Math.max(highest, live);
    highestLate = Math.max(highestLate, late);
  });
  const pitch = width / SLICES;
  const bottom = height - 1;
  // What was caught up is many times what is usual: each has its own scale, or the usual would vanish beside it.
  const usual = (bottom - 2) * 0.55;
  arrivals.forEach(nowMs, (age, live, late) => {
    const x = width - (age + 1) * pitch;
    const w = Math.max(1, pitch - 1);
    if (live > 0) {
      context.fillStyle = color(tint);
      context.fillRect(x, bottom - (live / highest) * usual, w, (live / highest) * usual);
    }
    if (late > 0) {
      const tall = (0.6 + 0.4 * (late / highestLate)) * (bottom - 2);
      context.fillStyle = color('late');
      context.fillRect(x - 1, bottom - tall, w + 2, tall);
    }
  });
  context.fillStyle = color('grid');
  context.fillRect(0, bottom, width, 1);
}

/** @param {number} ms */
function barOf(ms) {
  let bar = 0;
  while (bar + 1 < EDGES_MS.length && (EDGES_MS[bar + 1] ?? 0) <= ms) bar++;
  return bar;
}

/** Where bars begin: about even steps to the eye, from a loopback to the far side of the world. */
const EDGES_MS = [0, 1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000];
const LABELLED_MS = new Set([0, 2, 5, 10, 30, 100, 300, 1000]);
