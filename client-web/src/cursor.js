// Positions in a hub's log, and the SSE ids that carry them. Pure.

/**
 * A position in a log: after the event `seq` of the log named `epoch`; 0 is before the first event.
 * @typedef {{ readonly epoch: string, readonly seq: number }} Cursor
 */

/**
 * What the id of an SSE event says with `control=1`. [PROTOCOL §4.2]
 * @typedef {object} ControlId
 * @property {Cursor} cursor
 * @property {number | null} at when the hub took the event, milliseconds since the Unix epoch
 * @property {string | null} topic the canonical topic
 * @property {boolean} binary the data is base64 of binary
 * @property {string | null} id the publisher's id
 */

/**
 * Parses `#<epoch>:<seq>`.
 * @param {unknown} text
 * @returns {Cursor | null} null where the text is no cursor
 */
export function parseCursor(text) {
  const match = typeof text === 'string' ? CURSOR.exec(text) : null;
  if (!match) return null;
  const seq = Number(match[2]);
  // Beyond 2^53 − 1 two numbers would look like one.
  return Number.isSafeInteger(seq) ? { epoch: /** @type {string} */ (match[1]), seq } : null;
}

/**
 * @param {Cursor} cursor
 * @returns {string}
 */
export function formatCursor(cursor) {
  return `#${cursor.epoch}:${cursor.seq}`;
}

/**
 * Parses the id of an SSE event of a feed with `control=1`.
 * @param {string} text
 * @returns {ControlId | null} null where the text is no such id
 * @throws where its topic makes no sense
 */
export function parseControlId(text) {
  // A publisher's id may hold spaces and semicolons, so the first space ends ours.
  const [own = ''] = text.split(' ', 1);
  const [position, ...attributes] = own.split(';');
  const cursor = parseCursor(position);
  if (!cursor) return null;
  // An attribute of a later version is in there too, and isn't looked for.
  const { t, n } = Object.fromEntries(attributes.map((attribute) => attribute.split('=')));
  return {
    cursor,
    at: Number(t) || null,
    topic: n ? decodeURIComponent(n) : null,
    binary: attributes.includes('b'),
    id: own === text ? null : text.slice(own.length + 1),
  };
}

const CURSOR = /^#([0-9a-v]{10}):(\d+)$/;
