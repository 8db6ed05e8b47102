// One transport: its own feed, pinned to it, what it measured, and the buttons that break and restore it.

import { Fanwire } from '/client/fanwire.js';
import { drawHistogram, drawStrip } from './distribution.js';
import * as format from './format.js';
import { Meter } from './meter.js';
import { Surface } from './surface.js';

/** @typedef {'webtransport' | 'sse'} Kind */
/** @typedef {{ type: string, data: string | Uint8Array, fanwire: { cursor: string, seq: number, topic: string | null, at: number | null, id: string } }} Delivered */
/**
 * @typedef {object} Arrival
 * @property {Kind} kind
 * @property {Delivered} event
 * @property {number | null} latencyMs hub to page
 * @property {boolean} isLate it was published while this page was away
 * @property {number} nowMs of performance.now()
 */
/** @typedef {'starting' | 'open' | 'connecting' | 'broken' | 'closed'} PanelState */

export class Panel {
  /**
   * @param {Kind} kind
   * @param {{ url: string, painter: import('./surface.js').Painter, onArrival: (arrival: Arrival) => void, onState: () => void }} options
   */
  constructor(kind, options) {
    this.kind = kind;
    this.#options = options;
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById('panel-template'));
    this.element = /** @type {HTMLElement} */ (template.content.firstElementChild?.cloneNode(true));
    this.element.classList.add(CLASSES[kind]);
    this.element.dataset.transport = kind;
    this.#find('h3').textContent = NAMES[kind];
    this.#find('.how').textContent = HOWS[kind];
    for (const number of this.element.querySelectorAll('[data-number]')) {
      this.#numbers.set(/** @type {HTMLElement} */ (number).dataset.number ?? '', /** @type {HTMLElement} */ (number));
    }
    // For tests of a browser, which read the page and not its modules.
    this.#number('events').dataset.count = kind;
    const [strip, histogram] = this.element.querySelectorAll('canvas');
    this.#strip = /** @type {HTMLCanvasElement} */ (strip);
    this.#histogram = /** @type {HTMLCanvasElement} */ (histogram);
    const { painter } = options;
    painter.add(new Surface(this.#strip, (pen) => drawStrip(pen, this.meter.arrivals, performance.now(), CLASSES[kind])));
    painter.add(new Surface(this.#histogram, (pen) => drawHistogram(pen, this.meter.latencies, CLASSES[kind])));
    this.#break = /** @type {HTMLButtonElement} */ (this.#find('[data-action=break]'));
    this.#restore = /** @type {HTMLButtonElement} */ (this.#find('[data-action=restore]'));
    for (const button of [this.#break, this.#restore]) button.setAttribute('aria-label', `${button.textContent} ${NAMES[kind]}`);
    this.#break.addEventListener('click', () => {
      this.break();
      this.#restore.focus();
    });
    this.#restore.addEventListener('click', () => {
      this.restore();
      this.#break.focus();
    });
  }

  /** Counts what this feed brings; across breaks. */
  meter = new Meter();

  /** Another panel, that tells what is missed while this one is broken. @type {Panel | null} */
  other = null;

  /** Whether events may come now. */
  get isUp() {
    return this.state === 'open';
  }

  get isSupported() {
    return Fanwire.supports(this.kind);
  }

  start() {
    if (!this.isSupported) {
      this.#enter('closed');
      this.#find('.state-text').textContent = 'not available';
      this.#find('.body').hidden = true;
      this.#refuse(MISSING[this.kind]());
      return;
    }
    this.#open(null);
  }

  /** Drops the connection, as a network does; what is left of it is the cursor. */
  break() {
    if (!this.#feed) return;
    this.#cursor = this.#feed.cursor;
    this.#dropped += this.#feed.duplicatesDropped;
    this.#feed.close();
    this.#feed = null;
    this.#away = { sinceMs: performance.now(), otherEvents: this.other?.meter.events ?? 0 };
    this.#enter('broken');
  }

  /** Goes on at the cursor, with a new connection. */
  restore() {
    if ((this.#feed && this.state !== 'closed') || !this.isSupported) return;
    this.#open(this.#feed?.cursor ?? this.#cursor);
  }

  /** Asks for one more type of event: EventSource tells only of types that somebody listens to. @param {string} type */
  listen(type) {
    if (this.#types.has(type) || this.#types.size >= TYPES_MAX) return;
    this.#types.add(type);
    this.#feed?.addEventListener(type, this.#onEvent);
  }

  /** @param {Parameters<Fanwire['publish']>[0]} draft */
  publish(draft) {
    // A closed feed can publish too: it is a POST.
    return (this.#feed ?? new Fanwire(this.#options.url, { signal: AbortSignal.abort() })).publish(draft);
  }

  stats() {
    const { meter } = this;
    return {
      supported: this.isSupported,
      state: this.state,
      reason: this.#reason,
      cursor: this.#feed?.cursor ?? this.#cursor,
      connectMs: meter.connectMs,
      events: meter.events,
      bytes: meter.bytes,
      reconnects: meter.reconnects,
      caughtUp: meter.caughtUp,
      lost: meter.lost,
      gaps: meter.gaps,
      duplicates: meter.duplicates,
      duplicatesDropped: this.#dropped + (this.#feed?.duplicatesDropped ?? 0),
      latency: {
        now: meter.latencies.newest,
        p50: meter.latencies.quantile(0.5),
        p99: meter.latencies.quantile(0.99),
        samples: meter.latencies.size,
      },
    };
  }

  /** Writes the numbers down: a few times a second, so that they can be read. */
  render() {
    const { meter } = this;
    const { latencies } = meter;
    const [p50, p99] = [latencies.quantile(0.5), latencies.quantile(0.99)];
    this.#write('connect', meter.connectMs === null ? '–' : format.milliseconds(meter.connectMs));
    this.#write('events', format.count(meter.events));
    this.#write('rate', `${format.count(meter.arrivals.perSecond(performance.now()))} /s`);
    this.#write('bytes', format.data(meter.bytes));
    this.#write('caughtUp', format.count(meter.caughtUp));
    this.#write('reconnects', format.count(meter.reconnects));
    this.#write('lost', `${format.count(meter.lost)}${meter.lostUncounted > 0 ? ' + ?' : ''}`);
    this.#write('duplicates', format.count(meter.duplicates));
    this.#number('lost').classList.toggle('bad', meter.gaps > 0);
    this.#number('duplicates').classList.toggle('bad', meter.duplicates > 0);
    this.#write('now', this.isUp && latencies.newest !== null ? format.milliseconds(latencies.newest) : '–');
    this.#write('p50', p50 === null ? '–' : format.milliseconds(p50));
    this.#write('p99', p99 === null ? '–' : format.milliseconds(p99));
    const distribution = p50 === null ? 'no events yet' : `p50 ${p50} ms, p99 ${p99} ms, of ${format.counted(latencies.size, 'event')}`;
    this.#histogram.setAttribute('aria-label', `Distribution of the latency: ${distribution}`);
    this.#tellStory();
  }

  /** @type {PanelState} */
  state = 'starting';

  /** @param {string | null} cursor */
  #open(cursor) {
    const feed = new Fanwire(this.#options.url, {
      transport: this.kind,
      heartbeat: HEARTBEAT_SECONDS,
      ...(cursor && { lastEventId: cursor }),
    });
    this.#feed = feed;
    feed.addEventListener('hello', ({ detail }) => {
      this.meter.hello({ connectMs: detail.connectMs, wallMs: Date.now() });
      this.#backMs = this.#away ? performance.now() : null;
      this.#caughtUpMs = null;
      this.#lostBefore = this.meter.lost;
      this.#lostUncountedBefore = this.meter.lostUncounted;
    });
    feed.addEventListener('gap', ({ detail }) => this.meter.gap(detail));
    feed.addEventListener('state', () => this.#follow(feed));
    feed.addEventListener('error', (event) => {
      if (event instanceof MessageEvent) return;
      this.#reason = /** @type {any} */ (event).fanwire.reason;
      // What a broken connection missed is told in the same way as what a button made it miss.
      if (this.isUp) {
        this.#away = { sinceMs: performance.now(), otherEvents: this.other?.meter.events ?? 0 };
      }
      this.#follow(feed);
    });
    feed.addEventListener('message', this.#onEvent);
    for (const type of this.#types) feed.addEventListener(type, this.#onEvent);
    this.#follow(feed);
  }

  /** @param {Fanwire} feed */
  #follow(feed) {
    if (feed !== this.#feed) return;
    this.#enter(feed.readyState === Fanwire.OPEN ? 'open' : feed.readyState === Fanwire.CLOSED ? 'closed' : 'connecting');
    const link = feed.links[this.kind];
    if (this.isUp) this.#refuse(null);
    else if (link?.reason) this.#refuse(`${sentence(link.reason)} Trying again by itself.`);
    else if (this.state === 'closed' && this.#reason) this.#refuse(sentence(this.#reason));
  }

  #onEvent = (/** @type {Delivered} */ event) => {
    if (!event.fanwire) return;
    const nowMs = performance.now();
    const { cursor, seq, at } = event.fanwire;
    const bytes = typeof event.data === 'string' ? ENCODER.encode(event.data).length : event.data.length;
    const epoch = cursor.slice(1, cursor.indexOf(':'));
    const { latencyMs, isLate } = this.meter.event({ epoch, seq, at, bytes }, { wallMs: Date.now(), nowMs });
    if (isLate) this.#caughtUpMs = nowMs;
    this.#options.onArrival({ kind: this.kind, event, latencyMs, isLate, nowMs });
  };

  /** @param {PanelState} state */
  #enter(state) {
    if (state === this.state) return;
    this.state = state;
    this.element.dataset.state = state;
    this.#find('.state-text').textContent = STATES[state];
    // What the hub ended for good is only tried again by hand.
    const canRestore = state === 'broken' || (state === 'closed' && this.isSupported);
    this.#restore.hidden = !canRestore;
    this.#break.hidden = canRestore;
    this.#options.onState();
  }

  /** @param {string | null} reason */
  #refuse(reason) {
    const trouble = this.#find('.trouble');
    trouble.hidden = reason === null;
    if (trouble.textContent !== reason) trouble.textContent = reason;
  }

  #tellStory() {
    const story = this.#find('.story');
    const text = this.#story();
    if (story.textContent === text) return;
    // Read out once it is over, and not while it counts.
    story.setAttribute('aria-live', this.isUp ? 'polite' : 'off');
    story.textContent = text;
  }

  #story() {
    const away = this.#away;
    if (!away) return '';
    if (!this.isUp) {
      const seconds = Math.floor((performance.now() - away.sinceMs) / 1000);
      const missed = this.other?.isUp ? `, ${format.counted(this.other.meter.events - away.otherEvents, 'event')} missed so far` : '';
      return `Away for ${format.duration(seconds)}${missed}.`;
    }
    const { meter } = this;
    const lost = meter.lost - this.#lostBefore;
    const ends = lost === 0 ? 'none lost, none twice' : `at most ${format.counted(lost, 'event')} no longer kept by the hub`;
    if (meter.lostUncounted > this.#lostUncountedBefore) {
      return 'Back, but the hub has begun a new log: what it took meanwhile before that is gone, and nobody knows how much.';
    }
    const tookMs = this.#caughtUpMs === null || this.#backMs === null ? 0 : this.#caughtUpMs - this.#backMs;
    const took = tookMs >= 1 ? ` in ${format.milliseconds(Math.round(tookMs))}` : '';
    return `Back at its cursor. ${format.counted(meter.caughtUpNow, 'missed event')} caught up${took}, ${ends}.`;
  }

  /** @param {string} selector */
  #find(selector) {
    return /** @type {HTMLElement} */ (this.element.querySelector(selector));
  }

  /** @param {string} name */
  #number(name) {
    return /** @type {HTMLElement} */ (this.#numbers.get(name));
  }

  /** @param {string} name @param {string} text */
  #write(name, text) {
    const element = this.#number(name);
    if (element.textContent !== text) element.textContent = text;
  }

  #options;
  #strip;
  #histogram;
  #break;
  #restore;
  /** @type {Map<string, HTMLElement>} */
  #numbers = new Map();
  /** @type {Fanwire | null} */
  #feed = null;
  /** @type {string | null} */
  #cursor = null;
  /** @type {Set<string>} */
  #types = new Set();
  /** @type {{ sinceMs: number, otherEvents: number } | null} */
  #away = null;
  /** @type {number | null} */
  #backMs = null;
  /** @type {number | null} */
  #caughtUpMs = null;
  #lostBefore = 0;
  #lostUncountedBefore = 0;
  /** Duplicates that the clients of earlier connections kept away. */
  #dropped = 0;
  /** @type {string | null} */
  #reason = null;
}

/** @param {string} text */
function sentence(text) {
  const trimmed = text.trim().replace(/\.$/, '');
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}.`;
}

const ENCODER = new TextEncoder();
/** @type {Record<Kind, string>} */
const NAMES = { webtransport: 'WebTransport', sse: 'Server-Sent Events' };
/** @type {Record<Kind, string>} */
const HOWS = { webtransport: 'HTTP/3 on QUIC, one stream for the feed', sse: 'EventSource, one long HTTP response' };
/** Also the names of their colours. @type {Record<Kind, string>} */
const CLASSES = { webtransport: 'wt', sse: 'sse' };
/** @type {Record<PanelState, string>} */
const STATES = { starting: 'starting', open: 'open', connecting: 'connecting', broken: 'broken', closed: 'not connected' };
/** @type {Record<Kind, () => string>} */
const MISSING = {
  webtransport: () =>
    globalThis.isSecureContext
      ? 'This browser has no WebTransport. Nothing is broken: a page here would get the same feed over Server-Sent Events.'
      : 'Browsers offer WebTransport only to secure pages: open this one over https, or on localhost.',
  sse: () => 'This browser has no EventSource.',
};
/** Short, so that a dead path shows within ten seconds. */
const HEARTBEAT_SECONDS = 5;
const TYPES_MAX = 32;
