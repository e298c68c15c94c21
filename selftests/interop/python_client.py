#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""python_client.py LIBRARY SCENARIO HOST:PORT CASE: does it, and prints what it got as JSON."""
import asyncio
import json
import os
import socket
import ssl
import sys
import time

LIBRARY, SCENARIO, TARGET, CASE = sys.argv[1:5]
CA = os.environ["SSL_CERT_FILE"]
BODY = bytes(range(256)) * 1024
HEADERS = {"x-case": CASE}


def url(path, scheme="https"):
    return f"{scheme}://{TARGET}{path}"


def pieces(parts):
    """How far the first and the last one are apart, and all of them."""
    got, begin = [], None
    for part in parts:
        begin = begin or time.monotonic()
        got.append(part)
    return {"body": b"".join(got).decode(), "spread": time.monotonic() - begin}


def get(status, version, body):
    return {"status": status, "version": version, "body": body.decode() if SCENARIO == "get" else body == BODY}


def http_httpx(http2):
    import httpx
    with httpx.Client(http2=http2, headers=HEADERS, verify=ssl.create_default_context(cafile=CA)) as client:
        if SCENARIO == "stream":
            with client.stream("GET", url("/stream")) as r:
                return pieces(r.iter_raw())
        r = client.post(url("/echo"), content=BODY) if SCENARIO == "post" else client.get(url("/echo"))
        return get(r.status_code, r.http_version, r.content)


def http_requests():
    import requests
    if SCENARIO == "stream":
        with requests.get(url("/stream"), headers=HEADERS, verify=CA, stream=True, timeout=10) as r:
            return pieces(r.raw.stream(64))
    r = requests.request("POST" if SCENARIO == "post" else "GET", url("/echo"), headers=HEADERS, verify=CA, timeout=10,
                         data=BODY if SCENARIO == "post" else None)
    return get(r.status_code, f"HTTP/{r.raw.version / 10}", r.content)


def http_urllib3():
    import urllib3
    pool = urllib3.PoolManager(ca_certs=CA)
    if SCENARIO == "stream":
        return pieces(pool.request("GET", url("/stream"), headers=HEADERS, preload_content=False).stream(64))
    # an iterator is sent in chunks
    r = pool.request("POST" if SCENARIO == "post" else "GET", url("/echo"), headers=HEADERS,
                     body=iter([BODY[:1000], BODY[1000:]]) if SCENARIO == "post" else None)
    return get(r.status, f"HTTP/{r.version / 10}", r.data)


async def http_aiohttp():
    import aiohttp
    tls = ssl.create_default_context(cafile=CA)
    async with aiohttp.ClientSession(headers=HEADERS) as session:
        if SCENARIO == "ws":
            async with session.ws_connect(url("/ws"), ssl=tls, max_msg_size=0, compress=15) as ws:
                await ws.send_str("héllo")
                text = await ws.receive_str()
                await ws.send_bytes(BODY)
                return {"text": text, "binary": await ws.receive_bytes() == BODY, "closed": await ws.close()}
        if SCENARIO == "post":
            async with session.post(url("/echo"), data=BODY, ssl=tls) as r:
                return get(r.status, f"HTTP/{r.version.major}.{r.version.minor}", await r.read())
        async with session.get(url("/echo"), ssl=tls) as r:
            return get(r.status, f"HTTP/{r.version.major}.{r.version.minor}", await r.read())


async def ws_websockets():
    from websockets.asyncio.client import connect
    async with connect(url("/ws", "wss"), additional_headers=HEADERS, max_size=None) as ws:
        await ws.send("héllo")
        text = await ws.recv()
        await ws.send(BODY)
        binary = await ws.recv()
        await ws.send([b"frag", b"ments"])
        fragments = await ws.recv()
        await (await ws.ping())
        await ws.close(4001, "done")
        return {"text": text, "binary": binary == BODY, "fragments": fragments.decode(), "closed": ws.close_code}


def ws_h2():
    """A WebSocket over a stream of HTTP/2 (RFC 8441)."""
    import h2.config
    import h2.connection
    import h2.events
    import h2.settings
    from websockets import frames, protocol
    host, port = TARGET.rsplit(":", 1)
    tls = ssl.create_default_context(cafile=CA)
    tls.set_alpn_protocols(["h2"])
    sock = tls.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=host)
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http2.initiate_connection()
    sock.sendall(http2.data_to_send())
    ws, out, asked, ended = protocol.Protocol(protocol.CLIENT, max_size=None), {}, False, False
    while not ended:
        for event in http2.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.RemoteSettingsChanged) and not asked:
                out["offered"] = http2.remote_settings.enable_connect_protocol
                http2.send_headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"),
                                       (":path", "/ws"), (":authority", TARGET), ("sec-websocket-version", "13"),
                                       ("x-case", CASE)])
                asked = True
            elif isinstance(event, h2.events.ResponseReceived):
                out["status"] = next(v if isinstance(v, str) else v.decode() for k, v in event.headers)
                ws.send_text("héllo".encode())
            elif isinstance(event, h2.events.DataReceived):
                http2.acknowledge_received_data(event.flow_controlled_length, 1)
                ws.receive_data(event.data)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                ended = True
        for frame in ws.events_received():
            if frame.opcode is frames.Opcode.TEXT:
                out["text"] = frame.data.decode()
                ws.send_binary(BODY[:30000])
            elif frame.opcode is frames.Opcode.BINARY:
                out["binary"] = bytes(frame.data) == BODY[:30000]
                ws.send_close(4001, "done")
            elif frame.opcode is frames.Opcode.CLOSE:
                out["closed"] = ws.close_rcvd.code
        for data in ws.data_to_send():
            while data and not ended:
                room = min(len(data), http2.local_flow_control_window(1), http2.max_outbound_frame_size)
                http2.send_data(1, data[:room])
                data = data[room:]
        sock.sendall(http2.data_to_send())
    return out


class Inner:
    """A request over TLS in a tunnel; `told` and `tells` are the tunnel's bytes."""

    def __init__(self, path):
        self.told, self.tells, self.got, self.over = ssl.MemoryBIO(), ssl.MemoryBIO(), b"", False
        tls = ssl.create_default_context(cafile=CA)
        self.tls = tls.wrap_bio(self.told, self.tells, server_hostname=TARGET.rsplit(":", 1)[0])
        self.asks = f"GET {path} HTTP/1.1\r\nHost: {TARGET}\r\nx-case: {CASE}\r\nConnection: close\r\n\r\n".encode()

    def go_on(self):
        try:
            self.tls.do_handshake()
            if self.asks:
                self.tls.write(self.asks)
                self.asks = b""
            while not self.over:
                part = self.tls.read(65536)
                self.got += part
                self.over = not part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.over = True
        return self.tells.read()


def connect_h2():
    """Two tunnels on one connection to the proxy (RFC 9113 8.5), TLS inside of each, both at once."""
    import h2.config
    import h2.connection
    import h2.events
    tls = ssl.create_default_context(cafile=CA)
    tls.set_alpn_protocols(["h2"])
    raw = socket.create_connection(("127.0.0.1", int(os.environ["PROXY_PORT"])), 10)
    sock = tls.wrap_socket(raw, server_hostname="localhost")
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    http2.initiate_connection()
    inner, out = {1: Inner("/echo?1"), 3: Inner("/echo?3")}, {"alpn": sock.selected_alpn_protocol(), "status": []}
    for stream in inner:
        http2.send_headers(stream, [(":method", "CONNECT"), (":authority", TARGET)])
    sock.sendall(http2.data_to_send())
    while not all(one.over for one in inner.values()):
        for event in http2.receive_data(sock.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                out["status"].append(dict(event.headers)[":status"])
                http2.send_data(event.stream_id, inner[event.stream_id].go_on())
            elif isinstance(event, h2.events.DataReceived):
                http2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                inner[event.stream_id].told.write(event.data)
                answer = inner[event.stream_id].go_on()
                if answer:
                    http2.send_data(event.stream_id, answer)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                inner[event.stream_id].over = True
        sock.sendall(http2.data_to_send())
    out["bodies"] = [one.got.rsplit(b"\r\n\r\n", 1)[1].decode() for one in inner.values()]
    return out


def grpc_call():
    import grpc
    with open(CA, "rb") as f:
        credentials = grpc.ssl_channel_credentials(f.read())
    options = [("grpc.max_receive_message_length", 1 << 26), ("grpc.max_send_message_length", 1 << 26)]
    meta = (("x-case", CASE),)
    with grpc.secure_channel(TARGET, credentials, options) as channel:
        def method(kind, name):
            return getattr(channel, kind)("/interop.Echo/" + name)
        if SCENARIO in ("unary", "large"):
            body = b"one" if SCENARIO == "unary" else BODY * 12
            answer, call = method("unary_unary", "Unary").with_call(body, metadata=meta, timeout=10)
            return {"same": answer == body, "trailer": dict(call.trailing_metadata()).get("x-trailer")}
        if SCENARIO == "server-stream":
            return pieces(method("unary_stream", "ServerStream")(b"m", metadata=meta, timeout=10))
        if SCENARIO == "client-stream":
            return {"body": method("stream_unary", "ClientStream")(iter([b"a", b"b", b"c"]), metadata=meta,
                                                                    timeout=10).decode()}
        if SCENARIO == "bidi":
            return bidi(method("stream_stream", "Bidi"), meta)
        name = {"error": "Fail", "deadline": "Hang", "cancel": "Hang"}[SCENARIO]
        call = method("unary_unary", name).future(b"x", metadata=meta, timeout=0.5 if SCENARIO == "deadline" else 10)
        if SCENARIO == "cancel":
            time.sleep(0.3)
            call.cancel()
        try:
            code = call.exception(10).code().name
        except grpc.FutureCancelledError:
            code = call.code().name
        out = {"code": code, "details": call.details() if SCENARIO == "error" else None}
        if SCENARIO != "error":
            time.sleep(0.5)
            out["cancelled"] = int(method("unary_unary", "Unary")(b"cancelled?", timeout=10))
        return out


def bidi(method, meta):
    """Each question waits for the answer to the one before: nothing may be held back on the way."""
    import queue
    questions = queue.Queue()
    answers = method(iter(questions.get, None), metadata=meta, timeout=10)
    got = []
    for i in range(5):
        questions.put(b"%d" % i)
        got.append(next(answers).decode())
    questions.put(None)
    return {"body": ",".join(got), "rest": len(list(answers))}


ALL = {"httpx": lambda: http_httpx(False), "httpx-h2": lambda: http_httpx(True), "requests": http_requests,
       "urllib3": http_urllib3, "aiohttp": lambda: asyncio.run(http_aiohttp()),
       "websockets": lambda: asyncio.run(ws_websockets()), "h2": ws_h2, "connect": connect_h2,
       "grpcio": grpc_call}
print(json.dumps(ALL[LIBRARY]()))
