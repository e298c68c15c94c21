#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Forwarded traffic (--interface): clients in a namespace of their own, whose way to the origin is routed through the
proxy's; behind a veth and behind a bridge; the host's own addresses, what others attached, what a killed run leaves."""
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

import e2e
from e2e import CLIENT4, ORIGIN4, Skipped, check, contains, same

GATEWAY4, GATEWAY6 = "10.78.0.1", "fd78::1"
INNER4, INNER6 = "10.78.0.2", "fd78::2"
FORWARDING = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding")


class Far:
    """A client in a network namespace of its own, behind `outer` of the proxy's; everything goes through there."""

    def __init__(self, w, outer="fwA", addresses=(INNER4, INNER6), gateway=True):
        self.w, self.outer = w, outer
        self.holder = w.start("unshare", "--net", "sh", "-c", "echo ready; exec sleep 300", inside=False)
        same(self.holder.stdout.readline(), b"ready\n")
        self.inside = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        inner = outer.replace("A", "B") + "x"
        e2e.netlink("link", "add", outer, "type", "veth", "peer", "name", inner)
        w.stack.callback(subprocess.run, ["ip", "link", "del", outer], capture_output=True, check=False)
        e2e.netlink("link", "set", inner, "netns", str(self.holder.pid))
        if gateway:
            gateway_of(outer)
        e2e.netlink("link", "set", outer, "up")
        for words in (("link", "set", "lo", "up"), ("addr", "add", addresses[0] + "/24", "dev", inner),
                      ("-6", "addr", "add", addresses[1] + "/64", "dev", inner, "nodad"), ("link", "set", inner, "up"),
                      ("route", "add", "default", "via", GATEWAY4), ("-6", "route", "add", "default", "via",
                                                                     GATEWAY6)):
            subprocess.run([*self.inside, "ip", *words], check=True, capture_output=True)

    def run(self, *words, **options):
        return self.w.run(*self.inside, *words, inside=False, **options)

    def curl(self, *words, ca=None):
        return self.run("curl", "--disable", "-sS", "--max-time", "10", "--cacert", ca or self.w.ca, *words)


def gateway_of(link):
    e2e.netlink("addr", "add", GATEWAY4 + "/24", "dev", link)
    e2e.netlink("-6", "addr", "add", GATEWAY6 + "/64", "dev", link, "nodad")


def set_forwarding(w, on=True):
    """The origin knows the way back to the clients only through the proxy's namespace."""
    for name in FORWARDING:
        with open("/proc/sys/" + name, "w", encoding="ascii") as f:
            f.write("1" if on else "0")
    for words in (("route", "replace", "10.78.0.0/24", "via", CLIENT4), ("-6", "route", "replace", "fd78::/64", "via",
                                                                         e2e.CLIENT6)):
        e2e.netlink(*words, netns=w.origin_ns)


def said_peer(done):
    return done.well().split()[0].removeprefix("::ffff:")


def listing(*words):
    return subprocess.run(words, capture_output=True, check=True, text=True).stdout


def traces():
    """All that is ours in this namespace: rules, routes, filters, tcx links."""
    rules = [line for family in ("-4", "-6") for line in listing("ip", family, "rule").splitlines() if "6d6274" in line]
    routes = [line for family in ("-4", "-6") for line in
              listing("ip", family, "route", "show", "table", "all").splitlines() if "local default" in line]
    links = [line.split(":")[1].split("@")[0].strip() for line in listing("ip", "-o", "link").splitlines()]
    filters = [line for link in links for line in
               listing("tc", "filter", "show", "dev", link, "ingress").splitlines() if "mb_tc" in line]
    return rules, routes, filters


def test_veth(w):
    """HTTPS of a client behind a veth is decrypted: IPv4, IPv6; its address is in the flow; both back ends"""
    origin = w.origin()
    set_forwarding(w)
    far = Far(w)
    for io in ("epoll", "uring"):
        proxy = w.proxy("--interface", "fwA", io=io)
        for host, client in ((origin.host4, INNER4), (origin.host6, INNER6)):
            path = f"/{io}?{host}"
            contains(far.curl(origin.url(path, host)).well(), f"the origin's answer to {path}")
            flow = proxy.flow(path)
            same(flow["client_conn"]["peername"][0], client, "the client")
            same(flow["client_conn"]["sockname"][:2], [host, origin.port], "what the client is connected to")
            same(flow["server_conn"]["address"][:2], [host, origin.port], "the destination")
            same(flow["client_conn"]["proxy_mode"], "transparent", "the mode, as mitmproxy reads it")
        same(proxy.stop(), 0, "the exit status")
        same(traces(), ([], [], []), "what is left")


def test_bridge(w):
    """behind a bridge: all of its clients, one of them by its address; its ports are no place for it"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    e2e.netlink("link", "add", "fwbr", "type", "bridge")
    w.stack.callback(subprocess.run, ["ip", "link", "del", "fwbr"], capture_output=True, check=False)
    gateway_of("fwbr")
    e2e.netlink("link", "set", "fwbr", "up")
    one = Far(w, "fwA1", gateway=False)
    other = Far(w, "fwA2", addresses=("10.78.0.3", "fd78::3"), gateway=False)
    for link in ("fwA1", "fwA2"):
        e2e.netlink("link", "set", link, "master", "fwbr")
    for interface, taken in (("fwbr", (one, other)), ("fwbr,10.78.0.3,fd78::3", (other,)), ("fwA*", ())):
        proxy = w.proxy("--interface", interface)
        for far in (one, other):
            for host, ours in ((origin.host4, CLIENT4), (origin.host6, e2e.CLIENT6)):
                own = ("10.78.0." if host == origin.host4 else "fd78::") + ("2" if far is one else "3")
                same(said_peer(far.curl(origin.url("/peer", host))), ours if far in taken else own,
                     f"who the origin sees of {own}, with {interface}")
        talk = ("python3", "-c", "import socket; s = socket.create_server(('10.78.0.2', 7000)); c, _ = s.accept(); "
                "c.sendall(b'a neighbour\\n'); c.close()")
        server = w.start(*one.inside, *talk, inside=False)
        e2e.wait_for(5, "the neighbour listens", lambda: "7000" in one.run("ss", "-ltn").out)
        contains(other.run("curl", "-sS", "--http0.9", "--max-time", "5", "http://10.78.0.2:7000/").out, "a neighbour")
        e2e.end(server)
        same(proxy.stop(), 0, "the exit status")
    done = w.run(e2e.MITM_BPF, "--set", "confdir=" + w.confdir, "--interface", "fwA1")
    same(done.status, 1, "the status with a bridge's port")
    contains(done.err, "fwA1 is a port of the bridge fwbr")


def test_host(w):
    """the host's own addresses and services are reached directly, also by ports that it has open for all"""
    origin = w.origin(tls=None)
    beside = w.origin(tls=None, where="loopback", port=origin.port)
    set_forwarding(w)
    far = Far(w)
    proxy = w.proxy("--interface", "fwA")
    for host in (GATEWAY4, GATEWAY6, CLIENT4, e2e.CLIENT6):
        same(said_peer(far.curl(beside.url("/peer", host))), INNER6 if ":" in host else INNER4, f"the peer at {host}")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer at the origin")
    e2e.netlink("addr", "add", "10.78.0.99/24", "dev", "fwA")
    e2e.wait_for(5, "a new address is the host's", lambda: said_peer(far.curl(beside.url("/peer", "10.78.0.99"))) ==
                 INNER4)
    same([f["request"]["path"] for f in proxy.flows(1) if f["server_conn"]["address"][0] != "10.78.0.99"], [b"/peer"],
         "what was taken")
    port = re.search(r"127.0.0.1:(\d+)", listing("ss", "-ltnp", f"src 127.0.0.1 and sport != :{origin.port}")).group(1)
    check(w.curl(f"http://127.0.0.1:{port}/").status != 0, "a listener of ours answered by hand")


def test_settings_of_the_kernel(w):
    """strict rp_filter, marks that accepted sockets inherit, forwarding switched off: all the same"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    proxy = w.proxy("--interface", "fwA")
    for name, value in (("conf/all/rp_filter", "1"), ("conf/fwA/rp_filter", "1"), ("conf/mbA/rp_filter", "1"),
                        ("tcp_fwmark_accept", "1"), ("ip_forward", "0")):
        with open("/proc/sys/net/ipv4/" + name, "w", encoding="ascii") as f:
            f.write(value)
        for host, ours in ((origin.host4, CLIENT4), (origin.host6, e2e.CLIENT6)):
            same(said_peer(far.curl(origin.url("/peer", host))), ours, f"the peer with {name}={value}")
    with open("/proc/sys/net/ipv4/tcp_fwmark_accept", "w", encoding="ascii") as f:
        f.write("0")
    same(len(proxy.flows(10)), 10, "the number of flows")


def test_firewall(w):
    """a firewall that lets in nothing is told by the mark whom to let in"""
    if not shutil.which("nft"):
        raise Skipped("needs nft")
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    w.proxy("--interface", "fwA")
    w.stack.callback(subprocess.run, ["nft", "delete", "table", "inet", "filter"], capture_output=True, check=False)
    # 1 and 58 are ICMP and ICMPv6; without netbase nobody knows them by these names
    closed = b"""table inet filter { chain input { type filter hook input priority 0; policy drop;
        iif "lo" accept; ct state established iifname "mbA" accept; meta l4proto { 1, 58 } accept; }; }"""
    w.run("nft", "-f", "-", stdin=closed).well()
    check(far.curl("--max-time", "1", origin.url("/peer")).status != 0, "the firewall let a connection in")
    w.run("sh", "-c", "nft insert rule inet filter input meta mark and 0xffffff00 == 0x6d627400 accept").well()
    for host, ours in ((origin.host4, CLIENT4), (origin.host6, e2e.CLIENT6)):
        same(said_peer(far.curl(origin.url("/peer", host))), ours, "the peer with the rule of the documentation")


def test_killed(w):
    """kill -9: direct at once; what is left is removed by the next start, what others have is not (tcx, clsact)"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    e2e.netlink("rule", "add", "pref", "99", "fwmark", "0x77", "lookup", "77")
    e2e.netlink("route", "add", "local", "default", "dev", "lo", "table", "77")
    w.stack.callback(subprocess.run, ["ip", "rule", "del", "pref", "99"], capture_output=True, check=False)
    w.stack.callback(subprocess.run, ["ip", "route", "flush", "table", "77"], capture_output=True, check=False)
    theirs = traces()
    far = Far(w)
    for how in ("tcx", "clsact"):
        proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=" + how)
        same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
        rules, routes, filters = traces()
        same((len(rules), len(routes), len(filters)), (2, 3, int(how == "clsact")), "rules, routes, filters")
        proxy.process.kill()
        proxy.process.wait()
        # The kernel closes its listeners a moment later.
        e2e.wait_for(5, "connections go direct", lambda: "::ffff:" + INNER4 in far.curl(origin.url("/peer")).out)
        same(said_peer(far.curl(origin.url("/peer", origin.host6))), INNER6, "the peer once it is dead")
        same(len(traces()[2]), int(how == "clsact"), "filters that are left")
        proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=tcx")
        proxy.said("Removed what a run that was killed had left")
        same(len(traces()[2]), 0, "filters after the next start")
        same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
        same(proxy.stop(), 0, "the exit status")
        same(traces(), theirs, "what is left")


def test_clsact_of_others(w):
    """a clsact and filters of others stay as they are; one of ours goes, unless somebody else has come to use it"""
    set_forwarding(w)
    origin = w.origin(tls=None)
    far = Far(w)
    clsact = ("tc", "filter", "add", "dev", "fwA")
    theirs = ("pref", "7", "protocol", "arp", "bpf", "bytecode", "1,6 0 0 0")

    def qdiscs():
        return listing("tc", "qdisc", "show", "dev", "fwA").count("clsact")

    proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=clsact")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
    same(qdiscs(), 1, "clsacts")
    same((proxy.stop(), qdiscs()), (0, 0), "the exit status, and clsacts after it")
    proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=clsact")
    subprocess.run([*clsact, "egress", *theirs], check=True)
    same((proxy.stop(), qdiscs()), (0, 1), "the exit status, and clsacts, with a guest's filter")
    subprocess.run([*clsact, "ingress", *theirs], check=True)
    before = [listing("tc", "filter", "show", "dev", "fwA", where) for where in ("ingress", "egress")]
    proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=clsact")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
    same(proxy.stop(), 0, "the exit status")
    same([listing("tc", "filter", "show", "dev", "fwA", where) for where in ("ingress", "egress")], before,
         "others' filters")


def test_stands_still(w):
    """a proxy that is stopped (SIGSTOP) gets no new connections after a while, and gets them again when it goes on"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    proxy = w.proxy("--interface", "fwA", "--set", "fail_closed=true")
    proxy.said("also with fail_closed")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
    proxy.process.send_signal(signal.SIGSTOP)

    def peer():
        return far.run("curl", "-sS", "--max-time", "2", origin.url("/peer")).out.split(" ")[0].removeprefix("::ffff:")

    e2e.wait_for(30, "connections go direct", lambda: peer() == INNER4)
    proxy.process.send_signal(signal.SIGCONT)
    e2e.wait_for(30, "connections are taken again", lambda: peer() == CLIENT4)
    same(proxy.stop(), 0, "the exit status")


LONG = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
for line in sys.stdin:
    s.sendall(f"GET /{line.strip()} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    answer = s.recv(4096).decode()
    while "\\n" not in answer.split("\\r\\n\\r\\n", 1)[1]:
        answer += s.recv(4096).decode()
    print(answer.split("\\r\\n\\r\\n", 1)[1].strip(), flush=True)
"""


class Long:
    """A connection that stays open."""

    def __init__(self, far, origin):
        self.process = far.w.start(*far.inside, "python3", "-c", LONG, origin.host4, origin.port, inside=False,
                                   stdin=subprocess.PIPE)

    def peer(self):
        self.process.stdin.write(b"peer\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()[0].decode().removeprefix("::ffff:")


def test_live(w):
    """added to and removed from one that runs; connections that were open before go on as they began"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    for attach in ("tcx", "clsact"):
        proxy = w.proxy("-m", "regular@127.0.0.1:0", "--set", "tc_attach=" + attach)
        before = Long(far, origin)
        same(before.peer(), INNER4, "the peer, direct")
        for _ in range(2):
            w.run(e2e.MITM_BPF, "set", "--pid", proxy.pid, "mode+=tc:fwA", inside=False).well()
            same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer, taken")
            same(before.peer(), INNER4, "the peer of what is older")
            during = Long(far, origin)
            same(during.peer(), CLIENT4, "the peer, taken")
            w.run(e2e.MITM_BPF, "set", "--pid", proxy.pid, "mode-=tc:fwA", inside=False).well()
            same(said_peer(far.curl(origin.url("/peer"))), INNER4, "the peer once the mode is gone")
            same((before.peer(), during.peer()), (INNER4, CLIENT4), "peers of what is older")
        for clients, peer in (("", CLIENT4), (",10.78.0.77", INNER4), (",!10.78.0.77", CLIENT4)):
            w.run(e2e.MITM_BPF, "set", "--pid", proxy.pid, f"mode=tc:fwA{clients}", inside=False).well()
            same(said_peer(far.curl(origin.url("/peer"))), peer, f"the peer with other clients: {clients}")
        same(proxy.stop(), 0, "the exit status")
        same(traces(), ([], [], []), "what is left")


def test_interfaces_come_and_go(w):
    """renamed, gone and come back; patterns take who comes later"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    proxy = w.proxy("--interface", "fwA", "--interface", "fwP*")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
    e2e.netlink("link", "set", "fwA", "down")
    e2e.netlink("link", "set", "fwA", "name", "fwQ")
    e2e.netlink("link", "set", "fwQ", "up")
    proxy.said("The interface fwA is called fwQ now")
    subprocess.run(["ip", "-6", "addr", "add", GATEWAY6 + "/64", "dev", "fwQ", "nodad"], check=False,
                   capture_output=True)
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer, with another name")
    e2e.netlink("link", "del", "fwQ")
    proxy.said("The interface fwA is gone")
    far = Far(w)
    proxy.said("The interface fwA is here")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer, come back")
    e2e.netlink("link", "del", "fwA")
    far = Far(w, "fwPA")
    proxy.said("The interface fwPA is here")
    same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer by a pattern")
    same(proxy.stop(), 0, "the exit status")
    same(traces(), ([], [], []), "what is left")


def test_clients(w):
    """narrowed to clients; several instances at once, each with rules of its own"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    for address in ("10.78.0.9/24", "10.78.0.17/24"):
        subprocess.run([*far.inside, "ip", "addr", "add", address, "dev", "fwBx"], check=True)

    def peer(source, host=ORIGIN4):
        return said_peer(far.curl("--interface", source, origin.url("/peer", host)))

    for spec, taken in (("fwA,10.78.0.9", ("10.78.0.9",)), ("fwA,10.78.0.0/28,!10.78.0.2", ("10.78.0.9",)),
                        ("fwA,!10.78.0.0/28", ("10.78.0.17", INNER6)), ("fwA,fd78::/64", (INNER6,))):
        proxy = w.proxy("--interface", spec)
        for source in ("10.78.0.9", "10.78.0.17", INNER4, INNER6):
            ours = e2e.CLIENT6 if ":" in source else CLIENT4
            same(peer(source, origin.host6 if ":" in source else ORIGIN4), ours if source in taken else source,
                 f"the peer of {source} with {spec}")
        same(proxy.stop(), 0, "the exit status")
    first = w.proxy("--interface", "fwA,10.78.0.9")
    check("Another mitm-bpf" not in first.log(), "the first was told about itself")
    second = w.proxy("--interface", "fwA,10.78.0.17")
    second.said("Another mitm-bpf takes the traffic of fwA, too")
    same((peer("10.78.0.9"), peer("10.78.0.17"), peer(INNER4)), (CLIENT4, CLIENT4, INNER4), "the peers of two")
    same(len(first.flows(1)), 1, "flows of the first")
    same(first.stop(), 0, "the exit status")
    same((peer("10.78.0.9"), peer("10.78.0.17")), ("10.78.0.9", CLIENT4), "the peers of the one that is left")
    same(second.stop(), 0, "the exit status")
    same(traces(), ([], [], []), "what is left")


def test_refusals(w):
    """what cannot be is said, and nothing is left"""
    set_forwarding(w)
    Far(w)
    for words, text in (
        (("--interface", "fwZ"), "There is no interface fwZ; there are: mbA"),
        (("--interface", "lo"), "lo carries this machine's own traffic"),
        (("--interface", ""), "the name of an interface is missing"),
        (("--interface", "a-name-that-is-too-long"), "no interface can be called"),
        (("--interface", "fwA,10.0.0.0/33"), "expected a number of bits up to 32"),
        (("--interface", "fwA,me"), "me is no address of a client"),
        (("--interface", "fwA", "--mode", "tc:fwA,10.0.0.1"), "The traffic of one interface cannot be taken by two"),
        (("--mode", "tc:fwA@80"), "tc mode does not listen on a port"),
    ):
        done = w.run(e2e.MITM_BPF, "--set", "confdir=" + w.confdir, *words)
        same(done.status, 1, f"the status of {words}")
        contains(done.err, text)
        same(traces(), ([], [], []), "what is left")
    done = w.run("setpriv", "--bounding-set=-all", "--inh-caps=-all", e2e.MITM_BPF, "--set", "confdir=" + w.confdir,
                 "--interface", "fwA")
    same(done.status, 1, "the status without privilege")
    contains(done.err, "needs root, or the capabilities")


def test_capabilities(w):
    """CAP_NET_ADMIN and CAP_BPF are enough"""
    origin = w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    few = "-all,+net_admin,+bpf"
    for attach in ("tcx", "clsact"):
        proxy = w.proxy("--interface", "fwA", "--set", "tc_attach=" + attach,
                        prefix=("setpriv", "--bounding-set=" + few, "--inh-caps=-all"))
        same(said_peer(far.curl(origin.url("/peer"))), CLIENT4, "the peer")
        same(proxy.stop(), 0, "the exit status")
        same(traces(), ([], [], []), "what is left")


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def syn(source, destination, port):
    """An IPv4 packet that asks for a connection."""
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    tcp = struct.pack("!HHIIBBHHH", 4444, port, 1000, 0, 5 << 4, 2, 65535, 0, 0)
    tcp = tcp[:16] + struct.pack("!H", checksum(ends + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + ends
    return ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:] + tcp


def test_no_ethernet(w):
    """an interface without Ethernet (TUN): its packets are taken, and answered as by their destination"""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as e:
        raise Skipped(f"/dev/net/tun: {e}") from e
    w.stack.callback(os.close, fd)
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH14x", b"fwT", 0x1001))       # TUNSETIFF: IFF_TUN, IFF_NO_PI
    e2e.netlink("addr", "add", "10.79.0.1/24", "dev", "fwT")
    e2e.netlink("link", "set", "fwT", "up")
    set_forwarding(w)
    proxy = w.proxy("--interface", "fwT")
    os.write(fd, syn("10.79.0.2", "198.51.100.9", 443))

    def answered():
        try:
            packet = os.read(fd, 65536)
        except BlockingIOError:
            return False
        return packet[:1] == b"\x45" and packet[9] == 6 and packet

    packet = e2e.wait_for(5, "the SYN is answered", answered)
    same((socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])), ("198.51.100.9", "10.79.0.2"), "ends")
    same((struct.unpack("!HH", packet[20:24]), packet[33] & 0x3f), ((443, 4444), 0x12), "ports, and SYN with ACK")
    same(proxy.stop(), 0, "the exit status")


def firewall(w, *words):
    w.run("sh", stdin=w.run(e2e.MITM_BPF, "rules", *words).well().encode()).well()


def test_rules(w):
    """the firewall rules that `mitm-bpf rules` prints, applied: nftables and iptables, TPROXY and REDIRECT"""
    origin, other = w.origin(), w.origin(tls=None)
    set_forwarding(w)
    far = Far(w)
    tools = [(tool, name) for tool, name in (("--nft", "nft"), ("--iptables", "iptables")) if shutil.which(name)]
    if not tools:
        raise Skipped("needs nft or iptables")
    for tool, name in tools:
        for kind in ("--tproxy", "--redirect"):
            words = (tool, kind, "--interface", "fwA", "--port", f"{origin.port}", "--listen-port", "8081")
            older = Long(far, other)
            same(older.peer(), INNER4, "the peer before there are rules")
            modes = ("transparent@127.0.0.1:8081", "transparent@[::1]:8081") if kind == "--tproxy" else (
                "transparent@:8081",)
            firewall(w, *words)
            w.stack.callback(w.run, "sh", stdin=w.run(e2e.MITM_BPF, "rules", *words, "--undo").out.encode())
            goes = (tool, kind) == ("--nft", "--tproxy")
            direct = far.curl("--max-time", "10" if goes else "1", origin.url("/peer"), ca=w.certificates.ca)
            same(direct.status == 0, goes, "success without a proxy")
            proxy = w.proxy(*(word for mode in modes for word in ("-m", mode)))
            for host, client in ((origin.host4, INNER4), (origin.host6, INNER6)):
                path = f"/{name}{kind}?{host}"
                contains(far.curl(origin.url(path, host)).well(), f"the origin's answer to {path}")
                flow = proxy.flow(path)
                same(flow["client_conn"]["peername"][0], client, "the client")
                same(flow["server_conn"]["address"][:2], [host, origin.port], "the destination")
            same(said_peer(far.curl(other.url("/peer"))), INNER4, "the peer at a port that the rules do not name")
            same(older.peer(), INNER4, "the peer of an older connection")
            same(proxy.stop(), 0, "the exit status")
            firewall(w, *words, "--undo")
            contains(far.curl(origin.url("/direct"), ca=w.certificates.ca).well(), "the origin's answer")
            same(traces(), ([], [], []), "what is left")


def test_rules_are_checked(w):
    """rules: what is no interface or port is refused, for it would be a part of commands"""
    for words, text in ((("--interface", "a;reboot"), "is no name of an interface"),
                        (("--interface", "$(reboot)"), "is no name of an interface"),
                        (("--port", "80,x"), "expected ports or ranges"),
                        (("--port=90-80",), "expected ports or ranges"),
                        (("--listen-port", "0"), "expected a port"), (("--port",), "expected one argument"),
                        (("--frob",), "unrecognized argument")):
        done = w.run(e2e.MITM_BPF, "rules", *words)
        same((done.status, done.out), (2, ""), f"the status and output of {words}")
        contains(done.err, text)


if __name__ == "__main__":
    e2e.main(globals())
