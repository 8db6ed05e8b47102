// What the client has beyond EventSource, against the real hub: topics that come and go, SSE by fetch, iterating.

import assert from 'node:assert/strict';
import { browserTest } from './support/browsers.js';
import { feedUrl, openFeed, visit } from './support/feed.js';
import { startHub } from './support/hub.js';
import { clientModules, startOtherSite } from './support/other-site.js';
import { until } from './support/wait.js';

const WAYS = { webtransport: { transport: 'webtransport' }, sse: { transport: 'sse' }, 'sse by fetch': { transport: 'sse', sse: 'fetch' } };

for (const [way, options] of Object.entries(WAYS)) {
  browserTest(`topics that are added and removed while events keep coming: nothing replayed, lost or doubled, ${way}`, async (t, { page }) => {
    const hub = await startHub(t);
    await visit(page, hub.http);
    const feed = await openFeed(page, { kind: 'client', url: feedUrl('a'), ...options });
    let n = 0;
    let isOver = false;
    /** Numbers on a and b, and somebody else's; an alias, too: its canonical topic is nobody's. @type {{ n: number, topic: string, atMs: number }[]} */
    const published = [];
    const publishing = (async () => {
      while (!isOver) {
        const topic = ['a', 'b', 'alias', 'noise'][n % 4];
        const data = `${n++}`;
        await hub.publishJson({ topic: topic === 'alias' ? ['elsewhere', 'b'] : topic, data });
        published.push({ n: Number(data), topic, atMs: performance.now() });
      }
    })();
    const more = async (count) => {
      const from = published.length;
      while (published.length < from + count) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await more(40);
    const spans = [];
    for (let round = 0; round < 2; round++) {
      const asked = published.length;
      await feed.call('subscribe', 'b');
      const begun = published.length;
      await more(40);
      // What is still under way when a topic is taken away needn't come.
      const leaving = published.findLast(({ topic }) => topic === 'a')?.n ?? 0;
      await feed.receivedUpTo(`${leaving}`);
      await feed.call('unsubscribe', 'b');
      await more(40);
      spans.push({ asked, begun, leaving });
    }
    isOver = true;
    await publishing;
    await hub.publishJson({ topic: 'a', data: 'end' });
    const got = (await feed.receivedUpTo('end')).slice(0, -1).map(({ data }) => Number(data));
    assert.deepEqual(got, [...got].sort((x, y) => x - y), 'in order');
    assert.equal(new Set(got).size, got.length, 'none twice');
    const had = new Set(got);
    for (const { n: number, topic } of published) {
      if (topic === 'a') assert.ok(had.has(number), `${number} of a is lost`);
      if (topic === 'noise') assert.ok(!had.has(number));
      if (topic !== 'b' && topic !== 'alias') continue;
      const isAsked = spans.some(({ begun, leaving }) => number > begun && number < leaving);
      if (isAsked) assert.ok(had.has(number), `${number} of ${topic} is lost`);
      const isNot = spans.every(({ asked }, i) => number < asked - 1 || number > (spans[i].leaving + 30)) && number < spans[0].asked - 1;
      if (isNot) assert.ok(!had.has(number), `${number} of ${topic} was replayed`);
    }
    const { errors, opened } = await feed.state();
    assert.deepEqual(errors, []);
    assert.ok(opened >= 1);
  });
}

browserTest('SSE by fetch delivers what EventSource does, and types that nobody named', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const feed = await openFeed(page, { kind: 'client', transport: 'sse', sse: 'fetch', url: feedUrl('a'), heartbeat: 1 });
  assert.deepEqual(await feed.call('connections'), { EventSource: 0, WebTransport: 0 });
  await hub.publishForm({ topic: 'a', data: 'zwei\nZeilen 🎈', id: 'urn:1' });
  await hub.publishJson({ topic: 'a', data_base64: 'AAEC' });
  const [text, binary] = await feed.received(2);
  assert.deepEqual([text.data, text.id, binary.data], ['zwei\nZeilen 🎈', 'urn:1', { base64: 'AAEC' }]);
  await hub.kill();
  await feed.saw('errors');
  await hub.start();
  await feed.openedTimes(2, 20_000);
  await hub.publishForm({ topic: 'a', data: 'again' });
  await feed.receivedUpTo('again');
});

browserTest('a page of another site listens over every transport, where the hub lets it', async (t, { page }) => {
  const origin = await startOtherSite(t);
  const hub = await startHub(t, { flags: ['--allowed-origins', origin] });
  await page.goto(`${origin}/blank`);
  const modules = await clientModules(hub.http);
  const transports = await page.evaluate(async (files, url) => {
    const { Fanwire } = await globalThis.eval(files);
    const seen = [];
    for (const options of [{ transport: 'sse' }, { transport: 'sse', sse: 'fetch' }, { transport: 'webtransport' }, {}]) {
      const feed = new Fanwire(url, options);
      await new Promise((resolve, reject) => {
        feed.onopen = resolve;
        feed.onerror = ({ fanwire }) => reject(new Error(fanwire.reason));
      });
      const got = new Promise((resolve) => (feed.onmessage = resolve));
      await feed.publish({ topic: 'a', data: 'x' });
      const event = await got;
      seen.push(event.fanwire.transport === feed.transport && event.data);
      feed.close();
    }
    return seen;
  }, modules, `${hub.http}/events?topic=a`);
  assert.deepEqual(transports, ['x', 'x', 'x', 'x']);
});

browserTest('a dashboard begins with the newest of each topic, once, though two transports begin', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  for (let n = 0; n < 30; n++) await hub.publishJson({ topic: `gauge/${n % 3}`, data: `${n}` });
  for (const options of [{}, { transport: 'sse' }, { transport: 'webtransport' }]) {
    const feed = await openFeed(page, { kind: 'client', url: feedUrl(['gauge/0', 'gauge/1', 'gauge/2'], { replay: 'latest' }), ...options });
    await hub.publishJson({ topic: 'gauge/1', data: 'new' });
    const got = (await feed.receivedUpTo('new')).map(({ data }) => data);
    assert.deepEqual(got, ['27', '28', '29', 'new']);
    await feed.close();
    await hub.publishJson({ topic: 'gauge/0', data: '27' });
    await hub.publishJson({ topic: 'gauge/1', data: '28' });
    await hub.publishJson({ topic: 'gauge/2', data: '29' });
  }
});

browserTest('a page iterates over a feed, and in a worker too', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  const reading = page.evaluate(async () => {
    const { Fanwire } = await import('/client/fanwire.js');
    const code = `import { Fanwire } from '${location.origin}/client/fanwire.js';
      const feed = new Fanwire('${location.origin}/events?topic=a');
      feed.onopen = () => postMessage('open');
      for await (const event of feed) postMessage([event.data, event.fanwire.transport]);`;
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: 'text/javascript' })), { type: 'module' });
    const inWorker = [];
    worker.onerror = (event) => inWorker.push(event.message);
    await new Promise((resolve) => (worker.onmessage = resolve));
    worker.onmessage = ({ data }) => inWorker.push(data[0]);
    const feed = new Fanwire('/events?topic=a');
    const seen = [];
    feed.onopen = () => feed.publish({ topic: 'a', data: 'one' }).then(() => feed.publish({ topic: 'a', data: 'two' }));
    for await (const { data } of feed) if (seen.push(data) === 2) break;
    feed.close();
    while (inWorker.length < 2) await new Promise((resolve) => setTimeout(resolve, 10));
    worker.terminate();
    return [seen, inWorker];
  });
  assert.deepEqual(await reading, [['one', 'two'], ['one', 'two']]);
});

browserTest('the tabs of a site share one feed, in a shared worker', async (t, { page }) => {
  const hub = await startHub(t);
  await visit(page, hub.http);
  await page.evaluate(async () => {
    const code = `import { Fanwire } from '${location.origin}/client/fanwire.js';
      const ports = [];
      const me = Math.random();
      const feed = new Fanwire('${location.origin}/events?topic=a');
      const tell = (said) => ports.forEach((port) => port.postMessage(said));
      feed.onmessage = ({ data, fanwire }) => tell([data, fanwire.transport]);
      feed.addEventListener('transportchange', () => tell(['over', feed.transport, me]));
      onconnect = ({ ports: [port] }) => {
        ports.push(port);
        port.postMessage(['over', feed.transport, me]);
      };`;
    const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
    // What one tab and another do.
    globalThis.tabs = [1, 2].map(() => {
      const said = [];
      new SharedWorker(url, { type: 'module' }).port.onmessage = ({ data }) => said.push(data);
      return said;
    });
    const isReady = (/** @type {any[]} */ said) => said.some(([what, over]) => what === 'over' && over === 'webtransport');
    const deadlineMs = performance.now() + 15_000;
    while (!globalThis.tabs.every(isReady)) {
      if (performance.now() > deadlineMs) throw new Error(`not there: ${JSON.stringify(globalThis.tabs)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  });
  const workers = await page.evaluate(() => globalThis.tabs.flatMap((said) => said.filter(([what]) => what === 'over').map(([, , who]) => who)));
  assert.equal(new Set(workers).size, 1, 'one worker, and one feed');
  for (const data of ['one', 'two']) await hub.publishForm({ topic: 'a', data });
  const got = () => page.evaluate(() => globalThis.tabs.map((said) => said.filter(([what]) => what !== 'over')));
  await until('both have both', async () => (await got()).every(({ length }) => length === 2));
  const both = [['one', 'webtransport'], ['two', 'webtransport']];
  assert.deepEqual(await got(), [both, both]);
});
