#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What `mitm-bpf set` changes in one that runs: modes that come and go, who is intercepted; and what it refuses."""
import socket
import time

import e2e
from e2e import MITM_BPF, check, contains, same


def ask(w, proxy, *words):
    return w.run(MITM_BPF, words[0], "--pid", str(proxy.pid), *words[1:], inside=False)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def served(w, port, origin, path, kind="--proxy"):
    return w.curl(kind, f"127.0.0.1:{port}", origin.url(path)).well()


def test_modes_come_and_go(w):
    """a mode is added, one removed, one replaced on its port; what was open goes on"""
    origin = w.origin(tls=None)
    for io in ("epoll", "uring"):
        port, socks = free_port(), free_port()
        proxy = w.proxy("-m", f"regular@127.0.0.1:{port}", io=io)
        same(ask(w, proxy, "set", f"mode+=socks5@127.0.0.1:{socks}").well(), "")
        contains(served(w, port, origin, f"/a?{io}"), "the origin's answer")
        contains(served(w, socks, origin, f"/b?{io}", "--socks5"), "the origin's answer")
        with socket.create_connection(("127.0.0.1", port), 5) as kept:
            head = f"GET {origin.url('/c')} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            kept.sendall(head)
            contains(kept.recv(4096).decode(), "200 OK")
            same(ask(w, proxy, "set", f"mode-=regular@127.0.0.1:{port}").well(), "")
            same(w.curl("--proxy", f"127.0.0.1:{port}", origin.url("/d")).status, 7, "curl's status, nobody listens")
            kept.sendall(head)
            contains(kept.recv(4096).decode(), "200 OK", "what an open connection gets after its mode was removed")
        same(ask(w, proxy, "set", f"mode=reverse:{origin.url('')}@127.0.0.1:{port}").well(), "")
        contains(w.curl(f"http://127.0.0.1:{port}/e?{io}").well(), "the origin's answer")
        same(w.curl("--socks5", f"127.0.0.1:{socks}", origin.url("/f")).status, 7, "curl's status, no SOCKS any more")
        same(ask(w, proxy, "set", "server=false").well(), "")
        same(w.curl(f"http://127.0.0.1:{port}/g").status, 7, "curl's status, no server")
        same(ask(w, proxy, "set", "server=true").well(), "")
        contains(w.curl(f"http://127.0.0.1:{port}/h?{io}").well(), "the origin's answer")


def test_who_is_intercepted(w):
    """a spec that changes counts for the next connection, and not for those that are open"""
    origin = w.origin()
    proxy = w.proxy(intercept="nobody-has-this-name")
    contains(w.curl(origin.url("/direct"), ca=w.certificates.ca).well(), "the origin's answer")
    same(ask(w, proxy, "set", "mode=local:curl").well(), "")
    contains(w.curl(origin.url("/taken")).well(), "the origin's answer")
    same(proxy.flow("/taken")["client_conn"]["proxy_mode"], "local:curl", "the mode in the flow")
    same(ask(w, proxy, "set", "mode=local:wget,!curl").well(), "")
    contains(w.curl(origin.url("/direct"), ca=w.certificates.ca).well(), "the origin's answer")
    same(ask(w, proxy, "set", "server=false").well(), "")
    same(ask(w, proxy, "set", "server=true", "mode=local:curl").well(), "")
    contains(w.curl(origin.url("/again")).well(), "the origin's answer")
    same([f["request"]["path"] for f in proxy.flows(2)], [b"/taken", b"/again"], "what was seen")


def test_nobody_is_broken_by_a_change(w):
    """a client that connects all the time, while specs and modes change under it, sees no failure"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    both = w.certificates.path("both.pem")
    with open(both, "w", encoding="ascii") as out:
        for ca in (w.ca, w.certificates.ca):
            with open(ca, encoding="ascii") as part:
                out.write(part.read())
    client = w.start("sh", "-c", f"i=0; while [ $i -lt 60 ]; do curl -sS -o /dev/null --cacert {both} "
                     f"{origin.url('/many')} || exit 1; i=$((i + 1)); done")
    for i in range(12):
        ask(w, proxy, "set", "mode=local:" + ("curl", "wget", "curl,wget")[i % 3]).well()
        time.sleep(0.05)
    out, err = client.communicate(timeout=60)
    same((client.returncode, err), (0, b""), "how the client ended")
    check(proxy.flows(), "nothing was seen at all")


def test_refusals(w):
    """what cannot be is said, and nothing changes"""
    proxy = w.proxy("-m", "regular@127.0.0.1:0")
    for words, text in (
        (("mode+=nonsense",), "unknown mode"),
        (("mode=local:curl",), "Local mode cannot be added"),
        (("flow_detail=2",), "cannot be changed while"),
        (("nosuch=1",), "Unknown option"),
        (("mode-=socks5",), "does not hold"),
        (("server+=1",), "+= and -= are for sequences"),
        ((), "expected NAME=VALUE"),
    ):
        done = ask(w, proxy, "set", *words)
        check(done.status != 0, f"{words} was done")
        contains(done.err, text)
    same(ask(w, proxy, "get", "mode", "server").well(), "mode: regular@127.0.0.1:0\nserver: true\n")
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = f"socks5@127.0.0.1:{other.getsockname()[1]}"
        done = ask(w, proxy, "set", "mode+=" + busy)
        same(done.status, 1, "the status of a port in use")
        contains(done.err, "SOCKS v5 proxy failed to listen on")
        contains(ask(w, proxy, "get", "mode").well(), busy)
    done = w.run(MITM_BPF, "get", "--pid", "1", inside=False)
    contains(done.err, "No mitm-bpf with the process id 1 can be reached")
    done = w.run("setpriv", "--reuid=65534", "--clear-groups", MITM_BPF, "get", "--pid", str(proxy.pid), inside=False)
    check(done.status != 0 and not done.out, "somebody else was served")


if __name__ == "__main__":
    e2e.main(globals())
