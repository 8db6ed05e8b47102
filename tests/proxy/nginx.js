// An nginx of one's own: its own prefix, its own port, nothing of the system's.

import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { listen, Process, temporaryDirectory } from '../browser/support/process.js';
import { until } from '../browser/support/wait.js';

const PATHS = process.env.NGINX_BIN ? [process.env.NGINX_BIN] : ['/usr/sbin/nginx', '/usr/bin/nginx', '/usr/local/sbin/nginx'];
const path = PATHS.find((candidate) => existsSync(candidate));

/** Why it can't be used here. */
export const nginxMissing = path ? false : 'no nginx here: install it, or say where it is in NGINX_BIN';

/**
 * Starts nginx in front of a hub, until the test ends.
 * @param {import('node:test').TestContext} t
 * @param {{ upstreamPort: number, location?: string }} options what is set besides `proxy_pass`
 */
export async function startNginx(t, { upstreamPort, location = '' }) {
  const directory = await temporaryDirectory();
  t.after(() => directory.remove());
  await mkdir(join(directory.path, 'logs'));
  // nginx can't pick a port itself, so another may have taken the one that was free: then once more.
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const configuration = nginxConfiguration({ port, upstreamPort, location, asRoot: process.getuid?.() === 0 });
    await writeFile(join(directory.path, 'nginx.conf'), configuration);
    const nginx = new Process(/** @type {string} */ (path), ['-p', directory.path, '-c', 'nginx.conf', '-e', 'logs/error.log']);
    const origin = `http://127.0.0.1:${port}`;
    const isUp = await until('nginx answers, or gives up', async () => {
      if (!nginx.isRunning) return 'ended';
      return fetch(`${origin}/livez`).then(({ ok }) => ok && 'up', () => false);
    });
    if (isUp === 'up') {
      t.after(() => nginx.stop());
      return { origin, port };
    }
    if (attempt === ATTEMPTS) throw new Error(`nginx ended: ${nginx.stderr}`);
  }
}

/** @param {{ port: number, upstreamPort: number, location: string, asRoot: boolean }} options */
function nginxConfiguration({ port, upstreamPort, location, asRoot }) {
  return `
daemon off;
${asRoot ? 'user root;' : ''}
worker_processes 1;
pid nginx.pid;
events { worker_connections 256; }
http {
  access_log off;
  gzip on;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://127.0.0.1:${upstreamPort};
      ${location}
    }
  }
}
`;
}

async function freePort() {
  const server = createServer();
  const port = await listen(server);
  server.close();
  await once(server, 'close');
  return port;
}

const ATTEMPTS = 5;
