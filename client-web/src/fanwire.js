// The client: one feed with EventSource's face, over whichever transport delivers.

import { formatCursor } from './cursor.js';
import { Driver } from './driver.js';
import { browserEnvironment } from './environment.js';
import { iterate } from './iterator.js';

// Here, since the class needs them as it is made.
const CONNECTING = /** @type {const} */ (0);
const OPEN = /** @type {const} */ (1);
const CLOSED = /** @type {const} */ (2);

/** @typedef {import('./environment.js').Environment} Environment */
/** @typedef {import('./negotiation.js').Action} Action */
/** @typedef {import('./negotiation.js').LinkStatus} LinkStatus */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').Connect} Connect */
/** @typedef {import('./publish.js').Draft} Draft */
/** @typedef {import('./publish.js').Published} Published */

/**
 * @typedef {object} FanwireOptions
 * @property {'auto' | Kind} [transport] `auto`, the default: the best one that works. The others are for trying and for tests
 * @property {number} [heartbeat] seconds from one sign of life of the hub to the next, 1 to 120; the hub's default is 15. After
 *   one and a half of them without a byte the connection counts as dead
 * @property {import('./token.js').TokenProvider} [token] a JWT, or what gives one: asked before the first connection, again some seconds
 *   before it expires, and when it is refused. With it SSE is read with fetch
 * @property {'native' | 'fetch'} [sse] how SSE is read; `native`, the browser's EventSource, unless there is a token
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
  static CONNECTING = CONNECTING;
  static OPEN = OPEN;
  static CLOSED = CLOSED;
  CONNECTING = CONNECTING;
  OPEN = OPEN;
  CLOSED = CLOSED;

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
    const environment = { ...browserEnvironment(), ...options.environment };
    const resolved = new URL(url, environment.baseUrl);
    // As EventSource does with `Last-Event-ID`, what is given beside the URL wins over what is in it.
    const startId = options.lastEventId || resolved.searchParams.get('last_event_id');
    resolved.searchParams.delete('last_event_id');
    this.#driver = new Driver(resolved, startId, options, environment, (action) => this.#tell(action));
    const { signal, transport } = options;
    signal?.addEventListener('abort', () => this.close(), { once: true, signal: this.#driver.over.signal });
    if (signal?.aborted) this.close();
    else if (this.#driver.isUsable) this.#driver.begin();
    else {
      // Later, as every failure, so that listeners can be added first.
      queueMicrotask(() => {
        if (this.readyState === CLOSED) return;
        this.close();
        const kind = transport === 'webtransport' ? transport : 'sse';
        const end = { reason: `${kind === 'sse' ? 'EventSource' : 'WebTransport'} is not available in this browser` };
        this.#tell({ do: 'error', kind, end, isTerminal: true });
      });
    }
  }

  /** The feed's URL, resolved. */
  get url() {
    return this.#driver.url.href;
  }

  /** `CONNECTING`, `OPEN` once a transport delivers, or `CLOSED` for good. @returns {0 | 1 | 2} */
  get readyState() {
    const { isClosed, live } = this.#driver.negotiation;
    return isClosed ? CLOSED : live ? OPEN : CONNECTING;
  }

  get withCredentials() {
    return this.#driver.options.withCredentials ?? false;
  }

  /**
   * The transport that delivers now.
   * @returns {Kind | null}
   */
  get transport() {
    return this.#driver.negotiation.live;
  }

  /**
   * How far the feed is complete. Given as `lastEventId` to another Fanwire, over any transport, it goes on exactly there.
   * @returns {string | null} null before the first hello
   */
  get cursor() {
    const { cursor } = this.#driver.position;
    return cursor && formatCursor(cursor);
  }

  /**
   * What each transport is doing; null for one that isn't used, or that the browser doesn't have.
   * @returns {Record<Kind, LinkStatus | null>}
   */
  get links() {
    const { negotiation } = this.#driver;
    return { webtransport: negotiation.status('webtransport'), sse: negotiation.status('sse') };
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
    const { types, connections } = this.#driver;
    if (!listener || types.has(type)) return;
    // EventSource tells only of the types that somebody asked it for.
    types.add(type);
    for (const connection of connections.values()) connection.listen(type);
  }

  /** What `state` events tell. */
  get state() {
    return { readyState: this.readyState, transport: this.transport, links: this.links };
  }

  /**
   * Adds topics, from now on: nothing of them is replayed. Resolves once they are in force.
   * @param {...string} topics
   * @returns {Promise<void>}
   */
  subscribe(...topics) {
    return this.#changeTopics(true, topics);
  }

  /**
   * Takes topics away. Resolves once nothing of them comes any more.
   * @param {...string} topics
   * @returns {Promise<void>}
   */
  unsubscribe(...topics) {
    return this.#changeTopics(false, topics);
  }

  /**
   * The feed as an async iterator.
   * @param {import('./iterator.js').IteratorOptions} [options]
   */
  events(options) {
    return iterate(this, options);
  }

  [Symbol.asyncIterator]() {
    return iterate(this);
  }

  /**
   * Publishes an event to this hub, with a POST.
   * @param {Draft} draft
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Published>}
   * @throws {import('./publish.js').PublishError}
   */
  async publish(draft, { signal } = {}) {
    return (await import('./publish.js')).publishFrom(this.#driver, draft, signal);
  }

  /** Ends the feed. `cursor` stays readable. */
  close() {
    if (this.readyState !== CLOSED) this.#driver.close();
  }

  /** @param {boolean} adds @param {string[]} topics @returns {Promise<void>} */
  #changeTopics(adds, topics) {
    // One after the other, whatever became of the one before.
    const change = this.#changes.then(async () => (await import('./topics.js')).changeTopics(this.#driver, adds, topics));
    this.#changes = change.catch(() => {});
    return change;
  }

  /** @param {Action} action */
  #tell(action) {
    switch (action.do) {
      case 'event':
        this.#deliver(action.kind, action.event);
        break;
      case 'duplicate':
        this.#duplicatesDropped++;
        break;
      case 'gap': {
        const { reason, from, to, cursor } = action.gap;
        this.#fire('gap', { transport: action.kind, reason, from, to, cursor: formatCursor(cursor) });
        break;
      }
      case 'hello': {
        const { cursor, verdict = null, heartbeatMs = null } = action.hello ?? {};
        const { kind: transport, connectMs } = action;
        this.#fire('hello', { transport, cursor: cursor ? formatCursor(cursor) : null, verdict, heartbeatMs, connectMs });
        break;
      }
      case 'change':
        this.#fire('transportchange', { from: action.from, to: action.to });
        break;
      case 'open':
        this.dispatchEvent(new Event('open'));
        break;
      case 'error': {
        const { reason, code = null, status = null } = action.end;
        /** @type {Failure} */
        const fanwire = { reason, transport: action.kind, code, status, isTerminal: action.isTerminal };
        this.dispatchEvent(Object.assign(new Event('error'), { fanwire }));
        break;
      }
      case 'state':
        this.#fire('state', this.state);
    }
  }

  /** @param {Kind} transport @param {FeedEvent} event */
  #deliver(transport, { type, data, cursor: place, topic, at, id }) {
    const cursor = place && formatCursor(place);
    const lastEventId = cursor ?? id ?? '';
    const message = new MessageEvent(type, { data, lastEventId, origin: this.#driver.url.origin });
    /** @type {EventOrigin} */
    const fanwire = { cursor, seq: place ? place.seq : null, topic, at, id: id ?? lastEventId, transport };
    this.dispatchEvent(Object.assign(message, { fanwire }));
  }

  /** @param {string} type @param {unknown} detail */
  #fire(type, detail) {
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

  #driver;
  /** @type {Promise<unknown>} */
  #changes = Promise.resolve();
  /** @type {Map<string, (event: any) => void>} */
  #handlers = new Map();
  #duplicatesDropped = 0;
}

