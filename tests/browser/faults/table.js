// Prints what the faults cost, as Markdown: runs the table of faults and the measures, and needs root.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '../support/process.js';

/** @typedef {import('./report.js').FaultResult} FaultResult */
/** @typedef {import('./report.js').StartResult} StartResult */
/** @typedef {import('./report.js').CutResult} CutResult */

const HERE = fileURLToPath(new URL('.', import.meta.url));
const BROWSERS = ['Chromium', 'Firefox', 'WebKit'];

const directory = await temporaryDirectory();
const path = join(directory.path, 'results');
const faultTests = readdirSync(HERE).filter((name) => name.endsWith('.test.js'));
const runs = [await runTests(3, faultTests), await runTests(1, ['measures.js'])];
const results = (await readFile(path, 'utf8').catch(() => '')).trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
await directory.remove();
console.log([faultTable(), startTable(), cutTable()].join('\n\n'));
process.exitCode = Math.max(...runs);

/** @param {number} concurrency @param {string[]} files @returns {Promise<number>} the exit code */
async function runTests(concurrency, files) {
  const args = ['node', '--test', '--test-reporter=spec', `--test-concurrency=${concurrency}`, ...files.map((name) => join(HERE, name))];
  const env = { ...process.env, TESTS_RESULTS: path };
  // The table alone goes to standard output.
  const child = spawn(join(HERE, 'isolated'), args, { env, stdio: ['ignore', 2, 2] });
  const [code] = await once(child, 'close');
  return code ?? 1;
}

function faultTable() {
  const rows = /** @type {FaultResult[]} */ (results.filter(({ fault }) => fault));
  const faults = [...new Set(rows.map(({ fault }) => fault))];
  const cell = (/** @type {string} */ fault, /** @type {string} */ browser) => {
    const row = rows.find((one) => one.fault === fault && one.browser === browser);
    if (!row) return '';
    const gaps = row.gaps.length ? `, ${row.missing} missing and told` : '';
    return `${row.delivered} delivered${gaps}; ${seconds(row.silenceMs)} without`;
  };
  return table(['fault', ...BROWSERS], faults.map((fault) => [fault, ...BROWSERS.map((browser) => cell(fault, browser))]));
}

function startTable() {
  const rows = /** @type {StartResult[]} */ (results.filter(({ start }) => start));
  return table(
    ['time to the first event', 'browser', 'EventSource', 'Fanwire', 'later by', 'over'],
    rows.map(({ start, browser, eventSourceMs, fanwireMs, laterMs, over }) =>
      [start, browser, ...[eventSourceMs, fanwireMs, laterMs].map((ms) => `${ms.toFixed(1)} ms`), over]),
  );
}

function cutTable() {
  const rows = /** @type {CutResult[]} */ (results.filter(({ cut }) => cut));
  const cell = (/** @type {import('./report.js').Spread | undefined} */ spread) =>
    spread ? [spread.median, spread.p95, spread.most].map(seconds).join(' / ') : '';
  return table(
    ['UDP is cut in mid-stream', 'browser', 'next event over SSE: median / p95 / most', 'back on WebTransport: median / p95 / most'],
    rows.map(({ cut, browser, onMs, backMs }) => [cut === 'short' ? 'until events go on' : `for ${cut}`, browser, cell(onMs), cell(backMs)]),
  );
}

/** @param {string[]} head @param {string[][]} rows */
function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** @param {number} ms */
function seconds(ms) {
  return `${(ms / 1000).toFixed(ms < 1000 ? 2 : 1)} s`;
}
