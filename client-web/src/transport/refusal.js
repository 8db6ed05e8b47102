// Why a hub gave no feed. Loaded when that happens.

/** @typedef {import('./transport.js').Request} Request */
/** @typedef {import('./transport.js').End} End */

/**
 * Asks the same once more, to learn what EventSource keeps to itself: the status, and when to come back.
 * @param {URL} url
 * @param {Request} request
 * @param {AbortSignal} signal
 * @returns {Promise<End>}
 */
export async function askWhy(url, { environment: { fetch }, withCredentials }, signal) {
  try {
    const response = await fetch?.(url, {
      headers: { Accept: EVENT_STREAM },
      credentials: withCredentials ? 'include' : 'same-origin',
      cache: 'no-store',
      signal,
    });
    if (response) return await endOfResponse(response);
  } catch {
    // Cut off, or refused to other origins.
  }
  return { reason: 'the hub refused the event stream, or sent nothing' };
}

/**
 * @param {Response} response
 * @returns {Promise<End>}
 */
export async function endOfResponse(response) {
  const { status } = response;
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  const retryMs = seconds >= 0 ? seconds * 1000 : null;
  if (response.ok && status !== NO_CONTENT) {
    const reader = response.body?.getReader();
    const { value } = (await reader?.read()) ?? {};
    reader?.cancel().catch(() => {});
    const asked = /^retry: ?(\d+)$/m.exec(new TextDecoder().decode(value));
    return { reason: 'the hub ended the event stream before it began', retryMs: asked ? Number(asked[1]) : retryMs };
  }
  const error = (await response.json().catch(() => null))?.error;
  const reason = `the hub answered ${status}${error ? `: ${error.code}: ${error.message}` : ''}`;
  return { reason, status, retryMs, isTerminal: status < 500 && !PASSING.has(status) };
}

export const EVENT_STREAM = 'text/event-stream';
const NO_CONTENT = 204;
/** Statuses below 500 that pass: too slow, too early, too many. */
const PASSING = new Set([408, 425, 429]);
