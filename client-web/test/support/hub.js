// A stand-in for the hub: enough of the protocol to see a client and the page work. One log in memory, SSE with control=1,
// publishing, and the frames of a WebTransport feed over plain HTTP, for a stand-in of WebTransport in a browser.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import os from 'node:os';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
// Nobody is there: a page has a stand-in for the class too.
const WEBTRANSPORT = { url: 'https://127.0.0.1:4433/events' };
const EVENTS_KEPT = 20_000;
const TYPES = { html: 'text/html; charset=utf-8', css: 'text/css', js: 'text/javascript', svg: 'image/svg+xml' };
// As strict as the page is meant to bear; WebTransport goes to another port, which 'self' doesn't cover.
const CSP = "default-src 'self'; connect-src 'self' https://127.0.0.1:* https://localhost:*";

/** @param {{ port?: number, demo?: boolean, heartbeatMs?: number, webtransport?: object | null }} [options] */
export async function startHub({ port = 0, demo = true, heartbeatMs = 15_000, webtransport = WEBTRANSPORT } = {}) {
  const log = new Log();
  const server = createServer((request, response) => {
    route({ log, heartbeatMs, webtransport }, request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const stopDemo = demo ? publishVitals(log) : () => {};
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    log,
    close() {
      stopDemo();
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

class Log {
  epoch = Array.from({ length: 10 }, () => '0123456789abcdefghijklmnopqrstuv'[Math.floor(Math.random() * 32)]).join('');
  events = [];
  feeds = new Set();
  seq = 0;

  publish({ topic, data = '', binary = false, id = null, type = null }) {
    const event = { seq: ++this.seq, at: Date.now(), topic, data, binary, id, type };
    this.events.push(event);
    if (this.events.length > EVENTS_KEPT) this.events.shift();
    for (const feed of this.feeds) feed.offer(event);
    return { id: id ?? this.cursor(event.seq), cursor: this.cursor(event.seq) };
  }

  cursor(seq) {
    return `#${this.epoch}:${seq}`;
  }

  /** Says hello, what is kept after the start, and then what comes. */
  subscribe(query, heartbeatMs, write) {
    const matchers = [...query.getAll('topic'), ...query.getAll('match')];
    const asked = query.get('last_event_id') ?? '';
    const floor = (this.events[0]?.seq ?? this.seq + 1) - 1;
    const position = /^#([0-9a-v]{10}):(\d+)/.exec(asked);
    let [start, verdict] = [this.seq, 'live'];
    if (asked === 'earliest') [start, verdict] = [floor, 'earliest'];
    else if (position && position[1] !== this.epoch) [start, verdict] = [floor, 'new_epoch'];
    else if (position && Number(position[2]) <= this.seq) [start, verdict] = [Number(position[2]), 'resumed'];
    else if (asked) [start, verdict] = [floor, 'unknown_cursor'];
    heartbeatMs = Number(query.get('heartbeat') ?? heartbeatMs / 1000) * 1000;
    write.message('hello', { version: 1, cursor: this.cursor(start), verdict, heartbeat_ms: heartbeatMs });
    if (verdict === 'new_epoch' || verdict === 'unknown_cursor') {
      write.message('gap', { reason: verdict, to: start, cursor: this.cursor(start) });
    } else if (start < floor) {
      write.message('gap', { reason: 'evicted', from: start + 1, to: floor, cursor: this.cursor(floor) });
      start = floor;
    }
    let prev = start;
    let spoke = Date.now();
    const feed = {
      offer: (event) => {
        if (event.seq <= start || !(matchers.includes('*') || matchers.includes(event.topic))) return;
        write.event(event, prev, this);
        prev = event.seq;
        spoke = Date.now();
      },
    };
    for (const event of this.events) feed.offer(event);
    this.feeds.add(feed);
    const timer = setInterval(() => {
      if (Date.now() - spoke >= heartbeatMs) write.message('ping', { watermark: this.cursor(this.seq) });
    }, heartbeatMs);
    return () => {
      clearInterval(timer);
      this.feeds.delete(feed);
    };
  }
}

async function route({ log, heartbeatMs, webtransport }, request, response) {
  const url = new URL(request.url, 'http://hub');
  if (url.pathname === '/events' && request.method === 'POST') return publish(log, request, response);
  if (url.pathname === '/events') return serveSse(log, heartbeatMs, url, response);
  if (url.pathname === '/stand-in/frames') return serveFrames(log, heartbeatMs, url, response);
  if (url.pathname === '/.well-known/fanwire') {
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ version: 1, name: 'fanwire', events: '/events', webtransport }));
    return;
  }
  await serveFile(url.pathname, response);
}

function serveSse(log, heartbeatMs, url, response) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  response.write('retry: 2000\n:\n');
  const stop = log.subscribe(url.searchParams, heartbeatMs, {
    message(name, body) {
      const cursor = body.cursor ?? body.watermark;
      response.write(`id: ${cursor}\nevent: fanwire\ndata: ${JSON.stringify({ [name]: body })}\n\n`);
    },
    event({ seq, at, topic, data, binary, id, type }) {
      const named = encodeURIComponent(topic).replaceAll('%2F', '/');
      const own = `${log.cursor(seq)};t=${at};n=${named}${binary ? ';b' : ''}${id ? ` ${id}` : ''}`;
      const lines = (binary ? data.toString('base64') : data).split('\n').map((line) => `data: ${line}\n`);
      response.write(`id: ${own}\n${type ? `event: ${type}\n` : ''}${lines.join('')}\n`);
    },
  });
  response.on('close', stop);
}

function serveFrames(log, heartbeatMs, url, response) {
  const types = { hello: 0, event: 1, gap: 2, ping: 4 };
  const write = (type, payload) => response.write(Buffer.concat([varint(types[type]), varint(payload.length), payload]));
  const named = (text) => Buffer.concat([varint(Buffer.byteLength(text)), Buffer.from(text)]);
  const stop = log.subscribe(url.searchParams, heartbeatMs, {
    message: (name, body) => write(name, Buffer.from(JSON.stringify(body))),
    event({ seq, at, topic, data, binary, id, type }, prev) {
      const flags = (id ? 1 : 0) | (type ? 2 : 0) | (binary ? 8 : 0);
      const names = [id, type].filter(Boolean).map(named);
      write('event', Buffer.concat([...[prev, seq, at, flags].map(varint), ...names, named(topic), Buffer.from(data)]));
    },
  });
  response.on('close', stop);
}

/** In eight bytes, whatever the value: a reader must take that too. */
function varint(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value) | (3n << 62n));
  return bytes;
}

async function publish(log, request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString();
  const isJson = request.headers['content-type']?.startsWith('application/json');
  const draft = isJson ? JSON.parse(body) : Object.fromEntries(new URLSearchParams(body));
  if (!draft.topic) {
    response.writeHead(400, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify({ error: { code: 'no_topic', message: 'an event needs at least one topic' } }));
    return;
  }
  const { data_base64: base64, data } = draft;
  const binary = base64 !== undefined;
  const content = binary ? Buffer.from(base64, 'base64') : typeof data === 'string' ? data : JSON.stringify(data ?? '');
  const topic = [draft.topic].flat()[0];
  const published = log.publish({ topic, data: content, binary, id: draft.id ?? null, type: draft.type ?? null });
  response.setHeader('Content-Type', isJson ? 'application/json' : 'text/plain');
  response.end(isJson ? JSON.stringify(published) : published.id);
}

async function serveFile(path, response) {
  const inside = normalize(path);
  const file =
    inside === '/'
      ? join(ROOT, 'server/src/page/index.html')
      : inside.startsWith('/page/')
        ? join(ROOT, 'server/src/page', inside.slice(6))
        : inside.startsWith('/client/')
          ? join(ROOT, 'client-web/src', inside.slice(8))
          : null;
  const content = file && (await readFile(file).catch(() => null));
  if (!content) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'Content-Type': TYPES[file.split('.').pop()], 'Content-Security-Policy': CSP });
  response.end(content);
}

/** What the hub's demo publishes: this host's vital signs, ten times a second. */
function publishVitals(log) {
  let before = os.cpus();
  let processBefore = process.cpuUsage();
  let [received, sent] = [4e5, 9e4];
  const timer = setInterval(() => {
    const after = os.cpus();
    const cores = after.map(({ times }, i) => {
      const spent = Object.keys(times).map((name) => times[name] - before[i].times[name]);
      const all = spent.reduce((sum, ms) => sum + ms, 0);
      return all === 0 ? 0 : Math.round((1000 * (all - (times.idle - before[i].times.idle))) / all) / 10;
    });
    before = after;
    const total = Math.round((10 * cores.reduce((sum, core) => sum + core, 0)) / cores.length) / 10;
    const [one, five, fifteen] = os.loadavg();
    const used = process.cpuUsage(processBefore);
    processBefore = process.cpuUsage();
    // Node doesn't know the interfaces' counters: a walk that looks like traffic.
    received = Math.max(2e3, 4e5 + 0.9 * (received - 4e5) + 2e5 * (Math.random() - 0.5) + (Math.random() < 0.02 ? 2e6 : 0));
    sent = Math.max(1e3, 1.5e5 + 0.9 * (sent - 1.5e5) + 1e5 * (Math.random() - 0.5));
    const vitals = {
      cpu: { cores, total },
      memory: { total: os.totalmem(), used: os.totalmem() - os.freemem(), available: os.freemem() },
      load: { one, five, fifteen },
      network: { received_per_s: Math.round(received), sent_per_s: Math.round(sent) },
      process: { cpu: (used.user + used.system) / 1000, memory: process.memoryUsage().rss, uptime_s: process.uptime(), threads: 11 },
    };
    for (const [name, value] of Object.entries(vitals)) log.publish({ topic: `host/${name}`, data: JSON.stringify(value) });
  }, 100);
  return () => clearInterval(timer);
}
