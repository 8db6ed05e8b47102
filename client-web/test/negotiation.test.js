// Who is tried when, step by step. What comes of it under a network that does what it likes: simulation.test.js.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Choice, probe, rest } from '../src/choice.js';
import { HEAD_START_MS, Negotiation } from '../src/negotiation.js';
import { Position } from '../src/position.js';
import { EPOCH, cursor } from './support/fakes.js';

const NOTHING = {};
const FAILS = { works: false };
const QUICKER = { works: true, sseMs: 60, webtransportMs: 40 };
const SLOWER = { works: true, sseMs: 20, webtransportMs: 40 };

/**
 * A negotiation under a test's hand: its clock, and what it wanted done since it was last asked. `joinsAfterMs`: the choice, if there is one, which
 * took as long to load.
 */
function negotiation({ known = NOTHING, kinds = ['sse', 'webtransport'], startId = null, isBeside = known === NOTHING, joinsAfterMs = 0, loadMs = joinsAfterMs } = {}) {
  const position = new Position(startId);
  const machine = new Negotiation({ kind: kinds[0], position, random: () => 0.5, connectTimeoutMs: 10_000 });
  const attempts = {};
  let nowMs = 1000;
  let wanted = [];
  const take = (actions) => {
    for (const action of actions) {
      if (action.name === 'connect') {
        attempts[action.transport] = action.attempt;
        machine.asking(action.transport, action.attempt, nowMs);
      }
      wanted.push(action);
    }
  };
  const text = ({ name, transport, from, to, works }) =>
    name === 'transportchange' ? `${from} > ${to}` : name === 'remember' ? `remember ${works}` : transport ? `${name} ${transport}` : name;
  const all = {
    machine,
    position,
    say: (kind, message) => take(machine.take(kind, attempts[kind], message, nowMs)),
    hello: (kind, seq, { verdict = 'resumed', epoch = EPOCH, heartbeatMs = 15_000 } = {}) =>
      all.say(kind, { name: 'hello', cursor: { epoch, seq }, verdict, heartbeatMs }),
    event: (kind, seq) => all.say(kind, { name: 'event', cursor: { epoch: EPOCH, seq }, prevSeq: null, type: 'message', data: '', id: null }),
    end: (kind, end = { reason: 'cut' }) => all.say(kind, { ...end, name: 'bye' }),
    probe: (isNewNetwork = false) => take(probe(machine, nowMs, isNewNetwork)),
    start: (memory) => take(machine.start(nowMs, memory)),
    rest: () => take(rest(machine, true)),
    advance(ms) {
      const endMs = nowMs + ms;
      while (machine.dueMs <= endMs) {
        nowMs = machine.dueMs;
        take(machine.tick(nowMs));
      }
      nowMs = endMs;
    },
    /** The clock stands for so long, and then everything happens at once. */
    sleep(ms) {
      nowMs += ms;
      take(machine.tick(nowMs));
    },
    /** What it wants remembered of how long they took, since it was last asked. */
    figures() {
      const { works, sseMs, webtransportMs, isMeasured } = wanted.findLast(({ name }) => name === 'remember') ?? {};
      return [works, sseMs, webtransportMs, isMeasured];
    },
    wanted() {
      const done = wanted.filter((action) => action.name !== 'state').map(text);
      wanted = [];
      return done;
    },
    state: () => [machine.status('sse')?.state, machine.status('webtransport')?.state, machine.live],
  };
  take(machine.start(nowMs, kinds.length > 1 ? known : NOTHING));
  all.advance(joinsAfterMs);
  if (kinds.length > 1 && joinsAfterMs < Infinity) take(new Choice(machine).join(nowMs, known, loadMs));
  if (isBeside) all.advance(HEAD_START_MS);
  return all;
}

test('nothing known: SSE at once, and WebTransport beside it when the first event is no longer in its way', () => {
  const { wanted, advance } = negotiation({ isBeside: false });
  assert.deepEqual(wanted(), ['connect sse']);
  advance(HEAD_START_MS - 1);
  assert.deepEqual(wanted(), []);
  advance(1);
  assert.deepEqual(wanted(), ['connect webtransport']);
});

test('nothing known: WebTransport at once where SSE fails, or is not there', () => {
  const { wanted, end } = negotiation({ isBeside: false });
  wanted();
  end('sse');
  assert.deepEqual(wanted(), ['drop sse', 'connect webtransport']);
  assert.deepEqual(negotiation({ isBeside: false, kinds: ['webtransport'] }).wanted(), ['connect webtransport']);
});

test('WebTransport takes over with its hello, and SSE is dropped before anything of it is told', () => {
  const { hello, wanted, state } = negotiation();
  hello('sse', 5);
  wanted();
  hello('webtransport', 5);
  assert.deepEqual(wanted(), ['drop sse', 'remember true', 'hello webtransport', 'sse > webtransport']);
  assert.deepEqual(state(), ['off', 'ready', 'webtransport']);
});

test('known to be as quick as SSE: a head start, and no second connection where it is enough', () => {
  const { hello, wanted, advance, machine } = negotiation({ known: QUICKER });
  assert.deepEqual(wanted(), ['connect webtransport']);
  advance(HEAD_START_MS - 1);
  hello('webtransport', 0);
  advance(20_000);
  assert.ok(!wanted().includes('connect sse'));
  assert.equal(machine.live, 'webtransport');
});

test('known to work, and not as quick as SSE, or not known how quick: SSE at once, and WebTransport beside it', () => {
  for (const known of [SLOWER, { works: true }, { works: true, sseMs: 60 }, { works: true, webtransportMs: 40 }]) {
    const { hello, wanted, advance, state } = negotiation({ known });
    assert.deepEqual(wanted(), ['connect sse']);
    advance(HEAD_START_MS);
    assert.deepEqual(wanted(), ['connect webtransport']);
    hello('webtransport', 0);
    assert.deepEqual(state(), ['off', 'ready', 'webtransport']);
  }
});

test('how long both took at a start is remembered: WebTransport’s with what had to be loaded, without what was asked for beside', () => {
  const { machine, hello, advance, figures } = negotiation({ isBeside: false, joinsAfterMs: 15 });
  advance(5);
  hello('sse', 0);
  advance(HEAD_START_MS - 20);
  assert.equal(machine.status('webtransport').state, 'connecting');
  advance(7);
  // Only now it knew where: the next one knows it from the beginning.
  machine.asking('webtransport', machine.lane('webtransport').attempt, 1000 + HEAD_START_MS + 7);
  advance(30);
  hello('webtransport', 0);
  assert.deepEqual(figures(), [true, 20, 15 + 30, true]);
});

test('SSE that hasn’t come when WebTransport has, took at least so long', () => {
  const one = negotiation({ loadMs: 15 });
  one.advance(30);
  one.hello('webtransport', 0);
  assert.deepEqual(one.figures(), [true, HEAD_START_MS + 30, 45, false]);
});

test('a head start that was enough leaves SSE’s figure as it was, and takes WebTransport’s', () => {
  const one = negotiation({ known: QUICKER, loadMs: 5 });
  one.advance(50);
  one.hello('webtransport', 0);
  assert.deepEqual(one.figures(), [true, 60, 55, false]);
  const slower = negotiation({ known: QUICKER, joinsAfterMs: 31 });
  slower.advance(30);
  slower.hello('webtransport', 0);
  assert.deepEqual(slower.figures(), [true, 60, 61, false], 'and it isn’t given again');
});

test('a head start that wasn’t enough isn’t given again, as soon as SSE has come first', () => {
  const one = negotiation({ known: QUICKER });
  one.advance(HEAD_START_MS + 25);
  one.hello('sse', 0);
  assert.deepEqual(one.figures(), [true, 25, HEAD_START_MS + 25, true]);
  one.wanted();
  one.advance(10);
  one.hello('webtransport', 0);
  assert.deepEqual(one.figures(), [true, 25, HEAD_START_MS + 35, true]);
});

test('a head start that SSE was about to lose as well, on a slow network, was none too many', () => {
  const one = negotiation({ known: { works: true, sseMs: 600, webtransportMs: 400 } });
  one.advance(450);
  one.hello('webtransport', 0);
  assert.deepEqual(one.figures(), [true, 600, 450, false]);
});

test('what they take to come back, or on another network, says nothing of how a feed begins', () => {
  const lost = negotiation();
  lost.hello('sse', 0);
  lost.end('sse');
  lost.hello('webtransport', 0);
  assert.deepEqual(lost.figures(), [true, undefined, undefined, false]);
  const back = negotiation({ known: QUICKER });
  back.hello('webtransport', 0);
  back.wanted();
  back.end('webtransport');
  back.advance(700);
  back.hello('sse', 0);
  back.advance(300);
  back.hello('webtransport', 0);
  assert.deepEqual(back.figures(), [true, 60, 0, false], 'the figures of the start');
  const tried = negotiation({ known: QUICKER });
  tried.hello('webtransport', 0);
  tried.end('webtransport');
  tried.advance(800);
  assert.equal(tried.state()[1], 'connecting');
  tried.hello('sse', 0);
  tried.hello('webtransport', 0);
  assert.deepEqual(tried.figures(), [true, 60, 0, false]);
  const moved = negotiation();
  moved.hello('sse', 0);
  moved.advance(4000);
  moved.probe(true);
  moved.hello('webtransport', 0);
  assert.deepEqual(moved.figures(), [true, undefined, undefined, false]);
  const failed = negotiation({ known: SLOWER });
  failed.hello('sse', 0);
  failed.advance(HEAD_START_MS);
  failed.end('webtransport');
  failed.advance(1000);
  failed.hello('webtransport', 0);
  assert.deepEqual(failed.figures(), [true, undefined, undefined, false]);
});

test('a page that comes back begins as its memory says by then', () => {
  const one = negotiation({ known: QUICKER });
  one.advance(70);
  one.hello('webtransport', 0);
  const [works, sseMs, webtransportMs] = one.figures();
  one.rest();
  one.wanted();
  one.start({ works, sseMs, webtransportMs });
  assert.deepEqual(one.wanted(), ['connect sse']);
  one.advance(HEAD_START_MS);
  assert.deepEqual(one.wanted(), ['connect webtransport']);
});

test('known to be quick, and it isn’t: SSE a head start later, or as soon as it fails', () => {
  const slow = negotiation({ known: QUICKER });
  slow.advance(HEAD_START_MS - 1);
  assert.deepEqual(slow.wanted(), ['connect webtransport']);
  slow.advance(1);
  assert.deepEqual(slow.wanted(), ['connect sse']);
  const broken = negotiation({ known: QUICKER });
  broken.advance(10);
  broken.end('webtransport');
  assert.deepEqual(broken.wanted(), ['connect webtransport', 'drop webtransport', 'connect sse'], 'and nobody is told of an error');
});

test('known to be quick, and what knows WebTransport is late, or can’t be loaded: SSE waits for nothing but the head start', () => {
  const late = negotiation({ known: QUICKER, joinsAfterMs: 300 });
  assert.deepEqual(late.wanted(), ['connect sse', 'remember true', 'connect webtransport']);
  late.hello('sse', 3);
  late.hello('webtransport', 3);
  assert.deepEqual(late.state(), ['off', 'ready', 'webtransport']);
  const [works, sseMs] = negotiation({ known: QUICKER, joinsAfterMs: 300 }).figures();
  assert.deepEqual([works, sseMs], [true, undefined], 'and it waits no second time');
  const never = negotiation({ known: QUICKER, joinsAfterMs: HEAD_START_MS, isBeside: false });
  assert.deepEqual(never.wanted()[0], 'connect sse');
});

test('without the choice SSE goes on alone: it comes back at its cursor, and ends where its hub says so', () => {
  const { hello, event, end, wanted, advance, machine, position } = negotiation({ kinds: ['sse'] });
  hello('sse', 0);
  event('sse', 4);
  wanted();
  end('sse');
  assert.deepEqual(wanted(), ['drop sse', 'sse > null', 'error sse']);
  advance(1000);
  assert.deepEqual([wanted(), position.resumeId], [['connect sse'], cursor(4)]);
  end('sse', { reason: '400', status: 400, isTerminal: true });
  assert.deepEqual([wanted(), machine.isClosed, machine.dueMs], [['drop sse', 'error sse'], true, Infinity]);
});

test('nothing known, and SSE is lost before there is a choice: WebTransport as soon as there is one', () => {
  const { wanted, end, machine } = negotiation({ isBeside: false, joinsAfterMs: 60 });
  assert.deepEqual(wanted(), ['connect sse']);
  end('sse');
  assert.deepEqual(wanted(), ['drop sse', 'connect webtransport']);
  assert.equal(machine.status('sse').state, 'waiting');
});

test('a probe during the head start opens nothing more', () => {
  const { probe, wanted } = negotiation({ known: QUICKER });
  probe();
  assert.deepEqual(wanted(), ['connect webtransport']);
});

test('known to fail: SSE alone, WebTransport within a minute, and it takes over when it works', () => {
  const { wanted, advance, hello, say, state } = negotiation({ known: FAILS });
  assert.deepEqual(wanted(), ['connect sse']);
  hello('sse', 0);
  for (let ms = 0; ms < 60_000 && !wanted().includes('connect webtransport'); ms += 1000) {
    say('sse', { name: 'ping', watermark: { epoch: EPOCH, seq: 0 } });
    advance(1000);
  }
  hello('webtransport', 0);
  assert.deepEqual(state(), ['off', 'ready', 'webtransport']);
});

test('a failure is remembered once SSE shows that the hub is there, whichever comes first', () => {
  const before = negotiation();
  before.end('webtransport');
  assert.ok(!before.wanted().includes('remember false'), 'the network may be gone altogether');
  before.hello('sse', 0);
  assert.ok(before.wanted().includes('remember false'));
  const after = negotiation();
  after.hello('sse', 0);
  after.end('webtransport');
  assert.ok(after.wanted().includes('remember false'));
});

test('a hub that refuses a session was reached: that is no proof that WebTransport fails', () => {
  const { hello, say, wanted } = negotiation();
  hello('sse', 0);
  say('webtransport', { name: 'bye', code: 4, reason: 'limit', retryMs: 1000 });
  assert.ok(!wanted().includes('remember false'));
});

test('a session that worked and was lost is no proof that WebTransport fails', () => {
  const { hello, end, wanted } = negotiation();
  hello('webtransport', 0);
  end('webtransport');
  assert.ok(!wanted().includes('remember false'));
});

test('WebTransport that worked is tried again within half a minute, one that never did every minute', () => {
  const gaps = (worked) => {
    const one = negotiation();
    if (worked) one.hello('webtransport', 0);
    one.end('webtransport');
    if (!one.wanted().includes('connect sse')) one.hello('sse', 0);
    one.hello('sse', 0, { heartbeatMs: 3_600_000 });
    let longestMs = 0;
    for (let i = 0; i < 20; i++) {
      const { retryMs, state } = one.machine.status('webtransport');
      assert.equal(state, 'waiting');
      longestMs = Math.max(longestMs, retryMs);
      one.advance(retryMs);
      one.end('webtransport');
      one.say('sse', { name: 'ping', watermark: { epoch: EPOCH, seq: 0 } });
    }
    return longestMs;
  };
  assert.equal(gaps(true), 22_500);
  assert.equal(gaps(false), (500 + 60_000) / 2);
});

test('WebTransport that is away for long fails about ten times in five minutes: Chromium holds back who fails more often', () => {
  const one = negotiation();
  one.hello('webtransport', 0);
  one.end('webtransport');
  one.hello('sse', 0, { heartbeatMs: 3_600_000 });
  let failures = 0;
  for (let ms = 0; ms < 600_000; ms += 100) {
    // As long as Chromium takes to fail, and to hold back the next one.
    if (one.state()[1] === 'connecting') {
      one.advance(4000 + 5000);
      one.end('webtransport');
      ms += 9000;
      if (ms >= 300_000) failures++;
    }
    one.advance(100);
  }
  assert.ok(failures >= 9 && failures <= 10, `${failures} failures`);
});

test('SSE that is back from an outage brings WebTransport back with it', () => {
  const { hello, end, advance, wanted, state } = negotiation();
  hello('webtransport', 0);
  end('webtransport');
  for (let i = 0; i < 4; i++) {
    while (state()[1] !== 'connecting') advance(500);
    end('webtransport');
  }
  while (state()[0] !== 'connecting') advance(100);
  wanted();
  hello('sse', 0);
  advance(HEAD_START_MS);
  assert.ok(wanted().includes('connect webtransport'));
});

test('a drain is of the hub: neither transport comes back before the time it gave, and the better one first', () => {
  const { hello, say, wanted, advance } = negotiation();
  hello('webtransport', 3);
  wanted();
  say('webtransport', { name: 'bye', code: 1, reason: 'drain', retryMs: 5000 });
  assert.deepEqual(wanted(), ['drop webtransport', 'webtransport > null', 'error webtransport']);
  advance(4999);
  assert.deepEqual(wanted(), []);
  advance(1);
  assert.deepEqual(wanted(), ['connect webtransport']);
  advance(HEAD_START_MS);
  assert.deepEqual(wanted(), ['connect sse']);
});

test('a probe does not override what the hub asked for', () => {
  const { hello, say, probe, wanted, advance } = negotiation({ kinds: ['sse'] });
  hello('sse', 3);
  say('sse', { name: 'bye', code: 4, reason: 'limit', retryMs: 8000 });
  wanted();
  probe(true);
  advance(7999);
  assert.deepEqual(wanted(), []);
  advance(1);
  assert.deepEqual(wanted(), ['connect sse']);
});

test('a probe tries what waits, but not twice in half a second', () => {
  const { hello, end, probe, wanted, advance } = negotiation();
  hello('sse', 0);
  advance(3000);
  end('webtransport');
  wanted();
  probe();
  assert.deepEqual(wanted(), ['connect webtransport']);
  end('webtransport');
  wanted();
  probe();
  assert.deepEqual(wanted(), []);
  advance(500);
  assert.deepEqual(wanted(), ['connect webtransport']);
});

test('on a new network an attempt that began on the old one is made anew', () => {
  const { hello, probe, wanted, advance } = negotiation();
  hello('sse', 0);
  advance(4000);
  wanted();
  probe(false);
  assert.deepEqual(wanted(), []);
  probe(true);
  assert.deepEqual(wanted(), ['drop webtransport', 'connect webtransport']);
});

test('bye with null ends the feed', () => {
  const { hello, say, wanted, machine } = negotiation();
  hello('sse', 0);
  wanted();
  say('webtransport', { name: 'bye', code: 2, reason: 'no matcher', retryMs: null, isTerminal: true });
  assert.deepEqual(wanted(), ['drop webtransport', 'drop sse', 'sse > null', 'error webtransport']);
  assert.ok(machine.isClosed);
  assert.equal(machine.dueMs, Infinity);
});

test('what WebTransport may not have, SSE may: it has cookies', () => {
  const { hello, say, end, wanted, machine, advance } = negotiation();
  say('webtransport', { name: 'bye', code: 3, reason: 'no credentials', retryMs: null, isTerminal: true });
  assert.equal(machine.isClosed, false);
  hello('sse', 0);
  wanted();
  advance(10_000);
  assert.deepEqual([wanted(), machine.status('webtransport').state], [[], 'off'], 'and it isn’t asked again');
  end('sse', { reason: '401', status: 401, isTerminal: true });
  assert.ok(machine.isClosed);
});

test('a hub that refuses SSE refuses the feed', () => {
  const { end, wanted, machine } = negotiation();
  wanted();
  end('sse', { reason: '400', status: 400, isTerminal: true });
  assert.deepEqual(wanted(), ['drop sse', 'drop webtransport', 'error sse']);
  assert.ok(machine.isClosed);
});

test('a clock that stood still is no silence', () => {
  const { hello, say, sleep, advance, machine } = negotiation({ kinds: ['sse'] });
  hello('sse', 0);
  sleep(600_000);
  assert.equal(machine.live, 'sse');
  advance(400);
  say('sse', { name: 'ping', watermark: { epoch: EPOCH, seq: 1 } });
  advance(20_000);
  assert.equal(machine.live, 'sse');
  sleep(600_000);
  advance(500);
  assert.equal(machine.live, null, 'but one that lasts is');
});

test('a hub without control messages delivers until it is cut', () => {
  const { say, end, wanted, advance, machine, position } = negotiation({ kinds: ['sse'] });
  say('sse', { name: 'hello', cursor: null, verdict: null, heartbeatMs: null });
  say('sse', { name: 'event', cursor: null, prevSeq: null, type: 'message', data: 'x', id: 'urn:7' });
  say('sse', { name: 'event', cursor: null, prevSeq: null, type: 'message', data: 'x', id: null });
  advance(3_600_000);
  assert.equal(machine.live, 'sse', 'nobody said how long it may be silent');
  assert.deepEqual(wanted().filter((what) => what === 'event sse').length, 2);
  end('sse');
  assert.equal(position.resumeId, 'urn:7');
});

test('a cut between a hello and what proves it: the loss is asked for again', () => {
  const old = cursor(40, 'vvvvvvvvvv');
  const { hello, say, end, wanted, advance, position } = negotiation({ kinds: ['sse'], startId: old });
  hello('sse', 0, { verdict: 'new_epoch' });
  end('sse');
  assert.equal(position.resumeId, old);
  advance(30_000);
  hello('sse', 0, { verdict: 'new_epoch' });
  wanted();
  say('sse', { name: 'gap', reason: 'new_epoch', from: null, to: 0, cursor: { epoch: EPOCH, seq: 0 } });
  assert.deepEqual(wanted(), ['gap sse']);
  assert.equal(position.resumeId, cursor(0));
});

test('with the verdict latest the hello’s cursor is no place to come back to', () => {
  const { hello, event, end, wanted, advance, position } = negotiation({ kinds: ['sse'] });
  hello('sse', 9, { verdict: 'latest' });
  end('sse');
  assert.equal(position.resumeId, null);
  advance(30_000);
  hello('sse', 9, { verdict: 'latest' });
  event('sse', 10);
  assert.equal(position.resumeId, cursor(10));
  assert.ok(wanted().includes('event sse'));
});

test('latest: both begin, and the second one to say hello goes on where the first one is', () => {
  const { hello, event, wanted, position, state } = negotiation();
  hello('sse', 4, { verdict: 'latest' });
  hello('webtransport', 6, { verdict: 'latest' });
  assert.deepEqual(state(), ['off', 'ready', 'webtransport'], 'nothing had come');
  const other = negotiation();
  other.hello('sse', 4, { verdict: 'latest' });
  other.event('sse', 9);
  other.wanted();
  other.hello('webtransport', 4, { verdict: 'latest' });
  assert.deepEqual(other.wanted(), ['drop webtransport', 'connect webtransport'], 'it would leave out what was overwritten since');
  other.hello('webtransport', 9);
  other.event('webtransport', 10);
  assert.deepEqual(other.wanted().filter((what) => what.startsWith('event')), ['event webtransport']);
  event('webtransport', 7);
  assert.deepEqual([wanted().at(-1), position.resumeId], ['event webtransport', cursor(7)]);
});

test('a feed that two transports began in the void is told its loss once', () => {
  const { hello, say, event, wanted, position } = negotiation({ startId: cursor(100) });
  hello('sse', 0, { verdict: 'unknown_cursor' });
  say('sse', { name: 'gap', reason: 'unknown_cursor', from: null, to: 0, cursor: { epoch: EPOCH, seq: 0 } });
  event('sse', 7);
  hello('webtransport', 0, { verdict: 'unknown_cursor' });
  say('webtransport', { name: 'gap', reason: 'unknown_cursor', from: null, to: 0, cursor: { epoch: EPOCH, seq: 0 } });
  event('webtransport', 7);
  event('webtransport', 8);
  const told = wanted();
  assert.deepEqual(told.filter((what) => /^(gap|event)/.test(what)), ['gap sse', 'event sse', 'event webtransport']);
  assert.equal(position.duplicates, 1);
});
