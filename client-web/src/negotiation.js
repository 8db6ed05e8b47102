// Which transport is tried when, which one delivers, and what becomes of what they bring. Pure: what happens, and when, comes
// in; what is to be done goes out, in order. It has no timers, no DOM and no randomness of its own.
//
// SSE is the floor: it is tried at once. WebTransport is tried beside it, a moment later, and takes over with its hello; when it is
// lost, SSE goes on at the cursor, and WebTransport is tried again later. What is remembered of WebTransport moves only the beginning: a
// head start where it worked, a later try where it failed.

import { Backoff } from './backoff.js';
import { Malformed } from './message.js';

/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./message.js').Hello} Hello */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */
/** @typedef {import('./position.js').Position} Position */
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
 * What is to be done.
 * @typedef {{ do: 'connect', kind: Kind, attempt: number }
 *   | { do: 'drop', kind: Kind, pageRests: boolean }
 *   | { do: 'hello', kind: Kind, hello: Hello | null, connectMs: number }
 *   | { do: 'change', from: Kind | null, to: Kind | null }
 *   | { do: 'open' | 'state' }
 *   | { do: 'event', kind: Kind, event: FeedEvent }
 *   | { do: 'duplicate' }
 *   | { do: 'changed', requestId: number }
 *   | { do: 'gap', kind: Kind, gap: Gap }
 *   | { do: 'error', kind: Kind, end: End, isTerminal: boolean }
 *   | { do: 'remember', works: boolean }} Action
 */

export class Negotiation {
  /**
   * @param {object} options
   * @param {readonly Kind[]} options.kinds the transports that may be used
   * @param {Position} options.position
   * @param {() => number} options.random from 0 up to 1
   * @param {number} options.connectTimeoutMs for one attempt, from its start to the hub's hello
   */
  constructor({ kinds, position, random, connectTimeoutMs }) {
    this.#position = position;
    this.#random = random;
    this.#connectTimeoutMs = connectTimeoutMs;
    // SSE first: where both are due, it is the one that mustn't wait.
    for (const kind of /** @type {const} */ (['sse', 'webtransport'])) {
      if (kinds.includes(kind)) this.#lanes.push(new Lane(kind));
    }
  }

  /** The transport that delivers. @type {Kind | null} */
  live = null;

  isClosed = false;

  /** When `tick` is wanted; Infinity for never. */
  get dueMs() {
    return Math.min(Infinity, ...this.#lanes.map((lane) => lane.dueMs));
  }

  /** @param {Kind} kind @returns {LinkStatus | null} null for a transport that isn't used */
  status(kind) {
    const lane = this.#lane(kind);
    return lane && { state: lane.state, connectMs: lane.connectMs, retryMs: lane.retryMs, reason: lane.reason };
  }

  /**
   * The feed begins, or begins again after `rest`.
   * @param {number} nowMs
   * @param {boolean | null} works whether WebTransport worked here before; null where nobody knows
   */
  start(nowMs, works) {
    const [sse, webtransport] = [this.#lane('sse'), this.#lane('webtransport')];
    const canChoose = sse && webtransport && !sse.isEnded && !webtransport.isEnded;
    if (webtransport && works) webtransport.hasWorked = true;
    for (const lane of this.#lanes) {
      if (lane.isEnded) continue;
      // What WebTransport takes of the processor mustn't delay the first event where nobody knows whether it is of use.
      const isSecond = works === true ? lane === sse : works === null && lane === webtransport;
      if (canChoose && isSecond) this.#wait(lane, nowMs, HEAD_START_MS, true);
      else if (canChoose && lane === webtransport && works === false) {
        lane.backoff.begin(PROBE_ATTEMPTS);
        this.#wait(lane, nowMs, lane.backoff.nextMs(this.#random(), PROBE_MS_MAX));
      } else this.#connect(lane, nowMs);
    }
    return this.#flush();
  }

  /**
   * Where the attempt is to start. To be asked when the request is written, and not before: the cursor moves.
   * @param {Kind} kind @param {number} attempt
   * @returns {string | null} a `last_event_id`
   */
  asking(kind, attempt) {
    const lane = this.#lane(kind, attempt);
    if (lane) {
      lane.asked = this.#position.resumeId;
      lane.version = this.#version;
    }
    return this.#position.resumeId;
  }

  /**
   * A transport brought a message.
   * @param {Kind} kind @param {number} attempt @param {Message} message @param {number} nowMs
   */
  take(kind, attempt, message, nowMs) {
    const lane = this.#lane(kind, attempt);
    if (lane) {
      lane.heard(nowMs);
      try {
        this.#take(lane, message, nowMs);
      } catch (error) {
        if (!(error instanceof Malformed)) throw error;
        this.#lose(lane, { reason: error.message }, nowMs);
      }
    }
    return this.#flush();
  }

  /**
   * A connection ended, or never came to be.
   * @param {Kind} kind @param {number} attempt @param {End} end @param {number} nowMs
   */
  lose(kind, attempt, end, nowMs) {
    const lane = this.#lane(kind, attempt);
    if (lane) this.#lose(lane, end, nowMs);
    return this.#flush();
  }

  /** Time has passed. @param {number} nowMs */
  tick(nowMs) {
    for (const lane of this.#lanes) {
      const lateMs = nowMs - lane.dueMs;
      if (this.isClosed || !(lateMs >= 0)) continue;
      if (lane.state === 'waiting') this.#connect(lane, nowMs);
      else if (lateMs > LATE_MS && !lane.isGraced) {
        // Nothing ran for a while, as in a laptop that slept: what has come meanwhile may be waiting to be read.
        lane.isGraced = true;
        lane.dueMs = nowMs + GRACE_MS;
      } else {
        const what = lane.state === 'ready' ? 'nothing came' : 'the hub did not answer';
        this.#lose(lane, { reason: `${what} for ${Math.round(lane.silenceMsMax) / 1000} s` }, nowMs);
      }
    }
    return this.#flush();
  }

  /**
   * Now is a good time to try: the page is seen again, or the network is back.
   * @param {number} nowMs
   * @param {boolean} isNewNetwork what is under way may be lost with the old one
   */
  probe(nowMs, isNewNetwork) {
    for (const lane of this.#lanes) {
      if (isNewNetwork) lane.backoff.begin(0);
      const isStale = lane.state === 'waiting' || (isNewNetwork && lane.state === 'connecting');
      if (!isStale || lane.isHeldBack) continue;
      // The hub's word counts, and a page that flickers is no reason to hammer.
      const fromMs = Math.max(this.#notBeforeMs, lane.startedMs + PROBE_SPACING_MS);
      if (fromMs <= nowMs) this.#connect(lane, nowMs);
      else if (lane.state === 'waiting') lane.dueMs = Math.min(lane.dueMs, fromMs);
    }
    return this.#flush();
  }

  /**
   * The page goes away: nothing is connected until `start`.
   * @param {boolean} pageRests it goes into a back/forward cache
   */
  rest(pageRests) {
    for (const lane of this.#lanes) this.#drop(lane, pageRests);
    this.#deliverOver(null);
    return this.#flush();
  }

  /**
   * What is asked for has changed, and the live connection knows it: another one that asked before is made anew.
   */
  changed() {
    this.#version++;
    const lane = this.live && this.#lane(this.live);
    if (lane) lane.version = this.#version;
  }

  /** Makes the live connection anew, at the cursor, while it counts as live. @param {number} nowMs */
  reopen(nowMs) {
    const lane = this.live && this.#lane(this.live);
    if (lane) this.#connect(lane, nowMs);
    return this.#flush();
  }

  /**
   * Puts a connection that was made beside in the place of the live one, before it has said hello here.
   * @param {Kind} kind @param {number} nowMs
   * @returns {{ attempt: number, actions: Action[] }}
   */
  adopt(kind, nowMs) {
    const lane = /** @type {Lane} */ (this.#lane(kind));
    this.#connect(lane, nowMs);
    lane.version = ++this.#version;
    return { attempt: lane.attempt, actions: this.#flush().filter((action) => action.do !== 'connect') };
  }

  /** The end. */
  close() {
    this.isClosed = true;
    this.live = null;
    for (const lane of this.#lanes) this.#drop(lane);
    this.#out.push({ do: 'state' });
    return this.#flush();
  }

  /** @param {Lane} lane @param {Message} message @param {number} nowMs */
  #take(lane, message, nowMs) {
    const isReady = lane.state === 'ready';
    if (message.name === 'bye') {
      const { reason, code, retryMs } = message;
      this.#lose(lane, { reason, code, retryMs, isTerminal: retryMs === null }, nowMs);
    } else if (message.name === 'hello' || message.name === 'plain') {
      if (isReady) throw new Malformed('a second hello');
      this.#greet(lane, message.name === 'hello' ? message : null, nowMs);
    } else if (!isReady) {
      throw new Malformed(`${message.name} before hello`);
    } else {
      // What is ready is what delivers: the other one was dropped.
      this.#follow(lane.kind, message);
    }
  }

  /** @param {Kind} kind @param {Exclude<Message, { name: 'hello' | 'plain' | 'bye' }>} message */
  #follow(kind, message) {
    switch (message.name) {
      case 'event': {
        const { deliver, gap } = this.#position.event(message);
        if (gap) this.#out.push({ do: 'gap', kind, gap });
        this.#out.push(deliver ? { do: 'event', kind, event: message } : { do: 'duplicate' });
        break;
      }
      case 'gap': {
        const gap = this.#position.gap(message);
        if (gap) this.#out.push({ do: 'gap', kind, gap });
        break;
      }
      case 'ping':
        this.#position.ping(message.watermark);
        break;
      case 'changed':
        this.#position.reach(message.fromSeq);
        this.#out.push({ do: 'changed', requestId: message.requestId });
        break;
    }
  }

  /** @param {Lane} lane @param {Hello | null} hello null of a hub that says none @param {number} nowMs */
  #greet(lane, hello, nowMs) {
    if (lane.version !== this.#version) {
      // Something else is asked for by now.
      this.#connect(lane, nowMs);
      return;
    }
    if (hello && this.#position.start(hello, lane.asked) === 'beside') {
      if (lane.asked === this.#position.resumeId) throw new Malformed('the hub began elsewhere than it was asked to');
      // Both transports began without a cursor, and this one is ahead of what the other delivered.
      this.#connect(lane, nowMs);
      return;
    }
    lane.state = 'ready';
    lane.readyMs = nowMs;
    lane.connectMs = nowMs - lane.startedMs;
    lane.reason = null;
    lane.silenceMsMax = hello ? Math.min(SILENT_HEARTBEATS * hello.heartbeatMs, SILENCE_MS_MAX) : Infinity;
    lane.heard(nowMs);
    const [sse, webtransport] = [this.#lane('sse'), this.#lane('webtransport')];
    if (lane === webtransport) {
      // It always takes over: SSE isn't opened while it delivers.
      if (sse) this.#drop(sse);
      lane.hasWorked = true;
      lane.hasFailed = false;
      this.#out.push({ do: 'remember', works: true });
    } else if (webtransport?.hasFailed && webtransport.state === 'waiting') {
      this.#out.push({ do: 'remember', works: false });
    }
    // The hub is back from wherever it was, and WebTransport may be too.
    if (lane === sse && !this.live && webtransport?.state === 'waiting' && webtransport.hasWorked) {
      webtransport.dueMs = Math.min(webtransport.dueMs, Math.max(this.#notBeforeMs, nowMs + HEAD_START_MS));
    }
    this.#out.push({ do: 'hello', kind: lane.kind, hello, connectMs: lane.connectMs });
    this.#deliverOver(lane.kind);
  }

  /** @param {Lane} lane @param {End} end @param {number} nowMs */
  #lose(lane, end, nowMs) {
    const wasReady = lane.state === 'ready';
    const wasLive = lane.kind === this.live;
    const [sse, webtransport] = [this.#lane('sse'), this.#lane('webtransport')];
    const other = lane === sse ? webtransport : sse;
    // A hub that greets and drops at once must not be asked at the shortest interval for ever.
    if (lane.readyMs !== null && nowMs - lane.readyMs >= STABLE_MS) lane.backoff.begin(0);
    this.#drop(lane);
    lane.reason = end.reason;
    const retryMs = end.retryMs == null ? null : Math.min(end.retryMs, RETRY_MS_MAX);
    if (retryMs !== null) this.#notBeforeMs = nowMs + retryMs;
    if (end.isTerminal) {
      lane.isEnded = true;
      // WebTransport has no cookies, so that what it may not have SSE may.
      const isFinal = lane === sse || end.code !== UNAUTHORIZED || !sse || sse.isEnded;
      if (isFinal) {
        this.#giveUp(lane.kind, end);
        return;
      }
    } else {
      const { backoff } = lane;
      const isReturning = lane === webtransport && lane.hasWorked;
      const maxMs = lane === webtransport ? PROBE_MS_MAX : WAIT_MS_MAX;
      const backoffMs = isReturning ? backoff.returnMs(this.#random()) : backoff.nextMs(this.#random(), maxMs);
      this.#wait(lane, nowMs, Math.max(retryMs ?? backoffMs, this.#notBeforeMs - nowMs));
    }
    // A hub that says why it ends the feed was reached.
    if (lane === webtransport && !wasReady && end.code == null) {
      lane.hasFailed = true;
      if (this.live === 'sse') this.#out.push({ do: 'remember', works: false });
    }
    if (wasLive) {
      this.#deliverOver(null);
      this.#out.push({ do: 'error', kind: lane.kind, end, isTerminal: false });
    }
    const isWanted = other && !other.isEnded && !this.live && (wasLive || other.isHeldBack || other.state === 'off');
    if (isWanted && other.state !== 'connecting') {
      const waitMs = this.#notBeforeMs - nowMs;
      if (waitMs <= 0) this.#connect(other, nowMs);
      // The hub is away for a while: what worked before it went is worth its head start when it is back.
      else this.#wait(other, nowMs, waitMs + (other === sse && lane.hasWorked ? HEAD_START_MS : 0));
    }
    // While the other transport delivers, or may yet, a failed attempt is no news for an application.
    if (!wasLive && !this.live && other?.state !== 'connecting') {
      this.#out.push({ do: 'error', kind: lane.kind, end, isTerminal: false });
    }
    this.#out.push({ do: 'state' });
  }

  /** @param {Kind} kind @param {End} end */
  #giveUp(kind, end) {
    const from = this.live;
    this.isClosed = true;
    this.live = null;
    for (const lane of this.#lanes) this.#drop(lane);
    if (from) this.#out.push({ do: 'change', from, to: null });
    this.#out.push({ do: 'error', kind, end, isTerminal: true }, { do: 'state' });
  }

  /** @param {Kind | null} to */
  #deliverOver(to) {
    const from = this.live;
    this.live = to;
    if (from !== to) this.#out.push({ do: 'change', from, to });
    if (to && !from) this.#out.push({ do: 'open' });
    this.#out.push({ do: 'state' });
  }

  /** @param {Lane} lane @param {number} nowMs */
  #connect(lane, nowMs) {
    this.#drop(lane);
    lane.state = 'connecting';
    lane.startedMs = nowMs;
    lane.silenceMsMax = this.#connectTimeoutMs;
    lane.heard(nowMs);
    this.#out.push({ do: 'connect', kind: lane.kind, attempt: lane.attempt }, { do: 'state' });
  }

  /** @param {Lane} lane @param {number} nowMs @param {number} waitMs @param {boolean} [isHeldBack] and has not failed */
  #wait(lane, nowMs, waitMs, isHeldBack = false) {
    this.#drop(lane);
    lane.state = 'waiting';
    lane.isHeldBack = isHeldBack;
    lane.retryMs = waitMs;
    lane.dueMs = nowMs + waitMs;
  }

  /** @param {Lane} lane */
  #drop(lane, pageRests = false) {
    if (lane.state === 'connecting' || lane.state === 'ready') this.#out.push({ do: 'drop', kind: lane.kind, pageRests });
    lane.reset();
  }

  /** @param {Kind} kind @param {number} [attempt] where given, only while it is the lane's newest */
  #lane(kind, attempt) {
    const lane = this.#lanes.find((one) => one.kind === kind);
    return lane && (attempt === undefined || attempt === lane.attempt) ? lane : null;
  }

  #flush() {
    const out = this.#out;
    this.#out = [];
    return out;
  }

  #position;
  #random;
  #connectTimeoutMs;
  /** @type {Lane[]} */
  #lanes = [];
  /** Raised when what is asked for changes. */
  #version = 0;
  /** The hub asked to be left alone until then. */
  #notBeforeMs = -Infinity;
  /** @type {Action[]} */
  #out = [];
}

/** One transport's state. */
class Lane {
  /** @param {Kind} kind */
  constructor(kind) {
    this.kind = kind;
  }

  /** @type {LinkState} */
  state = 'off';
  /** Raised whenever a connection is taken up or dropped, so that what an old one says is not heard. */
  attempt = 0;
  /** When to look at it again: to connect, or because it was silent for too long. */
  dueMs = Infinity;
  silenceMsMax = 0;
  isGraced = false;
  isHeldBack = false;
  /** No use any more, for this feed. */
  isEnded = false;
  hasWorked = false;
  /** The newest attempt ended before its hello. */
  hasFailed = false;
  startedMs = -Infinity;
  /** @type {number | null} */
  readyMs = null;
  /** The `last_event_id` that the current connection asked for. @type {string | null} */
  asked = null;
  /** What it asks for is this version of it; -1 before it has asked. */
  version = -1;
  backoff = new Backoff();
  /** @type {number | null} */
  connectMs = null;
  /** @type {number | null} */
  retryMs = null;
  /** @type {string | null} */
  reason = null;

  /** @param {number} nowMs */
  heard(nowMs) {
    this.dueMs = nowMs + this.silenceMsMax;
    this.isGraced = false;
  }

  reset() {
    this.attempt++;
    this.state = 'off';
    this.dueMs = Infinity;
    this.isHeldBack = false;
    this.asked = this.retryMs = this.readyMs = null;
  }
}

/** WebTransport that worked here before gets so long before SSE is opened as well: what a wrong memory costs. Else it is SSE's. */
export const HEAD_START_MS = 100;
/** A heartbeat and a half of silence: the next event still comes within 1.5 heartbeats and a second of a cut. [PROTOCOL §3.3] */
const SILENT_HEARTBEATS = 1.5;
/** A connection that held so long begins the backoff anew. */
const STABLE_MS = 10_000;
const WAIT_MS_MAX = 30_000;
/** WebTransport that never worked here. */
const PROBE_MS_MAX = 60_000;
/** The first wait of what is known to fail is that of the sixth failure. */
const PROBE_ATTEMPTS = 5;
const PROBE_SPACING_MS = 500;
/** A clock that is late by so much had a reason. */
const LATE_MS = 200;
const GRACE_MS = 500;
/** Timers take 2^31 − 1 ms; nobody means longer than an hour. */
const RETRY_MS_MAX = 3_600_000;
const SILENCE_MS_MAX = 3_600_000;
/** A BYE code. [PROTOCOL §3.5] */
const UNAUTHORIZED = 3;
