#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Servers and clients that misbehave: what the other side sees, what the flow says, and that nobody else suffers."""
import fcntl
import functools
import html
import itertools
import os
import re
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import termios
import time

import e2e
from e2e import ORIGIN4, Skipped, check, contains, same, wait_for

PYTHON = "/usr/bin/python3"


# ---- origins

def after_head(then):
    """An origin that reads a request's head, then does `then`(socket)."""
    def behave(sock, origin):
        stream = sock.makefile("rb")
        head = e2e.read_head(stream)
        if head:
            origin.requests.append(head[0])
            if head[0][1].startswith("/good"):
                e2e.answer(sock, b"good\n")
                sock.close()
            else:
                then(sock)
    return behave


def send(text, end="close"):
    def then(sock):
        sock.sendall(text)
        if end == "reset":
            time.sleep(0.1)         # what was sent is delivered before the RST drops what was not
            e2e.reset(sock)
        elif end == "half":
            socket.socket.shutdown(sock, socket.SHUT_WR)
            sock.settimeout(3)
            sock.recv(1)
        elif end == "cut":          # FIN without TLS's goodbye
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
    return then


HEAD = b"HTTP/1.1 200 OK\r\n"


def fetch(w, origin, path, host=None):
    """curl's (exit status, HTTP status, body)."""
    done = w.curl("--http1.1", "--write-out", "\n%{http_code}", origin.url(path, host))
    body, _, code = done.out.rpartition("\n")
    return done.status, int(code), body


numbers = itertools.count()


def each_kind(w, then, question):
    """question(origin, path) for an origin in clear and one with TLS; each answers well once more afterwards."""
    for tls in (None, "good"):
        origin = w.origin(tls=tls, behave=after_head(then))
        question(origin, f"/bad?{next(numbers)}")
        same(fetch(w, origin, f"/good?{tls}"), (0, 200, "good\n"), "the next answer")
        origin.close()


def test_refusing(w):
    """an origin that refuses: the client's connection ends, the flow says why; an explicit proxy's client is told"""
    origin = w.origin()
    w.proxy("--mode", "regular", "-p", "0", "--set", "flow_detail=4", intercept="curl")
    proxy = w.proxies[-1]
    origin.close()
    done = w.curl(origin.url("/refused"))
    check(done.status in (7, 35, 52, 56), f"curl's exit status: {done.status}")
    flow = proxy.flows(1)[0]
    contains(flow["error"]["msg"], "refused", "the flow's error")
    same(flow["server_conn"]["address"][:2], [ORIGIN4, origin.port], "the server's address")
    for url in (origin.url("/refused"), f"http://{ORIGIN4}:{origin.port}/refused"):
        done = w.curl("--proxy", f"http://127.0.0.1:{proxy.listen_port()}", "--write-out",
                      "%{http_code} %{http_connect}", url, inside=False)
        contains(done.out, "502", "what curl was told")
    contains(done.out, "refused", "the page")


def test_reset_before(w):
    """an origin that resets before its response: a 502 or a failed connection, never an empty success"""
    proxy = w.proxy(intercept="curl")

    def question(origin, path):
        status, code, _ = fetch(w, origin, path)
        check(code == 502 or status in (52, 56), f"curl's exit status {status}, HTTP status {code}")
        check(proxy.flow(path)["error"], "the flow has no error")
    each_kind(w, e2e.reset, question)


def test_reset_within(w):
    """an origin that resets within its response: the client sees a cut, the flow has an error and what came"""
    proxy = w.proxy(intercept="curl")

    def question(origin, path):
        status, code, body = fetch(w, origin, path)
        same((code, body), (200, "half of it"), "what came")
        check(status in (18, 56), f"curl's exit status: {status}")
        flow = proxy.flow(path)
        check(flow["error"], "the flow has no error")
        same(flow["response"]["status_code"], 200, "the flow's status")
    each_kind(w, send(HEAD + b"Content-Length: 1000\r\n\r\nhalf of it", "reset"), question)


def test_cut_within(w):
    """an origin that ends its response too early, with a length or chunked: a cut for the client, too"""
    proxy = w.proxy(intercept="curl")

    def question(origin, path):
        status, code, body = fetch(w, origin, path)
        same((code, body), (200, "half of it"), "what came")
        check(status in (18, 56), f"curl's exit status: {status}")
        check(proxy.flow(path)["error"], "the flow has no error")
    each_kind(w, send(HEAD + b"Content-Length: 1000\r\n\r\nhalf of it"), question)
    each_kind(w, send(HEAD + b"Transfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n"), question)


def test_half_closing(w):
    """an origin that half-closes after its response, with a length or without: the response is whole"""
    proxy = w.proxy(intercept="curl")

    def question(origin, path):
        same(fetch(w, origin, path), (0, 200, "all of it"), "what came")
        flow = proxy.flow(path)
        same((flow["response"]["content"], flow["error"]), (b"all of it", None), "the flow's body and error")
    each_kind(w, send(HEAD + b"Content-Length: 9\r\n\r\nall of it", "half"), question)
    each_kind(w, send(HEAD + b"\r\nall of it"), question)


def test_truncated(w):
    """a body that ends with the connection, cut under TLS without its goodbye: not a clean end for the client"""
    origin = w.origin(behave=after_head(send(HEAD + b"\r\nall of it?", "cut")))
    proxy = w.proxy(intercept="curl")
    status, _, body = fetch(w, origin, "/cut")
    same(body, "all of it?", "what came")
    same(w.curl(origin.url("/cut"), ca=w.certificates.ca, inside=False).status, status, "curl's status without us")
    check(proxy.flow("/cut"), "no flow")


def test_garbage(w):
    """an origin that speaks something else: a readable 502 with the reason"""
    proxy = w.proxy(intercept="curl")

    def question(origin, path):
        status, code, body = fetch(w, origin, path)
        same((status, code), (0, 502), "curl's exit status and HTTP status")
        error = proxy.flow(path)["error"]["msg"]
        contains(html.unescape(body), error, "the page")
    for text in (b"\x00\x01\x02\x03garbage\r\n\r\n" * 20, b"220 mail.example ESMTP\r\n",
                 b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"):
        each_kind(w, send(text), question)


def test_slow(w):
    """a slow origin delays its own client only; its bytes pass as they come"""
    origin = w.origin()
    w.proxy("--workers", "1", intercept="curl")
    slow = w.start("curl", "--disable", "-sSN", "--cacert", w.ca, origin.url("/slow/5/1"))
    first = os.read(slow.stdout.fileno(), 100)
    began = time.monotonic()
    same(first, b"0123456789", "the first piece")
    contains(w.curl(origin.url("/meanwhile")).well(), "the origin's answer to /meanwhile")
    check(slow.poll() is None, "another client had to wait")
    out, _ = slow.communicate(timeout=20)
    check(time.monotonic() - began > 3, "the pieces did not come one by one")
    same(out, b"0123456789" * 4, "the rest")


def test_no_tls_upstream(w):
    """an origin that closes, resets or speaks plain text in the TLS handshake: a readable 502 under our certificate"""
    proxy = w.proxy(intercept="curl")
    for name, behave in (("close", lambda sock, origin: sock.recv(1)), ("reset", lambda sock, origin: e2e.reset(sock)),
                         ("plain", lambda sock, origin: sock.recv(1) and sock.sendall(b"HTTP/1.1 400 No\r\n\r\n")),
                         ("silent", lambda sock, origin: (sock.settimeout(1), sock.recv(9000), time.sleep(0.1)))):
        origin = w.origin(tls=None, behave=behave)
        done = w.curl("--write-out", "%{http_code}", f"https://{ORIGIN4}:{origin.port}/{name}")
        if name == "reset" and done.status == 35:       # it was gone before there was a handshake
            continue
        same(done.status, 0, f"{name}: curl's exit status ({done.err})")
        contains(done.out, "502", "the page")
        check(proxy.flow("/" + name)["error"], "the flow has no error")


def test_bad_certificates(w):
    """untrusted, expired, for another host: a readable 502 with the reason; -k accepts them"""
    origins = {kind: w.origin(tls=kind, where="loopback") for kind in ("untrusted", "expired", "wrong-host")}
    reasons = {"untrusted": "issuer", "expired": "expired", "wrong-host": "mismatch"}
    proxy = w.proxy(intercept="curl")
    for kind, origin in origins.items():
        status, code, body = fetch(w, origin, f"/{kind}", "localhost")
        same((status, code), (0, 502), "curl's exit status and HTTP status")
        contains(body, "ertificate verify failed", "the page")
        contains(body.lower(), reasons[kind], "the page")
        contains(proxy.flow("/" + kind)["error"]["msg"].lower(), reasons[kind], "the flow's error")
        same(origin.requests, [], "what the origin was asked")
    proxy.stop()
    proxy = w.proxy("-k", intercept="curl")
    for kind, origin in origins.items():
        same(fetch(w, origin, f"/{kind}", "localhost"), (0, 200, f"the origin's answer to /{kind}\n"), kind)
        same(proxy.flow("/" + kind)["error"], None, "the flow's error")


# ---- what is neither TLS nor HTTP

def test_not_tls_on_443(w):
    """on port 443 something that is no TLS, server first or client first: relayed as it is, a TCP flow"""
    def banner(sock, _):
        sock.sendall(b"SSH-2.0-test\r\n")
        while data := sock.recv(100):
            sock.sendall(b"you said " + data)
    origin = w.origin(tls=None, behave=banner, port=443)
    proxy = w.proxy(intercept=str(os.getpid()))
    w.enter()
    with socket.create_connection((origin.host4, 443), 5) as s:
        same(s.recv(100), b"SSH-2.0-test\r\n", "the banner")
        s.sendall(b"\x00\x01binary")
        same(s.recv(100), b"you said \x00\x01binary", "the answer")
        s.shutdown(socket.SHUT_WR)
        same(s.recv(100), b"", "the end")
    flow, = proxy.flows(1)
    same(flow["type"], "tcp", "the flow's type")
    same([m[:2] for m in flow["messages"]], [[False, b"SSH-2.0-test\r\n"], [True, b"\x00\x01binary"],
                                             [False, b"you said \x00\x01binary"]], "the flow's messages")
    same(flow["metadata"]["mitm_bpf.pid"], os.getpid(), "the flow's pid")


def test_half_closing_client(w):
    """a client that half-closes: its TCP relay goes on; its HTTP request is given up, which the flow says"""
    def echo(sock, _):
        text = sock.makefile("rb").read()
        time.sleep(0.2)
        sock.sendall(b"all of: " + text)

    def patient(sock, _):
        while sock.recv(1000):
            pass
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    origins = (w.origin(tls=None, behave=echo), w.origin(tls=None, behave=patient))
    proxy = w.proxy(intercept=str(os.getpid()))
    w.enter()
    answers = []
    for origin, text in zip(origins, (b"\x00\x01question", b"GET /given/up HTTP/1.1\r\nHost: x\r\n\r\n")):
        with socket.create_connection((origin.host4, origin.port), 5) as s:
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
            answers.append(s.makefile("rb").read())
    same(answers, [b"all of: \x00\x01question", b""], "the answers")
    contains(proxy.flow("/given/up")["error"]["msg"], "Client disconnected", "the flow's error")


# ---- clients that are slow

WHOLE = 400000


def last_words(sock, _):
    """What leaves this machine, then RST."""
    begin = sock.recv(65536)
    sock.sendall((HEAD + b"\r\n" if begin.startswith(b"GET") else b"") + b"x" * WHOLE)
    wait_for(30, "all is taken by the other side",
             lambda: struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0] == 0)
    e2e.reset(sock)


def slow_read(to, question):
    """What a client gets whose own buffer is small, and who reads when it all is over: bytes, and the end."""
    got = 0
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.settimeout(30)
        s.connect(to)
        s.sendall(question)
        time.sleep(1)
        try:
            while part := s.recv(65536):
                got += len(part.partition(b"\r\n\r\n")[2] if part.startswith(b"HTTP/1.1 ") else part)
        except ConnectionResetError:
            return got, "reset"
    return got, "end"


def test_last_words(w):
    """an origin that resets when all it sent is taken: a client that reads late gets all, then the reset, relayed as
    TCP, passed through, or as HTTP"""
    for options, question in (((), b"\x00\x01binary"), (("--ignore-hosts", "."), b"\x00\x01binary"),
                              ((), b"GET /last-words HTTP/1.1\r\nHost: x\r\n\r\n")):
        origin = w.origin(tls=None, behave=last_words)
        for engine in ("uring", "epoll"):
            proxy = w.proxy("--io", engine, *options, intercept=str(os.getpid()))
            w.enter()
            same(slow_read((origin.host4, origin.port), question), (WHOLE, "reset"),
                 f"what came with {options}, {engine}")
            same(proxy.stop(), 0, "the exit status")


# ---- clients that vanish

@functools.cache
def hello():
    """The bytes of a ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="origin.test")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def vanish(w, origin, point, how):
    """A connection to the origin that ends at this point, by FIN or RST."""
    s = socket.create_connection((origin.host4, origin.port), 5)
    if point.startswith("tls"):
        context = ssl.create_default_context(cafile=w.ca)
        s = context.wrap_socket(s, server_hostname="origin.test")
    s.sendall({"connected": b"", "hello-1": hello()[:1], "hello-half": hello()[:100], "hello": hello(), "tls": b"",
               "head": b"GET /vanish HTTP/1.1\r\nHo",
               "body": b"POST /vanish HTTP/1.1\r\nContent-Length: 99\r\n\r\nhalf",
               "response": b"GET /bytes/4194304 HTTP/1.1\r\nHost: x\r\n\r\n",
               "waiting": b"GET /slow/1/1 HTTP/1.1\r\nHost: x\r\n\r\n"}[point.split(" ")[-1]])
    if point.endswith("response"):
        same(s.recv(15), b"HTTP/1.1 200 OK", "the response's beginning")
    else:
        time.sleep(0.02)
    if how == "reset":
        e2e.reset(s)
    else:
        socket.socket.close(s)


POINTS = {None: ("connected", "head", "body", "waiting", "response"),
          "good": ("connected", "hello-1", "hello-half", "hello", "tls", "tls head", "tls body", "tls waiting",
                   "tls response")}


def test_vanishing(w):
    """clients that vanish at every point, by FIN and by RST: everything is given back, others go on"""
    for io in ("epoll", "uring"):
        origins = {tls: w.origin(tls=tls) for tls in POINTS}
        proxy = w.proxy(intercept=f"{os.getpid()},curl", io=io)
        w.enter()
        before = proxy.descriptors()
        for tls, points in POINTS.items():
            for point in points:
                for how in ("close", "reset"):
                    vanish(w, origins[tls], point, how)
        for tls, origin in origins.items():
            contains(w.curl(origin.url("/alive")).well(), "the origin's answer to /alive")
        wait_for(5, f"{io}: descriptors go back to {before}, they are {proxy.descriptors()}",
                 lambda: proxy.descriptors() <= before + 2)
        same(proxy.stop(), 0, "the exit status")
        check(len(proxy.flows()) > 8, "flows of what was asked")
        check("error:" not in proxy.log(), "an error in the log")


# ---- TLS

def test_key_log(w):
    """SSLKEYLOGFILE: lines of both sides, in a file for the owner alone"""
    origin = w.origin()
    keys, ours = os.path.join(w.tmp, "keys"), os.path.join(w.tmp, "curl-keys")
    w.proxy(intercept="curl", env={"SSLKEYLOGFILE": keys})
    w.curl(origin.url("/keys"), env=e2e.plain_environment(SSLKEYLOGFILE=ours)).well()
    with open(keys, encoding="ascii") as f:
        lines = f.read().splitlines()
    for line in lines:
        check(re.fullmatch(r"[A-Z_0-9]+ [0-9a-f]{64} [0-9a-f]{64,96}", line), f"not a line of a key log: {line}")
    same(len({line.split()[1] for line in lines}), 2, "the number of connections in it")
    with open(ours, encoding="ascii") as f:
        for line in f.read().splitlines():
            check(line.startswith("#") or line in lines, f"curl's own key is not in it: {line}")
    same(stat.S_IMODE(os.stat(keys).st_mode), 0o600, "its mode")


def s_client(w, origin, version, *words):
    done = w.run("openssl", "s_client", version, "-CAfile", w.ca, "-servername", "origin.test", "-ign_eof", "-connect",
                 f"{origin.host4}:{origin.port}", *words,
                 stdin=b"GET /session HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n")
    contains(done.out, "the origin's answer to /session")
    return done.out


def test_resumption(w):
    """sessions are resumed on both sides, TLS 1.2 and 1.3; also between two workers"""
    reused = []

    def behave(sock, origin):
        reused.append(sock.session_reused)
        e2e.http(sock, origin)
    proxy = w.proxy(intercept="openssl")
    for version, limit in (("-tls1_2", ssl.TLSVersion.TLSv1_2), ("-tls1_3", ssl.TLSVersion.TLSv1_3)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*w.certificates.leaf("good"))
        context.maximum_version = limit
        origin = w.origin(context=context, behave=behave)
        session = os.path.join(w.tmp, "session")
        contains(s_client(w, origin, version, "-sess_out", session), "\nNew, TLS", "what s_client said")
        for _ in range(6):
            contains(s_client(w, origin, version, "-sess_in", session), "\nReused, TLS", "what s_client said")
        check(not reused[0] and sum(reused) >= 3, f"{version}: the origin saw {reused}")
        reused.clear()
    same([f["error"] for f in proxy.flows(14)], [None] * 14, "the flows' errors")


# ---- much of it

def test_memory(w):
    """2,000 failing connections leave less than 8 MiB behind"""
    with open(e2e.MITM_BPF, "rb") as f:
        if b"__asan_" in (code := f.read()) or b"__tsan_" in code:
            raise Skipped("a sanitizer keeps memory that was freed")
    bad = w.origin(tls=None, behave=lambda sock, origin: e2e.reset(sock))
    good = w.origin()
    closed = w.origin()
    closed.close()
    proxy = w.proxy("--set", "flow_memory_max=1m", "--set", "flow_detail=0", intercept=str(os.getpid()))
    w.enter()

    def fail(i):
        origin = (bad, good, closed)[i % 3]
        try:
            with socket.create_connection((origin.host4, origin.port), 5) as s:
                if i % 3 == 0:
                    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    s.recv(1000)
                elif i % 2:
                    s.sendall(hello()[:150])
                else:
                    s.sendall(hello())
                    s.recv(1)
                    e2e.reset(s)
        except OSError:
            pass
    for i in range(300):
        fail(i)
    descriptors = proxy.descriptors()
    before = proxy.status("VmRSS")
    for i in range(2000):
        fail(i)
    wait_for(3, "descriptors are given back", lambda: proxy.descriptors() <= descriptors + 4)
    grown = proxy.status("VmRSS") - before
    check(grown < 8192, f"it grew by {grown} KiB, from {before}")
    with socket.create_connection((good.host4, good.port), 5) as raw:
        with ssl.create_default_context(cafile=w.ca).wrap_socket(raw, server_hostname="origin.test") as s:
            s.sendall(b"GET /still HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            contains(s.makefile("rb").read(), b"the origin's answer to /still")


# Holds COUNT idle connections until a line comes, then makes COUNT requests; prints what became of them.
CROWD = """
import asyncio, resource, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, count + 100))
open_ones = []
async def hold():
    try:
        open_ones.append(await asyncio.open_connection(host, port))
    except OSError as e:
        print("cannot connect", e, file=sys.stderr)
async def ask(i, gate):
    async with gate:
        r, w = await asyncio.wait_for(asyncio.open_connection(host, port), 20)
        w.write(b"GET /crowd?%d HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n" % i)
        text = await asyncio.wait_for(r.readuntil(b"/crowd?%d\\n" % i), 20)
        w.close()
        return text.endswith(b"/crowd?%d\\n" % i)
async def run():
    loop = asyncio.get_running_loop()
    holders = [asyncio.ensure_future(hold()) for _ in range(count)]
    for _ in range(30):
        await asyncio.sleep(0.2)
        if len(open_ones) > 4000:
            break
    print("held", len(open_ones), flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    for holder in holders:
        holder.cancel()
    for _, w in open_ones:
        w.transport.abort()
    print("gone", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    gate = asyncio.Semaphore(1500)
    answers = await asyncio.gather(*(ask(i, gate) for i in range(count)), return_exceptions=True)
    print("right", sum(a is True for a in answers), next((repr(a) for a in answers if a is not True), ""), flush=True)
asyncio.run(run())
"""


def test_descriptors(w):
    """10,000 connections at a limit of 1,024 descriptors: accepting pauses, says so, and recovers; others go on"""
    if not shutil.which("prlimit"):
        raise Skipped("needs prlimit")
    count = 10000
    origin = w.origin(tls=None)
    proxy = w.proxy("--set", "flow_detail=0", "--set", "termlog_verbosity=warn", intercept=str(os.getpid()),
                    prefix=("prlimit", "--nofile=1024:1024"), wait=False)
    w.enter()
    friend = taken_connection(proxy, origin)
    crowd = w.start(PYTHON, "-c", CROWD, origin.host4, origin.port, count, stdin=subprocess.PIPE)
    line = crowd.stdout.readline()
    check(line.startswith(b"held") and int(line.split()[1]) > 1024, f"the crowd said {line}")
    check(proxy.descriptors() >= 800, f"only {proxy.descriptors()} descriptors are in use")
    proxy.said("cannot accept connections (as many are open as the limit of open files allows)")
    proxy.said("ulimit -n")
    for _ in range(20):
        ask_again(friend)
    crowd.stdin.write(b"\n")
    crowd.stdin.flush()
    crowd.stdout.readline()
    wait_for(15, "descriptors are given back", lambda: proxy.descriptors() < 100)
    ask_again(friend)
    crowd.stdin.write(b"\n")
    crowd.stdin.flush()
    line = crowd.stdout.readline().decode().strip()
    same(line, f"right {count}", "what the crowd got")
    ask_again(friend)
    said = proxy.log().count("cannot accept connections")
    check(said < 4, f"it was said {said} times")
    same(proxy.stop(), 0, "the exit status")


def taken_connection(proxy, origin):
    """A connection of ours that goes through the proxy, once that is up."""
    def connect():
        check(proxy.process.poll() is None, proxy.log())
        s = socket.create_connection((origin.host4, origin.port), 5)
        s.sendall(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n")
        text = s.recv(1000)
        if int(text.split()[-1]) != s.getsockname()[1]:
            return s
        s.close()
        return None
    return wait_for(5, "our connections are taken", connect)


def ask_again(s):
    """Answered while the others wait: these go on only when they are told to."""
    s.settimeout(10)
    s.sendall(b"GET /friend HTTP/1.1\r\nHost: x\r\n\r\n")
    contains(s.recv(1000), b"the origin's answer to /friend", "the answer on an old connection")


if __name__ == "__main__":
    e2e.main(globals())
