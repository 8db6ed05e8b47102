// Where a hub has WebTransport. [PROTOCOL §7]

/** @typedef {import('./environment.js').Environment} Environment */
/**
 * @typedef {object} Endpoint
 * @property {URL} url
 * @property {{ algorithm: string, value: Uint8Array<ArrayBuffer> }[] | null} certificateHashes for a certificate that no browser knows
 */

/**
 * Asks the hub where its WebTransport endpoint is. Asked anew for every attempt: a hub that restarts may have a new
 * certificate.
 * @param {URL} feedUrl
 * @param {Environment} environment
 * @param {AbortSignal} signal
 * @returns {Promise<Endpoint>}
 */
export async function discoverWebTransport(feedUrl, environment, signal) {
  if (!environment.fetch) throw new Error('fetch is not available here');
  const response = await environment.fetch(new URL('/.well-known/fanwire', feedUrl), { cache: 'no-store', signal });
  if (response.status === 404 && feedUrl.protocol === 'https:') {
    // Behind something that passes nothing but the feed: with a public certificate its URL is enough.
    return { url: new URL(feedUrl), certificateHashes: null };
  }
  if (!response.ok) throw new Error(`/.well-known/fanwire answered ${response.status}`);
  return readDiscovery(await response.json(), feedUrl);
}

/**
 * @param {any} offer
 * @param {URL} feedUrl
 * @returns {Endpoint}
 */
export function readDiscovery(offer, feedUrl) {
  const webtransport = offer?.webtransport;
  if (!webtransport) throw new Error('this hub offers no WebTransport');
  const url = new URL(webtransport.url, feedUrl);
  if (!Array.isArray(webtransport.certificate_hashes)) return { url, certificateHashes: null };
  const certificateHashes = webtransport.certificate_hashes.slice(0, HASHES_MAX).map((/** @type {any} */ hash) => ({
    algorithm: String(hash.algorithm),
    value: Uint8Array.from(atob(hash.value), (char) => char.charCodeAt(0)),
  }));
  return { url, certificateHashes };
}

/** More than a hub with a current, a next and a last certificate needs. */
const HASHES_MAX = 16;
