// The table of faults. Each breaks the network or the hub under a page that has a feed, while numbers are published all along.

import { setTimeout as delay } from 'node:timers/promises';

/** @typedef {import('./story.js').Story} Story */
/**
 * What a scenario has in its hands.
 * @typedef {object} Stage
 * @property {Awaited<ReturnType<typeof import('../support/hub.js').startHub>>} hub
 * @property {import('./network.js').Network} network
 * @property {ReturnType<typeof import('./publisher.js').startPublisher>} publisher
 * @property {'webtransport' | 'sse'} best transport of this browser
 * @property {() => Promise<Story>} open a feed, as an application does
 * @property {() => Promise<void>} reload the page
 */
/**
 * @typedef {object} Scenario
 * @property {string} name
 * @property {boolean} [needsWebTransport] it says nothing of a browser that has none
 * @property {boolean} [history] the hub keeps its log on disk
 * @property {string[]} [gaps] the reasons of those that are right; without it none is
 * @property {(stage: Stage) => Promise<Story>} run gives the story to be judged
 */

/** @type {Scenario[]} */
export const SCENARIOS = [
  {
    name: 'UDP is blocked from the start',
    needsWebTransport: true,
    async run({ network, publisher, open }) {
      await network.dropUdp();
      const story = await open();
      await story.over('sse');
      await publisher.more(120);
      await story.over('sse');
      return story;
    },
  },
  {
    name: 'UDP is cut in mid-stream, and comes back',
    needsWebTransport: true,
    async run({ network, publisher, open }) {
      const story = await open();
      await story.over('webtransport');
      await publisher.more(40);
      await network.dropUdp();
      await story.over('sse');
      await publisher.more(40);
      await network.restore();
      await story.over('webtransport', BACK_MS);
      await publisher.more(40);
      return story;
    },
  },
  {
    name: 'UDP is blocked, and memory says that it works',
    needsWebTransport: true,
    async run({ network, publisher, open, reload }) {
      const before = await open();
      await before.over('webtransport');
      await publisher.more(40);
      // So that it lets WebTransport go first.
      await before.favoursWebTransport();
      await before.close();
      await network.dropUdp();
      await reload();
      const story = await open();
      await story.over('sse');
      await publisher.more(120);
      return story;
    },
  },
  {
    name: 'everything is cut for 20 s',
    async run({ network, publisher, best, open }) {
      const story = await open();
      await story.over(best);
      await publisher.more(40);
      await network.dropAll();
      await delay(20_000);
      await network.restore();
      await story.next(BACK_MS);
      await story.over(best, BACK_MS);
      await publisher.more(40);
      return story;
    },
  },
  {
    name: '5 % of all packets are lost',
    async run({ network, publisher, open }) {
      await network.losePackets(0.05);
      const story = await open();
      await story.next();
      await publisher.more(400, 30_000);
      return story;
    },
  },
  {
    name: 'TCP is reset, again and again',
    async run({ network, publisher, open }) {
      // So that there is a feed on TCP.
      await network.dropUdp();
      const story = await open();
      for (let time = 0; time < 3; time++) {
        await story.over('sse', BACK_MS);
        await publisher.more(20);
        await network.resetTcp();
        await story.over(null);
        await publisher.more(20);
        await network.restore();
        await network.dropUdp();
      }
      await story.over('sse', BACK_MS);
      await publisher.more(20);
      return story;
    },
  },
  {
    name: 'the hub is killed, and restarts with its history',
    history: true,
    async run({ hub, publisher, best, open }) {
      const story = await open();
      await story.over(best);
      await publisher.more(40);
      await hub.kill();
      await delay(1000);
      await hub.start();
      await publisher.more(40);
      await story.next(BACK_MS);
      return story;
    },
  },
  {
    name: 'the hub is killed, and restarts with nothing',
    gaps: ['new_epoch'],
    async run({ hub, network, publisher, best, open }) {
      const story = await open();
      await story.over(best);
      await publisher.more(40);
      // What is published now the page can't have, and nobody will have it.
      await network.dropAll();
      await publisher.more(20);
      await hub.kill();
      await hub.start();
      await network.restore();
      await publisher.more(40);
      await story.next(BACK_MS);
      return story;
    },
  },
];

/** Within that a client is back, whatever it was: its longest pause between two attempts over WebTransport is 25 s. */
export const BACK_MS = 30_000;
