// A WebTransport for a page on the stand-in hub: the same frames, over an HTTP response. Put into a page before its scripts.

/** Runs inside the page. */
export function installWebTransportStandIn() {
  globalThis.WebTransport = class {
    #aborter = new AbortController();
    constructor(url) {
      const frames = new URL('/stand-in/frames', location.href);
      frames.search = new URL(url).search;
      this.closed = new Promise((resolve, reject) => {
        this.#aborter.signal.addEventListener('abort', () => resolve({ closeCode: 0, reason: '' }));
        this.ready = fetch(frames, { signal: this.#aborter.signal }).then((response) => {
          this.incomingUnidirectionalStreams = new ReadableStream({ start: (streams) => streams.enqueue(response.body) });
        });
        this.ready.catch(reject);
      });
    }
    close() {
      this.#aborter.abort();
    }
  };
}
