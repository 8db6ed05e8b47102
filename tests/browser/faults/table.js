// Prints what the faults cost, as Markdown: runs the table of faults three times in a row and the measures, and needs root. Or of
// results that are there: node faults/table.js FILE…, as TESTS_RESULTS=FILE has each run write them.

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

const RUNS = 3;
/** As `npm run faults` has it. */
const CONCURRENCY = 3;

const given = process.argv.slice(2);
const results = given.length > 0 ? (await Promise.all(given.map(resultsIn))).flat() : await measured();
console.log([faultTable(), startTable(), cutTable()].join('\n\n'));

/** @param {string} path @returns {Promise<any[]>} */
async function resultsIn(path) {
  return (await readFile(path, 'utf8')).trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
}

async function measured() {
  const directory = await temporaryDirectory();
  const path = join(directory.path, 'results');
  const faultTests = readdirSync(HERE).filter((name) => name.endsWith('.test.js'));
  const codes = [];
  for (let run = 0; run < RUNS; run++) codes.push(await runTests(path, CONCURRENCY, faultTests));
  codes.push(await runTests(path, 1, ['measures.js']));
  process.exitCode = Math.max(...codes);
  const all = await resultsIn(path).catch(() => []);
  await directory.remove();
  return all;
}

/** @param {string} path of the results @param {number} concurrency @param {string[]} files @returns {Promise<number>} the exit code */
async function runTests(path, concurrency, files) {
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
    // Only what was right is reported.
    const right = rows.filter((one) => one.fault === fault && one.browser === browser);
    if (right.length === 0) return '';
    const { gaps } = /** @type {FaultResult} */ (right[0]);
    const silences = right.map(({ silenceMs }) => seconds(silenceMs)).join(', ');
    return `${right.length} right${gaps.length ? `, with a gap (\`${gaps}\`)` : ''}: ${silences}`;
  };
  return table(['fault, and how long no event came, in each run', ...BROWSERS], faults.map((fault) => [fault, ...BROWSERS.map((browser) => cell(fault, browser))]));
}

function startTable() {
  const rows = /** @type {StartResult[]} */ (results.filter(({ start }) => start));
  const starts = [...new Set(rows.map(({ start }) => start))];
  const browsers = BROWSERS.filter((browser) => rows.some((row) => row.browser === browser));
  const cell = (/** @type {string} */ start, /** @type {string} */ browser) => {
    const row = rows.find((one) => one.start === start && one.browser === browser);
    return row ? `${[row.eventSourceMs, row.fanwireMs, row.laterMs, row.chanceMs].map((ms) => ms.toFixed(1)).join(' / ')} ms` : '';
  };
  return table(
    ['first event: EventSource / Fanwire / later by / two EventSources differ by', ...browsers],
    starts.map((start) => [start, ...browsers.map((browser) => cell(start, browser))]),
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
