#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""mitm-bpf run: programs that have never heard of us are started, trust the CA by themselves, and are seen; they keep
their terminal, signals and exit status; and the system's own stores are what they were."""
import glob
import hashlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

from e2e import MITM_BPF, Skipped, check, contains, main, plain_environment, read_flows, same, wait_for

STORES = ["/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust", "/usr/lib/jvm/*/lib/security/cacerts",
          "/etc/ssl/cert.pem", "/usr/share/ca-certificates"]
NOBODY = 65534


# ---- what the tests share

class Run:
    """One `mitm-bpf run`: its flow file, and how to start it."""

    count, before = 0, None     # before: the system's stores when the first one was made

    def __init__(self, w, *words, save=True):
        Run.count += 1
        Run.before = Run.before or sums()
        self.w = w
        self.file = os.path.join(w.tmp, f"run-{Run.count}.mitm")
        self.words = [MITM_BPF, "run", "--set", "confdir=" + w.confdir, "--set",
                      "ssl_verify_upstream_trusted_ca=" + w.certificates.ca, *words]
        if save:
            self.words += ["-w", self.file]

    def command(self, *command):
        return [*self.words, "--", *(str(word) for word in command)]

    def __call__(self, *command, timeout=40, **options):
        return self.w.run(*self.command(*command), timeout=timeout, **options)

    def start(self, *command, **options):
        return self.w.start(*self.command(*command), **options)

    def paths(self):
        return [f["request"]["path"].decode() for f in read_flows(self.file) if f["type"] == "http"]

    def saw(self, path):
        """A request over TLS, decrypted."""
        found = [f for f in read_flows(self.file) if f["type"] == "http" and f["request"]["path"] == path.encode()]
        check(found, f"no flow of {path}, only {self.paths()}")
        same(found[0]["request"]["scheme"], b"https", "the scheme")
        same(found[0]["response"]["status_code"], 200, "the status")
        return found[0]


def environment(**more):
    """As a person has it: nothing that tells programs whom to trust."""
    env = plain_environment(**more)
    for name in list(env):
        if re.search(r"CA_BUNDLE|CERT|CAINFO|JAVA_TOOL", name) and name not in more:
            del env[name]
    return env


def needs(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skipped(f"needs {program}")


def write(w, name, text, mode=0o644):
    path = os.path.join(w.tmp, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(textwrap.dedent(text))
    os.chmod(path, mode)
    return path


def sums():
    """Every file and link of the system's stores."""
    found = {}
    for pattern in STORES:
        for root in glob.glob(pattern):
            for path in [root] if not os.path.isdir(root) else glob.glob(root + "/**", recursive=True):
                if os.path.islink(path):
                    found[path] = os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, "rb") as f:
                        found[path] = hashlib.sha256(f.read()).hexdigest()
    return found


def folders():
    return {path for path in glob.glob("/run/mitm-bpf-run.*") + glob.glob("/tmp/mitm-bpf-run.*")}


def groups(w):
    return [name for name in os.listdir(w.cgroup) if os.path.isdir(os.path.join(w.cgroup, name))]


def origin(w):
    return w.origin(where="namespace")


def wait_status(process, seconds=15):
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"still runs after {seconds} s") from None


# ---- programs

def test_curl(w):
    """curl, and nothing of it is left on this machine"""
    o, run, before = origin(w), Run(w), sums()
    done = run("curl", "-sS", o.url("/curl"), env=environment())
    contains(done.well(), "the origin's answer to /curl")
    same(done.err, "", "standard error")
    run.saw("/curl")
    same(sums(), before, "the system's stores")
    same(groups(w), [], "cgroups that are left")
    same(folders(), set(), "folders that are left")


def test_wget(w):
    """wget"""
    needs("wget")
    o, run = origin(w), Run(w)
    contains(run("wget", "-qO-", o.url("/wget"), env=environment()).well(), "the origin's answer to /wget")
    run.saw("/wget")


def test_python(w):
    """Python's urllib, by OpenSSL's folder of hashed names alone, too"""
    o, run = origin(w), Run(w)
    code = ("import sys, os, ssl, urllib.request\n"
            "for name in sys.argv[2:]: os.environ.pop(name, None)\n"
            "print(urllib.request.urlopen(sys.argv[1]).read().decode())\n")
    contains(run("/usr/bin/python3", "-c", code, o.url("/urllib"), env=environment()).well(), "answer to /urllib")
    run.saw("/urllib")
    code = code.replace("print(", "ssl._create_default_https_context = lambda: "
                        "ssl.create_default_context(capath='/etc/ssl/certs')\nprint(")
    run = Run(w)
    run("/usr/bin/python3", "-c", code, o.url("/hashed"), "SSL_CERT_FILE", env=environment()).well()
    run.saw("/hashed")


def test_requests(w):
    """Python's requests, which brings authorities of its own"""
    python = next((p for p in (sys.executable, shutil.which("python3")) if p and subprocess.run(
        [p, "-c", "import requests"], capture_output=True, check=False).returncode == 0), None)
    if not python:
        raise Skipped("needs the Python module requests")
    o, run = origin(w), Run(w)
    code = "import sys, requests; print(requests.get(sys.argv[1]).text)"
    contains(run(python, "-c", code, o.url("/requests"), env=environment()).well(), "answer to /requests")
    run.saw("/requests")


def test_git(w):
    """git clones over HTTPS"""
    needs("git")
    source, bare, clone = (os.path.join(w.tmp, name) for name in ("source", "bare.git", "clone"))
    env = environment(GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b", GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b",
                      GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null")
    for words in (["init", "-q", source], ["-C", source, "commit", "-q", "--allow-empty", "-m", "the only commit"],
                  ["clone", "-q", "--bare", source, bare], ["-C", bare, "update-server-info"]):
        subprocess.run(["git", *words], check=True, env=env, capture_output=True)

    def files(sock, served):
        stream = sock.makefile("rb")
        line = stream.readline().split()
        while line and stream.readline().strip():
            pass
        path = os.path.join(w.tmp, line[1].decode().split("?")[0].lstrip("/"))
        served.requests.append(path)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                body = f.read()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            sock.sendall(head.encode() + body)
        else:
            sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    o, run = w.origin(where="namespace", behave=files), Run(w)
    run("git", "clone", "-q", o.url("/bare.git"), clone, env=env).well()
    said = subprocess.run(["git", "-C", clone, "log", "--format=%s"], capture_output=True, check=True, env=env)
    same(said.stdout, b"the only commit\n", "what was cloned")
    check(any(path.startswith("/bare.git/info/refs") for path in run.paths()), f"only {run.paths()}")


def test_node(w):
    """node"""
    needs("node")
    o, run = origin(w), Run(w)
    code = ("require('https').get(process.argv[1], r => r.on('data', d => process.stdout.write(d)))"
            ".on('error', e => { console.error(e.message); process.exit(1) })")
    contains(run("node", "-e", code, o.url("/node"), env=environment()).well(), "the origin's answer to /node")
    run.saw("/node")


JAVA = """
    import java.net.URI;
    public class Get {
        public static void main(String[] words) throws Exception {
            try (var in = URI.create(words[0]).toURL().openStream()) {
                System.out.print(new String(in.readAllBytes()));
            }
        }
    }
"""


def test_java(w):
    """Java, by its own store"""
    needs("java", "javac")
    source = write(w, "Get.java", JAVA)
    o, run = origin(w), Run(w)
    subprocess.run(["javac", source], check=True, capture_output=True)
    done = run("java", "-cp", w.tmp, "Get", o.url("/java"), env=environment())
    contains(done.well(), "the origin's answer to /java")
    check("JAVA_TOOL_OPTIONS" not in done.err, done.err)
    run.saw("/java")


def test_java_own_store(w):
    """Java, whose user named a PKCS#12 store: it is merged"""
    needs("java", "javac", "keytool")
    if not os.path.exists(os.path.join(w.tmp, "Get.class")):
        subprocess.run(["javac", write(w, "Get.java", JAVA)], check=True, capture_output=True)
    o, run, store = origin(w), Run(w), os.path.join(w.tmp, "own.p12")
    subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "mine", "-file", w.certificates.ca, "-keystore",
                    store, "-storetype", "pkcs12", "-storepass", "changeit"], check=True, capture_output=True)
    with open(store, "rb") as f:
        before = f.read()
    env = environment(JAVA_TOOL_OPTIONS="-Dmine=1 -Djavax.net.ssl.trustStore=" + store +
                      " -Djavax.net.ssl.trustStorePassword=changeit")
    run("java", "-cp", w.tmp, "Get", o.url("/own"), env=env).well()
    run.saw("/own")
    # and what the user trusted himself is trusted still: connections that are only relayed
    run = Run(w, "--ignore-hosts", ".*")
    run("java", "-cp", w.tmp, "Get", o.url("/relayed"), env=env).well()
    same(run.paths(), [], "flows of what is only relayed")
    with open(store, "rb") as f:
        same(f.read(), before, "the user's store")


def test_go(w):
    """a Go program, linked statically"""
    needs("go")
    source = write(w, "get.go", """
        package main

        import (
        \t"fmt"
        \t"io"
        \t"net/http"
        \t"os"
        )

        func main() {
        \tr, err := http.Get(os.Args[1])
        \tif err != nil {
        \t\tfmt.Fprintln(os.Stderr, err)
        \t\tos.Exit(1)
        \t}
        \tio.Copy(os.Stdout, r.Body)
        }
    """)
    binary = os.path.join(w.tmp, "get")
    built = subprocess.run(["nice", "go", "build", "-o", binary, source], capture_output=True, check=False,
                           env=environment(CGO_ENABLED="0", GOFLAGS="-mod=mod", GO111MODULE="off", GOTOOLCHAIN="local"))
    check(built.returncode == 0, built.stderr.decode())
    o, run = origin(w), Run(w)
    contains(run(binary, o.url("/go"), env=environment()).well(), "the origin's answer to /go")
    run.saw("/go")
    run = Run(w)
    unset = ["env", "-u", "SSL_CERT_FILE", binary, o.url("/mounted")]
    run(*unset, env=environment()).well()
    run.saw("/mounted")


def test_chromium(w):
    """Chromium, headless"""
    browser = next((p for p in ("chromium", "chromium-browser", "google-chrome") if shutil.which(p)), None)
    if not browser:
        raise Skipped("needs Chromium")
    needs("certutil")
    o, run, home = origin(w), Run(w), tempfile.mkdtemp(dir=w.tmp)
    os.makedirs(home + "/.pki/nssdb")
    subprocess.run(["certutil", "-N", "-d", "sql:" + home + "/.pki/nssdb", "--empty-password"], check=True)
    done = run(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", o.url("/chromium"), timeout=90,
               env=environment(HOME=home))
    contains(done.well(), "the origin's answer to /chromium")
    run.saw("/chromium")


def test_nss(w):
    """the database of Chromium and Firefox: the command sees the CA in it, and nobody else does"""
    needs("certutil")
    home = tempfile.mkdtemp(dir=w.tmp)
    database = home + "/.pki/nssdb"
    os.makedirs(database)
    subprocess.run(["certutil", "-N", "-d", "sql:" + database, "--empty-password"], check=True, capture_output=True)
    listing = ["certutil", "-L", "-d", "sql:" + database]
    done = Run(w)(*listing, env=environment(HOME=home))
    check(re.search(r"mitm-bpf +CT?,,", done.well()), done.out)
    check("mitm-bpf" not in subprocess.run(listing, capture_output=True, check=True).stdout.decode(), "it was changed")


def test_users_bundles(w):
    """variables that the user has are merged: what he trusted, he trusts still; folders and odd values stay"""
    own = os.path.join(w.tmp, "own-bundle.pem")
    shutil.copy(w.certificates.ca, own)
    o, run = origin(w), Run(w)
    env = environment(CURL_CA_BUNDLE=own, NODE_EXTRA_CA_CERTS=own, REQUESTS_CA_BUNDLE=w.tmp, SSL_CERT_DIR="/etc/ssl")
    done = run("sh", "-c", "cat $CURL_CA_BUNDLE; echo :; cat $NODE_EXTRA_CA_CERTS; echo :; cat $SSL_CERT_FILE; "
               "echo :; echo $REQUESTS_CA_BUNDLE; curl -sS " + o.url("/merged"), env=env)
    parts = done.well().split(":\n")  # no character of base64
    with open(own, encoding="ascii") as f:
        mine = f.read()
    with open(w.ca, encoding="ascii") as f:
        ours = f.read()
    same(parts[0], mine + ours, "CURL_CA_BUNDLE")
    same(parts[1], mine + ours, "NODE_EXTRA_CA_CERTS")
    same(parts[2], ours, "SSL_CERT_FILE beside the user's SSL_CERT_DIR")
    contains(parts[3], w.tmp + "\n")
    contains(done.err, "REQUESTS_CA_BUNDLE is left as it is")
    run.saw("/merged")
    run = Run(w, "--ignore-hosts", ".*")
    run("curl", "-sS", o.url("/relayed"), env=env).well()
    with open(own, encoding="ascii") as f:
        same(f.read(), mine, "the user's bundle")


# ---- what is taken, and what is not

def test_whole_tree(w):
    """the whole tree, a daemon that forked twice included, and nothing beside it"""
    o, run = origin(w), Run(w)
    started = os.path.join(w.tmp, "started")
    outside = w.start("sh", "-c", f"until [ -e {started} ]; do sleep 0.1; done; "
                      f"curl -sS --cacert {w.certificates.ca} {o.url('/outside')}", env=environment())
    code = f"""
        touch {started}
        (setsid sh -c 'sleep 1; curl -sS {o.url("/daemon")} >/dev/null' </dev/null >/dev/null 2>&1 &)
        sh -c 'curl -sS {o.url("/child")} >/dev/null; true'
        sleep 2
    """
    run("sh", "-c", code, env=environment()).well()
    out, err = outside.communicate(timeout=15)
    check(b"answer to /outside" in out, err)
    same(sorted(run.paths()), ["/child", "/daemon"], "what was seen")


def test_no_cgroup(w):
    """where no cgroup can be made, the command's process id and its descendants, and nobody else in its group"""
    o, run = origin(w), Run(w, "--cgroup", w.cgroup)
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    started = os.path.join(w.tmp, "started-too")
    beside = w.start("sh", "-c", f"until [ -e {started} ]; do sleep 0.1; done; "
                     f"curl -sS --cacert {w.certificates.ca} {o.url('/beside')}", env=environment())
    command = run.command("sh", "-c", f"touch {started}; (sh -c 'sleep 1; curl -sS {o.url('/child')}' &) ; sleep 2")
    done = w.run("unshare", "-m", "sh", "-c", read_only, w.cgroup, *command, env=environment(), timeout=30)
    contains(done.well(), "the origin's answer to /child")
    same(beside.communicate(timeout=15)[0], b"the origin's answer to /beside\n", "who is in the same group")
    same(run.paths(), ["/child"], "what was seen")


def test_root_without_capabilities(w):
    """root without capabilities, as in containers, is no different from a user"""
    needs("setpriv")
    o, run = origin(w), Run(w)
    done = w.run("setpriv", "--inh-caps=-all", "--bounding-set=-all", *run.command("curl", "-sS", o.url("/bare")),
                 env=environment(), timeout=30, inside=False)
    contains(done.well(), "the origin's answer to /bare")
    contains(done.err, "HTTPS_PROXY")
    run.saw("/bare")


def test_survivor(w):
    """who outlives the command goes direct, and keeps what it was told to trust"""
    o, run = origin(w), Run(w)
    out = os.path.join(w.tmp, "survivor")
    code = f"(setsid sh -c 'sleep 2; cat $CURL_CA_BUNDLE >{out}' </dev/null >/dev/null 2>&1 &); true"
    run("sh", "-c", code, env=environment()).well()
    wait_for(10, "the survivor has read its bundle", lambda: os.path.exists(out) and os.path.getsize(out) > 100)
    wait_for(5, "it is gone", lambda: not any(os.path.exists(f"{w.cgroup}/{name}/cgroup.procs") and
                                              open(f"{w.cgroup}/{name}/cgroup.procs", encoding="ascii").read()
                                              for name in groups(w)))
    Run(w)("true").well()
    same(groups(w), [], "cgroups, after another run")
    same(folders(), set(), "folders, after another run")
    check(o, "")


def test_kill_proxy(w):
    """kill -9 of the proxy: the command goes on, direct; its status is its own; nothing of the host has changed"""
    o, run, before = origin(w), Run(w), sums()
    process = run.start("sh", "-c", f"echo go; read line; curl -sS --cacert {w.certificates.ca} {o.url('/direct')}; "
                        "exit 7", env=environment(), stdin=subprocess.PIPE)
    same(process.stdout.readline(), b"go\n", "the command's word")
    children = open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii").read().split()
    proxy = [pid for pid in children if open(f"/proc/{pid}/comm", encoding="ascii").read() == "mitm-bpf-proxy\n"]
    same(len(proxy), 1, "proxies")
    os.kill(int(proxy[0]), signal.SIGKILL)
    time.sleep(0.3)
    process.stdin.write(b"\n")
    process.stdin.flush()
    same(wait_status(process), 7, "the status")
    contains(process.stdout.read().decode(), "the origin's answer to /direct")
    contains(process.stderr.read().decode(), "The proxy has died")
    same(run.paths(), [], "what was seen")
    same(sums(), before, "the system's stores")


def test_kill_waiter(w):
    """kill -9 of mitm-bpf run: the command goes on, the proxy ends, and the next run removes what was left"""
    run, before = Run(w), sums()
    process = run.start("sh", "-c", "echo $$; exec sleep 30", env=environment())
    command = int(process.stdout.readline())
    children = open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="ascii").read().split()
    process.kill()
    process.wait()
    wait_for(5, "the proxy has ended", lambda: not any(
        os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().split()[2] != "Z"
        for pid in children if int(pid) != command))
    os.kill(command, 0)
    same(len(folders()), 1, "folders while the command lives")
    Run(w)("true").well()
    same(len(folders()), 1, "folders while the command lives, after another run")
    os.kill(command, signal.SIGKILL)
    wait_for(5, "the command has gone", lambda: not os.path.exists(f"/proc/{command}") or
             open(f"/proc/{command}/stat").read().split()[2] == "Z")
    Run(w)("true").well()
    same(groups(w), [], "cgroups, after another run")
    same(folders(), set(), "folders, after another run")
    same(sums(), before, "the system's stores")


def test_kill_command(w):
    """kill -9 of the command: its status, and nothing is left"""
    run, before = Run(w), sums()
    process = run.start("sh", "-c", "echo $$; exec sleep 30", env=environment())
    os.kill(int(process.stdout.readline()), signal.SIGKILL)
    same(wait_status(process), -signal.SIGKILL, "the status")
    same(groups(w), [], "cgroups that are left")
    same(folders(), set(), "folders that are left")
    same(sums(), before, "the system's stores")


# ---- status, streams, signals, terminal

def test_status(w):
    """exit status: its own, 128 + n for a signal, 127 not found, 126 not executable, 125 ours, 2 misunderstood"""
    plain = write(w, "plain", "no program\n")
    for command, wanted in ((["sh", "-c", "exit 42"], 42), (["true"], 0), (["/nonexistent/x"], 127),
                            (["no-such-command-here"], 127), ([plain], 126), (["/etc"], 126)):
        same(Run(w)(*command).status, wanted, f"the status of {command}")
    done = w.run("sh", "-c", '"$@"; echo $?', "sh", *Run(w).command("sh", "-c", "kill -TERM $$"), timeout=20)
    same(done.out, "143\n", "what a shell makes of SIGTERM")
    same(Run(w, "--certs", "/nonexistent")("true").status, 125, "a proxy that fails")
    same(Run(w, "--mode", "regular")("true").status, 2, "a mode")
    same(Run(w, "--set", "mode=socks5")("true").status, 125, "a mode")
    same(Run(w, "--user", "nobody-of-this-name")("true").status, 125, "no such user")
    same(w.run(MITM_BPF, "run").status, 2, "no command")
    same(w.run(MITM_BPF, "run", "--frobnicate", "true").status, 2, "no such option")


def test_options(w):
    """a command's words are its own; flows go to standard error, or only to the file"""
    o, run = origin(w), Run(w, save=False)
    done = run("curl", "-sS", "-w", "%{http_code}", o.url("/shown"), env=environment())
    same(done.well(), "the origin's answer to /shown\n200", "standard output")
    contains(done.err, "/shown")
    done = w.run(*Run(w, "--flow-detail", "1").words, "curl", "-sS", "-o", "/dev/null", o.url("/both"), timeout=40,
                 env=environment())
    contains(done.err, "/both")
    same(done.well(), "", "standard output")


def test_streams(w):
    """standard input and output are the command's, and descriptors, too; pipes end when it ends"""
    read_end, write_end = os.pipe()
    os.dup2(write_end, 30)
    os.set_inheritable(30, True)
    done = Run(w)("sh", "-c", "cat; echo to-stderr >&2; echo more >/dev/fd/30", stdin=b"from us\n" * 10000,
                  env=environment(), pass_fds=[30])
    os.close(30)
    os.close(write_end)
    same(done.well(), "from us\n" * 10000, "standard output")
    same(done.err, "to-stderr\n", "standard error")
    same(os.read(read_end, 100), b"more\n", "a descriptor")
    same(os.read(read_end, 100), b"", "its end")
    os.close(read_end)


def test_closed_streams(w):
    """standard streams that are closed stay closed, and nothing of ours takes their place"""
    o, run = origin(w), Run(w)
    out = os.path.join(w.tmp, "closed")
    code = f"ls /proc/self/fd >{out}; curl -sS {o.url('/closed')} >>{out}"
    done = w.run("sh", "-c", 'exec "$@" <&- >&-', "sh", *run.command("sh", "-c", code), timeout=30, env=environment())
    same(done.status, 0, "the status: " + done.err)
    with open(out, encoding="utf-8") as f:
        lines = f.read().splitlines()
    check("0" not in lines[:-1] or lines[:-1] == ["0", "1", "2"], f"descriptors {lines}")
    contains(lines[-1], "the origin's answer to /closed")
    run.saw("/closed")


def test_signals(w):
    """signals that we are sent are the command's: SIGTERM, SIGHUP, SIGINT, SIGUSR1; SIGPIPE is as it was"""
    for name in ("TERM", "HUP", "INT", "USR1"):
        number = getattr(signal, "SIG" + name)
        process = Run(w).start("sh", "-c", f"trap 'echo got {name}; exit 9' {name}; echo ready; "
                               "while :; do sleep 0.1; done", env=environment())
        same(process.stdout.readline(), b"ready\n", "the command's word")
        process.send_signal(number)
        same(wait_status(process), 9, f"the status after SIG{name}")
        same(process.stdout.read(), f"got {name}\n".encode(), "what it said")
        process = Run(w).start("sh", "-c", "echo ready; exec sleep 20", env=environment())
        same(process.stdout.readline(), b"ready\n", "the command's word")
        process.send_signal(number)
        same(wait_status(process), -number, f"how it ends by SIG{name}")
    look = ("sh", "-c", "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status")
    alone = w.run(*look, inside=False, env=environment()).well()
    same(Run(w)(*look).well(), alone, "what is ignored, and blocked")


def test_signal_before_start(w):
    """a signal ends it also while the proxy cannot start; the command is not run then"""
    fifo, out = os.path.join(w.tmp, "fifo"), os.path.join(w.tmp, "must-not-be")
    os.mkfifo(fifo)
    process = Run(w).start("touch", out, env=environment(SSLKEYLOGFILE=fifo))
    time.sleep(0.7)
    check(process.poll() is None, "it does not wait for the proxy")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    same(wait_status(process), -signal.SIGTERM, "the status")
    os.close(reader)
    check(not os.path.exists(out), "the command was run")
    same(groups(w), [], "cgroups that are left")


def ignoring(number):
    """How a background job of a script (SIGINT) or nohup (SIGHUP) starts what it starts."""
    return {"preexec_fn": lambda: signal.signal(number, signal.SIG_IGN)}


def test_signals_ignored(w):
    """signals that were ignored before us stay so: for the command, and for us before it and after it"""
    for number in (signal.SIGINT, signal.SIGHUP):
        process = Run(w).start("sh", "-c", "echo ready; read x; echo $x; exit 4", env=environment(),
                               stdin=subprocess.PIPE, **ignoring(number))
        same(process.stdout.readline(), b"ready\n", "the command's word")
        process.send_signal(number)
        out, err = process.communicate(b"still here\n", 20)
        same((out, process.returncode), (b"still here\n", 4), f"what it did after {number!r}: {err}")
        fifo = os.path.join(w.tmp, f"fifo-{int(number)}")
        os.mkfifo(fifo)
        process = Run(w).start("echo", "run all the same", env=environment(SSLKEYLOGFILE=fifo), **ignoring(number))
        time.sleep(0.7)
        check(process.poll() is None, "it does not wait for the proxy")
        process.send_signal(number)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        same(wait_status(process), 0, f"the status, {number!r} before the command: {process.stderr.read()}")
        os.close(reader)
        same(process.stdout.read(), b"run all the same\n", "standard output")


class Terminal:
    """A shell with job control on a terminal of its own."""

    def __init__(self, w):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            with open(os.path.join(w.cgroup, "cgroup.procs"), "w", encoding="ascii") as procs:
                procs.write(str(os.getpid()))
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment(PS1="$ ", TERM="dumb"))
        w.stack.callback(self.close)

    def close(self):
        os.close(self.fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, seconds=15):
        """Text after what was expected before; returns the match."""
        end_at = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return found
            left = end_at - time.monotonic()
            check(left > 0, f"the terminal does not show {pattern!r}:\n{self.text}")
            if select.select([self.fd], [], [], left)[0]:
                self.text += os.read(self.fd, 65536).decode("utf-8", "replace")


def test_terminal(w):
    """on a terminal: Ctrl-C, Ctrl-Z and fg, the size, and reading from it"""
    t = Terminal(w)
    run = " ".join(Run(w).words) + " -- "
    t.type(run + "bash -c 'trap \"echo caught; exit 5\" INT; echo rea\"\"dy; while :; do sleep 0.1; done'\n")
    t.expect("ready\r\n")
    t.type("\x03")
    t.expect("caught\r\n")
    t.type("echo status=$?\n")
    t.expect("status=5\r\n")
    t.type(run + "sleep 30\n")
    time.sleep(1.5)
    t.type("\x1a")
    t.expect(r"Stopped")
    t.type("jobs -l; fg\n")
    t.expect(r"sleep 30\r\n")
    time.sleep(0.3)
    t.type("\x03")
    time.sleep(0.3)
    t.type("echo status=$?\n")
    t.expect("status=130\r\n")
    t.type(run + "sh -c 'read -p give: x; echo \"<$x>\"; tty; ps -o stat= -p $$'\n")
    t.expect("give:")
    t.type("hello\n")
    t.expect("<hello>\r\n")
    t.expect(r"/dev/pts/\d+\r\n")
    t.expect(r"\+")
    t.type("for i in 1 2 3; do " + run + "sleep 30; echo \"next $i\"; done\n")
    time.sleep(1.5)
    t.type("\x03")
    time.sleep(0.5)
    t.type("echo en\"\"d\n")
    t.expect("end\r\n")
    check("next 2" not in t.text, "a loop of the shell went on after Ctrl-C")


def test_interactive_shell(w):
    """an interactive shell as the command has the terminal to itself, job control included"""
    t = Terminal(w)
    t.type(" ".join(Run(w).words) + " -- env PS1='inner> ' bash --norc --noprofile -i\n")
    t.expect(r"\ninner> ")
    t.type("sleep 30\n")
    time.sleep(0.5)
    t.type("\x1a")
    t.expect("Stopped")
    t.type("kill -9 %1; sleep 0.2\n")
    t.expect("Killed")
    t.type("exit 3\n")
    t.expect(r"exit 3\r\n")
    t.expect(r"\$ $")
    t.type("echo status=$?\n")
    t.expect("status=3\r\n")


# ---- users

def test_sudo(w):
    """by sudo: the command is its caller's, with his groups and home; --user names another"""
    os.chmod(w.tmp, 0o755)
    o, run = origin(w), Run(w)
    env = environment(SUDO_UID=str(NOBODY), SUDO_GID=str(NOBODY), SUDO_USER="nobody", HOME="/root")
    code = f"id -u; id -G; echo $HOME $USER ${{SUDO_UID-none}}; curl -sS {o.url('/nobody')}"
    lines = run("sh", "-c", code, env=env).well().splitlines()
    same(lines[:3], ["65534", "65534", "/nonexistent nobody none"], "who it is")
    contains(lines[3], "the origin's answer to /nobody")
    run.saw("/nobody")
    same(Run(w, "--user", "root")("id", "-u", env=env).well(), "0\n", "--user root")
    same(Run(w, "--user", "12345")("sh", "-c", "id -u; id -g; id -G", env=environment()).well(),
         "12345\n12345\n12345\n", "--user 12345")


def as_nobody():
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


# Whom no cgroup concerns: that of the tests is root's.
AS_NOBODY = {"preexec_fn": as_nobody, "cwd": "/", "inside": False}


def unprivileged(w):
    """Folders that nobody may use, and a run as him."""
    os.chmod(w.tmp, 0o755)
    home = tempfile.mkdtemp(dir=w.tmp)
    program = os.path.join(home, "mitm-bpf")
    shutil.copy(MITM_BPF, program)
    shutil.copy(w.certificates.ca, home + "/ca.pem")
    os.chmod(home + "/ca.pem", 0o644)
    for path in (home, program):
        os.chown(path, NOBODY, NOBODY)
    run = Run(w)
    run.file = home + "/flows.mitm"
    run.words = [program, "run", "--set", "confdir=" + home + "/confdir", "--set",
                 "ssl_verify_upstream_trusted_ca=" + home + "/ca.pem", "-w", run.file]
    return run, environment(HOME=home, TMPDIR=home), home


def test_not_root(w):
    """without root: by the proxy's variables and the CA's, said in one line"""
    o = origin(w)
    run, env, home = unprivileged(w)
    done = run("sh", "-c", f"curl -sS {o.url('/curl')}; ls -ld $(dirname $SSL_CERT_FILE); echo $NO_PROXY",
               env=env, **AS_NOBODY)
    contains(done.well(), "the origin's answer to /curl")
    contains(done.out, "drwx------")
    contains(done.out, "localhost,127.0.0.1,::1")
    same(len(done.err.splitlines()), 1, "lines on standard error: " + done.err)
    contains(done.err, "HTTPS_PROXY")
    run.saw("/curl")
    same(glob.glob(home + "/mitm-bpf-run.*"), [], "folders that are left")
    same(run("--user", "root", "true", env=env, **AS_NOBODY).status, 127, "an option after --")
    run.words += ["--user", "root"]
    same(run("true", env=env, **AS_NOBODY).status, 125, "another user")


def test_not_root_java(w):
    """without root: Java, which needs its own options"""
    needs("java", "javac")
    o = origin(w)
    run, env, home = unprivileged(w)
    subprocess.run(["javac", "-d", home, write(w, "Get.java", JAVA)], check=True, capture_output=True)
    done = run("java", "-cp", home, "Get", o.url("/java"), env=env, **AS_NOBODY)
    contains(done.well(), "the origin's answer to /java")
    run.saw("/java")


def test_not_root_kill(w):
    """without root: after kill -9 the next run removes the folder, once nobody uses it"""
    run, env, home = unprivileged(w)
    process = run.start("sh", "-c", "echo $$; exec sleep 30", env=env, **AS_NOBODY)
    command = int(process.stdout.readline())
    process.kill()
    process.wait()
    same(run("true", env=env, **AS_NOBODY).status, 0, "another run")
    same(len(glob.glob(home + "/mitm-bpf-run.*")), 1, "folders while the command lives")
    os.kill(command, signal.SIGKILL)
    time.sleep(0.2)
    same(run("true", env=env, **AS_NOBODY).status, 0, "another run")
    same(glob.glob(home + "/mitm-bpf-run.*"), [], "folders that are left")


def test_stores(w):
    """after all of these programs, and kill -9 of everybody involved, the system's stores are what they were"""
    check(len(Run(w).before) > 10, "there are no stores to look at")
    same(sums(), Run.before, "the system's stores")
    same(folders(), set(), "folders that are left")


if __name__ == "__main__":
    main(globals())
