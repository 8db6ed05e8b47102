// What runs inside the page. It is sent there as text, so it uses nothing from outside itself.

/** Puts `globalThis.stories` in the page. */
export function installStory() {
  if (globalThis.stories) return;
  const stories = new Map();

  class Story {
    entries = [];
    #wakes = [];

    add(entry) {
      this.entries.push({ atMs: Date.now(), ...entry });
      for (const wake of this.#wakes.splice(0)) wake();
    }

    /** Waits until `find` finds something, and gives it. */
    async until(what, find, withinMs) {
      const deadlineMs = performance.now() + withinMs;
      for (;;) {
        const found = find();
        if (found) return found;
        const leftMs = deadlineMs - performance.now();
        if (leftMs <= 0) throw new Error(`not within ${withinMs} ms: ${what}; it saw ${this.#summary()}`);
        await new Promise((resolve) => {
          this.#wakes.push(resolve);
          setTimeout(resolve, leftMs);
        });
      }
    }

    #summary() {
      const events = this.entries.filter(({ event }) => event);
      const others = this.entries.filter(({ event }) => !event).slice(-20);
      return JSON.stringify({ events: events.length, newest: events.at(-1)?.event.n, links: this.feed?.links, others });
    }
  }

  globalThis.stories = {
    async open(name, url, options) {
      const { Fanwire } = await import('/client/fanwire.js');
      const story = new Story();
      stories.set(name, story);
      story.add({ opened: true });
      const feed = new Fanwire(url, options);
      story.feed = feed;
      feed.addEventListener('hello', ({ detail }) => story.add({ hello: detail }));
      feed.addEventListener('gap', ({ detail }) => story.add({ gap: detail }));
      feed.addEventListener('transportchange', ({ detail }) => story.add({ transport: detail.to }));
      feed.addEventListener('error', ({ fanwire }) => story.add({ error: fanwire?.reason ?? '' }));
      feed.onmessage = ({ data, fanwire }) => {
        story.add({ event: { n: parseInt(data, 10), cursor: fanwire.cursor, over: fanwire.transport } });
      };
    },
    entries: (name, from) => stories.get(name).entries.slice(from),
    over: async (name, transport, withinMs) => {
      const { feed, until } = accessTo(name);
      await until(`${transport} delivers`, () => feed.transport === transport, withinMs);
    },
    reaches: async (name, n, withinMs) => {
      const { entries, until } = accessTo(name);
      await until(`the number ${n}`, () => entries.findLast(({ event }) => event)?.event.n >= n, withinMs);
    },
    next: async (name, transport, withinMs) => {
      const { entries, until } = accessTo(name);
      const from = entries.length;
      const isIt = ({ event }) => event && (!transport || event.over === transport);
      const { atMs } = await until(`an event over ${transport ?? 'anything'}`, () => entries.slice(from).find(isIt), withinMs);
      return { atMs };
    },
    close: (name) => stories.get(name).feed.close(),
  };

  function accessTo(name) {
    const story = stories.get(name);
    return { feed: story.feed, entries: story.entries, until: (...given) => story.until(...given) };
  }
}

/**
 * How long the first event takes, from the constructor.
 * @param {'bare' | 'own' | 'again'} who
 * @param {string} url
 * @param {Record<string, string>} stored what the client is to remember
 * @param {string[]} preloaded modules
 * @returns {Promise<{ ms: number, transport: string }>}
 */
export async function firstEvent(who, url, stored, preloaded) {
  // Both have it loaded, so that both pages are the same.
  const { Fanwire } = await import('/client/fanwire.js');
  for (const path of preloaded) await import(path);
  localStorage.clear();
  for (const [key, value] of Object.entries(stored)) localStorage.setItem(key, value);
  const startMs = performance.now();
  const source = who === 'own' ? new Fanwire(url) : new EventSource(url);
  const event = await new Promise((resolve, reject) => {
    source.onmessage = resolve;
    setTimeout(() => reject(new Error(`no event within 10 s: ${JSON.stringify(source.links)}`)), 10_000);
  });
  const ms = performance.now() - startMs;
  source.close();
  return { ms, transport: event.fanwire?.transport ?? '' };
}

/**
 * Lets the client come to remember something.
 * @param {string} url
 * @param {boolean} works whether WebTransport does
 * @param {string[]} preloaded modules
 */
export async function learned(url, works, preloaded) {
  const { Fanwire } = await import('/client/fanwire.js');
  for (const path of preloaded) await import(path);
  localStorage.clear();
  const feed = new Fanwire(url);
  const deadlineMs = performance.now() + 20_000;
  while (localStorage.length === 0 || (works && feed.transport !== 'webtransport')) {
    if (performance.now() > deadlineMs) throw new Error(`nothing remembered: ${JSON.stringify(feed.links)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  feed.close();
}
