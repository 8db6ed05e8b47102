// Numbers as people read them. Pure.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** @param {number} value */
export function count(value) {
  return whole.format(value);
}

/** One event, two events. @param {number} value @param {string} noun */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? '' : 's'}`;
}

/** @param {number} value percent */
export function percent(value) {
  return `${value.toFixed(value < 9.95 ? 1 : 0)} %`;
}

/** Memory, in powers of 1024. @param {number} bytes */
export function memory(bytes) {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
}

/** Data on a wire, in powers of 1000. @param {number} bytes */
export function data(bytes) {
  return scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB']);
}

/** @param {number} bytesPerS */
export function rate(bytesPerS) {
  return `${data(bytesPerS)}/s`;
}

/** @param {number} ms */
export function milliseconds(ms) {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms < 10 && !Number.isInteger(ms) ? ms.toFixed(1) : count(ms)} ms`;
}

/** @param {number} seconds */
export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** @param {number} value @param {number} base @param {string[]} units */
function scaled(value, base, units) {
  let power = 0;
  let left = value;
  while (left >= base && power < units.length - 1) {
    left /= base;
    power++;
  }
  const digits = power === 0 || left >= 99.95 ? 0 : left >= 9.995 ? 1 : 2;
  return `${left.toFixed(digits)} ${units[power]}`;
}
