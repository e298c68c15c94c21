#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""How mitm-bpf starts, refuses to start, ends, is killed and runs out of things; and what its clients notice of it."""
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time

import e2e
from e2e import Failed, Skipped, check, contains, same, wait_for

PYTHON = "/usr/bin/python3"

# Connects without pause. Each connection is one line: when it began and ended, and who served it: directly (the origin
# sees our own source address), by the proxy, or what went wrong.
LOAD = """
import socket, sys, time
host, port, out = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w", buffering=1)
while True:
    began = time.monotonic()
    try:
        s = socket.create_connection((host, port), 5)
        own = s.getsockname()[1]
        s.sendall(b"GET /peer HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        text = b""
        while not text.endswith(b"\\n") or b"\\r\\n\\r\\n" not in text:
            more = s.recv(4096)
            if not more:
                raise OSError("cut")
            text += more
        s.close()
        who = "direct" if int(text.split()[-1]) == own else "taken"
    except OSError as e:
        who = "failed " + str(e)
    print(began, time.monotonic(), who, file=out)
"""


class Load:
    """Client processes that connect without pause."""

    def __init__(self, w, origin, count=4):
        self.files = [os.path.join(w.tmp, f"load-{time.monotonic()}-{i}") for i in range(count)]
        self.processes = [w.start(PYTHON, "-c", LOAD, origin.host4, origin.port, f) for f in self.files]

    def results(self):
        found = []
        for path in self.files:
            try:
                with open(path, encoding="utf-8") as f:
                    lines = f.read().split("\n")[:-1]
            except FileNotFoundError:
                continue
            for line in lines:
                began, ended, who = line.split(" ", 2)
                found.append((float(began), float(ended), who))
        return found

    def count(self, who, since=0.0):
        return sum(w.startswith(who) and began >= since for began, _, w in self.results())

    def stop(self):
        for p in self.processes:
            p.kill()
        for p in self.processes:
            p.wait()


def check_failures(load, at):
    """None before, none 100 ms after; what failed between was open at that moment."""
    for began, ended, who in load.results():
        if who.startswith("failed"):
            check(began < at + 0.1 and ended > at, f"{who}: {began - at:+.3f} to {ended - at:+.3f} s of the end")
    failures = load.count("failed")
    check(failures <= 2 * len(load.processes), f"{failures} failures with {len(load.processes)} clients")


def test_kill_9(w):
    """kill -9 under load: connections go direct at once, and only what was open fails"""
    origin = w.origin(tls=None)
    proxy = w.proxy(intercept="python")
    load = Load(w, origin)
    wait_for(10, "the load is taken", lambda: load.count("taken") > 100)
    at = time.monotonic()
    os.kill(proxy.pid, signal.SIGKILL)
    contains(w.curl(origin.url("/next"), inside=True).well(), "the origin's answer to /next")
    wait_for(10, "the load goes direct", lambda: load.count("direct", at) > 200)
    load.stop()
    check_failures(load, at)
    same(load.count("taken", at + 0.1), 0, "the number of connections taken afterwards")
    check(len(e2e.read_flows(proxy.file)) > 50, "the flow file holds what was finished")
    # The kernel ends a killed process between two pages of its write(2): the next one cuts such a flow off.
    w.proxy("-m", "regular@127.0.0.1:0", "-w", "+" + proxy.file).stop()
    e2e.read_flows(proxy.file, strict=True)


def test_again_after_kill_9(w):
    """after a kill -9 the next mitm-bpf takes over, and its flows follow the old ones in the file"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    contains(w.curl(origin.url("/before")).well(), "the origin's answer")
    proxy.flow("/before")
    os.kill(proxy.pid, signal.SIGKILL)
    proxy.process.wait()
    again = w.proxy("-w", "+" + proxy.file, intercept="curl")
    contains(w.curl(origin.url("/after")).well(), "the origin's answer")
    same(again.stop(), 0, "the exit status")
    same([f["request"]["path"] for f in e2e.read_flows(proxy.file, strict=True)], [b"/before", b"/after"], "the flows")


def test_stop_under_load(w):
    """SIGTERM under load: no connection fails at all"""
    origin = w.origin(tls=None)
    proxy = w.proxy(intercept="python")
    load = Load(w, origin)
    wait_for(10, "the load is taken", lambda: load.count("taken") > 100)
    at = time.monotonic()
    same(proxy.stop(), 0, "the exit status")
    wait_for(10, "the load goes direct", lambda: load.count("direct", at) > 200)
    load.stop()
    same([f"{who} {began - at:+.3f} {ended - at:+.3f}" for began, ended, who in load.results() if "failed" in who], [],
         "the failures")


def slow_download(w, origin, proxy, path):
    process = w.start("curl", "--disable", "-sS", "--cacert", w.ca, origin.url(path))
    wait_for(5, "the download began", lambda: any(r[1] == path for r in origin.requests))
    return process


def drains(w, sig):
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    download = slow_download(w, origin, proxy, "/slow/20/0.2")
    time.sleep(0.3)
    proxy.process.send_signal(sig)
    wait_for(3, "new connections go direct",
             lambda: w.curl(origin.url("/direct"), ca=w.certificates.ca).status == 0)
    check(proxy.process.poll() is None, "mitm-bpf did not wait for the download")
    out, err = download.communicate(timeout=10)
    same((out, download.returncode), (b"0123456789" * 20, 0), f"the download ({err.decode()})")
    same(proxy.process.wait(2), 0, "the exit status")
    contains(proxy.log(), "open connections have")
    flow, = e2e.read_flows(proxy.file, strict=True)
    same(flow["response"]["content"], b"0123456789" * 20, "the flow's body")
    same(flow["error"], None, "the flow's error")


def test_sigint_drains(w):
    """SIGINT: a download in flight finishes, new connections go direct at once, exit status 0"""
    drains(w, signal.SIGINT)


def test_sigterm_drains(w):
    """SIGTERM: the same"""
    drains(w, signal.SIGTERM)


def test_idle_does_not_hold(w):
    """an idle keep-alive connection does not hold up the end"""
    origin = w.origin(tls=None)
    proxy = w.proxy(intercept="python")
    client = w.start(PYTHON, "-c", """
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
c.request("GET", "/idle")
print(c.getresponse().read().decode().strip(), flush=True)
print(repr(c.sock.recv(10)), flush=True)
""", origin.host4, origin.port)
    contains(client.stdout.readline(), b"answer to /idle", "the first answer")
    same(proxy.stop(signal.SIGINT), 0, "the exit status")
    check("open connections have" not in proxy.log(), "it waited")
    contains(client.stdout.readline(), b"b''", "the end of the idle connection")


def test_second_sigint(w):
    """a second SIGINT ends at once; the unfinished flow is in the file"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    download = slow_download(w, origin, proxy, "/slow/100/0.1")
    time.sleep(0.5)
    proxy.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    check(proxy.process.poll() is None, "mitm-bpf did not wait for the download")
    start = time.monotonic()
    same(proxy.stop(signal.SIGINT), 0, "the exit status")
    check(time.monotonic() - start < 5, "it waited, though not to the end")
    download.communicate(timeout=5)
    check(download.returncode in (18, 56), f"curl did not say that the download was cut: {download.returncode}")
    flow, = e2e.read_flows(proxy.file, strict=True)
    same(flow["request"]["path"], b"/slow/100/0.1", "the unfinished flow")


def test_drain_has_an_end(w):
    """what does not finish is cut after the drain's limit, and still recorded"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    slow_download(w, origin, proxy, "/slow/100/0.5")
    proxy.process.send_signal(signal.SIGTERM)
    proxy.said("open connections have")
    limit = int(re.search(r"open connections have (\d+) seconds", proxy.log()).group(1))
    start = time.monotonic()
    same(proxy.process.wait(limit + 5), 0, "the exit status")
    check(limit - 1 < time.monotonic() - start < limit + 2, f"it ended after {time.monotonic() - start:.1f} s")
    same(len(e2e.read_flows(proxy.file, strict=True)), 1, "the number of flows")


# ---- what it refuses, and how

def refuses(w, *words, status=1, says=(), **options):
    """mitm-bpf does not start, and says why in one line."""
    start = time.monotonic()
    proxy = w.proxy(*words, wait=False, **options)
    try:
        got = proxy.process.wait(5)
    except subprocess.TimeoutExpired:
        raise Failed(f"it started, or hangs: {proxy.log()}") from None
    log = proxy.log()
    same(got, status, f"the exit status ({log})")
    check(time.monotonic() - start < 3, "it took too long")
    for text in says:
        contains(log, text, "the message")
    same(len([line for line in log.splitlines() if "error" in line or line.startswith("mitm-bpf:")]), 1,
         f"the number of messages ({log})")


def test_port_in_use(w):
    """a port in use: says which, and what to do"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(w, "--mode", "regular", "-p", str(port), says=(str(port), "in use", "-p"))


def test_two_of_us(w):
    """two mitm-bpf on one port: the second says so, the first goes on"""
    origin = w.origin()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first = w.proxy("--mode", "regular", "-p", str(port))
    refuses(w, "--mode", "regular", "-p", str(port), says=(str(port), "in use"))
    contains(w.curl("--proxy", f"http://127.0.0.1:{port}", origin.url("/first")).well(), "the origin's answer")
    same(first.stop(), 0, "the exit status")


def public_program(w):
    """A copy that an unprivileged user can reach, with a folder to write to: (program, folder)."""
    folder = tempfile.mkdtemp(prefix="mitm-bpf-public.", dir="/tmp")
    w.stack.callback(shutil.rmtree, folder, ignore_errors=True)
    os.chown(folder, 65534, 65534)
    shutil.copy(e2e.MITM_BPF, folder)
    os.chmod(folder, 0o755)
    shutil.copy(w.certificates.ca, folder)
    os.chmod(os.path.join(folder, "ca.pem"), 0o644)
    return os.path.join(folder, "mitm-bpf"), folder


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all")


def run_as_nobody(w, *words):
    program, folder = public_program(w)
    return w.run(*NOBODY, program, "--set", f"confdir={folder}/confdir", *words, inside=False)


def test_not_root(w):
    """--intercept without root: says so, and what else there is; exit status 1"""
    done = run_as_nobody(w, "--intercept", "curl")
    same(done.status, 1, "the exit status")
    contains(done.err, "needs root", "the message")
    contains(done.err, "-p 8080", "the message")
    same(len(done.err.splitlines()), 1, f"the number of lines, nothing was made before: {done.err}")


def test_explicit_without_root(w):
    """an explicit proxy needs no privilege"""
    program, folder = public_program(w)
    origin = w.origin()
    process = w.start(*NOBODY, program, "--set", f"confdir={folder}/confdir", "-p", "0",
                      "--set", f"ssl_verify_upstream_trusted_ca={folder}/ca.pem", "-w", f"{folder}/flows", inside=False)
    while b"listening at" not in (line := process.stderr.readline()):
        check(line, "mitm-bpf ended")
    port = int(re.search(rb"listening at [^ ]*:(\d+)", line).group(1))
    contains(w.curl("--proxy", f"http://127.0.0.1:{port}", origin.url("/nobody"),
                    ca=f"{folder}/confdir/mitmproxy-ca-cert.pem").well(), "the origin's answer to /nobody")
    process.send_signal(signal.SIGTERM)
    same(process.wait(5), 0, "the exit status")
    same(len(e2e.read_flows(f"{folder}/flows", strict=True)), 1, "the number of flows")


def test_no_btf(w):
    """no BTF (hidden by a mount of our own): says what is missing, and what to do"""
    if not os.path.exists("/sys/kernel/btf/vmlinux"):
        raise Skipped("the kernel has no BTF at all")
    for path in (f"/boot/vmlinux-{os.uname().release}", f"/lib/modules/{os.uname().release}"):
        if os.path.exists(path):
            raise Skipped(f"{path} may hold BTF, too")
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh")
    refuses(w, intercept="curl", prefix=hidden, says=("BTF",))


def with_confdir(w, change):
    """A new confdir with a CA that `change`(folder) has spoilt."""
    folder = tempfile.mkdtemp(prefix="confdir.", dir=w.tmp)
    w.proxy("--mode", "regular", "-p", "0", confdir=folder).stop()
    change(os.path.join(folder, "mitmproxy-ca.pem"))
    return folder


def write(text):
    def change(path):
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
    return change


def cut(path):
    with open(path, encoding="ascii") as f:
        text = f.read()
    write(text[:len(text) // 3])(path)


def make_folder(path):
    os.unlink(path)
    os.mkdir(path)


def test_ca(w):
    """a CA key that others can read, a broken one, an empty one, none at all: says what to do"""
    for change, says in ((lambda path: os.chmod(path, 0o644), ("0644", "chmod 600")), (write("no PEM"), ()),
                         (write(""), ()), (cut, ()), (make_folder, ("not a regular file",))):
        folder = with_confdir(w, change)
        refuses(w, "--mode", "regular", "-p", "0", confdir=folder,
                says=(os.path.join(folder, "mitmproxy-ca.pem"), *says))
    same(stat.S_IMODE(os.stat(os.path.join(with_confdir(w, lambda path: None), "mitmproxy-ca.pem")).st_mode), 0o600,
         "the mode of a CA key that we made")


def test_unreadable_ca(w):
    """a CA that the user may not read: says which file"""
    program, folder = public_program(w)
    os.mkdir(f"{folder}/confdir", 0o755)
    with open(f"{folder}/confdir/mitmproxy-ca.pem", "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o600)):
        pass
    done = w.run(*NOBODY, program, "--set", f"confdir={folder}/confdir", "-p", "0", inside=False)
    same(done.status, 1, "the exit status")
    contains(done.err, f"{folder}/confdir/mitmproxy-ca.pem", "the message")
    contains(done.err, "Permission denied", "the message")


def test_bad_words(w):
    """bad specs, cgroups, options, values and files: the message names them"""
    for spec in ("curl,", ",", "!", "a,! "):
        refuses(w, intercept=spec, says=("invalid intercept spec: " + spec.strip(),))
    refuses(w, "--intercept", "x", "--cgroup", "/no/such/group", says=("/no/such/group", "No such file"))
    for words, says in ((("--set", "no_such_option=1"), "no_such_option"),
                        (("--set", "flow_detail=lots"), "flow_detail"), (("--set", "io=carrier-pigeon"), "io"),
                        (("--set", "workers=-1"), "workers"), (("--no-such-flag",), "--no-such-flag"),
                        (("-p", "70000"), "listen_port")):
        refuses(w, *words, status=2, says=(says,))
    for words, says in ((("-w", "/dev/null/flows"), "/dev/null/flows"), (("--mode", "sideways"), "sideways"),
                        (("--certs", "/no/such.pem"), "/no/such.pem"),
                        (("--listen-host", "10.99.99.99"), "10.99.99.99"),
                        (("--set", "ssl_verify_upstream_trusted_ca=/no/ca.pem"), "/no/ca.pem")):
        refuses(w, "-p", "0", *words, trust=words[0] != "--set", says=(says,))


def test_bad_commands(w):
    """commands with words that they do not know, or too few: said in a sentence that begins with the command"""
    for words, says in ((("run",), "run: expected a command"), (("run", "--nope", "true"), "argument: --nope"),
                        (("trust",), "trust: expected"), (("trust", "1x"), "not 1x"),
                        (("trust", "container:"), "not container:"), (("trust", "1", "2"), "argument: 2"),
                        (("set",), "set: expected NAME=VALUE"), (("frobnicate",), "argument: frobnicate")):
        done = w.run(e2e.MITM_BPF, *words, inside=False)
        same((done.status, done.out), (2, ""), f"of {words}")
        same(len(done.err.splitlines()), 1, f"lines for {words}")
        contains(done.err, says)


def test_without_effect(w):
    """options for programs that are intercepted, where none is: said, and it runs"""
    proxy = w.proxy("--mode", "regular", "-p", "0", "--fail-closed", "--reset-existing", "--block-quic")
    for name in ("fail_closed", "reset_existing", "block_quic"):
        wait_for(5, f"the warning about {name}", lambda said=f"{name} changes nothing": said in proxy.log())
    proxy.stop()


# ---- what runs out

def test_full_disk(w):
    """a full disk under -w: says so, exit status 1, the file is whole, connections go direct"""
    origin = w.origin()
    file = os.path.join(w.mount_small("64k"), "flows.mitm")
    proxy = w.proxy("-w", file, intercept="curl")
    for i in range(20):
        w.curl(origin.url(f"/bytes/10240?{i}"))
        if proxy.process.poll() is not None:
            break
    same(proxy.process.wait(5), 1, "the exit status")
    contains(proxy.log(), f"Error writing flows to {file}: No space left on device", "the message")
    flows = e2e.read_flows(file, strict=True)
    check(len(flows) > 2, f"only {len(flows)} flows are in the file")
    same([f["request"]["path"].decode() for f in flows], [f"/bytes/10240?{i}" for i in range(len(flows))], "the flows")
    contains(w.curl(origin.url("/direct"), ca=w.certificates.ca).well(), "the origin's answer to /direct")


def test_full_output(w):
    """standard output that cannot be written to: says so, exit status 1"""
    origin = w.origin()
    with open("/dev/full", "wb") as full:
        proxy = w.proxy(intercept="curl", stdout=full)
    w.curl(origin.url("/full"))
    same(proxy.process.wait(5), 1, "the exit status")
    contains(proxy.log(), "standard output: No space left on device", "the message")


def test_closed_output(w):
    """standard output whose reader went (| head -1): an orderly end, exit status 0"""
    origin = w.origin()
    reader, writer = os.pipe()
    proxy = w.proxy(intercept="curl", stdout=writer)
    os.close(writer)
    w.curl(origin.url("/one")).well()
    check(os.read(reader, 1), "nothing was printed")
    os.close(reader)
    contains(w.curl(origin.url("/two")).well(), "the origin's answer to /two")
    same(proxy.process.wait(5), 0, "the exit status")
    same([f["request"]["path"] for f in e2e.read_flows(proxy.file, strict=True)], [b"/one", b"/two"], "the flows")
    done = w.run("sh", "-c", f'"{e2e.MITM_BPF}" --flow-detail 3 -nr "{proxy.file}" | head -n 1', inside=False)
    contains(done.well(), "/one")
    same(done.err, "", "what it said")


def test_key_log_unwritable(w):
    """a key log that cannot be written is said and does not matter"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl", env={"SSLKEYLOGFILE": "/dev/null/keys"})
    contains(proxy.log(), "cannot append TLS keys to /dev/null/keys", "the log")
    contains(w.curl(origin.url("/keys")).well(), "the origin's answer")


if __name__ == "__main__":
    e2e.main(globals())
