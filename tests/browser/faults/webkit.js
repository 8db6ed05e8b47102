// WebKitGTK, the engine without WebTransport, by plain WebDriver [W3C WebDriver]: puppeteer can't drive it. What it gives
// looks like puppeteer's browsers and pages, as far as these tests use them.

import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { listen, Process, temporaryDirectory } from '../support/process.js';
import { until } from '../support/wait.js';

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
  const xvfb = new Process(xvfbPath, ['-displayfd', '1', '-nolisten', 'tcp', '-screen', '0', '1024x768x24']);
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
  return {
    newPage: () => WebDriverPage.open(`http://127.0.0.1:${port}`),
    async close() {
      await driver.stop();
      await xvfb.stop();
      await home.remove();
    },
    process: () => ({ kill: () => [driver, xvfb].forEach((child) => child.signal('SIGKILL')) }),
  };
}

class WebDriverPage {
  /** A browser of its own, with one window. @param {string} driver */
  static async open(driver) {
    const capabilities = { alwaysMatch: { 'webkitgtk:browserOptions': { binary: browserPath, args: ['--automation'] } } };
    const { sessionId } = await command('POST', `${driver}/session`, { capabilities });
    const page = new WebDriverPage(`${driver}/session/${sessionId}`);
    await command('POST', `${page.#session}/timeouts`, { script: SCRIPT_MS, pageLoad: SCRIPT_MS });
    return page;
  }

  /** @param {string} session */
  constructor(session) {
    this.#session = session;
  }

  /** @param {string} url */
  async goto(url) {
    await command('POST', `${this.#session}/url`, { url });
  }

  /** @param {Function} run @param {unknown[]} args */
  async evaluate(run, ...args) {
    const script = `
      const [given, done] = arguments;
      (async () => (${run})(...given))().then((value) => done({ value }), (error) => done({ error: String(error) }));`;
    const { value, error } = await command('POST', `${this.#session}/execute/async`, { script, args: [args] });
    if (error) throw new Error(error);
    return value;
  }

  async close() {
    await command('DELETE', this.#session);
  }

  /** The console isn't heard. */
  on() {}

  #session;
}

/** @param {string} method @param {string} url @param {Record<string, unknown>} [body] */
async function command(method, url, body) {
  const response = await fetch(url, { method, ...(body && { body: JSON.stringify(body) }) });
  const { value } = await response.json();
  if (!response.ok) throw new Error(`${method} ${new URL(url).pathname}: ${value.error}: ${value.message}`);
  return value;
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

const SCRIPT_MS = 120_000;
