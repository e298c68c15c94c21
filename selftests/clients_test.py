#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Clients with habits of their own: daemons, named threads, browsers, those that try both families of addresses at
once. They are taken, and whatever they can notice is what they notice without us."""
import json
import os
import re
import shutil
import subprocess
import tempfile

import e2e
from e2e import CLIENT4, CLIENT6, MITM_BPF, ORIGIN4, ORIGIN6, Skipped, check, contains, netlink, same
from programs_test import DOUBLE_FORK, FETCHER, PYTHON, ask, check_taken, servant

NAME = "origin.test"             # in the origins' certificate


# ---- who they are

def test_daemon(w):
    """a daemon that forked twice, by its ancestor's pid and by tree:"""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()
    for spec in ("%d", "tree:%d", "!tree:1,tree:%d"):
        parent = servant(w, DOUBLE_FORK, w.ca, origin.url("/daemon"))
        proxy = w.proxy(intercept=spec % parent.pid)
        pid, said = ask(parent).split(" ", 1)
        same(said, "the origin's answer to /daemon", f"what the daemon got with {spec}")
        check_taken(w, proxy, "/daemon", int(pid), "python")
        check(int(pid) != parent.pid, "it is no daemon")
        same(proxy.stop(), 0, "the exit status")


THREADS = """
import ctypes, threading
def named(name, path):
    def run():
        ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)     # PR_SET_NAME
        print(fetch(sys.argv[1], sys.argv[2] + path), flush=True)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
for line in sys.stdin:
    named("Socket Thread", "/socket-thread")
    named("Other Thread", "/other-thread")
"""


def test_threads(w):
    """a thread with a name of its own: by its program's name, and by the thread's"""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()
    both = os.path.join(w.tmp, "both.pem")
    with open(both, "w", encoding="ascii") as out:
        for path in (w.ca, w.certificates.ca):
            with open(path, encoding="ascii") as f:
                out.write(f.read())
    comm = os.path.basename(PYTHON)
    for spec, taken in ((f"comm:{comm}", ["/other-thread", "/socket-thread"]),
                        (f"comm:{comm},!comm:Socket Thread", ["/other-thread"]),
                        ("comm:Socket Thread", ["/socket-thread"]), ("cket Thr", ["/socket-thread"])):
        client = servant(w, THREADS, both, origin.url(""))
        proxy = w.proxy(intercept=spec)
        same(ask(client), "the origin's answer to /socket-thread", f"the first thread's answer with {spec}")
        same(client.stdout.readline().decode().strip(), "the origin's answer to /other-thread", "the other's")
        same(proxy.stop(), 0, "the exit status")
        same(sorted(f["request"]["path"].decode() for f in proxy.flows()), taken, f"what {spec} takes")


URING = r"""
#include <arpa/inet.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct io_uring ring;
static unsigned char flags;

static int done(void)
{
	struct io_uring_cqe *cqe;
	int result;

	io_uring_sqe_set_flags(&ring.sq.sqes[(ring.sq.sqe_tail - 1) & *ring.sq.kring_mask], flags);
	io_uring_submit(&ring);
	if (io_uring_wait_cqe(&ring, &cqe) < 0)
		exit(3);
	result = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return result;
}

/* HOST PORT PATH SETUP FLAGS: everything of a request is done by a ring. */
int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	char text[4096];
	int fd = socket(AF_INET, SOCK_STREAM, 0), n = 0;

	if (argc != 6 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	if (io_uring_queue_init(8, &ring, atoi(argv[4])) < 0)
		return 77;
	flags = atoi(argv[5]);
	printf("%d\n", getpid());
	io_uring_prep_connect(io_uring_get_sqe(&ring), fd, (struct sockaddr *)&to, sizeof(to));
	n = done();
	if (n < 0)
		return fprintf(stderr, "connect: %s\n", strerror(-n)), 1;
	n = snprintf(text, sizeof(text), "GET %s HTTP/1.0\r\nHost: origin.test\r\n\r\n", argv[3]);
	io_uring_prep_send(io_uring_get_sqe(&ring), fd, text, n, 0);
	if (done() != n)
		return 1;
	do {
		io_uring_prep_recv(io_uring_get_sqe(&ring), fd, text, sizeof(text), 0);
		n = done();
		fwrite(text, 1, n > 0 ? n : 0, stdout);
	} while (n > 0);
	return n < 0;
}
"""


def test_rings(w):
    """an io_uring client: at once, by its workers, by the kernel's own thread"""
    source, client = os.path.join(w.tmp, "ring.c"), os.path.join(w.tmp, "ringclient")
    with open(source, "w", encoding="ascii") as f:
        f.write(URING)
    if not shutil.which("gcc") or subprocess.run(["gcc", "-o", client, source, "-luring"], check=False).returncode:
        raise Skipped("needs gcc and liburing")
    origin = w.origin(tls=None)
    proxy = w.proxy(intercept="ringclient")
    for name, setup, flags in (("inline", 0, 0), ("async", 0, 16), ("sqpoll", 2, 0)):
        done = w.run(client, origin.host4, origin.port, "/ring-" + name, setup, flags)
        if done.status == 77:
            raise Skipped("no io_uring here")
        pid, said = done.well().split("\n", 1)
        contains(said, f"the origin's answer to /ring-{name}")
        check_taken(w, proxy, "/ring-" + name, int(pid), "ringclient")


# A first start, and nobody there to talk to.
CHROMIUM = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--disable-component-update", "--dump-dom")


def browser_home(w, ca):
    """A home whose NSS database trusts an authority."""
    if not shutil.which("certutil"):
        raise Skipped("needs certutil")
    home = tempfile.mkdtemp(dir=w.tmp)
    database = "sql:" + home + "/.pki/nssdb"
    os.makedirs(home + "/.pki/nssdb")
    subprocess.run(["certutil", "-N", "-d", database, "--empty-password"], check=True, capture_output=True)
    subprocess.run(["certutil", "-A", "-d", database, "-n", "ours", "-t", "C,,", "-i", ca], check=True,
                   capture_output=True)
    return home


def test_chromium(w):
    """Chromium, headless, by its name: its network process is taken; one that is not selected is not"""
    browser = next((p for p in ("chromium", "chromium-browser", "google-chrome") if shutil.which(p)), None)
    if not browser:
        raise Skipped("needs Chromium")
    origin = w.origin()
    proxy = w.proxy(intercept="chrom")

    def browse(ca, path, **options):
        home = browser_home(w, ca)
        return w.run(browser, *CHROMIUM, "--user-data-dir=" + home + "/data", origin.url(path), timeout=90,
                     env=e2e.plain_environment(HOME=home, XDG_CONFIG_HOME=home, XDG_CACHE_HOME=home), **options)
    done = browse(w.ca, "/browser")
    contains(done.well(), "the origin's answer to /browser")
    flow = proxy.flow("/browser")
    contains(flow["metadata"]["mitm_bpf.exe"], "chrom")
    contains(flow["metadata"]["mitm_bpf.cgroup"], w.cgroup_name)
    same(flow["request"]["scheme"], b"https", "the scheme")
    same(w.run(MITM_BPF, "set", "--pid", str(proxy.pid), "mode=local:curl", inside=False).status, 0, "a new spec")
    contains(browse(w.certificates.ca, "/direct").well(), "the origin's answer to /direct")
    same(proxy.stop(), 0, "the exit status")
    same([f for f in proxy.flows() if f["type"] == "http" and f["request"]["path"] == b"/direct"], [],
         "flows of the direct one")


# ---- what they notice

def hosts(w):
    """A name with both kinds of addresses, for everybody in this test's mount namespace."""
    if not os.path.exists("/etc/hosts"):
        raise Skipped("no /etc/hosts to put something over")
    path = os.path.join(w.tmp, "hosts")
    with open(path, "w", encoding="ascii") as f:
        f.write(f"127.0.0.1 localhost\n{ORIGIN6} {NAME}\n{ORIGIN4} {NAME}\n")
    subprocess.run(["mount", "--bind", path, "/etc/hosts"], check=True)
    w.stack.callback(subprocess.run, ["umount", "/etc/hosts"], check=True)


class Network:
    """Takes the world's routes away, and brings them back when the test is over."""

    def __init__(self, w):
        self.w = w

    def route(self, *words, undo=()):
        netlink(*words, netns=self.w.client_ns)
        if undo:
            self.w.stack.callback(netlink, *undo, netns=self.w.client_ns)

    def without4(self):
        self.route("addr", "del", CLIENT4 + "/24", "dev", "mbA")
        self.w.stack.callback(netlink, "route", "add", "default", "via", ORIGIN4, netns=self.w.client_ns)
        self.w.stack.callback(netlink, "addr", "add", CLIENT4 + "/24", "dev", "mbA", netns=self.w.client_ns)

    def without6(self):
        self.route("-6", "addr", "del", CLIENT6 + "/64", "dev", "mbA")
        netlink("-6", "route", "flush", "root", "fd77::/64", netns=self.w.client_ns)
        netlink("-6", "route", "del", "default", netns=self.w.client_ns)
        self.w.stack.callback(netlink, "-6", "route", "add", "default", "via", ORIGIN6, netns=self.w.client_ns)
        self.w.stack.callback(netlink, "-6", "addr", "add", CLIENT6 + "/64", "dev", "mbA", "nodad",
                              netns=self.w.client_ns)


# Each prints what it got, whom it believes to talk to, and from where.
EYEBALLS = {
    "curl": ("curl", "--disable", "--silent", "--show-error", "--max-time", "15", "--cacert", "{ca}", "--write-out",
             "%{{remote_ip}} %{{local_ip}}\n", "{url}"),
    "curl -4": ("curl", "-4", "--disable", "--silent", "--max-time", "15", "--cacert", "{ca}", "--write-out",
                "%{{remote_ip}} %{{local_ip}} %{{errormsg}}\n", "{url}"),
    "curl -6": ("curl", "-6", "--disable", "--silent", "--max-time", "15", "--cacert", "{ca}", "--write-out",
                "%{{remote_ip}} %{{local_ip}} %{{errormsg}}\n", "{url}"),
    "asyncio": (PYTHON, "-c", """
import asyncio, ssl, sys
async def main():
    context = ssl.create_default_context(cafile=sys.argv[1])
    r, w = await asyncio.open_connection(sys.argv[2], int(sys.argv[3]), ssl=context, happy_eyeballs_delay=0.25,
                                         ssl_handshake_timeout=15)
    w.write(b"GET /eyeballs HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    print((await r.readuntil(b"/eyeballs\\n")).decode().split("\\r\\n\\r\\n")[1], end="")
    print(w.get_extra_info("peername")[:2], w.get_extra_info("sockname")[0])
asyncio.run(main())
""", "{ca}", NAME, "{port}"),
    "http.client": (PYTHON, "-c", """
import http.client, ssl, sys
c = http.client.HTTPSConnection(sys.argv[2], int(sys.argv[3]), timeout=15,
                                context=ssl.create_default_context(cafile=sys.argv[1]))
c.request("GET", "/eyeballs")
print(c.getresponse().read().decode(), end="")
print(c.sock.getpeername()[:2], c.sock.getsockname()[0])
""", "{ca}", NAME, "{port}"),
    "node": ("node", "-e", """
const [ca, host, port] = process.argv.slice(1)
const r = require('https').get({host, port, path: '/eyeballs', ca: require('fs').readFileSync(ca)}, r => {
    const s = r.socket
    const who = s.remoteAddress + ' ' + s.remotePort + ' ' + s.localAddress
    r.on('data', d => process.stdout.write(d)).on('end', () => console.log(who))
}).on('error', e => { console.log(e.code); process.exit(1) })
""", "{ca}", NAME, "{port}"),
}


def looks(w, origin, ca):
    """What each client does, and finds."""
    found = {}
    for name, words in EYEBALLS.items():
        if shutil.which(words[0]):
            url = f"https://{NAME}:{origin.port}/eyeballs"
            done = w.run(*(word.format(ca=ca, url=url, port=origin.port) if "{" in word and "\n" not in word[1:-1]
                           else word for word in words), timeout=40)
            found[name] = (done.status, re.sub(r"after \d+ ms", "after a while", done.out))
    return found


def alike(w, what, served):
    """Direct and taken: the same answers, addresses and errors; served: how many clients get an answer."""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()
    direct = looks(w, origin, w.certificates.ca)
    proxy = w.proxy(intercept="curl,python,node")
    taken = looks(w, origin, w.ca)
    for name, wanted in direct.items():
        same(taken[name], wanted, f"{name} where {what}")
    well = [name for name, (status, _) in direct.items() if status == 0]
    same(len(well), len(direct) - served, f"clients that got an answer where {what}: {well}")
    same(proxy.stop(), 0, "the exit status")
    same(len(proxy.flows()), len(well), f"flows where {what}")


def test_dual_stack(w):
    """both families: clients that try them at once choose as without us, and see what they chose"""
    hosts(w)
    alike(w, "both families work", 0)


def test_only_6(w):
    """IPv6 alone: IPv4 fails as without us, and nobody has to wait for it"""
    hosts(w)
    Network(w).without4()
    alike(w, "there is no IPv4", 1)


def test_only_4(w):
    """IPv4 alone: IPv6 fails as without us, and nobody has to wait for it"""
    hosts(w)
    Network(w).without6()
    alike(w, "there is no IPv6", 1)


ERRORS = """
import errno, json, select, socket, sys
found = {}
def outcome(call):
    try:
        return call()
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
for host, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for blocking in (True, False):
        s = socket.socket(family)
        s.settimeout(10)
        s.setblocking(blocking)
        said = [outcome(lambda: s.connect((host, port)))]
        if said == ["EINPROGRESS"]:
            select.select([], [s], [], 10)
            said.append(errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0))
        said.append(outcome(lambda: s.getpeername()[:2]))
        said.append(outcome(lambda: s.getsockname()[0]))
        found[f"{host} {port} {blocking}"] = said
    s = socket.socket(family, socket.SOCK_DGRAM)        # how getaddrinfo() sorts addresses
    found[f"{host} {port} udp"] = [outcome(lambda: s.connect((host, port))), outcome(lambda: s.getsockname()[0])]
print(json.dumps(found))
"""


def test_same_errors(w):
    """networks that cannot be reached, by any kind of route or none: the errors, getpeername, getsockname of before"""
    origin = w.origin(tls=None)
    network = Network(w)
    for kind, net4, net6 in (("unreachable", "203.0.113.0/26", "2001:db8:1::/64"),
                             ("prohibit", "203.0.113.64/26", "2001:db8:2::/64"),
                             ("blackhole", "203.0.113.128/26", "2001:db8:3::/64"),
                             ("throw", "203.0.113.192/26", "2001:db8:4::/64")):
        network.route("route", "add", kind, net4, undo=("route", "del", kind, net4))
        network.route("-6", "route", "add", kind, net6, undo=("-6", "route", "del", kind, net6))
    addresses = [[host, origin.port] for host in (
        ORIGIN4, ORIGIN6, "203.0.113.1", "203.0.113.65", "203.0.113.129", "203.0.113.193", "2001:db8:1::1",
        "2001:db8:2::1", "2001:db8:3::1", "2001:db8:4::1", "255.255.255.255", "224.0.0.1", "ff02::1", "fe80::1",
        "127.0.0.1", "::1", "0.0.0.0", "::")]

    def find():
        return json.loads(w.run(PYTHON, "-c", ERRORS, json.dumps(addresses), timeout=60).well())
    before = find()
    same(before[f"{ORIGIN4} {origin.port} True"], [None, [ORIGIN4, origin.port], CLIENT4], "the test itself")
    check("ENETUNREACH" in str(before) and "EHOSTUNREACH" in str(before) and "EACCES" in str(before), before)
    proxy = w.proxy(intercept="python", loopback=False)
    after = find()
    for key, wanted in before.items():
        same(after[key], wanted, f"what python finds of {key}")
    same(proxy.stop(), 0, "the exit status")


ON_DEVICE = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
s.settimeout(10)
s.connect((sys.argv[2], int(sys.argv[3])))
s.sendall(b"GET /peer HTTP/1.0\\r\\n\\r\\n")
text = ""
while not text.endswith("\\n") or "\\r\\n\\r\\n" not in text:
    text += s.recv(4096).decode() or sys.exit(f"only {text}")
print(text.split("\\r\\n\\r\\n")[1].split()[0].removeprefix("::ffff:"))
"""


def test_device(w):
    """a socket that is bound to a device: its connection leaves there, although another way is shorter"""
    origin = w.origin(tls=None)
    netlink("link", "add", "mbC", "type", "veth", "peer", "name", "mbD")
    w.stack.callback(netlink, "link", "del", "mbC")
    netlink("link", "set", "mbD", "netns", f"/proc/{os.getpid()}/fd/{w.origin_ns}")
    for ns, link, end in ((w.client_ns, "mbC", 1), (w.origin_ns, "mbD", 2)):
        netlink("addr", "add", f"10.79.0.{end}/24", "dev", link, netns=ns)
        netlink("-6", "addr", "add", f"fd79::{end}/64", "dev", link, "nodad", netns=ns)
        netlink("link", "set", link, "up", netns=ns)
    netlink("route", "add", "default", "via", "10.79.0.2", "metric", "2000")
    netlink("-6", "route", "add", "default", "via", "fd79::2", "metric", "2000")

    def find():
        return [w.run(PYTHON, "-c", ON_DEVICE, device, host, origin.port).well().strip()
                for device in ("mbA", "mbC") for host in (ORIGIN4, ORIGIN6)]
    wanted = [CLIENT4, CLIENT6, "10.79.0.1", "fd79::1"]
    same(find(), wanted, "who asks without us")
    for io in ("uring", "epoll"):
        proxy = w.proxy(intercept="python", loopback=False, io=io)
        same(find(), wanted, "who asks")
        same(len(proxy.flows(4)), 4, "flows")
        same(proxy.stop(), 0, "the exit status")


FAST_OPEN = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(s.sendto(b"GET /fast-send HTTP/1.0\\r\\n\\r\\n", socket.MSG_FASTOPEN, (sys.argv[1], int(sys.argv[2]))))
print(s.getpeername()[:2], s.getsockname()[0])
text = ""
while not text.endswith("/fast-send\\n"):
    text += s.recv(4096).decode() or sys.exit(f"only {text}")
"""


def test_fast_open(w):
    """data with the first packet: curl --tcp-fastopen, sendto(MSG_FASTOPEN)"""
    origin = w.origin(tls=None)
    hosts_of = (origin.host4, origin.host6)
    before = [w.run(PYTHON, "-c", FAST_OPEN, host, origin.port).well() for host in hosts_of]
    proxy = w.proxy(intercept="python,curl")
    after = [w.run(PYTHON, "-c", FAST_OPEN, host, origin.port).well() for host in hosts_of]
    same(after, before, "what the program was told")
    for host in hosts_of:
        done = w.curl("--tcp-fastopen", origin.url("/fast-curl", host))
        contains(done.well(), "the origin's answer to /fast-curl")
    same(sorted(f["request"]["path"] for f in proxy.flows(4)), [b"/fast-curl"] * 2 + [b"/fast-send"] * 2, "the flows")


if __name__ == "__main__":
    e2e.main(globals())
