// npm better-sse on node's own HTTP server, as its documentation has it: a channel, and a session for each subscriber. A process, as it comes.
import { createServer } from 'node:http';
import { createChannel, createSession } from 'better-sse';

const channel = createChannel();

// The data is text already, and is sent as it is.
const asItIs = { serializer: (data) => data };

const server = createServer(async (request, response) => {
  response.socket?.setNoDelay(true);
  if (request.method === 'GET') {
    channel.register(await createSession(request, response, asItIs));
    return;
  }
  let body = '';
  request.setEncoding('utf8');
  for await (const part of request) body += part;
  // A batch is an event a line.
  for (const line of body.split('\n')) channel.broadcast(line);
  response.end();
});

server.listen(0, '127.0.0.1', () => {
  const base = `http://127.0.0.1:${server.address().port}`;
  console.log(`${base} feed=${base}/sub`);
});
