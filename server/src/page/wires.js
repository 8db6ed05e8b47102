// The picture at the top: each event as a light on the wire that brought it.

import { LABEL_FONT } from './surface.js';

/** @typedef {import('./surface.js').Surface} Surface */
/** @typedef {import('./surface.js').Pen} Pen */
/** @typedef {'webtransport' | 'sse'} Kind */

export class Wires {
  /** @param {(kind: Kind) => boolean} isUp */
  constructor(isUp) {
    this.#isUp = isUp;
    this.#isStill = matchMedia('(prefers-reduced-motion: reduce)');
  }

  /** @type {Surface | null} */
  surface = null;

  /** @param {Kind} kind @param {boolean} isLate */
  light(kind, isLate) {
    const nowMs = performance.now();
    // The five samples of a tick come as one.
    if (nowMs - this.#newestMs[kind] < MERGE_MS) return;
    this.#newestMs[kind] = nowMs;
    if (this.#lights.length < LIGHTS_MAX) this.#lights.push({ kind, startMs: nowMs, isLate });
    if (!this.#isRunning && !this.#isStill.matches && this.surface?.isSeen) this.#run();
  }

  /** @param {Pen} pen */
  draw = ({ context, width, height, color }) => {
    const nowMs = performance.now();
    this.#lights = this.#lights.filter(({ startMs }) => nowMs - startMs < TRAVEL_MS);
    // Room for the names beside the ends, clear of the wires.
    const [left, right] = [NAME_WIDTH / 2 + 4, width - NAME_WIDTH - 8];
    const middle = height / 2;
    const reach = Math.min(height * 0.32, 46);
    /** @type {[Kind, string, number, string][]} */
    const wires = [['webtransport', 'wt', -1, 'WebTransport'], ['sse', 'sse', 1, 'Server-Sent Events']];
    context.font = LABEL_FONT;
    context.textBaseline = 'middle';
    for (const [kind, tint, side, name] of wires) {
      const isUp = this.#isUp(kind);
      context.strokeStyle = color(isUp ? tint : 'grid');
      context.lineWidth = isUp ? 1.75 : 1.5;
      context.setLineDash(isUp ? [] : [3, 5]);
      context.beginPath();
      for (let step = 0; step <= 60; step++) context.lineTo(...at(step / 60, side));
      context.stroke();
      context.setLineDash([]);
      context.fillStyle = color(isUp ? tint : 'muted');
      context.textAlign = 'center';
      context.fillText(isUp ? name : `${name}: down`, (left + right) / 2, middle + side * (reach + 13));
      if (this.#isStill.matches) continue;
      for (const light of this.#lights) {
        if (light.kind !== kind) continue;
        const done = (nowMs - light.startMs) / TRAVEL_MS;
        context.fillStyle = color(light.isLate ? 'late' : tint);
        context.globalAlpha = Math.min(1, 5 * done, 5 * (1 - done));
        context.beginPath();
        context.arc(...at(done, side), 3.4, 0, 2 * Math.PI);
        context.fill();
        context.globalAlpha = 1;
      }
    }
    node(left, 'hub', 'chart', -1);
    node(right, 'this page', 'ink', 1);

    /** @param {number} done @param {number} side @returns {[number, number]} */
    function at(done, side) {
      // Flat in the middle, so that the two are apart for most of the way.
      const bow = Math.sin(Math.PI * done) ** 0.55;
      return [left + done * (right - left), middle + side * reach * bow];
    }
    /** @param {number} x @param {string} name @param {string} tint @param {number} side */
    function node(x, name, tint, side) {
      context.fillStyle = color(tint);
      context.beginPath();
      context.arc(x, middle, 7, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = color('muted');
      context.textAlign = side < 0 ? 'right' : 'left';
      context.fillText(name, x + side * 13, middle);
    }
  };

  #run() {
    this.#isRunning = true;
    requestAnimationFrame(() => {
      this.#isRunning = false;
      const nowMs = performance.now();
      if (nowMs - this.#paintedMs >= FRAME_MS) {
        this.#paintedMs = nowMs;
        this.surface?.paint();
      }
      if (this.#lights.length > 0 && this.surface?.isSeen) this.#run();
    });
  }

  #isUp;
  #isStill;
  #isRunning = false;
  #paintedMs = 0;
  #newestMs = { webtransport: 0, sse: 0 };
  /** @type {{ kind: Kind, startMs: number, isLate: boolean }[]} */
  #lights = [];
}

const TRAVEL_MS = 900;
const MERGE_MS = 60;
/** Every second frame of most screens: a picture is not to take the time that the page measures. */
const FRAME_MS = 30;
const LIGHTS_MAX = 64;
const NAME_WIDTH = 62;
