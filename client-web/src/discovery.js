// Where a hub has WebTransport. [PROTOCOL §7]

/** @typedef {import('./environment.js').Environment} Environment */
/**
 * @typedef {object} Endpoint
 * @property {URL} url
 * @property {{ algorithm: string, value: Uint8Array<ArrayBuffer> }[] | null} certificateHashes for a certificate that no browser knows
 */

/**
 * Asks the hub what it says of its WebTransport.
 * @param {URL} feedUrl
 * @param {Environment} environment
 * @param {AbortSignal} signal
 * @returns {Promise<unknown>}
 */
export async function askForOffer(feedUrl, environment, signal) {
  if (!environment.fetch) throw new Error('fetch is not available here');
  const response = await environment.fetch(new URL('/.well-known/fanwire', feedUrl), { cache: 'no-store', signal });
  // Behind something that passes nothing but the feed: with a public certificate its URL is enough.
  if (response.status === 404 && feedUrl.protocol === 'https:') return { url: feedUrl.pathname };
  if (!response.ok) throw new Error(`/.well-known/fanwire answered ${response.status}`);
  return (await response.json())?.webtransport;
}

/**
 * @param {any} offer
 * @param {URL} feedUrl
 * @returns {Endpoint}
 * @throws where there is none, or none that can be used
 */
export function readOffer(offer, feedUrl) {
  if (!offer) throw new Error('this hub offers no WebTransport');
  const url = new URL(offer.url, feedUrl);
  if (!Array.isArray(offer.certificate_hashes)) return { url, certificateHashes: null };
  const certificateHashes = offer.certificate_hashes.slice(0, HASHES_MAX).map((/** @type {any} */ hash) => ({
    algorithm: String(hash.algorithm),
    value: Uint8Array.from(atob(hash.value), (char) => char.charCodeAt(0)),
  }));
  return { url, certificateHashes };
}

/** More than a hub with a current, a next and a last certificate needs. */
const HASHES_MAX = 16;
