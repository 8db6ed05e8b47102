// What a page saw through `new Fanwire(url)`: every event and gap, in order, with its time.

import { favourWebTransport } from '../support/memory.js';
import { installStory } from './in-page.js';

/** @typedef {import('./judge.js').Entry & { atMs: number, transport?: string | null, error?: string }} Entry */

/**
 * Opens a feed as an application does, with nothing but a heartbeat that shows faults soon.
 * @param {import('puppeteer-core').Page} page of the hub's origin
 * @param {string} url
 * @param {Record<string, unknown>} [options]
 */
export async function openStory(page, url, options = {}) {
  await page.evaluate(installStory);
  const name = `story ${++count}`;
  await page.evaluate((...given) => globalThis.stories.open(...given), name, url, { heartbeat: HEARTBEAT_MS / 1000, ...options });
  return new Story(page, name);
}

export class Story {
  /** @param {import('puppeteer-core').Page} page @param {string} name */
  constructor(page, name) {
    this.#page = page;
    this.#name = name;
  }

  /** All that it saw, or what came after so many entries. @returns {Promise<Entry[]>} */
  entries(from = 0) {
    return this.#page.evaluate((...given) => globalThis.stories.entries(...given), this.#name, from);
  }

  /** Waits until a transport delivers. @param {'sse' | 'webtransport' | null} transport @param {number} [withinMs] */
  async over(transport, withinMs = 10_000) {
    await this.#page.evaluate((...given) => globalThis.stories.over(...given), this.#name, transport, withinMs);
  }

  /** Waits until a number has come, or a later one. @param {number} n @param {number} [withinMs] */
  async reaches(n, withinMs = 10_000) {
    await this.#page.evaluate((...given) => globalThis.stories.reaches(...given), this.#name, n, withinMs);
  }

  /** When the next event from now on came. @param {number} [withinMs] @returns {Promise<{ atMs: number }>} */
  next(withinMs = 10_000) {
    return this.#page.evaluate((...given) => globalThis.stories.next(...given), this.#name, null, withinMs);
  }

  /**
   * When the next event from now on came over a transport.
   * @param {'sse' | 'webtransport'} transport @param {number} [withinMs] @returns {Promise<{ atMs: number }>}
   */
  nextOver(transport, withinMs = 10_000) {
    return this.#page.evaluate((...given) => globalThis.stories.next(...given), this.#name, transport, withinMs);
  }

  /** The page remembers WebTransport as the quicker one. */
  async favoursWebTransport() {
    await this.#page.evaluate(favourWebTransport);
  }

  async close() {
    await this.#page.evaluate((name) => globalThis.stories.close(name), this.#name);
  }

  #page;
  #name;
}

let count = 0;
/** The shortest that a hub takes. */
export const HEARTBEAT_MS = 1000;
