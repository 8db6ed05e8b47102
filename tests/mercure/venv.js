// The Python packages that the tests drive, in an environment of their own.

import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const PACKAGES = ['httpx-sse==0.4.3', 'httpx==0.28.1', 'mercure-publisher==0.1.0', 'flask-mercure-sse==0.4.1', 'pymercure==0.0.1.0'];
const DIRECTORY = fileURLToPath(new URL('../artifacts/mercure-python', import.meta.url));

/**
 * The interpreter that has them; made where it isn't there yet.
 * @returns {Promise<{ python: string } | { missing: string }>}
 */
export async function pythonClients() {
  const python = `${DIRECTORY}/bin/python`;
  const run = promisify(execFile);
  try {
    if (!existsSync(python)) await run('python3', ['-m', 'venv', DIRECTORY], { timeout: INSTALL_MS_MAX });
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...PACKAGES];
    await run(python, pip, { timeout: INSTALL_MS_MAX });
    return { python };
  } catch (error) {
    const why = error instanceof Error ? error.message.trim().split('\n').at(-1) : error;
    return { missing: `${PACKAGES.join(', ')} can't be installed: ${why}` };
  }
}

const INSTALL_MS_MAX = 120_000;
