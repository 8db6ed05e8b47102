// Processes of a test: started by it, ended by it, by their id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { within } from './wait.js';

/** A process, and what it wrote so far. */
export class Process {
  /**
   * @param {string} path
   * @param {string[]} args
   * @param {NodeJS.ProcessEnv} [env]
   */
  constructor(path, args, env = process.env) {
    this.#child = spawn(path, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const name of /** @type {const} */ (['stdout', 'stderr'])) {
      this.#child[name].setEncoding('utf8').on('data', (text) => (this[name] += text));
    }
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('close', (code, signal) => {
        running.delete(this);
        resolve({ code, signal });
      });
    });
    this.ended.catch(() => running.delete(this));
    running.add(this);
  }

  stdout = '';
  stderr = '';

  get pid() {
    return this.#child.pid;
  }

  get isRunning() {
    return running.has(this);
  }

  /** @param {NodeJS.Signals} signal */
  signal(signal) {
    this.#child.kill(signal);
  }

  /** Ends it in order, or else at once. */
  async stop() {
    if (!this.isRunning) return;
    this.signal('SIGTERM');
    await within('the process ends', this.ended, STOP_MS).catch(() => this.kill());
  }

  /** As a power cut would. */
  async kill() {
    if (!this.isRunning) return;
    this.signal('SIGKILL');
    await this.ended;
  }

  #child;
}

/** A directory of its own, gone when the test process ends. */
export async function temporaryDirectory() {
  const path = await mkdtemp(join(tmpdir(), 'fanwire-test-'));
  directories.add(path);
  return {
    path,
    remove: async () => {
      await rm(path, { recursive: true, force: true });
      directories.delete(path);
    },
  };
}

/** Waits until a server listens. @param {import('node:net').Server} server @param {number} [port] */
export async function listen(server, port = 0) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return /** @type {import('node:net').AddressInfo} */ (server.address()).port;
}

/** @type {Set<Process>} */
const running = new Set();
/** @type {Set<string>} */
const directories = new Set();
// A test that fails half-way leaves nothing behind.
process.on('exit', () => {
  for (const child of running) child.signal('SIGKILL');
  for (const path of directories) rmSync(path, { recursive: true, force: true });
});

const STOP_MS = 15_000;
