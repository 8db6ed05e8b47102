// One transport, kept up: connect, watch, wait, connect again. The only place that retries.

import { Backoff } from './backoff.js';
import { Malformed } from './message.js';
import { reasonOf } from './transport/transport.js';

/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./message.js').Hello} Hello */
/** @typedef {import('./environment.js').Environment} Environment */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').End} End */
/** @typedef {import('./transport/transport.js').Connection} Connection */
/** @typedef {import('./transport/transport.js').Connect} Connect */
/** @typedef {'off' | 'connecting' | 'ready' | 'waiting'} LinkState */
/**
 * What one transport is doing.
 * @typedef {object} LinkStatus
 * @property {LinkState} state `ready` once the hub said hello
 * @property {number | null} connectMs how long the newest connection took from its start to hello
 * @property {number | null} retryMs how long the wait is, while `waiting`
 * @property {string | null} reason why the last connection ended
 */
/**
 * @typedef {object} LinkOptions
 * @property {Kind} kind
 * @property {Connect} connect
 * @property {Environment} environment
 * @property {number} connectTimeoutMs from the start of an attempt to hello
 * @property {() => Omit<import('./transport/transport.js').Request, 'onMessage' | 'onEnd' | 'environment'>} request
 *   asked for every attempt, since the cursor moves
 * @property {(link: Link, message: Message) => void} onMessage
 * @property {(link: Link, end: End) => void} onDown before it waits; may close the link
 * @property {(link: Link) => void} onState
 */

export class Link {
  /** @param {LinkOptions} options */
  constructor(options) {
    this.kind = options.kind;
    this.#options = options;
  }

  /** The `last_event_id` that the current connection asked for. */
  lastEventId = /** @type {string | null} */ (null);

  /** @returns {LinkState} */
  get state() {
    return this.#state;
  }

  /** @returns {LinkStatus} */
  get status() {
    return { state: this.#state, connectMs: this.#connectMs, retryMs: this.#retryMs, reason: this.#reason };
  }

  /** Connects now, unless it is at it. */
  open() {
    if (this.#state === 'connecting' || this.#state === 'ready') return;
    this.#connect();
  }

  /** Drops the connection for a new one, at once. */
  reopen() {
    this.#drop();
    this.#connect();
  }

  /** Ends the connection and every plan to connect. @param {import('./transport/transport.js').Closing} [how] */
  close(how) {
    this.#drop(how);
    if (this.#state !== 'off') this.#enter('off');
  }

  /** @param {string} type */
  listen(type) {
    this.#connection?.listen(type);
  }

  #connect() {
    const { environment, connect, connectTimeoutMs } = this.#options;
    this.#drop();
    const attempt = ++this.#attempt;
    this.#startedMs = environment.nowMs();
    this.#heardMs = this.#startedMs;
    this.#silenceMsMax = connectTimeoutMs;
    const request = this.#options.request();
    this.lastEventId = request.lastEventId;
    this.#enter('connecting');
    if (attempt !== this.#attempt) return; // A listener closed or reopened this link.
    this.#watch();
    try {
      const connection = connect({
        ...request,
        environment,
        onMessage: (message) => {
          if (attempt === this.#attempt) this.#take(message);
        },
        onEnd: (end) => {
          if (attempt === this.#attempt) this.#fail(end);
        },
      });
      if (attempt === this.#attempt) this.#connection = connection;
      else connection.close();
    } catch (error) {
      if (attempt === this.#attempt) this.#fail({ reason: reasonOf(error) });
    }
  }

  /** @param {Message} message */
  #take(message) {
    const { environment, onMessage } = this.#options;
    this.#heardMs = environment.nowMs();
    if (message.name === 'bye') {
      const isTerminal = message.retryMs === null;
      this.#fail({ reason: message.reason, code: message.code, retryMs: message.retryMs, isTerminal });
      return;
    }
    if ((message.name === 'hello') === (this.#state === 'ready')) {
      this.#fail({ reason: this.#state === 'ready' ? 'a second hello' : `${message.name} before hello` });
      return;
    }
    if (message.name === 'hello') this.#greet(message);
    const attempt = this.#attempt;
    try {
      onMessage(this, message);
    } catch (error) {
      if (!(error instanceof Malformed)) throw error;
      if (attempt === this.#attempt) this.#fail({ reason: reasonOf(error) });
    }
  }

  /** @param {Hello} hello */
  #greet(hello) {
    this.#connectMs = this.#heardMs - this.#startedMs;
    this.#readyMs = this.#heardMs;
    this.#silenceMsMax = Math.min(SILENT_HEARTBEATS * hello.heartbeatMs, SILENCE_MS_MAX);
    this.#reason = null;
    this.#enter('ready');
    this.#watch();
  }

  /** @param {End} end */
  #fail(end) {
    const { environment, onDown } = this.#options;
    const nowMs = environment.nowMs();
    // A hub that greets and drops at once must not be asked at the shortest interval for ever.
    if (this.#readyMs !== null && nowMs - this.#readyMs >= STABLE_MS) this.#backoff.reset();
    this.#drop();
    this.#reason = end.reason;
    this.#state = 'waiting';
    const attempt = this.#attempt;
    onDown(this, end);
    if (attempt !== this.#attempt || this.#state !== 'waiting') return; // Closed or reopened meanwhile.
    if (end.isTerminal) {
      this.#enter('off');
      return;
    }
    const backoffMs = this.#backoff.nextMs(environment.random());
    const delayMs = Math.min(end.retryMs ?? backoffMs, RETRY_MS_MAX);
    this.#retryMs = delayMs;
    this.#timer = environment.setTimer(() => this.#connect(), delayMs);
    this.#enter('waiting');
  }

  /**
   * Fails the connection when it has been silent for too long. One timer that looks at a clock: an event a millisecond
   * must not set a timer a millisecond.
   */
  #watch() {
    const { environment } = this.#options;
    environment.clearTimer(this.#timer);
    const leftMs = this.#heardMs + this.#silenceMsMax - environment.nowMs();
    if (leftMs > 0) {
      this.#timer = environment.setTimer(() => this.#watch(), leftMs);
      return;
    }
    const what = this.#state === 'ready' ? 'nothing came' : 'the hub did not answer';
    this.#fail({ reason: `${what} for ${Math.round(this.#silenceMsMax) / 1000} s` });
  }

  /** @param {import('./transport/transport.js').Closing} [how] */
  #drop(how) {
    this.#attempt++;
    this.#options.environment.clearTimer(this.#timer);
    this.#timer = undefined;
    this.#retryMs = null;
    this.#readyMs = null;
    const connection = this.#connection;
    this.#connection = null;
    connection?.close(how);
  }

  /** @param {LinkState} state */
  #enter(state) {
    this.#state = state;
    this.#options.onState(this);
  }

  #options;
  /** @type {LinkState} */
  #state = 'off';
  /** @type {Connection | null} */
  #connection = null;
  /** Raised whenever a connection is taken up or dropped, so that what an old one says is not heard. */
  #attempt = 0;
  #backoff = new Backoff();
  /** @type {unknown} */
  #timer;
  #startedMs = 0;
  #heardMs = 0;
  #silenceMsMax = 0;
  /** @type {number | null} */
  #readyMs = null;
  /** @type {number | null} */
  #connectMs = null;
  /** @type {number | null} */
  #retryMs = null;
  /** @type {string | null} */
  #reason = null;
}

/** Silence of two heartbeats means that the connection is dead. [PROTOCOL §3.3] */
const SILENT_HEARTBEATS = 2;
/** A connection that held so long begins the backoff anew. */
const STABLE_MS = 10_000;
/** Timers take 2^31 − 1 ms; nobody means longer than an hour. */
const RETRY_MS_MAX = 3_600_000;
const SILENCE_MS_MAX = 3_600_000;
