// The Python packages that the tests drive, in an environment of their own.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PACKAGES = ['httpx-sse==0.4.3', 'httpx==0.28.1', 'mercure-publisher==0.1.0', 'flask-mercure-sse==0.4.1', 'pymercure==0.0.1.0'];
const DIRECTORY = fileURLToPath(new URL('../artifacts/mercure-python', import.meta.url));

/**
 * The interpreter that has them; made where it isn't there yet. `npm test` does that before its tests, which run side by side.
 * @returns {Promise<{ python: string } | { missing: string }>}
 */
export async function pythonClients() {
  const python = `${DIRECTORY}/bin/python`;
  const run = promisify(execFile);
  const installed = `${DIRECTORY}/installed`;
  if (existsSync(python) && (await readFile(installed, 'utf8').catch(() => '')) === PACKAGES.join('\n')) return { python };
  try {
    if (!existsSync(python)) await run('python3', ['-m', 'venv', DIRECTORY], { timeout: INSTALL_MS_MAX });
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES];
    await run(python, pip, { timeout: INSTALL_MS_MAX });
    await writeFile(installed, PACKAGES.join('\n'));
    return { python };
  } catch (error) {
    const why = error instanceof Error ? error.message.trim().split('\n').at(-1) : error;
    return { missing: `${PACKAGES.join(', ')} can't be installed: ${why}` };
  }
}

const INSTALL_MS_MAX = 120_000;

if (argv[1] === fileURLToPath(import.meta.url)) await pythonClients();
