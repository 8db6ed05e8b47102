// The negotiation against a hub and a network that do what a seed says: cuts, stalls, blocked UDP, crashes, evictions. Whatever
// they do, every event comes once and in order, or inside a gap; one transport delivers; in the end the better one does; and no feed lets
// WebTransport go first that didn't see it to be as quick.
//
// `SIMULATION_SEEDS=100000 node --test test/simulation.test.js` for more of it; `SIMULATION_SEED=7` for one again.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Choice, probe, rest } from '../src/choice.js';
import { HEAD_START_MS, Negotiation } from '../src/negotiation.js';
import { Position } from '../src/position.js';

const SEEDS = process.env.SIMULATION_SEED ? [Number(process.env.SIMULATION_SEED)] : Array.from({ length: Number(process.env.SIMULATION_SEEDS ?? 1000) }, (_, i) => i + 1);
const KINDS = ['sse', 'webtransport'];
const HEARTBEAT_MS = 2000;
const TROUBLE_MS = 90_000;
/** From the last trouble: an attempt that hangs, the longest wait for what never worked, and some more. */
const CALM_MS = 75_000;

test(`${SEEDS.length} seeds of trouble`, () => {
  for (const seed of SEEDS) {
    try {
      new World(seed).run();
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
});

/** The hub: one log, and feeds of it. */
class Hub {
  constructor(random) {
    this.random = random;
    this.restart(false);
  }

  restart(keeps) {
    this.isUp = true;
    if (keeps) return;
    this.epoch = Array.from({ length: 10 }, () => Math.floor(this.random() * 10)).join('');
    this.seq = 0;
    this.floor = 0;
    this.events = [];
  }

  publish() {
    this.seq++;
    const isOurs = this.random() < 0.4;
    if (isOurs) this.events.push(this.seq);
    return isOurs ? { epoch: this.epoch, seq: this.seq } : null;
  }

  evict() {
    if (this.seq < 3) return;
    this.floor = Math.max(this.floor, this.seq - 1 - Math.floor(this.random() * 5));
    this.events = this.events.filter((seq) => seq > this.floor);
  }

  /** What a feed that is asked for now begins with. */
  open(asked) {
    const [, epoch, digits] = /^#(.{10}):(\d+)$/.exec(asked ?? '') ?? [];
    const floor = { epoch: this.epoch, seq: this.floor };
    const hello = (verdict, seq) => ({ name: 'hello', verdict, cursor: { epoch: this.epoch, seq }, heartbeatMs: HEARTBEAT_MS });
    if (asked === null && this.replaysLatest) {
      const before = (this.events.at(-1) ?? this.seq + 1) - 1;
      return [before, hello('latest', before)];
    }
    if (asked === null) return [this.seq, hello('live', this.seq)];
    if (asked === 'earliest') return [this.floor, hello('earliest', this.floor)];
    const seq = Number(digits);
    if (epoch === this.epoch && seq <= this.seq) {
      if (seq >= this.floor) return [seq, hello('resumed', seq)];
      return [this.floor, hello('resumed', seq), { name: 'gap', reason: 'evicted', from: seq + 1, to: this.floor, cursor: floor }];
    }
    const reason = epoch && epoch !== this.epoch ? 'new_epoch' : 'unknown_cursor';
    return [this.floor, hello(reason, this.floor), { name: 'gap', reason, from: null, to: this.floor, cursor: floor }];
  }
}

class World {
  constructor(seed) {
    this.random = mulberry32(seed);
    this.hub = new Hub(this.random);
    this.hub.replaysLatest = this.random() < 0.2;
    this.startId = this.random() < 0.2 ? 'earliest' : null;
    this.position = new Position(this.startId);
    this.machine = new Negotiation({ kind: 'sse', position: this.position, random: this.random, connectTimeoutMs: 10_000 });
    this.nowMs = 0;
    this.queue = [];
    this.connections = new Map();
    /** Whether packets pass, and how long they take. */
    this.paths = { sse: { passes: true, delayMs: 5 }, webtransport: { passes: true, delayMs: 5 } };
    for (const kind of KINDS) this.paths[kind].delayMs = this.random() < 0.5 ? 5 : this.random() * 500;
    this.discoveryMs = this.random() * 400;
    this.isResting = false;
    this.published = [];
    this.delivered = [];
    this.gaps = [];
    this.joined = null;
    this.connects = [];
    /** What a page has in its storage. */
    this.memory = {};
    /** How the newest start went: whether WebTransport was let go first, and who came first. */
    this.newest = { hasHeadStart: false, first: null };
  }

  run() {
    this.publish(500);
    if (this.random() < 0.3) this.paths.webtransport.passes = false;
    const figure = () => Math.floor(this.random() * 300);
    this.memory = [{}, { works: false }, { works: true }, { works: true, sseMs: figure(), webtransportMs: figure() }][Math.floor(this.random() * 4)];
    // What is loaded beside takes its time, and sometimes can't be loaded at all.
    const loadMs = this.random() * (this.random() < 0.8 ? 200 : 20_000);
    const isAlone = this.random() < 0.05;
    const known = this.memory;
    this.start();
    const fromMs = this.newest.hasHeadStart ? 0 : HEAD_START_MS;
    if (!isAlone) this.later(fromMs + loadMs, () => this.do(new Choice(this.machine).join(this.nowMs, known, loadMs)));
    // Up to a moment before the end, so that nothing is under way then.
    this.every(() => 20 + this.random() * 200, () => this.publish(1), TROUBLE_MS + CALM_MS - 1000);
    this.every(() => 1000 + this.random() * 6000, () => this.trouble(), TROUBLE_MS);
    this.later(TROUBLE_MS, () => this.heal());
    this.runUntil(TROUBLE_MS + CALM_MS);
    assert.equal(this.machine.live, isAlone ? 'sse' : 'webtransport', 'in the end the better one delivers');
    this.check();
  }

  /** The feed begins, or begins again. */
  start() {
    const { sseMs, webtransportMs } = this.memory;
    const before = this.newest;
    const connects = this.connects.length;
    this.do(this.machine.start(this.nowMs, this.memory));
    const [first] = this.connects.slice(connects);
    this.newest = { hasHeadStart: first?.kind !== 'sse', first: null };
    if (!this.newest.hasHeadStart) return;
    assert.ok(webtransportMs <= sseMs, 'SSE waits for nothing that wasn’t as quick');
    assert.ok(!(before.hasHeadStart && before.first === 'sse'), 'a head start that was lost is not given again');
  }

  trouble() {
    const kind = KINDS[Math.floor(this.random() * 2)];
    const path = this.paths[kind];
    const what = Math.floor(this.random() * 12);
    if (what < 3) path.passes = !path.passes;
    else if (what === 3) path.delayMs = 1 + this.random() * 900;
    else if (what === 4) this.cut(kind, 'reset');
    else if (what === 5) for (const one of KINDS) this.paths[one].passes = false;
    else if (what === 6) for (const one of KINDS) this.paths[one].passes = true;
    else if (what === 7) this.hub.evict();
    else if (what === 8) this.crash(this.random() < 0.5);
    else if (what === 9) this.drain();
    else if (what === 10) this.probe(this.random() < 0.5);
    else this.pageRests();
  }

  heal() {
    for (const kind of KINDS) Object.assign(this.paths[kind], { passes: true, delayMs: 5 });
    if (!this.hub.isUp) this.hub.restart(true);
  }

  cut(kind, reason) {
    const connection = this.connections.get(kind);
    if (connection) this.arrive(connection, () => this.machine.take(kind, connection.attempt, { name: 'bye', reason }, this.nowMs));
  }

  crash(keeps) {
    this.hub.isUp = false;
    for (const kind of KINDS) {
      const connection = this.connections.get(kind);
      if (!connection) continue;
      connection.isStalled = true;
      // TCP tells at once, UDP not at all.
      if (kind === 'sse') this.cut(kind, 'the hub is gone');
    }
    this.later(100 + this.random() * 3000, () => this.hub.isUp || this.hub.restart(keeps));
  }

  drain() {
    for (const connection of this.connections.values()) {
      if (connection.isOpen) this.send(connection, { name: 'bye', code: 1, reason: 'drain', retryMs: Math.floor(this.random() * 2000) });
      connection.isStalled = true;
    }
  }

  probe(isNewNetwork) {
    if (isNewNetwork) this.memory = {};
    this.do(probe(this.machine, this.nowMs, isNewNetwork));
  }

  pageRests() {
    // What tells of it is loaded with the choice.
    if (!this.machine.choice) return;
    this.isResting = true;
    this.do(rest(this.machine, true));
    assert.equal(this.connections.size, 0);
    this.later(this.random() * 5000, () => {
      if (!this.isResting) return;
      this.isResting = false;
      // It may be another page that wrote it last, or a network that changed.
      const isForgotten = this.random() < 0.2;
      if (isForgotten) this.memory = {};
      this.start();
    });
  }

  publish(times) {
    for (let i = 0; i < times; i++) {
      if (!this.hub.isUp) return;
      const event = this.hub.publish();
      if (event) this.published.push(event);
      for (const connection of this.connections.values()) this.feed(connection);
    }
  }

  /** What the hub has for a feed, up to now. */
  feed(connection) {
    if (!connection.isOpen || connection.isStalled || connection.epoch !== this.hub.epoch) return;
    for (const seq of this.hub.events) {
      if (seq <= connection.sentSeq) continue;
      const cursor = { epoch: connection.epoch, seq };
      this.send(connection, { name: 'event', cursor, prevSeq: connection.kind === 'sse' ? null : connection.prevSeq, type: 'message', data: '', id: null });
      connection.prevSeq = seq;
    }
    connection.sentSeq = Math.max(connection.sentSeq, this.hub.seq);
  }

  do(actions) {
    for (const action of actions) {
      switch (action.name) {
        case 'connect':
          this.connect(action.transport, action.attempt);
          break;
        case 'drop':
          assert.ok(this.connections.delete(action.transport), `nothing of ${action.transport} to drop`);
          // An attempt that failed at once cost nothing.
          this.newest.first ??= 'none';
          break;
        case 'event':
          assert.equal(action.transport, this.machine.live, 'only the live one delivers');
          this.delivered.push(action.cursor);
          break;
        case 'gap':
          this.gaps.push({ ...action, epoch: action.cursor.epoch, after: this.delivered.length });
          break;
        case 'remember': {
          const { works, sseMs, webtransportMs } = action;
          this.memory = { works, sseMs, webtransportMs };
          break;
        }
        case 'hello':
          this.newest.first ??= action.transport;
          // A feed that nothing has come of may begin again.
          if (!this.joined || this.position.resumeId === null) this.joined = action.cursor;
          break;
        case 'error':
          assert.equal(action.isTerminal, false);
      }
    }
    for (const kind of KINDS) {
      const state = this.machine.status(kind)?.state;
      assert.equal(this.connections.has(kind), ['connecting', 'ready'].includes(state), `${kind} is ${state}`);
    }
    if (!this.machine.live && !this.isResting) assert.notEqual(this.machine.status('sse').state, 'off', 'SSE is the floor');
    if (this.machine.live === 'webtransport') assert.equal(this.machine.status('sse').state, 'off', 'no second connection');
  }

  connect(kind, attempt) {
    this.connects.push({ kind, atMs: this.nowMs });
    const recent = this.connects.filter((one) => one.kind === kind && one.atMs > this.nowMs - 10_000).length;
    assert.ok(recent <= 25, `${recent} attempts of ${kind} in ten seconds`);
    const connection = { kind, attempt, isOpen: false, isStalled: false, freeMs: 0 };
    this.connections.set(kind, connection);
    const ask = () => {
      if (this.connections.get(kind) !== connection) return;
      const asked = this.machine.asking(kind, attempt, this.nowMs);
      const path = this.paths[kind];
      if (!path.passes) {
        // Nothing, or an end that says so.
        if (this.random() < 0.3) this.later(path.delayMs, () => this.do(this.machine.take(kind, attempt, { name: 'bye', reason: 'unreachable' }, this.nowMs)));
        return;
      }
      this.later(path.delayMs, () => this.accept(connection, asked));
    };
    if (kind === 'sse') ask();
    // Where it worked before it is known where it is.
    else this.later(this.memory.works ? 0 : this.discoveryMs, ask);
  }

  accept(connection, asked) {
    if (!this.hub.isUp) {
      if (connection.kind === 'sse') this.arrive(connection, () => this.machine.take(connection.kind, connection.attempt, { name: 'bye', reason: 'refused' }, this.nowMs));
      return;
    }
    const [seq, ...messages] = this.hub.open(asked);
    Object.assign(connection, { isOpen: true, epoch: this.hub.epoch, sentSeq: seq, prevSeq: seq });
    for (const message of messages) this.send(connection, message);
    this.feed(connection);
    const beat = () => {
      if (this.connections.get(connection.kind) !== connection || !this.hub.isUp || connection.isStalled) return;
      this.send(connection, { name: 'ping', watermark: { epoch: connection.epoch, seq: connection.sentSeq } });
      this.later(HEARTBEAT_MS, beat);
    };
    this.later(HEARTBEAT_MS, beat);
  }

  send(connection, message) {
    this.arrive(connection, () => this.machine.take(connection.kind, connection.attempt, message, this.nowMs));
  }

  /** In order, after the path's delay; what a path swallows once breaks the connection for good. */
  arrive(connection, step) {
    const path = this.paths[connection.kind];
    if (!path.passes) connection.isStalled = true;
    if (connection.isStalled) return;
    connection.freeMs = Math.max(connection.freeMs, this.nowMs + path.delayMs);
    this.later(connection.freeMs - this.nowMs, () => this.do(step()));
  }

  check() {
    let place = { ...this.joined };
    const seen = new Map();
    for (const { epoch, seq } of this.delivered) {
      assert.ok(seq > (seen.get(epoch) ?? 0), `${epoch}:${seq} came twice, or late`);
      seen.set(epoch, seq);
    }
    assert.ok(place.epoch);
    const had = new Set(this.delivered.map(({ epoch, seq }) => `${epoch}:${seq}`));
    const floors = new Map([[this.joined.epoch, this.startId ? 0 : this.joined.seq]]);
    const newest = `${this.hub.epoch}`;
    for (const { epoch, seq } of this.published) {
      if (had.has(`${epoch}:${seq}`)) {
        const inGap = this.gaps.find((gap) => gap.epoch === epoch && gap.from !== null && seq >= gap.from && seq <= gap.to);
        assert.equal(inGap, undefined, `${epoch}:${seq} was delivered, and told as lost`);
        continue;
      }
      if (epoch === this.joined.epoch && seq <= floors.get(epoch)) continue;
      const isTold = this.gaps.some((gap) =>
        gap.from !== null
          ? gap.epoch === epoch && seq >= gap.from && seq <= gap.to
          : gap.epoch === epoch ? seq <= gap.to : seq > (seen.get(epoch) ?? 0),
      );
      assert.ok(isTold || (this.startId && seq <= this.joined.seq && epoch === this.joined.epoch), `${epoch}:${seq} is missing, and nobody said so`);
    }
    const last = this.published.filter(({ epoch }) => epoch === newest).at(-1);
    assert.ok(had.size > 0 && last);
    assert.equal(seen.get(newest), last.seq, 'it has caught up');
  }

  later(ms, step) {
    this.queue.push({ atMs: this.nowMs + Math.max(0, ms), order: this.order++, step });
  }

  order = 0;

  every(interval, step, untilMs = Infinity) {
    this.later(interval(), () => {
      if (this.nowMs >= untilMs) return;
      step();
      this.every(interval, step, untilMs);
    });
  }

  runUntil(endMs) {
    for (;;) {
      let next = null;
      for (const entry of this.queue) {
        if (!next || entry.atMs < next.atMs || (entry.atMs === next.atMs && entry.order < next.order)) next = entry;
      }
      const tickMs = this.machine.dueMs;
      const atMs = Math.min(tickMs, next?.atMs ?? Infinity);
      if (atMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, atMs);
      if (next && next.atMs <= tickMs) {
        this.queue.splice(this.queue.indexOf(next), 1);
        next.step();
      } else this.do(this.machine.tick(this.nowMs));
    }
  }
}

/** A small generator, good enough to choose trouble with. */
function mulberry32(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
