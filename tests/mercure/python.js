// Runs scripts with clients in Python, which are in the environment that venv.js makes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { within } from '../browser/support/wait.js';
import { pythonClients } from './venv.js';

const clients = await pythonClients();

/** Why the scripts can't be run, or false. */
export const skip = 'missing' in clients ? clients.missing : false;

/**
 * @param {import('node:test').TestContext} t @param {string} script in this directory @param {string[]} args
 * @param {object[]} [input] each a line of its standard input
 */
export function runPython(t, script, args, input = []) {
  const path = fileURLToPath(new URL(script, import.meta.url));
  // The hub is here, whatever proxy the environment names.
  const env = { ...process.env, NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1' };
  const python = 'python' in clients ? clients.python : '';
  const child = spawn(python, [path, ...args], { stdio: ['pipe', 'pipe', 'inherit'], env });
  t.after(() => child.kill('SIGKILL'));
  child.stdin.end(input.map((value) => JSON.stringify(value)).join('\n'));
  const run = { /** @type {string[]} */ lines: [], ended: once(child, 'close') };
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    const parts = (text + chunk).split('\n');
    text = parts.pop() ?? '';
    run.lines.push(...parts);
  });
  return run;
}

/** Everything that it prints. @param {ReturnType<typeof runPython>} run */
export async function lines(run) {
  const [code] = await within('the script has ended', run.ended, 30_000);
  if (code !== 0) throw new Error(`the script ended with ${code}`);
  return run.lines;
}
