#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""mitm-bpf doctor PID|container:NAME: each of its verdicts, in the situation that it is about."""
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys

import e2e
from e2e import MITM_BPF, ORIGIN4, Skipped, check, contains, same, wait_for
from selectors_test import ID, Case

# Does what it is told, a line of Python at a time.
OBEY = """
import ctypes, os, socket, ssl, subprocess, sys, threading, time
print("ready", flush=True)
for line in sys.stdin:
    try:
        exec(line, globals())
        print("done", flush=True)
    except Exception as e:
        print("failed", repr(e), flush=True)
"""


class Patient:
    """A process with a name of its own, in the cgroup of the tests or not."""

    def __init__(self, w, *prefix, name="patient", inside=True):
        self.process = w.start("bash", "-c", 'exec -a "$0" "$@"', name, *(prefix or (sys.executable,)),
                               *((sys.executable,) if prefix else ()), "-c", OBEY, inside=inside, stdin=-1)
        self.pid = self.process.pid
        self.heard()
        self.do(f"open('/proc/self/comm', 'w').write({name!r})")

    def heard(self):
        line = self.process.stdout.readline().decode()
        check(line in ("ready\n", "done\n"), f"the patient said {line!r}: "
              + (self.process.stderr.read().decode() if not line else ""))

    def do(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        self.heard()

    def connect(self, host, port, name="s"):
        self.do(f"{name} = socket.create_connection(({host!r}, {port}), 5)")


class Report:
    """What doctor says about the first process, as lines and as JSON, which must agree."""

    def __init__(self, w, target, *words, prefix=()):
        self.text = w.run(*prefix, MITM_BPF, "doctor", target, *words, inside=False)
        done = w.run(*prefix, MITM_BPF, "doctor", target, "--json", *words, inside=False)
        same(done.status, self.text.status, "the status with --json")
        self.all = json.loads(done.out)
        same(sorted(self.all), ["more", "processes", "version"], "the members of the report")
        self.one = self.all["processes"][0]
        same(sorted(self.one), ["cgroup", "container", "executable", "findings", "name", "pid", "proxy", "taken",
                                "user"], "the members of a process")
        same(self.text.status, 0 if all(p["taken"] for p in self.all["processes"]) else 1, "the exit status")
        for f in self.one["findings"]:
            same(sorted(f), ["id", "state", "text", "to_do"], "the members of a finding")
            contains(self.text.out, f"{f['state']:8s}  {f['id']:14s}  ", "the lines")
            if f["id"] != "last":               # has an age in it
                contains(self.text.out, f["text"], "the lines")

    def has(self, ident, state, text, todo=None):
        found = [f for f in self.one["findings"] if f["id"] == ident]
        check(found, f"no finding is called {ident}:\n{self.text.out}")
        same(found[0]["state"], state, f"the state of {ident}: {found[0]['text']}")
        contains(found[0]["text"], text, ident)
        if todo:
            contains(found[0]["to_do"] or "", todo, "what to do about " + ident)

    def lacks(self, *idents):
        same([f for f in self.one["findings"] if f["id"] in idents], [], "what should not be said")

    def taken(self, wanted):
        same(self.one["taken"], wanted, "whether it is taken:\n" + self.text.out)
        end = self.text.out.partition("\nBeside it in ")[0].splitlines()[-1]
        same(("not" not in end, end.endswith(" taken.")), (wanted, True), "the end: " + end)


def doctor(w, who, *words, **options):
    return Report(w, str(getattr(who, "pid", who)), *words, **options)


def first_child(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return f.read().split()[0]


def test_taken(w):
    """a selected process: by which rule, its last connection, nothing to complain about"""
    origin = w.origin(tls=None)
    patient = Patient(w)
    proxy = w.proxy(intercept="comm:patient")
    report = doctor(w, patient)
    report.taken(True)
    report.has("proxy", "ok", f"process id {proxy.pid} was asked; its mode is local:comm:patient")
    report.has("rule", "ok", "selected by the rule comm:patient")
    report.has("network", "ok", "in mitm-bpf's network namespace")
    report.has("last", "ok", "has not connected anywhere by TCP since mitm-bpf began")
    patient.connect(origin.host4, origin.port)
    report = doctor(w, patient)
    report.taken(True)
    report.has("last", "ok", f"to {ORIGIN4}:{origin.port}, was taken; 1 taken and 0 not")
    report.lacks("connections", "quic", "unix", "tls", "hooks", "thread", "files", "pids", "sockets-cgroup", "sockets")
    same(report.one["name"], "patient")
    same(report.one["user"], "root")
    same(report.one["cgroup"], "/" + w.cgroup_name)
    same(report.one["proxy"], proxy.pid)
    doctor(w, patient, "--pid", proxy.pid).taken(True)
    patient.do("s.close(); t = socket.create_connection(('fd77::2', %d), 5)" % origin.port)
    doctor(w, patient).has("last", "ok", f"to [fd77::2]:{origin.port}, was taken; 2 taken and 0 not")


def test_rules(w):
    """not selected, left out, by an ancestor's rule, all others"""
    patient = Patient(w)
    proxy = w.proxy(intercept="somebody-else")

    def use(spec):
        w.run(MITM_BPF, "set", "mode=local:" + spec, inside=False).well()
        return doctor(w, patient)
    report = doctor(w, patient)
    report.taken(False)
    report.has("rule", "missing", "not selected: no rule is about it", f"set --pid {proxy.pid} mode=local:SPEC,patient")
    report = use("python,!comm:patient")
    report.taken(False)
    report.has("rule", "missing", "left out by the rule !comm:patient", "the last that matches decides")
    report = use("!somebody-else")
    report.taken(True)
    report.has("rule", "ok", "no rule is about it, and the spec takes all others")
    patient.do("child = subprocess.Popen(['sleep', '60'])")
    child = first_child(patient.pid)
    use(f"{patient.pid}").has("rule", "ok", f"selected by the rule {patient.pid}.")
    report = doctor(w, child)
    report.taken(True)
    report.has("rule", "ok", f"by the rule {patient.pid}, which is about one of its ancestors")
    use(f"sleep,!tree:{patient.pid}")
    doctor(w, child).has("rule", "missing", f"left out by the rule !tree:{patient.pid}, which is about one of its")
    report = doctor(w, proxy)
    report.taken(False)
    report.has("rule", "missing", "It is mitm-bpf itself")


def test_thread(w):
    """a thread whose name the policy judges otherwise"""
    patient = Patient(w)
    patient.do("t = threading.Thread(target=lambda: (ctypes.CDLL(None).prctl(15, b'odd-one', 0, 0, 0), time.sleep(60)),"
               " daemon=True); t.start(); time.sleep(0.2)")
    w.proxy(intercept="comm:odd-one")
    report = doctor(w, patient)
    report.taken(False)
    report.has("thread", "degraded", "is called odd-one, and what that connects is taken, unlike the rest",
               f"its name is patient, its number {patient.pid}")
    w.run(MITM_BPF, "set", "mode=local:patient,!odd-one", inside=False).well()
    report = doctor(w, patient)
    report.taken(True)
    report.has("thread", "degraded", "is called odd-one, and what that connects is left out", "comm:NAME")


def test_cgroup(w):
    """outside of the cgroup that is looked at"""
    patient = Patient(w, inside=False)
    w.proxy(intercept="patient")
    report = doctor(w, patient)
    report.taken(False)
    report.has("cgroup", "missing", f"and only {w.cgroup}, with what is below, is looked at", "Leave --cgroup away")


def test_nobody(w):
    """none runs: said; with --intercept: what would be"""
    patient = Patient(w)
    report = doctor(w, patient)
    report.taken(False)
    report.has("proxy", "missing", "No mitm-bpf runs here", f"mitm-bpf doctor {patient.pid} --intercept SPEC")
    same(report.one["proxy"], None)
    report = doctor(w, patient, "--intercept", "python,!patient", "--cgroup", w.cgroup)
    report.taken(False)
    report.has("proxy", "ok", 'Include processes matching "python". Exclude processes matching "patient".')
    report.has("rule", "missing", "left out by the rule !patient")
    contains(report.text.out, "would not be taken")
    report = doctor(w, patient, "--intercept", f"tree:{os.getpid()}", "--cgroup", w.cgroup)
    report.taken(True)
    report.has("rule", "ok", f"by the rule tree:{os.getpid()}, which is about one of its ancestors")
    contains(report.text.out, "would be taken")
    os.mkdir(os.path.join(w.cgroup, "deeper"))
    w.stack.callback(os.rmdir, os.path.join(w.cgroup, "deeper"))
    report = doctor(w, patient, "--cgroup", os.path.join(w.cgroup, "deeper"))
    report.taken(False)
    report.has("cgroup", "missing", f"It is in the cgroup /{w.cgroup_name}, and only {w.cgroup}/deeper")


def test_modes(w):
    """one that intercepts no processes, one whose local mode is stopped, two at once"""
    patient = Patient(w)
    regular = w.proxy("-m", "regular@127.0.0.1:0")
    report = doctor(w, patient)
    report.taken(False)
    report.has("proxy", "missing", "intercepts no processes: its mode is regular@127.0.0.1:0", "--intercept patient")
    proxy = w.proxy(intercept="patient")
    report = doctor(w, patient)
    report.taken(False)
    report.has("proxy", "missing", "2 mitm-bpf run here: say which with --pid PID")
    regular.stop()
    doctor(w, patient).taken(True)
    w.run(MITM_BPF, "set", "server=false", inside=False).well()
    report = doctor(w, patient)
    report.taken(False)
    report.has("attached", "missing", "Its local mode is stopped", f"mitm-bpf set --pid {proxy.pid}")
    report.lacks("last")


def test_namespaces(w):
    """another network namespace, another pid namespace, files of its own, with and without our CA"""
    origin = w.origin(tls=None)
    w.proxy(intercept="patient")
    patient = Patient(w, "unshare", "--net", "--mount", "--propagation", "private")
    report = doctor(w, patient)
    report.taken(True)
    report.has("network", "degraded", "in another network namespace, where mitm-bpf will listen when a selected")
    report.has("files", "ok", "that the host trusts our CA does not count there", f"mitm-bpf trust {patient.pid}")
    report.lacks("pids")
    patient.do("subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)")

    def listens():
        patient.do("socket.socket().connect_ex(('10.9.9.9', 9))")
        return "where mitm-bpf listens, too" in doctor(w, patient).text.out
    wait_for(20, "it listens there", listens)
    patient.do("socket.socket().connect_ex(('10.9.9.9', 9))")
    report = doctor(w, patient)
    report.has("network", "ok", "in another network namespace, where mitm-bpf listens, too")
    report.has("last", "degraded", "to 10.9.9.9:9, was not taken: there is no route to it", "ip route get")
    report = doctor(w, patient, "--intercept", "patient", "--cgroup", w.cgroup)
    report.taken(True)
    report.has("network", "ok", "where mitm-bpf would listen, too")
    w.run(MITM_BPF, "trust", "--confdir", w.confdir, str(patient.pid), inside=False).well()
    report = doctor(w, patient)
    report.has("files", "ok", "of its trust stores hold our CA")
    same([f["to_do"] for f in report.one["findings"] if f["id"] == "files"], [None])
    holder = w.start("unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", OBEY, stdin=-1)
    holder.stdout.readline()
    inner = first_child(holder.pid)
    w.run(MITM_BPF, "set", "mode=local:python", inside=False).well()
    report = doctor(w, inner)
    report.taken(True)
    report.has("pids", "ok", f"has the number 1; rules, flows and doctor know it as {inner}")
    holder.stdin.write(f"socket.create_connection(('{origin.host4}', {origin.port}), 5)\n".encode())
    holder.stdin.flush()
    same(holder.stdout.readline(), b"done\n")
    doctor(w, inner).has("last", "ok", "was taken; 1 taken and 0 not")


def test_direct(w):
    """why the last connection went direct: loopback, no route, bound to a foreign address"""
    patient = Patient(w)
    w.proxy(intercept="patient", loopback=False)
    patient.do("socket.socket().connect_ex(('127.0.0.1', 9))")
    report = doctor(w, patient)
    report.taken(True)
    report.has("last", "degraded", "to 127.0.0.1:9, was not taken: it leads to loopback", "--set steer_loopback=true")
    patient.do("subprocess.run(['ip', 'route', 'add', 'unreachable', '198.51.100.0/24'], check=True)")
    patient.do("time.sleep(0.3); socket.socket().connect_ex(('198.51.100.7', 9))")
    doctor(w, patient).has("last", "degraded", "to 198.51.100.7:9, was not taken: there is no route", "ip route get")
    patient.do("s = socket.socket(); s.setsockopt(0, 19, 1); s.bind(('203.0.113.5', 0)); s.settimeout(0.1);"
               " s.connect_ex(('10.77.0.2', 9))")
    doctor(w, patient).has("last", "degraded", "bound to an address that cannot reach us", "bind to no address")
    patient.do("subprocess.run(['ip', 'route', 'del', 'unreachable', '198.51.100.0/24'], check=True)")


def test_connections(w):
    """connections that are older than us, and sockets that came from another cgroup; who was called is not meant"""
    origin = w.origin(tls=None)
    patient = Patient(w)
    patient.connect(origin.host4, origin.port, "old")
    patient.do("l = socket.create_server(('10.77.0.1', 18123))")
    caller = socket.create_connection(("10.77.0.1", 18123))
    w.stack.callback(caller.close)
    patient.do("a = l.accept()")
    w.proxy(intercept="patient")
    report = doctor(w, patient)
    report.taken(True)
    report.has("connections", "degraded", f"1 open connection of its leads past us, for example to {ORIGIN4}:"
               f"{origin.port}", "--reset-existing")
    report.lacks("sockets-cgroup")
    patient.do("old.close()")
    doctor(w, patient).lacks("connections")
    mover = Patient(w, inside=False)
    mover.connect(origin.host4, origin.port)
    procs = os.path.join(w.cgroup, "cgroup.procs")
    mover.do(f"open({procs!r}, 'w').write(str(os.getpid()))")
    report = doctor(w, mover)
    report.taken(True)
    report.has("sockets-cgroup", "degraded", f"1 open connection of its, for example to {ORIGIN4}:{origin.port}, "
               "belongs to a cgroup outside", "Start the program in its group")
    report.lacks("connections")


def test_quic(w):
    """UDP to port 443"""
    patient = Patient(w)
    patient.do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('10.77.0.2', 443))")
    w.proxy(intercept="patient")
    report = doctor(w, patient)
    report.taken(True)
    report.has("quic", "degraded", "1 UDP socket leads past mitm-bpf to port 443, for example to 10.77.0.2:443",
               "falls back to TCP")
    report.lacks("udp")
    patient.do("u.close(); u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); "
               "u.connect(('::ffff:10.77.0.2', 443))")
    report = doctor(w, patient)
    report.lacks("quic")
    report.has("udp", "ok", "1 of its UDP sockets leads to mitm-bpf: what is sent is recorded as it is", "--block-quic")


def test_unix(w):
    """Unix sockets and no others"""
    patient = Patient(w)
    w.proxy(intercept="patient")
    doctor(w, patient).lacks("unix")
    patient.do("u = socket.socketpair()")
    doctor(w, patient).has("unix", "degraded", "It has 2 Unix sockets and no others now", "ss --unix --processes")
    patient.do("v = socket.create_server(('127.0.0.1', 0))")
    doctor(w, patient).lacks("unix")


def refuse(patient, origin, ca):
    patient.do(f"c = ssl.create_default_context(cafile={ca!r}); t = socket.create_connection(('{origin.host4}', "
               f"{origin.port}), 5)")
    patient.do("exec('try:\\n c.wrap_socket(t, server_hostname=\"origin.test\")\\nexcept ssl.SSLError: t.close()')")


def test_tls(w):
    """it does not trust our CA: for whom, how often, what to do"""
    origin = w.origin()
    patient = Patient(w)
    proxy = w.proxy(intercept="patient")
    doctor(w, patient).lacks("tls")
    for _ in range(2):
        refuse(patient, origin, w.certificates.ca)
    proxy.said("does not trust the proxy's certificate")
    report = doctor(w, patient)
    report.taken(True)
    report.has("tls", "degraded", "It does not trust our CA: it refused our certificate for origin.test 2 times",
               "mitm-bpf run")
    report.lacks("pinned")
    other = Patient(w)
    doctor(w, other).lacks("tls")
    boxed = Patient(w, "unshare", "--mount", "--propagation", "private")
    refuse(boxed, origin, w.certificates.ca)
    wait_for(3, "it is known", lambda: "tls" in [f["id"] for f in doctor(w, boxed).one["findings"]])
    doctor(w, boxed).has("tls", "degraded", "for origin.test 1 time, last", f"mitm-bpf trust {boxed.pid}")
    proxy.stop()
    proxy = w.proxy("--set", "tls_passthrough_failed=true", intercept="patient")
    refuse(patient, origin, w.certificates.ca)
    proxy.said("relayed untouched")
    doctor(w, patient).has("tls", "degraded", "since then it is relayed untouched")


STATIC = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	unsigned char hello[4096], answer[65536];
	int fd = socket(AF_INET, SOCK_STREAM, 0), len = fread(hello, 1, sizeof(hello), stdin);
	/* fatal, unknown_ca */
	const unsigned char alert[] = { 21, 3, 3, 0, 2, 2, 48 };
	(void)argc;
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	if (connect(fd, (void *)&to, sizeof(to)) || write(fd, hello, len) != len ||
	    read(fd, answer, sizeof(answer)) <= 0 || write(fd, alert, sizeof(alert)) != sizeof(alert))
		return 1;
	close(fd);
	puts("refused");
	fflush(stdout);
	return pause();
}
"""


def test_pinned(w):
    """a static executable that refuses: what it trusts may be built in"""
    if not shutil.which("gcc"):
        raise Skipped("needs gcc; run scripts/install-deps")
    source, binary = os.path.join(w.tmp, "static.c"), os.path.join(w.tmp, "patient")
    with open(source, "w", encoding="ascii") as f:
        f.write(STATIC)
    if subprocess.run(["gcc", "-static", "-o", binary, source], check=False, capture_output=True).returncode:
        raise Skipped("no static libc to link with")
    origin = w.origin()
    proxy = w.proxy("--set", "tls_version_client_max=TLS1_2", intercept="patient")
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    hello = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="origin.test").do_handshake()
    except ssl.SSLWantReadError:
        pass
    patient = w.start(binary, origin.host4, origin.port, stdin=-1)
    patient.stdin.write(hello.read())
    patient.stdin.close()
    patient.stdin = None
    same(patient.stdout.readline(), b"refused\n")
    proxy.said("does not trust the proxy's certificate")
    report = doctor(w, patient)
    report.has("tls", "degraded", "refused our certificate for origin.test 1 time")
    report.has("pinned", "degraded", "Its executable is static", "tls_passthrough_failed=true")


HOOK = r"""
int foreign(void *ctx) __attribute__((section("cgroup/connect4")));
int foreign(void *ctx) { return 1; }
char terms[] __attribute__((section("license"))) = "GPL";
"""


def test_hooks(w):
    """another product's program on the same hook; one that owns it alone"""
    bpftool = shutil.which("bpftool") or "/usr/sbin/bpftool"
    if not shutil.which("clang") or not os.path.exists(bpftool):
        raise Skipped("needs clang and bpftool; run scripts/install-deps")
    folder = w.mount_small("1m")
    subprocess.run(["mount", "-t", "bpf", "none", folder], check=True)
    w.stack.callback(subprocess.run, ["umount", folder], check=True)
    source, binary, pin = (os.path.join(w.tmp, "hook.c"), os.path.join(w.tmp, "hook.o"), os.path.join(folder, "hook"))
    with open(source, "w", encoding="ascii") as f:
        f.write(HOOK)
    subprocess.run(["clang", "-target", "bpf", "-O2", "-g", "-c", "-o", binary, source], check=True)
    subprocess.run([bpftool, "prog", "load", binary, pin, "type", "cgroup/connect4"], check=True)

    def attach(*how):
        subprocess.run([bpftool, "cgroup", "attach", w.cgroup, "connect4", "pinned", pin, *how], check=True)
        return lambda: subprocess.run([bpftool, "cgroup", "detach", w.cgroup, "connect4", "pinned", pin], check=True)
    patient = Patient(w)
    proxy = w.proxy(intercept="patient")
    doctor(w, patient).lacks("hooks")
    detach = attach("multi")
    report = doctor(w, patient)
    report.taken(True)
    report.has("hooks", "degraded", ", foreign) is on a connect hook of its cgroup", "bpftool prog show id ")
    detach()
    proxy.stop()
    detach = attach()
    w.stack.callback(detach)
    report = doctor(w, patient, "--intercept", "patient", "--cgroup", w.cgroup)
    report.taken(False)
    report.has("hooks", "missing", "owns a connect hook of its cgroup, or one above, alone: ours would be refused")


def test_container(w):
    """container:NAME: its first process whole, the others in a line each; one that does not run; unknown ones"""
    home = "/home"
    if not os.path.isdir(home):
        raise Skipped("no /home to put something over")
    subprocess.run(["mount", "-t", "tmpfs", "none", home], check=True)
    w.stack.callback(subprocess.run, ["umount", home], check=True)
    storage = os.path.join(home, "someone/.local/share/containers/storage/overlay-containers")
    os.makedirs(storage)
    with open(os.path.join(storage, "containers.json"), "w", encoding="ascii") as f:
        json.dump([{"id": ID, "names": ["web"]}, {"id": "ab" * 32, "names": ["idle"]}], f)
    c = Case(w, "container:" + ID[:12])
    c.group(f"libpod-{ID}.scope")
    procs = os.path.join(w.cgroup, f"libpod-{ID}.scope", "cgroup.procs")
    patients = []
    for _ in range(2):
        patients.append(Patient(w))
        patients[-1].do(f"open({procs!r}, 'w').write('%d' % os.getpid())")
    wait_for(20, "the container is taken", lambda: w.run(MITM_BPF, "doctor", "container:web", inside=False).status == 0)
    report = doctor(w, "container:web")
    same([p["pid"] for p in report.all["processes"]], sorted(p.pid for p in patients), "who is in it")
    report.has("rule", "ok", "selected by the rule container:" + ID[:12])
    same(report.one["container"], "web")
    contains(report.text.out, f"Beside it in container:web:\ntaken      {max(p.pid for p in patients)} patient\n")
    doctor(w, f"cgroup:/{w.cgroup_name}/libpod-{ID}.scope").taken(True)
    for target, text in (("container:idle", "No process runs in container:idle now."),
                         ("container:nosuch", 'no container is called "nosuch"; known are: ')):
        done = w.run(MITM_BPF, "doctor", target, inside=False)
        same((done.status, done.out), (1, ""), "an answer for " + target)
        contains(done.err, text)
    for patient in patients:
        e2e.end(patient.process)


def test_hostile_name(w):
    """a process whose name would clear the screen, or run a command: neither reaches a terminal or a shell"""
    patient = Patient(w)
    name = b";id\x1b[2J\t\xc2\x9b2J"
    patient.do(f"open('/proc/self/comm', 'wb').write({name!r})")

    def plain(text, what):
        odd = [c for c in text if ord(c) < 32 and c != "\n" or 127 <= ord(c) < 160]
        same(odd, [], f"control characters of {what}: {text!r}")
        check("--intercept ;" not in text and "SPEC,;" not in text, f"a command in what is to be copied: {text}")

    def both(what):
        said = w.run(MITM_BPF, "doctor", patient.pid, inside=False).out
        contains(said, f"Process {patient.pid}, ;id.[2J", what)
        plain(said, what)
        done = w.run(MITM_BPF, "doctor", patient.pid, "--json", inside=False).out
        plain(done, what + ", as JSON")
        same(json.loads(done)["processes"][0]["name"], name.decode(), what)
        return said

    contains(both("nobody asked"), f"mitm-bpf --intercept {patient.pid};")
    proxy = w.proxy(intercept="curl")
    contains(both("not selected"), f"mode=local:SPEC,{patient.pid}.")
    listed = w.run(MITM_BPF, "ps", "--pid", proxy.pid, inside=False).well()
    plain(listed, "ps")
    contains(listed, ";id.[2J..2J")


def test_no_target(w):
    """no such process, no such word, a thread of the kernel, one that has ended"""
    ended = w.start("true")
    ended.wait()
    done = w.run(MITM_BPF, "doctor", str(ended.pid), inside=False)
    same((done.status, done.out), (1, ""), "an answer")
    contains(done.err, f"There is no process {ended.pid} here.")
    for word in ("firefox", "0", "99999999999", "container:a,b"):
        done = w.run(MITM_BPF, "doctor", word, inside=False)
        same((done.status, done.out), (2, ""), "an answer for " + word)
        contains(done.err, "expected a process id, container:NAME")
    holder = Patient(w)
    holder.do("child = subprocess.Popen(['true']); time.sleep(0.3)")
    report = doctor(w, first_child(holder.pid))
    report.taken(False)
    report.has("target", "missing", "It has ended")
    for entry in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
        with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
            if int(f.read().rsplit(")", 1)[1].split()[6]) & 0x00200000:
                doctor(w, entry).has("target", "missing", "thread of the kernel")
                return
    e2e.diag("no thread of the kernel is seen from here")


def test_not_allowed(w):
    """who may not ask is told so, and what cannot be read is said"""
    patient = Patient(w)
    w.proxy(intercept="patient")
    os.chmod(w.tmp, 0o755)
    report = doctor(w, patient, prefix=("setpriv", "--reuid=65534", "--clear-groups"))
    report.taken(False)
    report.has("proxy", "missing", "The mitm-bpf that runs did not answer; is it this user's, or are you not root?",
               "as the user who runs it, or as root")
    report.has("sockets", "degraded", "Its open sockets cannot be read", "as root")


if __name__ == "__main__":
    e2e.main(globals())
