import { readFileSync } from 'node:fs';

/** @param {string} name */
export function vectors(name) {
  return JSON.parse(readFileSync(new URL(`../../../shared/vectors/${name}.json`, import.meta.url), 'utf8'));
}

/** @param {string} hex */
export const bytesOf = (hex) => Uint8Array.from(Buffer.from(hex, 'hex'));

/** Every message that `bytes` hold when they come in chunks of `size`. */
export function* chunksOf(bytes, size) {
  for (let i = 0; i < bytes.length; i += size) yield bytes.slice(i, i + size);
}

/** What EventSource makes of one block of a stream. [WHATWG HTML §9.2.6] */
export function parseBlock(text) {
  const block = { type: 'message', lastEventId: '', data: '' };
  const data = [];
  for (const line of text.split('\n')) {
    const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (name === 'data') data.push(value);
    if (name === 'event') block.type = value;
    if (name === 'id') block.lastEventId = value;
  }
  block.data = data.join('\n');
  return block;
}
