// Screenshots of the page, to be looked at: `node test/support/look.js <directory>`.

import { join } from 'node:path';
import puppeteer from 'puppeteer-core';
import { startHub } from './hub.js';
import { installWebTransportStandIn } from './webtransport-stand-in.js';

const directory = process.argv[2] ?? '.';
const SHOTS = [
  { name: 'light', width: 1280, height: 2800, scheme: 'light', waitMs: 9000, scene: true },
  { name: 'dark', width: 1280, height: 2800, scheme: 'dark', waitMs: 9000, historyMs: 52_000, scene: true },
  { name: 'phone', width: 390, height: 5000, scheme: 'light', waitMs: 9000, scale: 2, scene: true },
  { name: 'narrow', width: 360, height: 4600, scheme: 'dark', waitMs: 4000, withoutWebTransport: true },
  { name: 'no-demo', width: 1280, height: 2800, scheme: 'light', waitMs: 4000, noDemo: true },
];
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const wanted = process.argv.slice(3);

const browser = await puppeteer.launch({
  executablePath: '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update'],
});
for (const shot of SHOTS.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
  const hub = await startHub({ demo: !shot.noDemo });
  await wait(shot.historyMs ?? 0);
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.setViewport({ width: shot.width, height: shot.height, deviceScaleFactor: shot.scale ?? 1, isMobile: shot.width < 500 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: shot.scheme }]);
  if (shot.withoutWebTransport) await page.evaluateOnNewDocument(() => delete globalThis.WebTransport);
  else await page.evaluateOnNewDocument(installWebTransportStandIn);
  await page.goto(hub.url);
  await wait(shot.waitMs);
  if (shot.scene) {
    await page.click('#publish-form [type=submit]');
    await page.evaluate(() => document.querySelector('.panel.wt [data-action=break]').click());
    await page.type('[name=type]', 'note');
    await page.click('#publish-form [type=submit]');
    await wait(3000);
    await page.evaluate(() => document.querySelector('.panel.wt [data-action=restore]').click());
    await wait(700);
    await page.evaluate(() => document.querySelector('.panel.sse [data-action=break]').click());
    await page.click('#publish-form [type=submit]');
    await wait(1500);
  }
  const { scrollWidth } = await page.evaluate(() => ({ scrollWidth: document.documentElement.scrollWidth }));
  console.log(shot.name, { scrollWidth, complaints }, JSON.stringify(await page.evaluate(() => globalThis.fanwirePage.stats())));
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  const part = shot.width < 500 ? 1300 : 1000;
  for (let y = 0, i = 1; y < height; y += part, i++) {
    const clip = { x: 0, y, width: shot.width, height: Math.min(part, height - y) };
    await page.screenshot({ path: join(directory, `${shot.name}-${i}.png`), clip });
  }
  await page.close();
  await hub.close();
}
await browser.close();
