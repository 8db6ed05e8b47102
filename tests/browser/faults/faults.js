// Runs the table of faults in one browser.

import assert from 'node:assert/strict';
import { testIn } from '../support/browsers.js';
import { visit } from '../support/feed.js';
import { startHub } from '../support/hub.js';
import { temporaryDirectory } from '../support/process.js';
import { judge } from './judge.js';
import { Network, networkMissing } from './network.js';
import { startPublisher, TOPIC } from './publisher.js';
import { report } from './report.js';
import { BACK_MS, SCENARIOS } from './scenarios.js';
import { openStory } from './story.js';

/**
 * A test for each fault.
 * @param {import('../support/browsers.js').BrowserKind} kind
 * @param {{ hasWebTransport: boolean }} options
 */
export function testFaultsIn(kind, { hasWebTransport }) {
  const usable = { ...kind, missing: networkMissing || kind.missing };
  for (const scenario of SCENARIOS) {
    if (scenario.needsWebTransport && !hasWebTransport) continue;
    testIn(usable, scenario.name, run, { timeoutMs: TEST_MS });

    /** @param {import('node:test').TestContext} t @param {import('../support/browsers.js').Tab} tab */
    async function run(t, { page }) {
      const flags = scenario.history ? ['--data-dir', await directoryFor(t)] : [];
      const hub = await startHub(t, { flags });
      const network = new Network(t, hub);
      const publisher = startPublisher(t, hub);
      const reload = () => visit(page, hub.http);
      await reload();
      const open = () => openStory(page, `/events?topic=${TOPIC}`);
      const story = await scenario.run({ hub, network, publisher, best: hasWebTransport ? 'webtransport' : 'sse', open, reload });

      await network.restore();
      const published = await publisher.stop();
      const last = published.findLast(({ cursor }) => cursor !== null);
      await story.reaches(last?.n ?? 0, BACK_MS);
      const entries = await story.entries();
      const { faults, gaps, delivered, missing } = judge(published, entries);
      t.diagnostic(`${delivered} delivered, ${missing.length} missing, ${gaps.length} gaps, ${longestSilenceMs(entries)} ms of silence, ${network.hits} packets met the fault`);
      assert.equal(network.hits > 0, network.wasBroken, 'packets met the fault');
      assert.deepEqual(faults, []);
      assert.deepEqual(gaps, scenario.gaps ?? []);
      await report({ fault: scenario.name, browser: kind.name, delivered, missing: missing.length, gaps, silenceMs: longestSilenceMs(entries) });
    }
  }
}

/** Between one event and the next. @param {import('./story.js').Entry[]} entries */
function longestSilenceMs(entries) {
  const times = entries.filter(({ event }) => event).map(({ atMs }) => atMs);
  return Math.max(0, ...times.slice(1).map((atMs, i) => atMs - /** @type {number} */ (times[i])));
}

/** @param {import('node:test').TestContext} t */
async function directoryFor(t) {
  const directory = await temporaryDirectory();
  t.after(() => directory.remove());
  return directory.path;
}

const TEST_MS = 120_000;
