// A transport whose code is loaded when it is first used.

import { reasonOf } from './transport.js';

/** @typedef {import('./transport.js').Connect} Connect */
/** @typedef {import('./transport.js').Connection} Connection */
/** @typedef {import('./transport.js').Closing} Closing */

/**
 * @param {() => Promise<Connect>} load
 * @returns {Connect}
 */
export function connectLater(load) {
  return (request) => {
    /** @type {Connection | undefined} */
    let connection;
    let isOver = false;
    load()
      .then((connect) => isOver || (connection = connect(request)))
      .catch((error) => isOver || request.onEnd({ reason: reasonOf(error) }));
    return {
      close(how) {
        isOver = true;
        connection?.close(how);
      },
      listen: (type) => connection?.listen(type),
      get request() {
        return connection?.request;
      },
    };
  };
}
