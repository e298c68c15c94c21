#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Real programs, unchanged, with mitm-bpf beside them: who is taken, who is not, and that neither notices."""
import os
import re
import shutil
import subprocess
import textwrap

import e2e
from e2e import Skipped, check, contains, same

PYTHON = "/usr/bin/python3"
URLLIB = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[1])
sys.stdout.write(urllib.request.urlopen(sys.argv[2], context=context, timeout=10).read().decode())
"""
# Reads lines "CA URL" and answers each with the origin's answer, or what went wrong.
SERVANT = """
import os, ssl, sys, urllib.request
def fetch(ca, url):
    try:
        context = ssl.create_default_context(cafile=ca)
        return urllib.request.urlopen(url, context=context, timeout=10).read().decode().strip()
    except OSError as e:
        return f"failed: {e}"
"""


def check_taken(w, proxy, path, pid, exe):
    """The flow says who it was. Its text is the origin's."""
    flow = proxy.flow(path)
    own = flow["metadata"]
    same(own["mitm_bpf.pid"], pid, "the flow's pid")
    contains(own["mitm_bpf.exe"], exe, "the flow's exe")
    contains(own["mitm_bpf.cgroup"], w.cgroup_name, "the flow's cgroup")
    same(own["mitm_bpf.cgroup_id"], os.stat(w.cgroup).st_ino, "the flow's cgroup id")
    contains(flow["response"]["content"].decode(), "the origin's answer to " + path)
    return flow


def untouched(w, origin, path, program="curl"):
    """The program sees the origin's own certificate."""
    contains(w.curl(origin.url(path), ca=w.certificates.ca).well(), "the origin's answer to " + path)


def core(w, **options):
    """curl over both families, wget, urllib and s_client, from namespace to namespace; all of them are taken."""
    origin = w.origin()
    proxy = w.proxy(intercept="curl,wget,python,openssl", **options)
    for host in (origin.host4, origin.host6):
        done = w.curl(origin.url(f"/curl?{host}", host))
        contains(done.well(), f"the origin's answer to /curl?{host}")
        flow = check_taken(w, proxy, f"/curl?{host}", done.pid, "curl")
        same(flow["server_conn"]["address"][:2], [host, origin.port], "the server's address")
        same(flow["request"]["port"], origin.port, "the request's port")
    for host in (origin.host4, origin.host6):
        if not shutil.which("wget"):
            break
        done = w.run("wget", "--no-config", "--quiet", "--output-document=-", "--ca-certificate", w.ca, "--timeout=10",
                     "--tries=1", origin.url("/wget", host))
        contains(done.well(), "the origin's answer to /wget")
    check_taken(w, proxy, "/wget", proxy.flow("/wget")["metadata"]["mitm_bpf.pid"], "wget")
    for host in (origin.host4, origin.host6):
        done = w.run(PYTHON, "-c", URLLIB, w.ca, origin.url(f"/urllib?{host}", host))
        contains(done.well(), "the origin's answer to /urllib")
        check_taken(w, proxy, f"/urllib?{host}", done.pid, "python")
    for host in (origin.host4, f"[{origin.host6}]"):
        done = w.run("openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", w.ca, "-servername",
                     "origin.test", "-connect", f"{host}:{origin.port}",
                     stdin=f"GET /s_client?{host} HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n".encode())
        contains(done.out, "the origin's answer to /s_client")
        flow = check_taken(w, proxy, f"/s_client?{host}", done.pid, "openssl")
        same(flow["client_conn"]["sni"], "origin.test", "the flow's sni")
    return proxy


def test_core_epoll(w):
    """curl, wget, urllib and openssl over IPv4 and IPv6 are taken by name (--io epoll)"""
    same(core(w, io="epoll").stop(), 0, "the exit status")


def test_core_uring(w):
    """curl, wget, urllib and openssl over IPv4 and IPv6 are taken by name (--io uring)"""
    done = subprocess.run([e2e.MITM_BPF, "doctor"], capture_output=True, check=False, text=True)
    if re.search(r"^missing.*io_uring", done.stdout, re.M):
        raise Skipped("this machine has no io_uring")
    same(core(w, io="uring").stop(), 0, "the exit status")


def test_plain_http(w):
    """plain HTTP is taken like TLS, to loopback as well, over both families"""
    origin = w.origin(tls=None, where="loopback")
    proxy = w.proxy(intercept="curl")
    for host in ("127.0.0.1", "[::1]", "localhost"):
        done = w.curl(f"http://{host}:{origin.port}/plain?{host}")
        contains(done.well(), "the origin's answer")
        check_taken(w, proxy, f"/plain?{host}", done.pid, "curl")


def test_loopback_off(w):
    """without steer_loopback, loopback is left alone"""
    origin = w.origin(where="loopback")
    proxy = w.proxy(intercept="curl", loopback=False)
    untouched(w, origin, "/loopback")
    same(proxy.stop(), 0, "the exit status")
    same(proxy.flows(), [], "the flows")


def servant(w, body, *words):
    return w.start(PYTHON, "-c", SERVANT + textwrap.dedent(body), *words, stdin=subprocess.PIPE)


def ask(process, line="go"):
    process.stdin.write(line.encode() + b"\n")
    process.stdin.flush()
    return process.stdout.readline().decode().strip()


FETCHER = """
for line in sys.stdin:
    print(fetch(*sys.argv[1:3]), flush=True)
"""


def test_pid(w):
    """by pid: this process, and no other of the same program"""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()      # the CA exists
    chosen, other = (servant(w, FETCHER, ca, origin.url("/pid")) for ca in (w.ca, w.certificates.ca))
    proxy = w.proxy(intercept=str(chosen.pid))
    same(ask(chosen), "the origin's answer to /pid", "the chosen one's answer")
    same(ask(other), "the origin's answer to /pid", "the other's answer, which trusts only the origin")
    check_taken(w, proxy, "/pid", chosen.pid, "python")
    same(len(proxy.flows()), 1, "the number of flows")


DOUBLE_FORK = """
for line in sys.stdin:
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            print(os.getpid(), fetch(*sys.argv[1:3]), flush=True)
            os._exit(0)
        os._exit(0)
    os.wait()
"""


def test_child(w):
    """by pid: a grandchild that forked twice and left the session follows, before the rule and after it"""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()
    parent = servant(w, DOUBLE_FORK, w.ca, origin.url("/child"))
    # A child that is there before mitm-bpf is.
    elder = servant(w, """
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", sys.argv[3], *sys.argv[1:3]], stdin=sys.stdin)
        child.wait()
        """, w.ca, origin.url("/elder"), SERVANT + FETCHER)
    e2e.wait_for(5, "the child runs", lambda: open(f"/proc/{elder.pid}/task/{elder.pid}/children",
                                                   encoding="ascii").read().strip())
    proxy = w.proxy(intercept=f"{parent.pid},{elder.pid}")
    pid, said = ask(parent).split(" ", 1)
    same(said, "the origin's answer to /child", "the grandchild's answer")
    check_taken(w, proxy, "/child", int(pid), "python")
    same(ask(elder), "the origin's answer to /elder", "the elder child's answer")
    check(proxy.flow("/elder")["metadata"]["mitm_bpf.pid"] != elder.pid, "the child's own pid is in the flow")


def test_curl_under_pid(w):
    """by pid of a shell: the curl it runs later is taken"""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()
    shell = w.start("sh", "-c", 'while read x; do curl --disable -sS --cacert "$0" "$1"; done', w.ca,
                    origin.url("/from-a-shell"), stdin=subprocess.PIPE)
    proxy = w.proxy(intercept=str(shell.pid))
    same(ask(shell), "the origin's answer to /from-a-shell", "curl's answer")
    contains(proxy.flow("/from-a-shell")["metadata"]["mitm_bpf.exe"], "curl")


def test_cgroup(w):
    """--cgroup alone: everybody in it, nobody outside it"""
    origin = w.origin()
    proxy = w.proxy("--cgroup", w.cgroup)
    done = w.run(PYTHON, "-c", URLLIB, w.ca, origin.url("/inside"))
    contains(done.well(), "the origin's answer to /inside")
    check_taken(w, proxy, "/inside", done.pid, "python")
    contains(w.curl(origin.url("/inside-too")).well(), "the origin's answer")
    done = w.curl(origin.url("/outside"), ca=w.certificates.ca, inside=False)
    contains(done.well(), "the origin's answer to /outside")
    same(proxy.stop(), 0, "the exit status")
    same(sorted(f["request"]["path"] for f in proxy.flows()), [b"/inside", b"/inside-too"], "the flows")


def test_exclusion_of_a_pid(w):
    """python,!PID: all of the program's processes but that one"""
    origin = w.origin()
    w.proxy(intercept="nobody").stop()
    chosen, other = (servant(w, FETCHER, ca, origin.url("/pid")) for ca in (w.ca, w.certificates.ca))
    proxy = w.proxy(intercept=f"python,!{other.pid}")
    same(ask(other), "the origin's answer to /pid", "the excluded one's answer")
    same(ask(chosen), "the origin's answer to /pid", "the taken one's answer")
    same(proxy.flow("/pid")["metadata"]["mitm_bpf.pid"], chosen.pid, "the flow's pid")
    same(len(proxy.flows()), 1, "the number of flows")


def test_exclusion_order(w):
    """the order of a spec counts: curl,!curl | !curl,curl | !curl | curl,!wget | !wget,!curl"""
    origin = w.origin()
    for spec, taken in (("curl,!curl", False), ("!curl,curl", True), ("!curl", False), ("curl,!wget", True),
                        ("!wget,!curl", False), ("!wget", True), ("nobody", False)):
        proxy = w.proxy(intercept=spec)
        done = w.curl(origin.url("/order"), ca=w.ca if taken else w.certificates.ca)
        check(done.status == 0, f"{spec}: {done.err}")
        same(proxy.stop(), 0, "the exit status")
        same(len(proxy.flows()), int(taken), f"the number of flows of {spec}")


def test_excluded_is_untouched(w):
    """an excluded program sees the origin's own certificate while others are taken"""
    origin = w.origin()
    proxy = w.proxy(intercept="!curl")
    untouched(w, origin, "/direct")
    contains(w.curl("--verbose", origin.url("/direct"), ca=w.certificates.ca).err, "O=The origins", "curl's issuer")
    done = w.run(PYTHON, "-c", URLLIB, w.ca, origin.url("/others"))
    contains(done.well(), "the origin's answer to /others")
    same(proxy.stop(), 0, "the exit status")
    same([f["request"]["path"] for f in proxy.flows()], [b"/others"], "the flows")


def test_own_upstream(w):
    """mitm-bpf among those it takes: its own connections to servers are never taken"""
    origin = w.origin()
    proxy = w.proxy("--cgroup", w.cgroup, inside=True)
    with open(os.path.join(w.cgroup, "cgroup.procs"), encoding="ascii") as f:
        contains(f.read().split(), str(proxy.pid), "the cgroup")
    contains(w.curl(origin.url("/once")).well(), "the origin's answer to /once")
    same(origin.connections, 1, "the number of connections to the origin")
    same(proxy.stop(), 0, "the exit status")
    same(len(proxy.flows()), 1, "the number of flows")


PEER = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
print(s.getpeername()[:2], flush=True)
s.sendall(b"GET /peer HTTP/1.0\\r\\n\\r\\n")
s.recv(100)
print(s.getpeername()[:2])
print(s.getsockname()[0])
"""


def test_getpeername(w):
    """getpeername and getsockname tell what they told without us, over both families"""
    origin = w.origin(tls=None)
    hosts = (origin.host4, origin.host6)
    before = [w.run(PYTHON, "-c", PEER, host, origin.port).well() for host in hosts]
    proxy = w.proxy(intercept="python")
    after = [w.run(PYTHON, "-c", PEER, host, origin.port).well() for host in hosts]
    same(after, before, "what the program was told")
    same(len(proxy.flows(2)), 2, "the number of flows")


PARALLEL = """
import asyncio, ssl, sys
ca, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
context = ssl.create_default_context(cafile=ca)
everybody = asyncio.Event()
waiting = 0
async def one(i):
    global waiting
    r, w = await asyncio.open_connection(host, port, ssl=context, ssl_handshake_timeout=40)
    waiting += 1
    if waiting == count:
        everybody.set()
    await everybody.wait()      # all of them are open at once
    w.write(b"GET /parallel?%d HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n" % i)
    text = await r.read()
    w.close()
    return text.endswith(b"the origin's answer to /parallel?%d\\n" % i)
async def all_of_them():
    return await asyncio.gather(*(one(i) for i in range(count)), return_exceptions=True)
results = asyncio.run(all_of_them())
print(sum(r is True for r in results), next((repr(r) for r in results if r is not True), ""))
"""


def test_parallel(w):
    """500 TLS connections at once, each with its own answer and flow"""
    origin = w.origin()
    proxy = w.proxy("--set", "flow_detail=0", intercept="python")
    done = w.run(PYTHON, "-c", PARALLEL, w.ca, origin.host4, origin.port, 500, timeout=60)
    same(done.well().strip(), "500", "the number of right answers")
    flows = proxy.flows(500)
    same(len({f["request"]["path"] for f in flows}), 500, "the number of different flows")
    for flow in flows:
        contains(flow["response"]["content"], b"the origin's answer to " + flow["request"]["path"] + b"\n")


def test_doctor(w):
    """mitm-bpf doctor finds what interception needs on a machine where it works"""
    done = w.run(e2e.MITM_BPF, "doctor", "--set", "confdir=" + w.confdir, inside=False)
    same(done.status, 0, "the exit status: " + done.out)


if __name__ == "__main__":
    e2e.main(globals())
