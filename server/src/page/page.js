// The page at `/`: puts its parts together.

import { Fanwire } from '/client/fanwire.js';
import { parseCursor } from '/client/cursor.js';
import { ArrivalList, wirePublishForm } from './arrivals.js';
import { niceScale, TimeChart } from './chart.js';
import * as format from './format.js';
import { Versus } from './meter.js';
import { NegotiationView } from './negotiation.js';
import { Panel } from './panel.js';
import { Painter, Surface } from './surface.js';
import { Wires } from './wires.js';

/** @typedef {import('./panel.js').Arrival} Arrival */
/** @typedef {{ chart: TimeChart, topic: string, read: (vitals: any) => number[], tell: (values: number[]) => [string, ...Note[]] }} VitalChart */
/** What stands beside a chart's value: a text, and which line it is of (`k1` …), if any. @typedef {[string, string?]} Note */

/** @template {HTMLElement} T @param {string} id */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const PROCESS_TOPIC = 'host/process';
const TICK_MS = 100;
const VITALS_WAIT_MS = 3000;
const LOOPBACK = /^((.+\.)?localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
/** A minute of five topics, ten times a second, and some that are others'. */
const HISTORY_EVENTS = 3500;
const HISTORY_WAIT_MS = 3000;
const SERIES_SLOTS = [0, 1, 2];
/** @type {Record<string, string>} */
const CHART_NAMES = { cpu: 'CPU', memory: 'Memory', network: 'Network', load: 'Load' };

const painter = new Painter();
const versus = new Versus();
let memoryTotal = 0;
let cores = 0;

/** @type {Record<string, VitalChart>} */
const vitals = {
  cpu: {
    topic: 'host/cpu',
    chart: new TimeChart({
      series: [
        { name: 'least busy core', color: 'chart', shape: 'band-low' },
        { name: 'busiest core', color: 'chart', shape: 'band-high' },
        { name: 'all cores', color: 'chart', shape: 'line' },
      ],
      format: (value) => `${value} %`,
      scale: () => ({ top: 100, step: 25 }),
    }),
    read: ({ cores: each, total }) => {
      cores = each.length;
      return [Math.min(...each), Math.max(...each), total];
    },
    tell: ([low = 0, high = 0, total = 0]) => [
      format.percent(total),
      ['all cores', 'k1'],
      ...(cores > 1 ? [/** @type {Note} */ ([`each of ${cores}: ${Math.round(low)} to ${Math.round(high)} %`, 'band'])] : []),
    ],
  },
  memory: {
    topic: 'host/memory',
    chart: new TimeChart({
      series: [{ name: 'in use', color: 'chart', shape: 'area' }],
      format: (value) => (value === 0 ? '0' : format.memory(value).replace(/\.0+ /, ' ')),
      // Steps that memory comes in, and all of it in sight.
      scale: (highest) => {
        const all = Math.max(memoryTotal, highest, 1);
        const step = 2 ** Math.ceil(Math.log2(all / 4));
        return { top: step * Math.ceil(all / step), step };
      },
      mark: () => (memoryTotal > 0 ? { value: memoryTotal, label: `installed: ${format.memory(memoryTotal)}` } : null),
    }),
    read: ({ total, used }) => {
      memoryTotal = total;
      return [used];
    },
    tell: ([used = 0]) => [format.memory(used), [memoryTotal > 0 ? `in use, ${format.percent((100 * used) / memoryTotal)} of all` : 'in use']],
  },
  network: {
    topic: 'host/network',
    chart: new TimeChart({
      series: [
        { name: 'received', color: 'chart', shape: 'area' },
        { name: 'sent', color: 'chart-2', shape: 'line', dash: [4, 3] },
      ],
      format: (value) => (value === 0 ? '0' : format.rate(value).replace(/\.0+ /, ' ').replace(/(\.\d)0 /, '$1 ')),
      scale: (highest) => niceScale(Math.max(highest, 1000)),
    }),
    read: ({ received_per_s: received, sent_per_s: sent }) => [received, sent],
    tell: ([received = 0, sent = 0]) => [format.rate(received), ['received', 'k1'], [`sent: ${format.rate(sent)}`, 'k2']],
  },
  load: {
    topic: 'host/load',
    chart: new TimeChart({
      series: [
        { name: '15 minutes', color: 'chart-3', shape: 'line', dash: [1, 3] },
        { name: '5 minutes', color: 'chart-2', shape: 'line', dash: [4, 3] },
        { name: '1 minute', color: 'chart', shape: 'line' },
      ],
      format: (value) => `${+value.toFixed(2)}`,
      scale: (highest) => niceScale(Math.max(highest * 1.1, cores || 1)),
      mark: () => (cores > 0 ? { value: cores, label: cores > 2 ? `all ${cores} cores busy` : cores === 2 ? 'both cores busy' : 'the one core busy' } : null),
    }),
    read: ({ one, five, fifteen }) => [fifteen, five, one],
    tell: ([fifteen = 0, five = 0, one = 0]) => [
      one.toFixed(2),
      ['1 min', 'k1'],
      [`5 min: ${five.toFixed(2)}`, 'k2'],
      [`15 min: ${fifteen.toFixed(2)}`, 'k3'],
    ],
  },
};
const byTopic = new Map(Object.values(vitals).map((vital) => [vital.topic, vital]));
/** Both of the hub's own, drawn as two small lines without axes. */
const processChart = new TimeChart({
  series: [
    { name: 'CPU', color: 'chart', shape: 'line' },
    { name: 'memory', color: 'chart', shape: 'line' },
  ],
  format: String,
  scale: niceScale,
});
const sparks = { cpu: 0, memory: 1 };
let isBackfilled = false;
/** The newest `host/process`. @type {{ cpu: number, memory: number, uptime_s: number, threads: number } | null} */
let hub = null;
/** How far each vital topic is drawn, so that the second transport's copy isn't. @type {Map<string, { epoch: string, seq: number }>} */
const drawn = new Map();
let vitalsSeen = 0;

const wires = new Wires((kind) => panels[kind].isUp);
const panels = { webtransport: makePanel('webtransport'), sse: makePanel('sse') };
const negotiation = new NegotiationView(byId('negotiation'), { url: '/events?topic=*', painter });
const arrivals = new ArrivalList(byId('arrivals'), byId('arrivals-empty'), panels);

start();

/** @param {'webtransport' | 'sse'} kind */
function makePanel(kind) {
  return new Panel(kind, { url: '/events?topic=*', painter, onArrival, onState });
}

/** A panel's connection changed. */
function onState() {
  const cursor = parseCursor(panels.sse?.stats().cursor ?? panels.webtransport?.stats().cursor);
  if (cursor && !isBackfilled) backfill(cursor);
  versus.clear();
  painter.request();
}

/** @param {Arrival} arrival */
function onArrival(arrival) {
  const { kind, event, isLate, nowMs } = arrival;
  wires.light(kind, isLate);
  if (!isLate) versus.arrived(kind, event.fanwire.cursor, nowMs);
  const topic = event.fanwire.topic ?? '';
  if (byTopic.has(topic) || topic === PROCESS_TOPIC) takeVitals(topic, event);
  else arrivals.arrived(arrival);
}

/**
 * Reads the last minute of vital signs from the hub's history, so that the charts don't begin empty: a cursor that lies
 * back is all that it takes.
 * @param {{ epoch: string, seq: number }} now
 */
function backfill({ epoch, seq }) {
  isBackfilled = true;
  const query = new URLSearchParams([...byTopic.keys(), PROCESS_TOPIC].map((topic) => ['topic', topic]));
  const aborter = new AbortController();
  const history = new Fanwire(`/events?${query}`, {
    transport: 'sse',
    lastEventId: `#${epoch}:${Math.max(0, seq - HISTORY_EVENTS)}`,
    signal: aborter.signal,
  });
  /** @type {Map<string, [number, number[]][]>} */
  const older = new Map();
  const finish = () => {
    if (aborter.signal.aborted) return;
    aborter.abort();
    for (const [topic, samples] of older) chartOf(topic)?.backfill(samples);
  };
  history.addEventListener('message', ({ data, fanwire }) => {
    const samples = older.get(fanwire.topic) ?? [];
    older.set(fanwire.topic, samples);
    try {
      samples.push([fanwire.at, readSample(fanwire.topic, JSON.parse(data))]);
    } catch {
      // As with the live ones: what isn't a sample isn't drawn.
    }
    if (fanwire.seq >= seq) finish();
  });
  history.addEventListener('error', finish);
  setTimeout(finish, HISTORY_WAIT_MS);
}

/** @param {string} topic @param {Arrival['event']} event */
function takeVitals(topic, { data, fanwire: { cursor, seq, at } }) {
  const epoch = cursor.slice(1, cursor.indexOf(':'));
  const last = drawn.get(topic);
  if (at === null || typeof data !== 'string' || (last && last.epoch === epoch && seq <= last.seq)) return;
  drawn.set(topic, { epoch, seq });
  try {
    const sample = JSON.parse(data);
    if (topic === PROCESS_TOPIC) hub = sample;
    chartOf(topic)?.add(at, readSample(topic, sample));
    vitalsSeen++;
  } catch {
    // Anyone may publish on these topics; what isn't a sample isn't drawn.
  }
}

/** @param {string} topic */
function chartOf(topic) {
  return topic === PROCESS_TOPIC ? processChart : byTopic.get(topic)?.chart;
}

/** @param {string} topic @param {any} sample */
function readSample(topic, sample) {
  return topic === PROCESS_TOPIC ? [sample.cpu, sample.memory] : (byTopic.get(topic)?.read(sample) ?? []);
}

function start() {
  for (const [name, { chart }] of Object.entries(vitals)) {
    const canvas = /** @type {HTMLCanvasElement} */ (document.querySelector(`[data-chart=${name}] canvas`));
    painter.add(new Surface(canvas, (pen) => chart.draw(pen)));
    canvas.addEventListener('pointermove', ({ offsetX }) => {
      chart.pointerX = offsetX;
      renderVitals();
      painter.request();
    });
    canvas.addEventListener('pointerleave', () => (chart.pointerX = null));
  }
  for (const [name, series] of Object.entries(sparks)) {
    const canvas = /** @type {HTMLCanvasElement} */ (document.querySelector(`[data-spark=process-${name}] canvas`));
    painter.add(new Surface(canvas, (pen) => processChart.drawSpark(pen, series)));
  }
  wires.surface = painter.add(new Surface(byId('wires'), wires.draw));

  panels.webtransport.other = panels.sse;
  panels.sse.other = panels.webtransport;
  byId('panels').append(panels.webtransport.element, panels.sse.element);
  byId('clock-note').textContent = LOOPBACK.test(location.hostname)
    ? 'Latency is this page’s clock less the hub’s, which took the event. At this address both are on one machine and have one clock, unless something forwards the port. It is counted in whole milliseconds, over the newest 3,000 events; what was caught up after a break is left out.'
    : 'Latency is this page’s clock less the hub’s, which took the event. Where they are two machines, their clocks differ by some milliseconds or more, so compare the two transports and not the numbers themselves. Over the newest 3,000 events; what was caught up after a break is left out.';
  wirePublishForm(byId('publish-form'), byId('publish-status'), panels, arrivals);
  for (const place of document.querySelectorAll('[data-origin]')) place.textContent = location.origin;
  for (const button of document.querySelectorAll('[data-copy]')) wireCopy(/** @type {HTMLButtonElement} */ (button));

  negotiation.start();
  panels.webtransport.start();
  panels.sse.start();
  const still = matchMedia('(prefers-reduced-motion: reduce)');
  let ticks = 0;
  setInterval(() => {
    if (document.hidden) return;
    ticks++;
    if (!still.matches || ticks % 10 === 0) painter.request();
    if (ticks % 3 !== 0) return;
    renderVitals();
    panels.webtransport.render();
    panels.sse.render();
    negotiation.render();
    arrivals.render();
    if (ticks % 30 === 0) describe();
  }, TICK_MS);
  setTimeout(tellWithoutVitals, VITALS_WAIT_MS);

  // For tests of a browser.
  Object.assign(globalThis, {
    fanwirePage: {
      stats: () => ({ webtransport: panels.webtransport.stats(), sse: panels.sse.stats(), vitalsSeen, versus: versus.result, negotiation: negotiation.stats() }),
      break: (/** @type {'webtransport' | 'sse'} */ kind) => panels[kind].break(),
      restore: (/** @type {'webtransport' | 'sse'} */ kind) => panels[kind].restore(),
    },
  });
}

function renderVitals() {
  for (const [name, { chart, tell }] of Object.entries(vitals)) {
    const read = chart.read;
    if (!read) continue;
    const [value, ...notes] = tell(SERIES_SLOTS.map((s) => chart.samples.value(s, read.index)));
    const figure = /** @type {HTMLElement} */ (document.querySelector(`[data-chart=${name}]`));
    write(figure.querySelector('output'), value);
    writeNotes(/** @type {HTMLElement} */ (figure.querySelector('.note')), read.agoS > 1 ? [[`${Math.round(read.agoS)} s ago`], ...notes] : notes);
  }
  if (!hub) return;
  write(document.querySelector('[data-spark=process-cpu] output'), format.percent(hub.cpu));
  write(document.querySelector('[data-spark=process-memory] output'), format.memory(hub.memory));
  write(byId('process-threads'), format.count(hub.threads));
  write(byId('process-uptime'), format.duration(hub.uptime_s));
}

/** What a chart shows, in words; seldom, as nobody wants it read out ten times a second. */
function describe() {
  for (const [name, { chart, tell }] of Object.entries(vitals)) {
    const { size } = chart.samples;
    if (size === 0) continue;
    const [value, ...notes] = tell(SERIES_SLOTS.map((s) => chart.samples.value(s, size - 1)));
    const note = notes.map(([text]) => text).join(', ');
    const canvas = document.querySelector(`[data-chart=${name}] canvas`);
    canvas?.setAttribute('aria-label', `${CHART_NAMES[name]} over the last minute, now ${value} (${note})`);
  }
  const race = versus.result;
  const [wt, sse] = race ? [race.webtransportFirst, race.sseFirst].map((part) => Math.round(100 * part)) : [0, 0];
  const ties = 100 - (wt ?? 0) - (sse ?? 0);
  const alike = ties > 0 ? `, and ${ties} % came at the same time, as far as this browser’s clock tells` : '';
  const median = race ? Math.abs(race.medianMs) : 0;
  const lead = median < 0.05 ? 'in the median neither leads' : `in the median ${race && race.medianMs > 0 ? 'WebTransport' : 'SSE'} by ${median.toFixed(1)} ms`;
  write(
    byId('versus'),
    race ? `Of the newest ${format.count(race.pairs)} events that both brought, WebTransport brought ${wt} % first and SSE ${sse} %${alike}; ${lead}.` : '',
  );
}

function tellWithoutVitals() {
  const notice = byId('no-demo');
  const check = () => {
    const isSilent = vitalsSeen === 0;
    const isUp = panels.webtransport.isUp || panels.sse.isUp;
    byId('charts').hidden = isSilent;
    byId('vitals-note').hidden = isSilent;
    notice.hidden = !isSilent;
    write(
      notice,
      isUp
        ? 'This hub publishes no vital signs: it listens beyond its own machine, or was told to keep them. Everything else here works: publish something below.'
        : 'No data yet: this page isn’t connected to the hub. It keeps trying.',
    );
    if (isSilent) setTimeout(check, 500);
  };
  check();
}

/** @param {HTMLButtonElement} button */
function wireCopy(button) {
  button.addEventListener('click', async () => {
    const code = byId(button.dataset.copy ?? '');
    let said = 'Copied';
    try {
      await navigator.clipboard.writeText(code.textContent ?? '');
    } catch {
      // No permission, or no secure page: select it, so that a key does the rest.
      getSelection()?.selectAllChildren(code);
      said = 'Selected';
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = 'Copy'), 1500);
  });
}

/** @param {HTMLElement} element @param {Note[]} notes */
function writeNotes(element, notes) {
  while (element.children.length > notes.length) element.lastElementChild?.remove();
  notes.forEach(([text, key = ''], i) => {
    const span = element.children[i] ?? element.appendChild(document.createElement('span'));
    if (span.className !== key) span.className = key;
    write(span, text);
  });
}

/** @param {Element | null} element @param {string} text */
function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
