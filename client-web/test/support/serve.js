// The page on the stand-in hub: `npm run page`, `npm run page -- --no-demo`, PORT=8080.

import { startHub } from './hub.js';

const hub = await startHub({ port: Number(process.env.PORT ?? 8080), demo: !process.argv.includes('--no-demo') });
console.log(`the page is at ${hub.url}`);
