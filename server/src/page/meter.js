// What one feed has measured. Pure: times come in. All memory is bounded, for hours of it.

/** How many of the newest latencies a distribution is of: a minute of the demo's. */
export const LATENCIES_KEPT = 3000;
/** Latencies from here on are counted as one. */
export const LATENCY_MS_MAX = 5000;

/** The newest whole-millisecond latencies, and their quantiles. */
export class Latencies {
  /** @param {number} ms */
  add(ms) {
    const slot = Math.min(Math.max(Math.round(ms), 0), LATENCY_MS_MAX);
    if (this.size === LATENCIES_KEPT) this.#count(this.#ring[this.#next] ?? 0, -1);
    else this.size++;
    this.#ring[this.#next] = slot;
    this.#next = (this.#next + 1) % LATENCIES_KEPT;
    this.#count(slot, 1);
    this.newest = ms;
  }

  /** @param {number} q from 0 to 1 @returns {number | null} milliseconds */
  quantile(q) {
    let left = Math.ceil(q * this.size);
    if (left === 0) return null;
    for (let ms = 0; ms <= LATENCY_MS_MAX; ms++) {
      left -= this.counts[ms] ?? 0;
      if (left <= 0) return ms;
    }
    return LATENCY_MS_MAX;
  }

  /** @param {number} slot @param {number} by */
  #count(slot, by) {
    this.counts[slot] = (this.counts[slot] ?? 0) + by;
  }

  /** How many there are of each millisecond. */
  counts = new Uint16Array(LATENCY_MS_MAX + 1);
  size = 0;
  /** @type {number | null} */
  newest = null;
  #ring = new Uint16Array(LATENCIES_KEPT);
  #next = 0;
}

/** Counts per slice of time, over the last minute. */
export class Arrivals {
  /** @param {number} atMs @param {boolean} isLate */
  add(atMs, isLate) {
    const slot = this.#sliceAt(atMs) % SLICES;
    const counts = isLate ? this.#late : this.#live;
    counts[slot] = (counts[slot] ?? 0) + 1;
  }

  /** @param {number} atMs @param {(age: number, live: number, late: number) => void} each from the oldest on; age in slices */
  forEach(atMs, each) {
    const newest = this.#sliceAt(atMs);
    for (let age = SLICES - 1; age >= 0; age--) {
      const slot = (newest - age + SLICES) % SLICES;
      each(age, this.#live[slot] ?? 0, this.#late[slot] ?? 0);
    }
  }

  /** How many came a second, of late. @param {number} nowMs */
  perSecond(nowMs) {
    let sum = 0;
    this.forEach(nowMs, (age, live, late) => {
      // The newest slice is not over.
      if (age >= 1 && age <= RATE_SLICES) sum += live + late;
    });
    return (1000 * sum) / (RATE_SLICES * SLICE_MS);
  }

  /** @param {number} atMs */
  #sliceAt(atMs) {
    const slice = Math.floor(atMs / SLICE_MS);
    for (let old = Math.max(this.#newest + 1, slice - SLICES + 1); old <= slice; old++) {
      this.#live[old % SLICES] = 0;
      this.#late[old % SLICES] = 0;
    }
    this.#newest = Math.max(this.#newest, slice);
    return Math.max(slice, this.#newest - SLICES + 1);
  }

  #live = new Uint32Array(SLICES);
  #late = new Uint32Array(SLICES);
  #newest = 0;
}

export const SLICE_MS = 500;
export const SLICES = 120;
const RATE_SLICES = 4;

/** Counts one feed, across its connections. */
export class Meter {
  /**
   * @param {{ connectMs: number | null, wallMs: number }} hello `wallMs`: this page's Date.now()
   */
  hello({ connectMs, wallMs }) {
    this.connectMs = connectMs;
    this.hellos++;
    // At first there is nothing to catch up: what is older than this was merely on its way.
    this.#awayUntilMs = this.hellos > 1 ? wallMs : -Infinity;
    this.caughtUpNow = 0;
  }

  /**
   * @param {{ epoch: string, seq: number, at: number | null, bytes: number }} event
   * @param {{ wallMs: number, nowMs: number }} arrival
   * @returns {{ latencyMs: number | null, isLate: boolean }} late: it was published before this connection was up
   */
  event({ epoch, seq, at, bytes }, { wallMs, nowMs }) {
    // The client drops duplicates; this counts what it lets through, which is to stay 0.
    if (epoch === this.#epoch && seq <= this.#seq) this.duplicates++;
    [this.#epoch, this.#seq] = [epoch, seq];
    this.events++;
    this.bytes += bytes;
    const latencyMs = at === null ? null : wallMs - at;
    const isLate = at !== null && at < this.#awayUntilMs;
    if (isLate) {
      this.caughtUp++;
      this.caughtUpNow++;
    } else if (latencyMs !== null) {
      // What waited for this page to come back says nothing about the way.
      this.latencies.add(latencyMs);
      this.latencyMsMin = Math.min(this.latencyMsMin, latencyMs);
    }
    this.arrivals.add(nowMs, isLate);
    return { latencyMs, isLate };
  }

  /** @param {{ from: number | null, to: number }} gap */
  gap({ from, to }) {
    this.gaps++;
    // Without a start nobody knows how many.
    if (from === null) this.lostUncounted++;
    else this.lost += to - from + 1;
  }

  get reconnects() {
    return Math.max(0, this.hellos - 1);
  }

  /** @type {number | null} */
  connectMs = null;
  hellos = 0;
  events = 0;
  bytes = 0;
  /** Events that came although this page was away when they were published. */
  caughtUp = 0;
  /** Those since the newest hello. */
  caughtUpNow = 0;
  duplicates = 0;
  gaps = 0;
  /** At most so many events were lost, */
  lost = 0;
  /** beside what so many gaps of unknown size hold. */
  lostUncounted = 0;
  latencies = new Latencies();
  latencyMsMin = Infinity;
  arrivals = new Arrivals();
  #awayUntilMs = -Infinity;
  #epoch = '';
  #seq = 0;
}

/** Which of two feeds brought the same event first, and by how much. */
export class Versus {
  /**
   * @param {'webtransport' | 'sse'} kind
   * @param {string} cursor
   * @param {number} nowMs
   */
  arrived(kind, cursor, nowMs) {
    const first = this.#waiting.get(cursor);
    if (!first) {
      this.#waiting.set(cursor, { kind, nowMs });
      if (this.#waiting.size > WAITING_MAX) this.#waiting.delete(this.#waiting.keys().next().value ?? '');
      return;
    }
    if (first.kind === kind) return;
    this.#waiting.delete(cursor);
    const lead = nowMs - first.nowMs;
    this.#leads.push(first.kind === 'webtransport' ? lead : -lead);
    if (this.#leads.length > PAIRS_KEPT) this.#leads.shift();
  }

  /** @returns {{ pairs: number, webtransportFirst: number, sseFirst: number, medianMs: number } | null} median: above 0 WebTransport leads */
  get result() {
    const sorted = [...this.#leads].sort((a, b) => a - b);
    if (sorted.length < PAIRS_MIN) return null;
    return {
      pairs: sorted.length,
      webtransportFirst: sorted.filter((lead) => lead > 0).length / sorted.length,
      sseFirst: sorted.filter((lead) => lead < 0).length / sorted.length,
      medianMs: sorted[sorted.length >> 1] ?? 0,
    };
  }

  /** What came afterwards by catching up is no race. */
  clear() {
    this.#waiting.clear();
  }

  /** @type {Map<string, { kind: string, nowMs: number }>} */
  #waiting = new Map();
  /** @type {number[]} */
  #leads = [];
}

const WAITING_MAX = 500;
const PAIRS_KEPT = 1000;
const PAIRS_MIN = 100;
