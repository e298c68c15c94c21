#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Destinations that have a route, but where nobody answers: programs that would have used the next address of a name
without us do so with us, although their connect() succeeded."""
import os
import socket
import subprocess

import e2e
import forward_test
from e2e import CLIENT4, ORIGIN4, ORIGIN6, Skipped, check, contains, netlink, same
from netns_test import Container, everybody, in_namespace

NAME = "origin.test"                    # in the origins' certificate
SILENT6, SILENT4 = "fd77:dead::1", "203.0.113.1"
PYTHON = "/usr/bin/python3"

IN_ORDER = """
import http.client, ssl, sys
name, port, ca, *paths = sys.argv[1:]
if ca:
    c = http.client.HTTPSConnection(name, int(port), timeout=4, context=ssl.create_default_context(cafile=ca))
else:
    c = http.client.HTTPConnection(name, int(port), timeout=4)
for path in paths:
    if not c.sock:
        c.connect()
    c.sock.settimeout(20)
    c.request("GET", path)
    print(c.getresponse().read().decode(), end="")
"""


class Origin4(e2e.Origin):
    """Listens on IPv4 alone: over IPv6 it refuses."""

    def listen(self, ns, port):
        def make():
            sock = socket.socket()
            sock.bind(("0.0.0.0", port))
            sock.listen(64)
            return sock
        return in_namespace(ns, make)


def origin4(w, tls):
    origin = Origin4(w, tls, "namespace", None)
    w.stack.callback(origin.close)
    return origin


def set_world(w, *addresses):
    """The name has these addresses, for all in this mount namespace; nobody answers at the silent ones."""
    if not os.path.exists("/etc/hosts"):
        raise Skipped("no /etc/hosts to put something over")
    path = os.path.join(w.tmp, "hosts")
    with open(path, "w", encoding="ascii") as f:
        f.write("127.0.0.1 localhost\n" + "".join(f"{address} {NAME}\n" for address in addresses))
    subprocess.run(["mount", "--bind", path, "/etc/hosts"], check=True)
    w.stack.callback(subprocess.run, ["umount", "/etc/hosts"], check=True)
    for family, net in (("-6", "fd77:dead::/64"), ("-4", "203.0.113.0/24")):
        netlink(family, "route", "add", "blackhole", net, netns=w.origin_ns)
        w.stack.callback(netlink, family, "route", "del", "blackhole", net, netns=w.origin_ns)


def programs(w, origin, ca):
    """Command lines by what they do about addresses, each with a path of its own."""
    ca = ca if origin.context else ""
    return {"/curl": ["curl", "--disable", "-sS", "--max-time", "15", *(["--cacert", ca] if ca else []),
                      origin.url("/curl", NAME)],
            "/wget": ["wget", "--no-config", "-qO-", "--tries=1", "--connect-timeout=4", "--read-timeout=20",
                      *(["--ca-certificate=" + ca] if ca else []), origin.url("/wget", NAME)],
            "/python": [PYTHON, "-c", IN_ORDER, NAME, str(origin.port), ca, "/python", "/python/again"]}


def check_programs(w, origin, dead, alive, **how):
    """They get their answers without us, and with us, and the flow says where from."""
    for words in programs(w, origin, w.certificates.ca).values():
        contains(w.run(*words, timeout=40).well(), "the origin's answer to", "without us")
    proxy = w.proxy(intercept=everybody(w), loopback=False, **how)
    for path, words in programs(w, origin, w.ca).items():
        contains(w.run(*words, timeout=40).well(), f"the origin's answer to {path}")
        flow = proxy.flow(path)
        same(flow["server_conn"]["address"][:2], [dead, origin.port], f"the destination of {path}")
        same(flow["server_conn"]["peername"][:2], [alive, origin.port], f"the peer of {path}")
        same(flow["client_conn"]["sockname"][:2], [dead, origin.port], f"what {path}'s client is connected to")
        same(flow["response"]["status_code"], 200, f"the status of {path}")
    again = proxy.flow("/python/again")
    same(again["server_conn"]["peername"][:2], [alive, origin.port], "the peer of the second request")
    contains(proxy.log(), f"[{dead}]:{origin.port} does not answer: connected to {alive}:{origin.port}, another "
             f"address of {NAME}")
    same(proxy.stop(), 0, "the exit status")


def test_silent6(w):
    """IPv6 leads into a black hole: HTTP and HTTPS of curl, wget and Python over IPv4, on both back ends"""
    set_world(w, SILENT6, ORIGIN4)
    for tls, io in ((None, "uring"), ("good", "epoll")):
        check_programs(w, w.origin(tls=tls), SILENT6, ORIGIN4, io=io)


def test_refused6(w):
    """over IPv6 the port is closed: the same"""
    set_world(w, ORIGIN6, ORIGIN4)
    for tls, io in ((None, "epoll"), ("good", "uring")):
        check_programs(w, origin4(w, tls), ORIGIN6, ORIGIN4, io=io)


def test_silent4(w):
    """IPv4 leads into a black hole, for a program that uses nothing else: over IPv6"""
    set_world(w, SILENT4, ORIGIN6)
    origin = w.origin()
    proxy = w.proxy(intercept=everybody(w), loopback=False)
    contains(w.curl("--ipv4", origin.url("/over-six", NAME)).well(), "the origin's answer to /over-six")
    same(proxy.flow("/over-six")["server_conn"]["peername"][:2], [ORIGIN6, origin.port], "the peer")


def test_all_silent(w):
    """nobody answers anywhere, or the name is another's: broken after the time-out, as before"""
    set_world(w, SILENT6, SILENT4)
    origin = w.origin(tls=None)
    proxy = w.proxy("--set", "connect_timeout=2", intercept=everybody(w), loopback=False)
    check(w.curl(origin.url("/nowhere", NAME)).status != 0, "an answer from nowhere")
    done = w.curl("-H", f"Host: {NAME}", f"http://[{SILENT6[:-1]}2]:{origin.port}/other")
    check(done.status != 0, "an answer from a host that the program had not named")
    same(origin.requests, [], "the origin's requests")
    flows = proxy.flows(2)
    check(all("timed out" in str(flow["error"]) for flow in flows), flows)


def test_ignored(w):
    """what is passed through finds its way, too"""
    set_world(w, SILENT6, ORIGIN4)
    origin = w.origin()
    proxy = w.proxy("--ignore-hosts", r"origin\.test", intercept=everybody(w), loopback=False)
    contains(w.curl(origin.url("/through", NAME), ca=w.certificates.ca).well(), "the origin's answer to /through")
    proxy.said("does not answer: connected to")
    same(proxy.stop(), 0, "the exit status")
    same(proxy.flows(), [], "flows")


def test_greeting(w):
    """a client that waits to be greeted by who refuses hears its end, and nobody else's greeting"""
    def greet(sock, _):
        sock.sendall(b"220 hello\r\n")
    set_world(w, ORIGIN6, ORIGIN4)
    origin = Origin4(w, None, "namespace", greet)
    w.stack.callback(origin.close)
    w.proxy(intercept=everybody(w), loopback=False)
    done = w.run(PYTHON, "-c", "import socket, sys\ns = socket.create_connection(sys.argv[1:])\n"
                 "try:\n    print(s.recv(100))\nexcept ConnectionResetError:\n    print('reset')", NAME,
                 str(origin.port))
    same(done.well(), "reset\n", "what it hears")
    same(origin.connections, 0, "the origin's connections")


def test_namespace(w):
    """from another network namespace: dialled from there"""
    set_world(w, SILENT6, ORIGIN4)
    origin = w.origin()
    proxy, c = w.proxy(intercept=everybody(w), loopback=False), Container(w)
    c.hold()
    body = c.curl(origin.url("/peer", NAME)).well()
    same(body.split()[0].replace("::ffff:", ""), c.v4, "where the origin is asked from")
    flow = proxy.flow("/peer")
    same(flow["server_conn"]["address"][:2], [SILENT6, origin.port], "the destination")
    same(flow["server_conn"]["peername"][:2], [ORIGIN4, origin.port], "the peer")


def test_forwarded(w):
    """of a client that is routed through this machine"""
    set_world(w, SILENT6, ORIGIN4)
    origin = w.origin()
    forward_test.set_forwarding(w)
    far = forward_test.Far(w)
    proxy = w.proxy("--interface", "fwA")
    body = far.curl(origin.url("/peer", NAME)).well()
    same(body.split()[0].replace("::ffff:", ""), CLIENT4, "where the origin is asked from")
    same(proxy.flow("/peer")["server_conn"]["peername"][:2], [ORIGIN4, origin.port], "the peer")


if __name__ == "__main__":
    e2e.main({name: value for name, value in globals().items() if getattr(value, "__module__", "") == "__main__"})
