// SPDX-License-Identifier: MIT
// Servers on Node: http2 (which takes HTTP/1.1, too), ws, @grpc/grpc-js. server.js HOST CHAIN KEY prints its ports.
import fs from 'node:fs';
import http2 from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { WebSocketServer } from 'ws';

const [host, chain, key] = process.argv.slice(2);
const pem = { cert: fs.readFileSync(chain), key: fs.readFileSync(key) };

async function answer(request, response) {
  if (request.url === '/stream') {
    for (let i = 0; i < 3; i++) {
      if (i) await sleep(200);
      response.write(`piece${i}`);
    }
    response.end();
    return;
  }
  const parts = [];
  for await (const part of request) parts.push(part);
  const body = Buffer.concat(parts);
  if (request.url === '/trailers') {
    if (request.httpVersionMajor === 2) response.writeEarlyHints({ link: '</a>; rel=preload' });
    response.setHeader('trailer', 'x-sum');
    response.write(body);
    response.addTrailers({ 'x-sum': `${body.length} ${request.trailers['x-up']}` });
    response.end();
    return;
  }
  response.end(body.length ? body : request.url);
}

const web = http2.createSecureServer({ ...pem, allowHTTP1: true }, answer);
const sockets = new WebSocketServer({ server: web, perMessageDeflate: true, maxPayload: 0 });
sockets.on('connection', (ws) => ws.on('message', (data, binary) => ws.send(data, { binary })));

let cancelled = 0;
const same = (x) => x;
const define = (path, requestStream, responseStream) => ({
  path: `/interop.Echo/${path}`, requestStream, responseStream,
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const rpc = new grpc.Server({ 'grpc.max_receive_message_length': 1 << 26, 'grpc.max_send_message_length': 1 << 26 });
rpc.addService({
  Unary: define('Unary', false, false), Hang: define('Hang', false, false), Fail: define('Fail', false, false),
  ServerStream: define('ServerStream', false, true), ClientStream: define('ClientStream', true, false),
  Bidi: define('Bidi', true, true),
}, {
  Unary(call, done) {
    const trailer = new grpc.Metadata();
    trailer.set('x-trailer', 'there');
    const question = call.request.length < 20 && call.request.toString() === 'cancelled?';
    done(null, question ? Buffer.from(String(cancelled)) : call.request, trailer);
  },
  Hang(call) { call.on('cancelled', () => { cancelled++; }); },
  Fail(call, done) { done({ code: grpc.status.NOT_FOUND, details: 'nothing of that kind' }); },
  async ServerStream(call) {
    for (let i = 0; i < 3; i++) {
      if (i) await sleep(200);
      call.write(Buffer.concat([call.request, Buffer.from(String(i))]));
    }
    call.end();
  },
  ClientStream(call, done) {
    const parts = [];
    call.on('data', (part) => parts.push(part.toString()));
    call.on('end', () => done(null, Buffer.from(parts.join('+'))));
  },
  Bidi(call) {
    call.on('data', (part) => call.write(Buffer.concat([Buffer.from('re:'), part])));
    call.on('end', () => call.end());
  },
});

const credentials = grpc.ServerCredentials.createSsl(null, [{ cert_chain: pem.cert, private_key: pem.key }]);
web.listen(0, host, () => rpc.bindAsync(`${host}:0`, credentials, (error, port) => {
  if (error) throw error;
  const { port: at } = web.address();
  console.log(JSON.stringify({ http: at, ws: at, h2: at, grpc: port }));
}));
