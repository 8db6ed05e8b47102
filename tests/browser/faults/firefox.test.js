// The table of faults in Firefox.

import { FIREFOX } from '../support/browsers.js';
import { testFaultsIn } from './faults.js';

testFaultsIn(FIREFOX, { hasWebTransport: true });
