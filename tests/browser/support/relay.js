// The network between a page and the hub, for as long as it holds: relays that can be cut.

import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { listen } from './process.js';

/**
 * A path for TCP. While it is cut, connections are reset and new ones refused.
 * @param {import('node:test').TestContext} t
 * @param {number} hubPort
 * @param {{ delayMs?: number }} [options] how long everything is under way, in each direction
 */
export async function startTcpRelay(t, hubPort, { delayMs = 0 } = {}) {
  /** @type {Set<import('node:net').Socket>} */
  const sockets = new Set();
  let isCut = false;
  const keep = (/** @type {import('node:net').Socket} */ socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
  };
  const server = createServer((downstream) => {
    keep(downstream);
    if (isCut) {
      downstream.resetAndDestroy();
      return;
    }
    relay.accepted++;
    const upstream = connect(hubPort, '127.0.0.1');
    keep(upstream);
    upstream.setNoDelay();
    downstream.setNoDelay();
    carry(downstream, upstream, delayMs);
    carry(upstream, downstream, delayMs);
    upstream.on('close', () => downstream.destroy());
    downstream.on('close', () => upstream.destroy());
  });
  const port = await listen(server);
  const relay = {
    port,
    origin: `http://127.0.0.1:${port}`,
    /** Connections that were let through so far. */
    accepted: 0,
    cut() {
      isCut = true;
      for (const socket of sockets) socket.resetAndDestroy();
    },
    mend() {
      isCut = false;
    },
  };
  t.after(() => {
    relay.cut();
    server.close();
  });
  return relay;
}

/** @param {import('node:net').Socket} from @param {import('node:net').Socket} to @param {number} delayMs */
function carry(from, to, delayMs) {
  if (delayMs === 0) from.pipe(to);
  else from.on('data', (chunk) => setTimeout(() => to.writable && to.write(chunk), delayMs));
}

/**
 * A path for UDP. While it is cut, packets vanish both ways, as behind a firewall.
 * @param {import('node:test').TestContext} t
 * @param {number} hubPort
 * @param {{ delayMs?: number }} [options] how long every packet is under way to the hub
 */
export async function startUdpRelay(t, hubPort, { delayMs = 0 } = {}) {
  const front = createSocket('udp4');
  /** A socket for each peer, so that the hub tells them apart. @type {Map<number, import('node:dgram').Socket>} */
  const backs = new Map();
  let isCut = false;
  let isOver = false;
  front.on('message', (packet, peer) => {
    if (isCut) return;
    const back = backs.get(peer.port) ?? createSocket('udp4');
    if (!backs.has(peer.port)) {
      back.on('message', (answer) => {
        if (!isCut) front.send(answer, peer.port, peer.address);
      });
      back.on('error', () => {});
      backs.set(peer.port, back);
    }
    const forward = () => isOver || back.send(packet, hubPort, '127.0.0.1');
    if (delayMs === 0) forward();
    else setTimeout(forward, delayMs);
  });
  front.bind(0, '127.0.0.1');
  await once(front, 'listening');
  t.after(() => {
    isOver = true;
    front.close();
    for (const back of backs.values()) back.close();
  });
  return {
    port: front.address().port,
    cut() {
      isCut = true;
    },
    mend() {
      isCut = false;
    },
  };
}
