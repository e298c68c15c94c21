#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Forwarded UDP (--interface): what is taken and what is not, where answers come from, what flows say."""
import json

import e2e
from e2e import CLIENT4, ORIGIN4, ORIGIN6, same
from forward_test import GATEWAY4, INNER4, INNER6, Far, set_forwarding, traces
from udp_test import CLIENT, Echo, udp_flows

MANY = """
import socket, sys
wrong = 0
for i in range(600):
    s = socket.socket(socket.AF_INET6 if i % 2 else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(20)
    to = (sys.argv[1 + i % 2], 53)
    s.sendto(b"%d" % i, to)
    data, peer = s.recvfrom(100)
    wrong += data != b"origin %d" % i or peer[:2] != to
    s.close()
print(wrong)
"""

LARGE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(10)
s.connect((sys.argv[1], 443))
s.setsockopt(17, 103, 1200)
s.send(b"".join(b"%04d" % i + b"x" * 1196 for i in range(10)))
print(sorted(len(s.recv(70000)) for i in range(10)))
"""

# Its own addresses, its device, then where to; says of each kind of socket what it heard, and from whom.
KINDS = """
import json, socket, struct, sys
own4, own6, device, origin6, *hosts = sys.argv[1:]
DGRAM, V4, V6 = socket.SOCK_DGRAM, socket.AF_INET, socket.AF_INET6
said = {}
def heard(s):
    data, peer = s.recvfrom(1000)
    return [data.decode(), peer[0]]
def ask(name, family, host, bind=None, options=(), connects=False, control=()):
    s = socket.socket(family, DGRAM)
    s.settimeout(20)
    for option in options:
        s.setsockopt(*option)
    if bind:
        s.bind((bind, 0))
    if connects:
        s.connect((host, 53))
        s.send(b"x")
    else:
        s.sendmsg([b"x"], control, 0, (host, 53))
    said[name] = heard(s)
for connects in (False, True):
    end = ", connected" if connects else ""
    ask("mapped" + end, V6, "::ffff:" + hosts[0], connects=connects)
    ask("bound, IPv4" + end, V4, hosts[0], bind=own4, connects=connects)
    ask("bound, IPv6" + end, V6, origin6, bind=own6, connects=connects)
    ask("device" + end, V4, hosts[0], options=[(socket.SOL_SOCKET, 25, device.encode())], connects=connects)
source = struct.pack("=I4s4s", 0, socket.inet_aton(own4), bytes(4))
ask("packet info", V4, hosts[0], control=[(socket.IPPROTO_IP, 8, source)])
s = socket.socket(V4, DGRAM)
s.settimeout(20)
for turn in range(5):
    for host in hosts:
        s.sendto(b"%d to %s" % (turn, host.encode()), (host, 53))
said["one socket"] = sorted(heard(s) for _ in range(5 * len(hosts)))
s.connect((hosts[0], 53))
s.sendto(b"elsewhere", (hosts[1], 53))
s.send(b"here")
said["elsewhere"] = [heard(s)]
s.settimeout(0.5)
try:
    said["elsewhere"].append(heard(s))
except socket.timeout:
    pass
s.settimeout(20)
wrong = 0
for i in range(5000):
    s.send(b"%d" % i)
    wrong += not heard(s)[0].startswith("%d from " % i)
said["wrong of 5000"] = wrong
print(json.dumps(said))
"""


def client(far, *steps):
    done = far.run("python3", "-c", CLIENT, stdin=json.dumps(steps).encode(), timeout=60)
    return json.loads(done.well())


class Tell(Echo):
    """Says who asked."""

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(70000)
            except OSError:
                return
            if self.closed:
                return
            self.sock.sendto(f"{data.decode()} from {peer[0].removeprefix('::ffff:')}".encode(), peer)


def test_taken(w):
    """connected and unconnected, IPv4 and IPv6: answers come from where was sent to; flows say who and where"""
    Tell(w, 53), Tell(w, 443)
    set_forwarding(w)
    far = Far(w)
    for io in ("epoll", "uring"):
        proxy = w.proxy("--interface", "fwA", "--set", "udp_timeout=1", io=io)
        same(client(far, ["socket", "a", 4], ["connect", "a", ORIGIN4, 53], ["send", "a", "one"], ["recv", "a"])[3],
             [f"one from {CLIENT4}", [ORIGIN4, 53]], "connected")
        same(client(far, ["socket", "b", 6], ["sendto", "b", "two", ORIGIN6, 443], ["recv", "b"])[2],
             [f"two from {e2e.CLIENT6}", [ORIGIN6, 443]], "unconnected, IPv6")
        same(sorted(client(far, ["socket", "c", 4], ["sendto", "c", "x", ORIGIN4, 53],
                           ["sendto", "c", "y", ORIGIN4, 443], ["recv", "c"], ["recv", "c"])[3:]),
             [[f"x from {CLIENT4}", [ORIGIN4, 53]], [f"y from {CLIENT4}", [ORIGIN4, 443]]], "one socket, two answers")
        flows = udp_flows(proxy, 4)
        same(sorted((f["client_conn"]["peername"][0], *f["server_conn"]["address"][:2]) for f in flows),
             sorted([(INNER4, ORIGIN4, 53), (INNER6, ORIGIN6, 443), (INNER4, ORIGIN4, 53), (INNER4, ORIGIN4, 443)]),
             "who and where")
        same(proxy.stop(), 0, "the exit status")
        same(traces(), ([], [], []), "what is left")


def test_not_taken(w):
    """other ports, the host's own addresses, after the mode is gone: direct; --udp decides"""
    Tell(w, 53), Tell(w, 9999)
    set_forwarding(w)
    far = Far(w)

    def who(port, host=ORIGIN4):
        return client(far, ["socket", "a", 4], ["sendto", "a", "hello", host, port], ["recv", "a"])[2][0]

    proxy = w.proxy("--interface", "fwA")
    same(who(9999), f"hello from {INNER4}", "a port that is not meant")
    same(who(53), f"hello from {CLIENT4}", "a port that is")
    host = Tell(w, 53, host=GATEWAY4, netns=w.client_ns)
    same(who(53, GATEWAY4), f"hello from {INNER4}", "the host's own resolver")
    host.close()
    w.run(e2e.MITM_BPF, "set", "--pid", proxy.pid, "mode=regular@127.0.0.1:0", inside=False).well()
    same(who(53), f"hello from {INNER4}", "after the mode is gone")
    same(proxy.stop(), 0, "the exit status")
    for udp, taken in (("none", ()), ("all", (53, 9999)), ("9000-10000", (9999,))):
        proxy = w.proxy("--interface", "fwA", "--udp", udp)
        for port in (53, 9999):
            same(who(port), f"hello from {CLIENT4 if port in taken else INNER4}", f"port {port} with --udp {udp}")
        same(proxy.stop(), 0, "the exit status")


def test_later(w):
    """a mode that comes when workers have no privileges any more: TCP is taken, UDP goes direct, and it is said"""
    Tell(w, 53)
    set_forwarding(w)
    far = Far(w)
    ask = (["socket", "a", 4], ["sendto", "a", "hello", ORIGIN4, 53], ["recv", "a"])
    proxy = w.proxy("-m", "regular@127.0.0.1:0")
    w.run(e2e.MITM_BPF, "set", "--pid", proxy.pid, "mode+=tc:fwA", inside=False).well()
    proxy.said("UDP is not taken, because workers gave up the privilege")
    same(client(far, *ask)[2][0], f"hello from {INNER4}", "who asks")
    same(proxy.stop(), 0, "the exit status")


def test_killed(w):
    """kill -9: direct at once"""
    Tell(w, 53)
    set_forwarding(w)
    far = Far(w)
    for attach in ("tcx", "clsact"):
        proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=" + attach)
        ask = (["socket", "a", 4], ["timeout", "a", 2], ["sendto", "a", "hello", ORIGIN4, 53], ["recv", "a"])
        same(client(far, *ask)[3][0], f"hello from {CLIENT4}", "taken")
        proxy.process.kill()
        proxy.process.wait()
        e2e.wait_for(10, "UDP goes direct", lambda: client(far, *ask)[3][0] == f"hello from {INNER4}")
    proxy = w.proxy("--interface", "fwA")
    same(proxy.stop(), 0, "the exit status")
    same(traces(), ([], [], []), "what is left")


def test_many(w):
    """many short-lived sockets, and a large send that the kernel cuts (GSO)"""
    Echo(w, 53), Echo(w, 443, behave=lambda data: data)
    set_forwarding(w)
    far = Far(w)
    proxy = w.proxy("--interface", "fwA")
    done = [w.start(*far.inside, "python3", "-c", MANY, ORIGIN4, ORIGIN6, inside=False) for _ in range(3)]
    same([p.communicate(timeout=120)[0].strip() for p in done], [b"0"] * 3, "wrong answers")
    same(far.run("python3", "-c", LARGE, ORIGIN4).well().strip(), str([1200] * 10), "sizes of what came back")
    same(proxy.stop(), 0, "the exit status")


def test_kinds(w):
    """every kind of socket: mapped, bound, with packet info, with many destinations, connected and sending elsewhere"""
    hosts = [ORIGIN4] + [f"10.77.0.{n}" for n in (20, 21, 22)]
    for host in hosts[1:]:
        e2e.netlink("addr", "add", host + "/24", "dev", "mbB", netns=w.origin_ns)
        w.stack.callback(e2e.netlink, "addr", "del", host + "/24", "dev", "mbB", netns=w.origin_ns)
    for host in [*hosts, ORIGIN6]:
        Tell(w, 53, host=host)
    set_forwarding(w)
    far = Far(w)
    proxy = w.proxy("--interface", "fwA")
    said = json.loads(far.run("python3", "-c", KINDS, INNER4, INNER6, "fwBx", ORIGIN6, *hosts, timeout=120).well())
    ours4, ours6 = [f"x from {CLIENT4}", ORIGIN4], [f"x from {e2e.CLIENT6}", ORIGIN6]
    for end in ("", ", connected"):
        same(said["mapped" + end], [ours4[0], "::ffff:" + ORIGIN4], "mapped" + end)
        same(said["bound, IPv4" + end], ours4, "bound, IPv4" + end)
        same(said["bound, IPv6" + end], ours6, "bound, IPv6" + end)
        same(said["device" + end], ours4, "bound to a device" + end)
    same(said["packet info"], ours4, "a source that packet info names")
    same(said["one socket"], sorted([f"{turn} to {host} from {CLIENT4}", host] for turn in range(5) for host in hosts),
         "one socket, four destinations")
    same(said["elsewhere"], [[f"here from {CLIENT4}", ORIGIN4]], "connected, and sending elsewhere")
    same(said["wrong of 5000"], 0, "wrong answers on one socket")
    same(proxy.stop(), 0, "the exit status")


def test_quic(w):
    """--block-quic: port 443 gets no answer, the rest does"""
    Tell(w, 443), Tell(w, 53)
    set_forwarding(w)
    far = Far(w)
    w.proxy("--interface", "fwA", "--block-quic")
    same(client(far, ["socket", "a", 4], ["timeout", "a", 1], ["sendto", "a", "x", ORIGIN4, 443], ["recv", "a"],
                ["sendto", "a", "y", ORIGIN4, 53], ["timeout", "a", 10], ["recv", "a"])[3:],
         ["timeout", 1, None, [f"y from {CLIENT4}", [ORIGIN4, 53]]], "QUIC, and DNS")


if __name__ == "__main__":
    e2e.main(globals())
