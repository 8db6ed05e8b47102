// What every transport is to the rest: one attempt to get a feed, from its start to its one end.

/** @typedef {import('../message.js').Message} Message */
/** @typedef {import('../environment.js').Environment} Environment */
/** @typedef {'webtransport' | 'sse'} Kind */

/**
 * Why a connection ended.
 * @typedef {object} End
 * @property {string} reason for people
 * @property {number | null} [code] of BYE, where the hub gave one
 * @property {number | null} [status] of HTTP, where the hub refused with one
 * @property {number | null} [retryMs] when to come back, where the hub said so
 * @property {boolean} [isTerminal] coming back by oneself is of no use
 */

/**
 * @typedef {object} Request
 * @property {URL} url the feed's, as the application gave it
 * @property {() => string | null} lastEventId where to start; to be asked when the request is written, and not before
 * @property {number | undefined} heartbeat in seconds
 * @property {boolean} withCredentials
 * @property {ReadonlySet<string>} types of events that somebody listens to
 * @property {Environment} environment
 * @property {unknown} [offer] what the hub said of its WebTransport before; without it, it is to be asked
 * @property {(offer: unknown) => void} [onOffer] what it says now
 * @property {(() => Promise<import('../token.js').Tokens>) | null} tokens where to get what to show
 * @property {Pick<import('../driver.js').Driver, 'options' | 'negotiation'>} [driver] whom another delivery concerns
 * @property {(message: Message) => void} onMessage in the feed's order; never again after `onEnd` or `close()`
 * @property {(end: End) => void} onEnd once, and never after `close()`
 */

/**
 * @typedef {object} Closing
 * @property {boolean} [pageRests] the page goes into a back/forward cache: nothing of it runs from now on
 */

/**
 * @typedef {object} Connection
 * @property {(how?: Closing) => void} close at once, and silently
 * @property {(type: string) => void} listen to one more type of event
 * @property {(frameType: number, body: Record<string, unknown>) => Promise<void>} [request] asks the hub for something, in band, until it
 *   is in force; rejects with a `RequestError` where the hub refuses
 */

/** @typedef {(request: Request) => Connection} Connect */

/**
 * The URL of a feed: the application's own, with what this client adds. [PROTOCOL §2.1]
 * @param {Request} request
 * @returns {URL}
 */
export function feedUrl(request) {
  const url = new URL(request.url);
  const { searchParams } = url;
  const lastEventId = request.lastEventId();
  if (request.heartbeat) searchParams.set('heartbeat', `${request.heartbeat}`);
  if (lastEventId) searchParams.set('last_event_id', lastEventId);
  // What other hubs of the Mercure protocol call it.
  if (lastEventId && !lastEventId.startsWith('#')) searchParams.set('lastEventID', lastEventId);
  return url;
}

/** @param {any} error @returns {string} */
export function reasonOf(error) {
  return error?.message || String(error);
}
