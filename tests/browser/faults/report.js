// Results, written where `table.js` finds them.

import { appendFile } from 'node:fs/promises';

/**
 * @typedef {{ fault: string, browser: string, delivered: number, missing: number, gaps: string[], silenceMs: number }} FaultResult
 * @typedef {{ start: string, browser: string, eventSourceMs: number, fanwireMs: number, laterMs: number, chanceMs: number, over: string }} StartResult medians;
 *   `chanceMs`: what two bare EventSources differ by in the same run
 * @typedef {{ cut: string, browser: string, onMs?: Spread, backMs: Spread }} CutResult
 * @typedef {{ median: number, p95: number, most: number }} Spread
 */

/** @param {FaultResult | StartResult | CutResult} result */
export async function report(result) {
  const path = process.env.TESTS_RESULTS;
  if (path) await appendFile(path, `${JSON.stringify(result)}\n`);
}
