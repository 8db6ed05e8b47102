// A feed inside a page, held from outside.

import { installFeeds } from './in-page.js';
import { SOON_MS } from './wait.js';

/**
 * The ways in which a page can have a feed. `types` of events have to be listened to on all but `raw`.
 * @type {Record<'raw WebTransport' | 'native EventSource' | 'client over WebTransport' | 'client over SSE', Record<string, unknown>>}
 */
export const WAYS = {
  'raw WebTransport': { kind: 'raw' },
  'native EventSource': { kind: 'eventsource' },
  'client over WebTransport': { kind: 'client', transport: 'webtransport' },
  'client over SSE': { kind: 'client', transport: 'sse' },
};

/**
 * Opens a feed, and waits until the hub has greeted it: what is published from now on has to come.
 * @param {import('puppeteer-core').Page} page of the hub's origin
 * @param {Record<string, unknown>} options `kind`, and what that kind takes
 * @param {{ withinMs?: number }} [wait] 0: don't wait for it to open
 */
export async function openFeed(page, options, { withinMs = SOON_MS } = {}) {
  const feed = new PageFeed(page, `feed ${++count} (${options.kind} ${options.transport ?? ''})`);
  await page.evaluate(installFeeds);
  await page.evaluate((name, given, ms) => globalThis.feeds.open(name, given, ms), feed.name, options, withinMs);
  return feed;
}

/** A blank page of the hub's origin, that may use what the hub serves. @param {import('puppeteer-core').Page} page @param {string} origin */
export async function visit(page, origin) {
  await page.goto(`${origin}/livez`);
}

/** The URL of a feed. @param {string | string[]} topics @param {Record<string, string | number>} [more] */
export function feedUrl(topics, more = {}) {
  const query = new URLSearchParams([topics].flat().map((topic) => ['topic', topic]));
  for (const [name, value] of Object.entries(more)) query.set(name, String(value));
  return `/events?${query}`;
}

class PageFeed {
  /** @param {import('puppeteer-core').Page} page @param {string} name */
  constructor(page, name) {
    this.#page = page;
    this.name = name;
  }

  /** What it got, how it ended, and so on. */
  state() {
    return this.#page.evaluate((name) => globalThis.feeds.state(name), this.name);
  }

  /** Waits for so many events, and gives all there are. @param {number} events @param {number} [withinMs] */
  async received(events, withinMs = SOON_MS) {
    await this.#page.evaluate(
      (name, n, ms) => globalThis.feeds.until(name, `${n} events`, ({ records }) => records.length >= n, null, ms),
      this.name, events, withinMs,
    );
    return (await this.state()).records;
  }

  /** Waits for an event with this data, and gives all up to then. @param {string} data @param {number} [withinMs] */
  async receivedUpTo(data, withinMs = SOON_MS) {
    await this.#page.evaluate(
      (name, wanted, ms) =>
        globalThis.feeds.until(name, `the event ${wanted}`, ({ records }) => records.some((record) => record.data === wanted), null, ms),
      this.name, data, withinMs,
    );
    return (await this.state()).records;
  }

  /**
   * Waits for something to be in a list: a control message of a name, an end, an error.
   * @param {'controls' | 'ends' | 'errors'} list @param {string | null} member a member that it has @param {number} [withinMs]
   */
  async saw(list, member = null, withinMs = SOON_MS) {
    return this.#page.evaluate(
      async (name, listName, key, ms) => {
        const find = (recorder) => recorder[listName].find((entry) => key === null || key in entry);
        await globalThis.feeds.until(name, `${listName}: ${key ?? 'any'}`, find, null, ms);
        return find(globalThis.feeds.all.get(name).recorder);
      },
      this.name, list, member, withinMs,
    );
  }

  /** Waits until it has opened so many times. @param {number} times @param {number} [withinMs] */
  async openedTimes(times, withinMs = SOON_MS) {
    await this.#page.evaluate(
      (name, n, ms) => globalThis.feeds.until(name, `open ${n} times`, ({ opened }) => opened >= n, null, ms),
      this.name, times, withinMs,
    );
  }

  /** Waits until what is loaded beside a client's feed watches the page. @param {number} [withinMs] */
  async watches(withinMs = SOON_MS) {
    await this.#page.evaluate((name, ms) => globalThis.feeds.watches(name, ms), this.name, withinMs);
  }

  /** @param {{ closeCode?: number, reason?: string }} [info] */
  close(info) {
    return this.#page.evaluate((name, given) => globalThis.feeds.close(name, given ?? undefined), this.name, info ?? null);
  }

  /** Calls a method of what is behind it. @param {string} method @param {unknown[]} args */
  call(method, ...args) {
    return this.#page.evaluate((name, called, given) => globalThis.feeds.call(name, called, given), this.name, method, args);
  }

  #page;
}

let count = 0;
