// Which transport is tried when, which one delivers, and what becomes of what they bring. Pure: what happens, and when, comes
// in; what is to be done goes out, in order. It has no timers, no DOM and no randomness of its own.
//
// This is the floor, and loaded at once: one transport, SSE, that is tried at once, and anew at the cursor whenever it is lost. What
// chooses between SSE and WebTransport is `choice.js`, which joins it a moment later; until then, and where it can't be loaded, SSE goes on alone.

import { waitMs } from './backoff.js';
import { reasonOf } from './transport/transport.js';

/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./message.js').Hello} Hello */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */
/** @typedef {import('./position.js').Position} Position */
/** @typedef {import('./recall.js').Memory} Memory */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').End} End */
/** @typedef {'off' | 'connecting' | 'ready' | 'waiting'} LinkState */
/**
 * What one transport is doing.
 * @typedef {object} LinkStatus
 * @property {LinkState} state `ready` once the hub said hello; `off` while it isn't needed, or is of no use
 * @property {number | null} connectMs how long the newest connection took from its start to hello
 * @property {number | null} retryMs how long the wait is, while `waiting`
 * @property {string | null} reason why the last connection ended
 */
/**
 * What is to be done: what a hub said, as it said it, and what there is to do and to tell besides.
 * @typedef {((FeedEvent | Gap) & { transport: Kind })
 *   | (Hello & { transport: Kind, connectMs: number })
 *   | { name: 'connect', transport: Kind, attempt: number }
 *   | { name: 'drop', transport: Kind, pageRests: boolean }
 *   | { name: 'transportchange', from: Kind | null, to: Kind | null }
 *   | { name: 'open' | 'state' }
 *   | (End & { name: 'error', transport: Kind, isTerminal: boolean })
 *   | (Pick<Memory, 'works' | 'sseMs' | 'webtransportMs'> & { name: 'remember', isMeasured?: boolean })} Action `isMeasured`: SSE's figure is new
 */

export class Negotiation {
  /**
   * @param {object} options
   * @param {Kind} options.kind the transport that is tried at once
   * @param {Position} options.position
   * @param {() => number} options.random from 0 up to 1
   * @param {number} options.connectTimeoutMs for one attempt, from its start to the hub's hello
   */
  constructor({ kind, position, random, connectTimeoutMs }) {
    /** @type {[Lane, ...Lane[]]} */
    this.lanes = [newLane(kind)];
    this.position = position;
    this.random = random;
    this.#connectTimeoutMs = connectTimeoutMs;
  }

  /** The transport that delivers. @type {Kind | null} */
  live = null;
  isClosed = false;
  /** Says who delivers, where there are two. @type {import('./choice.js').Choice | null} */
  choice = null;
  /** The hub asked to be left alone until then. */
  notBeforeMs = -Infinity;

  /** When `tick` is wanted; Infinity for never. */
  get dueMs() {
    return Math.min(...this.lanes.map(({ dueMs }) => dueMs));
  }

  /** @param {Kind} kind @returns {LinkStatus | null} null for a transport that isn't used */
  status(kind) {
    const lane = this.lane(kind);
    if (!lane) return null;
    const { state, connectMs, retryMs, reason } = lane;
    return { state, connectMs, retryMs, reason };
  }

  /**
   * The feed begins, or begins again after the page rested.
   * @param {number} nowMs
   * @param {Memory} known of WebTransport here; nothing where it isn't to be tried
   */
  start(nowMs, known) {
    const [first] = this.lanes;
    if (isQuicker(known)) this.wait(first, nowMs, HEAD_START_MS, true);
    else this.connect(first, nowMs);
    this.choice?.start(nowMs, known);
    return this.flush();
  }

  /**
   * Where the attempt is to start. To be asked when the request is written, and not before: the cursor moves.
   * @param {Kind} kind @param {number} attempt @param {number} nowMs
   * @returns {string | null} a `last_event_id`
   */
  asking(kind, attempt, nowMs) {
    const { resumeId } = this.position;
    const lane = this.lane(kind, attempt);
    if (lane) Object.assign(lane, { asked: resumeId, askedMs: nowMs });
    return resumeId;
  }

  /**
   * A transport brought a message, or ended: for what can be done about it, a connection that is cut is a `bye` without a hub's word.
   * @param {Kind} kind @param {number} attempt @param {Message} message @param {number} nowMs
   */
  take(kind, attempt, message, nowMs) {
    const lane = this.lane(kind, attempt);
    if (lane) {
      this.#hear(lane, nowMs);
      try {
        this.#take(lane, message, nowMs);
      } catch (error) {
        // It made no sense. What isn't taken is asked for again.
        this.#lose(lane, { reason: reasonOf(error) }, nowMs);
      }
    }
    return this.flush();
  }

  /** Time has passed. @param {number} nowMs */
  tick(nowMs) {
    for (const lane of this.lanes) {
      const lateMs = nowMs - lane.dueMs;
      if (!(lateMs >= 0)) continue;
      if (lane.state === 'waiting') this.connect(lane, nowMs);
      else if (lateMs > LATE_MS && !lane.isGraced) {
        // Nothing ran for a while, as in a laptop that slept: what has come meanwhile may be waiting to be read.
        lane.isGraced = true;
        lane.dueMs = nowMs + GRACE_MS;
      } else {
        this.#lose(lane, { reason: `nothing came for ${Math.round(lane.silenceMsMax) / 1000} s` }, nowMs);
      }
    }
    return this.flush();
  }

  /** The end. */
  close() {
    this.isClosed = true;
    this.live = null;
    for (const lane of this.lanes) this.drop(lane);
    return this.flush();
  }

  /** @param {Lane} lane @param {Message} message @param {number} nowMs */
  #take(lane, message, nowMs) {
    const { kind: transport } = lane;
    if (message.name === 'bye') return this.#lose(lane, message, nowMs);
    if ((lane.state === 'ready') === (message.name === 'hello')) throw new Error(`${message.name} out of place`);
    // What is ready is what delivers: the other one was dropped.
    switch (message.name) {
      case 'hello':
        this.#greet(lane, message, nowMs);
        break;
      case 'event':
        if (this.position.event(message)) this.out.push({ ...message, transport });
        break;
      case 'gap': {
        const gap = this.position.gap(message);
        if (gap) this.out.push({ ...gap, transport });
        break;
      }
      case 'ping':
        this.position.ping(message.watermark);
    }
  }

  /** @param {Lane} lane @param {Hello} hello @param {number} nowMs */
  #greet(lane, hello, nowMs) {
    // Both transports began without a cursor, and this one is ahead of what the other delivered.
    if (!this.position.start(hello, lane.asked)) return this.connect(lane, nowMs);
    const { kind: transport } = lane;
    const connectMs = nowMs - lane.startedMs;
    Object.assign(lane, { state: 'ready', connectMs, reason: null });
    lane.silenceMsMax = hello.heartbeatMs ? Math.min(SILENT_HEARTBEATS * hello.heartbeatMs, LONGEST_MS) : Infinity;
    this.#hear(lane, nowMs);
    this.choice?.greeted(lane, nowMs);
    this.out.push({ ...hello, transport, connectMs });
    this.deliverOver(transport);
  }

  /** @param {Lane} lane @param {End} end @param {number} nowMs */
  #lose(lane, end, nowMs) {
    const { kind: transport } = lane;
    const was = { ready: lane.state === 'ready', live: transport === this.live };
    // A hub that greets and drops at once must not be asked at the shortest interval for ever.
    if (was.ready && nowMs - lane.startedMs >= STABLE_MS) lane.failures = 0;
    this.drop(lane);
    lane.reason = end.reason;
    if (end.retryMs != null) this.notBeforeMs = nowMs + Math.min(end.retryMs, LONGEST_MS);
    if (!end.isTerminal) {
      const backoffMs = lane.waitMs(lane.failures++, this.random());
      this.wait(lane, nowMs, Math.max(end.retryMs == null ? backoffMs : 0, this.notBeforeMs - nowMs));
    }
    const { goesOn, isNews, turn } = this.choice?.lost(lane, end, was, nowMs) ?? { goesOn: !end.isTerminal, isNews: true };
    if (!goesOn) for (const one of this.lanes) this.drop(one);
    this.isClosed = !goesOn;
    if (was.live || !goesOn) this.deliverOver(null);
    if (isNews) this.out.push({ ...end, name: 'error', transport, isTerminal: !goesOn });
    if (goesOn) turn?.();
  }

  /** @param {Lane} lane @param {number} nowMs */
  #hear(lane, nowMs) {
    lane.dueMs = nowMs + lane.silenceMsMax;
    lane.isGraced = false;
  }

  // What follows is for `choice.js` as well.

  /** @param {Lane} lane @param {number} nowMs */
  connect(lane, nowMs) {
    this.drop(lane);
    lane.state = 'connecting';
    lane.startedMs = lane.askedMs = nowMs;
    lane.silenceMsMax = this.#connectTimeoutMs;
    this.#hear(lane, nowMs);
    this.out.push({ name: 'connect', transport: lane.kind, attempt: lane.attempt });
  }

  /** @param {Lane} lane @param {number} nowMs @param {number} forMs @param {boolean} [isHeldBack] and has not failed */
  wait(lane, nowMs, forMs, isHeldBack = false) {
    this.drop(lane);
    Object.assign(lane, { state: 'waiting', isHeldBack, retryMs: forMs, dueMs: nowMs + forMs });
  }

  /** @param {Lane} lane @param {boolean} [pageRests] */
  drop(lane, pageRests = false) {
    this.#isChanged = true;
    if (lane.state === 'connecting' || lane.state === 'ready') this.out.push({ name: 'drop', transport: lane.kind, pageRests });
    lane.attempt++;
    Object.assign(lane, OFF);
  }

  /** @param {Kind | null} to */
  deliverOver(to) {
    const from = this.live;
    this.live = to;
    this.#isChanged = true;
    if (from !== to) this.out.push({ name: 'transportchange', from, to });
    if (to && !from) this.out.push({ name: 'open' });
  }

  /** @param {Kind} kind @param {number} [attempt] where given, only while it is the lane's newest */
  lane(kind, attempt) {
    return this.lanes.find((lane) => lane.kind === kind && (attempt ?? lane.attempt) === lane.attempt);
  }

  /** What is to be done. */
  flush() {
    const { out } = this;
    if (this.#isChanged) out.push({ name: 'state' });
    this.#isChanged = false;
    this.out = [];
    return out;
  }

  /** @type {Action[]} */
  out = [];
  #connectTimeoutMs;
  /** Something about the connections is to be told. */
  #isChanged = false;
}

/** A lane that is neither connected nor waits to be. */
const OFF = {
  /** @type {LinkState} */
  state: 'off',
  /** When to look at it again: to connect, or because it was silent for too long. */
  dueMs: Infinity,
  isHeldBack: false,
  /** The `last_event_id` that the current connection asked for. @type {string | null} */
  asked: null,
  /** @type {number | null} */
  retryMs: null,
};

/** @typedef {ReturnType<typeof newLane>} Lane */
/** One transport's state. @param {Kind} kind */
export const newLane = (kind) => ({
  ...OFF,
  kind,
  /** Raised whenever a connection is taken up or dropped, so that what an old one says is not heard. */
  attempt: 0,
  silenceMsMax: 0,
  isGraced: false,
  /** In a row, as far as the wait before the next attempt goes. */
  failures: 0,
  /** How long to wait after so many. */
  waitMs: /** @type {(failures: number, random: number) => number} */ (waitMs),
  startedMs: -Infinity,
  /** When it asked for `asked`: what it needs itself, as a token, was there by then. */
  askedMs: 0,
  connectMs: /** @type {number | null} */ (null),
  reason: /** @type {string | null} */ (null),
});

/**
 * Whether WebTransport earned its head start: the last time that both were opened here its hello was there no later than SSE's. It isn't on a
 * connection that is open already, as SSE is that is one more stream of it, and it is where SSE's has to be made: that takes a round trip more.
 * @param {Memory} known
 */
export const isQuicker = ({ sseMs = 0, webtransportMs = Infinity }) => webtransportMs <= sseMs;

/** WebTransport that was quicker here gets so long before SSE is opened as well: with what timers are late by, a wrong memory costs 100 ms.
 * Else it is SSE's. */
export const HEAD_START_MS = 90;
/** A heartbeat and a half of silence: the next event still comes within 1.5 heartbeats and a second of a cut. [PROTOCOL §3.3] */
const SILENT_HEARTBEATS = 1.5;
/** A connection that held so long, from its start, begins the backoff anew. */
const STABLE_MS = 10_000;
/** A clock that is late by so much had a reason. */
const LATE_MS = 200;
const GRACE_MS = 500;
/** Timers take 2^31 − 1 ms; nobody means longer than an hour. */
const LONGEST_MS = 3_600_000;
