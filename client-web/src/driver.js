// Does what the negotiation decides, with the browser's classes, timers and events.

import { forget, recall, remember } from './memory.js';
import { Negotiation } from './negotiation.js';
import { Position } from './position.js';
import { connectLater } from './transport/later.js';
import { connectSse } from './transport/sse.js';

/** @typedef {import('./environment.js').Environment} Environment */
/** @typedef {import('./fanwire.js').FanwireOptions} FanwireOptions */
/** @typedef {import('./negotiation.js').Action} Action */
/** @typedef {import('./token.js').Token} Token */
/** @typedef {import('./transport/transport.js').Connect} Connect */
/** @typedef {import('./transport/transport.js').Connection} Connection */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').Request} Request */

export class Driver {
  /**
   * @param {URL} url of the feed, without `last_event_id`
   * @param {string | null} startId
   * @param {FanwireOptions} options
   * @param {Environment} environment
   * @param {(action: Action) => void} tell what concerns the application
   */
  constructor(url, startId, options, environment, tell) {
    this.url = url;
    this.options = options;
    this.environment = environment;
    this.#tell = tell;
    this.position = new Position(startId);
    const { EventSource, WebTransport, isWebKit, random, fetch } = environment;
    const { transport = 'auto', transports, sse, token, webkit, connectTimeoutMs = CONNECT_TIMEOUT_MS } = options;
    if (!TRANSPORTS.has(transport)) throw new TypeError(`no transport is called ${transport}`);
    const isFetched = sse ? sse === 'fetch' : token !== undefined || !EventSource;
    const isGated = isWebKit && !webkit && transport === 'auto';
    const available = { sse: isFetched ? fetch : EventSource, webtransport: isGated ? undefined : WebTransport, ...transports };
    this.connects = { ...CONNECTS, ...(isFetched && { sse: CONNECT_FETCH }), ...transports };
    const kinds = KINDS.filter((kind) => available[kind] && (transport === 'auto' || transport === kind));
    this.negotiation = new Negotiation({ kinds, position: this.position, random, connectTimeoutMs });
    this.isUsable = kinds.length > 0;
  }

  /** @type {Map<Kind, Connection>} */
  connections = new Map();
  /** Types of events that were ever listened to. @type {Set<string>} */
  types = new Set();
  /** Requests in band whose `changed` has come. @type {Set<number>} */
  changed = new Set();
  /** Who waits for something to happen. @type {(() => void)[]} */
  sleepers = [];
  /** SSE is to say every second how far it is. */
  isHurried = false;
  /** The application's token, which only some have. @type {Promise<Token> | null} */
  token = null;
  /** Lets go of the application's signal and of the page, which may outlive many feeds. */
  over = new AbortController();

  /** Connects, and watches the page and the network. */
  begin() {
    const { page, document, connection } = this.environment;
    const { token } = this.options;
    if (token !== undefined) this.token = import('./token.js').then(({ Token }) => new Token(token, this));
    const untilOver = { signal: this.over.signal };
    /** @param {EventTarget | undefined} target @param {string} type @param {(event: any) => void} listener */
    const listen = (target, type, listener) => target?.addEventListener(type, listener, untilOver);
    // In a tab that is being closed Firefox often interrupts the first script that it runs. This one has nothing to lose.
    listen(page, 'pagehide', () => {});
    // Firefox would keep its WebTransport session, and the hub a subscriber that nobody is behind, for as long as the browser runs.
    listen(page, 'pagehide', ({ persisted }) => this.run(this.negotiation.rest(persisted)));
    // Goes on at the cursor, where the page was kept as it was.
    listen(page, 'pageshow', ({ persisted }) => persisted && this.start());
    listen(page, 'online', () => this.#probe(true));
    listen(document, 'visibilitychange', () => document?.visibilityState === 'visible' && this.#probe(false));
    const network = () => connection?.type ?? connection?.effectiveType;
    let known = network();
    // It also fires when an estimate of the network's speed has changed.
    listen(connection, 'change', () => known !== (known = network()) && this.#probe(true));
    this.start();
  }

  start() {
    const { works = null, offer = null } = recall(this.url.origin, this.environment) ?? {};
    this.#offer = offer;
    this.run(this.negotiation.start(this.nowMs(), works));
  }

  nowMs() {
    return this.environment.nowMs();
  }

  close() {
    // What was still to be told isn't any more.
    this.#actions = [];
    this.run(this.negotiation.close());
  }

  /**
   * One thing after the other, whatever a listener does meanwhile.
   * @param {Action[]} actions
   */
  run(actions) {
    this.#actions.push(...actions);
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let action; (action = this.#actions.shift()); ) this.#do(action);
    } finally {
      this.#isRunning = false;
    }
    this.#setTimer();
    for (const wake of this.sleepers.splice(0)) wake();
  }

  /**
   * A request of which some is as for every attempt.
   * @param {Pick<Request, 'onMessage' | 'onEnd'> & Partial<Request>} particulars
   * @param {() => string | null} asks where to start
   * @returns {Request}
   */
  request(particulars, asks) {
    return {
      url: this.url,
      get lastEventId() {
        return asks();
      },
      heartbeatSeconds: this.isHurried ? 1 : (this.options.heartbeat ?? null),
      withCredentials: this.options.withCredentials ?? false,
      types: this.types,
      environment: this.environment,
      offer: null,
      onOffer: (said) => {
        this.#isOfferOld = false;
        this.#tried = said;
      },
      token: this.token && (async (refused) => (await /** @type {Promise<Token>} */ (this.token)).get(refused)),
      onExpiry: (expiresAtMs) => this.token?.then((token) => token.expires(expiresAtMs)),
      ...particulars,
    };
  }

  /** What a connection brings. @param {Kind} kind @param {number} attempt @returns {Pick<Request, 'onMessage' | 'onEnd'>} */
  takers(kind, attempt) {
    return {
      onMessage: (message) => this.run(this.negotiation.take(kind, attempt, message, this.nowMs())),
      onEnd: (end) => this.run(this.negotiation.lose(kind, attempt, end, this.nowMs())),
    };
  }

  /** @param {Action} action */
  #do(action) {
    switch (action.do) {
      case 'connect':
        this.#connect(action.kind, action.attempt);
        break;
      case 'drop': {
        const connection = this.connections.get(action.kind);
        this.connections.delete(action.kind);
        connection?.close(action);
        break;
      }
      case 'changed':
        this.changed.add(action.requestId);
        break;
      case 'remember':
        this.#remember(action.works);
        break;
      default:
        // Nothing of the page, the application's signal or its token is held any more.
        if (this.negotiation.isClosed && !this.over.signal.aborted) {
          this.over.abort();
          this.token?.then((token) => token.close());
        }
        this.#tell(action);
    }
  }

  /** @param {Kind} kind @param {number} attempt */
  #connect(kind, attempt) {
    const takers = this.takers(kind, attempt);
    let offer = null;
    if (kind === 'webtransport') {
      // What an attempt fails with isn't tried twice: a hub that came back may have another certificate.
      offer = this.#tried = this.#offer;
      this.#isOfferOld = offer !== null;
      this.#offer = null;
    }
    this.changed.clear();
    try {
      const connection = this.connects[kind](this.request({ ...takers, offer }, () => this.negotiation.asking(kind, attempt)));
      this.connections.set(kind, connection);
    } catch (error) {
      takers.onEnd({ reason: String(error) });
    }
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

  /** @param {boolean} isNewNetwork */
  #probe(isNewNetwork) {
    if (isNewNetwork) forget(this.url.origin, this.environment);
    this.run(this.negotiation.probe(this.nowMs(), isNewNetwork));
  }

  /** @param {boolean} works */
  #remember(works) {
    if (works) this.#offer = this.#tried;
    // Only what the hub says now was given a fair trial.
    if (!works && this.#isOfferOld) forget(this.url.origin, this.environment);
    else remember(this.url.origin, this.environment, { works, offer: this.#tried });
  }

  #tell;
  /** What is to be done. @type {Action[]} */
  #actions = [];
  #isRunning = false;
  /** @type {unknown} */
  #timer;
  #timerMs = Infinity;
  /** What the hub said of its WebTransport, where that worked. @type {unknown} */
  #offer = null;
  /** What the newest attempt was made with. @type {unknown} */
  #tried = null;
  #isOfferOld = false;
}

/** @type {readonly Kind[]} */
const KINDS = ['sse', 'webtransport'];
const TRANSPORTS = new Set(['auto', ...KINDS]);
/** What only some browsers need is loaded beside, when it is needed. @type {Record<Kind, Connect>} */
const CONNECTS = {
  sse: connectSse,
  webtransport: connectLater(() =>
    // With what it needs itself at the same time: one after the other, each would cost a round trip.
    Promise.all([
      import('./transport/webtransport.js'),
      import('./transport/control.js'),
      import('./discovery.js'),
      import('./frames.js'),
    ]).then(([{ connectWebTransport }]) => connectWebTransport),
  ),
};
const CONNECT_FETCH = connectLater(() => import('./transport/sse-fetch.js').then(({ connectSseFetch }) => connectSseFetch));
const CONNECT_TIMEOUT_MS = 10_000;
