// The token that a feed shows: asked for when it is needed, and again before it expires.

import { renew } from './choice.js';
import { FRAME } from './frames.js';

/** @typedef {import('./driver.js').Driver} Driver */
/** What is shown of a feed. @typedef {Pick<Token, 'get' | 'expires'>} Tokens */
/** A JWT, or what gives one; where it gives the time as well, that one counts. @typedef {string | (() => TokenAnswer | Promise<TokenAnswer>)} TokenProvider */
/** @typedef {string | { token: string, expiresAtMs?: number }} TokenAnswer */

/**
 * The token of a feed that has one.
 * @param {Driver} driver
 * @returns {Tokens}
 */
export function tokensOf(driver) {
  let token = all.get(driver);
  if (!token) all.set(driver, (token = new Token(/** @type {TokenProvider} */ (driver.options.token), driver)));
  return token;
}

class Token {
  /** @param {TokenProvider} provider @param {Driver} driver */
  constructor(provider, driver) {
    this.#provider = provider;
    this.#driver = driver;
    this.#environment = driver.environment;
    driver.over.signal.addEventListener('abort', () => this.#environment.clearTimer(this.#timer));
  }

  /**
   * @param {string | null} [refused] is of no use, and neither is what is about to expire
   * @returns {Promise<string>}
   */
  async get(refused = null) {
    if (this.#environment.wallMs() >= this.#staleMs) this.#asked = null;
    // Both transports ask at once, and both may be refused: for one answer.
    const token = await this.#ask();
    if (token !== refused) return token;
    if (this.#newest === refused) this.#newest = this.#asked = null;
    return this.#ask();
  }

  /** @param {number} expiresAtMs what the hub says, or the token itself */
  expires(expiresAtMs) {
    const { wallMs, setTimer, clearTimer } = this.#environment;
    const leftMs = expiresAtMs - wallMs();
    this.#staleMs = expiresAtMs - Math.min(AHEAD_MS, leftMs / 2);
    clearTimer(this.#timer);
    if (leftMs > 0 && !this.#driver.negotiation.isClosed) this.#timer = setTimer(() => this.#renew(), Math.min(this.#staleMs - wallMs(), TIMER_MS_MAX));
  }

  /** Shows another one, some seconds before what was shown expires. */
  async #renew() {
    const { negotiation, connections } = this.#driver;
    try {
      this.#asked = null;
      const token = await this.#ask();
      const connection = negotiation.live && connections[negotiation.live];
      if (connection && connection.request) await connection.request(FRAME.AUTH, { token });
      else this.#driver.run(renew(negotiation, this.#driver.nowMs(), true));
    } catch {
      // The hub ends the feed when the old one has expired, and the next connection asks for a token again.
    }
  }

  async #ask() {
    const asked = (this.#asked ??= this.#fetch());
    try {
      return await asked;
    } catch (error) {
      if (this.#asked === asked) this.#asked = null;
      throw error;
    }
  }

  async #fetch() {
    const answer = typeof this.#provider === 'function' ? await this.#provider() : this.#provider;
    const { token, expiresAtMs = expiryOf(token) } = typeof answer === 'string' ? { token: answer } : answer;
    this.#newest = token;
    this.#staleMs = Infinity;
    if (expiresAtMs !== null) this.expires(expiresAtMs);
    return token;
  }

  #provider;
  #driver;
  #environment;
  /** @type {Promise<string> | null} */
  #asked = null;
  /** @type {string | null} */
  #newest = null;
  #staleMs = Infinity;
  /** @type {unknown} */
  #timer;
}

/** What a JWT says of its end. Nobody's word but its own, and good enough to ask for another. @param {string} token */
function expiryOf(token) {
  try {
    const payload = /** @type {string} */ (token.split('.')[1]).replaceAll('-', '+').replaceAll('_', '/');
    const { exp } = JSON.parse(atob(payload));
    return typeof exp === 'number' ? exp * 1000 : null;
  } catch {
    return null;
  }
}

/** @type {WeakMap<Driver, Token>} */
const all = new WeakMap();
const AHEAD_MS = 10_000;
const TIMER_MS_MAX = 2 ** 31 - 1;
