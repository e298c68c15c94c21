#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The words of an intercept spec with a real curl: who is taken, who is not, and that `mitm-bpf set` changes it."""
import contextlib
import json
import os
import shutil
import subprocess
import time

import e2e
from e2e import MITM_BPF, check, contains, same, wait_for

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def ask(w, proxy, *words):
    return w.run(MITM_BPF, words[0], "--pid", str(proxy.pid), *words[1:], inside=False)


class Case:
    """Both kinds of curl: one that has to be taken, one that must not notice anything."""

    def __init__(self, w, spec="nobody-has-this-name"):
        self.w, self.origin, self.number = w, w.origin(), 0
        self.proxy = w.proxy(intercept=spec)

    def use(self, spec):
        same(ask(self.w, self.proxy, "set", "mode=local:" + spec).well(), "")

    def curl(self, ca, *prefix, group=None, program="curl"):
        self.number += 1
        path = f"/{self.number}"
        words = [*prefix, program, "--disable", "--silent", "--show-error", "--max-time", "10", "--cacert", ca,
                 self.origin.url(path)]
        if group:
            procs = os.path.join(self.w.cgroup, group, "cgroup.procs")
            words = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', procs, *words]
        return self.w.run(*words), path

    def taken(self, *prefix, **options):
        done, path = self.curl(self.w.ca, *prefix, **options)
        contains(done.well(), "the origin's answer to " + path)
        same(self.proxy.flow(path)["metadata"]["mitm_bpf.pid"], done.pid, "the flow's pid")

    def direct(self, *prefix, **options):
        done, path = self.curl(self.w.certificates.ca, *prefix, **options)
        contains(done.well(), "the origin's answer to " + path)

    def try_one(self, **options):
        """True: it was taken."""
        path = self.w.certificates.path("both.pem")
        with open(path, "w", encoding="ascii") as out:
            for ca in (self.w.ca, self.w.certificates.ca):
                with open(ca, encoding="ascii") as part:
                    out.write(part.read())
        done, where = self.curl(path, **options)
        contains(done.well(), "the origin's answer to " + where)
        return any(f["request"]["path"] == where.encode() for f in self.proxy.flows())

    def group(self, name):
        path = os.path.join(self.w.cgroup, name)
        os.mkdir(path)

        def remove():
            for _ in range(100):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
                    return
                time.sleep(0.02)
        self.w.stack.callback(remove)
        return name


def readable(w):
    """Another user has to reach the certificates."""
    os.chmod(w.tmp, 0o755)
    os.chmod(w.confdir, 0o755)
    for folder, _, files in os.walk(os.path.dirname(w.certificates.ca)):
        os.chmod(folder, 0o755)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)


NOBODY = ("setpriv", "--reuid=65534", "--clear-groups")


def test_user(w):
    """user:NAME and user:UID, and everybody but one"""
    c = Case(w, "user:nobody")
    readable(w)
    c.proxy.said('Include processes of user "nobody".')
    c.taken(*NOBODY)
    c.direct()
    c.use("!user:65534")
    c.direct(*NOBODY)
    c.taken()


def test_cgroup(w):
    """cgroup:PATH with the groups below it, also those made later"""
    c = Case(w)
    c.group("web")
    c.use(f"cgroup:/{w.cgroup_name}/web")
    c.taken(group="web")
    c.direct()
    c.group("web/worker")
    c.taken(group="web/worker")
    c.use(f"curl,!cgroup:{w.cgroup}/web/worker")
    c.direct(group="web/worker")
    c.taken(group="web")


def test_unit(w):
    """unit:NAME, with and without its kind, and one that starts after us; a name may hold an @"""
    c = Case(w)
    c.group("mbtest.service")
    c.group("mbtest@1.service")
    c.use("unit:mbtest")
    c.taken(group="mbtest.service")
    c.direct(group="mbtest@1.service")
    c.use("unit:mbtest@1.service")
    c.proxy.said('of unit "mbtest@1.service".')
    c.taken(group="mbtest@1.service")
    c.direct()
    c.use("unit:mbtest-later.service")
    c.proxy.said("unit:mbtest-later.service matches nothing now: no such unit runs")
    c.group("mbtest-later.service")
    wait_for(5, "the unit that started later is taken", lambda: c.try_one(group="mbtest-later.service"))


def test_appears(w):
    """A unit that starts later is looked up when its cgroup is made, not only once a second"""
    c, times = Case(w, "unit:mbtest-appears.service"), 20
    both = w.certificates.path("both-appears.pem")
    with open(both, "w", encoding="ascii") as out:
        for ca in (w.ca, w.certificates.ca):
            with open(ca, encoding="ascii") as part:
                out.write(part.read())
    for number in range(times):
        c.group(f"round-{number}")
        c.curl(both, group=c.group(f"round-{number}/mbtest-appears.service"))[0].well()
    time.sleep(0.5)
    taken = len(c.proxy.flows())
    e2e.diag(f"{taken} of {times} programs that connect at once in a new unit are taken with that")
    check(taken >= times / 4, "looking once a second would do as well")      # one in twenty, by that


def test_container(w):
    """container:NAME and container:ID of docker and podman, from their files; unknown ones are said"""
    home = "/home"
    if not os.path.isdir(home):
        raise e2e.Skipped("no /home to put something over")
    subprocess.run(["mount", "-t", "tmpfs", "none", home], check=True)
    w.stack.callback(subprocess.run, ["umount", home], check=True)
    storage = os.path.join(home, "someone/.local/share/containers/storage/overlay-containers")
    os.makedirs(storage)
    with open(os.path.join(storage, "containers.json"), "w", encoding="ascii") as f:
        json.dump([{"id": ID, "names": ["web"]}, {"id": OTHER, "names": ["db"]},
                   {"id": "ab" * 32, "names": ["idle"]}], f)
    c = Case(w)
    c.group(f"libpod-{ID}.scope")
    c.group(f"libpod-{ID}.scope/container")
    c.group(f"docker-{OTHER}.scope")
    c.use("container:web")
    c.taken(group=f"libpod-{ID}.scope/container")
    c.direct(group=f"docker-{OTHER}.scope")
    c.use(f"container:{OTHER[:12]}")
    c.taken(group=f"docker-{OTHER}.scope")
    c.direct(group=f"libpod-{ID}.scope")
    c.use("curl,!container:web")
    c.direct(group=f"libpod-{ID}.scope/container")
    c.taken()
    done = ask(w, c.proxy, "set", "mode=local:container:nosuch")
    check(done.status != 0, "an unknown container was taken")
    contains(done.err, 'no container is called "nosuch"; known are: web, db')
    c.use("container:idle")
    c.proxy.said("container:idle matches nothing now: that container does not run")
    c.use("container:" + "cd" * 32)
    c.proxy.said("matches nothing now: no such container runs; it is taken when it starts")
    c.group(f"docker-{'cd' * 32}.scope")
    wait_for(10, "the container with that id is taken", lambda: c.try_one(group=f"docker-{'cd' * 32}.scope"))
    c.use("curl,!container:web")
    c.direct(group=f"libpod-{ID}.scope/container")


def test_exe(w):
    """exe:/path is that very file, comm:name the whole name"""
    c = Case(w)
    curl = os.path.realpath(shutil.which("curl"))
    copy = os.path.join(w.tmp, "curl-copy")
    shutil.copy(curl, copy)
    c.use("exe:" + curl)
    c.taken()
    c.direct(program=copy)
    c.use("exe:" + copy)
    c.taken(program=copy)
    c.direct()
    c.use("comm:curl")
    c.taken()
    c.direct(program=copy)
    c.use("curl,!comm:curl")
    c.direct()
    c.taken(program=copy)


def test_exe_in_a_chroot(w):
    """exe:/path in a chroot begins at that root, as what is seen in /proc there"""
    root = os.path.join(w.tmp, "root")
    os.makedirs(root)
    subprocess.run(["mount", "--rbind", "/", root], check=True)
    w.stack.callback(subprocess.run, ["umount", "--lazy", root], check=True)
    origin, curl = w.origin(), os.path.realpath(shutil.which("curl"))
    proxy = w.proxy(intercept="exe:" + curl, prefix=("chroot", root))
    done = w.run("chroot", root, curl, "--disable", "--silent", "--show-error", "--max-time", "10", "--cacert", w.ca,
                 origin.url("/in-a-chroot"))
    contains(done.well(), "the origin's answer to /in-a-chroot")
    same(proxy.flow("/in-a-chroot")["metadata"]["mitm_bpf.exe"], curl, "the flow's exe")
    listed = w.run("chroot", root, MITM_BPF, "ps", "--pid", str(proxy.pid), inside=False).well()
    contains(listed, " own ")


def test_tree(w):
    """tree:PID with who descends from it, whatever its name says"""
    c = Case(w)
    shell = w.start("sh", stdin=subprocess.PIPE)

    def inside(ca):
        c.number += 1
        shell.stdin.write(f"(curl --disable -sS --max-time 10 --cacert {ca} {c.origin.url(f'/{c.number}')};"
                          " echo done)\n".encode())
        shell.stdin.flush()
        same(shell.stdout.readline().decode().strip(), f"the origin's answer to /{c.number}", "what curl said")
        same(shell.stdout.readline().decode().strip(), "done")
    c.use(f"!curl,tree:{shell.pid}")
    inside(w.ca)
    c.proxy.flow(f"/{c.number}")
    c.direct()
    c.use(f"curl,!tree:{shell.pid}")
    inside(w.certificates.ca)
    c.taken()


def listed(w, proxy, pid):
    """The columns of one process in `mitm-bpf ps`."""
    lines = ask(w, proxy, "ps").well().splitlines()
    same(lines[0].split(), ["PID", "USER", "TRAFFIC", "NAME", "WHERE", "BY"], "the head")
    found = [line.split(None, 5) for line in lines if line.split()[0] == str(pid)]
    return (found[0] + [""])[1:6] if found else None


def test_ps(w):
    """mitm-bpf ps: whom it takes, whom not, where they are, and by which rule"""
    c = Case(w, "user:nobody,!comm:cat")
    c.group(f"docker-{ID}.scope")
    where = "/" + w.cgroup_name
    procs = os.path.join(w.cgroup, f"docker-{ID}.scope", "cgroup.procs")
    sleeper = w.start(*NOBODY, "sleep", "60")
    cat = w.start(*NOBODY, "cat", stdin=subprocess.PIPE)
    root = w.start("sleep", "60")
    inside = w.start("sh", "-c", 'echo $$ >"$0" && exec sleep 60', procs)
    outside = w.start("sleep", "60", inside=False)
    everybody = (sleeper, cat, root, inside, outside)
    wait_for(5, "all are what they will be", lambda: all(
        (listed(w, c.proxy, p.pid) or [0, 0, "?"])[2] in ("sleep", "cat") for p in everybody))
    same(listed(w, c.proxy, sleeper.pid), ["nobody", "taken", "sleep", where, "user:nobody"])
    same(listed(w, c.proxy, cat.pid), ["nobody", "-", "cat", where, "!comm:cat"])
    same(listed(w, c.proxy, root.pid), ["root", "-", "sleep", where, ""])
    same(listed(w, c.proxy, inside.pid), ["root", "-", "sleep", "container:" + ID[:12], ""])
    same(listed(w, c.proxy, outside.pid)[1], "outside")
    same(listed(w, c.proxy, c.proxy.pid)[1], "own")
    c.use(f"!container:{ID[:12]}")
    same(listed(w, c.proxy, inside.pid)[1:], ["-", "sleep", "container:" + ID[:12], f"!container:{ID[:12]}"])
    same(listed(w, c.proxy, root.pid)[1:], ["taken", "sleep", where, "all others"])
    watch = w.start(MITM_BPF, "ps", "--watch", "--pid", str(c.proxy.pid), inside=False)
    heads = 0
    while heads < 2:
        line = watch.stdout.readline()
        check(line, "ps --watch ended")
        heads += line.split()[:2] == [b"PID", b"USER"]
    e2e.end(watch)
    regular = w.proxy("-m", "regular@127.0.0.1:0")
    done = ask(w, regular, "ps")
    same(done.status, 1, "the status of ps where nothing is intercepted")
    contains(done.err, "intercepts no processes")


def test_refusals(w):
    """what a word does not understand is said, and who is intercepted stays"""
    c = Case(w, "comm:curl")
    for spec, text in (
        ("user:", "user: wants the name or number of a user"),
        ("user:nosuchuser", 'no user is called "nosuchuser"'),
        ("exe:curl", "exe: wants an absolute path"),
        ("tree:x", "tree: wants the id of a process"),
        ("container:nosuch", 'no container is called "nosuch"; known are'),
    ):
        done = ask(w, c.proxy, "set", "mode=local:" + spec)
        check(done.status != 0, f"{spec} was done")
        contains(done.err, text)
    c.taken()


def test_gone(w):
    """a pid that is nobody's is told of, and leaves the rest of the spec as it is"""
    gone = w.run("true").pid
    proxy = w.proxy(intercept=f"curl,!{gone}")
    proxy.said(f"!{gone} matches nothing now: there is no such process")
    w.curl(w.origin().url("/curl")).well()
    proxy.flow("/curl")
    same(proxy.stop(), 0, "the exit status")


if __name__ == "__main__":
    e2e.main(globals())
