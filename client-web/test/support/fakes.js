// A clock that only a test moves, and transports that only a test speaks for.

/** Timers, a clock and a page under a test's hand. */
export class FakeTime {
  nowMs = 0;
  page = new EventTarget();
  #timers = new Map();
  #next = 1;

  connection = Object.assign(new EventTarget(), { type: 'wifi' });
  document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  stored = {};

  environment(random = () => 0.5) {
    return {
      nowMs: () => this.nowMs,
      wallMs: () => WALL_MS + this.nowMs,
      setTimer: (run, delayMs) => {
        this.#timers.set(this.#next, { run, atMs: this.nowMs + delayMs });
        return this.#next++;
      },
      clearTimer: (timer) => this.#timers.delete(timer),
      random,
      baseUrl: 'https://hub.example/app/',
      EventSource: undefined,
      WebTransport: undefined,
      fetch: undefined,
      navigator: { userAgent: '' },
      storage: () => this.stored,
      page: this.page,
      document: this.document,
      connection: this.connection,
    };
  }

  /** Moves the clock, running what falls due in its order. */
  advance(ms) {
    const endMs = this.nowMs + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, timer]) => timer.atMs <= endMs).sort((a, b) => a[1].atMs - b[1].atMs)[0];
      if (!due) break;
      this.#timers.delete(due[0]);
      this.nowMs = Math.max(this.nowMs, due[1].atMs);
      due[1].run();
    }
    this.nowMs = endMs;
  }

  get pending() {
    return this.#timers.size;
  }
}

/** A transport whose connections a test speaks for. */
export class FakeTransport {
  connections = [];
  connect = (request) => {
    const connection = {
      request: { ...request, lastEventId: request.lastEventId() },
      isClosed: false,
      listened: [...request.types],
      close(how) {
        Object.assign(this, how, { isClosed: true });
      },
      listen(type) {
        this.listened.push(type);
      },
      hello(seq, { verdict = 'resumed', epoch = EPOCH, heartbeatMs = 15_000 } = {}) {
        request.onMessage({ name: 'hello', cursor: { epoch, seq }, verdict, heartbeatMs });
      },
      event(seq, { epoch = EPOCH, prevSeq = null, type = 'message', id = null } = {}) {
        const event = { name: 'event', cursor: { epoch, seq }, prevSeq, at: 1000 + seq, topic: 't', id, type, data: `${seq}` };
        request.onMessage(event);
      },
      /** What requests in band are answered with; a transport without it has none. */
      answer: null,
      say: request.onMessage,
      end: (end = { reason: 'cut' }) => request.onEnd(end),
    };
    this.connections.push(connection);
    return {
      close: (how) => connection.close(how),
      listen: (type) => connection.listen(type),
      get request() {
        return connection.answer ?? undefined;
      },
    };
  };

  get last() {
    return this.connections.at(-1);
  }
}

/** A day in 2026. */
const WALL_MS = 1.79e12;
export const EPOCH = '0a1b2c3d4e';
export const cursor = (seq, epoch = EPOCH) => `#${epoch}:${seq}`;
