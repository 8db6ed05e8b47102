// Topics that are added and removed while a feed is open. Adding one replays nothing, whatever transport delivers.

import { renew } from './choice.js';
import { FRAME } from './frames.js';

/** @typedef {import('./driver.js').Driver} Driver */
/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./transport/transport.js').Connection} Connection */
/** @typedef {import('./transport/transport.js').Request} Request */

/**
 * Resolves once the change is in force. One change is made at a time.
 * @param {Driver} driver
 * @param {boolean} adds
 * @param {readonly string[]} topics
 */
export async function changeTopics(driver, adds, topics) {
  for (;;) {
    if (driver.negotiation.isClosed) throw new Error('the feed is closed');
    const url = changedUrl(driver.url, adds, topics);
    if (url.href === driver.url.href) return;
    const live = liveOf(driver);
    let isDone = false;
    if (live?.request) isDone = await inBand(driver, live, url, adds, topics);
    else if (live && adds && driver.position.cursor) isDone = await beside(driver, url);
    else if (live || !driver.position.cursor) return ask(driver, url, true);
    else await progress(driver); // What was missed meanwhile is of the topics as they are.
    if (isDone) return;
  }
}

/** The connection that delivers, once it has said hello. @param {Driver} driver @returns {Connection | null} */
function liveOf({ negotiation, connections }) {
  const { live } = negotiation;
  return (live && negotiation.status(live)?.state === 'ready' && connections[live]) || null;
}

/** From now on this is what is asked for. @param {Driver} driver @param {URL} url @param {boolean} isLiveToo also of the live connection */
function ask(driver, url, isLiveToo) {
  driver.url = url;
  driver.run(renew(driver.negotiation, driver.nowMs(), isLiveToo));
}

/** The next time that anything happens. @param {Driver} driver @returns {Promise<void>} */
function progress(driver) {
  return new Promise((resolve) => (driver.onProgress = resolve));
}

/** @param {URL} url @param {boolean} adds @param {readonly string[]} topics */
function changedUrl(url, adds, topics) {
  const query = [...new URLSearchParams(url.search)];
  const isOf = (/** @type {string} */ name, /** @type {string} */ value) => MATCHERS.has(name) && topics.includes(value);
  const present = new Set(query.filter(([name]) => MATCHERS.has(name)).map(([, value]) => value));
  const kept = adds ? query : query.filter(([name, value]) => !isOf(name, value));
  if (!adds && !kept.some(([name]) => name.startsWith('match') || name === 'topic')) throw new Error('a feed needs a topic: close it instead');
  const added = adds ? topics.filter((topic) => !present.has(topic)).map((topic) => ['topic', topic]) : [];
  const changed = new URL(url);
  if (added.length > 0 || kept.length < query.length) changed.search = new URLSearchParams([...kept, ...added]).toString();
  return changed;
}

/** @param {Driver} driver @param {Connection} live @param {URL} url @param {boolean} adds @param {readonly string[]} topics */
async function inBand(driver, live, url, adds, topics) {
  try {
    await live.request?.(adds ? FRAME.SUBSCRIBE : FRAME.UNSUBSCRIBE, { match: topics });
  } catch (error) {
    // Refused; or else the session ended, and the next one is asked.
    if (error instanceof Error && error.name === 'RequestError') throw error;
    while (liveOf(driver) === live) await progress(driver);
    return false;
  }
  ask(driver, url, false);
  return true;
}

/**
 * An event stream can't be changed. A second one is opened from now on, with the new topics; what comes before its beginning is still
 * brought by the first one, with the old topics; then the second one takes its place.
 * @param {Driver} driver @param {URL} url
 */
async function beside(driver, url) {
  const { negotiation, connects, options, environment } = driver;
  /** @type {Message[]} */
  const early = [];
  /** Once it is the feed's. @type {Pick<Request, 'onMessage' | 'onEnd'> | null} */
  let takers = null;
  let isOver = false;
  const fromNow = new URL(url);
  fromNow.searchParams.delete('replay');
  const connection = connects.sse(
    driver.request({
      url: fromNow,
      lastEventId: () => null,
      onMessage(message) {
        if (takers) return takers.onMessage(message);
        early.push(message);
        isOver ||= early.length > EARLY_MAX || message.name === 'bye';
        driver.onProgress();
      },
      onEnd(end) {
        if (takers) return takers.onEnd(end);
        isOver = true;
        driver.onProgress();
      },
    }),
  );
  while (!negotiation.isClosed && !isOver && !liveOf(driver)?.request) {
    const [hello] = early;
    const { cursor } = driver.position;
    if (hello) {
      if (hello.name !== 'hello' || hello.cursor?.epoch !== cursor?.epoch) break;
      if (liveOf(driver) && Number(cursor?.seq) >= Number(hello.cursor?.seq)) {
        driver.options = options;
        // The live connection is made anew, and this one is what is made.
        driver.connects = {
          ...connects,
          sse: (request) => {
            takers = request;
            return connection;
          },
        };
        ask(driver, url, true);
        driver.connects = connects;
        for (const type of driver.types) connection.listen(type);
        for (const message of early) /** @type {any} */ (takers).onMessage(message);
        return true;
      }
      if (driver.options === options) {
        // How far it is it would say with its next heartbeat only.
        driver.options = { ...options, heartbeat: 1 };
        ask(driver, driver.url, true);
      }
    }
    await progress(driver);
  }
  connection.close();
  driver.options = options;
  await new Promise((resolve) => environment.setTimer(() => resolve(undefined), PAUSE_MS));
  return false;
}

const MATCHERS = new Set(['topic', 'match', 'match_exact']);
/** Messages that wait for the first stream to come as far as the second one began. */
const EARLY_MAX = 10_000;
const PAUSE_MS = 1000;
