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
    next: async (name, withinMs) => {
      const { entries, until } = accessTo(name);
      const from = entries.length;
      const { atMs, event } = await until('an event', () => entries.slice(from).find((entry) => entry.event), withinMs);
      return { atMs, transport: event.over };
    },
    close: (name) => stories.get(name).feed.close(),
  };

  function accessTo(name) {
    const story = stories.get(name);
    return { feed: story.feed, entries: story.entries, until: (...given) => story.until(...given) };
  }
}
