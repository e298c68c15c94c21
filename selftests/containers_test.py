#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Containers that podman and runc really run: found by name, id and cgroup from outside, taken, and given the CA.

They have a root folder instead of an image, which is made here, and all state of podman's in the test's folder.
"""
import contextlib
import os
import re
import shutil
import subprocess

import e2e
from e2e import LIBC, MITM_BPF, Skipped, check, contains, netlink, same, wait_for
from run_test import environment, folders, sums

CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


# ---- a root folder

def libraries(program):
    """Those that a program is linked with, and its loader."""
    said = subprocess.run(["ldd", program], capture_output=True, check=True, text=True).stdout
    return re.findall(r"(?:=> |^\s*)(/\S+)", said, re.M)


def make_root(folder):
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc/ssl/certs", "root"):
        os.makedirs(os.path.join(folder, name))
    shutil.copy(shutil.which("busybox"), folder + "/bin/busybox")
    for name in ("sh", "sleep", "cat", "mount", "unshare", "grep", "head", "touch", "test", "ls"):
        os.symlink("busybox", f"{folder}/bin/{name}")
    curl = shutil.which("curl")
    shutil.copy(curl, folder + "/bin/curl")
    for library in libraries(curl):
        os.makedirs(folder + os.path.dirname(library), exist_ok=True)
        shutil.copy(library, folder + library)
    shutil.copy(CA_BUNDLE, folder + CA_BUNDLE)


# ---- podman

def own(name):
    """Names are known on the whole machine, and others may test there, too."""
    return f"{name}-{os.getpid()}"


WEB, DB = own("web"), own("db")


def unify(w):
    """On a hybrid host the runtime would make groups in every old hierarchy, too: here, only the v2 tree is seen."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        old = [line.split()[1] for line in mounts if line.split()[2] == "cgroup"]
    if not old:
        return
    subprocess.run(["umount", "-R", "/sys/fs/cgroup"], check=True)
    subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    w.cgroup = "/sys/fs/cgroup/" + w.cgroup_name


class Podman:
    """podman with all its state in a folder of its own, and containers below the test's cgroup."""

    def __init__(self, w, runtime="runc"):
        for program in ("podman", runtime, "busybox"):
            if not shutil.which(program):
                raise Skipped(f"needs {program}")
        said = subprocess.run(["ldd", shutil.which("busybox")], capture_output=True, check=False, text=True)
        if said.returncode == 0:
            raise Skipped("needs a busybox that is linked statically (Debian: busybox-static)")
        if not os.path.exists(CA_BUNDLE):
            raise Skipped(f"needs {CA_BUNDLE}")
        self.w, self.folder, self.runtime = w, os.path.join(w.tmp, "podman"), runtime
        if not os.path.isdir(self.folder):
            unify(w)
            os.makedirs(self.folder)
            make_root(self.folder + "/rootfs")
            w.whole.callback(self.unmount)
        self.words = ["podman", "--root", self.folder + "/root", "--runroot", self.folder + "/run", "--tmpdir",
                      self.folder + "/tmp", "--cgroup-manager", "cgroupfs", "--runtime", runtime, "--events-backend",
                      "none"]

    def unmount(self):
        """What podman keeps mounted in its folders."""
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            for line in reversed(mounts.read().splitlines()):
                if line.split()[1].startswith(self.folder):
                    LIBC.umount2(line.split()[1].encode(), 2)

    def __call__(self, *words, **options):
        options.setdefault("env", environment())
        return self.w.run(*self.words, *words, inside=False, timeout=60, **options)

    def options(self, name):
        """A hard limit above our own cannot be had without CAP_SYS_RESOURCE; nor pids.max where v1 has it."""
        self.w.stack.callback(self, "rm", "--force", "--time", "0", "--ignore", name)
        # For a filter of devices, which privileged containers have not, crun raises its limit of locked memory, which
        # takes CAP_SYS_RESOURCE.
        more = ["--privileged"] if self.runtime == "crun" else []
        return ["--name", name, "--cgroup-parent", "/" + self.w.cgroup_name, "--ulimit", "nofile=1024:1024",
                "--ulimit", "nproc=1024:1024", "--pids-limit", "0", "--cap-add", "SYS_ADMIN", *more]

    def container(self, name, *options, network="host", command=("/bin/sleep", "1000"), how=("run", "--detach")):
        done = self(*how, *self.options(name), "--network", network, *options, "--rootfs", self.folder + "/rootfs",
                    *command)
        return Container(self, name, done.well().strip().splitlines()[-1])


class Container:
    def __init__(self, podman, name, full_id):
        self.podman, self.w, self.name, self.id = podman, podman.w, name, full_id
        check(re.fullmatch("[0-9a-f]{64}", full_id), f"an odd id: {full_id}")

    def exec(self, *words):
        return self.podman("exec", self.name, *words)

    def curl(self, url, *words):
        return self.exec("/bin/curl", "--silent", "--show-error", "--max-time", "10", *words, url)

    def group(self):
        with open(f"/proc/{self.pid()}/cgroup", encoding="ascii") as f:
            return re.search(r"^0::(.*)$", f.read(), re.M).group(1)

    def pid(self):
        return int(self.podman("inspect", "--format", "{{.State.Pid}}", self.name).well())


class Case:
    """Requests of containers, each with a path of its own."""

    def __init__(self, w, spec):
        self.w, self.origin, self.number, self.left = w, w.origin(), 0, []
        self.proxy = w.proxy(intercept=spec)

    def ask(self, container):
        self.number += 1
        path = f"/{self.number}"
        done = container.curl(self.origin.url(path), "--insecure")
        contains(done.well(), "the origin's answer to " + path)
        return path

    def seen(self, path):
        return [f for f in self.proxy.flows() if f["type"] == "http" and f["request"]["path"] == path.encode()]

    def taken(self, container):
        own = self.proxy.flow(self.ask(container))["metadata"]
        contains(own["mitm_bpf.cgroup"], container.id, "the flow's cgroup")
        return own

    def direct(self, container):
        """What end() looks for: all flows are in the file then."""
        self.left.append(self.ask(container))

    def end(self):
        same(self.proxy.stop(), 0, "the exit status")
        for path in self.left:
            same(self.seen(path), [], f"flows of {path}")

    def use(self, spec):
        self.w.run(MITM_BPF, "set", "--pid", str(self.proxy.pid), "mode=local:" + spec, inside=False).well()


# ---- who is taken

def test_names(w):
    """container:NAME, container:ID and cgroup:PATH are the podman container that runs, and no other"""
    podman = Podman(w)
    web, db = podman.container(WEB), podman.container(DB)
    c = Case(w, "container:" + WEB)
    own = c.taken(web)
    contains(own["mitm_bpf.exe"], "curl")
    c.direct(db)
    listed = w.run(MITM_BPF, "ps", "--pid", str(c.proxy.pid), inside=False).well()
    contains(listed, f" container:{WEB} ")
    contains(listed, f" container:{DB} ")
    for spec in ("container:" + db.id, "container:" + db.id[:8], "cgroup:" + db.group(), "!container:" + WEB):
        c.use(spec)
        c.taken(db)
        c.direct(web)
    done = w.run(MITM_BPF, "set", "--pid", str(c.proxy.pid), "mode=local:container:nosuch", inside=False)
    check(done.status != 0, "an unknown container was taken")
    contains(done.err, WEB)
    contains(done.err, DB)
    c.end()


def made_again(w, runtime):
    podman = Podman(w, runtime)
    first = podman.container(own("again"))
    c = Case(w, "container:" + own("again"))
    c.taken(first)
    podman("rm", "--force", "--time", "0", own("again")).well()
    second = podman.container(own("again"))
    check(second.id != first.id, "the same id")
    wait_for(15, "the new container of that name is taken", lambda: c.seen(c.ask(second)))
    c.taken(second)
    c.end()


def test_made_again(w):
    """a container that was removed and made again under its name"""
    made_again(w, "runc")


def test_crun(w):
    """the same of a container that crun runs"""
    made_again(w, "crun")


def test_own_files(w):
    """a container that does not run yet, from podman's own files; it is taken when it is started"""
    podman = Podman(w)
    if not os.path.isdir("/home"):
        raise Skipped("no /home to put something over")
    subprocess.run(["mount", "-t", "tmpfs", "none", "/home"], check=True)
    w.stack.callback(subprocess.run, ["umount", "/home"], check=True)
    os.makedirs("/home/someone/.local/share/containers")
    os.symlink(podman.folder + "/root", "/home/someone/.local/share/containers/storage")
    name = own("idle")
    idle = podman.container(name, how=("create",))
    c = Case(w, "container:" + name)
    c.proxy.said(f"container:{name} matches nothing now: that container does not run; it is taken when it starts")
    podman("start", name).well()
    wait_for(15, "it is taken", lambda: c.seen(c.ask(idle)))
    c.end()


# ---- a network of its own

NET4, NET6 = "10.78.0.", "fd78::"


def own_network(w):
    """A network namespace that is no process's, with a veth to the origin's; what `--network` takes."""
    path = os.path.join(w.tmp, "netns")
    with open(path, "wb"):
        pass
    subprocess.run(["unshare", "--net=" + path, "true"], check=True)
    w.stack.callback(os.unlink, path)
    w.stack.callback(LIBC.umount2, path.encode(), 2)
    ns = os.open(path, os.O_RDONLY)
    w.stack.callback(os.close, ns)
    netlink("link", "add", "mbC", "type", "veth", "peer", "name", "mbD", netns=ns)
    netlink("link", "set", "mbD", "netns", f"/proc/{os.getpid()}/fd/{w.origin_ns}", netns=ns)
    for where, link, number in ((ns, "mbC", 1), (w.origin_ns, "mbD", 2)):
        netlink("addr", "add", f"{NET4}{number}/24", "dev", link, netns=where)
        netlink("-6", "addr", "add", f"{NET6}{number}/64", "dev", link, "nodad", netns=where)
        netlink("link", "set", link, "up", netns=where)
    netlink("link", "set", "lo", "up", netns=ns)
    w.stack.callback(subprocess.run, ["nsenter", f"--net=/proc/{os.getpid()}/fd/{w.origin_ns}", "ip", "link", "del",
                                      "mbD"], check=False, capture_output=True)
    return "ns:" + path


def asks_both(port):
    """For a container's shell: what the origin sees of it over both families, and what it sees itself."""
    return "; ".join("curl --silent --show-error --insecure --max-time 10 --write-out '%{remote_ip} %{local_ip}\\n' "
                     f"'https://{host}:{port}/peer?{number}'"
                     for number, host in enumerate((NET4 + "2", f"[{NET6}2]"), 1))


def seen_by_both(text):
    """The origin's lines without the port, the container's as they are."""
    return [line.split()[0] if number % 2 == 0 else line for number, line in enumerate(text.splitlines())]


def somebody_listens(network):
    """Whether there is an endpoint for what connects in there."""
    inside = ["nsenter", "--net=" + network.removeprefix("ns:"), "cat", "/proc/net/tcp", "/proc/net/tcp6"]
    return " 0A " in subprocess.run(inside, check=True, capture_output=True, text=True).stdout


FROM_OUTSIDE = [f"::ffff:{NET4}1", f"{NET4}2 {NET4}1", NET6 + "1", f"{NET6}2 {NET6}1"]


def test_own_network(w):
    """a container with a network of its own: its very first connection is taken, and made from its address"""
    podman, network = Podman(w), own_network(w)
    o = w.origin()

    def prepared(name):
        podman.container(name, network=network, how=("create",), command=("/bin/sh", "-c", asks_both(o.port)))
        podman("init", name).well()

    def start(name):
        return seen_by_both(podman("start", "--attach", name).well())
    prepared(own("without"))
    same(start(own("without")), FROM_OUTSIDE, "what is seen without us")
    prepared(own("with"))
    proxy = w.proxy("--ssl-insecure", intercept="container:" + own("with"))     # no certificate is for these addresses
    wait_for(20, "somebody listens in the container", lambda: somebody_listens(network))
    same(start(own("with")), FROM_OUTSIDE, "what is seen with us")
    for number, host in ((1, NET4 + "2"), (2, NET6 + "2")):
        flow = proxy.flow(f"/peer?{number}")
        same(flow["server_conn"]["address"][:2], [host, o.port], "the server's address")
        contains(flow["metadata"]["mitm_bpf.exe"], "curl")
        contains(flow["metadata"]["mitm_bpf.cgroup"], "/libpod-")
    same(proxy.stop(), 0, "the exit status")
    same(len(proxy.flows()), 2, "the number of flows")


# ---- trust

def trust(w, *words):
    return w.run(MITM_BPF, "trust", "--confdir", w.confdir, *words, inside=False)


def distrusts(container, url):
    """60: the peer's certificate could not be verified."""
    same(container.curl(url).status, 60, "curl's exit status")


def test_trust(w):
    """trust container:NAME: it verifies our certificates by its own bundle; no other container, and not the host"""
    podman = Podman(w)
    web, db = podman.container(WEB), podman.container(DB)
    o, before = w.origin(), sums()
    proxy = w.proxy("--cgroup", w.cgroup)
    distrusts(web, o.url("/before"))
    podman("exec", "--detach", WEB, "/bin/curl", "--insecure", "--silent", o.url("/slow/100/1")).well()
    wait_for(10, "curl runs", lambda: any(path.startswith("/slow") for _, path, _, _ in o.requests))
    done = trust(w, "container:" + WEB)
    contains(done.well(), CA_BUNDLE)
    contains(done.out, f"  {web.pid()} sleep: has no TLS library loaded")
    check(re.search(r"\n  \d+ curl: has lib\w+ loaded; what it trusts it may have read already: restart it", done.out),
          done.out)
    contains(web.curl(o.url("/trusted")).well(), "the origin's answer to /trusted")
    contains(proxy.flow("/trusted")["metadata"]["mitm_bpf.cgroup"], web.id)
    distrusts(db, o.url("/other"))
    same(sums(), before, "the system's stores")
    same(folders(), set(), "folders that are left")
    with open(podman.folder + "/rootfs" + CA_BUNDLE, "rb") as f, open(CA_BUNDLE, "rb") as ours:
        same(f.read() == ours.read(), True, "the image's own bundle")
    done = trust(w, "container:" + WEB)
    same(done.status, 1, "the status of a second time")
    contains(done.err, "trust --undo container:" + WEB)
    trust(w, "--undo", "container:" + web.id[:12]).well()
    distrusts(web, o.url("/after"))
    done = trust(w, "--undo", "container:" + WEB)
    same(done.status, 1, "the status of a second undo")
    contains(done.err, "nothing to undo for container " + WEB)


def test_trust_all_namespaces(w):
    """trust container:NAME: also in mount namespaces that its processes made for themselves"""
    podman = Podman(w)
    web = podman.container(WEB, command=("/bin/unshare", "-m", "/bin/sh", "-c", "touch /tmp/inner; sleep 1000 & "
                                           "exec unshare -m sh -c 'touch /tmp/ready; exec sleep 1000'"))
    wait_for(10, "the inner namespace is there", lambda: web.exec("/bin/test", "-e", "/tmp/ready").status == 0)
    with open(f"/sys/fs/cgroup{web.group()}/cgroup.procs", encoding="ascii") as f:
        pids = f.read().split()
    spaces = {os.stat(f"/proc/{pid}/ns/mnt").st_ino for pid in pids}
    same(len(spaces), 2, f"mount namespaces of {pids}")
    w.proxy(intercept="nobody").stop()
    done = trust(w, "container:" + WEB)
    same(done.well().count(" now sees copies with the CA"), 2, "where it was done: " + done.out)
    for pid in pids:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            check(re.search(r" /etc/ssl/certs\S* .* tmpfs mitm-bpf ", f.read()), f"{pid} sees no copies")
    same(trust(w, "container:" + WEB, "--undo").well().count("originals again"), 2, "where it was undone")
    for pid in pids:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8") as f:
            check("mitm-bpf" not in f.read().replace("mitm-bpf-test", ""), f"{pid} sees copies")


def test_trust_user_namespace(w):
    """trust container:NAME: of one in a user namespace of its own, where our root is nobody"""
    podman, root = Podman(w), os.path.join(w.tmp, "shifted")
    shutil.copytree(podman.folder + "/rootfs", root, symlinks=True)
    w.stack.callback(shutil.rmtree, root)
    subprocess.run(["chown", "--recursive", "--no-dereference", "100000:100000", root], check=True)
    for folder in (w.tmp, podman.folder):       # to be passed by the container's root
        os.chmod(folder, 0o755)
    done = podman("run", "--detach", *podman.options(own("shifted")), "--uidmap", "0:100000:1000", "--network", "host",
                  "--rootfs", root, "/bin/sleep", "1000")
    shifted, o = Container(podman, own("shifted"), done.well().strip()), w.origin()
    with open(f"/proc/{shifted.pid()}/status", encoding="ascii") as f:
        contains(f.read(), "Uid:\t100000\t")
    w.proxy("--cgroup", w.cgroup)
    distrusts(shifted, o.url("/before"))
    trust(w, "container:" + own("shifted")).well()
    contains(shifted.curl(o.url("/trusted")).well(), "the origin's answer to /trusted")
    trust(w, "container:" + own("shifted"), "--undo").well()
    distrusts(shifted, o.url("/after"))


def test_trust_refused(w):
    """trust container:NAME: unknown ones, such that do not run, and beginnings of several ids are said"""
    podman = Podman(w)
    podman.container(WEB)
    for words, text in ((["container:nosuch"], 'no container is called "nosuch"; known are: '),
                        (["container:nosuch", "--undo"], "no container is called"),
                        (["container:we"], "no container is called")):
        done = trust(w, *words)
        same(done.status, 1, f"the status of {words}")
        contains(done.err, text)
    for words in (["container:"], ["container:" + WEB, "1"], ["container:" + WEB, "container:" + DB]):
        same(trust(w, *words).status, 2, f"the status of {words}")


if __name__ == "__main__":
    e2e.main(globals())
