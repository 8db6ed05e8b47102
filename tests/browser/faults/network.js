// What breaks between a page and its hub. Rules name the ports of one hub, so tests beside each other don't meet.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Why there is no network to break here, or false. `isolated` runs a command in one. */
export const networkMissing = await missing();

/** The way between pages and a hub: its cleartext listener, and UDP to the other. TCP to the latter is left to the tests. */
export class Network {
  /**
   * @param {import('node:test').TestContext} t whole again when the test ends
   * @param {{ port: number, tlsPort: number }} hub
   */
  constructor(t, { port, tlsPort }) {
    if (networkMissing) throw new Error(networkMissing);
    this.#tcp = { protocol: 'tcp', port };
    this.#udp = { protocol: 'udp', port: tlsPort };
    t.after(() => this.restore());
  }

  /** UDP vanishes, as behind many a firewall. */
  async dropUdp() {
    await this.#break([this.#udp], ['-j', 'DROP']);
  }

  /** Everything vanishes, as in a lift. */
  async dropAll() {
    await this.#break([this.#tcp, this.#udp], ['-j', 'DROP']);
  }

  /** Some packets vanish, of every kind and in both directions. @param {number} probability of 1 */
  async losePackets(probability) {
    await this.#break([this.#tcp, this.#udp], ['-m', 'statistic', '--mode', 'random', '--probability', `${probability}`, '-j', 'DROP']);
  }

  /** Whoever sends a segment has its connection reset; a new one is refused. */
  async resetTcp() {
    await this.#break([this.#tcp], ['-j', 'REJECT', '--reject-with', 'tcp-reset']);
  }

  wasBroken = false;
  /** How many packets met a fault that is over. */
  hits = 0;

  /** Whole again. */
  async restore() {
    this.hits += await this.#count();
    for (const rule of this.#rules.splice(0)) await iptables('-D', ...rule);
  }

  async #count() {
    if (this.#rules.length === 0) return 0;
    const { stdout } = await iptables('-L', 'INPUT', '-n', '-v', '-x');
    const ports = new RegExp(`\\b(${this.#tcp.protocol} [ds]pt:${this.#tcp.port}|${this.#udp.protocol} [ds]pt:${this.#udp.port})\\b`);
    const counts = stdout.split('\n').filter((line) => ports.test(line)).map((line) => Number.parseInt(line, 10));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /** @param {Way[]} ways @param {string[]} verdict */
  async #break(ways, verdict) {
    this.wasBroken = true;
    for (const { protocol, port } of ways) {
      for (const end of ['--dport', '--sport']) {
        // Where packets come in: a sender whose packet is dropped on its way out is told so.
        const rule = ['INPUT', '-p', protocol, end, `${port}`, ...verdict];
        await iptables('-A', ...rule);
        this.#rules.push(rule);
      }
    }
  }

  #tcp;
  #udp;
  /** @type {string[][]} */
  #rules = [];
}

/** @typedef {{ protocol: string, port: number }} Way */

/** @param {string[]} args */
function iptables(...args) {
  return run('iptables', ['-w', ...args]);
}

/** @returns {Promise<string | false>} */
async function missing() {
  if (process.env.TESTS_NETWORK_MISSING) return `no network to break: ${process.env.TESTS_NETWORK_MISSING}`;
  const instead = 'no network to break: run this with faults/isolated';
  if (process.env.TESTS_NETWORK !== 'isolated') return instead;
  // The variable alone may have come from anywhere. Never break a network that others use.
  const { stdout } = await run('ip', ['-json', 'link']);
  return JSON.parse(stdout).length === 1 ? false : instead;
}
