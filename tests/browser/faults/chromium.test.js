// The table of faults in Chromium.

import { CHROMIUM } from '../support/browsers.js';
import { testFaultsIn } from './faults.js';

testFaultsIn(CHROMIUM, { hasWebTransport: true });
