#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What CI jobs use: scripts/ci/record-container with podman's real containers, and the files for GitHub and GitLab."""
import os
import re
import signal

import e2e
import netns_test
from e2e import ROOT, Skipped, check, contains, read_flows, same, wait_for
from containers_test import CA_BUNDLE, DB, WEB, Podman, distrusts, own
from run_test import NOBODY, environment, sums

SCRIPT = os.path.join(ROOT, "scripts/ci/record-container")
CURL = ("/bin/curl", "--silent", "--show-error", "--max-time", "10")


class Recorder:
    """The script with what the test's world needs: its podman, its cgroup, and the origin's authority."""

    count = 0

    def __init__(self, w, name=WEB):
        self.w, self.podman, self.name = w, Podman(w), name
        Recorder.count += 1
        self.flows = os.path.join(w.tmp, f"recorded-{Recorder.count}.mitm")

    def words(self, *command, options=()):
        words = [SCRIPT, "--flows", self.flows, "--program", e2e.MITM_BPF, "--engine", " ".join(self.podman.words),
                 *options, self.name, "--cgroup", self.w.cgroup, "--set",
                 "ssl_verify_upstream_trusted_ca=" + self.w.certificates.ca]
        return words + (["--", *command] if command else [])

    def __call__(self, *command, options=(), env=None, **others):
        return self.w.run(*self.words(*command, options=options), inside=False, timeout=90,
                          env={**(env or environment()), "TMPDIR": self.w.tmp}, **others)

    def exec(self, *words):
        """A command that the script is to run: what goes on in the container meanwhile."""
        return [*self.podman.words, "exec", self.name, *words]

    def paths(self):
        return [f["request"]["path"].decode() for f in read_flows(self.flows, strict=True) if f["type"] == "http"]

    def log(self):
        with open(self.flows + ".log", encoding="utf-8") as f:
            return f.read()


def nothing_left(w, pids):
    """No mitm-bpf of the script's, and no folder of it."""
    for pid in pids:
        wait_for(15, f"process {pid} has ended", lambda p=pid: not os.path.exists(f"/proc/{p}") or
                 open(f"/proc/{p}/stat", encoding="ascii").read().split()[2] == "Z")


def proxies(w):
    """mitm-bpf processes that steer this test's group."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0]) == b"mitm-bpf" and w.cgroup.encode() in words:
            found.append(int(pid))
    return found


# ---- the script

def test_command(w):
    """a running container while a command runs: its TLS is in the file, decrypted, and the status is the command's"""
    r, o, before = Recorder(w), w.origin(), sums()
    web, db = r.podman.container(WEB), r.podman.container(DB)
    code = f"echo in; {' '.join(r.exec(*CURL, o.url('/during')))}; cat; exit 5"
    done = r("sh", "-c", code, stdin=b"what it reads\n")
    same(done.status, 5, "the status: " + done.err + r.log())
    same(done.out, "in\nthe origin's answer to /during\nwhat it reads\n", "standard output")
    same(r.paths(), ["/during"], "what was recorded")
    contains(read_flows(r.flows)[0]["metadata"]["mitm_bpf.cgroup"], web.id, "the flow's cgroup")
    contains(done.err, f"record-container: the flows of {WEB} are in {r.flows} ({os.path.getsize(r.flows)} bytes)")
    # as if nothing had been there
    distrusts(web, o.url("/after"))
    distrusts(db, o.url("/other"))
    same(o.requests[-1][1], "/during", "the last request that the origin saw")
    with open(f"/proc/{web.pid()}/mountinfo", encoding="utf-8") as f:
        check("tmpfs mitm-bpf " not in f.read(), "the container still sees copies")
    same(sums(), before, "the system's stores")
    nothing_left(w, proxies(w))


def test_created(w):
    """a container that was only created is recorded from its first connection on, and its status passed on"""
    r, o = Recorder(w, own("job")), w.origin()
    code = f"cat; {' '.join(CURL)} {o.url('/first')}; exit 3"
    r.podman.container(own("job"), "--interactive", how=("create",), command=("/bin/sh", "-c", code))
    done = r()
    same(done.status, 3, "the status: " + done.err + r.log())
    contains(done.out, "the origin's answer to /first")
    same(r.paths(), ["/first"], "what was recorded")
    same(o.connections, 1, "connections that the origin saw")


def test_own_network(w):
    """a created container with a network of its own is recorded, and the origin sees it come from there"""
    r, o, place = Recorder(w, own("job")), w.origin(), netns_test.Container(w)
    netns_test.named(w, place=place)
    ready = 'until grep -q "0100007F:.* 0A " /proc/net/tcp; do sleep 0.01; done'
    code = f"{ready}; {' '.join(CURL)} {o.url('/peer')}; exit 3"
    r.podman.container(own("job"), network="ns:/run/netns/place", how=("create",), command=("/bin/sh", "-c", code))
    done = r()
    same(done.status, 3, "the status: " + done.err + r.log())
    contains(done.out, place.v4, "where the origin was asked from")
    same(r.paths(), ["/peer"], "what was recorded")
    same(o.connections, 1, "connections that the origin saw")


def engine_without_init(w, podman):
    """podman, as docker is: nothing between created and started."""
    path = os.path.join(w.tmp, "like-docker")
    with open(path, "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\n[ "$1" != init ] || { echo "unknown command: init" >&2; exit 125; }\n'
                f'exec {" ".join(podman.words)} "$@"\n')
    os.chmod(path, 0o755)
    return path


def test_created_of_docker(w):
    """the same by an engine that cannot prepare it: it is started, and the command waits until it is taken"""
    r, o = Recorder(w, own("job")), w.origin()
    r.podman.container(own("job"), how=("create",))
    done = r(*r.exec(*CURL, o.url("/started")), options=("--engine", engine_without_init(w, r.podman)))
    same(done.well(), "the origin's answer to /started\n", "standard output")
    same(r.paths(), ["/started"], "what was recorded")


def test_until_it_ends(w):
    """without a command: until a running container ends"""
    r, o = Recorder(w, own("short")), w.origin()
    code = f"until test -e /tmp/go; do sleep 0.1; done; {' '.join(CURL)} {o.url('/late')}; exit 4"
    short = r.podman.container(own("short"), command=("/bin/sh", "-c", code))
    script = w.start(*r.words(), inside=False, env=environment(TMPDIR=w.tmp))
    wait_for(30, "it records", lambda: os.path.exists(r.flows + ".log") and "sees copies" in r.log())
    short.exec("/bin/touch", "/tmp/go").well()
    out, err = script.communicate(timeout=60)
    same(script.returncode, 4, f"the status: {out}{err}{r.log()}")
    same(r.paths(), ["/late"], "what was recorded")


def test_user(w):
    """the command is that of who called sudo, and so are the files"""
    os.chmod(w.tmp, 0o755)
    r = Recorder(w)
    r.podman.container(WEB)
    env = environment(SUDO_UID=str(NOBODY), SUDO_GID=str(NOBODY), SUDO_USER="nobody")
    done = r("sh", "-c", "id -u; echo $HOME $USER; grep SigIgn /proc/self/status", env=env)
    lines = done.well().splitlines()
    same(lines[:2], [str(NOBODY), "/nonexistent nobody"], "who it is")
    same(int(lines[2].split()[1], 16) & 1 << signal.SIGINT - 1, 0, "that Ctrl-C is ignored")
    same(os.stat(r.flows).st_uid, NOBODY, "whose the flow file is")
    same(r("id", "-u", env=env, options=("--user", "root")).well(), "0\n", "--user root")


def ends_by(w, number, status):
    r, o = Recorder(w), w.origin()
    web = r.podman.container(WEB)
    script = w.start(*r.words("sh", "-c", "echo $$; exec sleep 1000"), inside=False,
                     env=environment(TMPDIR=w.tmp))
    command = int(script.stdout.readline())
    contains(web.curl(o.url("/seen")).well(), "the origin's answer to /seen")
    running = proxies(w)
    same(len(running), 1, "proxies")
    script.send_signal(number)
    same(script.wait(60), status, "the status")
    nothing_left(w, running + ([command] if status > 0 else []))
    same(r.paths(), ["/seen"], "what was recorded")
    return r, web, o


def test_signals(w):
    """SIGTERM and SIGINT: what was recorded is kept, everything else is as before"""
    for number in (signal.SIGTERM, signal.SIGINT):
        r, web, o = ends_by(w, number, 128 + number)
        distrusts(web, o.url("/after"))
        with open(f"/proc/{web.pid()}/mountinfo", encoding="utf-8") as f:
            check("tmpfs mitm-bpf " not in f.read(), "the container still sees copies")
        r.podman("rm", "--force", "--time", "0", WEB).well()
        os.remove(r.flows)


def test_kill(w):
    """kill -9 of the script: mitm-bpf ends by itself, and the container's connections go direct"""
    r, web, o = ends_by(w, signal.SIGKILL, -signal.SIGKILL)
    contains(web.curl(o.url("/direct"), "--insecure").well(), "the origin's answer to /direct")
    same(r.paths(), ["/seen"], "what was recorded")


def test_refusals(w):
    """what is wrong is said: no such container, no trust to be had, no flows, no command, no such user"""
    r, o = Recorder(w), w.origin()
    r.podman.container(WEB)
    for words, text in ((["--frobnicate"], "unknown option --frobnicate"), ([], "which container?"),
                        (["web", "--"], "no command behind --"), (["--flows"], "--flows needs a value"),
                        (["--program", "/nonexistent", "web"], "cannot run /nonexistent"),
                        (["--engine", " ".join(r.podman.words), "nosuch"], 'has no container "nosuch"'),
                        (["--engine", "false", "web"], 'false has no container "web"')):
        done = w.run(SCRIPT, *words, inside=False, env=environment(), cwd=w.tmp)
        same(done.status, 125, f"the status of {words}: {done.err}")
        contains(done.err, text)
    done = r("true", options=("--require-flows",))
    same(done.status, 125, "the status without flows")
    contains(done.err, "nothing was recorded")
    same(r("true", options=("--user", "nobody-of-this-name")).status, 125, "the status of no such user")
    same(r("false", options=("--require-flows",)).status, 1, "the command's own status")
    r.podman("exec", WEB, "/bin/busybox", "rm", CA_BUNDLE).well()
    try:
        done = r("true")
        same(done.status, 125, "the status without a bundle")
        contains(done.err, "--no-trust does without")
        done = r(*r.exec(*CURL, "--insecure", o.url("/bare")), options=("--no-trust",))
        same((done.well(), r.paths()), ("the origin's answer to /bare\n", ["/bare"]), "without trust")
    finally:
        with open(CA_BUNDLE, "rb") as f, open(r.podman.folder + "/rootfs" + CA_BUNDLE, "wb") as copy:
            copy.write(f.read())
    done = w.run("setpriv", f"--reuid={NOBODY}", "--clear-groups", SCRIPT, "web", inside=False)
    same(done.status, 125, "the status without root")
    contains(done.err, "needs root")


# ---- the files for CI systems

def yaml():
    try:
        import yaml as module
    except ImportError:
        raise Skipped("needs the Python module yaml") from None
    return module


def test_github_action(w):
    """action.yml: a composite action whose steps use only inputs that it has, and never as shell text"""
    with open(os.path.join(ROOT, "scripts/ci/action.yml"), encoding="utf-8") as f:
        text = f.read()
    action = yaml().safe_load(text)
    same(action["runs"]["using"], "composite", "what it uses")
    check(all(key in action for key in ("name", "description", "inputs", "outputs")), list(action))
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    same(used, set(action["inputs"]), "the inputs")
    for step in action["runs"]["steps"]:
        check(("run" in step) != ("uses" in step), f"{step['name']} is neither")
        if "run" in step:
            same(step["shell"], "bash", f"the shell of {step['name']}")
            check("${{" not in step["run"], f"{step['name']} puts expressions into a script")
            same(w.run("bash", "-n", "-c", step["run"], inside=False).err, "", f"bash about {step['name']}")
    for name, value in action["outputs"].items():
        check(re.search(r"steps\.(\w+)\.outputs", value["value"]).group(1) in
              [step.get("id") for step in action["runs"]["steps"]], f"the output {name} is of no step")


def own_bin(w):
    """A PATH with a sudo that has nothing to give, for jobs that call it."""
    folder = os.path.join(w.tmp, "bin")
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/sudo", "w", encoding="ascii") as f:
        f.write('#!/bin/sh\n[ "$1" = --preserve-env ] && shift\nexec "$@"\n')
    os.chmod(folder + "/sudo", 0o755)
    return folder + ":" + os.environ["PATH"]


def asks(r, url):
    """A person's command, with what shells like to take apart."""
    return "\n".join(["set -e", " ".join(r.exec(*CURL)) + f' "{url}"', "exit 6"])


def test_github_steps(w):
    """action.yml: its recording step does it, with a container of podman's and the words of a person"""
    r, o = Recorder(w), w.origin()
    r.podman.container(WEB)
    with open(os.path.join(ROOT, "scripts/ci/action.yml"), encoding="utf-8") as f:
        steps = yaml().safe_load(f)["runs"]["steps"]
    step = next(step for step in steps if step.get("id") == "record")
    output = os.path.join(w.tmp, "github-output")
    given = {"container": WEB, "command": asks(r, o.url("/github?a='b c'".replace(" ", "%20"))), "flows": r.flows,
             "options": f"--cgroup {w.cgroup}\n--set ssl_verify_upstream_trusted_ca={w.certificates.ca}",
             "engine": " ".join(r.podman.words), "program": e2e.MITM_BPF, "require-flows": "true", "trust": "true"}
    env = environment(PATH=own_bin(w), GITHUB_OUTPUT=output, GITHUB_ACTION_PATH=os.path.dirname(SCRIPT), TMPDIR=w.tmp)
    for name, value in step["env"].items():
        found = re.fullmatch(r"\$\{\{ inputs\.([\w-]+) \}\}", value)
        check(found, f"{name} is not an input: {value}")
        env[name] = given[found.group(1)]
    done = w.run("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], inside=False, env=env,
                 timeout=90)
    same(done.status, 6, "the status: " + done.err)
    same(r.paths(), ["/github?a='b%20c'"], "what was recorded")
    with open(output, encoding="utf-8") as f:
        same(f.read(), f"flows={r.flows}\n", "the step's outputs")


def test_gitlab(w):
    """gitlab.yml: its job does it, too, and keeps the flows of jobs that fail"""
    with open(os.path.join(ROOT, "scripts/ci/gitlab.yml"), encoding="utf-8") as f:
        job = yaml().safe_load(f)[".record-container"]
    same(job["artifacts"]["when"], "always", "when flows are kept")
    same(job["artifacts"]["paths"], ["$FLOWS", "${FLOWS}.log"], "what is kept")
    r, o = Recorder(w), w.origin()
    r.podman.container(WEB)
    engine = os.path.join(w.tmp, "engine")
    with open(engine, "w", encoding="utf-8") as f:
        f.write(f'#!/bin/sh\nexec {" ".join(r.podman.words)} "$@"\n')
    os.chmod(engine, 0o755)
    given = {"CONTAINER": WEB, "COMMAND": asks(r, o.url("/gitlab?a='b'")), "FLOWS": r.flows, "MITM_BPF": ROOT,
             "RECORD_OPTIONS": f"--engine {engine} --program {e2e.MITM_BPF}",
             "OPTIONS": f"--cgroup {w.cgroup} --set ssl_verify_upstream_trusted_ca={w.certificates.ca}"}
    same(set(given), set(job["variables"]), "the job's variables")
    done = w.run("bash", "-eo", "pipefail", "-c", "\n".join(job["script"]), inside=False, timeout=90,
                 env=environment(PATH=own_bin(w), TMPDIR=w.tmp, **given))
    same(done.status, 6, "the status: " + done.err)
    same(r.paths(), ["/gitlab?a='b'"], "what was recorded")
    given.update(COMMAND="", CONTAINER="nosuch")
    done = w.run("bash", "-eo", "pipefail", "-c", "\n".join(job["script"]), inside=False,
                 env=environment(PATH=own_bin(w), TMPDIR=w.tmp, **given))
    same(done.status, 125, "the status without such a container")
    contains(done.err, 'has no container "nosuch"')


if __name__ == "__main__":
    e2e.main(globals())
