#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Servers on Python libraries: aiohttp (HTTP/1.1), websockets, grpcio, h2 with extended CONNECT. Prints the ports."""
import asyncio
import json
import socket
import ssl
import sys
import threading
import time
from concurrent import futures

import aiohttp.web
import grpc
import h2.config
import h2.connection
import h2.events
import h2.settings
import websockets.asyncio.server
import websockets.frames
import websockets.protocol

HOST, CHAIN, KEY = sys.argv[1:4]
STATE = {"cancelled": 0}


def context(*alpn):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CHAIN, KEY)
    tls.set_alpn_protocols(list(alpn))
    return tls


# ---- gRPC: messages are bytes, no generated code

def hang(_, call):
    call.add_callback(lambda: STATE.update(cancelled=STATE["cancelled"] + 1))
    while call.is_active():
        time.sleep(0.02)
    return b""


def unary(request, call):
    if request == b"cancelled?":
        return str(STATE["cancelled"]).encode()
    call.set_trailing_metadata((("x-trailer", "there"),))
    return request


def fail(_, call):
    call.abort(grpc.StatusCode.NOT_FOUND, "nothing of that kind")


def server_stream(request, _):
    for i in range(3):
        time.sleep(0.2 if i else 0)
        yield request + b"%d" % i


def client_stream(requests, _):
    return b"+".join(requests)


def bidi(requests, _):
    for request in requests:
        yield b"re:" + request


class Echo(grpc.GenericRpcHandler):
    def service(self, call):
        return {"Unary": grpc.unary_unary_rpc_method_handler(unary),
                "Hang": grpc.unary_unary_rpc_method_handler(hang),
                "Fail": grpc.unary_unary_rpc_method_handler(fail),
                "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
                "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
                "Bidi": grpc.stream_stream_rpc_method_handler(bidi)}.get(call.method.rsplit("/", 1)[1])


def serve_grpc():
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 1 << 26),
                                                                  ("grpc.max_send_message_length", 1 << 26)])
    server.add_generic_rpc_handlers((Echo(),))
    with open(KEY, "rb") as key, open(CHAIN, "rb") as chain:
        credentials = grpc.ssl_server_credentials([(key.read(), chain.read())])
    port = server.add_secure_port(f"{HOST}:0", credentials)
    server.start()
    return server, port


# ---- HTTP/2 on h2: GET, POST, and WebSockets over extended CONNECT

class Http2:
    """One connection. Answers are sent as far as windows allow; bodies here are small."""

    def __init__(self, sock):
        self.sock = sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        codes = h2.settings.SettingCodes
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
            codes.ENABLE_CONNECT_PROTOCOL: 1, codes.MAX_CONCURRENT_STREAMS: 100})
        self.h2.initiate_connection()
        self.bodies, self.heads, self.sockets = {}, {}, {}

    def run(self):
        self.flush()
        while True:
            data = self.sock.recv(65536)
            if not data:
                return
            for event in self.h2.receive_data(data):
                self.on(event)
            self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def on(self, event):
        if isinstance(event, h2.events.RequestReceived):
            head = {bytes(k).decode(): bytes(v).decode() for k, v in
                    ((k if isinstance(k, bytes) else k.encode(), v if isinstance(v, bytes) else v.encode())
                     for k, v in event.headers)}
            self.heads[event.stream_id], self.bodies[event.stream_id] = head, b""
            if head.get(":protocol") == "websocket":
                self.h2.send_headers(event.stream_id, [(":status", "200")])
                self.sockets[event.stream_id] = websockets.protocol.Protocol(websockets.protocol.SERVER)
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self.sockets:
                self.socket(event.stream_id, event.data)
            else:
                self.bodies[event.stream_id] += event.data
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id not in self.sockets:
            body = self.bodies[event.stream_id] or self.heads[event.stream_id][":path"].encode()
            self.h2.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(len(body)))])
            self.h2.send_data(event.stream_id, body, end_stream=True)

    def socket(self, stream, data):
        ws = self.sockets[stream]
        ws.receive_data(data)
        for frame in ws.events_received():
            if frame.opcode is websockets.frames.Opcode.TEXT:
                ws.send_text(frame.data)
            elif frame.opcode is websockets.frames.Opcode.BINARY:
                ws.send_binary(frame.data)
        for out in ws.data_to_send():
            for at in range(0, len(out), 16384):
                self.h2.send_data(stream, out[at:at + 16384])
            if not out:
                self.h2.end_stream(stream)


def serve_http2():
    listener, tls = socket.create_server((HOST, 0)), context("h2")

    def one(raw):
        try:
            with tls.wrap_socket(raw, server_side=True) as sock:
                Http2(sock).run()
        except OSError:
            pass

    def accept():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


# ---- HTTP/1.1 and WebSockets

async def http_echo(request):
    return aiohttp.web.Response(body=await request.read() or str(request.rel_url).encode())


async def http_stream(request):
    response = aiohttp.web.StreamResponse()
    await response.prepare(request)
    for i in range(3):
        await asyncio.sleep(0.2 if i else 0)
        await response.write(b"piece%d" % i)
    await response.write_eof()
    return response


async def ws_echo(ws):
    async for message in ws:
        await ws.send(message)


async def main():
    app = aiohttp.web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/echo", http_echo)
    app.router.add_route("*", "/stream", http_stream)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, HOST, 0, ssl_context=context("http/1.1"))
    await site.start()
    ws = await websockets.asyncio.server.serve(ws_echo, HOST, 0, ssl=context("http/1.1"), max_size=None)
    server, port = serve_grpc()
    print(json.dumps({"http": site._server.sockets[0].getsockname()[1], "ws": ws.sockets[0].getsockname()[1],
                      "grpc": port, "h2": serve_http2()}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, server.wait_for_termination)


asyncio.run(main())
