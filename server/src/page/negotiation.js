// One feed as an application has it, over whichever transport is best, and what happened on the way there.

import { Fanwire } from '/client/fanwire.js';
import * as format from './format.js';
import { LABEL_FONT, Surface } from './surface.js';

/** @typedef {'webtransport' | 'sse'} Kind */
/** @typedef {'off' | 'connecting' | 'standby' | 'live' | 'waiting'} Stretch what a transport did for a while */
/** @typedef {{ atMs: number, kind: Kind, text: string, tone: '' | 'good' | 'bad' }} Entry */
/** @typedef {import('./surface.js').Pen} Pen */

export class NegotiationView {
  /**
   * @param {HTMLElement} element
   * @param {{ url: string, painter: import('./surface.js').Painter }} options
   */
  constructor(element, { url, painter }) {
    this.#list = /** @type {HTMLElement} */ (element.querySelector('ol'));
    this.#summary = /** @type {HTMLElement} */ (element.querySelector('.negotiation-now'));
    this.#url = url;
    painter.add(new Surface(/** @type {HTMLCanvasElement} */ (element.querySelector('canvas')), this.#draw));
    for (const box of element.querySelectorAll('input')) {
      const kind = /** @type {Kind} */ (box.dataset.block);
      const field = /** @type {HTMLElement} */ (box.closest('label'));
      if (!Fanwire.supports(kind)) field.hidden = true;
      box.addEventListener('change', () => this.block(kind, box.checked));
    }
  }

  start() {
    this.#startMs = performance.now();
    const feed = new Fanwire(this.#url, { heartbeat: HEARTBEAT_SECONDS, environment: this.#environment() });
    this.#feed = feed;
    feed.addEventListener('hello', ({ detail }) => this.#hello(detail));
    feed.addEventListener('transportchange', ({ detail }) => this.#change(detail));
    feed.addEventListener('gap', ({ detail }) => {
      this.gaps++;
      this.#add(detail.transport, `tells of a gap: ${detail.reason}`, 'bad');
    });
    feed.addEventListener('state', () => this.#follow());
    feed.addEventListener('message', () => this.events++);
    this.#follow();
  }

  /** Events that came; nothing lost and nothing twice, or a gap says so. */
  events = 0;
  gaps = 0;

  /** @returns {{ transport: Kind | null, events: number, gaps: number, duplicatesDropped: number, entries: string[] }} */
  stats() {
    const { events, gaps } = this;
    const entries = this.#entries.map(({ kind, text }) => `${NAMES[kind]} ${text}`);
    return { transport: this.#feed?.transport ?? null, events, gaps, duplicatesDropped: this.#feed?.duplicatesDropped ?? 0, entries };
  }

  /** Cuts a transport, as a network does; or lets it through again. @param {Kind} kind @param {boolean} isBlocked */
  block(kind, isBlocked) {
    if (this.#blocked.has(kind) === isBlocked) return;
    this.#add(kind, isBlocked ? 'is cut by hand' : 'is let through again');
    if (isBlocked) {
      this.#blocked.add(kind);
      for (const cut of this.#cuts[kind]) cut();
      this.#cuts[kind].clear();
    } else this.#blocked.delete(kind);
  }

  /** Writes down what is so now: a few times a second. */
  render() {
    const links = this.#feed?.links;
    const transport = this.#feed?.transport;
    let text = transport ? `${NAMES[transport]} delivers` : 'Nothing delivers now';
    const other = links?.webtransport;
    if (transport === 'sse') {
      const hint = !Fanwire.supports('webtransport') ? 'this browser has no WebTransport' : STATES[other?.state ?? 'off'];
      text += `; ${hint}`;
    }
    text += `. ${format.counted(this.events, 'event')} so far, ${this.gaps === 0 ? 'none lost, none twice' : format.counted(this.gaps, 'gap')}.`;
    if (this.#summary.textContent !== text) this.#summary.textContent = text;
  }

  /** @param {{ transport: Kind, cursor: string | null, connectMs: number }} hello */
  #hello({ transport, connectMs }) {
    this.#add(transport, `says hello, ${format.milliseconds(Math.round(connectMs))} after the attempt`);
  }

  /** @param {{ from: Kind | null, to: Kind | null }} change */
  #change({ from, to }) {
    const at = this.#feed?.cursor ? ` at ${this.#feed.cursor}` : '';
    if (to && from) this.#add(to, `takes over from ${NAMES[from]}${at}`, 'good');
    else if (to) this.#add(to, `delivers${at}`, 'good');
  }

  /** Notes what each transport does, whenever that has changed. */
  #follow() {
    const feed = this.#feed;
    if (!feed) return;
    const { links, transport } = feed;
    for (const kind of KINDS) {
      const link = links[kind];
      const stretch = !link ? 'off' : link.state === 'ready' ? (transport === kind ? 'live' : 'standby') : link.state;
      const last = this.#stretches[kind].at(-1);
      const before = last?.stretch ?? 'off';
      if (stretch === before) continue;
      this.#stretches[kind].push({ atMs: performance.now(), stretch });
      if (this.#stretches[kind].length > STRETCHES_MAX) this.#stretches[kind].shift();
      if (stretch === 'connecting') this.#add(kind, 'is tried');
      if (stretch === 'off' && before !== 'waiting') this.#add(kind, 'is closed: it isn’t needed');
      if (stretch !== 'waiting' || !link) continue;
      const next = `next try in ${((link.retryMs ?? 0) / 1000).toFixed(1)} s`;
      if (this.#entries.length === 0) this.#add(kind, 'lets WebTransport go first, which was as quick here the last time');
      else if (before === 'off') this.#add(kind, `waits: ${next}`);
      else this.#add(kind, `${before === 'connecting' ? 'fails' : 'is lost'}: ${link.reason}; ${next}`, before === 'connecting' ? '' : 'bad');
    }
  }

  /** @param {Kind} kind @param {string} text @param {Entry['tone']} [tone] */
  #add(kind, text, tone = '') {
    const entry = { atMs: performance.now() - this.#startMs, kind, text, tone };
    this.#entries.push(entry);
    if (this.#entries.length > ENTRIES_MAX) this.#entries.shift();
    const item = document.createElement('li');
    item.className = `${CLASSES[kind]} ${tone}`;
    const time = document.createElement('span');
    time.className = 'when';
    time.textContent = format.milliseconds(Math.round(entry.atMs));
    const who = document.createElement('b');
    who.textContent = NAMES[kind];
    const what = document.createElement('span');
    what.textContent = text;
    item.append(time, who, what);
    // Newest first, as it is the one that is looked for.
    this.#list.prepend(item);
    while (this.#list.children.length > ENTRIES_MAX) this.#list.lastElementChild?.remove();
  }

  /** Each transport's last minute, as a track. */
  #draw = (/** @type {Pen} */ { context, width, height, color }) => {
    const nowMs = performance.now();
    const left = TRACK_LEFT;
    const track = (height - AXIS_HEIGHT) / KINDS.length;
    const x = (/** @type {number} */ atMs) => width - ((nowMs - atMs) / WINDOW_MS) * (width - left);
    context.font = LABEL_FONT;
    context.textBaseline = 'middle';
    KINDS.forEach((kind, row) => {
      const middle = track * (row + 0.5);
      const tint = color(CLASSES[kind]);
      context.fillStyle = color('muted');
      context.fillText(kind === 'sse' ? 'SSE' : 'WebTransport', 0, middle);
      context.fillStyle = color('grid');
      context.fillRect(left, middle - 0.5, width - left, 1);
      const stretches = this.#stretches[kind];
      stretches.forEach(({ atMs, stretch }, i) => {
        const [from, to] = [Math.max(left, x(atMs)), x(stretches[i + 1]?.atMs ?? nowMs)];
        if (to <= left || stretch === 'off') return;
        const wide = Math.max(2, to - from);
        context.fillStyle = context.strokeStyle = tint;
        if (stretch === 'live') context.fillRect(from, middle - 8, wide, 16);
        else if (stretch === 'waiting') {
          context.setLineDash([2, 5]);
          context.lineWidth = 2;
          context.beginPath();
          context.moveTo(from, middle);
          context.lineTo(from + wide, middle);
          context.stroke();
          context.setLineDash([]);
        } else {
          context.lineWidth = 1.5;
          context.strokeRect(from + 0.75, middle - 7.25, Math.max(1, wide - 1.5), 14.5);
        }
      });
    });
    context.fillStyle = color('muted');
    context.textBaseline = 'alphabetic';
    const ends = [[left, 'a minute ago'], [width, 'now']];
    for (const [at, text] of /** @type {[number, string][]} */ (ends)) {
      context.textAlign = at === width ? 'right' : 'left';
      context.fillText(text, at, height - 3);
    }
    context.textAlign = 'left';
  };

  /** The browser's classes, with a switch that does what a network does: what is under way ends, what is new gets no answer. */
  #environment() {
    const blocked = this.#blocked;
    const cuts = this.#cuts;
    /** @type {Partial<import('/client/environment.js').Environment>} */
    const environment = {};
    const { EventSource, WebTransport } = globalThis;
    // What is cut by hand says nothing of the network.
    environment.storage = () => (blocked.size > 0 ? {} : localStorage);
    if (EventSource) {
      environment.EventSource = /** @type {any} */ (
        class {
          /** @param {string | URL} url @param {EventSourceInit} [init] */
          constructor(url, init) {
            // As where TCP vanishes: neither open nor refused.
            if (blocked.has('sse')) return Object.assign(new EventTarget(), { readyState: 0, close() {} });
            const source = new EventSource(url, init);
            cuts.sse.add(() => {
              source.close();
              source.dispatchEvent(new Event('error'));
            });
            return source;
          }
        }
      );
    }
    if (WebTransport) {
      environment.WebTransport = /** @type {any} */ (
        class {
          /** @param {string} url @param {WebTransportOptions} [options] */
          constructor(url, options) {
            if (blocked.has('webtransport')) {
              // As where UDP vanishes: neither ready nor refused.
              const never = new Promise(() => {});
              return { ready: never, closed: never, close() {} };
            }
            const session = new WebTransport(url, options);
            cuts.webtransport.add(() => session.close());
            return session;
          }
        }
      );
    }
    return environment;
  }

  #list;
  #summary;
  #url;
  /** @type {Fanwire | null} */
  #feed = null;
  #startMs = 0;
  /** @type {Entry[]} */
  #entries = [];
  /** @type {Record<Kind, { atMs: number, stretch: Stretch }[]>} */
  #stretches = { webtransport: [], sse: [] };
  /** @type {Set<Kind>} */
  #blocked = new Set();
  /** What ends the connections that were made. @type {Record<Kind, Set<() => void>>} */
  #cuts = { webtransport: new Set(), sse: new Set() };
}

/** @type {readonly Kind[]} */
const KINDS = ['webtransport', 'sse'];
/** @type {Record<Kind, string>} */
const NAMES = { webtransport: 'WebTransport', sse: 'SSE' };
/** Also the names of their colours. @type {Record<Kind, string>} */
const CLASSES = { webtransport: 'wt', sse: 'sse' };
/** What is with WebTransport while SSE delivers. */
const STATES = { off: 'WebTransport isn’t used here', connecting: 'WebTransport is being tried', ready: 'WebTransport is ready', waiting: 'WebTransport is tried again later' };
const WINDOW_MS = 60_000;
const TRACK_LEFT = 84;
const AXIS_HEIGHT = 18;
const ENTRIES_MAX = 60;
const STRETCHES_MAX = 200;
const HEARTBEAT_SECONDS = 5;
