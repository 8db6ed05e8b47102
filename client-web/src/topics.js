// Topics that are added and removed while a feed is open. Adding one replays nothing, whatever transport delivers.

import { FRAME } from './frames.js';

/** @typedef {import('./driver.js').Driver} Driver */
/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./transport/transport.js').Connection} Connection */

/**
 * Resolves once the change is in force.
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
    else if (live || !driver.position.cursor) {
      apply(driver, url);
      driver.run(driver.negotiation.reopen(driver.nowMs()));
      return;
    } else await progress(driver); // What was missed meanwhile is of the topics as they are.
    if (isDone) return;
  }
}

/** The connection that delivers, once it has said hello. @param {Driver} driver @returns {Connection | null} */
function liveOf({ negotiation, connections }) {
  const { live } = negotiation;
  return (live && negotiation.status(live)?.state === 'ready' && connections.get(live)) || null;
}

/** From now on this is what is asked for, and the live connection knows it. @param {Driver} driver @param {URL} url */
function apply(driver, url) {
  driver.url = url;
  driver.negotiation.changed();
}

/** The next time that anything happens. @param {Driver} driver @returns {Promise<void>} */
function progress({ sleepers }) {
  return new Promise((resolve) => sleepers.push(resolve));
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
  let answer;
  try {
    answer = await live.request?.(adds ? FRAME.SUBSCRIBE : FRAME.UNSUBSCRIBE, { match: topics });
  } catch (error) {
    // Refused; or else the session ended, and the next one is asked.
    if (error instanceof Error && error.name === 'RequestError') throw error;
    while (liveOf(driver) === live) await progress(driver);
    return false;
  }
  // It shows in the feed, and holds from there on.
  while (!driver.changed.has(answer.request_id)) {
    if (liveOf(driver) !== live) return false;
    await progress(driver);
  }
  apply(driver, url);
  return true;
}

/**
 * An event stream can't be changed. A second one is opened from now on, with the new topics; what comes before its beginning is still
 * brought by the first one, with the old topics; then the second one takes its place.
 * @param {Driver} driver @param {URL} url
 */
async function beside(driver, url) {
  const { negotiation, connections, environment } = driver;
  /** @type {Message[]} */
  const early = [];
  /** @type {ReturnType<Driver['takers']> | null} */
  let takers = null;
  let isOver = false;
  let wake = () => {};
  const fromNow = new URL(url);
  fromNow.searchParams.delete('replay');
  const request = driver.request(
    {
      url: fromNow,
      onMessage(message) {
        if (takers) return takers.onMessage(message);
        early.push(message);
        isOver ||= early.length > EARLY_MAX || message.name === 'bye';
        wake();
      },
      onEnd(end) {
        if (takers) return takers.onEnd(end);
        isOver = true;
        wake();
      },
    },
    () => null,
  );
  const connection = driver.connects.sse(request);
  while (!negotiation.isClosed && !isOver && !liveOf(driver)?.request) {
    const [hello] = early;
    const { cursor } = driver.position;
    if (hello) {
      if (hello.name !== 'hello' || hello.cursor.epoch !== cursor?.epoch) break;
      if (liveOf(driver) && cursor.seq >= hello.cursor.seq) {
        driver.url = url;
        driver.isHurried = false;
        const { attempt, actions } = negotiation.adopt('sse', driver.nowMs());
        driver.run(actions);
        connections.set('sse', connection);
        for (const type of driver.types) connection.listen(type);
        takers = driver.takers('sse', attempt);
        for (const message of early) takers.onMessage(message);
        return true;
      }
      if (!driver.isHurried) {
        // How far it is it would say with its next heartbeat only.
        driver.isHurried = true;
        driver.run(negotiation.reopen(driver.nowMs()));
      }
    }
    await Promise.race([progress(driver), new Promise((resolve) => (wake = () => resolve(undefined)))]);
  }
  connection.close();
  driver.isHurried = false;
  await new Promise((resolve) => environment.setTimer(() => resolve(undefined), PAUSE_MS));
  return false;
}

const MATCHERS = new Set(['topic', 'match', 'match_exact']);
/** Messages that wait for the first stream to come as far as the second one began. */
const EARLY_MAX = 10_000;
const PAUSE_MS = 1000;
