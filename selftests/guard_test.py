#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""No broken application: what its connections meet when mitm-bpf hangs, is stopped, is killed or is told to leave them
alone; and two mitm-bpf at once."""
import contextlib
import ctypes
import os
import re
import signal
import time

import e2e
from e2e import LIBC, MITM_BPF, Failed, check, contains, same, wait_for

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000

# One connection: who served it. "direct": the origin sees our own source port.
ASK = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
    s.sendall(b"GET /peer HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    text = b""
    while True:
        more = s.recv(4096)
        if not more:
            break
        text += more
        if b"\\r\\n\\r\\n" in text and text.endswith(b"\\n"):
            break
    print("direct" if int(text.split()[-1]) == s.getsockname()[1] else "taken")
except OSError as e:
    print(type(e).__name__)
"""


def who(w, origin, seconds=20, host=None, port=None):
    """Who serves a connection of a python: taken, direct, or the error's name."""
    return w.run("/usr/bin/python3", "-c", ASK, host or origin.host4, port or origin.port, seconds,
                 timeout=30).well().strip()


def wait_who(w, origin, wanted, seconds=30):
    wait_for(seconds, f"connections are {wanted}", lambda: who(w, origin, 2) == wanted)


def pinned():
    """The folders of instances in the BPF file system, wherever it is."""
    found = []
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for where in [line.split()[1] for line in mounts if line.split()[2] == "bpf"]:
            with contextlib.suppress(FileNotFoundError):
                found += os.listdir(os.path.join(where, "mitm-bpf"))
    return found


@contextlib.contextmanager
def frozen(tid):
    """One thread stands still, and only that one."""
    def ptrace(request):
        if LIBC.ptrace(request, tid, None, None) < 0:
            raise Failed(f"ptrace({request}): " + os.strerror(ctypes.get_errno()))
    ptrace(PTRACE_SEIZE)
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(tid, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH)


def threads(proxy, name):
    found = []
    for tid in os.listdir(f"/proc/{proxy.pid}/task"):
        with open(f"/proc/{proxy.pid}/task/{tid}/comm", encoding="utf-8") as comm:
            if comm.read().strip() == name:
                found.append(int(tid))
    return found


# ---- standing still

def test_worker_hangs(w):
    """a worker that hangs: new connections go direct, and are taken again when it moves"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--workers", "2", intercept="python")
    same(who(w, origin), "taken", "who serves before")
    with frozen(threads(proxy, "worker-1")[0]):
        proxy.said("worker 1 has not moved for 3 seconds: new connections of selected processes go direct", 30)
        for _ in range(10):
            same(who(w, origin), "direct", "who serves while it hangs")
    proxy.said("worker 1 moves again", 30)
    wait_who(w, origin, "taken")
    same(proxy.stop(), 0, "the exit status")


def test_stopped(w):
    """a mitm-bpf that is stopped (Ctrl-Z): new connections go direct, and are taken again when it goes on"""
    origin = w.origin(tls=None)
    proxy = w.proxy(intercept="python")
    same(who(w, origin), "taken", "who serves before")
    os.kill(proxy.pid, signal.SIGSTOP)
    try:
        wait_who(w, origin, "direct")
    finally:
        os.kill(proxy.pid, signal.SIGCONT)
    wait_who(w, origin, "taken")
    check("has not moved" not in proxy.log(), "nobody took the pause for a worker that hangs")
    same(proxy.stop(), 0, "the exit status")


def test_reader_stands_still(w):
    """a reader of its output that stands still holds back the master, not the connections"""
    origin = w.origin(tls=None)
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    proxy = w.proxy(intercept="python", stdout=write)
    os.close(write)
    for _ in range(8):
        same(who(w, origin), "taken", "who serves")
        time.sleep(1)
    os.close(read)
    proxy.stop()


HOLD = """
import socket, sys, time
held = []
for _ in range(int(sys.argv[3])):
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((sys.argv[1], int(sys.argv[2])))
    held.append(s)
print("held", flush=True)
time.sleep(1000)
"""


def test_crowded(w):
    """a mitm-bpf that can take no more connections: new ones go direct until some close"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--workers", "1", intercept="python", prefix=("prlimit", "--nofile=160:160"))
    same(who(w, origin), "taken", "who serves before")
    holder = w.start("/usr/bin/python3", "-c", HOLD, origin.host4, origin.port, 100)
    same(holder.stdout.readline(), b"held\n", "the holder")
    proxy.said("can take no more connections: new ones of selected processes go direct", 30)
    for _ in range(5):
        same(who(w, origin), "direct", "who serves while too much is open")
    e2e.end(holder)
    wait_who(w, origin, "taken")
    same(proxy.stop(), 0, "the exit status")


# ---- fail closed

def test_fail_closed(w):
    """--fail-closed: after kill -9 connections of the selected are refused until `mitm-bpf release`"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--fail-closed", intercept="python,!curl")
    same(who(w, origin), "taken", "who serves before")
    same(len(pinned()), 1, "the number of pinned instances")
    contains(pinned()[0], f"{os.stat(w.cgroup).st_ino}-{proxy.pid}", "its name")
    contains(w.run(MITM_BPF, "release").well(), f"process {proxy.pid} still runs")
    same(who(w, origin), "taken", "who serves after a release that was none")
    os.kill(proxy.pid, signal.SIGKILL)
    proxy.process.wait()
    for _ in range(10):
        same(who(w, origin), "ConnectionRefusedError", "what a connection meets")
    time.sleep(6)                           # the lease is over: it is the program itself that refuses
    same(who(w, origin), "ConnectionRefusedError", "what a connection meets later")
    contains(w.curl(origin.url("/curl")).well(), "the origin's answer", "what those meet that are not selected")
    contains(w.run(MITM_BPF, "release").well(), f"Released: cgroup /{w.cgroup_name}, which process {proxy.pid} kept")
    same(who(w, origin), "direct", "who serves after the release")
    same(pinned(), [], "what is pinned")
    contains(w.run(MITM_BPF, "release").well(), "Nothing is kept")


def test_fail_closed_clean(w):
    """--fail-closed: a clean end lets connections go direct, and leaves nothing"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--fail-closed", intercept="python")
    same(who(w, origin), "taken", "who serves before")
    same(proxy.stop(), 0, "the exit status")
    same(who(w, origin), "direct", "who serves afterwards")
    same(pinned(), [], "what is pinned")


def test_fail_closed_children(w):
    """--fail-closed: the children of a selected process are still refused when it was killed"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--fail-closed", intercept="sh")
    ask = f"/usr/bin/python3 -c '{ASK}' {origin.host4} {origin.port} 5"
    parent = w.start("sh", "-c", f"{ask}; read x; {ask}; true", stdin=-1)
    same(parent.stdout.readline().strip(), b"taken", "who serves the first child")
    os.kill(proxy.pid, signal.SIGKILL)
    proxy.process.wait()
    parent.stdin.write(b"\n")
    parent.stdin.flush()
    same(parent.stdout.readline().strip(), b"ConnectionRefusedError", "what the next child meets")
    w.run(MITM_BPF, "release").well()


# Never pauses; each outcome with its time.
LOAD = """
import socket, sys, time
host, port, out = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w", buffering=1)
while True:
    try:
        s = socket.create_connection((host, port), 5)
        s.sendall(b"GET /peer HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        text = b""
        while b"\\r\\n\\r\\n" not in text or not text.endswith(b"\\n"):
            more = s.recv(4096)
            if not more:
                raise OSError("cut")
            text += more
        who = "direct" if int(text.split()[-1]) == s.getsockname()[1] else "taken"
        s.close()
    except OSError as e:
        who = type(e).__name__
    print(who, file=out)
"""


def test_takes_over(w):
    """--fail-closed: the next one takes over under load, and no connection goes direct in between"""
    origin = w.origin(tls=None)
    first = w.proxy("--fail-closed", intercept="python")
    out = os.path.join(w.tmp, "takes-over")
    load = [w.start("/usr/bin/python3", "-c", LOAD, origin.host4, origin.port, f"{out}-{i}") for i in range(2)]

    def results():
        found = []
        for i in range(2):
            with contextlib.suppress(FileNotFoundError), open(f"{out}-{i}", encoding="utf-8") as f:
                found += f.read().split("\n")[:-1]
        return found
    wait_for(20, "the load is taken", lambda: results().count("taken") > 50)
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    wait_for(20, "the load is refused", lambda: results().count("ConnectionRefusedError") > 50)
    taken = results().count("taken")
    second = w.proxy("--fail-closed", intercept="python")
    wait_for(20, "the load is taken again", lambda: results().count("taken") > taken + 50)
    contains(second.log(), f"Took over from process {first.pid}", "what the second one says")
    for process in load:
        e2e.end(process)
    same(results().count("direct"), 0, "the number of direct connections")
    same([int(name.split("-")[1]) for name in pinned()], [second.pid], "whose pins there are")
    # Without the option it takes over as well, and keeps nobody off afterwards.
    os.kill(second.pid, signal.SIGKILL)
    second.process.wait()
    third = w.proxy(intercept="python")
    same(who(w, origin), "taken", "who serves")
    same(pinned(), [], "what is pinned")
    os.kill(third.pid, signal.SIGKILL)
    third.process.wait()
    same(who(w, origin), "direct", "who serves when that one is killed")


def test_elsewhere(w):
    """--fail-closed: a leftover in another cgroup stays, and the next one says so"""
    origin = w.origin(tls=None)
    other = os.path.join(w.cgroup, "other")
    os.mkdir(other)
    w.stack.callback(os.rmdir, other)
    proxy = w.proxy("--mode", "local:python", "--cgroup", other, "--fail-closed")
    os.kill(proxy.pid, signal.SIGKILL)
    proxy.process.wait()
    again = w.proxy(intercept="python")
    contains(again.log(), "in 1 other cgroup are still refused", "what it says")
    same(who(w, origin), "taken", "who serves")
    same(len(pinned()), 1, "the number of leftovers")
    contains(w.run(MITM_BPF, "release").well(), "/other, which process")


def test_fail_closed_hangs(w):
    """--fail-closed: while a worker hangs, connections are refused"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--fail-closed", "--workers", "1", intercept="python")
    same(who(w, origin), "taken", "who serves before")
    with frozen(threads(proxy, "worker-0")[0]):
        proxy.said("are refused until it does", 30)
        same(who(w, origin), "ConnectionRefusedError", "what a connection meets")
    wait_who(w, origin, "taken")
    same(proxy.stop(), 0, "the exit status")


def test_fail_closed_stopped(w):
    """--fail-closed: a local mode that is stopped lets go, and one that is started again holds on"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--fail-closed", intercept="python")
    same(who(w, origin), "taken", "who serves before")
    w.run(MITM_BPF, "set", "--pid", proxy.pid, "server=false").well()
    same(who(w, origin), "direct", "who serves when it is stopped")
    w.run(MITM_BPF, "set", "--pid", proxy.pid, "server=true").well()
    same(who(w, origin), "taken", "who serves when it runs again")
    os.kill(proxy.pid, signal.SIGKILL)
    proxy.process.wait()
    same(who(w, origin), "ConnectionRefusedError", "what a connection meets")
    contains(w.run(MITM_BPF, "release").well(), "Released")
    same(who(w, origin), "direct", "who serves after the release")


# ---- left alone in the kernel

def test_ignored_address(w):
    """ignore_hosts with an address: such connections never enter the proxy, others do"""
    origin, other = w.origin(tls=None), w.origin(tls=None)
    proxy = w.proxy("--ignore-hosts", rf"^10\.77\.0\.2:{origin.port}$|^fd77::2:{origin.port}$", intercept="python")
    same(who(w, origin), "direct", "who serves what is ignored")
    same(who(w, origin, host=origin.host6), "direct", "who serves what is ignored, over IPv6")
    same(who(w, origin, host="::ffff:" + origin.host4), "direct", "who serves it from an IPv6 socket")
    check("client connect" not in proxy.log(), "nothing came to the proxy")
    same(who(w, other), "taken", "who serves the same address's other port")
    same(proxy.stop(), 0, "the exit status")


def test_ignored_shown(w):
    """show_ignored_hosts: what is ignored passes through the proxy, and is shown"""
    origin = w.origin(tls=None)
    proxy = w.proxy("--ignore-hosts", r"^10\.77\.", "--show-ignored-hosts", intercept="python")
    same(who(w, origin), "taken", "who serves")
    same(proxy.flows(1)[0]["type"], "tcp", "the flow's type")


# Connects again and again from one process; trusts the origin's own authority alone. A try that comes before the proxy
# has read the alert of the one before may be refused as well.
PINNED = """
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[3])
refused, wanted = False, int(sys.argv[4])
for _ in range(20):
    if not wanted:
        break
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as raw:
            with context.wrap_socket(raw, server_hostname="origin.test") as s:
                s.sendall(b"GET /peer HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                text = b""
                while b"\\r\\n\\r\\n" not in text or not text.endswith(b"\\n"):
                    text += s.recv(4096) or b"\\r\\n\\r\\n?\\n"
                print("direct" if int(text.split()[-1]) == s.getsockname()[1] else "taken")
                wanted -= 1
    except ssl.SSLCertVerificationError:
        if not refused:
            print("refused")
            refused = True
"""


def pinned_client(w, origin, count):
    return w.run("/usr/bin/python3", "-c", PINNED, origin.host4, origin.port, w.certificates.ca, count).well().split()


def test_learned(w):
    """tls_passthrough_failed: who refused our certificate is relayed once more, and then left alone in the kernel"""
    origin, other = w.origin(), w.origin()
    proxy = w.proxy("--set", "tls_passthrough_failed=true", intercept="python")
    same(pinned_client(w, origin, 3), ["refused", "taken", "direct", "direct"], "what its connections meet")
    same(pinned_client(w, origin, 3), ["taken", "direct", "direct"], "what those of another process meet")
    same(pinned_client(w, other, 2), ["refused", "taken", "direct"], "what those to another port meet")
    same(proxy.stop(), 0, "the exit status")


def test_learned_shown(w):
    """show_ignored_hosts: what was learned is relayed, and shown"""
    origin = w.origin()
    w.proxy("--set", "tls_passthrough_failed=true", "--show-ignored-hosts", intercept="python")
    same(pinned_client(w, origin, 3), ["refused", "taken", "taken", "taken"], "what its connections meet")


# ---- the cgroup goes

# Leaves its cgroup with a socket that was made in it, and connects when it is told to.
LEAVES = ASK.replace("try:", """
s = socket.socket()
open(sys.argv[4], "w").write("0")
print("left", flush=True)
sys.stdin.readline()
try:""").replace("s = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))",
                 "s.settimeout(float(sys.argv[3]))\n    s.connect((sys.argv[1], int(sys.argv[2])))")


def removed(cgroup):
    try:
        os.rmdir(cgroup)
    except OSError:
        return False
    return True


def test_cgroup_removed(w):
    """a cgroup that is removed: it is said, its sockets are still taken, and so is the next one of that name"""
    origin = w.origin(tls=None)
    outer = w.cgroup
    w.cgroup = os.path.join(outer, "service")
    os.mkdir(w.cgroup)
    w.stack.callback(removed, w.cgroup)
    w.stack.callback(setattr, w, "cgroup", outer)
    proxy = w.proxy(intercept="python")
    same(who(w, origin), "taken", "who serves before")
    client = w.start("/usr/bin/python3", "-c", LEAVES, origin.host4, origin.port, 20,
                     os.path.join(outer, "cgroup.procs"), stdin=-1)
    same(client.stdout.readline(), b"left\n", "the client")
    wait_for(10, "the group is empty", lambda: removed(w.cgroup))
    proxy.said(f"the cgroup {w.cgroup} was removed: nobody is intercepted", 10)
    client.stdin.write(b"\n")
    client.stdin.flush()
    same(client.stdout.readline().strip(), b"taken", "who serves a socket that was made in it, and lives on")
    os.mkdir(w.cgroup)
    proxy.said(f"the cgroup {w.cgroup} is there again, and intercepted", 10)
    same(who(w, origin), "taken", "who serves then")
    same(proxy.stop(), 0, "the exit status")


# ---- two at once

def takes(proxy, wanted):
    """So many connections came to it, and when it is at its end there were no more."""
    wait_for(10, f"{wanted} connections are logged", lambda: proxy.log().count("client connect") >= wanted)
    same(proxy.log().count("client connect"), wanted, "the number of connections that it took")


def ends(proxy, took):
    same(proxy.stop(), 0, "the exit status")
    takes(proxy, took)


def test_two(w):
    """two on one cgroup: the first takes what both select, once; the second is told, and takes over when that ends"""
    origin, near = w.origin(tls=None), w.origin(tls=None, where="loopback")
    first = w.proxy(intercept="python")
    second = w.proxy(intercept="python3,!node")
    second.said(f"The mitm-bpf with the process id {first.pid} also selects python", 10)
    second.said("was there first, so that it takes them")
    for one, address in ((origin, origin.host4), (origin, origin.host6), (near, "127.0.0.1"), (near, "::1")):
        same(who(w, one, host=address), "taken", f"who serves {address}")
    ends(first, 4)
    same(who(w, origin), "taken", "who serves then")
    ends(second, 1)


def test_two_nested(w):
    """one on a cgroup within the other's: the inner one takes what both select, once, and whoever is second is told"""
    origin, near = w.origin(tls=None), w.origin(tls=None, where="loopback")
    outer_group, w.cgroup = w.cgroup, os.path.join(w.cgroup, "inner")
    os.mkdir(w.cgroup)
    w.stack.callback(setattr, w, "cgroup", outer_group)
    w.stack.callback(os.rmdir, w.cgroup)
    loopback = ("--set", "steer_loopback=true")
    outer = w.proxy("--intercept", "python", "--cgroup", outer_group, *loopback)
    inner = w.proxy(intercept="python")
    inner.said("on a cgroup that holds ours, so that they are taken here", 10)
    for one, address in ((origin, origin.host4), (near, "127.0.0.1"), (near, "::1")):
        same(who(w, one, host=address), "taken", f"who serves {address}")
    takes(inner, 3)
    ends(outer, 0)
    outer = w.proxy("--intercept", "python", "--cgroup", outer_group, *loopback)
    outer.said("on a cgroup within ours, so that it takes them", 10)


def test_two_apart(w):
    """two with different selections: each takes its own, nothing is said; until one is changed so that they meet"""
    origin = w.origin(tls=None)
    first = w.proxy(intercept="python,!curl")
    second = w.proxy(intercept="curl")
    same(who(w, origin), "taken", "who serves a python")
    contains(w.curl(origin.url("/curl")).well(), "the origin's answer")
    takes(first, 1)
    takes(second, 1)
    check("also selects" not in first.log() + second.log(), "nobody was told anything")
    client = w.start("/usr/bin/python3", "-c", "import time; time.sleep(1000)")
    wait_for(10, "the client runs", lambda: "python" in os.readlink(f"/proc/{client.pid}/exe"))
    exe = os.readlink(f"/proc/{client.pid}/exe")
    w.run(MITM_BPF, "set", "--pid", second.pid, f"mode=local:exe:{exe}").well()
    second.said(f"also selects process {client.pid} (python3)", 10)


def test_two_with_itself(w):
    """a selection in other words that mean everybody is told as such"""
    first = w.proxy(intercept="!curl")
    second = w.proxy(intercept="!wget,!node")
    second.said(f"process id {first.pid} also selects everybody whom neither excludes", 10)


if __name__ == "__main__":
    e2e.main(globals())
