// What a page has when it begins: modules, and what it remembers of WebTransport.

/** What the client loads a moment later, and a page without a bundler is to preload. [client-web/README, "Without a bundler"] */
export const PRELOADED = ['beside.js', 'choice.js', 'transport/webtransport.js', 'transport/feed.js', 'frames.js'].map((path) => `/client/${path}`);

/**
 * Makes a page that remembers that WebTransport works remember that it was far quicker than SSE, as on a network where its connection is
 * to be made first. Runs inside the page.
 */
export function favourWebTransport() {
  for (const [key, value] of Object.entries(localStorage)) {
    const memory = JSON.parse(value);
    if (!memory.works) throw new Error(`this page doesn't know that WebTransport works: ${value}`);
    localStorage.setItem(key, JSON.stringify({ ...memory, sseMs: 10_000, webtransportMs: 1 }));
  }
}
