// What runs inside the page: feeds of every kind, each writing down what it gets in the same shape.

/**
 * Puts `globalThis.feeds` in the page. It is sent there as text, so it uses nothing from outside itself.
 *
 * The `raw` kind is written from the protocol's text alone, with the browser's own WebTransport: what holds for it holds for
 * anyone who writes a client.
 */
export function installFeeds() {
  if (globalThis.feeds) return;

  /** How often somebody began to watch whether the page goes. */
  let watching = 0;
  const { addEventListener } = globalThis;
  globalThis.addEventListener = (type, ...rest) => {
    addEventListener.call(globalThis, type, ...rest);
    if (type !== 'pagehide') return;
    watching++;
    for (const { recorder } of all.values()) recorder.tell();
  };

  /** What a feed got, in order, and how it ended. */
  class Recorder {
    records = [];
    controls = [];
    ends = [];
    errors = [];
    opened = 0;
    #changed = [];

    add(record) {
      this.records.push({ ...record, receivedMs: Date.now() });
      this.tell();
    }

    tell() {
      for (const wake of this.#changed.splice(0)) wake();
    }

    async until(what, isTrue, withinMs) {
      const deadlineMs = performance.now() + withinMs;
      while (!isTrue(this)) {
        const leftMs = deadlineMs - performance.now();
        if (leftMs <= 0) {
          const { records, controls, ends, errors } = this;
          const newest = records.at(-1)?.data?.slice?.(0, 80);
          const seen = JSON.stringify({ records: records.length, newest, controls: controls.slice(-3), ends, errors });
          throw new Error(`not within ${withinMs} ms: ${what}; so far ${seen}`);
        }
        await new Promise((resolve) => {
          this.#changed.push(resolve);
          setTimeout(resolve, leftMs);
        });
      }
    }
  }

  // The browser's own EventSource.
  function openEventSource(recorder, { url, types = [], withCredentials = false }) {
    const source = new EventSource(url, { withCredentials });
    source.addEventListener('open', (event) => {
      if (event instanceof MessageEvent) return;
      recorder.opened++;
      recorder.tell();
    });
    source.addEventListener('error', (event) => {
      if (event instanceof MessageEvent) return;
      recorder.errors.push({ readyState: source.readyState });
      recorder.tell();
    });
    for (const type of ['message', ...types]) {
      source.addEventListener(type, (event) => {
        if (event instanceof MessageEvent) recorder.add({ id: event.lastEventId, type: event.type, data: event.data });
      });
    }
    return { close: () => source.close(), readyState: () => source.readyState };
  }

  // The hub's own client, as the hub serves it.
  async function openClient(recorder, { url, types = [], clientUrl = '/client/fanwire.js', relay = null, loadsAfterMs = 0, ...options }) {
    const { Fanwire } = await import(clientUrl);
    const opened = { EventSource: 0, WebTransport: 0 };
    options.environment = counted(opened, relay ? through(relay) : globalThis.WebTransport);
    // The one timer that is as short is the one for what is loaded a moment later.
    if (loadsAfterMs) options.environment.setTimer = (run, ms) => setTimeout(run, ms < 100 ? loadsAfterMs : ms);
    const feed = new Fanwire(url, options);
    const atOnce = { ...opened };
    feed.addEventListener('hello', ({ detail }) => {
      recorder.opened++;
      recorder.controls.push({ hello: detail });
      recorder.tell();
    });
    for (const name of ['gap', 'transportchange']) {
      feed.addEventListener(name, ({ detail }) => {
        recorder.controls.push({ [name]: detail });
        recorder.tell();
      });
    }
    feed.addEventListener('error', (event) => {
      if (event instanceof MessageEvent) return;
      recorder.errors.push({ ...event.fanwire, readyState: feed.readyState });
      recorder.tell();
    });
    for (const type of ['message', ...types]) {
      feed.addEventListener(type, (event) => {
        if (!(event instanceof MessageEvent)) return;
        const { id, cursor, topic, at, transport } = event.fanwire;
        recorder.add({ id, cursor, topic, at, transport, type: event.type, lastEventId: event.lastEventId, data: event.data });
      });
    }
    return {
      close: () => feed.close(),
      readyState: () => feed.readyState,
      cursor: () => feed.cursor,
      transport: () => feed.transport,
      publish: (draft) => feed.publish(draft),
      subscribe: (...topics) => feed.subscribe(...topics),
      unsubscribe: (...topics) => feed.unsubscribe(...topics),
      links: () => feed.links,
      connections: () => opened,
      /** What the constructor itself opened. */
      atOnce: () => atOnce,
    };
  }

  /** The browser's classes, with a count of what was made of them. */
  function counted(opened, WebTransport) {
    const counting = (name, Base) =>
      class extends Base {
        constructor(...given) {
          super(...given);
          opened[name]++;
        }
      };
    return { EventSource: counting('EventSource', EventSource), WebTransport: WebTransport && counting('WebTransport', WebTransport) };
  }

  /** A WebTransport whose packets take another way to the hub. */
  function through(port) {
    return class extends WebTransport {
      constructor(url, options) {
        const other = new URL(url);
        other.port = port;
        super(other.href, options);
      }
    };
  }

  // WebTransport as the browser has it, and frames as PROTOCOL §5 says.
  async function openRaw(recorder, { url, hash, discoverAt = '/.well-known/fanwire' }) {
    let hashes = hash ? [hash] : null;
    const target = new URL(url, location.href);
    if (!hashes) {
      const { webtransport } = await (await fetch(discoverAt)).json();
      hashes = webtransport.certificate_hashes.map(({ value }) => value);
      const endpoint = new URL(webtransport.url);
      target.protocol = endpoint.protocol;
      target.host = endpoint.host;
      target.pathname = endpoint.pathname;
    }
    const serverCertificateHashes = hashes.map((value) => ({
      algorithm: 'sha-256',
      value: Uint8Array.from(atob(value), (char) => char.charCodeAt(0)),
    }));
    const transport = new WebTransport(target.href, { serverCertificateHashes });
    transport.closed.then(
      ({ closeCode, reason }) => recorder.ends.push({ closeCode, reason }),
      (error) => recorder.ends.push({ error: String(error) }),
    ).then(() => recorder.tell());
    await transport.ready;
    // Firefox keeps the session of a page that is gone, unless the page closes it.
    addEventListener('pagehide', () => transport.close());
    const run = async () => {
      const streams = transport.incomingUnidirectionalStreams.getReader();
      const { value: stream } = await streams.read();
      await readFrames(stream, (type, payload) => takeFrame(recorder, type, payload));
      recorder.controls.push({ finished: true });
      recorder.tell();
    };
    run().catch((error) => {
      recorder.errors.push({ reason: String(error) });
      recorder.tell();
    });
    return { close: (info = {}) => transport.close(info), transport, request: (type, body) => request(transport, type, body) };
  }

  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

  async function readFrames(stream, onFrame) {
    let bytes = new Uint8Array(0);
    for await (const chunk of chunksOf(stream)) {
      const joined = new Uint8Array(bytes.length + chunk.length);
      joined.set(bytes);
      joined.set(chunk, bytes.length);
      bytes = joined;
      for (;;) {
        const type = varint(bytes, 0);
        const length = type && varint(bytes, type.end);
        if (!length || bytes.length < length.end + length.value) break;
        const end = length.end + length.value;
        onFrame(type.value, bytes.subarray(length.end, end));
        bytes = bytes.slice(end);
      }
    }
  }

  async function* chunksOf(stream) {
    const reader = stream.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  }

  // [RFC 9000 §16]
  function varint(bytes, at) {
    if (at >= bytes.length) return null;
    const size = 1 << (bytes[at] >> 6);
    if (at + size > bytes.length) return null;
    let value = bytes[at] & 0x3f;
    for (let i = 1; i < size; i++) value = value * 256 + bytes[at + i];
    return { value, end: at + size };
  }

  function takeFrame(recorder, type, payload) {
    const name = { 0: 'hello', 2: 'gap', 3: 'changed', 4: 'ping', 5: 'bye', 32: 'answer' }[type];
    if (name) {
      const content = JSON.parse(decoder.decode(payload));
      if (name === 'hello' || name === 'gap') recorder.epoch = content.cursor.slice(1, content.cursor.indexOf(':'));
      if (name === 'hello') recorder.opened++;
      recorder.controls.push({ [name]: content });
      recorder.tell();
    }
    if (type === 1) recorder.add(readEvent(recorder.epoch, payload));
  }

  // [PROTOCOL §5.3]
  function readEvent(epoch, payload) {
    let at = 0;
    const number = () => {
      const { value, end } = varint(payload, at);
      at = end;
      return value;
    };
    const text = () => {
      const length = number();
      at += length;
      return decoder.decode(payload.subarray(at - length, at));
    };
    const [prevSeq, seq, takenAt, flags] = [number(), number(), number(), number()];
    const cursor = `#${epoch}:${seq}`;
    const id = flags & 1 ? text() : cursor;
    const type = flags & 2 ? text() : 'message';
    const retry = flags & 4 ? number() : null;
    const topic = text();
    const rest = payload.slice(at);
    return { id, type, retry, topic, cursor, prevSeq, at: takenAt, data: flags & 8 ? rest : decoder.decode(rest) };
  }

  async function request(transport, type, body) {
    const { readable, writable } = await transport.createBidirectionalStream();
    const payload = new TextEncoder().encode(JSON.stringify(body));
    const head = [type, 0x80, (payload.length >> 16) & 0xff, (payload.length >> 8) & 0xff, payload.length & 0xff];
    const writer = writable.getWriter();
    await writer.write(Uint8Array.from([...head, ...payload]));
    let answer = null;
    const reading = readFrames(readable, (answerType, answerPayload) => {
      if (answerType === 0x20) answer = JSON.parse(decoder.decode(answerPayload));
    });
    await writer.close();
    await reading;
    return answer;
  }

  const openers = { eventsource: openEventSource, client: openClient, raw: openRaw };

  /** Bytes go out of the page as base64, and what is large as its digest. */
  async function portable(record) {
    const isBinary = record.data instanceof Uint8Array;
    const bytes = isBinary ? record.data : new TextEncoder().encode(record.data);
    const { data, ...rest } = record;
    if (bytes.length <= 65_536) return { ...rest, data: isBinary ? { base64: btoa(String.fromCharCode(...bytes)) } : data };
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    return { ...rest, data: { isBinary, bytes: bytes.length, sha256 } };
  }

  const all = new Map();
  globalThis.feeds = {
    all,
    async open(name, { kind, ...options }, withinMs) {
      const recorder = new Recorder();
      const entry = { recorder, handle: null, before: watching };
      all.set(name, entry);
      entry.handle = await openers[kind](recorder, options);
      if (!withinMs) return;
      await recorder.until(`${name} opens`, ({ opened }) => opened > 0, withinMs);
      // What is loaded beside a feed watches the page from then on.
      if (kind === 'client') await this.watches(name, withinMs);
    },
    until: (name, what, condition, argument, withinMs) =>
      all.get(name).recorder.until(what, (recorder) => condition(recorder, argument), withinMs),
    watches(name, withinMs) {
      const { recorder, before } = all.get(name);
      return recorder.until(`${name} watches the page`, () => watching > before, withinMs);
    },
    async state(name) {
      const { recorder, handle } = all.get(name);
      const { controls, ends, errors, opened } = recorder;
      const records = await Promise.all(recorder.records.map(portable));
      const [readyState, cursor, transport] = ['readyState', 'cursor', 'transport'].map((key) =>
        typeof handle?.[key] === 'function' ? handle[key]() : null,
      );
      return { records, controls, ends, errors, opened, readyState, cursor, transport };
    },
    close: (name, info) => all.get(name).handle?.close(info),
    call: (name, method, args) => all.get(name).handle[method](...args),
  };
}
