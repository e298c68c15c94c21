#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""UDP of local programs with the real program: what is taken, what answers look like, what the flow file and the
terminal say, and QUIC refused so that TCP is tried."""
import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import e2e  # noqa: E402
import netns_test  # noqa: E402
from e2e import CLIENT4, ORIGIN4, ORIGIN6, check, contains, main, same, wait_for  # noqa: E402

# Runs inside the steered cgroup: what it is told on stdin, with all results as JSON.
CLIENT = r"""
import json, socket, sys, time
def place(a):
    return [a[0], a[1]] if a else None
out = []
socks = {}
for step in json.loads(sys.stdin.read()):
    what, name = step[0], step[1]
    try:
        if what == "socket":
            s = socks[name] = socket.socket(socket.AF_INET6 if step[2] == 6 else socket.AF_INET, socket.SOCK_DGRAM)
            s.settimeout(10)
            out.append(None)
        elif what == "connect":
            out.append(socks[name].connect((step[2], step[3])))
        elif what == "send":
            out.append(socks[name].send(step[2].encode()))
        elif what == "sendto":
            out.append(socks[name].sendto(step[2].encode(), (step[3], step[4])))
        elif what == "raw":
            out.append(socks[name].sendto(step[2].encode("latin-1"), (step[3], step[4])))
        elif what == "sized":
            out.append(socks[name].sendto(b"x" * step[2], (step[3], step[4])))
        elif what == "recvlen":
            out.append(len(socks[name].recv(70000)))
        elif what == "recv":
            data, peer = socks[name].recvfrom(70000)
            out.append([data.decode("latin-1"), place(peer)])
        elif what == "names":
            peer = None
            try:
                peer = socks[name].getpeername()
            except OSError as e:
                pass
            out.append([place(socks[name].getsockname()), place(peer)])
        elif what == "timeout":
            out.append(socks[name].settimeout(step[2]))
        elif what == "close":
            out.append(socks.pop(name).close())
    except socket.timeout:
        out.append("timeout")
    except OSError as e:
        out.append("errno %d" % e.errno)
print(json.dumps(out))
"""


def client(w, *steps, **options):
    """Run by the world, or by a container."""
    text = json.dumps(steps).encode()
    return json.loads(w.run("python3", "-c", CLIENT, stdin=text, timeout=60, **options).well())


class Echo:
    """Answers each datagram with "NAME " + what came + who sent it; behave(data) makes another answer, or none."""

    def __init__(self, w, port, host="::", name="origin", behave=None, netns=None):
        self.received, self.behave, self.name, self.closed = [], behave, name, False
        made = []

        def make():
            e2e.LIBC.setns(netns if netns is not None else w.origin_ns, e2e.CLONE_NEWNET)
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            if ":" in host:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind((host, port))
            made.append(sock)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        self.sock = made[0]
        self.port = self.sock.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        w.stack.callback(self.close)

    def serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(70000)
            except OSError:
                return
            if self.closed:
                return
            self.received.append((data, peer))
            reply = self.behave(data) if self.behave else f"{self.name} ".encode() + data
            if reply is not None:
                self.sock.sendto(reply, peer)

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)     # wakes recvfrom(), though it says that it is not connected
        self.thread.join(5)
        self.sock.close()


def udp_flows(proxy, count):
    """Those that are over, waited for, in the order of their ends."""
    def read():
        found = [f for f in proxy.flows() if f["type"] == "udp"]
        return len(found) >= count and found
    return wait_for(20, f"{count} UDP flows are written", read)


def messages(flow):
    return [(m[0], m[1]) for m in flow["messages"]]


def server_of(flow):
    host, port = flow["server_conn"]["address"][:2]
    return host.decode() if isinstance(host, bytes) else host, port


def text_of(value):
    return value.decode() if isinstance(value, bytes) else value


def dns_query(name, number=0x1234):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", 1, 1)


def dns_answer(query):
    return query[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query[12:] + \
        b"\xc0\x0c" + struct.pack(">2HIH4B", 1, 1, 60, 4, 192, 0, 2, 53)


def start(w, *words, intercept="python3", timeout=1, **options):
    return w.proxy("--set", f"udp_timeout={timeout}", *words, intercept=intercept, loopback=False, **options)


def ask_once(text="hello", host=ORIGIN4, port=53, family=4):
    return (["socket", "a", family], ["sendto", "a", text, host, port], ["recv", "a"])


def connected(w, io):
    Echo(w, 53)
    proxy = start(w, io=io)
    out = client(w, ["socket", "a", 4], ["connect", "a", ORIGIN4, 53], ["names", "a"], ["send", "a", "one"],
                 ["recv", "a"], ["send", "a", "two"], ["recv", "a"])
    same(out[4], ["origin one", [ORIGIN4, 53]], "the answer")
    same(out[6], ["origin two", [ORIGIN4, 53]], "the second answer")
    same(out[2][1], [ORIGIN4, 53], "getpeername")
    same(out[2][0][0], CLIENT4, "getsockname")
    flow = udp_flows(proxy, 1)[0]
    same(messages(flow), [(True, b"one"), (False, b"origin one"), (True, b"two"), (False, b"origin two")], "the flow")
    same(server_of(flow), (ORIGIN4, 53), "the server")
    same(text_of(flow["server_conn"]["transport_protocol"]), "udp", "the transport")
    same(flow["error"], None, "the error")
    contains(proxy.out(), f"-> udp -> {ORIGIN4}:53", "the terminal")


def test_connected_uring(w):
    """a connected socket: the origin answers, all names are true, and all is in the flow (io_uring)"""
    connected(w, "uring")


def test_connected_epoll(w):
    """the same with epoll"""
    connected(w, "epoll")


def test_dns(w):
    """a DNS query of who is selected reaches its server, over IPv4 and IPv6; that of another goes directly"""
    origin = Echo(w, 53, behave=dns_answer)
    proxy = start(w)
    query = dns_query("example.test").decode("latin-1")
    for host, family in ((ORIGIN4, 4), (ORIGIN6, 6), ("::ffff:" + ORIGIN4, 6)):
        out = client(w, ["socket", "a", family], ["raw", "a", query, host, 53], ["recv", "a"])
        same(out[2][0].encode("latin-1"), dns_answer(dns_query("example.test")), "the answer")
        same(out[2][1], [host, 53], "who answered")
    flows = udp_flows(proxy, 3)
    same(sorted(server_of(f) for f in flows), [(ORIGIN4, 53), (ORIGIN4, 53), (ORIGIN6, 53)], "the servers")
    for flow in flows:
        same(messages(flow), [(True, dns_query("example.test")), (False, dns_answer(dns_query("example.test")))],
             "the messages")
    same(len(origin.received), 3, "queries at the origin")
    client(w, *ask_once("direct"), inside=False)
    same(len(origin.received), 4, "queries at the origin")
    same(len(proxy.flows()), 3, "flows")


def resolve(query):
    """As a server that has an IPv4 address for every name, and nothing else."""
    end = query.index(b"\0", 12) + 5
    if query[end - 4:end - 2] != b"\0\1":
        return query[:2] + struct.pack(">5H", 0x8180, 1, 0, 0, 0) + query[12:end]
    return query[:2] + struct.pack(">5H", 0x8180, 1, 1, 0, 0) + query[12:end] + \
        b"\xc0\x0c" + struct.pack(">2HIH4B", 1, 1, 60, 4, 192, 0, 2, 53)


def test_resolver(w):
    """the system's resolver, as every program uses it"""
    path = os.path.join(w.tmp, "resolv.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"nameserver {ORIGIN4}\noptions timeout:10 attempts:1\n")
    if e2e.LIBC.mount(path.encode(), b"/etc/resolv.conf", None, 4096, None) < 0:
        raise e2e.Skipped("cannot mount a resolv.conf")
    w.stack.callback(e2e.LIBC.umount2, b"/etc/resolv.conf", 2)
    Echo(w, 53, behave=resolve)
    proxy = start(w, intercept="getent")
    contains(w.run("getent", "-s", "dns", "ahosts", "example.test").well(), "192.0.2.53", "what was resolved")
    check(b"example" in udp_flows(proxy, 1)[0]["messages"][0][1], "the question is in the flow")


def test_unconnected(w):
    """one socket, four destinations: four flows, and each answer comes from where it was asked for"""
    hosts = [ORIGIN4] + [f"10.77.0.{n}" for n in (20, 21, 22)]
    for host in hosts[1:]:
        e2e.netlink("addr", "add", host + "/32", "dev", "mbB", netns=w.origin_ns)
        Echo(w, 53, host=host, name=host)
        w.stack.callback(e2e.netlink, "addr", "del", host + "/32", "dev", "mbB", netns=w.origin_ns)
    Echo(w, 53, host=ORIGIN4, name=ORIGIN4)
    proxy = start(w)
    steps = [["socket", "a", 4]]
    for turn in range(5):
        steps += [["sendto", "a", f"{turn} {host}", host, 53] for host in hosts] + [["recv", "a"]] * len(hosts)
    out = client(w, *steps)
    heard = [tuple(o[1]) + (o[0],) for o in out if isinstance(o, list)]
    same(sorted(heard), sorted((host, 53, f"{host} {turn} {host}") for turn in range(5) for host in hosts),
         "what was heard")
    flows = udp_flows(proxy, 4)
    same(sorted(server_of(f)[0] for f in flows), sorted(hosts), "the servers")
    same([len(f["messages"]) for f in flows], [10] * 4, "the messages")


def test_sizes(w):
    """datagrams of every size, an empty one among them, stay what they are"""
    sizes = [0, 1, 1200, 9000, 16640, 16641, 40000, 65507 - len("origin ")]
    Echo(w, 53)
    proxy = start(w)
    steps = [["socket", "a", 4]]
    for size in sizes:
        steps += [["sized", "a", size, ORIGIN4, 53], ["recvlen", "a"]]
    out = client(w, *steps)
    same(out[2::2], [size + len("origin ") for size in sizes], "what came back")
    flow = udp_flows(proxy, 1)[0]
    same([len(m[1]) for m in flow["messages"] if m[0]], sizes, "the client's messages")


def test_other_ports(w):
    """ports that were not asked for are left alone; --udp all takes every one, none none"""
    origin = Echo(w, 5353)
    Echo(w, 53)
    proxy = start(w)
    client(w, *ask_once(port=5353))
    same(origin.received[-1][1][0], "::ffff:" + CLIENT4, "who asked")
    client(w, *ask_once())
    udp_flows(proxy, 1)
    same([server_of(f)[1] for f in proxy.flows()], [53], "ports of flows")
    proxy.stop()
    proxy = start(w, "--udp", "all")
    client(w, *ask_once(port=5353))
    same([server_of(f)[1] for f in udp_flows(proxy, 1)], [5353], "ports of flows")
    proxy.stop()
    proxy = start(w, "--udp", "none")
    client(w, *ask_once())
    proxy.stop()
    same(proxy.flows(), [], "flows")


def test_bad_option(w):
    """a port list that is none is said"""
    done = w.run(e2e.MITM_BPF, "--set", "confdir=" + w.confdir, "--intercept", "x", "--cgroup", w.cgroup, "--udp",
                 "53,dns", inside=False)
    check(done.status != 0, "it started")
    contains(done.err, '"dns" is no UDP port', "the complaint")


def test_block_quic(w):
    """--block-quic: connect() and sendto() to port 443 say ECONNREFUSED at once, DNS and other programs go on"""
    Echo(w, 53)
    origin = Echo(w, 443)
    start(w, "--block-quic")
    out = client(w, ["socket", "a", 4], ["connect", "a", ORIGIN4, 443], ["socket", "b", 4],
                 ["sendto", "b", "x", ORIGIN4, 443], ["socket", "c", 6], ["connect", "c", ORIGIN6, 443],
                 ["sendto", "b", "x", ORIGIN4, 53], ["recv", "b"])
    same([out[1], out[3], out[5]], ["errno 111"] * 3, "connect, sendto, connect")
    same(out[7][0], "origin x", "DNS on the socket that was refused")
    same(client(w, *ask_once(port=443), inside=False)[2][0], "origin hello", "who is not selected")
    same(len(origin.received), 1, "datagrams at the origin")


def test_ignored(w):
    """ignore_hosts: relayed, and no flow; show_ignored_hosts shows it"""
    Echo(w, 53)
    proxy = start(w, "--ignore-hosts", "10\\.77\\.0\\.2:53")
    same(client(w, *ask_once())[2][0], "origin hello", "the answer")
    client(w, *ask_once(host=ORIGIN6, family=6))
    same([server_of(f)[0] for f in udp_flows(proxy, 1)], [ORIGIN6], "flows")
    proxy.stop()
    same(len(proxy.flows()), 1, "flows")
    proxy = start(w, "--ignore-hosts", "10\\.77\\.0\\.2:53", "--show-ignored-hosts")
    client(w, *ask_once())
    udp_flows(proxy, 1)


def test_refused(w):
    """a server that is not there: its flow says so, and the next datagram begins another"""
    proxy = start(w, timeout=20)
    client(w, ["socket", "a", 4], ["timeout", "a", 1], ["sendto", "a", "x", ORIGIN4, 53], ["recv", "a"])
    flow = udp_flows(proxy, 1)[0]
    contains(text_of(flow["error"]["msg"]), "refused", "the error")
    Echo(w, 53)
    same(client(w, *ask_once())[2][0], "origin hello", "the answer")


def test_stop(w):
    """what is open when the program ends is in the file, and answers that are on their way arrive"""
    Echo(w, 53)
    proxy = start(w, timeout=600)
    client(w, *ask_once())
    same(proxy.stop(), 0, "status")
    same(messages(proxy.flows()[0]), [(True, b"hello"), (False, b"origin hello")], "the flow")
    same(os.popen("ip -6 route show table local proto 109").read(), "", "routes that are left")


def test_kill(w):
    """kill -9: the next datagram of the same socket goes directly"""
    origin = Echo(w, 53)
    proxy = start(w)
    process = w.start("python3", "-u", "-c", CLIENT.replace("json.loads(sys.stdin.read())",
                                                            "map(json.loads, sys.stdin)"), stdin=subprocess.PIPE)
    for step in (*ask_once("first"),):
        process.stdin.write(json.dumps(step).encode() + b"\n")
    process.stdin.flush()
    wait_for(10, "the first is there", lambda: len(origin.received) == 1)
    proxy.process.kill()
    proxy.process.wait()
    for step in ask_once("second")[1:]:
        process.stdin.write(json.dumps(step).encode() + b"\n")
    out = json.loads(process.communicate(timeout=60)[0])
    same([o[0] for o in out if isinstance(o, list)], ["origin first", "origin second"], "what came back")
    same(origin.received[1][1][0], "::ffff:" + CLIENT4, "who asked")


def control(w, *actions):
    path = os.path.join(w.tmp, f"control-{len(os.listdir(w.tmp))}.json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(actions, f)
    return path


def test_hooks(w):
    """hooks: a message is changed, dropped, one is injected, a flow is killed; and all are called"""
    origin = Echo(w, 53)
    trace = os.path.join(w.tmp, "udp-trace")
    proxy = start(w, "--hook-trace", trace, "--hook-control", control(
        w, {"hook": "udp_message", "do": "set_message", "value": "changed", "nth": 1},
        {"hook": "udp_message", "do": "drop_message", "nth": 3},
        {"hook": "udp_message", "do": "kill", "nth": 5}))
    out = client(w, ["socket", "a", 4], ["timeout", "a", 2], *ask_once("one")[1:], *ask_once("two")[1:],
                 *ask_once("three")[1:])
    same([out[3][0], out[5]], ["origin changed", "timeout"], "the answers")
    same([d for d, _ in origin.received][:1], [b"changed"], "what the origin got")
    udp_flows(proxy, 1)
    with open(trace, encoding="utf-8") as f:
        hooks = [json.loads(line)["hook"] for line in f]
    check("udp_start" in hooks and "udp_message" in hooks, f"hooks are missing: {hooks}")
    check("udp_end" in hooks or "udp_error" in hooks, f"no end: {hooks}")


def test_mitmproxy(w):
    """mitmproxy reads the flows, and shows them in the same words"""
    mitmdump = os.environ.get("MITMDUMP") or shutil.which("mitmdump")
    if not mitmdump or not os.access(mitmdump, os.X_OK):
        raise e2e.Skipped("needs mitmdump (mitmproxy 12) in PATH or $MITMDUMP")
    Echo(w, 53)
    proxy = start(w)
    client(w, *ask_once("one"), *ask_once("two")[1:])
    udp_flows(proxy, 1)
    proxy.stop()
    theirs = w.run(mitmdump, "-nr", proxy.file, "--set", "flow_detail=3",
                   "--set", f"confdir={w.tmp}/mitmproxy", inside=False, timeout=60).well()
    for text in ("one", "origin one", "two", "origin two"):
        contains(theirs, text, "what mitmdump shows")
    contains(theirs, f"-> udp -> {ORIGIN4}:53", "what mitmdump shows")
    words = [line.split() for line in theirs.splitlines() if "udp" in line]     # ours begin with the process
    ours = [line.split() for line in w.run(e2e.MITM_BPF, "-nr", proxy.file, "--set", "flow_detail=3",
                                               inside=False).well().splitlines()
            if "udp" in line]
    same([line[1:] for line in ours], words, "our lines")


def routes_in(container):
    return subprocess.run(container.words("ip", "-6", "route", "show", "table", "local", "proto", "109"),
                          capture_output=True, check=True).stdout.decode()


def test_namespace(w):
    """a program in another network namespace: taken there, and its server is asked from there"""
    origins = {ORIGIN4: Echo(w, 53, host=ORIGIN4), ORIGIN6: Echo(w, 53, host=ORIGIN6)}
    container = netns_test.Container(w)
    proxy = start(w)
    container.start("python3", "-c", "import time; time.sleep(1000)")
    wait_for(10, "an endpoint is made in the namespace", lambda: routes_in(container))
    for host, family, source in ((ORIGIN4, 4, container.v4), (ORIGIN6, 6, container.v6)):
        out = client(container, *ask_once("there", host=host, family=family))
        same(out[2], ["origin there", [host, 53]], "the answer")
        same(origins[host].received[-1][1][0], source, "who asked")
    client(w, *ask_once("here"))
    same(sorted(m[1] for f in udp_flows(proxy, 3) for m in f["messages"] if m[0]), [b"here", b"there", b"there"],
         "the flows")
    proxy.stop()
    same(routes_in(container), "", "routes that are left there")


def test_reverse(w):
    """reverse:udp: on all addresses, and the answer comes from the one that was asked"""
    Echo(w, 5353)
    proxy = w.proxy("--set", "listen_host=", "--set", "udp_timeout=1", "-m", f"reverse:udp://{ORIGIN4}:5353@0",
                    "--workers", "2")
    port = int(re.search(r"listening at \S*:(\d+)", proxy.log()).group(1))
    for host, family in (("127.0.0.1", 4), ("127.0.0.77", 4), (CLIENT4, 4), ("::1", 6), (e2e.CLIENT6, 6)):
        out = client(w, ["socket", "a", family], ["connect", "a", host, port], ["send", "a", host], ["recv", "a"])
        same(out[3], ["origin " + host, [host, port]], "the answer")
    same([server_of(f) for f in udp_flows(proxy, 5)], [(ORIGIN4, 5353)] * 5, "the servers")


def test_many(w):
    """more flows than one worker keeps: the oldest make room, and every one is answered"""
    Echo(w, 53)
    proxy = start(w, "--workers", "1", timeout=600)
    script = ("import socket\nsocks = []\n"
              "for i in range(4600):\n"
              "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    s.settimeout(20)\n"
              f"    s.sendto(b'%d' % i, ('{ORIGIN4}', 53))\n"
              "    assert s.recv(100) == b'origin %d' % i\n    socks.append(s)\n")
    w.run("sh", "-c", 'ulimit -n 8192; exec python3 -c "$0"', script, timeout=120).well()
    check(len(udp_flows(proxy, 500)) >= 500, "the oldest are over")


def test_fair(w):
    """a program that opens more flows than there can be: it loses its own, and nobody else's"""
    echo = Echo(w, 53)
    proxy = start(w, "--workers", "1", timeout=600)
    quiet = w.start("python3", "-c", "import socket, sys\n"
                    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(20)\n"
                    f"for line in sys.stdin:\n    s.sendto(b'quiet', ('{ORIGIN4}', 53))\n"
                    "    print(s.recv(100).decode(), flush=True)\n", stdin=subprocess.PIPE)

    def ask():
        quiet.stdin.write(b"ask\n")
        quiet.stdin.flush()
        same(quiet.stdout.readline(), b"origin quiet\n", "the answer")

    ask()
    script = ("import socket\nsocks = []\n"
              "for i in range(6000):\n"
              "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n    s.settimeout(20)\n"
              f"    s.sendto(b'%d' % i, ('{ORIGIN4}', 53))\n"
              "    assert s.recv(100) == b'origin %d' % i\n    socks.append(s)\n")
    w.run("sh", "-c", 'ulimit -n 8192; exec python3 -c "$0"', script, timeout=120).well()
    check(len(udp_flows(proxy, 1900)) >= 1900, "its oldest are over")
    ask()
    # from the same port: it is the same flow
    same(len({peer for data, peer in echo.received if data == b"quiet"}), 1, "the flows of the quiet one")
    check(not any(m[1] == b"quiet" for f in proxy.flows() for m in f.get("messages", [])), "it is not over")


if __name__ == "__main__":
    main(globals())
