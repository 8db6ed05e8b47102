// The client: one feed with EventSource's face, over whichever transport delivers.

import { formatCursor, parseControlId } from './cursor.js';
import { browserEnvironment } from './environment.js';
import { forget, recall, remember } from './memory.js';
import { Negotiation } from './negotiation.js';
import { Position } from './position.js';
import { connectLater } from './transport/later.js';
import { connectSse } from './transport/sse.js';

/** @typedef {import('./environment.js').Environment} Environment */
/** @typedef {import('./negotiation.js').Action} Action */
/** @typedef {import('./negotiation.js').LinkStatus} LinkStatus */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').Connect} Connect */
/** @typedef {import('./transport/transport.js').Connection} Connection */
/** @typedef {import('./transport/transport.js').End} End */
/** @typedef {import('./publish.js').Draft} Draft */
/** @typedef {import('./publish.js').Published} Published */

/**
 * @typedef {object} FanwireOptions
 * @property {'auto' | Kind} [transport] `auto`, the default: the best one that works. The others are for trying and for tests
 * @property {number} [heartbeat] seconds from one sign of life of the hub to the next, 1 to 120; the hub's default is 15. After
 *   one and a half of them without a byte the connection counts as dead
 * @property {string} [lastEventId] where to start: a cursor, a publisher's id, or `earliest`; without it the feed starts now
 * @property {boolean} [withCredentials] send cookies to another origin
 * @property {AbortSignal} [signal] closes the feed
 * @property {boolean} [webkit] use WebTransport in WebKit too. [README, "WebKit"]
 * @property {number} [connectTimeoutMs] for one attempt, from its start to the hub's hello; 10 s. Where UDP is blocked a browser
 *   would let WebTransport hang for half a minute
 * @property {Partial<Environment>} [environment] for tests: clock, timers, randomness, the browser's classes
 * @property {Partial<Record<Kind, Connect>>} [transports] for tests
 */
/**
 * What `event.fanwire` says of a delivered event, the same on every transport.
 * @typedef {object} EventOrigin
 * @property {string | null} cursor the event's place; may be given back as `lastEventId`. Null of a hub that has none
 * @property {number | null} seq
 * @property {string | null} topic the canonical topic
 * @property {number | null} at when the hub took it, milliseconds since the Unix epoch
 * @property {string} id the publisher's, or else the cursor: what the publisher got as the answer
 * @property {Kind} transport that brought it
 */
/**
 * What `event.fanwire` says of an `error`.
 * @typedef {object} Failure
 * @property {string} reason for people
 * @property {Kind} transport
 * @property {number | null} code of BYE, where the hub gave one
 * @property {number | null} status of HTTP, where the hub refused with one
 * @property {boolean} isTerminal the feed is closed, and won't come back by itself
 */

/**
 * A feed of events. Where the page wrote `new EventSource(url)` it writes `new Fanwire(url)`.
 *
 * Besides `open`, `error` and the events themselves it fires, each a CustomEvent with a `detail`:
 * - `hello` `{ transport, cursor, verdict, heartbeatMs, connectMs }`: a transport is up and about to deliver
 * - `transportchange` `{ from, to }`: another transport delivers now, or none (null)
 * - `gap` `{ transport, reason, from, to, cursor }`: events from `from` to `to` may be missing, at most these
 * - `state` `{ readyState, transport, links }`: anything about the connections changed
 *
 * Somebody may publish events of these types. Such an event is a MessageEvent, as every event from the hub is.
 */
export class Fanwire extends EventTarget {
  static CONNECTING = /** @type {const} */ (0);
  static OPEN = /** @type {const} */ (1);
  static CLOSED = /** @type {const} */ (2);
  CONNECTING = Fanwire.CONNECTING;
  OPEN = Fanwire.OPEN;
  CLOSED = Fanwire.CLOSED;

  /**
   * Whether this browser has a transport at all.
   * @param {Kind} kind
   */
  static supports(kind) {
    const { EventSource, WebTransport } = browserEnvironment();
    return (kind === 'sse' ? EventSource : WebTransport) !== undefined;
  }

  /**
   * @param {string | URL} url of the feed, with its topics: `/events?topic=orders`
   * @param {FanwireOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#environment = { ...browserEnvironment(), ...options.environment };
    this.#url = new URL(url, this.#environment.baseUrl);
    this.#heartbeatSeconds = options.heartbeat ?? null;
    this.#withCredentials = options.withCredentials ?? false;
    // As EventSource does with `Last-Event-ID`, what is given beside the URL wins over what is in it.
    this.#startId = options.lastEventId || this.#url.searchParams.get('last_event_id');
    this.#url.searchParams.delete('last_event_id');
    this.#position = new Position(this.#startId);
    const transport = options.transport ?? 'auto';
    if (!TRANSPORTS.has(transport)) throw new TypeError(`no transport is called ${transport}`);

    const { EventSource, WebTransport, isWebKit, random } = this.#environment;
    const isGated = isWebKit && !options.webkit && transport === 'auto';
    const available = {
      sse: options.transports?.sse ?? EventSource,
      webtransport: options.transports?.webtransport ?? (isGated ? undefined : WebTransport),
    };
    this.#connects = { ...CONNECTS, ...options.transports };
    this.#negotiation = new Negotiation({
      kinds: KINDS.filter((kind) => available[kind] && (transport === 'auto' || transport === kind)),
      position: this.#position,
      random,
      connectTimeoutMs: options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    });
    this.#begin(transport === 'auto' ? 'sse' : transport, options.signal);
  }

  /** The feed's URL, resolved. */
  get url() {
    return this.#url.href;
  }

  /** `CONNECTING`, `OPEN` once a transport delivers, or `CLOSED` for good. */
  get readyState() {
    if (this.#negotiation.isClosed) return Fanwire.CLOSED;
    return this.#negotiation.live ? Fanwire.OPEN : Fanwire.CONNECTING;
  }

  get withCredentials() {
    return this.#withCredentials;
  }

  /**
   * The transport that delivers now.
   * @returns {Kind | null}
   */
  get transport() {
    return this.#negotiation.live;
  }

  /**
   * How far the feed is complete. Given as `lastEventId` to another Fanwire, over any transport, it goes on exactly there.
   * @returns {string | null} null before the first hello
   */
  get cursor() {
    return this.#position.cursor && formatCursor(this.#position.cursor);
  }

  /**
   * What each transport is doing; null for one that isn't used, or that the browser doesn't have.
   * @returns {Record<Kind, LinkStatus | null>}
   */
  get links() {
    return { webtransport: this.#negotiation.status('webtransport'), sse: this.#negotiation.status('sse') };
  }

  /** How many events came again and were not delivered again. */
  get duplicatesDropped() {
    return this.#duplicatesDropped;
  }

  /** @returns {((event: any) => void) | null} */
  get onopen() {
    return this.#handlers.get('open') ?? null;
  }
  set onopen(handler) {
    this.#setHandler('open', handler);
  }

  /** @returns {((event: any) => void) | null} */
  get onmessage() {
    return this.#handlers.get('message') ?? null;
  }
  set onmessage(handler) {
    this.#setHandler('message', handler);
  }

  /** @returns {((event: any) => void) | null} */
  get onerror() {
    return this.#handlers.get('error') ?? null;
  }
  set onerror(handler) {
    this.#setHandler('error', handler);
  }

  /**
   * @override
   * @param {string} type
   * @param {((event: any) => void) | EventListenerObject | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
    if (!listener || this.#types.has(type)) return;
    // EventSource tells only of the types that somebody asked it for.
    this.#types.add(type);
    for (const { connection } of this.#connections.values()) connection.listen(type);
  }

  /**
   * Publishes an event to this hub, with a POST.
   * @param {Draft} draft
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Published>}
   * @throws {import('./publish.js').PublishError}
   */
  async publish(draft, { signal } = {}) {
    const { publish } = await import('./publish.js');
    return publish(this.#url, draft, {
      environment: this.#environment,
      withCredentials: this.#withCredentials,
      ...(signal && { signal }),
    });
  }

  /** Ends the feed. `cursor` stays readable. */
  close() {
    if (this.#negotiation.isClosed) return;
    // What was still to be told isn't any more.
    this.#actions = [];
    this.#over.abort();
    this.#run(this.#negotiation.close());
  }

  /** @param {Kind} wanted @param {AbortSignal | undefined} signal */
  #begin(wanted, signal) {
    if (signal?.aborted) {
      this.close();
      return;
    }
    const { page, document, connection } = this.#environment;
    const untilOver = { signal: this.#over.signal };
    signal?.addEventListener('abort', () => this.close(), { once: true, ...untilOver });
    // In a tab that is being closed Firefox often interrupts the first script that it runs. This one has nothing to lose.
    page?.addEventListener('pagehide', () => {}, untilOver);
    page?.addEventListener('pagehide', (event) => this.#leave(/** @type {PageTransitionEvent} */ (event)), untilOver);
    page?.addEventListener('pageshow', (event) => this.#comeBack(/** @type {PageTransitionEvent} */ (event)), untilOver);
    page?.addEventListener('online', () => this.#probe(true), untilOver);
    document?.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.#probe(false), untilOver);
    let network = nameOf(connection);
    // It also fires when an estimate of the network's speed has changed.
    connection?.addEventListener('change', () => network !== (network = nameOf(connection)) && this.#probe(true), untilOver);
    if (this.#negotiation.status('sse') || this.#negotiation.status('webtransport')) this.#start();
    else {
      // Later, as every failure, so that listeners can be added first.
      const reason = `${wanted === 'sse' ? 'EventSource' : 'WebTransport'} is not available in this browser`;
      queueMicrotask(() => {
        if (this.#negotiation.isClosed) return;
        this.close();
        this.#tellError({ reason }, wanted, true);
      });
    }
  }

  #start() {
    const memory = recall(this.#url.origin, this.#environment);
    this.#offer = memory?.offer ?? null;
    this.#run(this.#negotiation.start(this.#environment.nowMs(), memory?.works ?? null));
  }

  /**
   * The page goes away. Firefox would keep its WebTransport session, and the hub a subscriber that nobody is behind, for as
   * long as the browser runs.
   * @param {PageTransitionEvent} event
   */
  #leave({ persisted }) {
    this.#run(this.#negotiation.rest(persisted));
  }

  /** Goes on at the cursor, where the page was kept as it was. @param {PageTransitionEvent} event */
  #comeBack({ persisted }) {
    if (persisted) this.#start();
  }

  /** @param {boolean} isNewNetwork */
  #probe(isNewNetwork) {
    if (isNewNetwork) forget(this.#url.origin, this.#environment);
    this.#run(this.#negotiation.probe(this.#environment.nowMs(), isNewNetwork));
  }

  /**
   * Does what the negotiation decided, one thing after the other, whatever a listener does meanwhile.
   * @param {Action[]} actions
   */
  #run(actions) {
    this.#actions.push(...actions);
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let action; (action = this.#actions.shift()); ) this.#do(action);
    } finally {
      this.#isRunning = false;
    }
    this.#setTimer();
  }

  /** @param {Action} action */
  #do(action) {
    switch (action.do) {
      case 'connect':
        this.#connect(action.kind, action.attempt);
        break;
      case 'drop':
        this.#drop(action.kind, action);
        break;
      case 'event':
        this.#deliver(action.kind, action.event);
        break;
      case 'duplicate':
        this.#duplicatesDropped++;
        break;
      case 'gap': {
        const { reason, from, to, cursor } = action.gap;
        this.#tell('gap', { transport: action.kind, reason, from, to, cursor: formatCursor(cursor) });
        break;
      }
      case 'hello': {
        const { cursor, verdict = null, heartbeatMs = null } = action.hello ?? {};
        const { kind: transport, connectMs } = action;
        this.#tell('hello', { transport, cursor: cursor ? formatCursor(cursor) : null, verdict, heartbeatMs, connectMs });
        break;
      }
      case 'change':
        this.#tell('transportchange', { from: action.from, to: action.to });
        break;
      case 'open':
        this.dispatchEvent(new Event('open'));
        break;
      case 'error':
        if (action.isTerminal) this.#over.abort();
        this.#tellError(action.end, action.kind, action.isTerminal);
        break;
      case 'state':
        this.#tell('state', { readyState: this.readyState, transport: this.transport, links: this.links });
        break;
      case 'remember':
        this.#remember(action.works);
    }
  }

  /** @param {Kind} kind @param {number} attempt */
  #connect(kind, attempt) {
    const negotiation = this.#negotiation;
    const { nowMs } = this.#environment;
    const isWebTransport = kind === 'webtransport';
    const offer = isWebTransport ? this.#offer : null;
    if (isWebTransport) {
      // What an attempt fails with isn't tried twice: a hub that came back may have another certificate.
      this.#isOfferOld = offer !== null;
      this.#tried = offer;
      this.#offer = null;
    }
    /** @type {import('./transport/transport.js').Request} */
    const request = {
      url: this.#url,
      get lastEventId() {
        return negotiation.asking(kind, attempt);
      },
      heartbeatSeconds: this.#heartbeatSeconds,
      withCredentials: this.#withCredentials,
      types: this.#types,
      environment: this.#environment,
      offer,
      onOffer: (said) => {
        this.#isOfferOld = false;
        this.#tried = said;
      },
      onMessage: (message) => this.#run(negotiation.take(kind, attempt, message, nowMs())),
      onEnd: (end) => this.#run(negotiation.lose(kind, attempt, end, nowMs())),
    };
    try {
      this.#connections.set(kind, { attempt, connection: this.#connects[kind](request) });
    } catch (error) {
      request.onEnd({ reason: String(error) });
    }
  }

  /** @param {Kind} kind @param {import('./transport/transport.js').Closing} how */
  #drop(kind, { pageRests = false }) {
    const { connection } = this.#connections.get(kind) ?? {};
    this.#connections.delete(kind);
    connection?.close({ pageRests });
  }

  #setTimer() {
    const { setTimer, clearTimer, nowMs } = this.#environment;
    const { dueMs } = this.#negotiation;
    // One that is too early looks at the clock and is set anew: an event a millisecond must not set a timer a millisecond.
    if (this.#timerMs <= dueMs && dueMs < Infinity) return;
    clearTimer(this.#timer);
    this.#timerMs = dueMs;
    if (dueMs === Infinity) return;
    this.#timer = setTimer(() => {
      this.#timerMs = Infinity;
      this.#run(this.#negotiation.tick(nowMs()));
    }, Math.max(0, dueMs - nowMs()));
  }

  /** @param {boolean} works */
  #remember(works) {
    const { origin } = this.#url;
    if (works) this.#offer = this.#tried;
    // Only what the hub says now was given a fair trial.
    if (!works && this.#isOfferOld) forget(origin, this.#environment);
    else remember(origin, this.#environment, { works, offer: this.#tried });
  }

  /** @param {Kind} transport @param {FeedEvent} event */
  #deliver(transport, { type, data, cursor: place, topic, at, id }) {
    const cursor = place && formatCursor(place);
    const lastEventId = cursor ?? id ?? '';
    const message = new MessageEvent(type, { data, lastEventId, origin: this.#url.origin });
    /** @type {EventOrigin} */
    const fanwire = { cursor, seq: place ? place.seq : null, topic, at, id: id ?? lastEventId, transport };
    this.dispatchEvent(Object.assign(message, { fanwire }));
  }

  /** @param {End} end @param {Kind} transport @param {boolean} isTerminal */
  #tellError({ reason, code = null, status = null }, transport, isTerminal) {
    /** @type {Failure} */
    const fanwire = { reason, transport, code, status, isTerminal };
    this.dispatchEvent(Object.assign(new Event('error'), { fanwire }));
  }

  /** @param {string} type @param {unknown} detail */
  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {string} type @param {((event: any) => void) | null} handler */
  #setHandler(type, handler) {
    const old = this.#handlers.get(type);
    if (old) this.removeEventListener(type, old);
    this.#handlers.delete(type);
    if (typeof handler !== 'function') return;
    this.#handlers.set(type, handler);
    this.addEventListener(type, handler);
  }

  #environment;
  #url;
  #heartbeatSeconds;
  #withCredentials;
  /** Where the application asked to start: needed until the hub has answered with a cursor. */
  #startId;
  #position;
  #negotiation;
  #connects;
  /** @type {Map<Kind, { attempt: number, connection: Connection }>} */
  #connections = new Map();
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
  /** Types that were ever listened to. @type {Set<string>} */
  #types = new Set();
  /** @type {Map<string, (event: any) => void>} */
  #handlers = new Map();
  #duplicatesDropped = 0;
  /** Lets go of the application's signal and of the page, which may outlive many feeds. */
  #over = new AbortController();
}

/** @param {import('./environment.js').Environment['connection']} connection */
function nameOf(connection) {
  return connection?.type ?? connection?.effectiveType;
}

/** @type {readonly Kind[]} */
const KINDS = ['sse', 'webtransport'];
const TRANSPORTS = new Set(['auto', ...KINDS]);
/** What only some browsers need is loaded beside, when it is needed. @type {Record<Kind, Connect>} */
const CONNECTS = {
  sse: connectSse,
  webtransport: connectLater(() => import('./transport/webtransport.js').then(({ connectWebTransport }) => connectWebTransport)),
};
const CONNECT_TIMEOUT_MS = 10_000;
