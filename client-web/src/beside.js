// What joins a feed a moment after it began, when nothing of it can be in the first event's way: WebTransport and the choice between the
// two, what is learned of it, and what the page and the network tell.

import { Choice, probe, rest } from './choice.js';
import { KEY, WORKS_MS } from './recall.js';

/** @typedef {import('./driver.js').Driver} Driver */
/** @typedef {import('./transport/transport.js').Request} Request */
/** @typedef {Extract<import('./negotiation.js').Action, { name: 'remember' }>} Remember */

/** @param {Driver} driver @param {number} loadMs how long this took to be there */
export function join(driver, loadMs) {
  const { connects, negotiation, environment, options } = driver;
  const learner = new Learner(driver);
  watch(driver, learner);
  if (!driver.canChoose || (isWebKit(environment) && !options.webkit)) return;
  const { webtransport } = connects;
  connects.webtransport = (request) => webtransport(Object.assign(request, learner.take()));
  driver.remember = (learned) => learner.remember(learned);
  driver.run(new Choice(negotiation).join(driver.nowMs(), driver.known, loadMs));
}

/** Every browser of an iPhone too. [README, "WebKit"] @param {import('./environment.js').Environment} environment */
function isWebKit({ navigator = globalThis.navigator }) {
  const agent = navigator?.userAgent ?? '';
  return /AppleWebKit/.test(agent) && !/Chrom(e|ium)\//.test(agent);
}

/** When to try, and when to let go. @param {Driver} driver @param {Learner} learner */
function watch(driver, learner) {
  const { negotiation, environment, over } = driver;
  const { page = globalThis, document = globalThis.document, connection = /** @type {any} */ (globalThis.navigator)?.connection } = environment;
  /** @param {EventTarget | undefined} target @param {string} type @param {(event: any) => void} listener */
  const listen = (target, type, listener) => target?.addEventListener?.(type, listener, { signal: over.signal });
  /** @param {boolean} isNewNetwork */
  const tryNow = (isNewNetwork) => {
    // What is known is of another one.
    if (isNewNetwork) learner.forget();
    driver.run(probe(negotiation, driver.nowMs(), isNewNetwork));
  };
  // In a tab that is being closed Firefox often interrupts the first script that it runs. This one has nothing to lose.
  listen(page, 'pagehide', () => {});
  // Firefox would keep its WebTransport session, and the hub a subscriber that nobody is behind, for as long as the browser runs.
  listen(page, 'pagehide', ({ persisted }) => driver.run(rest(negotiation, persisted)));
  // Goes on at the cursor, where the page was kept as it was.
  listen(page, 'pageshow', ({ persisted }) => persisted && driver.start());
  listen(page, 'online', () => tryNow(true));
  listen(document, 'visibilitychange', () => document?.visibilityState === 'visible' && tryNow(false));
  const network = () => connection?.type ?? connection?.effectiveType;
  let known = network();
  // It also fires when an estimate of the network's speed has changed.
  listen(connection, 'change', () => known !== (known = network()) && tryNow(true));
}

/** Remembers whether WebTransport works to a hub, and where it is: for the next attempt, the next page, and the next feed of this one. */
class Learner {
  /** @param {Driver} driver */
  constructor(driver) {
    this.#driver = driver;
  }

  /**
   * What the hub offered when it worked. Only once, as what an attempt fails with isn't tried twice: a hub that came back may have
   * another certificate.
   * @returns {Required<Pick<Request, 'offer' | 'onOffer'>>}
   */
  take() {
    const { known } = this.#driver;
    const { offer = null } = known;
    known.offer = null;
    this.#tried = offer;
    this.#isOld = offer !== null;
    return {
      offer,
      onOffer: (said) => {
        this.#tried = said;
        this.#isOld = false;
      },
    };
  }

  /** @param {Remember} learned */
  remember({ works, sseMs, webtransportMs, isMeasured }) {
    // Only what the hub says now was given a fair trial.
    if (!works && this.#isOld) return this.forget();
    const { known, environment } = this.#driver;
    // What SSE takes is measured anew within a day: a page that WebTransport alone serves doesn't see it.
    const isKept = works && known.works && !isMeasured;
    const untilMs = isKept ? known.untilMs : environment.wallMs() + (works ? WORKS_MS : FAILS_MS);
    this.#driver.known = { works, sseMs, webtransportMs, offer: works ? this.#tried : null, untilMs };
    this.#write(() => (environment.storage()[this.#key] = JSON.stringify(this.#driver.known)));
  }

  forget() {
    this.#driver.known = { offer: this.#driver.known.offer };
    this.#write(() => delete this.#driver.environment.storage()[this.#key]);
  }

  /** @param {() => void} write */
  #write(write) {
    try {
      write();
    } catch {
      // Full, or forbidden.
    }
  }

  get #key() {
    return KEY + this.#driver.url.origin;
  }

  #driver;
  /** What the newest attempt was made with. @type {unknown} */
  #tried = null;
  #isOld = false;
}

/** Networks change while no page looks. */
const FAILS_MS = 10 * 60_000;
