#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""mitm-bpf trust: the CA in the mount namespace of a process that runs already, and nowhere else."""
import os
import re
import shutil
import subprocess

from e2e import MITM_BPF, check, contains, main, same
from run_test import environment, folders, origin, sums


class Container:
    """A shell in a mount namespace of its own that runs what it is told, line by line."""

    def __init__(self, w, *enter):
        self.process = w.start("unshare", "-m", "--propagation", "private", "sh", "-c", " && ".join(
            [*enter, 'exec sh -c "$0"']), 'echo $$; while read line; do eval "$line" 2>&1; echo "status=$?"; done',
            env=environment(), stdin=subprocess.PIPE)
        self.pid = int(self.process.stdout.readline())

    def run(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        text = b""
        while not re.search(rb"status=\d+\n$", text):
            got = self.process.stdout.readline()
            check(got, f"the shell has gone: {text}")
            text += got
        return text.decode()


def trust(w, *words):
    return w.run(MITM_BPF, "trust", "--confdir", w.confdir, *(str(word) for word in words), inside=False)


def trusted(w, c, o):
    """Before, during and after: curl by the bundle, Python by the folder, Java (where it is) by its store."""
    python = ("/usr/bin/python3 -c 'import ssl, urllib.request as u; "
              "print(u.urlopen(\"%s\", context=ssl.create_default_context(capath=\"/etc/ssl/certs\"))"
              ".read().decode())'")
    before = sums()
    contains(c.run("curl -sS " + o.url("/before")), "status=60")
    done = trust(w, c.pid)
    contains(done.well(), "/etc/ssl/certs\n")
    check(re.search(rf"  {c.pid} sh: has no TLS library", done.out), done.out)
    contains(c.run("curl -sS " + o.url("/curl")), "the origin's answer to /curl")
    contains(c.run(python % o.url("/python")), "the origin's answer to /python")
    if shutil.which("keytool"):
        contains(c.run("keytool -list -cacerts -storepass changeit 2>/dev/null | grep mitm-bpf"), "trustedCertEntry")
    same(sums(), before, "the system's stores")
    same(folders(), set(), "folders that are left")
    contains(trust(w, c.pid).err, "already")
    trust(w, c.pid, "--undo").well()
    contains(c.run("curl -sS " + o.url("/after")), "status=60")
    contains(c.run("grep -c mitm-bpf /proc/self/mountinfo"), "0\n")
    same(trust(w, c.pid, "--undo").status, 1, "a second undo")
    trust(w, c.pid).well()
    contains(c.run("curl -sS " + o.url("/again")), "the origin's answer to /again")
    same(sums(), before, "the system's stores")


def test_trust(w):
    """trust PID: a process with a mount namespace of its own trusts the CA, until --undo, and nobody else does"""
    o = origin(w)
    w.proxy(intercept="curl,python3")
    trusted(w, Container(w), o)


def test_trust_chroot(w):
    """trust PID: of a process with another root"""
    o, root = origin(w), os.path.join(w.tmp, "root")
    os.makedirs(root, exist_ok=True)
    w.proxy(intercept="curl,python3")
    c = Container(w, f"mount --rbind / {root}", f"exec chroot {root} sh -c \"$0\"")
    trusted(w, c, o)


def test_trust_hostile(w):
    """trust PID: of somebody who has pipes, devices and links there: nothing waits, opens or follows them"""
    root, etc = os.path.join(w.tmp, "root"), os.path.join(w.tmp, "root/etc")
    os.makedirs(root, exist_ok=True)
    # The first character device would be a disk's or a watchdog's; that of memory without end does no harm.
    c = Container(w, f"mount --rbind / {root}", f"mount -t tmpfs none {etc}", f"mount -t tmpfs none {root}/proc",
                  f"mkdir -p {etc}/ssl/certs {etc}/pki/tls/certs {etc}/pki/ca-trust/extracted/pem {root}/proc/self",
                  f"mkfifo {etc}/ssl/cert.pem {etc}/localtime {root}/proc/self/fd {etc}/ssl/certs/pipe",
                  f"mknod {etc}/ssl/ca-bundle.pem c 1 5", f"mknod {etc}/ssl/certs/zero c 1 5",
                  f"ln -s /proc/self/fd/3/etc/shadow {etc}/pki/tls/certs/ca-bundle.crt",
                  f"ln -s /proc/self/root/etc/shadow {etc}/ssl/certs/12345678.0",
                  f"printf 'not a certificate' > {etc}/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
                  f"exec chroot {root} sh -c \"$0\"")
    os.makedirs(os.path.join(w.tmp, "odd"))
    shutil.copy("/bin/sleep", os.path.join(w.tmp, "odd", "\x1b[2J\x9bevil"))
    c.run(f"{w.tmp}/odd/* 60 &")
    done = trust(w, c.pid)
    done.well()
    check("\x1b" not in done.out and "\x9b" not in done.out, f"a control character: {done.out!r}")
    contains(done.out, ".[2J.evil: has no TLS library")
    for name in ("/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem"):
        contains(done.err, name + " is not a file")
    # the folder is covered: its link as it was, neither pipe nor device, and the CA
    contains(c.run("readlink /etc/ssl/certs/12345678.0"), "/proc/self/root/etc/shadow\nstatus=0")
    contains(c.run("ls /etc/ssl/certs | wc -l"), "2\n")
    trust(w, c.pid, "--undo").well()
    contains(c.run("ls /etc/ssl/certs | wc -l"), "3\n")


def test_trust_refused(w):
    """trust PID: not where all the system would, nor of who is not there"""
    done = trust(w, os.getpid())
    same(done.status, 1, "the status")
    contains(done.err, "mitm-bpf run")
    # The first process's namespace is the system's, and not only one's own; here that of a pid namespace.
    inside = f'unshare -m "$0" trust --confdir {w.confdir} 1; echo status=$?'
    done = w.run("unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", inside, MITM_BPF, inside=False)
    contains(done.out, "status=1")
    contains(done.err, "mitm-bpf run")
    same(trust(w, 2 ** 22 + 1).status, 1, "the status of no process")
    same(w.run(MITM_BPF, "trust").status, 2, "the status without a process")


if __name__ == "__main__":
    main(globals())
