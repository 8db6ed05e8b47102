// Numbers, published all the while. By the TLS listener over TCP, which no fault touches.

import { Agent, request } from 'node:https';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../support/wait.js';

/**
 * @typedef {object} Published
 * @property {number} n
 * @property {string | null} cursor null where the hub died before it answered: it is in the log, or it isn't
 */

/**
 * Begins to publish, until the test ends.
 * @param {import('node:test').TestContext} t
 * @param {{ tlsPort: number }} hub
 */
export function startPublisher(t, hub) {
  const publisher = new Publisher(hub.tlsPort);
  t.after(() => publisher.stop());
  return publisher;
}

class Publisher {
  /** @param {number} port */
  constructor(port) {
    this.#port = port;
    this.#running = this.#run();
    this.#running.catch(() => {}); // stop() tells.
  }

  /** What it published so far, in order. @type {Published[]} */
  published = [];

  /** Waits until it has published so many more. @param {number} events @param {number} [withinMs] */
  async more(events, withinMs) {
    const enough = this.published.length + events;
    await until(`${events} more are published`, () => this.#isOver || this.published.length >= enough, withinMs);
    if (this.#isOver) await this.#running;
  }

  /** Ends with a last event, and gives all. */
  async stop() {
    this.#isOver = true;
    await this.#running;
    return this.published;
  }

  async #run() {
    const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false });
    try {
      for (let n = 0; !this.#isOver; n++) {
        this.published.push({ n, cursor: await this.#publish(agent, n) });
        await delay(INTERVAL_MS);
      }
    } catch (error) {
      this.#isOver = true;
      throw error;
    } finally {
      agent.destroy();
    }
  }

  /** @param {Agent} agent @param {number} n @returns {Promise<string | null>} */
  async #publish(agent, n) {
    const noise = JSON.stringify({ topic: 'noise', data: n });
    // From a few bytes to a few packets.
    const number = JSON.stringify({ topic: TOPIC, data: `${n} ${'.'.repeat((n * 251) % PADDING_MAX)}` });
    for (;;) {
      try {
        const answer = await post(agent, this.#port, `${noise}\n${number}`);
        return JSON.parse(answer.trim().split('\n')[1] ?? '').cursor;
      } catch (error) {
        const { code } = /** @type {NodeJS.ErrnoException} */ (error);
        if (code === 'ECONNREFUSED') {
          // The hub is away: this number is still to be published.
          if (this.#isOver) throw error;
          await delay(INTERVAL_MS);
        } else if (code === 'ECONNRESET' || code === 'EPIPE') {
          return null;
        } else {
          throw error;
        }
      }
    }
  }

  #port;
  #isOver = false;
  #running;
}

/** @param {Agent} agent @param {number} port @param {string} body @returns {Promise<string>} */
function post(agent, port, body) {
  const headers = { 'Content-Type': 'application/x-ndjson', 'Content-Length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path: '/events', method: 'POST', agent, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk)).on('error', reject);
      response.on('end', () => (response.statusCode === 200 ? resolve(text) : reject(new Error(`${response.statusCode} ${text}`))));
    }).on('error', reject).end(body);
  });
}

export const TOPIC = 'numbers';
/** 40 events a second. */
const INTERVAL_MS = 25;
const PADDING_MAX = 4000;
