// Where a hub has WebTransport. [PROTOCOL §7]

/** @typedef {import('./environment.js').Environment} Environment */

/**
 * Asks the hub what it says of its WebTransport.
 * @param {URL} feedUrl
 * @param {Environment} environment
 * @param {AbortSignal} signal
 * @returns {Promise<unknown>}
 */
export async function askForOffer(feedUrl, environment, signal) {
  const { fetch } = environment;
  if (!fetch) throw new Error('fetch is not available here');
  const response = await fetch(new URL('/.well-known/fanwire', feedUrl), { cache: 'no-store', signal }).catch((cause) => {
    // Each browser says something else of it, which helps nobody.
    throw new Error("the hub can't be reached", { cause });
  });
  // Behind something that passes nothing but the feed: with a public certificate its URL is enough.
  if (response.status === 404 && feedUrl.protocol === 'https:') return { url: feedUrl.pathname };
  if (!response.ok) throw new Error(`/.well-known/fanwire answered ${response.status}`);
  return (await response.json())?.webtransport;
}
