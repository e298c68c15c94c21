#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Processes in network namespaces of their own, as containers are: taken, decrypted, dialled from where they are, and
their namespaces let go when they have left."""
import contextlib
import ctypes
import os
import re
import subprocess
import sys
import threading
import time

import containers_test
import e2e
from e2e import (CLIENT4, CLIENT6, CLONE_NEWNET, LIBC, MITM_BPF, ORIGIN4, ORIGIN6, check, contains, netlink, same,
                 wait_for)

SCALE = int(os.environ.get("SELFTEST_SCALE", "100"))


def in_namespace(ns, what):
    """what() on a thread that is in the namespace; ns None: in a new one."""
    result = []

    def run():
        if (LIBC.setns(ns, CLONE_NEWNET) if ns is not None else LIBC.unshare(CLONE_NEWNET)) < 0:
            raise OSError(ctypes.get_errno(), "namespace")
        result.append(what())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return result[0]


class Container:
    """A namespace with a veth to the origin's and an address of its own; commands run in it and in the cgroup."""
    count = 0

    def __init__(self, w, v4=True, v6=True, lo=True, link=True):
        Container.count += 1
        self.w, n = w, Container.count
        self.ns = in_namespace(None, lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        w.stack.callback(self.close)
        self.inode = os.fstat(self.ns).st_ino
        self.v4, self.v6 = f"10.78.{n // 250}.{n % 250 + 2}", f"fd78:{n:x}::2"
        self.outer = f"mc{n}"
        if lo:
            netlink("link", "set", "lo", "up", netns=self.ns)
        if link:
            self.connect(v4, v6, n)

    def connect(self, v4, v6, n):
        w = self.w
        netlink("link", "add", self.outer, "type", "veth", "peer", "name", "eth0", netns=w.origin_ns)
        netlink("link", "set", "eth0", "netns", f"/proc/{os.getpid()}/fd/{self.ns}", netns=w.origin_ns)
        w.stack.callback(self.unlink)
        netlink("link", "set", self.outer, "up", netns=w.origin_ns)
        netlink("link", "set", "eth0", "up", netns=self.ns)
        if v4:
            netlink("addr", "add", self.v4 + "/32", "dev", "eth0", netns=self.ns)
            netlink("route", "add", "default", "dev", "eth0", netns=self.ns)
            netlink("route", "add", self.v4, "dev", self.outer, netns=w.origin_ns)
        if v6:
            netlink("-6", "addr", "add", self.v6 + "/64", "dev", "eth0", "nodad", netns=self.ns)
            netlink("-6", "addr", "add", f"fd78:{n:x}::1/64", "dev", self.outer, "nodad", netns=w.origin_ns)
            netlink("-6", "route", "add", "default", "via", f"fd78:{n:x}::1", netns=self.ns)

    def unlink(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            netlink("link", "del", self.outer, netns=self.w.origin_ns)

    def close(self):
        if self.ns is not None:
            os.close(self.ns)
        self.ns = None

    def words(self, *command):
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.ns}", *command]

    def run(self, *command, **options):
        return self.w.run(*self.words(*command), **options)

    def start(self, *command, **options):
        return self.w.start(*self.words(*command), **options)

    def curl(self, *words, ca=None, **options):
        return self.run("curl", "--disable", "--silent", "--show-error", "--max-time", "10", "--cacert",
                        ca or self.w.ca, *words, **options)

    def listens(self):
        """Does somebody listen on the loopback address?"""
        def look():
            found = False
            for name, loopback in (("tcp", "0100007F:"), ("tcp6", "00000000000000000000000001000000:")):
                with open(f"/proc/thread-self/net/{name}", encoding="ascii") as f:
                    found = found or any(loopback in line and " 0A " in line for line in f)
            return found
        return in_namespace(self.ns, look)

    def hold(self):
        """A process that stays, and the endpoint that is made for it."""
        process = self.start("sleep", "1000")
        wait_for(10, "something listens in the namespace", self.listens)
        time.sleep(0.2)             # the kernel is told of it a moment after, of which there is no sign outside
        return process

    def is_gone(self):
        """The other end of its link goes with it."""
        done = subprocess.run(["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.w.origin_ns}", "ip", "link", "show",
                               self.outer], capture_output=True, check=False)
        return done.returncode != 0


def everybody(w):
    return f"cgroup:/{w.cgroup_name}"


def taken(w, c, proxy, path="/", url=None, origin=None):
    done = c.curl(url or origin.url(path))
    body = done.well()
    flow = proxy.flow(path)
    same(flow["metadata"]["mitm_bpf.pid"], done.pid, "the flow's pid")
    return body, flow


def test_taken(w):
    """A process in another namespace is taken and decrypted; the origin sees it come from there"""
    origin = w.origin()
    for io in ("uring", "epoll"):
        proxy, c = w.proxy(intercept=everybody(w), loopback=False, io=io), Container(w)
        c.hold()
        body, flow = taken(w, c, proxy, "/peer", origin=origin)
        same(body.split()[0].replace("::ffff:", ""), c.v4, "where the origin is asked from")
        same(flow["server_conn"]["address"][0], ORIGIN4, "the flow's destination")
        body, flow = taken(w, c, proxy, "/peer?6", url=origin.url("/peer?6", ORIGIN6))
        same(body.split()[0], c.v6, "where the origin is asked from over IPv6")
        same(flow["server_conn"]["address"][0], ORIGIN6, "the flow's destination over IPv6")
        for number in range(30):
            taken(w, c, proxy, f"/{number}", origin=origin)
        proxy.stop()


NAMES = """
import socket, sys
for host, port in ((sys.argv[1], int(sys.argv[3])), (sys.argv[2], int(sys.argv[3]))):
    s = socket.create_connection((host, port))
    print(s.getpeername()[0], s.getpeername()[1] == port, s.getsockname()[0], flush=True)
    s.close()
"""


def test_names(w):
    """getpeername and getsockname say what they would without us"""
    origin = w.origin()
    proxy, c = w.proxy(intercept=everybody(w), loopback=False), Container(w)
    c.hold()
    said = c.run(sys.executable, "-c", NAMES, ORIGIN4, ORIGIN6, origin.port).well()
    same(said.split(), [ORIGIN4, "True", c.v4, ORIGIN6, "True", c.v6], "what the sockets are called")
    wait_for(5, "both connections were taken", lambda: proxy.log().count(": client connect") >= 2)


LATER = 'until grep -q "0100007F:.* 0A " /proc/net/tcp; do sleep 0.01; done; exec "$@"'


def test_first(w):
    """The first connection of a namespace that appears later is taken: the endpoint is there before it"""
    origin = w.origin()
    proxy = w.proxy(intercept=everybody(w), loopback=False)
    c = Container(w)
    check(not c.listens(), "an endpoint is there before anybody needs it")
    done = c.run("sh", "-c", LATER, "sh", "curl", "--disable", "--silent", "--show-error", "--cacert", w.ca,
                 origin.url("/first"))
    contains(done.well(), "the origin's answer to /first")
    proxy.flow("/first")
    same(origin.connections, 1, "connections at the origin")
    # how often without waiting: not asserted, because it depends on who else uses this machine
    both = both_authorities(w)
    times = 20
    for number in range(times):
        fresh = Container(w)
        fresh.curl(origin.url(f"/at-once/{number}"), ca=both).well()
    time.sleep(0.5)
    first = sum(f["request"]["path"].startswith(b"/at-once/") for f in proxy.flows())
    e2e.diag(f"{first} of {times} programs that connect at once in a fresh namespace are taken with that")
    check(first > 0, "none of the first connections was taken")


def both_authorities(w):
    path = w.certificates.path("both.pem")
    with open(path, "w", encoding="ascii") as out:
        for ca in (w.ca, w.certificates.ca):
            with open(ca, encoding="ascii") as part:
                out.write(part.read())
    return path


def test_by_connection(w):
    """Who comes into a namespace without exec is noticed by its first connection; the next one is taken"""
    origin = w.origin()
    proxy, c = w.proxy(intercept=everybody(w), loopback=False), Container(w)
    script = ("import os, socket, sys, time, ctypes\n"
              "assert ctypes.CDLL(None).setns(os.open(sys.argv[1], 0), 0x40000000) == 0\n"
              "for i in range(1000):\n"
              "    s = socket.create_connection((sys.argv[2], int(sys.argv[3])))\n"
              "    s.sendall(b'GET /%d HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' % i)\n"
              "    s.recv(1000)\n"
              "    s.close()\n"
              "    if open('/proc/thread-self/net/tcp').read().count('0100007F:') > 0 and i > 3: break\n"
              "    time.sleep(0.02)\n")
    plain = w.origin(tls=None)
    done = w.run(sys.executable, "-c", script, f"/proc/{os.getpid()}/fd/{c.ns}", ORIGIN4, plain.port)
    done.well()
    found = proxy.flows(1)
    check(found, "nothing was taken")
    same({f["metadata"]["mitm_bpf.pid"] for f in found}, {done.pid}, "whose the flows are")
    same(origin.connections, 0, "connections to somebody else")


THREAD = """
import ctypes, os, socket, sys, threading
def elsewhere():
    assert ctypes.CDLL(None).setns(os.open(sys.argv[1], 0), 0x40000000) == 0
    for line in sys.stdin:
        s = socket.create_connection((sys.argv[2], int(sys.argv[3])))
        s.sendall(b'GET /%s HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n' % line.strip().encode())
        s.recv(1000)
        s.close()
        print("done", flush=True)
thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
sys.stdin.read()
"""


def test_thread(w):
    """Only a thread of a process is in another namespace: it is taken there, for as long as it is there"""
    origin, c = w.origin(tls=None), Container(w)
    proxy = w.proxy(intercept=everybody(w), loopback=False)
    process = w.start(sys.executable, "-c", THREAD, f"/proc/{os.getpid()}/fd/{c.ns}", ORIGIN4, origin.port,
                      stdin=subprocess.PIPE)

    def ask(path):
        process.stdin.write(path.encode() + b"\n")
        process.stdin.flush()
        same(process.stdout.readline(), b"done\n", "the thread's answer")
    ask("first")
    wait_for(10, "something listens in the namespace", c.listens)
    ask("second")
    same(proxy.flow("/second")["metadata"]["mitm_bpf.pid"], process.pid, "the flow's pid")
    time.sleep(4)                            # longer than a namespace is kept that nobody is in
    check(c.listens(), "the thread was not seen")
    ask("third")
    proxy.flow("/third")
    process.stdin.close()
    wait_for(15, "the namespace is let go", lambda: not c.listens())


def test_private_pids(w):
    """From a private pid namespace others cannot be found: said once, and connections go direct"""
    origin, c = w.origin(), Container(w)
    proxy = w.proxy(intercept="curl", loopback=False, prefix=("unshare", "--pid", "--fork", "--kill-child",
                                                              "--mount-proc"))
    for number in range(2):
        contains(c.curl(origin.url(f"/{number}"), ca=w.certificates.ca).well(), f"answer to /{number}")
        time.sleep(0.3)
    proxy.said("other network namespaces cannot be found from a private pid namespace")
    same(proxy.log().count("private pid namespace"), 1, "how often it is said")
    contains(w.curl(origin.url("/home")).well(), "answer to /home")


def test_own_service(w):
    """The container's own service on loopback is left alone"""
    origin = w.origin()
    proxy, c = w.proxy(intercept=everybody(w), loopback=False), Container(w)
    c.hold()
    folder = w.mount_small("100k")
    with open(os.path.join(folder, "hello"), "w", encoding="ascii") as f:
        f.write("inside")
    c.start(sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory", folder)
    done = c.curl("--retry", "20", "--retry-connrefused", "--retry-delay", "1", "http://127.0.0.1:8000/hello")
    same(done.well(), "inside")
    taken(w, c, proxy, "/after", origin=origin)
    same([f for f in proxy.flows() if f["request"]["path"] == b"/hello"], [], "flows of the service")


def test_loopback_by_option(w):
    """steer_loopback takes it, and finds it: loopback means that of the namespace"""
    proxy = w.proxy("--set", "upstream_netns=host", intercept=everybody(w), loopback=True)
    c = Container(w)
    c.hold()
    folder = w.mount_small("100k")
    with open(os.path.join(folder, "hello"), "w", encoding="ascii") as f:
        f.write("inside")
    c.start(sys.executable, "-m", "http.server", "8000", "--bind", "127.0.0.1", "--directory", folder)
    done = wait_for(20, "the service answers", lambda: (lambda d: d.out == "inside" and d)(
        c.curl("http://127.0.0.1:8000/hello")))
    wait_for(3, "a flow of it", lambda: any(f["metadata"]["mitm_bpf.pid"] == done.pid for f in proxy.flows()))


HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
try:
    print("data" if s.recv(1) else "end", flush=True)
except OSError as e:
    print(e.errno, flush=True)
"""


def test_reset_existing(w):
    """--reset-existing: connections that were open in other namespaces, too"""
    origin, c, other = w.origin(tls=None), Container(w), Container(w)
    process = c.start(sys.executable, "-c", HOLD, ORIGIN4, origin.port)
    bystander = other.start(sys.executable, "-c", HOLD, ORIGIN4, origin.port, inside=False)
    for one in (process, bystander):
        same(one.stdout.readline(), b"connected\n", "what it says first")
    proxy = w.proxy("--reset-existing", intercept=everybody(w), loopback=False)
    proxy.said("Connections that were open already and have been reset: 1.", 10)
    same(process.stdout.readline(), b"103\n", "how the connection ended")
    same(bystander.poll(), None, "the end of one that is not selected")


def test_upstream_host(w):
    """upstream_netns=host: the proxy's own namespace asks the origin"""
    origin = w.origin()
    proxy = w.proxy("--set", "upstream_netns=host", intercept=everybody(w), loopback=False)
    c = Container(w)
    c.hold()
    body, _ = taken(w, c, proxy, "/peer", origin=origin)
    same(body.split()[0].replace("::ffff:", ""), CLIENT4, "where the origin is asked from")
    body, _ = taken(w, c, proxy, "/peer?6", url=origin.url("/peer?6", ORIGIN6))
    same(body.split()[0], CLIENT6, "where the origin is asked from over IPv6")


def errno_of(c, host, port):
    script = ("import socket, sys\ntry:\n"
              "    socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n    print(0)\n"
              "except OSError as e:\n    print(e.errno)\n")
    return int(c.run(sys.executable, "-c", script, host, port).well())


def test_one_family(w):
    """A namespace without IPv6, and one without IPv4: what is unreachable stays so, the rest is taken"""
    origin = w.origin()
    proxy, four, six = w.proxy(intercept=everybody(w), loopback=False), Container(w, v6=False), Container(w, v4=False)
    four.hold()
    six.hold()
    same(errno_of(four, ORIGIN6, origin.port), 101, "the error for IPv6 where there is none")
    same(errno_of(six, ORIGIN4, origin.port), 101, "the error for IPv4 where there is none")
    same(origin.connections, 0, "connections at the origin")
    taken(w, four, proxy, "/four", origin=origin)
    taken(w, six, proxy, "/six", url=origin.url("/six", ORIGIN6))
    netlink("route", "del", "default", netns=four.ns)
    wait_for(5, "IPv4 is unreachable", lambda: errno_of(four, ORIGIN4, origin.port) == 101)
    netlink("route", "add", "default", "dev", "eth0", netns=four.ns)
    before = origin.connections
    wait_for(5, "IPv4 is there again", lambda: errno_of(four, ORIGIN4, origin.port) == 0)
    check(origin.connections >= before, "the origin was not asked")


def test_late_loopback(w):
    """A namespace whose loopback interface comes up later is served from then on, and not while it is down"""
    origin = w.origin()
    proxy, c = w.proxy(intercept=everybody(w), loopback=False), Container(w, lo=False)
    c.start("sleep", "1000")
    contains(c.curl(origin.url("/down"), ca=w.certificates.ca).well(), "answer to /down")
    netlink("link", "set", "lo", "up", netns=c.ns)
    wait_for(10, "something listens in the namespace", c.listens)
    both = both_authorities(w)

    def is_taken():
        c.curl(origin.url("/up"), ca=both).well()
        return any(f["request"]["path"] == b"/up" for f in proxy.flows())
    wait_for(10, "it is taken", is_taken)
    netlink("link", "set", "lo", "down", netns=c.ns)
    wait_for(10, "it works without loopback", lambda: c.curl(origin.url("/down"), ca=w.certificates.ca).status == 0)


def namespaces_of(proxy):
    """Inodes of the namespaces that its descriptors hold."""
    found = set()
    for name in os.listdir(f"/proc/{proxy.pid}/fd"):
        with contextlib.suppress(OSError):
            link = re.fullmatch(r"net:\[(\d+)\]", os.readlink(f"/proc/{proxy.pid}/fd/{name}"))
            if link:
                found.add(int(link.group(1)))
    return found


def test_release(w):
    """When the last process has left, the namespace is let go, and is gone; one that is used again is taken again"""
    origin = w.origin()
    proxy, c, stays = w.proxy(intercept=everybody(w), loopback=False), Container(w), Container(w)
    before = proxy.descriptors()
    process, other = c.hold(), stays.hold()
    taken(w, c, proxy, "/one", origin=origin)
    taken(w, stays, proxy, "/two", origin=origin)
    check({c.inode, stays.inode} <= namespaces_of(proxy), "the namespaces are not held")
    e2e.end(process)
    c.close()
    wait_for(15, "the namespace is gone", c.is_gone)
    same(namespaces_of(proxy) & {c.inode, stays.inode}, {stays.inode}, "the namespaces that are held")
    taken(w, stays, proxy, "/three", origin=origin)
    e2e.end(other)
    wait_for(15, "nothing listens there", lambda: not stays.listens())
    wait_for(15, "as many descriptors as before", lambda: proxy.descriptors() <= before)
    stays.hold()
    taken(w, stays, proxy, "/four", origin=origin)


def test_changes(w):
    """Local mode is stopped and started again, and its spec is changed: processes that are there are taken again"""
    origin = w.origin()
    proxy, c = w.proxy(intercept="nobody-has-this-name", loopback=False), Container(w)

    def use(setting):
        w.run(MITM_BPF, "set", "--pid", proxy.pid, setting, inside=False).well()
    c.start("sleep", "1000")
    contains(c.curl(origin.url("/0"), ca=w.certificates.ca).well(), "answer to /0")
    check(not c.listens(), "an endpoint that nobody needs")
    use("mode=local:" + everybody(w))
    wait_for(10, "something listens in the namespace", c.listens)
    taken(w, c, proxy, "/1", origin=origin)
    use("server=false")
    contains(c.curl(origin.url("/2"), ca=w.certificates.ca).well(), "answer to /2")
    use("server=true")
    taken(w, c, proxy, "/3", origin=origin)


def named(w, **containers):
    """/run/netns with these in it, for nobody but this test."""
    os.makedirs("/run/netns", exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run/netns"], check=True)
    w.stack.callback(subprocess.run, ["umount", "--recursive", "/run/netns"], check=True)
    for name, c in containers.items():
        bind(name, c)


def bind(name, c):
    path = "/run/netns/" + name
    with open(path, "w", encoding="ascii"):
        pass
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/fd/{c.ns}", path], check=True)


def test_selector(w):
    """netns:NAME, a path, a number, an exclusion, one that appears later; ps says who is where"""
    blue, red = Container(w), Container(w)
    named(w, blue=blue, red=red)
    origin = w.origin()
    proxy = w.proxy(intercept="netns:blue", loopback=False)
    proxy.said('Include processes in network namespace "blue".')

    def ask(*words):
        return w.run(MITM_BPF, words[0], "--pid", proxy.pid, *words[1:], inside=False)

    def only(c, other, *specs):
        for number, spec in enumerate(specs):
            ask("set", "mode=local:" + spec).well()
            holders = [c.start("sleep", "1000"), other.start("sleep", "1000")]
            wait_for(10, f"something listens in the namespace of {spec}", c.listens)
            taken(w, c, proxy, f"/{c.outer}/{number}", origin=origin)
            contains(other.curl(origin.url("/not"), ca=w.certificates.ca).well(), "answer to /not")
            for holder in holders:
                e2e.end(holder)
    only(blue, red, "netns:blue", "netns:/run/netns/blue", f"netns:[{blue.inode}]", f"netns:{blue.inode}",
         f"netns:net:[{blue.inode}]")
    only(red, blue, everybody(w) + ",!netns:blue", "curl,sleep,!netns:blue")
    contains(w.run("curl", "--disable", "--silent", "--show-error", "--cacert", w.ca, origin.url("/here")).well(),
             "answer to /here")
    holder = red.start("sleep", "1000")

    def row():
        return next(line for line in ask("ps").well().splitlines() if line.startswith(f"{holder.pid} "))
    wait_for(10, "ps says where it is", lambda: "netns:red" in row())
    contains(row(), "taken")
    contains(ask("set", "mode=local:netns:green").err, 'no network namespace is called "green"; known are: ')
    green = Container(w)
    ask("set", f"mode=local:netns:[{green.inode}]").well()
    green.hold()
    taken(w, green, proxy, "/green", origin=origin)


def test_no_privilege(w):
    """Without CAP_SYS_ADMIN there: said once for each namespace, and its connections go direct"""
    origin = w.origin()
    proxy = w.proxy(intercept=everybody(w), loopback=False, prefix=("setpriv", "--bounding-set", "-sys_admin"))
    c = Container(w)
    for number in range(3):
        contains(c.curl(origin.url(f"/{number}"), ca=w.certificates.ca).well(), f"answer to /{number}")
        time.sleep(0.3)
    said = f"network namespace net:[{c.inode}]: cannot be entered (Operation not permitted), which takes CAP_SYS_ADMIN"
    proxy.said(said)
    same(proxy.log().count("cannot be entered"), 1, "how often it is said")
    contains(w.curl(origin.url("/home")).well(), "answer to /home")
    proxy.flow("/home")


def test_full(w):
    """More namespaces than the limit of open files allows: said once, and the others go direct"""
    origin = w.origin()
    limit, most = 240, 10
    proxy = w.proxy(intercept=everybody(w), loopback=False, prefix=("prlimit", f"--nofile={limit}:{limit}"))
    containers = [Container(w) for _ in range(most + 2)]
    holders = [c.hold() for c in containers[:most]]
    for number, c in enumerate(containers[most:]):
        contains(c.curl(origin.url(f"/{number}"), ca=w.certificates.ca).well(), f"answer to /{number}")
    proxy.said(f"{most} network namespaces have an endpoint already, as many as the limit of open files (ulimit -n) "
               "allows; connections from others go direct until some are let go")
    same(proxy.log().count("have an endpoint already"), 1, "how often it is said")
    taken(w, containers[0], proxy, "/first", origin=origin)
    e2e.end(holders[1])
    wait_for(15, "one is let go", lambda: not containers[1].listens())
    containers[most].hold()
    taken(w, containers[most], proxy, "/next", origin=origin)


def test_fail_closed(w):
    """--fail-closed: refused where there is no endpoint yet, taken where there is one; other processes go direct"""
    origin = w.origin()
    proxy = w.proxy("--fail-closed", intercept="python,sleep,!curl", loopback=False)
    down, c = Container(w, lo=False), Container(w)
    down.start("sleep", "1000")
    same(errno_of(down, ORIGIN4, origin.port), 111, "the error where there is none")
    same(origin.connections, 0, "connections at the origin")
    contains(down.curl(origin.url("/curl"), ca=w.certificates.ca).well(), "answer to /curl")
    c.hold()
    same(errno_of(c, ORIGIN4, origin.port), 0, "the error where there is one")
    wait_for(5, "it was taken", lambda: ": client connect" in proxy.log())
    same(proxy.stop(), 0, "the exit status")
    same(errno_of(down, ORIGIN4, origin.port), 0, "the error without us")


def test_death(w):
    """kill -9: the next connection goes direct, and nothing of us stays in the namespace"""
    origin = w.origin()
    proxy, c = w.proxy(intercept=everybody(w), loopback=False), Container(w)
    c.hold()
    taken(w, c, proxy, "/before", origin=origin)
    proxy.process.kill()
    proxy.process.wait()
    contains(c.curl(origin.url("/after"), ca=w.certificates.ca).well(), "answer to /after")
    wait_for(5, "nothing listens there", lambda: not c.listens())


def memory(pid):
    """KiB: of the process, of the kernel's slabs, and available."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        own = int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M).group(1))
    with open("/proc/meminfo", encoding="ascii") as f:
        info = dict(re.findall(r"^(\w+):\s+(\d+)", f.read(), re.M))
    return own, int(info["Slab"]), int(info["MemAvailable"])


def test_many(w):
    """Many namespaces, each with a connection: all are taken; what one costs"""
    origin = w.origin()
    proxy = w.proxy(intercept="nobody-has-this-name", loopback=False)
    containers = [Container(w) for _ in range(SCALE)]
    holders = [c.start("sleep", "1000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in containers]
    before, descriptors = memory(proxy.pid), proxy.descriptors()
    w.run(MITM_BPF, "set", "--pid", proxy.pid, "mode=local:" + everybody(w), inside=False).well()
    for c in containers:
        wait_for(60, "something listens in every namespace", c.listens)
    idle = memory(proxy.pid)
    each = (proxy.descriptors() - descriptors) / SCALE
    for number, c in enumerate(containers):
        contains(c.curl(origin.url(f"/{number}")).well(), f"the origin's answer to /{number}")
    same(len({f["request"]["path"] for f in proxy.flows(SCALE, 30)}), SCALE, "how many are taken")
    used = memory(proxy.pid)
    for what, now in (("with its endpoint", idle), ("after a connection with TLS, and its flow", used)):
        own, slab, gone = now[0] - before[0], now[1] - before[1], before[2] - now[2]
        e2e.diag(f"{SCALE} namespaces, each {what}: {own / SCALE:.1f} KiB of the proxy, {slab / SCALE:.1f} KiB of the "
                 f"machine's slabs, {gone / SCALE:.1f} KiB less memory available on it, {each:.1f} descriptors")
    check(SCALE < 100 or (idle[0] - before[0]) / SCALE < 100, "the proxy's own share of an endpoint")
    for holder in holders:
        holder.kill()
    for holder in holders:
        holder.wait()
    for c in containers:
        c.close()
    wait_for(60, "all namespaces are gone", lambda: all(c.is_gone() for c in containers))


def test_podman(w):
    """A podman container with a network of its own: taken by name; fresh ones from their first connection on

    The last one: the runtime leaves the cgroup to groups below it alone.
    """
    places = [Container(w) for _ in range(6)]
    named(w, **{f"place{number}": c for number, c in enumerate(places)})
    podman, origin = containers_test.Podman(w), w.origin()
    web = podman.container("web", network="ns:/run/netns/place0")
    proxy = w.proxy(intercept="container:web", loopback=False)
    wait_for(10, "something listens in the container", places[0].listens)
    done = web.curl(origin.url("/peer"), "--insecure")
    same(done.well().split()[0].replace("::ffff:", ""), places[0].v4, "where the origin is asked from")
    contains(proxy.flow("/peer")["metadata"]["mitm_bpf.cgroup"], web.id)
    w.run(MITM_BPF, "set", "--pid", proxy.pid, "mode=local:" + everybody(w), inside=False).well()
    for number in range(1, len(places)):
        done = podman("run", *podman.options(f"fresh{number}"), "--network", f"ns:/run/netns/place{number}", "--rootfs",
                      podman.folder + "/rootfs", "/bin/curl", "--silent", "--show-error", "--insecure",
                      origin.url(f"/fresh/{number}"))
        contains(done.well(), "answer to /fresh")
    time.sleep(0.5)
    first = sum(f["request"]["path"].startswith(b"/fresh/") for f in proxy.flows())
    e2e.diag(f"{first} of {len(places) - 1} containers that do nothing but connect are taken with that")
    check(first > 0, "none of the first connections was taken")


if __name__ == "__main__":
    e2e.main(globals())
