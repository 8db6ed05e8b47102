// A line over the last minute, with axes. The time is the hub's own: when it took the event.

import { LABEL_FONT } from './surface.js';

/** @typedef {import('./surface.js').Pen} Pen */
/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} color name of a CSS custom property
 * @property {'line' | 'area' | 'band-low' | 'band-high'} shape a band is drawn between two series that follow each other
 * @property {number[]} [dash]
 */
/**
 * @typedef {object} ChartOptions
 * @property {Series[]} series
 * @property {(value: number) => string} format of the axis and of what the pointer reads
 * @property {(highest: number) => { top: number, step: number }} scale of the axis
 * @property {() => { value: number, label: string } | null} [mark] a line across
 */

/** The newest samples of some series; bounded. */
export class Samples {
  /** @param {number} width series */
  constructor(width) {
    this.#values = Array.from({ length: width }, () => new Float64Array(SAMPLES_KEPT));
  }

  /** @param {number} at milliseconds @param {number[]} values */
  add(at, values) {
    const slot = this.#count % SAMPLES_KEPT;
    this.#at[slot] = at;
    this.#values.forEach((ring, i) => (ring[slot] = values[i] ?? NaN));
    this.#count++;
  }

  /** How many there are. */
  get size() {
    return Math.min(this.#count, SAMPLES_KEPT);
  }

  /** @param {number} i from 0, the oldest */
  at(i) {
    return this.#at[this.#slot(i)] ?? 0;
  }

  /** @param {number} series @param {number} i from 0, the oldest */
  value(series, i) {
    return this.#values[series]?.[this.#slot(i)] ?? NaN;
  }

  get newestAt() {
    return this.size === 0 ? null : this.at(this.size - 1);
  }

  /** The index of the newest sample that is not younger. @param {number} at */
  indexAt(at) {
    let [low, high] = [0, this.size - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.at(middle) <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param {number} i */
  #slot(i) {
    return (this.#count - this.size + i) % SAMPLES_KEPT;
  }

  #at = new Float64Array(SAMPLES_KEPT);
  #values;
  #count = 0;
}

export class TimeChart {
  /** @param {ChartOptions} options */
  constructor(options) {
    this.#options = options;
    this.samples = new Samples(options.series.length);
  }

  /** Where the pointer is, in pixels from the left; null where it is not. @type {number | null} */
  pointerX = null;

  /** @param {number} at @param {number[]} values */
  add(at, values) {
    const newest = this.samples.newestAt;
    if (newest !== null && at < newest) return; // The hub's clock was set back, or a feed brings again what was drawn.
    this.samples.add(at, values);
    this.#newestCameMs = performance.now();
  }

  /**
   * Puts older samples before those that are here.
   * @param {[number, number[]][]} older by time
   */
  backfill(older) {
    const { samples } = this;
    const first = samples.size === 0 ? Infinity : samples.at(0);
    const kept = Array.from({ length: samples.size }, (_, i) => {
      const values = this.#options.series.map((_, s) => samples.value(s, i));
      return /** @type {const} */ ([samples.at(i), values]);
    });
    this.samples = new Samples(this.#options.series.length);
    for (const [at, values] of older) if (at < first) this.samples.add(at, values);
    for (const [at, values] of kept) this.samples.add(at, values);
    if (kept.length === 0) this.#newestCameMs = performance.now();
  }

  /** The hub's time at the right edge: it goes on when data don't, so that silence shows. */
  get endAt() {
    const waited = performance.now() - this.#newestCameMs;
    return (this.samples.newestAt ?? 0) + (waited > QUIET_MS ? waited - QUIET_MS : 0);
  }

  /** The sample under the pointer, or the newest. @returns {{ index: number, agoS: number } | null} */
  get read() {
    const { samples } = this;
    if (samples.size === 0) return null;
    if (this.pointerX === null || this.#plotWidth <= 0) return { index: samples.size - 1, agoS: 0 };
    const fromLeft = Math.min(1, Math.max(0, (this.pointerX - this.#left) / this.#plotWidth));
    const at = this.endAt - (1 - fromLeft) * WINDOW_MS;
    const index = samples.indexAt(at);
    return { index, agoS: Math.max(0, (this.endAt - samples.at(index)) / 1000) };
  }

  /** @param {Pen} pen */
  draw({ context, width, height, color }) {
    const { samples } = this;
    const { series, format, scale, mark } = this.#options;
    const start = this.endAt - WINDOW_MS;
    const first = Math.max(0, samples.indexAt(start));
    const line = mark?.() ?? null;

    let highest = 0;
    for (let i = first; i < samples.size; i++) {
      for (let s = 0; s < series.length; s++) highest = Math.max(highest, samples.value(s, i) || 0);
    }
    const { top, step } = scale(highest);

    context.font = LABEL_FONT;
    context.textBaseline = 'middle';
    const ticks = [];
    for (let value = 0; value <= top + step / 1000; value += step) ticks.push(value);
    const left = Math.ceil(Math.max(...ticks.map((value) => context.measureText(format(value)).width))) + 8;
    this.#left = left;
    this.#plotWidth = width - left - 1;
    const bottom = height - 20;
    const x = (/** @type {number} */ at) => left + ((at - start) / WINDOW_MS) * this.#plotWidth;
    const y = (/** @type {number} */ value) => bottom - (Math.min(value, top) / top) * (bottom - 8);

    context.lineWidth = 1;
    context.fillStyle = color('muted');
    context.strokeStyle = color('grid');
    context.textAlign = 'right';
    for (const value of ticks) {
      const at = Math.round(y(value)) + 0.5;
      path(context, [[left, at], [width, at]]);
      context.fillText(format(value), left - 6, at);
    }
    for (let agoS = 60; agoS >= 0; agoS -= this.#plotWidth < 300 ? 30 : 15) {
      context.textAlign = agoS === 60 ? 'left' : agoS === 0 ? 'right' : 'center';
      const label = agoS === 60 ? '60 s ago' : agoS === 0 ? 'now' : `${agoS}`;
      context.fillText(label, x(this.endAt - agoS * 1000), height - 7);
    }
    if (line && line.value <= top) {
      context.strokeStyle = color('muted');
      context.setLineDash([2, 4]);
      path(context, [[left, y(line.value)], [width, y(line.value)]]);
      context.setLineDash([]);
      context.textAlign = 'left';
      const at = y(line.value);
      context.fillText(line.label, left + 6, at < 24 ? at + 10 : at - 8);
    }

    context.save();
    context.beginPath();
    context.rect(left, 0, width - left, height);
    context.clip();
    context.lineJoin = 'round';
    series.forEach(({ shape, color: name, dash }, s) => {
      for (const [from, to] of this.#runs(first)) {
        const points = (/** @type {number} */ of) => {
          /** @type {[number, number][]} */
          const list = [];
          for (let i = from; i < to; i++) list.push([x(samples.at(i)), y(samples.value(of, i))]);
          return list;
        };
        context.fillStyle = color(`${name}-soft`);
        context.strokeStyle = color(name);
        if (shape === 'band-low') {
          fill(context, [...points(s), ...points(s + 1).reverse()]);
        } else if (shape !== 'band-high') {
          const line = points(s);
          if (shape === 'area') fill(context, [...line, [x(samples.at(to - 1)), bottom], [x(samples.at(from)), bottom]]);
          context.lineWidth = 1.75;
          context.setLineDash(dash ?? []);
          path(context, line);
          context.setLineDash([]);
        }
      }
    });
    const read = this.pointerX === null ? null : this.read;
    if (read) {
      const at = x(samples.at(read.index));
      context.lineWidth = 1;
      context.strokeStyle = color('ink');
      path(context, [[at, 4], [at, bottom]]);
    }
    context.restore();
  }

  /**
   * One series as a small line without axes.
   * @param {Pen} pen
   * @param {number} series
   */
  drawSpark({ context, width, height, color }, series) {
    const { samples } = this;
    if (samples.size === 0) return;
    const end = this.endAt;
    const first = samples.indexAt(end - WINDOW_MS);
    let [lowest, highest] = [Infinity, -Infinity];
    for (let i = first; i < samples.size; i++) {
      lowest = Math.min(lowest, samples.value(series, i));
      highest = Math.max(highest, samples.value(series, i));
    }
    // A value that hardly moves is to look so.
    const span = Math.max(highest - lowest, highest * 0.1, 1e-9);
    /** @type {[number, number][]} */
    const points = [];
    for (let i = first; i < samples.size; i++) {
      const fromLeft = 1 - (end - samples.at(i)) / WINDOW_MS;
      points.push([fromLeft * width, height - 2 - ((samples.value(series, i) - lowest) / span) * (height - 4)]);
    }
    context.strokeStyle = color('chart');
    context.lineWidth = 1.25;
    context.lineJoin = 'round';
    path(context, points);
  }

  /**
   * Stretches without a hole: a line across silence would be made up.
   * @param {number} first
   * @returns {[number, number][]} from, and to (not included)
   */
  #runs(first) {
    const { samples } = this;
    /** @type {[number, number][]} */
    const runs = [];
    let from = first;
    for (let i = first + 1; i <= samples.size; i++) {
      if (i < samples.size && samples.at(i) - samples.at(i - 1) < HOLE_MS) continue;
      runs.push([from, i]);
      from = i;
    }
    return runs;
  }

  #options;
  #newestCameMs = 0;
  #left = 0;
  #plotWidth = 0;
}

/** The least of 1, 2, 2.5, 5 times a power of ten that is enough, in about four steps. @param {number} highest */
export function niceScale(highest) {
  const rough = Math.max(highest, Number.MIN_VALUE) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 2.5, 5, 10].find((m) => m * power >= rough) ?? 10) * power;
  return { top: step * Math.max(1, Math.ceil(highest / step)), step };
}

/** @param {CanvasRenderingContext2D} context @param {[number, number][]} points */
function path(context, points) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.stroke();
}

/** @param {CanvasRenderingContext2D} context @param {[number, number][]} points */
function fill(context, points) {
  context.beginPath();
  for (const [x, y] of points) context.lineTo(x, y);
  context.fill();
}

const WINDOW_MS = 60_000;
/** A minute of ten a second, and some to spare. */
const SAMPLES_KEPT = 640;
const QUIET_MS = 400;
const HOLE_MS = 1500;
