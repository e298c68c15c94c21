#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""WebSockets of a steered program: plain and over TLS, deflated, long; what is printed and what is in the file."""
import os
import struct
import zlib

import e2e
from e2e import Failed, check, contains, same, wait_for

PYTHON = "/usr/bin/python3"

# A client: connects, sends each message, expects it back, closes; says how it ended.
CLIENT = r"""
import base64, hashlib, json, os, socket, ssl, struct, sys, zlib
sys.path.insert(0, sys.argv[6])
from websocket_test import Peer
host, port, ca, deflate, messages = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "1", sys.argv[5]
sock = socket.create_connection((host, port), 10)
if ca:
    sock = ssl.create_default_context(cafile=ca).wrap_socket(sock, server_hostname=host)
ext = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
sock.sendall((f"GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
              f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{ext}\r\n").encode())
peer = Peer(sock, client=True, deflate=deflate)
head = peer.read_head()
assert head.startswith(b"HTTP/1.1 101 "), head
for size in json.loads(messages):
    data = b"%d:" % size + b"abcdefgh" * (size // 8)
    peer.send(1, data)
    opcode, got = peer.receive()
    assert (opcode, got) == (1, data), (opcode, len(got), len(data))
peer.send(9, b"are you there")
assert peer.receive() == (10, b"are you there")
peer.send(8, struct.pack("!H", 1000) + b"done")
opcode, got = peer.receive()
assert (opcode, got) == (8, struct.pack("!H", 1000) + b"done"), got
assert sock.recv(1) == b""
print("all came back")
"""


class Peer:
    """One end of a WebSocket, by the book and no faster."""

    def __init__(self, sock, client, deflate):
        self.sock, self.client, self.deflate, self.buffer = sock, client, deflate, b""
        self.packer, self.unpacker = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)

    def read(self, count):
        parts, have = [self.buffer], len(self.buffer)
        while have < count:
            parts.append(self.sock.recv(65536))
            have += len(parts[-1])
            if not parts[-1]:
                raise EOFError
        data = b"".join(parts)
        self.buffer = data[count:]
        return data[:count]

    def read_head(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        return head

    def send(self, opcode, data):
        first = 0x80 | opcode
        if self.deflate and opcode < 8:
            data = (self.packer.compress(data) + self.packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            first |= 0x40
        mask = 0x80 if self.client else 0
        size = len(data)
        head = bytes([first, mask | (size if size < 126 else 126 if size < 65536 else 127)])
        head += b"" if size < 126 else struct.pack("!H" if size < 65536 else "!Q", size)
        if self.client:
            key = os.urandom(4)
            head, data = head + key, self.masked(data, key)
        self.sock.sendall(head + data)

    @staticmethod
    def masked(data, key):
        long = (key * (len(data) // 4 + 1))[:len(data)]
        return (int.from_bytes(data, "big") ^ int.from_bytes(long, "big")).to_bytes(len(data), "big")

    def receive(self):
        """(opcode, payload) of the next whole message or control frame; control frames inside messages are not
        expected here."""
        opcode, whole, packed = 0, b"", False
        while True:
            first, second = self.read(2)
            size = second & 127
            size = struct.unpack("!H", self.read(2))[0] if size == 126 else \
                struct.unpack("!Q", self.read(8))[0] if size == 127 else size
            if bool(second & 128) == self.client:
                raise ValueError("masked the wrong way")
            key = self.read(4) if second & 128 else b"\0\0\0\0"
            whole += self.masked(self.read(size), key)
            opcode, packed = opcode or first & 15, packed or bool(first & 0x40)
            if first & 0x80:
                break
        return opcode, self.unpacker.decompress(whole + b"\0\0\xff\xff") if packed else whole


def echo(sock, origin):
    """Answers each message with itself, each ping with a pong, a close with a close."""
    stream = Peer(sock, client=False, deflate=False)
    head = stream.read_head()
    stream.deflate = b"permessage-deflate" in head
    sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 + (b"Sec-WebSocket-Extensions: permessage-deflate\r\n" if stream.deflate else b"") + b"\r\n")
    while True:
        opcode, data = stream.receive()
        origin.requests.append((opcode, len(data)))
        stream.send(10 if opcode == 9 else opcode, data)
        if opcode == 8:
            return


def talk(w, tls, deflate, sizes, *words):
    origin = w.origin(tls="good" if tls else None, behave=echo)
    proxy = w.proxy(*words, intercept="python3", env={"COLUMNS": "200"})
    done = w.run(PYTHON, "-c", CLIENT, origin.host4, origin.port, w.ca if tls else "", int(deflate),
                 str(sizes), os.path.join(e2e.ROOT, "selftests"), timeout=60)
    contains(done.well(), "all came back")
    flow = proxy.flow("/chat")
    return origin, proxy, flow


def messages_of(flow):
    return [(m[0], m[1], bytes(m[2])) for m in flow["websocket"]["messages"]]


def test_long_log(w):
    """Many messages, more than stay in memory: all of them are in the file, in order"""
    sizes = [100 + 977 * i % 30000 for i in range(120)]
    _, proxy, flow = talk(w, False, True, sizes, "--set", "body_memory_max=64k")
    wanted = [b"%d:" % size + b"abcdefgh" * (size // 8) for size in sizes]
    same(messages_of(flow), [(1, way, data) for data in wanted for way in (True, False)], "the messages")
    check("mitm_bpf.bytes_dropped" not in flow["metadata"], "something was dropped")


def small(w, tls, deflate):
    _, proxy, flow = talk(w, tls, deflate, [1, 100, 70000])
    wanted = [b"%d:" % size + b"abcdefgh" * (size // 8) for size in (1, 100, 70000)]
    same(messages_of(flow), [(1, way, data) for data in wanted for way in (True, False)], "the messages")
    same((flow["websocket"]["close_code"], flow["websocket"]["close_reason"], flow["websocket"]["closed_by_client"]),
         (1000, "done", True), "the end")
    same(flow["response"]["status_code"], 101, "the status")
    wait_for(3, "the end is printed", lambda: "closed by client: 1000 done" in proxy.out())
    out = proxy.out()
    contains(out, "101 Switching Protocols", "what was printed")
    same((out.count("-> WebSocket text message ->"), out.count("<- WebSocket text message <-")), (3, 3), "the lines")


def test_plain(w):
    """a WebSocket: messages there and back, printed and in the file"""
    small(w, False, False)


def test_tls(w):
    """the same over TLS"""
    small(w, True, False)


def test_deflate(w):
    """deflated: readable in the file"""
    small(w, False, True)


def test_tls_deflate(w):
    """deflated over TLS"""
    small(w, True, True)


def test_long(w):
    """messages longer than what is captured: they arrive, the file says what is missing, memory stays"""
    size = 6 << 20
    origin, proxy, flow = talk(w, False, False, [size, size], "--set", "body_capture_max=1m")
    check(proxy.status("VmHWM") < 200 * 1024, f"{proxy.status('VmHWM')} KiB were used")
    same([m[0:2] for m in messages_of(flow)][:1], [(1, True)], "the first message")
    check(sum(len(m[2]) for m in messages_of(flow)) <= 1 << 20, "more was kept than allowed")
    check(flow["metadata"]["mitm_bpf.bytes_dropped"] > 22 << 20, "the missing bytes are not counted")


def test_switched_off(w):
    """websocket=false: a raw relay, shown as TCP"""
    origin = w.origin(tls=None, behave=echo)
    proxy = w.proxy("--set", "websocket=false", intercept="python3")
    done = w.run(PYTHON, "-c", CLIENT, origin.host4, origin.port, "", 0, "[5]",
                 os.path.join(e2e.ROOT, "selftests"))
    contains(done.well(), "all came back")
    flows = proxy.flows(2)
    same(sorted(f["type"] for f in flows), ["http", "tcp"], "the flows")
    if any(f.get("websocket") for f in flows):
        raise Failed("a WebSocket was recorded")


if __name__ == "__main__":
    e2e.main(globals())
