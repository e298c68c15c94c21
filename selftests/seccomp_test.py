#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The workers' filter breaks nothing: every kind of work, over both backends, with a filter that ends the program at
the first system call that is not in it. (All other end-to-end tests can be run so, too: MITM_SET=seccomp=kill.)"""
import asyncio
import os
import re
import subprocess

import e2e
import http2_test
import websocket_test
from e2e import ORIGIN4, check, contains, same


def workers(proxy):
    """Filtered, all of them."""
    modes = set()
    for task in os.listdir(f"/proc/{proxy.pid}/task"):
        with open(f"/proc/{proxy.pid}/task/{task}/status", encoding="ascii") as f:
            text = f.read()
        if text.startswith("Name:\tworker"):
            modes.add(re.search(r"^Seccomp:\t(\d)", text, re.M).group(1))
    sanitized = b"__asan_init" in open(e2e.MITM_BPF, "rb").read()
    same(modes, {"0" if sanitized else "2"}, "the workers' filter")
    if sanitized:
        e2e.diag("a build with sanitizers has no filter")


def echo(sock, origin):
    """Bytes that are no HTTP."""
    while data := sock.recv(65536):
        sock.sendall(data)


def each_backend(test):
    def both(w):
        for io in ("uring", "epoll"):
            test(w, io)
    both.__doc__, both.__name__ = test.__doc__, test.__name__
    return both


def proxy_for(w, io, *words, **options):
    return w.proxy("--set", "seccomp=kill", *words, io=io, **options)


def finish(proxy):
    workers(proxy)
    same(proxy.stop(), 0, "the exit status")


@each_backend
def test_http(w, io):
    """HTTP/1 and HTTP/2 in TLS, IPv4 and IPv6, bodies that go to the file, one that is cut, resumption, idle minutes"""
    origin = w.origin()
    proxy = proxy_for(w, io, "--set", "body_memory_max=4k", "--set", "body_capture_max=1m", intercept="comm:curl")
    for words in ((), ("--http1.1",), ("--tls-max", "1.2"), ("-H", "Expect: 100-continue", "-d", "x" * 5000)):
        contains(w.curl(*words, origin.url("/one")).well(), "rec" if words[:1] == ("-H",) else "the origin's answer to")
    contains(w.curl(origin.url("/six", host=origin.host6)).well(), "the origin's answer to /six")
    done = w.curl("-o", "/dev/null", "-w", "%{size_download}", origin.url("/bytes/3000000"))
    same(done.well(), str(3000000 // 1024 * 1024), "the size")
    proxy.flow("/bytes/3000000")
    refused = w.curl(origin.url("/refused"), ca=w.certificates.ca)
    check(refused.status != 0, "it trusts whom it should not")
    finish(proxy)


@each_backend
def test_names(w, io):
    """an explicit proxy: names through the resolver's thread, also those that are not there"""
    origin = w.origin(where="loopback")
    nobody = os.path.join(w.tmp, "resolv.conf")
    with open(nobody, "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", nobody, "/etc/resolv.conf"], check=True)
    w.stack.callback(subprocess.run, ["umount", "/etc/resolv.conf"], check=True)
    proxy = proxy_for(w, io, "-m", "regular@127.0.0.1:0", "-m", "socks5@127.0.0.2:0")
    http, socks = re.findall(r"listening at \S*:(\d+)", proxy.log())
    for _ in range(5):
        done = w.curl("--proxy", f"http://127.0.0.1:{http}", origin.url("/name", "localhost"), inside=False)
        contains(done.well(), "the origin's answer to /name")
    done = w.curl("--proxy", f"socks5h://127.0.0.2:{socks}", origin.url("/name", "localhost"), inside=False)
    contains(done.well(), "the origin's answer to /name")
    done = w.curl("--proxy", f"http://127.0.0.1:{http}", "http://nowhere.invalid/", inside=False)
    contains(done.well(), "502")
    finish(proxy)


@each_backend
def test_tcp(w, io):
    """TCP that is no HTTP, half-closed, reset; and one that goes on while the program is changed and stopped"""
    origin = w.origin(tls=None, behave=echo)
    proxy = proxy_for(w, io, intercept=str(os.getpid()))
    w.enter()
    for reset in (False, True):
        with e2e.socket.create_connection((ORIGIN4, origin.port), 5) as s:
            s.sendall(b"hello" * 20000)
            got = b""
            while len(got) < 100000:
                got += s.recv(65536)
            if reset:
                e2e.reset(s)
            else:
                s.shutdown(e2e.socket.SHUT_WR)
                same(s.recv(1), b"", "what comes after the end")
    s = e2e.socket.create_connection((ORIGIN4, origin.port), 5)
    s.sendall(b"x")
    same(s.recv(1), b"x")
    for modes in (f"local:{os.getpid()}", f"local:nobody,{os.getpid()}"):
        w.run(e2e.MITM_BPF, "set", "mode=" + modes, "mode+=regular@127.0.0.1:0", inside=False).well()
    s.sendall(b"y")
    same(s.recv(1), b"y")
    s.close()
    finish(proxy)


@each_backend
def test_many(w, io):
    """300 at a time: heaps grow and shrink, listeners and timers are busy"""
    origin = w.origin(tls=None)
    proxy = proxy_for(w, io, "--set", "flow_detail=0", intercept=str(os.getpid()))
    w.enter()

    async def one(i):
        reader, writer = await asyncio.open_connection(ORIGIN4, origin.port)
        writer.write(f"GET /bytes/{20480 * (i % 5 + 1)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        data = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()
        return data.startswith(b"HTTP/1.1 200") and len(data) > 20480 * (i % 5 + 1)

    async def crowd():
        return await asyncio.gather(*(one(i) for i in range(300)))
    for _ in range(3):
        check(all(asyncio.run(crowd())), "somebody got something else")
    finish(proxy)


def run_under_kill(module, name):
    def test(w):
        before = os.environ.get("MITM_SET")
        os.environ["MITM_SET"] = "seccomp=kill"
        try:
            getattr(module, name)(w)
        finally:
            os.environ.pop("MITM_SET")
            if before is not None:
                os.environ["MITM_SET"] = before
        workers_of = w.proxies[-1]
        check(workers_of.process.poll() in (None, 0, -15), f"mitm-bpf ended with {workers_of.process.poll()}")
    test.__doc__ = f"{module.__name__}: " + getattr(module, name).__doc__.strip().splitlines()[0]
    return test


for number, (of, what) in enumerate([(m, n) for m in (http2_test, websocket_test)
                                     for n in sorted(vars(m)) if n.startswith("test_")]):
    globals()[f"test_of_others_{number}"] = run_under_kill(of, what)


if __name__ == "__main__":
    e2e.main(globals())
