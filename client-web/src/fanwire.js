// The client: one feed with EventSource's face, over whichever transport delivers.

import { formatCursor, parseControlId } from './cursor.js';
import { browserEnvironment } from './environment.js';
import { Link } from './link.js';
import { Malformed } from './message.js';
import { Position } from './position.js';
import { publish } from './publish.js';
import { connectSse } from './transport/sse.js';
import { connectWebTransport } from './transport/webtransport.js';

/** @typedef {import('./environment.js').Environment} Environment */
/** @typedef {import('./link.js').LinkStatus} LinkStatus */
/** @typedef {import('./message.js').Message} Message */
/** @typedef {import('./message.js').Hello} Hello */
/** @typedef {import('./message.js').Gap} Gap */
/** @typedef {import('./message.js').FeedEvent} FeedEvent */
/** @typedef {import('./transport/transport.js').Kind} Kind */
/** @typedef {import('./transport/transport.js').Connect} Connect */
/** @typedef {import('./transport/transport.js').End} End */
/** @typedef {import('./publish.js').Draft} Draft */
/** @typedef {import('./publish.js').Published} Published */

/**
 * @typedef {object} FanwireOptions
 * @property {'auto' | Kind} [transport] `auto`, the default: both, the better one delivers
 * @property {number} [heartbeat] seconds of silence after which the hub sends a sign of life, 1 to 120; the hub's default is 15
 * @property {string} [lastEventId] where to start: a cursor, a publisher's id, or `earliest`; without it the feed starts now
 * @property {boolean} [withCredentials] send cookies to another origin
 * @property {AbortSignal} [signal] closes the feed
 * @property {number} [connectTimeoutMs] for one attempt, from its start to the hub's hello; 10 s. Where UDP is blocked a browser
 *   would let WebTransport hang for half a minute
 * @property {Partial<Environment>} [environment] for tests: clock, timers, randomness, the browser's classes
 * @property {Partial<Record<Kind, Connect>>} [transports] for tests
 */
/**
 * What `event.fanwire` says of a delivered event, the same on every transport.
 * @typedef {object} EventOrigin
 * @property {string} cursor the event's place; may be given back as `lastEventId`
 * @property {number} seq
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
    this.#position = new Position(parseControlId(this.#startId ?? '')?.cursor ?? null);
    const transport = options.transport ?? 'auto';
    if (!TRANSPORTS.has(transport)) throw new TypeError(`no transport is called ${transport}`);

    const connectTimeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    const connects = { sse: connectSse, webtransport: connectWebTransport, ...options.transports };
    const available = {
      sse: Boolean(options.transports?.sse ?? this.#environment.EventSource),
      webtransport: Boolean(options.transports?.webtransport ?? this.#environment.WebTransport),
    };
    for (const kind of KINDS) {
      if (!available[kind] || (transport !== 'auto' && transport !== kind)) continue;
      this.#links[kind] = new Link({
        kind,
        connect: connects[kind],
        environment: this.#environment,
        connectTimeoutMs,
        request: () => this.#request(),
        onMessage: (link, message) => this.#take(link, message),
        onDown: (link, end) => this.#lose(link, end),
        onState: () => this.#tellState(),
      });
    }
    this.#begin(transport === 'auto' ? 'sse' : transport, options.signal);
  }

  /** The feed's URL, resolved. */
  get url() {
    return this.#url.href;
  }

  /** `CONNECTING`, `OPEN` once a transport delivers, or `CLOSED` for good. */
  get readyState() {
    return this.#readyState;
  }

  get withCredentials() {
    return this.#withCredentials;
  }

  /**
   * The transport that delivers now.
   * @returns {Kind | null}
   */
  get transport() {
    return this.#live?.kind ?? null;
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
    return { webtransport: this.#links.webtransport?.status ?? null, sse: this.#links.sse?.status ?? null };
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
    this.#links.sse?.listen(type);
  }

  /**
   * Publishes an event to this hub, with a POST.
   * @param {Draft} draft
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Published>}
   * @throws {import('./publish.js').PublishError}
   */
  publish(draft, { signal } = {}) {
    return publish(this.#url, draft, {
      environment: this.#environment,
      withCredentials: this.#withCredentials,
      ...(signal && { signal }),
    });
  }

  /** Ends the feed. `cursor` stays readable. */
  close() {
    if (this.#readyState === Fanwire.CLOSED) return;
    this.#readyState = Fanwire.CLOSED;
    this.#live = null;
    this.#over.abort();
    for (const kind of KINDS) this.#links[kind]?.close();
    this.#tellState();
  }

  /** @param {Kind} wanted @param {AbortSignal | undefined} signal */
  #begin(wanted, signal) {
    if (signal?.aborted) {
      this.close();
      return;
    }
    const { page } = this.#environment;
    const untilOver = { signal: this.#over.signal };
    signal?.addEventListener('abort', () => this.close(), { once: true, ...untilOver });
    // In a tab that is being closed Firefox often interrupts the first script that it runs. This one has nothing to lose.
    page?.addEventListener('pagehide', () => {}, untilOver);
    page?.addEventListener('pagehide', (event) => this.#leave(/** @type {PageTransitionEvent} */ (event)), untilOver);
    page?.addEventListener('pageshow', (event) => this.#comeBack(/** @type {PageTransitionEvent} */ (event)), untilOver);
    for (const kind of KINDS) this.#links[kind]?.open();
    if (!KINDS.some((kind) => this.#links[kind])) {
      // Later, as every failure, so that listeners can be added first.
      const name = wanted === 'sse' ? 'EventSource' : 'WebTransport';
      queueMicrotask(() => this.#giveUp({ reason: `${name} is not available in this browser` }, wanted));
    }
  }

  /**
   * The page goes away. Firefox would keep its WebTransport session, and the hub a subscriber that nobody is behind, for as
   * long as the browser runs.
   * @param {PageTransitionEvent} event
   */
  #leave({ persisted }) {
    const from = this.transport;
    this.#live = null;
    this.#readyState = Fanwire.CONNECTING;
    for (const kind of KINDS) this.#links[kind]?.close({ pageRests: persisted });
    // A listener may have closed the feed.
    if (from && this.#readyState === Fanwire.CONNECTING) this.#tell('transportchange', { from, to: null });
  }

  /** Goes on at the cursor, where the page was kept as it was. @param {PageTransitionEvent} event */
  #comeBack({ persisted }) {
    if (persisted) for (const kind of KINDS) this.#links[kind]?.open();
  }

  #request() {
    return {
      url: this.#url,
      lastEventId: this.cursor ?? this.#startId,
      heartbeatSeconds: this.#heartbeatSeconds,
      withCredentials: this.#withCredentials,
      types: this.#types,
    };
  }

  /** @param {Link} link @param {Message} message */
  #take(link, message) {
    if (message.name === 'hello') {
      this.#join(link, message);
      return;
    }
    // What no longer delivers, or not yet, is not heard: exactly one transport delivers at any moment.
    if (link !== this.#live) return;
    switch (message.name) {
      case 'event':
        this.#deliver(link.kind, message);
        break;
      case 'gap':
        if (this.#position.gap(message)) this.#tellGap(link.kind, message);
        break;
      case 'ping':
        this.#position.ping(message.watermark);
        break;
    }
  }

  /** @param {Link} link @param {Hello} hello */
  #join(link, hello) {
    const cursor = this.cursor;
    if (this.#position.start(hello) === 'beside') {
      if (cursor === link.lastEventId) throw new Malformed('the hub began elsewhere than it was asked to');
      // Both transports began without a cursor, and this one is ahead of what the other delivered.
      link.reopen();
      return;
    }
    const from = this.transport;
    const wasOpen = this.#readyState === Fanwire.OPEN;
    this.#live = link;
    this.#readyState = Fanwire.OPEN;
    const other = link.kind === 'sse' ? this.#links.webtransport : this.#links.sse;
    // In this order WebTransport always takes over: SSE is never opened while it delivers.
    if (link.kind === 'webtransport') other?.close();
    const { verdict, heartbeatMs } = hello;
    const { connectMs } = link.status;
    this.#tell('hello', { transport: link.kind, cursor: formatCursor(hello.cursor), verdict, heartbeatMs, connectMs });
    if (this.#live !== link) return;
    if (from !== link.kind) this.#tell('transportchange', { from, to: link.kind });
    if (this.#live === link && !wasOpen) this.dispatchEvent(new Event('open'));
    this.#tellState();
  }

  /** @param {Kind} transport @param {FeedEvent} event */
  #deliver(transport, event) {
    const { deliver, gap } = this.#position.event(event);
    if (gap) this.#tellGap(transport, gap);
    if (!deliver) {
      this.#duplicatesDropped++;
      return;
    }
    if (this.#readyState === Fanwire.CLOSED) return;
    const cursor = formatCursor(event.cursor);
    const message = new MessageEvent(event.type, { data: event.data, lastEventId: cursor, origin: this.#url.origin });
    /** @type {EventOrigin} */
    const fanwire = {
      cursor,
      seq: event.cursor.seq,
      topic: event.topic,
      at: event.at,
      id: event.id ?? cursor,
      transport,
    };
    this.dispatchEvent(Object.assign(message, { fanwire }));
  }

  /** @param {Kind} transport @param {Gap} gap */
  #tellGap(transport, { reason, from, to, cursor }) {
    this.#tell('gap', { transport, reason, from, to, cursor: formatCursor(cursor) });
  }

  /** @param {Link} link @param {End} end */
  #lose(link, end) {
    const wasLive = link === this.#live;
    const other = link.kind === 'sse' ? this.#links.webtransport : this.#links.sse;
    const hasOther = other !== undefined && (wasLive ? !end.isTerminal : other.state !== 'off');
    if (end.isTerminal && !hasOther) {
      this.#giveUp(end, link.kind);
      return;
    }
    if (!wasLive) {
      // While the other transport delivers, or may yet, a failed attempt is no news for an application.
      if (!this.#live && other?.state !== 'connecting') this.#tellError(end, link.kind, false);
      return;
    }
    this.#live = null;
    this.#readyState = Fanwire.CONNECTING;
    // Each of these may make the application close the feed.
    this.#tell('transportchange', { from: link.kind, to: null });
    if (this.#readyState === Fanwire.CONNECTING) this.#tellError(end, link.kind, false);
    if (this.#readyState === Fanwire.CONNECTING && link.kind === 'webtransport') other?.open();
  }

  /** @param {End} end @param {Kind} transport */
  #giveUp(end, transport) {
    if (this.#readyState === Fanwire.CLOSED) return;
    const from = this.transport;
    this.close();
    if (from) this.#tell('transportchange', { from, to: null });
    this.#tellError(end, transport, true);
  }

  /** @param {End} end @param {Kind} transport @param {boolean} isTerminal */
  #tellError(end, transport, isTerminal) {
    /** @type {Failure} */
    const fanwire = { reason: end.reason, transport, code: end.code ?? null, isTerminal };
    this.dispatchEvent(Object.assign(new Event('error'), { fanwire }));
  }

  #tellState() {
    this.#tell('state', { readyState: this.#readyState, transport: this.transport, links: this.links });
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
  /** @type {0 | 1 | 2} */
  #readyState = Fanwire.CONNECTING;
  /** @type {Partial<Record<Kind, Link>>} */
  #links = {};
  /** The link that delivers. @type {Link | null} */
  #live = null;
  /** Types that were ever listened to. @type {Set<string>} */
  #types = new Set();
  /** @type {Map<string, (event: any) => void>} */
  #handlers = new Map();
  #duplicatesDropped = 0;
  /** Lets go of the application's signal and of the page, which may outlive many feeds. */
  #over = new AbortController();
}

export { PublishError } from './publish.js';

/** @type {readonly Kind[]} */
const KINDS = ['sse', 'webtransport'];
const TRANSPORTS = new Set(['auto', ...KINDS]);
const CONNECT_TIMEOUT_MS = 10_000;
