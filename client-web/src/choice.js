// Which of two transports delivers. Pure, as the negotiation that it joins. Loaded beside the first feed.
//
// WebTransport is tried beside SSE, a moment later, and takes over with its hello; when it is lost, SSE goes on at the cursor, and
// WebTransport is tried again later. What is remembered of WebTransport moves only the beginning: a head start where it was as quick as SSE, a
// later try where it failed.

import { waitMs } from './backoff.js';
import { HEAD_START_MS, isQuicker, newLane } from './negotiation.js';

/** @typedef {import('./negotiation.js').Lane} Lane */
/** @typedef {import('./negotiation.js').Negotiation} Negotiation */
/** @typedef {import('./recall.js').Memory} Memory */
/** @typedef {import('./transport/transport.js').End} End */

export class Choice {
  /** @param {Negotiation} negotiation that has SSE */
  constructor(negotiation) {
    this.#negotiation = negotiation;
    this.#sse = /** @type {Lane} */ (negotiation.lane('sse'));
    this.#webtransport.waitMs = (failures, random) => (this.#hasWorked ? returnMs : probeMs)(failures, random);
    // Behind SSE: where both are due, it is the one that mustn't wait.
    negotiation.lanes.push(this.#webtransport);
    negotiation.choice = this;
  }

  /**
   * From now on there are two.
   * @param {number} nowMs
   * @param {Memory} known
   * @param {number} loadMs how long what is loaded for it took to be there
   */
  join(nowMs, known, loadMs) {
    this.#loadMs = loadMs;
    this.start(nowMs, known);
    this.#isStart = this.#sse.failures === 0;
    return this.#negotiation.flush();
  }

  /** The feed begins, and SSE began, or lets WebTransport go first. @param {number} nowMs @param {Memory} known */
  start(nowMs, known) {
    const [negotiation, sse, lane] = [this.#negotiation, this.#sse, this.#webtransport];
    const { works, sseMs, webtransportMs } = known;
    this.#hasWorked ||= works === true;
    this.#figures = { sseMs, webtransportMs };
    if (isQuicker(known) && !sse.isHeldBack) {
      // It was let go first, and what knows it is there only now.
      this.#figures = {};
      negotiation.out.push({ name: 'remember', works: true });
    }
    this.#isStart = true;
    if (this.#isEnded) return;
    let forMs;
    if (works === false) {
      lane.failures = PROBE_FAILURES;
      forMs = probeMs(lane.failures++, negotiation.random());
    } else {
      // What WebTransport takes of the processor mustn't delay the first event where SSE brings it.
      forMs = Math.max(negotiation.notBeforeMs, sse.state === 'waiting' ? nowMs : sse.startedMs + HEAD_START_MS) - nowMs;
    }
    if (forMs > 0) negotiation.wait(lane, nowMs, forMs, works !== false);
    else negotiation.connect(lane, nowMs);
  }

  /** What was measured was measured on another network. */
  onNewNetwork() {
    this.#figures = {};
    this.#isStart = false;
  }

  /** It is about to deliver. @param {Lane} lane @param {number} nowMs */
  greeted(lane, nowMs) {
    const { out, live, notBeforeMs } = this.#negotiation;
    const webtransport = this.#webtransport;
    if (lane === webtransport) {
      const isMeasured = this.#isStart && this.#sse.state === 'ready';
      if (this.#isStart) this.#measure(nowMs);
      this.#isStart = false;
      // It always takes over: SSE isn't opened while it delivers.
      this.#negotiation.drop(this.#sse);
      this.#hasWorked = true;
      this.#hasFailed = false;
      out.push({ name: 'remember', works: true, ...this.#figures, isMeasured });
    } else if (this.#isStart && webtransport.state === 'connecting' && isQuicker(this.#figures)) {
      // It was let go first and isn't there, and whoever opens the next page now must not wait for it once more.
      this.#measure(nowMs);
      if (!isQuicker(this.#figures)) out.push({ name: 'remember', works: true, ...this.#figures, isMeasured: true });
    } else if (webtransport.state === 'waiting') {
      if (this.#hasFailed) out.push({ name: 'remember', works: false });
      // The hub is back from wherever it was, and WebTransport may be too.
      if (!live && this.#hasWorked) webtransport.dueMs = Math.min(webtransport.dueMs, Math.max(notBeforeMs, nowMs + HEAD_START_MS));
    }
  }

  /**
   * Who goes on, after one was lost.
   * @param {Lane} lane
   * @param {End} end
   * @param {{ ready: boolean, live: boolean }} was what the lane was
   * @param {number} nowMs
   * @returns {{ goesOn: boolean, isNews: boolean, turn: () => void }} whether the feed does; whether the application is told; what is to be
   *   done then
   */
  lost(lane, end, was, nowMs) {
    const negotiation = this.#negotiation;
    const isSse = lane === this.#sse;
    const other = isSse ? this.#webtransport : this.#sse;
    const isFree = was.live || !negotiation.live;
    this.#isStart = false;
    if (!isSse && end.isTerminal) this.#isEnded = true;
    // A hub that says why it ends the feed was reached.
    if (!isSse && !was.ready && end.code == null) {
      this.#hasFailed = true;
      this.#figures = {};
      if (!isFree) negotiation.out.push({ name: 'remember', works: false });
    }
    const restMs = negotiation.notBeforeMs - nowMs;
    const isUnderWay = other.state === 'connecting';
    const isWanted = isFree && !(isSse && this.#isEnded) && !isUnderWay && (was.live || other.isHeldBack || other.state === 'off');
    const isNext = isWanted && restMs <= 0;
    // WebTransport has no cookies, so that what it may not have SSE may.
    const goesOn = !end.isTerminal || (!isSse && end.code === UNAUTHORIZED);
    return {
      goesOn,
      // While the other transport delivers, or may yet, a failed attempt is no news for an application.
      isNews: !goesOn || was.live || !(negotiation.live || isNext || isUnderWay),
      turn: () => {
        if (isNext) negotiation.connect(other, nowMs);
        // The hub is away for a while: what worked before it went is worth its head start when it is back.
        else if (isWanted) negotiation.wait(other, nowMs, restMs + (!isSse && this.#hasWorked ? HEAD_START_MS : 0));
      },
    };
  }

  /** How long each took until its hello, or what is known of that where it hasn't come. @param {number} nowMs */
  #measure(nowMs) {
    const { sseMs = 0 } = this.#figures;
    const took = (/** @type {Lane} */ { state, startedMs, connectMs, askedMs }) => (state === 'ready' ? startedMs + Number(connectMs) : nowMs) - askedMs;
    this.#figures = {
      sseMs: this.#sse.state === 'ready' ? took(this.#sse) : this.#sse.state === 'connecting' ? Math.max(sseMs, took(this.#sse)) : sseMs,
      webtransportMs: this.#loadMs + took(this.#webtransport),
    };
  }

  #negotiation;
  #sse;
  #webtransport = newLane('webtransport');
  #hasWorked = false;
  /** What is known of how long they take here, from a feed's start to the hello of each. @type {Pick<Memory, 'sseMs' | 'webtransportMs'>} */
  #figures = {};
  #loadMs = 0;
  /** Neither has greeted with WebTransport or was lost since the feed began: what they take now is what they take at a start. */
  #isStart = false;
  /** WebTransport is of no use any more, for this feed. */
  #isEnded = false;
  /** The newest attempt of WebTransport ended before its hello. */
  #hasFailed = false;
}

/**
 * Now is a good time to try: the page is seen again, or the network is back.
 * @param {Negotiation} negotiation
 * @param {number} nowMs
 * @param {boolean} isNewNetwork what is under way may be lost with the old one
 */
export function probe(negotiation, nowMs, isNewNetwork) {
  if (isNewNetwork) negotiation.choice?.onNewNetwork();
  for (const lane of negotiation.lanes) {
    if (isNewNetwork) lane.failures = 0;
    const isWaiting = lane.state === 'waiting';
    if (lane.isHeldBack || !(isWaiting || (isNewNetwork && lane.state === 'connecting'))) continue;
    // The hub's word counts, and a page that flickers is no reason to hammer.
    const fromMs = Math.max(negotiation.notBeforeMs, lane.startedMs + PROBE_SPACING_MS);
    if (fromMs <= nowMs) negotiation.connect(lane, nowMs);
    else if (isWaiting) lane.dueMs = Math.min(lane.dueMs, fromMs);
  }
  return negotiation.flush();
}

/**
 * The page goes away: nothing is connected until `start`.
 * @param {Negotiation} negotiation
 * @param {boolean} pageRests it goes into a back/forward cache
 */
export function rest(negotiation, pageRests) {
  for (const lane of negotiation.lanes) negotiation.drop(lane, pageRests);
  negotiation.deliverOver(null);
  return negotiation.flush();
}

/**
 * Something else is asked for: what asks for the old is made anew, at the cursor.
 * @param {Negotiation} negotiation
 * @param {number} nowMs
 * @param {boolean} isLiveToo the live connection as well, while it counts as live
 */
export function renew(negotiation, nowMs, isLiveToo) {
  for (const lane of negotiation.lanes) {
    if (lane.kind === negotiation.live ? isLiveToo : lane.state === 'connecting') negotiation.connect(lane, nowMs);
  }
  return negotiation.flush();
}

/** WebTransport that never worked here. @param {number} failures @param {number} random */
function probeMs(failures, random) {
  return waitMs(failures, random, PROBE_MS_MAX);
}

/**
 * WebTransport that worked. Chromium counts a page's failed handshakes of the last five minutes, and holds the next one back for
 * 10 ms · 2^(their number − 1): ten cost 5 s, thirteen 40 s. These waits stay at about ten, and below half a minute.
 * @param {number} failures @param {number} random
 */
function returnMs(failures, random) {
  const [fromMs, toMs] = /** @type {[number, number]} */ (RETURNS[Math.min(failures, RETURNS.length - 1)]);
  return Math.round(fromMs + random * (toMs - fromMs));
}

/** From and to, after the first attempt, the second, and every later one. */
const RETURNS = [[500, 1000], [4000, 8000], [20_000, 25_000]];
const PROBE_MS_MAX = 60_000;
/** The first wait of what is known to fail is that of the sixth failure. */
const PROBE_FAILURES = 5;
const PROBE_SPACING_MS = 500;
/** A BYE code. [PROTOCOL §3.5] */
const UNAUTHORIZED = 3;
