// The page at `/`: puts its parts together.

import { ArrivalList, wirePublishForm } from './arrivals.js';
import { niceScale, Spark, TimeChart } from './chart.js';
import * as format from './format.js';
import { Versus } from './meter.js';
import { Panel } from './panel.js';
import { Painter, Surface } from './surface.js';
import { Wires } from './wires.js';

/** @typedef {import('./panel.js').Arrival} Arrival */
/** @typedef {{ chart: TimeChart, topic: string, read: (vitals: any) => number[], tell: (values: number[]) => [string, string] }} VitalChart */

/** @template {HTMLElement} T @param {string} id */
const byId = (id) => /** @type {T} */ (document.getElementById(id));

const GIB = 1024 ** 3;
const PROCESS_TOPIC = 'host/process';
const TICK_MS = 100;
const VITALS_WAIT_MS = 3000;
const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;
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
      cores > 1 ? `${cores} cores, ${format.percent(low)} to ${format.percent(high)}` : 'one core',
    ],
  },
  memory: {
    topic: 'host/memory',
    chart: new TimeChart({
      series: [{ name: 'in use', color: 'chart', shape: 'area' }],
      format: (value) => (value === 0 ? '0' : `${+(value / GIB).toFixed(1)} GiB`),
      // Binary steps, and all of the memory in sight.
      scale: () => {
        const { top, step } = niceScale(Math.max(memoryTotal / GIB, 0.1));
        return { top: top * GIB, step: step * GIB };
      },
      mark: () => (memoryTotal > 0 ? { value: memoryTotal, label: `installed: ${format.memory(memoryTotal)}` } : null),
    }),
    read: ({ total, used }) => {
      memoryTotal = total;
      return [used];
    },
    tell: ([used = 0]) => [format.memory(used), memoryTotal > 0 ? `in use, ${format.percent((100 * used) / memoryTotal)} of all` : 'in use'],
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
    tell: ([received = 0, sent = 0]) => [format.rate(received), `received; sent ${format.rate(sent)}`],
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
      mark: () => (cores > 0 ? { value: cores, label: cores === 1 ? 'the one core busy' : `all ${cores} cores busy` } : null),
    }),
    read: ({ one, five, fifteen }) => [fifteen, five, one],
    tell: ([fifteen = 0, five = 0, one = 0]) => [one.toFixed(2), `1 min; 5 min ${five.toFixed(2)}, 15 min ${fifteen.toFixed(2)}`],
  },
};
const byTopic = new Map(Object.values(vitals).map((vital) => [vital.topic, vital]));
const sparks = { cpu: new Spark(), memory: new Spark() };
/** The newest `host/process`. @type {{ cpu: number, memory: number, uptime_s: number, threads: number } | null} */
let hub = null;
/** How far each vital topic is drawn, so that the second transport's copy isn't. @type {Map<string, { epoch: string, seq: number }>} */
const drawn = new Map();
let vitalsSeen = 0;

const wires = new Wires((kind) => panels[kind].isUp);
const panels = { webtransport: makePanel('webtransport'), sse: makePanel('sse') };
const arrivals = new ArrivalList(byId('arrivals'), byId('arrivals-empty'), panels);

start();

/** @param {'webtransport' | 'sse'} kind */
function makePanel(kind) {
  return new Panel(kind, { url: '/events?topic=*', painter, onArrival, onState });
}

/** A panel's connection changed. */
function onState() {
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

/** @param {string} topic @param {Arrival['event']} event */
function takeVitals(topic, { data, fanwire: { cursor, seq, at } }) {
  const epoch = cursor.slice(1, cursor.indexOf(':'));
  const last = drawn.get(topic);
  if (at === null || typeof data !== 'string' || (last && last.epoch === epoch && seq <= last.seq)) return;
  drawn.set(topic, { epoch, seq });
  try {
    const sample = JSON.parse(data);
    if (topic === PROCESS_TOPIC) {
      hub = sample;
      sparks.cpu.samples.add(at, [sample.cpu]);
      sparks.memory.samples.add(at, [sample.memory]);
    } else {
      const vital = byTopic.get(topic);
      vital?.chart.add(at, vital.read(sample));
    }
    vitalsSeen++;
  } catch {
    // Anyone may publish on these topics; what isn't a sample isn't drawn.
  }
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
  for (const [name, spark] of Object.entries(sparks)) {
    const canvas = /** @type {HTMLCanvasElement} */ (document.querySelector(`[data-spark=process-${name}] canvas`));
    painter.add(new Surface(canvas, (pen) => spark.draw(pen)));
  }
  wires.surface = painter.add(new Surface(byId('wires'), wires.draw));

  panels.webtransport.other = panels.sse;
  panels.sse.other = panels.webtransport;
  byId('panels').append(panels.webtransport.element, panels.sse.element);
  byId('clock-note').textContent = LOOPBACK.test(location.hostname)
    ? 'Latency is this page’s clock less the hub’s, which took the event: one clock, as both are on this machine. It is counted in whole milliseconds, over the newest 3,000 events; what was caught up after a break is left out.'
    : 'Latency is this page’s clock less the hub’s, which took the event. Where they are two machines, their clocks differ by some milliseconds or more, so compare the two transports and not the numbers themselves. Over the newest 3,000 events; what was caught up after a break is left out.';
  wirePublishForm(byId('publish-form'), byId('publish-status'), panels, arrivals);
  for (const place of document.querySelectorAll('[data-origin]')) place.textContent = location.origin;
  for (const button of document.querySelectorAll('[data-copy]')) wireCopy(/** @type {HTMLButtonElement} */ (button));

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
    arrivals.render();
    if (ticks % 30 === 0) describe();
  }, TICK_MS);
  setTimeout(tellWithoutVitals, VITALS_WAIT_MS);

  // For tests of a browser.
  Object.assign(globalThis, {
    fanwirePage: {
      stats: () => ({ webtransport: panels.webtransport.stats(), sse: panels.sse.stats(), vitalsSeen, versus: versus.result }),
      break: (/** @type {'webtransport' | 'sse'} */ kind) => panels[kind].break(),
      restore: (/** @type {'webtransport' | 'sse'} */ kind) => panels[kind].restore(),
    },
  });
}

function renderVitals() {
  for (const [name, { chart, tell }] of Object.entries(vitals)) {
    const read = chart.read;
    if (!read) continue;
    const [value, note] = tell(SERIES_SLOTS.map((s) => chart.samples.value(s, read.index)));
    const figure = /** @type {HTMLElement} */ (document.querySelector(`[data-chart=${name}]`));
    write(figure.querySelector('output'), value);
    write(figure.querySelector('.note'), read.agoS > 1 ? `${Math.round(read.agoS)} s ago: ${note}` : note);
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
    const [value, note] = tell(SERIES_SLOTS.map((s) => chart.samples.value(s, size - 1)));
    const canvas = document.querySelector(`[data-chart=${name}] canvas`);
    canvas?.setAttribute('aria-label', `${CHART_NAMES[name]} over the last minute, now ${value} (${note})`);
  }
  const race = versus.result;
  const [wt, sse] = race ? [race.webtransportFirst, race.sseFirst].map((part) => Math.round(100 * part)) : [0, 0];
  const median = race ? Math.abs(race.medianMs) : 0;
  const lead = median < 0.05 ? 'in the median neither leads' : `in the median ${race && race.medianMs > 0 ? 'WebTransport' : 'SSE'} by ${median.toFixed(1)} ms`;
  write(
    byId('versus'),
    race ? `Of the newest ${format.count(race.pairs)} events that both brought, WebTransport was first with ${wt} % and SSE with ${sse} %; ${lead}.` : '',
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
        ? 'No vital signs are coming: this hub publishes none (it was started with --no-demo). Everything else here works: publish something below.'
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

/** @param {Element | null} element @param {string} text */
function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
