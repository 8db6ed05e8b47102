// The protocol's public conformance suites, in Chromium, against this hub. They aren't ours, and no part of this repository: MERCURE_SUITE and
// MERCURE_0X_SUITE name the directories of their mercure.spec.ts, `conformance-tests` of github.com/dunglas/mercure, of 1.0 and of a version before.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { startHub } from '../browser/support/hub.js';
import { Process } from '../browser/support/process.js';
import { within } from '../browser/support/wait.js';

const chromium = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
/** With the secret of their tokens, so that they count. */
const FLAGS = ['--allow-anonymous', '--token-secret', '!ChangeThisMercureHubJWTSecretKey!'];
/** How many cases each had when it was last looked at: a newer one may have more, and fewer would be another's, or some that don't run. */
const SUITES = {
  MERCURE_SUITE: { cases: 10, flags: [...FLAGS, '--resource', 'https://localhost/.well-known/mercure', '--token-issuer', 'https://localhost'] },
  MERCURE_0X_SUITE: { cases: 11, flags: [...FLAGS, '--mercure-0x', 'http', '--token-mercure-0x', 'publish,subscribe'] },
};

for (const [variable, expected] of Object.entries(SUITES)) {
  const suite = process.env[variable];
  const skip = !suite ? `${variable} names no directory` : !existsSync(chromium) && `no Chromium at ${chromium}`;
  test(`the public conformance suite of ${variable} passes in Chromium`, { skip, timeout: 180_000 }, (t) => passes(t, suite ?? '', expected));
}

/** @param {import('node:test').TestContext} t @param {string} suite @param {{ cases: number, flags: string[] }} expected */
async function passes(t, suite, { cases, flags }) {
  const hub = await startHub(t, { flags });
  // Where its imports find this package's modules.
  const directory = fileURLToPath(new URL('.suite/', import.meta.url));
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory);
  t.after(() => rm(directory, { recursive: true, force: true }));
  // npm sets the directory that it was called from.
  await copyFile(resolve(process.env.INIT_CWD ?? '.', suite, 'mercure.spec.ts'), `${directory}mercure.spec.ts`);
  await writeFile(`${directory}playwright.config.mjs`, `export default ${JSON.stringify(configuration(hub.http))};\n`);
  const cli = createRequire(import.meta.url).resolve('@playwright/test/cli');
  const environment = { ...process.env, CUSTOM_ID: '1', NODE_TEST_CONTEXT: undefined };
  const run = new Process(process.execPath, [cli, 'test', '--config', `${directory}playwright.config.mjs`], environment);
  t.after(() => run.kill());
  const { code } = await within('the suite has run', run.ended, 170_000);
  const report = JSON.parse(run.stdout);
  t.diagnostic(`${report.stats.expected} passed, ${report.stats.unexpected} failed, ${report.stats.skipped} skipped`);
  assert.deepEqual(failures(report), []);
  assert.equal(code, 0, run.stderr);
  const { expected, skipped, flaky } = report.stats;
  assert.deepEqual({ skipped, flaky }, { skipped: 0, flaky: 0 }, `not every case has run and passed at once: ${skippedCases(report).join('; ')}`);
  assert.ok(expected >= cases, `${expected} cases have run, of ${cases}`);
}

/** As the suite's own, for the one browser that Playwright can drive as it is installed here. @param {string} baseURL */
function configuration(baseURL) {
  const launchOptions = { executablePath: chromium, args: ['--no-sandbox', '--disable-gpu'] };
  return {
    testDir: '.',
    timeout: 20_000,
    workers: 2,
    reporter: 'json',
    outputDir: './results',
    use: { baseURL, browserName: 'chromium', headless: true, launchOptions },
  };
}

/** @typedef {{ title: string, ok: boolean, tests: { status?: string }[] }} Spec */
/** @typedef {{ title: string, specs?: Spec[], suites?: Suite[] }} Suite */
/** @param {{ suites?: Suite[], specs?: Spec[] }} report @returns {string[]} */
function skippedCases({ suites = [], specs = [] }) {
  const here = specs.filter(({ tests }) => tests.some(({ status }) => status === 'skipped')).map(({ title }) => title);
  return [...here, ...suites.flatMap(skippedCases)];
}

/** @param {{ suites?: Suite[], specs?: Spec[] }} report @returns {string[]} */
function failures({ suites = [], specs = [] }) {
  const here = specs.filter(({ ok }) => !ok).map(({ title, tests }) => `${title}: ${JSON.stringify(tests).slice(0, 2000)}`);
  return [...here, ...suites.flatMap(failures)];
}
