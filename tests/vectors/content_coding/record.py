#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the other files beside itself, by mitmproxy's own functions. Run it with a Python that has them."""
import base64
import hashlib
import json
import os
import subprocess
import sys
import zlib

import brotli
import zstandard
from mitmproxy import http, io
from mitmproxy.net import encoding
from mitmproxy.test import tflow

HERE = os.path.dirname(os.path.abspath(__file__))
TEXT = b"hello, hello, hello"
LONG = b"".join(b"line %d: a body that is longer than one block\n" % i for i in range(900))
NOISE = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(600))


def b64(b):
    return {"$b64": base64.b64encode(b).decode()}


def described(b):
    """Long ones by their digest."""
    return b64(b) if len(b) < 200 else {"len": len(b), "sha256": hashlib.sha256(b).hexdigest()}


def raw_deflate(b, level=6):
    z = zlib.compressobj(level, zlib.DEFLATED, -15)
    return z.compress(b) + z.flush()


def zstd_stream(b, **more):
    z = zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters(compression_level=3, **more)).compressobj()
    return z.compress(b) + z.flush()


def bodies():
    yield "gzip", "level 9", zlib_gzip(LONG, 9)
    yield "gzip", "with zlib's header", zlib.compress(LONG)
    yield "gzip", "without a header", raw_deflate(TEXT)
    yield "gzip", "noise", encoding.encode(NOISE, "gzip")
    yield "deflate", "without a header", raw_deflate(TEXT)
    yield "deflate", "without a header, long", raw_deflate(LONG, 9)
    yield "deflate", "without a header, empty", raw_deflate(b"")
    yield "deflate", "without a header, stored", raw_deflate(NOISE, 0)
    yield "deflate", "a small window", bytes([0x48, 0x89 + (31 - (0x4889 % 31)) % 31]) + zlib.compress(TEXT)[2:]
    yield "deflate", "gzip's header", encoding.encode(TEXT, "gzip")
    yield "deflateraw", "with a header", encoding.encode(TEXT, "deflate")
    yield "br", "quality 11, the largest window", brotli.compress(LONG, quality=11, lgwin=24)
    yield "br", "noise", encoding.encode(NOISE, "br")
    yield "zstd", "level 19", zstandard.ZstdCompressor(level=19, write_checksum=True).compress(LONG)
    yield "zstd", "length not said", zstd_stream(LONG, write_content_size=False)
    yield "zstd", "a frame to skip, then two", (b"\x50\x2a\x4d\x18\x03\0\0\0abc" + encoding.encode(TEXT, "zstd") * 2)
    yield "zstd", "only a frame to skip", b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    yield "zstd", "noise", encoding.encode(NOISE, "zstd")
    yield "zstd", "the largest window that is read", zstd_stream(LONG, window_log=27, write_content_size=False)
    yield "zstd", "a window that is refused", zstd_stream(LONG, window_log=28, write_content_size=False)
    for name in ("gzip", "deflate", "br", "zstd"):
        coded = encoding.encode(TEXT, name)
        yield name, "as it writes", coded
        yield name.upper(), "as it writes", coded
        yield name, "nothing, as it writes", encoding.encode(b"", name)
        yield name, "long, as it writes", encoding.encode(LONG, name)
        yield name, "twice", coded + coded
        yield name, "something behind", coded + b"garbage"
        yield name, "plain", b"plain text"
        yield name, "one byte", b"p"
        yield name, "empty", b""
        for n in range(1, len(coded)):
            yield name, "the first %d bytes" % n, coded[:n]
        for n in range(len(coded)):
            yield name, "byte %d is another" % n, coded[:n] + bytes([coded[n] ^ 0xff]) + coded[n + 1:]
    for name in ("identity", "none", "None", "", "x-gzip", "gzip, br", "gzip,gzip", " gzip", "compress", "zlib2"):
        yield name, "plain", b"plain text"


def zlib_gzip(b, level):
    z = zlib.compressobj(level, zlib.DEFLATED, 31)
    return z.compress(b) + z.flush()


def decoded(field, raw):
    try:
        return described(encoding.decode(raw, field or "identity"))
    except ValueError:
        return None


def messages():
    for value in (b"content", b"", LONG[:2000]):
        for field in ("gzip", "deflate", "deflateraw", "br", "zstd", "GZip", "identity", "none", "", "x-gzip",
                      "gzip, br", "unknown"):
            yield [["Content-Encoding", field], ["Content-Length", "4"]], value
        yield [["Content-Length", "4"]], value
        yield [], value
        yield [["Server", "s"], ["content-encoding", "gzip"]], value
        yield [["Content-Encoding", "br"], ["Transfer-Encoding", "chunked"]], value
        yield [["Content-Encoding", "odd"], ["Transfer-Encoding", "chunked"], ["X", "y"]], value
        yield [["Content-Encoding", "gzip"], ["A", "b"], ["Content-Encoding", "gzip"], ["Content-Length", "1"]], value
        yield [["Content-Length", "1"], ["A", "b"], ["Content-Length", "1"], ["Content-Encoding", "zstd"]], value


def set_content(headers, value):
    m = http.Response.make(200)
    m.headers = http.Headers([(k.encode(), v.encode()) for k, v in headers])
    m.content = value
    return {"headers": headers, "value": b64(value), "after": [[k.decode(), v.decode()] for k, v in m.headers.fields],
            "raw": b64(m.raw_content)}


def shown():
    lines = b"first line\nsecond line: caf\xc3\xa9\nthird\n"
    for name in ("gzip", "deflate", "br", "zstd", "BR", "none", "x-odd"):
        coded = encoding.encode(lines, name) if name != "x-odd" else lines
        for raw in (coded, coded[:-3], coded[:len(coded) // 2], b"not coded at all", b"", coded + b"behind"):
            yield [name], raw
    yield ["gzip", "gzip"], encoding.encode(lines, "gzip")
    yield ["br", "gzip"], lines


def write_shown():
    flows = os.path.join(HERE, "terminal.mitm")
    with open(flows, "wb") as f:
        writer = io.FlowWriter(f)
        for names, raw in shown():
            flow = tflow.tflow(resp=True)
            flow.response.headers = http.Headers([(b"content-encoding", name.encode()) for name in names])
            flow.response.raw_content = raw
            writer.add(flow)
    with open(os.path.join(HERE, "terminal.txt"), "wb") as f:
        subprocess.run([os.path.join(os.path.dirname(sys.executable), "mitmdump"), "-n", "-r", flows,
                        "--set", "flow_detail=3"], stdout=f, check=True)


def write(name, cases):
    with open(os.path.join(HERE, name), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")


write("decode.json", [{"coding": field, "what": what, "raw": b64(raw), "decoded": decoded(field, raw)}
                      for field, what, raw in bodies()])
write("set.json", [set_content(headers, value) for headers, value in messages()])
write_shown()
