#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Privileges: which sets of capabilities are enough, what is said when they are not, and what each thread keeps."""
import glob
import os
import re
import shutil
import subprocess
import time

import e2e
from e2e import MITM_BPF, ORIGIN4, Skipped, check, contains, same, wait_for

CAPS = {"dac_override": 1, "dac_read_search": 2, "net_bind_service": 10, "net_admin": 12, "sys_ptrace": 19,
        "sys_admin": 21, "perfmon": 38, "bpf": 39}
STEERING = ("bpf", "net_admin", "perfmon")


def mask(*names):
    return sum(1 << CAPS[name] for name in names)


def threads(pid):
    """By name: (permitted capabilities, no_new_privs, seccomp's mode), of each kind of thread one set."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        with open(path, encoding="utf-8") as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        same(fields["CapEff"], fields["CapPrm"], "what is effective of what " + fields["Name"] + " may")
        same(int(fields["CapInh"], 16) | int(fields["CapAmb"], 16), 0, "what " + fields["Name"] + " would pass on")
        kind = re.sub(r"-?\d+$", "", fields["Name"])
        found.setdefault(kind, set()).add((int(fields["CapPrm"], 16), int(fields["NoNewPrivs"]),
                                           int(fields["Seccomp"])))
    return found


def as_user(w, *caps):
    """A prefix: nobody, with these capabilities and no others."""
    os.chmod(w.tmp, 0o755)
    for folder, _, files in os.walk(os.path.dirname(w.certificates.ca)):
        os.chmod(folder, 0o755)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)
    listed = ",".join("+" + cap for cap in caps)
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            *((f"--inh-caps=-all,{listed}", f"--ambient-caps=-all,{listed}") if caps else ()))


def own_folder(w, uid=65534):
    folder = os.path.join(w.tmp, f"of-{uid}-{time.monotonic_ns()}")
    os.mkdir(folder, 0o700)
    os.chown(folder, uid, uid)
    return folder


def start(w, caps, *words, **options):
    """As nobody, writing where nobody may."""
    folder = own_folder(w)
    conf = os.path.join(folder, "conf")
    proxy = w.proxy("-w", os.path.join(folder, "flows.mitm"), *words, confdir=conf, prefix=as_user(w, *caps), **options)
    proxy.file = os.path.join(folder, "flows.mitm")
    return proxy, os.path.join(conf, "mitmproxy-ca-cert.pem")


def doctor_agrees(w, caps):
    """That these are enough."""
    done = w.run(*as_user(w, *caps), MITM_BPF, "doctor", inside=False, timeout=60,
                 env=e2e.plain_environment(HOME=own_folder(w)))
    contains(done.well(), f"ok        {'capabilities':34s}  CAP_BPF")
    contains(done.out, "Processes can be intercepted here.")


def test_three(w):
    """without root: CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are enough to take processes"""
    origin = w.origin()
    proxy, ca = start(w, STEERING, intercept="comm:curl")
    done = w.curl(origin.url("/taken"), ca=ca)
    contains(done.well(), "the origin's answer to /taken")
    same(proxy.flow("/taken")["metadata"]["mitm_bpf.pid"], done.pid, "whose it is")
    same(proxy.flow("/taken")["metadata"]["mitm_bpf.cgroup"], "/" + w.cgroup_name, "where that was")
    kinds = threads(proxy.pid)
    same(kinds["mitm-bpf"], {(mask(*STEERING), 1, 0)}, "the main thread")
    same({caps for caps, _, _ in kinds["worker"]}, {mask("net_admin")}, "a worker's capabilities")
    same(proxy.stop(), 0, "the exit status")
    doctor_agrees(w, STEERING)


def test_lacking(w):
    """one of them lacking: which, and what to do; doctor says the same"""
    for have in (STEERING[1:], STEERING[:2], (STEERING[0], STEERING[2]), ()):
        lacking = [f"CAP_{cap.upper()}" for cap in STEERING if cap not in have]
        proxy, _ = start(w, have, intercept="comm:curl", wait=False)
        check(proxy.process.wait(10) == 1, "it started with only " + ", ".join(have))
        contains(proxy.log(), f"needs root, or capabilities (lacking: {', '.join(lacking)})")
        contains(proxy.log(), "use sudo, or an explicit proxy (mitm-bpf -p 8080)")
        done = w.run(*as_user(w, *have), MITM_BPF, "doctor", inside=False, timeout=60)
        same(done.status, 1, "doctor's status")
        contains(done.out, f"missing   {'capabilities':34s}  lacking {', '.join(lacking)}\n")
        proxy.close()


def test_admin(w):
    """old style: CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON"""
    origin = w.origin()
    proxy, ca = start(w, ("net_admin", "sys_admin"), intercept="comm:curl")
    contains(w.curl(origin.url("/old"), ca=ca).well(), "the origin's answer to /old")
    proxy.flow("/old")
    doctor_agrees(w, ("net_admin", "sys_admin"))
    same(threads(proxy.pid)["mitm-bpf"], {(mask("net_admin", "sys_admin"), 1, 0)}, "the main thread")


def test_none(w):
    """nothing at all: an explicit proxy works, and keeps nothing"""
    origin = w.origin()
    proxy, ca = start(w, (), "-m", "regular@127.0.0.1:0")
    done = w.curl("--proxy", f"http://127.0.0.1:{proxy.listen_port()}", origin.url("/plain"), ca=ca)
    contains(done.well(), "the origin's answer to /plain")
    for kind, states in threads(proxy.pid).items():
        same({caps for caps, _, _ in states}, {0}, "the capabilities of " + kind)


def full_main():
    return mask("net_bind_service", "net_admin", "bpf", "perfmon", "sys_ptrace", "dac_read_search", "dac_override")


def test_root(w):
    """as root: what each thread keeps; workers are filtered, nobody gets more by starting a program"""
    origin = w.origin()
    proxy = w.proxy("--set", "body_memory_max=1k", intercept="comm:curl")
    contains(w.curl(origin.url("/root")).well(), "the origin's answer to /root")
    w.curl("-o", "/dev/null", origin.url("/bytes/300000")).well()
    port = w.curl("--connect-to", f"localhost:443:{ORIGIN4}:{origin.port}", "https://localhost/name")
    contains(port.well(), "the origin's answer to /name")
    proxy.flow("/bytes/300000")
    kinds = threads(proxy.pid)
    same(kinds["mitm-bpf"], {(full_main(), 1, 0)}, "the main thread")
    same(kinds["offload"], {(mask("dac_read_search", "net_admin", "sys_admin", "sys_ptrace"), 1, 0)},
         "who does what workers may not")
    same(kinds["watchdog"], {(0, 1, 0)}, "who looks after workers")
    same(kinds["spill"], {(0, 1, 0)}, "who writes bodies")
    sanitized = b"__asan_init" in open(MITM_BPF, "rb").read()
    same(kinds["worker"], {(mask("net_admin"), 1, 0 if sanitized else 2)}, "a worker")
    with open(f"/proc/{proxy.pid}/status", encoding="ascii") as f:
        same(int(re.search(r"^CapBnd:\s+(\w+)", f.read(), re.M).group(1), 16), full_main(), "the bounding set")
    proxy.stop()
    proxy = w.proxy("--set", "seccomp=false", intercept="comm:curl")
    same(threads(proxy.pid)["worker"], {(mask("net_admin"), 1, 0)}, "a worker without a filter")


def test_names(w):
    """names are resolved, authorities read from a folder, processes' cgroups found: by others than workers"""
    origin = w.origin()
    folder = os.path.join(w.tmp, "authorities")
    os.makedirs(folder, exist_ok=True)
    shutil.copy(w.certificates.ca, os.path.join(folder, "ca.pem"))
    w.certificates.openssl("rehash", folder)
    proxy = w.proxy("-m", "regular@127.0.0.1:0", "--set", "ssl_verify_upstream_trusted_confdir=" + folder,
                    "--set", "seccomp=kill", trust=False)
    with open(os.path.join(w.tmp, "hosts"), "w", encoding="ascii") as f:
        f.write(f"127.0.0.1 localhost\n{ORIGIN4} origin.test\n")
    same(subprocess.run(["mount", "--bind", os.path.join(w.tmp, "hosts"), "/etc/hosts"], check=False).returncode, 0)
    w.stack.callback(subprocess.run, ["umount", "/etc/hosts"], check=True)
    for io in ("uring", "epoll"):
        proxy = w.proxy("-m", "regular@127.0.0.1:0", "--set", "ssl_verify_upstream_trusted_confdir=" + folder,
                        "--set", "seccomp=kill", trust=False, io=io)
        for path in ("/one", "/two"):
            done = w.curl("--proxy", f"http://127.0.0.1:{proxy.listen_port()}", origin.url(path, "origin.test"))
            contains(done.well(), "the origin's answer to " + path)
        stranger = w.origin(tls="untrusted", where="loopback")
        done = w.curl("--proxy", f"http://127.0.0.1:{proxy.listen_port()}", stranger.url("/no", "localhost"))
        contains(done.out, "certificate")
        same(proxy.stop(), 0, "the exit status")


def test_live(w):
    """what is asked for later still works: a port below 1024, stopping and starting, ps, reset, doctor"""
    origin = w.origin()
    proxy = w.proxy("--reset-existing", intercept="comm:curl")
    low = 777

    def use(*words):
        w.run(MITM_BPF, "set", *words, inside=False).well()
    use("mode=local:comm:curl", f"mode+=regular@127.0.0.1:{low}")
    done = w.curl("--proxy", f"http://127.0.0.1:{low}", origin.url("/low"), inside=False)
    contains(done.well(), "the origin's answer to /low")
    use("server=false")
    contains(w.curl(origin.url("/direct"), ca=w.certificates.ca).well(), "the origin's answer to /direct")
    use("server=true")
    contains(w.curl(origin.url("/again")).well(), "the origin's answer to /again")
    proxy.flow("/again")
    both = w.certificates.path("both-privileges.pem")
    with open(both, "w", encoding="ascii") as out:
        for ca in (w.ca, w.certificates.ca):
            with open(ca, encoding="ascii") as part:
                out.write(part.read())
    sleeper = w.start("setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", f"""
import socket, sys
s = socket.create_connection(("{origin.host4}", {origin.port}))
print("connected", flush=True)
try:
    s.recv(1)
except OSError as e:
    print(type(e).__name__, flush=True)
sys.stdin.read()
""", stdin=-1)
    same(sleeper.stdout.readline(), b"connected\n")
    use(f"mode=local:comm:curl,{sleeper.pid}")
    proxy.said("open already and have been reset: 1.")
    same(sleeper.stdout.readline(), b"ConnectionAbortedError\n")
    lines = w.run(MITM_BPF, "ps", inside=False).well()
    check(re.search(rf"^{sleeper.pid}\s+nobody\s+taken\s+python3\s", lines, re.M), lines)
    contains(w.run(MITM_BPF, "doctor", str(sleeper.pid), inside=False).well(), f"selected by the rule {sleeper.pid}.")


def test_files(w):
    """a new flow file, when the name says so, in a folder of the user who called sudo"""
    origin = w.origin()
    folder = own_folder(w)
    proxy = w.proxy("-w", os.path.join(folder, "flows-%S.mitm"), intercept="comm:curl")

    def new(count):
        w.curl(origin.url("/file")).well()
        return len(os.listdir(folder)) >= count
    wait_for(20, "a second file begins", lambda: new(2))
    check("cannot" not in proxy.log(), proxy.log())


def test_container_profile(w):
    """where io_uring and bpf are refused, as in containers: which, and what goes on"""
    binary, source = os.path.join(w.tmp, "profile"), os.path.join(w.tmp, "profile.c")
    with open(source, "w", encoding="ascii") as f:
        f.write(PROFILE)
    if not shutil.which("gcc") or subprocess.run(["gcc", "-o", binary, source, "-lseccomp"], check=False).returncode:
        raise Skipped("needs gcc and libseccomp-dev; run scripts/install-deps")
    origin = w.origin()
    proxy = w.proxy("-m", "regular@127.0.0.1:0", prefix=(binary,))
    done = w.curl("--proxy", f"http://127.0.0.1:{proxy.listen_port()}", origin.url("/inside"))
    contains(done.well(), "the origin's answer to /inside")
    same({filtered for _, _, filtered in threads(proxy.pid)["worker"]}, {2})
    proxy.stop()
    proxy = w.proxy("-m", "regular@127.0.0.1:0", prefix=(binary,), io="uring", wait=False)
    same(proxy.process.wait(10), 1, "the status with --io uring")
    contains(proxy.log(), "io_uring is refused here (EPERM: a seccomp profile")
    proxy = w.proxy(intercept="comm:curl", prefix=(binary,), wait=False)
    same(proxy.process.wait(10), 1, "the status with --intercept")
    contains(proxy.log(), "bpf(2), which is refused here although no capability is lacking: by a container's seccomp")
    done = w.run(binary, MITM_BPF, "doctor", inside=False, timeout=60)
    same(done.status, 1, "doctor's status")
    contains(done.out, "degraded  io_uring ")
    contains(done.out, f"missing   {'capabilities':34s}  all are there, but bpf(2) is refused")


PROFILE = r"""
#include <errno.h>
#include <seccomp.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	(void)argc;
	seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(bpf), 0);
	seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0);
	if (seccomp_load(f))
		return 99;
	execvp(argv[1], argv + 1);
	return 98;
}
"""


if __name__ == "__main__":
    e2e.main(globals())
