// The table of faults in WebKit, as far as it concerns a browser without WebTransport.

import { testFaultsIn } from './faults.js';
import { WEBKIT } from './webkit.js';

testFaultsIn(WEBKIT, { hasWebTransport: false });
