// Publishing with a POST. [PROTOCOL §6.2]

/** @typedef {import('./environment.js').Environment} Environment */
/**
 * @typedef {object} Draft
 * @property {string | string[]} topic the first is canonical
 * @property {unknown} [data] text, binary (`Uint8Array`), or any JSON value, which is published as its text
 * @property {string} [id]
 * @property {string} [type]
 * @property {number} [retry] milliseconds
 * @property {boolean} [private]
 */
/** @typedef {{ id: string, cursor: string }} Published the event's id (the publisher's, or else the cursor), and its place */

/** The hub refused an event. */
export class PublishError extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.name = 'PublishError';
    /** HTTP status. */
    this.status = status;
    /** Stable, for programs. [PROTOCOL §2.3] */
    this.code = code;
  }
}

/**
 * @param {import('./driver.js').Driver} driver
 * @param {Draft} draft
 * @param {AbortSignal | undefined} signal
 */
export async function publishFrom(driver, draft, signal) {
  const { url, environment, options } = driver;
  return publish(url, draft, {
    environment,
    withCredentials: options.withCredentials ?? false,
    token: options.token === undefined ? undefined : await (await driver.tokens()).get(),
    ...(signal && { signal }),
  });
}

/**
 * @param {URL} feedUrl
 * @param {Draft} draft
 * @param {{ environment: Environment, withCredentials: boolean, token?: string | undefined, signal?: AbortSignal }} options
 * @returns {Promise<Published>}
 * @throws {PublishError}
 */
export async function publish(feedUrl, draft, { environment, withCredentials, token, signal }) {
  const { fetch } = environment;
  if (!fetch) throw new Error('fetch is not available here');
  const url = new URL(feedUrl);
  url.search = '';
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/json', ...(token && { Authorization: `Bearer ${token}` }) },
    body: JSON.stringify(toJson(draft)),
    credentials: withCredentials ? 'include' : 'same-origin',
    signal: signal ?? null,
  });
  // A proxy may answer in HTML.
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return { id: String(answer.id), cursor: String(answer.cursor) };
  const { code = 'http', message = `the hub answered ${response.status}` } = answer?.error ?? {};
  throw new PublishError(response.status, String(code), String(message));
}

/** @param {Draft} draft */
function toJson({ data, ...rest }) {
  if (!(data instanceof Uint8Array)) return { ...rest, data };
  return { ...rest, data_base64: base64(data) };
}

/** @param {Uint8Array} bytes */
function base64(bytes) {
  let binary = '';
  // In slices, since a call takes a bounded number of arguments.
  for (let i = 0; i < bytes.length; i += SLICE_BYTES) binary += String.fromCharCode(...bytes.subarray(i, i + SLICE_BYTES));
  return btoa(binary);
}

const SLICE_BYTES = 8192;
