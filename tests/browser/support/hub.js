// A hub of one's own: the real binary, on ports that the system picks.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Process, temporaryDirectory } from './process.js';
import { until } from './wait.js';

/**
 * @typedef {object} HubOptions
 * @property {boolean} [demo] with live input on host/…
 * @property {string} [log]
 * @property {string[]} [flags] further ones
 */

/**
 * Starts a hub, and ends it when the test does.
 * @param {import('node:test').TestContext} t
 * @param {HubOptions} [options]
 */
export async function startHub(t, options = {}) {
  if (!existsSync(BINARY)) throw new Error(`there is no hub at ${BINARY}: build it, or say where it is in FANWIRE_BIN`);
  const hub = new Hub(options, await temporaryDirectory());
  t.after(() => hub.dispose());
  await hub.start();
  return hub;
}

class Hub {
  /** @param {HubOptions} options @param {{ path: string, remove: () => Promise<void> }} identity */
  constructor(options, identity) {
    this.#options = options;
    this.#identity = identity;
  }

  /** Origin of the cleartext listener. */
  http = '';
  /** Origin of the listener for TLS and QUIC. */
  https = '';

  get port() {
    return Number(new URL(this.http).port);
  }

  get tlsPort() {
    return Number(new URL(this.https).port);
  }

  /** The text of its log so far. */
  get log() {
    return this.#process?.stderr ?? '';
  }

  /** Starts, or starts again where it was before, as after a crash or an upgrade. */
  async start() {
    const { demo = false, log = 'info', flags = [] } = this.#options;
    const address = (/** @type {string} */ origin) => (origin ? new URL(origin).host : '127.0.0.1:0');
    const args = ['--http', address(this.http), '--https', address(this.https), '--dev-identity-dir', this.#identity.path];
    const child = new Process(BINARY, [...args, ...(demo ? [] : ['--no-demo']), '--log', log, ...flags], cleanEnvironment());
    this.#process = child;
    const [http, https] = await until('the hub says where it listens', () => {
      if (!child.isRunning) throw new Error(`the hub ended: ${child.stderr}`);
      const found = [/(http:\/\/[^\s/]+)\/$/m, /(https:\/\/[^\s/]+)\/$/m].map((pattern) => pattern.exec(child.stdout)?.[1]);
      return found.every(Boolean) && /** @type {string[]} */ (found);
    });
    this.http = http ?? '';
    this.https = https ?? '';
  }

  /** Asks it to shut down. Resolves with how it ended. */
  drain() {
    this.#process?.signal('SIGTERM');
    return this.#process?.ended;
  }

  async kill() {
    await this.#process?.kill();
  }

  /** Ends it for good. A test that is over needs no farewell. */
  async dispose() {
    await this.#process?.kill();
    await this.#identity.remove();
  }

  /**
   * Publishes as an HTML form or curl does.
   * @param {Record<string, string | string[]>} fields
   * @returns {Promise<string>} the event's id
   */
  async publishForm(fields) {
    const body = new URLSearchParams();
    for (const [name, values] of Object.entries(fields)) for (const value of [values].flat()) body.append(name, value);
    const response = await this.#post(body);
    return response.text();
  }

  /** @param {Record<string, unknown>} draft @returns {Promise<{ id: string, cursor: string }>} */
  async publishJson(draft) {
    return (await this.#post(JSON.stringify(draft), 'application/json')).json();
  }

  /** Publishes many with one request. @param {Record<string, unknown>[]} drafts @returns {Promise<{ id: string, cursor: string }[]>} */
  async publishLines(drafts) {
    const response = await this.#post(drafts.map((draft) => JSON.stringify(draft)).join('\n'), 'application/x-ndjson');
    return (await response.text()).trim().split('\n').map((line) => JSON.parse(line));
  }

  /** What the log holds under a topic, `*` for all: the data of each event. Publishes an event of its own, to know the end. */
  async kept(topic = '*') {
    const end = `end of ${topic} at ${process.hrtime.bigint()}`;
    await this.publishJson({ topic: [topic === '*' ? 'end' : topic], data: end });
    const response = await fetch(`${this.http}/events?${new URLSearchParams({ topic, last_event_id: 'earliest' })}`);
    let text = '';
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk;
      if (text.includes(`data: ${end}\n`)) break;
    }
    const data = [...text.matchAll(/^data: ?(.*)$/gm)].map(([, line]) => line);
    return data.slice(0, data.indexOf(end)).filter((line) => !line?.startsWith('end of '));
  }

  /** @param {BodyInit} body @param {string} [contentType] */
  async #post(body, contentType) {
    const response = await fetch(`${this.http}/events`, {
      method: 'POST',
      body,
      ...(contentType && { headers: { 'Content-Type': contentType } }),
    });
    if (!response.ok) throw new Error(`not published: ${response.status} ${await response.text()}`);
    return response;
  }

  #options;
  #identity;
  /** @type {Process | null} */
  #process = null;
}

/** The hub takes a variable that it doesn't know, such as FANWIRE_BIN, for a mistake; and a test isn't to be configured from outside. */
export function cleanEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('FANWIRE_')));
}

export const BINARY = process.env.FANWIRE_BIN ?? fileURLToPath(new URL('../../../target/debug/fanwire', import.meta.url));
