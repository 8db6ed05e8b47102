// The network between a page and the hub, for as long as it holds: relays that can be cut.

import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { listen } from './process.js';

/**
 * A path for TCP. While it is cut, connections are reset and new ones refused.
 * @param {import('node:test').TestContext} t
 * @param {number} hubPort
 */
export async function startTcpRelay(t, hubPort) {
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
    downstream.pipe(upstream).pipe(downstream);
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

/**
 * A path for UDP. While it is cut, packets vanish both ways, as behind a firewall.
 * @param {import('node:test').TestContext} t
 * @param {number} hubPort
 */
export async function startUdpRelay(t, hubPort) {
  const front = createSocket('udp4');
  /** A socket for each peer, so that the hub tells them apart. @type {Map<number, import('node:dgram').Socket>} */
  const backs = new Map();
  let isCut = false;
  front.on('message', (packet, peer) => {
    if (isCut) return;
    let back = backs.get(peer.port);
    if (!back) {
      back = createSocket('udp4');
      back.on('message', (answer) => {
        if (!isCut) front.send(answer, peer.port, peer.address);
      });
      back.on('error', () => {});
      backs.set(peer.port, back);
    }
    back.send(packet, hubPort, '127.0.0.1');
  });
  front.bind(0, '127.0.0.1');
  await once(front, 'listening');
  t.after(() => {
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
