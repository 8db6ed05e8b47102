// The client: one feed with EventSource's face, over whichever transport delivers.

import { formatCursor } from './cursor.js';
import { Driver } from './driver.js';

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
 * @property {'ordered' | 'per-topic' | 'datagram'} [delivery] how events come over WebTransport; over SSE always in order. `per-topic`: in order within
 *   each topic, so that what one loses holds up no other. `datagram`: what is lost isn't sent again, and the newest of a topic wins
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
    return (kind === 'sse' ? 'EventSource' : 'WebTransport') in globalThis;
  }

  /**
   * @param {string | URL} url of the feed, with its topics: `/events?topic=orders`
   * @param {FanwireOptions} [options]
   */
  constructor(url, options = {}) {
    super();
    this.#driver = new Driver(url, options, (action) => this.#tell(action));
    // The handlers come before the listeners, whenever the application gives them.
    for (const type of HANDLED) this.addEventListener(type, (event) => this[`on${type}`]?.(event));
    this.#driver.begin();
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
    return this.#driver.position.duplicates;
  }

  /** @type {((event: any) => void) | null} */
  onopen = null;
  /** @type {((event: any) => void) | null} */
  onmessage = null;
  /** @type {((event: any) => void) | null} */
  onerror = null;

  /**
   * @override
   * @param {string} type
   * @param {((event: any) => void) | EventListenerObject | null} listener
   * @param {boolean | AddEventListenerOptions} [options]
   */
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
    // EventSource tells only of the types that somebody asked it for.
    if (listener) this.#driver.listen(type);
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
   * The feed as an async iterator, of what comes from now on.
   * @param {import('./iterator.js').IteratorOptions} [options]
   * @returns {AsyncGenerator<any, void, void>}
   */
  events({ types = ['message'], queueMax } = {}) {
    /** What comes before the iterator is loaded, which then listens itself. @type {Event[]} */
    const early = [];
    const hear = (/** @type {Event} */ event) => void (early.length < EARLY_MAX && early.push(event));
    const heard = [...types, 'gap', 'error', 'state'];
    for (const type of heard) this.addEventListener(type, hear);
    /** @param {Fanwire} feed */
    const give = async function* (feed) {
      const { iterate } = await import('./iterator.js').finally(() => {
        for (const type of heard) feed.removeEventListener(type, hear);
      });
      yield* iterate(feed, heard, early, queueMax);
    };
    return give(this);
  }

  [Symbol.asyncIterator]() {
    return this.events();
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
    this.#driver.close();
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
    const { name, ...detail } = action;
    const place = 'cursor' in action && action.cursor;
    const cursor = place ? formatCursor(place) : null;
    if (name === 'event') {
      const { type, data, topic, at, id, transport } = action;
      const lastEventId = cursor ?? id ?? '';
      const message = new MessageEvent(type, { data, lastEventId, origin: this.#driver.url.origin });
      this.#fire(message, { cursor, seq: place ? place.seq : null, topic, at, id: id ?? lastEventId, transport });
    } else if (name === 'error') {
      const { reason, transport, code = null, status = null, isTerminal } = action;
      this.#fire(new Event(name), { reason, transport, code, status, isTerminal });
    } else this.#fire(new CustomEvent(name, { detail: name === 'state' ? this.state : place ? { ...detail, cursor } : detail }));
  }

  /** @param {Event} event @param {EventOrigin | Failure} [fanwire] */
  #fire(event, fanwire) {
    this.dispatchEvent(fanwire ? Object.assign(event, { fanwire }) : event);
  }

  #driver;
  /** @type {Promise<unknown>} */
  #changes = Promise.resolve();
}

/** Events that an iterator keeps until it is loaded. */
export const EARLY_MAX = 1000;
const HANDLED = /** @type {const} */ (['open', 'message', 'error']);
