// Real browsers, headless. Each is launched once for a file of tests, when the first test needs it.

import { existsSync } from 'node:fs';
import { after, test } from 'node:test';
import puppeteer from 'puppeteer-core';
import { within } from './wait.js';

/** @typedef {import('puppeteer-core').Browser} Browser */
/** @typedef {import('puppeteer-core').Page} Page */
/**
 * @typedef {object} BrowserKind
 * @property {'Chromium' | 'Firefox'} name
 * @property {string | false} missing why it can't be used here
 * @property {(options?: LaunchOptions) => Promise<Browser>} launch
 */
/**
 * @typedef {object} LaunchOptions
 * @property {string[]} [args] further ones, of Chromium
 * @property {Record<string, unknown>} [preferences] further ones, of Firefox
 */
/**
 * @typedef {object} Tab
 * @property {Browser} browser
 * @property {Page} page
 * @property {BrowserKind} kind
 * @property {string[]} complaints errors on the page's console, and uncaught ones
 */

const chromiumPath = found('CHROMIUM_BIN', ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']);
const firefoxPath = found('FIREFOX_BIN', ['/usr/bin/firefox-esr', '/usr/bin/firefox']);

/** @type {BrowserKind} */
export const CHROMIUM = {
  name: 'Chromium',
  missing: chromiumPath ? false : 'no Chromium here: install it, or say where it is in CHROMIUM_BIN',
  launch: ({ args = [] } = {}) =>
    puppeteer.launch({ browser: 'chrome', executablePath: chromiumPath, args: [...CHROMIUM_ARGS, ...args], protocolTimeout: PROTOCOL_MS }),
};

/** @type {BrowserKind} */
export const FIREFOX = {
  name: 'Firefox',
  missing: firefoxPath ? false : 'no Firefox here: install it, or say where it is in FIREFOX_BIN',
  launch: ({ preferences = {} } = {}) =>
    puppeteer.launch({
      browser: 'firefox',
      executablePath: firefoxPath,
      extraPrefsFirefox: { ...FIREFOX_PREFERENCES, ...preferences },
      protocolTimeout: PROTOCOL_MS,
    }),
};

export const BROWSERS = [CHROMIUM, FIREFOX];

/**
 * A test in each browser, in a tab of its own. Where a browser is missing its test is skipped, and says so.
 * @param {string} title
 * @param {(t: import('node:test').TestContext, tab: Tab) => Promise<void>} run
 * @param {Partial<Record<BrowserKind['name'], string>>} [todo] where it is known to fail, and why
 */
export function browserTest(title, run, todo = {}) {
  for (const kind of BROWSERS) testIn(kind, title, run, { ...(todo[kind.name] && { todo: todo[kind.name] }) });
}

/**
 * @param {BrowserKind} kind
 * @param {string} title
 * @param {(t: import('node:test').TestContext, tab: Tab) => Promise<void>} run
 * @param {{ todo?: string, timeoutMs?: number }} [options]
 */
export function testIn(kind, title, run, { todo, timeoutMs = TEST_MS } = {}) {
  test(`${kind.name}: ${title}`, { skip: kind.missing, timeout: timeoutMs, ...(todo && { todo }) }, async (t) => {
    const browser = await shared(kind);
    await run(t, await openTab(t, kind, browser));
  });
}

/**
 * A tab, closed when the test ends.
 * @param {import('node:test').TestContext} t
 * @param {BrowserKind} kind
 * @param {Browser} browser
 * @returns {Promise<Tab>}
 */
export async function openTab(t, kind, browser) {
  const page = await browser.newPage();
  t.after(() => page.close().catch(() => {})); // A test may have closed it.
  /** @type {string[]} */
  const complaints = [];
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { browser, page, kind, complaints };
}

/**
 * Launches a browser for one test, where it needs flags of its own.
 * @param {import('node:test').TestContext} t
 * @param {BrowserKind} kind
 * @param {LaunchOptions} options
 */
export async function launchFor(t, kind, options) {
  const browser = track(await kind.launch(options));
  t.after(() => close(browser));
  return browser;
}

/** One that ended, whatever it died of, fails the test that it died in, and no other. @param {BrowserKind} kind */
async function shared(kind) {
  const before = await sharedBrowsers.get(kind)?.catch(() => null);
  if (before?.connected) return before;
  if (before) await close(before);
  const launched = kind.launch().then(track);
  sharedBrowsers.set(kind, launched);
  return launched;
}

/** @param {Browser} browser */
function track(browser) {
  open.add(browser);
  return browser;
}

/** @param {Browser} browser */
async function close(browser) {
  await within('the browser closes', browser.close(), CLOSE_MS).catch(() => browser.process()?.kill('SIGKILL'));
  open.delete(browser);
}

/** @param {string} variable @param {string[]} paths */
function found(variable, paths) {
  const named = process.env[variable];
  return (named ? [named] : paths).find((path) => existsSync(path));
}

/** @type {Map<BrowserKind, Promise<Browser>>} */
const sharedBrowsers = new Map();
/** @type {Set<Browser>} */
const open = new Set();

after(async () => {
  for (const launched of sharedBrowsers.values()) await launched.then(close, () => {});
});
process.on('exit', () => {
  for (const browser of open) browser.process()?.kill('SIGKILL');
});

const CHROMIUM_ARGS = [
  '--no-sandbox', // Continuous integration runs as root.
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Nothing of its own on the network while it is tested. */
const FIREFOX_PREFERENCES = {
  'app.normandy.enabled': false,
  'browser.safebrowsing.downloads.enabled': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  'network.captive-portal-service.enabled': false,
  'network.connectivity-service.enabled': false,
};
const PROTOCOL_MS = 60_000;
const TEST_MS = 60_000;
const CLOSE_MS = 10_000;
