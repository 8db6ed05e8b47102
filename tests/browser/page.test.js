// The page at `/`, as a visitor has it.

import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { BROWSERS, browserTest, CHROMIUM, launchFor, openTab } from './support/browsers.js';
import { startHub } from './support/hub.js';
import { favourWebTransport } from './support/memory.js';
import { until } from './support/wait.js';

const TRANSPORTS = /** @type {const} */ (['webtransport', 'sse']);

// The hub listens on 127.0.0.1, and browsers may try ::1 alone for the name.
for (const host of ['127.0.0.1', 'localhost']) {
  browserTest(`the page at ${host} counts events on both transports, with nothing lost, nothing twice and no complaint`, async (t, tab) => {
    const hub = await startHub(t, { demo: true });
    const { page } = tab;
    await watchPolicy(tab);
    await page.goto(`http://${host}:${hub.port}/`);
    await countsRise(page);
    await until('the charts are drawn', async () => (await stats(page)).vitalsSeen > 20);
    // The numbers that a visitor reads follow the ones that are counted.
    for (const kind of TRANSPORTS) {
      await until(`${kind} shows its count`, () => page.$eval(`[data-count=${kind}]`, ({ textContent }) => Number(textContent?.replace(/\D/g, '')) > 10));
      assert.equal(await page.$eval(`[data-transport=${kind}] .state-text`, ({ textContent }) => textContent), 'open');
    }
    const { webtransport, sse } = await stats(page);
    for (const one of [webtransport, sse]) assert.deepEqual(pick(one), { lost: 0, gaps: 0, duplicates: 0, duplicatesDropped: 0, reconnects: 0 });
    assert.deepEqual(tab.complaints, []);
    assert.deepEqual(await violations(page), []);
  });
}

for (const kind of TRANSPORTS) {
  browserTest(`a transport that is broken on the page and restored catches up on all that it missed, ${kind}`, async (t, tab) => {
    const hub = await startHub(t, { demo: true });
    const { page } = tab;
    await page.goto(`${hub.http}/`);
    await countsRise(page);
    const other = kind === 'sse' ? 'webtransport' : 'sse';
    await press(page, kind, 'break');
    const broken = await stats(page);
    assert.equal(broken[kind].state, 'broken');
    await until('the other one goes on', async () => (await stats(page))[other].events > broken[other].events + 60);
    assert.equal((await stats(page))[kind].events, broken[kind].events, 'nothing comes over a broken transport');
    await press(page, kind, 'restore');
    await until('it has caught up', async () => (await stats(page))[kind].caughtUp >= 60);
    const now = await stats(page);
    assert.deepEqual(pick(now[kind]), { lost: 0, gaps: 0, duplicates: 0, duplicatesDropped: 0, reconnects: 1 });
    // Both have had the same events since both began, but for those under way, and those before the second one began.
    await until('both count alike again', async () => {
      const { webtransport, sse } = await stats(page);
      const apart = (/** @type {any} */ one) => Number(one.cursor.split(':')[1]) - one.events;
      return Math.abs(apart(webtransport) - apart(sse)) === Math.abs(apart(broken.webtransport) - apart(broken.sse));
    });
    await until('it says so', () => page.$eval(`[data-transport=${kind}] .story`, ({ textContent }) => /missed events caught up.*none lost, none twice/.test(textContent ?? '')));
    assert.deepEqual(tab.complaints, []);
  });
}

browserTest('the page shows how its feed came to its transport, falls when that is cut, and comes back', async (t, tab) => {
  const hub = await startHub(t, { demo: true });
  const { page } = tab;
  await page.goto(`${hub.http}/`);
  await page.waitForFunction(() => globalThis.fanwirePage);
  const now = async () => (await stats(page)).negotiation;
  const over = (/** @type {string} */ transport) => until(`${transport} delivers`, async () => (await now()).transport === transport, 15_000);
  const cut = (/** @type {string} */ kind) => page.click(`[data-block=${kind}]`);
  await over('webtransport');
  await cut('webtransport');
  await over('sse');
  const { events } = await now();
  await until('the feed goes on', async () => (await now()).events > events + 20);
  await cut('webtransport');
  // Now is a good time to try, as when the page is seen again.
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await over('webtransport');
  const { entries, gaps } = await now();
  const story = ['WebTransport is tried', 'WebTransport says hello', 'WebTransport is cut', 'WebTransport is lost', 'SSE is tried', 'SSE says hello', 'SSE delivers', 'WebTransport is let through', 'WebTransport takes over from SSE'];
  let from = 0;
  for (const part of story) {
    const at = entries.findIndex((/** @type {string} */ entry, /** @type {number} */ i) => i >= from && entry.startsWith(part));
    assert.ok(at >= 0, `${part}: not in ${JSON.stringify(entries.slice(from))}`);
    from = at + 1;
  }
  // A visitor reads the same, newest first, and when it was.
  const { shown, kept } = await page.evaluate(() => ({
    shown: [...document.querySelectorAll('#negotiation ol li')].map((li) => [...li.children].map(({ textContent }) => textContent)),
    kept: globalThis.fanwirePage.stats().negotiation.entries,
  }));
  assert.deepEqual(shown.map(([, who, what]) => `${who} ${what}`).reverse(), kept);
  for (const [when] of shown) assert.match(when ?? '', /^[\d.,]+ (ms|s)$/);
  const [box] = await page.$$eval('#negotiation ol li', (items) => items.map((li) => li.getBoundingClientRect().height));
  assert.ok(box > 0, 'it can be seen');
  assert.equal(gaps, 0);
  assert.match(await page.$eval('.negotiation-now', ({ textContent }) => textContent ?? ''), /none lost, none twice/);
  assert.deepEqual(tab.complaints, []);
});

browserTest('the page says that WebTransport goes first, where it is remembered to be quick', async (t, { page }) => {
  const hub = await startHub(t, { demo: true });
  await page.goto(`${hub.http}/`);
  await until('it is remembered', () => page.evaluate(() => localStorage.length > 0));
  await page.evaluate(favourWebTransport);
  await page.reload();
  await page.waitForFunction(() => globalThis.fanwirePage);
  const entries = async () => (await stats(page)).negotiation.entries;
  // On a machine that is busy its modules may take longer than the head start, and SSE is tried meanwhile.
  await until('it is tried', async () => (await entries()).includes('WebTransport is tried'));
  assert.equal((await entries())[0], 'SSE lets WebTransport go first, which was as quick here the last time');
});

browserTest('what is typed into the page comes back over both transports with one id', async (t, tab) => {
  const hub = await startHub(t); // Without live input, so that the list holds nothing else.
  const { page } = tab;
  await page.goto(`${hub.http}/`);
  await until('both are open', () => bothOpen(page));
  await fill(page, { topic: 'größe/1', type: 'note', data: 'zwei\nZeilen & <b>kein</b> HTML 🎈' });
  await page.click('#publish-form [type=submit]');
  await until('both have brought it', () => page.$$eval('#arrivals li .cell:not(.waits)', (cells) => cells.length === 2));
  const row = await page.$eval('#arrivals li', (li) => ({
    topic: li.querySelector('.topic b')?.textContent,
    data: li.querySelector('.data')?.textContent,
    id: li.querySelector('.id')?.textContent,
    cells: [...li.querySelectorAll('.cell .ms')].map(({ textContent }) => textContent),
  }));
  assert.deepEqual([row.topic, row.data], ['größe/1', 'zwei\nZeilen & <b>kein</b> HTML 🎈']);
  assert.match(row.id ?? '', /^#[0-9a-v]{10}:1$/);
  for (const cell of row.cells) assert.match(cell ?? '', /^\d+(\.\d+)? ms$/);
  assert.match(await page.$eval('#publish-status', ({ textContent }) => textContent ?? ''), /Taken by the hub/);

  // Others' events too, in the same list.
  await hub.publishForm({ topic: 'elsewhere', data: 'by somebody else' });
  await until('both have brought that', () => page.$$eval('#arrivals li .cell:not(.waits)', (cells) => cells.length === 4));
  assert.deepEqual(tab.complaints, []);
});

browserTest('the page says what is the matter while the hub is away, and goes on when it is back', async (t, { page }) => {
  const hub = await startHub(t, { demo: true, flags: ['--retry', '500ms'] });
  await page.goto(`${hub.http}/`);
  await countsRise(page);
  await hub.drain();
  for (const kind of TRANSPORTS) {
    await until(`${kind} tells its trouble`, () => page.$eval(`[data-transport=${kind}] .trouble`, ({ hidden, textContent }) => !hidden && Boolean(textContent)));
  }
  // In words that every browser has.
  await until('it is said to be away', () => page.$eval('[data-transport=webtransport] .trouble', ({ textContent }) => textContent?.startsWith('The hub can\'t be reached.')));
  await page.click('#publish-form [type=submit]');
  await until('nothing is published', () => page.$eval('#publish-status', ({ textContent }) => textContent === 'Not published: the hub can’t be reached.'));
  await hub.start();
  const before = await stats(page);
  for (const kind of TRANSPORTS) {
    await until(`${kind} is back`, async () => (await stats(page))[kind].events > before[kind].events + 10, 20_000);
    assert.equal(await page.$eval(`[data-transport=${kind}] .trouble`, ({ hidden }) => hidden), true);
  }
});

test('the CPU that the page shows is that of its cores: all of them together lie between the least and the most busy one', async (t) => {
  const hub = await startHub(t, { demo: true });
  const aborter = new AbortController();
  t.after(() => aborter.abort());
  const { body } = await fetch(`${hub.http}/events?topic=host/cpu`, { signal: aborter.signal });
  let text = '';
  for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    if ((text.match(/^data: .*\n/gm) ?? []).length > 30) break;
  }
  for (const [, line] of text.matchAll(/^data: (.*)\n/gm)) {
    const { cores, total } = JSON.parse(line);
    assert.ok(Math.min(...cores) - 1 <= total && total <= Math.max(...cores) + 1, `${total} % of ${cores}`);
  }
});

for (const kind of BROWSERS) {
  for (const scheme of /** @type {const} */ (['light', 'dark'])) {
    test(`${kind.name}: the page fits a desktop's window and a phone's, ${scheme}`, { skip: kind.missing, timeout: 60_000 }, async (t) => {
      const hub = await startHub(t, { demo: true });
      const browser = await launchFor(t, kind, { preferences: { 'layout.css.prefers-color-scheme.content-override': scheme === 'dark' ? 0 : 1 } });
      const { page, complaints } = await openTab(t, kind, browser);
      if (kind === CHROMIUM) await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
      await page.setViewport({ width: 1280, height: 900 });
      await page.goto(`${hub.http}/`);
      assert.equal(await page.evaluate(() => matchMedia('(prefers-color-scheme: dark)').matches), scheme === 'dark');
      await playScene(page);
      // Takes a while, so once is enough.
      if (scheme === 'light') await comparesTransports(page);
      await press(page, 'sse', 'break');
      for (const [name, width] of /** @type {[string, number][]} */ ([['desktop', 1280], ['phone', 390]])) {
        await fitsItsWindow(page, width);
        await mkdir(ARTIFACTS, { recursive: true });
        await page.screenshot({ path: `${ARTIFACTS}/page-${kind.name.toLowerCase()}-${name}-${scheme}.png` });
      }
      assert.deepEqual(complaints, []);
    });
  }
}

/** Something on every part of the page. @param {import('puppeteer-core').Page} page */
async function playScene(page) {
  await countsRise(page);
  await fill(page, { topic: 'hello', type: '', data: 'Hello from this page' });
  await page.click('#publish-form [type=submit]');
  await press(page, 'webtransport', 'break');
  await fill(page, { topic: 'a/rather/long/topic/that/somebody/might/well/have/chosen', type: 'note', data: `${'unbroken'.repeat(30)} text` });
  await page.click('#publish-form [type=submit]');
  const { sse } = await stats(page);
  await until('some is missed', async () => (await stats(page)).sse.events > sse.events + 60);
  await press(page, 'webtransport', 'restore');
  await until('it has caught up', async () => (await stats(page)).webtransport.caughtUp > 60);
}

/** Waits for the sentence that says which transport was first. @param {import('puppeteer-core').Page} page */
async function comparesTransports(page) {
  await until('there is something to compare', async () => (await stats(page)).versus !== null, 20_000);
  await until('it is written down', () => page.$eval('#versus', ({ textContent }) => Boolean(textContent)));
}

/** Makes the window so wide, and as high as the page, with everything drawn. @param {import('puppeteer-core').Page} page @param {number} width */
async function fitsItsWindow(page, width) {
  await page.setViewport({ width, height: 844 });
  await until('it is laid out', () => page.evaluate((wanted) => innerWidth === wanted, width));
  const [scrollWidth, height] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.scrollHeight]);
  assert.ok(scrollWidth <= width, `the page is ${scrollWidth} px wide in a window of ${width}`);
  await page.setViewport({ width, height });
  await until('everything is drawn', () =>
    page.evaluate(() =>
      [...document.querySelectorAll('canvas')].every((canvas) => {
        const { width: w, height: h, clientWidth } = canvas;
        if (!clientWidth) return true; // Not shown at this width.
        const fits = Math.abs(w - clientWidth * devicePixelRatio) <= 1;
        return fits && canvas.getContext('2d')?.getImageData(0, 0, w, h).data.some((value) => value > 0);
      }),
    ),
  );
}

/** @param {import('puppeteer-core').Page} page */
function stats(page) {
  return page.evaluate(() => globalThis.fanwirePage.stats());
}

/** @param {import('puppeteer-core').Page} page */
async function countsRise(page) {
  await page.waitForFunction(() => globalThis.fanwirePage);
  for (const kind of TRANSPORTS) await until(`${kind} counts`, async () => (await stats(page))[kind].events > 20);
}

/** @param {import('puppeteer-core').Page} page */
async function bothOpen(page) {
  await page.waitForFunction(() => globalThis.fanwirePage);
  const now = await stats(page);
  return TRANSPORTS.every((kind) => now[kind].state === 'open');
}

/** @param {import('puppeteer-core').Page} page @param {string} kind @param {'break' | 'restore'} action */
async function press(page, kind, action) {
  await page.click(`[data-transport=${kind}] [data-action=${action}]`);
}

/** @param {import('puppeteer-core').Page} page @param {Record<string, string>} fields */
async function fill(page, fields) {
  for (const [name, value] of Object.entries(fields)) {
    await page.$eval(`#publish-form [name=${name}]`, (field, text) => {
      /** @type {HTMLInputElement} */ (field).value = text;
    }, value);
  }
}

/** Writes down what the page's policy forbade. @param {import('./support/browsers.js').Tab} tab */
async function watchPolicy({ page }) {
  await page.evaluateOnNewDocument(() => {
    globalThis.policyViolations = [];
    addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) => {
      globalThis.policyViolations.push(`${violatedDirective} ${blockedURI}`);
    });
  });
}

/** @param {import('puppeteer-core').Page} page */
const violations = (page) => page.evaluate(() => globalThis.policyViolations);

/** @param {Record<string, number>} one */
const pick = ({ lost, gaps, duplicates, duplicatesDropped, reconnects }) => ({ lost, gaps, duplicates, duplicatesDropped, reconnects });

const ARTIFACTS = fileURLToPath(new URL('../artifacts', import.meta.url));
