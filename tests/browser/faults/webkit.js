// WebKitGTK, the engine without WebTransport, by plain WebDriver [W3C WebDriver]: puppeteer can't drive it. What it gives
// looks like puppeteer's browsers and pages, as far as these tests use them.

import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { listen, Process, temporaryDirectory } from '../support/process.js';
import { until, within } from '../support/wait.js';

/** Where Debian has libraries of every architecture. */
const LIBRARIES = '/usr/lib';
const driverPath = found(process.env.WEBKIT_DRIVER_BIN ?? '/usr/bin/WebKitWebDriver');
const xvfbPath = found('/usr/bin/Xvfb');
const browserPath = found(process.env.MINIBROWSER_BIN ?? miniBrowser());

/** It needs a process namespace around it: MiniBrowser outlives a driver that is killed. */
export const WEBKIT = {
  name: /** @type {const} */ ('WebKit'),
  missing: /** @type {string | false} */ (
    driverPath && xvfbPath && browserPath ? false : 'no WebKitGTK to drive here: install webkit2gtk-driver and xvfb'
  ),
  launch,
};

async function launch() {
  const home = await temporaryDirectory();
  const xvfb = new Process(xvfbPath, XVFB_ARGS);
  const display = await until('Xvfb has a display', () => /^\d+$/m.exec(xvfb.stdout)?.[0]);
  const port = await freePort();
  const driver = new Process(driverPath, [`--port=${port}`], {
    ...process.env,
    DISPLAY: `:${display}`,
    HOME: home.path,
    XDG_RUNTIME_DIR: home.path,
    WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: '1', // It can't run as root otherwise.
  });
  await until('WebKitWebDriver listens', () => fetch(`http://127.0.0.1:${port}/status`).then(({ ok }) => ok, () => false));
  const children = { Xvfb: xvfb, WebKitWebDriver: driver };
  const over = new AbortController();
  for (const [name, child] of Object.entries(children)) {
    child.ended.then(({ code, signal }) => over.abort(new Error(`${name} ended, ${signal ?? `with ${code}`}: ${child.stderr.slice(-500)}`)), () => {});
  }
  return {
    newPage: () => WebDriverPage.open(`http://127.0.0.1:${port}`, over.signal),
    get connected() {
      return !over.signal.aborted;
    },
    async close() {
      await driver.stop();
      await xvfb.stop();
      await home.remove();
    },
    process: () => ({ kill: () => Object.values(children).forEach((child) => child.signal('SIGKILL')) }),
  };
}

class WebDriverPage {
  /** A browser of its own, with one window. @param {string} driver @param {AbortSignal} over says when that or its display is gone, and why */
  static async open(driver, over) {
    const capabilities = { alwaysMatch: { 'webkitgtk:browserOptions': { binary: browserPath, args: ['--automation'] } } };
    const { sessionId } = await command(over, 'POST', `${driver}/session`, { capabilities });
    const page = new WebDriverPage(`${driver}/session/${sessionId}`, over);
    await page.#command('POST', '/timeouts', { script: SCRIPT_MS, pageLoad: SCRIPT_MS });
    return page;
  }

  /** @param {string} session @param {AbortSignal} over */
  constructor(session, over) {
    this.#session = session;
    this.#over = over;
  }

  /** @param {string} url */
  async goto(url) {
    await this.#command('POST', '/url', { url });
  }

  /** @param {Function} run @param {unknown[]} args */
  async evaluate(run, ...args) {
    const script = `
      const [given, done] = arguments;
      (async () => (${run})(...given))().then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await this.#command('POST', '/execute/async', { script, args: [args] });
    if (error) throw new Error(error);
    return value;
  }

  async close() {
    await this.#command('DELETE', '');
  }

  /** The console isn't heard. */
  on() {}

  /** @param {string} method @param {string} path @param {Record<string, unknown>} [body] */
  #command(method, path, body) {
    return command(this.#over, method, `${this.#session}${path}`, body);
  }

  #session;
  #over;
}

/** @param {AbortSignal} signal @param {string} method @param {string} url @param {Record<string, unknown>} [body] */
async function command(signal, method, url, body) {
  try {
    const response = await fetch(url, { method, signal, ...(body && { body: JSON.stringify(body) }) });
    const { value } = await response.json();
    if (!response.ok) throw new Error(`${method} ${new URL(url).pathname}: ${value.error}: ${value.message}`);
    return value;
  } catch (error) {
    // What a process leaves undone is seen before its end is.
    if (!signal.aborted) await within('it ends', once(signal, 'abort'), END_MS).catch(() => {});
    throw signal.aborted ? signal.reason : error;
  }
}

/** The driver can't pick a port itself. */
async function freePort() {
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, 'close');
  return port;
}

function miniBrowser() {
  const libraries = existsSync(LIBRARIES) ? readdirSync(LIBRARIES) : [];
  return libraries.map((name) => join(LIBRARIES, name, 'webkit2gtk-4.1/MiniBrowser')).find((path) => existsSync(path)) ?? '';
}

/** @param {string} path */
function found(path) {
  return existsSync(path) ? path : '';
}

/**
 * Its own number, on the network namespace's socket alone. An X server resets itself when its last client leaves, as between two tests, and
 * refuses those who come meanwhile.
 */
const XVFB_ARGS = ['-displayfd', '1', '-nolisten', 'tcp', '-nolisten', 'unix', '-noreset', '-screen', '0', '1024x768x24'];
const SCRIPT_MS = 120_000;
const END_MS = 500;
