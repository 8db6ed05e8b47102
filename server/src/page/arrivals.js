// The publish box, and the list of what came back over each transport.

import * as format from './format.js';

/** @typedef {import('./panel.js').Arrival} Arrival */
/** @typedef {import('./panel.js').Panel} Panel */
/** @typedef {'webtransport' | 'sse'} Kind */
/**
 * @typedef {object} Row
 * @property {string} cursor
 * @property {string} topic
 * @property {string} type
 * @property {string | Uint8Array} data
 * @property {string} id
 * @property {number | null} sentMs when this page sent it; null where somebody else did
 * @property {Partial<Record<Kind, { latencyMs: number | null, isLate: boolean, nowMs: number }>>} came
 * @property {HTMLElement | null} element
 * @property {boolean} isStale
 */

export class ArrivalList {
  /** @param {HTMLOListElement} list @param {HTMLElement} empty @param {Record<Kind, Panel>} panels */
  constructor(list, empty, panels) {
    this.#list = list;
    this.#empty = empty;
    this.#panels = panels;
  }

  /** @param {Arrival} arrival */
  arrived({ kind, event, latencyMs, isLate, nowMs }) {
    const { cursor, topic, id } = event.fanwire;
    const row = this.#row(cursor, { topic: topic ?? '', type: event.type, data: event.data, id });
    if (!row) return;
    row.came[kind] = { latencyMs, isLate, nowMs };
    row.isStale = true;
  }

  /**
   * The hub took an event of this page's. It may have come back already.
   * @param {{ id: string, cursor: string }} published
   * @param {{ topic: string, type: string, data: string }} draft
   * @param {number} sentMs
   */
  published({ id, cursor }, { topic, type, data }, sentMs) {
    const row = this.#row(cursor, { topic, type: type || 'message', data, id });
    if (!row) return;
    row.sentMs = sentMs;
    row.isStale = true;
  }

  /** Writes down what changed; a flood of events is a few rows a second. */
  render() {
    const rows = [...this.#rows.values()];
    this.#empty.hidden = rows.length > 0;
    for (const row of rows) {
      // A wait for a broken transport ends without an event.
      const waits = !row.came.webtransport || !row.came.sse;
      if (!row.isStale && !waits) continue;
      row.isStale = false;
      const fresh = this.#draw(row);
      if (!row.element) {
        this.#list.prepend(fresh);
        row.element = fresh;
      } else if (!row.element.isEqualNode(fresh)) {
        row.element.replaceWith(fresh);
        row.element = fresh;
      }
    }
  }

  /** @param {string} cursor @param {{ topic: string, type: string, data: string | Uint8Array, id: string }} event */
  #row(cursor, event) {
    const known = this.#rows.get(cursor);
    if (known) return known;
    const oldest = this.#rows.values().next().value;
    if (this.#rows.size >= ROWS_KEPT && oldest) {
      // A feed that catches up brings events that have left the list already.
      if (seqOf(cursor) < seqOf(oldest.cursor) && epochOf(cursor) === epochOf(oldest.cursor)) return null;
      oldest.element?.remove();
      this.#rows.delete(oldest.cursor);
    }
    /** @type {Row} */
    const row = { cursor, ...event, sentMs: null, came: {}, element: null, isStale: true };
    this.#rows.set(cursor, row);
    return row;
  }

  /** @param {Row} row */
  #draw(row) {
    const data = typeof row.data === 'string' ? row.data : `${format.counted(row.data.length, 'byte')} of binary data`;
    const what = node('div', 'what', [
      node('p', 'topic', [
        node('b', '', row.topic),
        ...(row.type === 'message' ? [] : [node('span', 'chip', row.type)]),
        ...(row.sentMs === null ? [] : [node('span', 'chip mine', 'from here')]),
      ]),
      node('p', 'data', data.length > DATA_CHARS_MAX ? `${data.slice(0, DATA_CHARS_MAX)}…` : data),
      node('p', 'id', row.id),
    ]);
    return node('li', '', [what, this.#cell(row, 'webtransport'), this.#cell(row, 'sse')]);
  }

  /** @param {Row} row @param {Kind} kind */
  #cell(row, kind) {
    const came = row.came[kind];
    const name = node('span', 'via', kind === 'sse' ? 'SSE' : 'WebTransport');
    const tint = kind === 'sse' ? 'is-sse' : 'is-wt';
    if (!came) {
      const panel = this.#panels[kind];
      const why = panel.isUp ? '…' : panel.state === 'broken' ? 'when restored' : 'not connected';
      return node('p', `cell ${tint} waits`, [name, node('span', 'ms', why)]);
    }
    const ms = came.isLate ? 'caught up' : came.latencyMs === null ? 'here' : format.milliseconds(came.latencyMs);
    const tripMs = row.sentMs === null || came.isLate ? null : came.nowMs - row.sentMs;
    const trip = tripMs === null ? [] : [node('span', 'trip', `round trip ${format.milliseconds(Math.round(tripMs * 10) / 10)}`)];
    return node('p', `cell ${tint}`, [name, node('span', 'ms', ms), ...trip]);
  }

  #list;
  #empty;
  #panels;
  /** By cursor, oldest first. @type {Map<string, Row>} */
  #rows = new Map();
}

/**
 * Lets the form publish.
 * @param {HTMLFormElement} form
 * @param {HTMLElement} status
 * @param {Record<Kind, Panel>} panels
 * @param {ArrivalList} list
 */
export function wirePublishForm(form, status, panels, list) {
  form.addEventListener('submit', async (submit) => {
    submit.preventDefault();
    const fields = new FormData(form);
    const [topic, type, data] = ['topic', 'type', 'data'].map((name) => String(fields.get(name) ?? ''));
    const draft = { topic: (topic ?? '').trim(), type: (type ?? '').trim(), data: data ?? '' };
    if (draft.type) for (const panel of Object.values(panels)) panel.listen(draft.type);
    const sentMs = performance.now();
    try {
      const published = await panels.sse.publish({ topic: draft.topic, data: draft.data, ...(draft.type && { type: draft.type }) });
      status.className = '';
      status.textContent = `Taken by the hub in ${format.milliseconds(Math.round((performance.now() - sentMs) * 10) / 10)}.`;
      list.published(published, draft, sentMs);
    } catch (error) {
      status.className = 'bad';
      // Of a fetch that fails each browser says something else, which helps nobody.
      const why = error instanceof TypeError ? 'the hub can’t be reached' : error instanceof Error ? error.message : String(error);
      status.textContent = `Not published: ${why}.`;
    }
  });
}

/**
 * @param {string} name
 * @param {string} className
 * @param {string | Node[]} content
 */
function node(name, className, content) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (typeof content === 'string') element.textContent = content;
  else element.append(...content);
  return element;
}

/** @param {string} cursor */
const seqOf = (cursor) => Number(cursor.slice(cursor.indexOf(':') + 1));
/** @param {string} cursor */
const epochOf = (cursor) => cursor.slice(0, cursor.indexOf(':'));

const ROWS_KEPT = 25;
const DATA_CHARS_MAX = 280;
