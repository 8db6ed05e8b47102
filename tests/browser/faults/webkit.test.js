// The table of faults in WebKit, as far as it concerns a browser without WebTransport.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkMissing } from './network.js';
import { testFaultsIn } from './faults.js';
import { WEBKIT } from './webkit.js';

testFaultsIn(WEBKIT, { hasWebTransport: false });

test('WebKit whose display is gone says so at once, and isn’t used any more', { skip: networkMissing || WEBKIT.missing }, async (t) => {
  const browser = await WEBKIT.launch();
  t.after(() => browser.close());
  const page = await browser.newPage();
  const forever = page.evaluate(() => new Promise(() => {}));
  assert.equal(browser.connected, true);
  browser.process().kill();
  await assert.rejects(forever, /(Xvfb|WebKitWebDriver) ended, SIGKILL/);
  assert.equal(browser.connected, false);
});
