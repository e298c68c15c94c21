#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Containers that docker and containerd (`ctr`) really run: found by name, id and cgroup, taken, and given the CA.

The daemons are started here, with all that they keep in the test's folder; containers are run from a root folder that
is made here.
"""
import json
import os
import re
import shutil
import subprocess

from containers_test import CA_BUNDLE, Case, distrusts, make_root, own, trust, unify
from e2e import CLIENT4, LIBC, MITM_BPF, ORIGIN4, Skipped, check, contains, main, netlink, same, wait_for
from run_test import environment, folders, sums


# ---- the daemons

def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"needs {program} (Debian: docker.io, containerd, busybox-static)")
    said = subprocess.run(["ldd", shutil.which("busybox")], capture_output=True, check=False, text=True)
    if said.returncode == 0:
        raise Skipped("needs a busybox that is linked statically (Debian: busybox-static)")
    if not os.path.exists(CA_BUNDLE):
        raise Skipped(f"needs {CA_BUNDLE}")


def root_folder(w):
    """Made once; the runtimes keep their sockets in folders that are ours alone, and see one cgroup hierarchy."""
    folder = os.path.join(w.tmp, "rootfs")
    if not os.path.isdir(folder):
        unify(w)
        for place in ("/run/containerd", "/run/docker", "/etc/docker"):
            os.makedirs(place, exist_ok=True)
            if LIBC.mount(b"none", place.encode(), b"tmpfs", 0, b"mode=755") < 0:
                raise Skipped("cannot mount a tmpfs")
        w.whole.callback(unmount, w.tmp)
        make_root(folder)
    return folder


def unmount(folder):
    """What the daemons leave mounted."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in reversed(mounts.read().splitlines()):
            if line.split()[1].startswith(folder):
                LIBC.umount2(line.split()[1].encode(), 2)


def start(w, *words, ready):
    """A daemon, until the test is over; skips where it cannot be."""
    log = os.path.join(w.tmp, words[0] + ".log")
    with open(log, "wb") as out:
        daemon = w.start(*words, inside=False, stdout=out, stderr=out, env=environment())

    def asked():
        if daemon.poll() is not None:
            with open(log, encoding="utf-8") as text:
                raise Skipped(f"{words[0]} does not run here: " + text.read().strip().splitlines()[-1])
        return ready().status == 0
    wait_for(60, f"{words[0]} answers", asked)


class Docker:
    """dockerd, whose data and state are in no usual place."""

    count = 0

    def __init__(self, w, *options, settings=None):
        needs("dockerd", "docker", "containerd", "runc", "busybox")
        root = root_folder(w)
        Docker.count += 1
        self.w, self.folder = w, os.path.join(w.tmp, f"docker-{Docker.count}")
        os.mkdir(self.folder)
        self.data = self.folder + "/data"
        with open("/etc/docker/daemon.json", "w", encoding="ascii") as f:
            json.dump(settings(self) if settings else {}, f)
        words = ["--exec-root", self.folder + "/run", "--pidfile", self.folder + "/pid", "--host", self.host(),
                 "--iptables=false", "--ip6tables=false", "--storage-driver", "vfs", "--cgroup-parent",
                 "/" + w.cgroup_name, "--log-level", "error", *options]
        start(w, "dockerd", *([] if settings else ["--data-root", self.data]), *words,
              ready=lambda: self("version"))
        archive = self.folder + "/root.tar"
        subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
        self("import", archive, "mitm-bpf-test:1").well()

    def host(self):
        return f"unix://{self.folder}/sock"

    def __call__(self, *words, **options):
        env = environment(DOCKER_CONFIG=self.folder, DOCKER_HOST=self.host())
        return self.w.run(shutil.which("docker", path="/usr/bin:" + os.environ["PATH"]), *words, inside=False,
                          timeout=60, env=env, **options)

    def container(self, name, *options, network="host", command=("/bin/sleep", "1000"), how=("run", "--detach")):
        self.w.stack.callback(self, "rm", "--force", name)
        done = self(*how, "--name", name, "--network", network, *options, "mitm-bpf-test:1", *command)
        return Container(self, name, done.well().strip().splitlines()[-1])


class Container:
    def __init__(self, docker, name, full_id):
        self.docker, self.name, self.id = docker, name, full_id
        check(re.fullmatch("[0-9a-f]{64}", full_id), f"an odd id: {full_id}")

    def curl(self, url, *words):
        return self.docker("exec", self.name, "/bin/curl", "--silent", "--show-error", "--max-time", "10", *words, url)


class Containerd:
    """containerd with its data in the test's folder, and its state where it is usually."""

    def __init__(self, w):
        needs("containerd", "ctr", "runc", "busybox")
        self.w, self.root, self.socket = w, root_folder(w), os.path.join(w.tmp, "containerd.sock")
        config = os.path.join(w.tmp, "containerd.toml")
        with open(config, "w", encoding="ascii") as f:
            f.write(f'version = 2\nroot = "{w.tmp}/containerd"\nstate = "/run/containerd"\n'
                    f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                    f'[grpc]\n  address = "{self.socket}"\n[ttrpc]\n  address = "{self.socket}.ttrpc"\n')
        start(w, "containerd", "--config", config, "--log-level", "error", ready=lambda: self("version"))

    def __call__(self, *words, space="default"):
        return self.w.run("ctr", "--address", self.socket, "--namespace", space, *words, inside=False, timeout=60,
                          env=environment())

    def container(self, name, space="default"):
        """Without the limits of ctr, for which files are missing where controllers are not the v2 tree's."""
        spec = json.loads(self("oci", "spec").well())
        spec["root"] = {"path": self.root}
        spec["process"].update(args=["/bin/sleep", "1000"], rlimits=[], terminal=False)
        group = f"/{self.w.cgroup_name}/{space}/{name}"
        spec["linux"].update(cgroupsPath=group, resources={"devices": spec["linux"]["resources"]["devices"]})
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
        path = os.path.join(self.w.tmp, f"{space}-{name}.json")
        with open(path, "w", encoding="ascii") as f:
            json.dump(spec, f)
        self.w.stack.callback(self, "container", "rm", name, space=space)
        self.w.stack.callback(self, "task", "rm", "--force", name, space=space)
        self("run", "--detach", "--config", path, name, space=space).well()
        return Task(self, name, space, group)


class Task:
    def __init__(self, containerd, name, space, group):
        self.containerd, self.name, self.space, self.id, self.count = containerd, name, space, group, 0

    def curl(self, url, *words):
        self.count += 1
        return self.containerd("task", "exec", "--exec-id", f"curl-{self.count}", self.name, "/bin/curl", "--silent",
                               "--show-error", "--max-time", "10", *words, url, space=self.space)


# ---- docker

BRIDGE = "10.79.0."


def test_docker(w):
    """container:NAME and container:ID are the docker container that runs, wherever docker's data is, and no other"""
    docker = Docker(w, "--bridge=none")
    web, db = docker.container(own("web")), docker.container(own("db"))
    c = Case(w, "container:" + web.name)
    contains(c.taken(web)["mitm_bpf.exe"], "curl")
    c.direct(db)
    listed = w.run(MITM_BPF, "ps", "--pid", str(c.proxy.pid), inside=False).well()
    for each in (web, db):
        contains(listed, f" container:{each.name} ")
    for spec in ("container:" + db.id, "container:" + db.id[:12], "!container:" + web.name):
        c.use(spec)
        c.taken(db)
        c.direct(web)
    # under its new name, and made again under it
    docker("rename", db.name, own("moved")).well()
    c.use("container:" + own("moved"))
    c.taken(Container(docker, own("moved"), db.id))
    docker("rm", "--force", own("moved")).well()
    again = docker.container(own("moved"))
    wait_for(20, "the new container of that name is taken", lambda: c.seen(c.ask(again)))
    c.taken(again)
    c.direct(web)
    c.end()


def test_docker_settings(w):
    """a docker container that does not run yet, from the folder that daemon.json names; taken when it is started"""
    docker = Docker(w, "--bridge=none", settings=lambda docker: {"data-root": docker.data})
    idle = docker.container(own("idle"), how=("create",))
    c = Case(w, "container:" + idle.name)
    c.proxy.said(f"container:{idle.name} matches nothing now: that container does not run; it is taken when it starts")
    docker("start", idle.name).well()
    wait_for(20, "it is taken", lambda: c.seen(c.ask(idle)))
    c.taken(idle)
    c.end()


def test_docker_bridge(w):
    """a docker container behind docker's bridge: its very first connection is taken, and made from its own address"""
    docker = Docker(w, "--bip", BRIDGE + "1/24")
    netlink("route", "add", BRIDGE + "0/24", "via", CLIENT4, netns=w.origin_ns)
    o = w.origin(where="namespace")

    def ask(name, path):
        return docker.container(name, network="bridge", how=("create",), command=(
            "/bin/curl", "--silent", "--show-error", "--insecure", "--max-time", "20", o.url(path)))

    def first(container):
        answer = docker("start", "--attach", container.name).well()
        contains(answer, BRIDGE, "what the origin sees")
        return answer.split()[0]
    without, with_us = ask(own("without"), "/peer?0"), [ask(own(f"with-{n}"), f"/peer?{n}") for n in range(1, 4)]
    first(without)
    proxy = w.proxy(intercept=",".join("container:" + each.id for each in with_us))
    for number, container in enumerate(with_us, 1):
        address = first(container)
        flow = proxy.flow(f"/peer?{number}")
        same(flow["server_conn"]["address"][:2], [ORIGIN4, o.port], "the server's address")
        same(flow["server_conn"]["sockname"][0], address.removeprefix("::ffff:"), "where it was made from")
        contains(flow["metadata"]["mitm_bpf.cgroup"], container.id)
    first(ask(own("neither"), "/peer?neither"))
    same(proxy.stop(), 0, "the exit status")
    same(len(proxy.flows()), len(with_us), "the number of flows")


def test_docker_trust(w):
    """trust container:NAME: it verifies our certificates by its own bundle; no other container, and not the host"""
    docker = Docker(w, "--bridge=none")
    web, db = docker.container(own("web")), docker.container(own("db"))
    o, before = w.origin(), sums()
    proxy = w.proxy("--cgroup", w.cgroup)
    distrusts(web, o.url("/before"))
    contains(trust(w, "container:" + web.name).well(), CA_BUNDLE)
    contains(web.curl(o.url("/trusted")).well(), "the origin's answer to /trusted")
    contains(proxy.flow("/trusted")["metadata"]["mitm_bpf.cgroup"], web.id)
    distrusts(db, o.url("/other"))
    same(sums(), before, "the system's stores")
    same(folders(), set(), "folders that are left")
    trust(w, "--undo", "container:" + web.name).well()
    distrusts(web, o.url("/after"))


# ---- ctr

def test_ctr(w):
    """container:NAME is what ctr calls so, in that cgroup alone; also when it is made again; trust and ps, too"""
    containerd = Containerd(w)
    web, db = containerd.container(own("web")), containerd.container(own("web") + "-db", "other")
    c = Case(w, "container:" + web.name)
    contains(c.taken(web)["mitm_bpf.exe"], "curl")
    c.direct(db)
    listed = w.run(MITM_BPF, "ps", "--pid", str(c.proxy.pid), inside=False).well()
    for each in (web, db):
        contains(listed, f" container:{each.name} ")
    c.use("container:" + db.name)
    c.taken(db)
    c.direct(web)
    done = w.run(MITM_BPF, "set", "--pid", str(c.proxy.pid), "mode=local:container:nosuch", inside=False)
    check(done.status != 0, "an unknown container was taken")
    contains(done.err, web.name)
    distrusts(db, c.origin.url("/distrusted"))
    trust(w, "container:" + db.name).well()
    contains(db.curl(c.origin.url("/trusted")).well(), "the origin's answer to /trusted")
    trust(w, "--undo", "container:" + db.name).well()
    containerd("task", "rm", "--force", db.name, space="other").well()
    containerd("container", "rm", db.name, space="other").well()
    again = containerd.container(db.name, "other")
    wait_for(20, "it is taken when it is made again", lambda: c.seen(c.ask(again)))
    c.end()


if __name__ == "__main__":
    main(globals())
