// Does what the negotiation decides, with the browser's classes and timers.

import { browserEnvironment } from './environment.js';
import { HEAD_START_MS, Negotiation } from './negotiation.js';
import { Position } from './position.js';
import { recall } from './recall.js';
import { connectLater } from './transport/later.js';
import { connectSse } from './transport/sse.js';

/** @typedef {import('./environment.js').Environment} Environment */
/** @typedef {import('./fanwire.js').FanwireOptions} FanwireOptions */
/** @typedef {import('./negotiation.js').Action} Action */
/** @typedef {import('./transport/transport.js').Connect} Connect */
/** @typedef {import('./transport/transport.js').Connection} Connection */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').Request} Request */

export class Driver {
  /**
   * @param {string | URL} url of the feed
   * @param {FanwireOptions} options
   * @param {(action: Action) => void} tell what concerns the application
   */
  constructor(url, options, tell) {
    this.options = options;
    this.#tell = tell;
    const environment = (this.environment = { ...browserEnvironment(), ...options.environment });
    const { EventSource, WebTransport, random, baseUrl } = environment;
    const { transport = 'auto', transports, sse, token, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options;
    const isAuto = transport === 'auto';
    const kind = isAuto ? 'sse' : transport;
    if (!CONNECTS[kind]) throw new TypeError(`no transport ${kind}`);
    const isFetched = !EventSource || (sse ? sse === 'fetch' : token !== undefined);
    this.connects = { ...CONNECTS, ...(isFetched && { sse: CONNECT_FETCH }), ...transports };
    this.url = new URL(url, baseUrl);
    const { searchParams } = this.url;
    // As EventSource does with `Last-Event-ID`, what is given beside the URL wins over what is in it.
    this.position = new Position(options.lastEventId || searchParams.get('last_event_id'));
    searchParams.delete('last_event_id');
    this.canChoose = isAuto && Boolean(transports?.webtransport ?? WebTransport);
    // What is asked for and isn't there says so when it is to connect.
    this.negotiation = new Negotiation({ kind, position: this.position, random, connectTimeoutMs });
  }

  /** @type {Partial<Record<Kind, Connection>>} */
  connections = {};
  /** Types of events that were ever listened to. @type {Set<string>} */
  types = new Set();
  /** For `topics.js`: something has happened. */
  onProgress = () => {};
  /** Lets go of the application's signal and of the page, which may outlive many feeds. */
  over = new AbortController();

  /** What is remembered of WebTransport here. @type {import('./recall.js').Memory} */
  known = {};
  /** Remembers it: `beside.js` knows how. @type {(learned: Extract<Action, { name: 'remember' }>) => void} */
  remember = () => {};

  begin() {
    const { signal } = this.options;
    if (signal?.aborted) return this.close();
    signal?.addEventListener('abort', () => this.close(), { signal: this.over.signal });
    this.start();
    // It keeps out of the way of the first event over SSE.
    if (this.connections.sse) this.#joinAfter(HEAD_START_MS);
    else this.#join();
  }

  start() {
    if (this.canChoose) this.known = recall(this.url.origin, this.environment);
    this.run(this.negotiation.start(this.nowMs(), this.known));
  }

  nowMs() {
    return this.environment.nowMs();
  }

  close() {
    if (this.negotiation.isClosed) return;
    // What was still to be told isn't any more.
    this.#actions = [];
    this.run(this.negotiation.close());
  }

  /** @param {string} type */
  listen(type) {
    this.types.add(type);
    for (const connection of Object.values(this.connections)) connection.listen(type);
  }

  /** What may be loaded, and is only where there is a token. */
  tokens() {
    return import('./token.js').then(({ tokensOf }) => tokensOf(this));
  }

  /**
   * One thing after the other, whatever a listener does meanwhile.
   * @param {Action[]} actions
   */
  run(actions) {
    this.#actions.push(...actions);
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let action; (action = this.#actions.shift()); ) this.#do(action);
    this.#isRunning = false;
    this.#setTimer();
    this.onProgress();
  }

  /**
   * A request of which some is as for every attempt.
   * @param {Pick<Request, 'lastEventId' | 'onMessage' | 'onEnd'> & Partial<Request>} particulars
   * @returns {Request}
   */
  request(particulars) {
    const { url, types, environment } = this;
    const { withCredentials = false, heartbeat, token } = this.options;
    return { driver: this, url, types, environment, withCredentials, heartbeat, tokens: token === undefined ? null : () => this.tokens(), ...particulars };
  }

  /** @param {Action} action */
  #do(action) {
    switch (action.name) {
      case 'connect':
        this.#connect(action.transport, action.attempt);
        break;
      case 'drop': {
        const { [action.transport]: connection } = this.connections;
        delete this.connections[action.transport];
        connection?.close(action);
        break;
      }
      case 'remember':
        this.remember(action);
        break;
      default:
        // Nothing of the page, the application's signal or its token is held any more.
        if (this.negotiation.isClosed) {
          this.over.abort();
          this.environment.clearTimer(this.#joining);
        }
        this.#tell(action);
    }
  }

  /** @param {Kind} kind @param {number} attempt */
  #connect(kind, attempt) {
    const { negotiation } = this;
    /** @type {Request['onMessage']} */
    const onMessage = (message) => this.run(negotiation.take(kind, attempt, message, this.nowMs()));
    /** @type {Request['onEnd']} */
    const onEnd = (end) => onMessage({ ...end, name: 'bye' });
    try {
      this.connections[kind] = this.connects[kind](this.request({
        lastEventId: () => negotiation.asking(kind, attempt, this.nowMs()),
        onMessage,
        onEnd,
      }));
    } catch (error) {
      onEnd({ reason: String(error) });
    }
  }

  /** @param {number} ms */
  #joinAfter(ms) {
    this.#joining = this.environment.setTimer(() => this.#join(), ms);
  }

  /** Loads the rest. Until it is there, and where it can't be loaded, SSE goes on alone. */
  async #join() {
    const { lanes, live } = this.negotiation;
    const fromMs = this.nowMs();
    // With what it needs itself, and what worked, at the same time: one after the other would cost round trips.
    const load = () => Promise.all([import('./beside.js'), import('./choice.js'), this.known.works && loadWebTransport()]).catch(() => null);
    // Not while the network seems to be away: a module that Firefox couldn't have it never asks for again.
    const loaded = (live || !lanes[0].failures) && (await load());
    if (this.negotiation.isClosed) return;
    if (loaded) loaded[0].join(this, this.nowMs() - fromMs);
    else this.#joinAfter(JOIN_AGAIN_MS);
  }

  #setTimer() {
    const { setTimer, clearTimer } = this.environment;
    const { dueMs } = this.negotiation;
    // One that is too early looks at the clock and is set anew: an event a millisecond must not set a timer a millisecond.
    if (this.#timerMs <= dueMs && dueMs < Infinity) return;
    clearTimer(this.#timer);
    this.#timerMs = dueMs;
    if (dueMs === Infinity) return;
    this.#timer = setTimer(() => {
      this.#timerMs = Infinity;
      this.run(this.negotiation.tick(this.nowMs()));
    }, Math.max(0, dueMs - this.nowMs()));
  }

  #tell;
  /** What is to be done. @type {Action[]} */
  #actions = [];
  #isRunning = false;
  /** @type {unknown} */
  #timer;
  #timerMs = Infinity;
  /** @type {unknown} */
  #joining;
}

const loadWebTransport = async () => (await import('./transport/webtransport.js')).connectWebTransport;
/** What only some browsers need is loaded when it is needed. @type {Record<Kind, Connect>} */
const CONNECTS = { sse: connectSse, webtransport: connectLater(loadWebTransport) };
const CONNECT_FETCH = connectLater(async () => (await import('./transport/sse-fetch.js')).connectSseFetch);
const CONNECT_TIMEOUT_MS = 10_000;
/** The network may have been away. */
const JOIN_AGAIN_MS = 3000;
