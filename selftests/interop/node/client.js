// SPDX-License-Identifier: MIT
// client.js LIBRARY SCENARIO HOST:PORT CASE: does it, and prints what it got as JSON.
import fs from 'node:fs';
import http2 from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';
import { Agent, fetch } from 'undici';
import WebSocket from 'ws';

const [library, scenario, target, id] = process.argv.slice(2);
const ca = fs.readFileSync(process.env.NODE_EXTRA_CA_CERTS);
const body = Buffer.from(Array.from({ length: 256 * 1024 }, (_, i) => i & 255));
const headers = { 'x-case': id };

// How far the first and the last piece are apart, and all of them.
async function pieces(source) {
  let begin = 0;
  const parts = [];
  for await (const part of source) {
    begin ||= Date.now();
    parts.push(Buffer.from(part));
  }
  return { body: Buffer.concat(parts).toString(), spread: (Date.now() - begin) / 1000 };
}

async function viaFetch(allowH2) {
  const dispatcher = new Agent({ allowH2, connect: { ca } });
  const path = scenario === 'stream' ? '/stream' : '/echo';
  const options = { dispatcher, headers, ...(scenario === 'post' ? { method: 'POST', body } : {}) };
  const answer = await fetch(`https://${target}${path}`, options);
  if (scenario === 'stream') return pieces(answer.body);
  const got = Buffer.from(await answer.arrayBuffer());
  return { status: answer.status, body: scenario === 'get' ? got.toString() : got.equals(body) };
}

function connectHttp2() {
  return new Promise((resolve, reject) => {
    const session = http2.connect(`https://${target}`, { ca });
    session.on('error', reject);
    session.on('remoteSettings', () => resolve(session));
  });
}

async function viaHttp2() {
  const session = await connectHttp2();
  const path = { stream: '/stream', trailers: '/trailers' }[scenario] ?? '/echo';
  const sends = scenario === 'post' || scenario === 'trailers';
  const declared = scenario === 'trailers' ? { trailer: 'x-up' } : {};
  const stream = session.request({ ':method': sends ? 'POST' : 'GET', ':path': path, ...headers, ...declared },
    { endStream: !sends, waitForTrailers: scenario === 'trailers' });
  const out = {};
  stream.on('headers', (head) => { out.hints = head[':status']; });
  stream.on('response', (head) => { out.status = head[':status']; });
  stream.on('trailers', (head) => { out.trailer = head['x-sum']; });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-up': 'up' }));
  if (sends) stream.end(body);
  const got = await pieces(stream);
  session.close();
  if (scenario === 'stream') return got;
  out.body = scenario === 'get' ? got.body : got.body === body.toString();
  return out;
}

// A WebSocket over a stream (RFC 8441), its frames by hand: small ones, with a mask of zeros.
async function viaExtendedConnect() {
  const session = await connectHttp2();
  const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws', ':scheme': 'https',
    ':authority': target, 'sec-websocket-version': '13', ...headers }, { endStream: false });
  const out = { offered: session.remoteSettings.enableConnectProtocol ? 1 : 0 };
  stream.on('response', (head) => {
    out.status = String(head[':status']);
    stream.write(Buffer.concat([Buffer.from([0x81, 0x80 | 6, 0, 0, 0, 0]), Buffer.from('héllo')]));
  });
  let got = Buffer.alloc(0);
  for await (const part of stream) {
    got = Buffer.concat([got, part]);
    if (!out.text && got.length >= 8 && got[0] === 0x81) {
      out.text = got.subarray(2, 2 + got[1]).toString();
      got = got.subarray(2 + got[1]);
      stream.write(Buffer.concat([Buffer.from([0x88, 0x80 | 2, 0, 0, 0, 0]), Buffer.from([0x0f, 0xa1])]));
    }
    if (got.length >= 4 && got[0] === 0x88) out.closed = got.readUInt16BE(2);
  }
  session.destroy();
  return out;
}

function viaWs() {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(`wss://${target}/ws`, { headers, ca, perMessageDeflate: true });
    const out = {};
    ws.on('error', reject);
    ws.on('open', () => ws.send('héllo'));
    ws.on('message', (data, binary) => {
      if (binary) {
        out.binary = data.equals(body);
        ws.close(4001, 'done');
      } else {
        out.text = data.toString();
        ws.send(body);
      }
    });
    ws.on('close', (code) => resolve({ ...out, closed: code }));
  });
}

function viaGrpc() {
  const client = new grpc.Client(target, grpc.credentials.createSsl(ca),
    { 'grpc.max_receive_message_length': 1 << 26, 'grpc.max_send_message_length': 1 << 26 });
  const meta = new grpc.Metadata();
  const same = (x) => x;
  const at = (name) => `/interop.Echo/${name}`;
  const limit = (ms) => ({ deadline: Date.now() + ms });
  const unary = (name, message, options, hold) => new Promise((resolve) => {
    const out = {};
    const call = client.makeUnaryRequest(at(name), same, same, message, meta, options, (error, value) => {
      Object.assign(out, { error, value });
    });
    call.on('status', (end) => resolve({ ...out, end }));
    hold?.(call);
  });
  meta.set('x-case', id);
  switch (scenario) {
    case 'unary':
    case 'large': {
      const message = scenario === 'unary' ? Buffer.from('one') : Buffer.concat(Array(12).fill(body));
      return unary('Unary', message, limit(10000)).then(({ value, end }) => (
        { same: value.equals(message), trailer: end.metadata.get('x-trailer')[0] }));
    }
    case 'server-stream':
      return pieces(client.makeServerStreamRequest(at('ServerStream'), same, same, Buffer.from('m'), meta,
        limit(10000)));
    case 'client-stream':
      return new Promise((resolve, reject) => {
        const call = client.makeClientStreamRequest(at('ClientStream'), same, same, meta, limit(10000),
          (error, value) => (error ? reject(error) : resolve({ body: value.toString() })));
        for (const part of 'abc') call.write(Buffer.from(part));
        call.end();
      });
    case 'bidi':
      return new Promise((resolve, reject) => {
        const call = client.makeBidiStreamRequest(at('Bidi'), same, same, meta, limit(10000));
        const got = [];
        call.on('error', reject);
        call.on('data', (part) => {
          got.push(part.toString());
          if (got.length < 5) call.write(Buffer.from(String(got.length)));
          else call.end();
        });
        call.on('end', () => resolve({ body: got.join(','), rest: 0 }));
        call.write(Buffer.from('0'));
      });
    case 'error':
      return unary('Fail', Buffer.from('x'), limit(10000)).then(({ end }) => (
        { code: grpc.status[end.code], details: end.details }));
    default:
      return unary('Hang', Buffer.from('x'), limit(scenario === 'deadline' ? 500 : 10000),
        (call) => scenario === 'cancel' && setTimeout(() => call.cancel(), 300)).then(async ({ end }) => {
        await sleep(500);
        const { value } = await unary('Unary', Buffer.from('cancelled?'), limit(10000));
        return { code: grpc.status[end.code], cancelled: Number(value.toString()) };
      });
  }
}

const all = {
  fetch: () => viaFetch(false), 'fetch-h2': () => viaFetch(true), http2: viaHttp2, h2: viaExtendedConnect, ws: viaWs,
  grpc: viaGrpc,
};
console.log(JSON.stringify(await all[library]()));
process.exit(0);
