# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: a world of their own (network namespaces, a child cgroup, certificates), origins
that behave as they are told, mitm-bpf with its flow file, and TAP.

A test program imports this, defines functions test_*(w), whose docstrings name the cases, and calls main(globals()).
"""
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
MITM_BPF = os.path.join(ROOT, os.environ.get("MITM_BPF", "build/mitm-bpf"))
ORIGIN4, ORIGIN6 = "10.77.0.2", "fd77::2"
CLIENT4, CLIENT6 = "10.77.0.1", "fd77::1"
CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
LIBC = ctypes.CDLL(None, use_errno=True)


# ---- TAP

class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def same(got, wanted, what="it"):
    if got != wanted:
        raise Failed(f"{what} is not what was wanted\ngot:    {shorten(got)}\nwanted: {shorten(wanted)}")


def contains(text, wanted, what="the text"):
    if wanted not in text:
        raise Failed(f"{what} does not contain {wanted!r}:\n{shorten(text)}")


def shorten(value):
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) < 3000 else text[:1500] + " … " + text[-1500:]


def diag(text):
    print("\n".join("# " + line for line in str(text).splitlines()), flush=True)


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


def main(names):
    tests = [test for name, test in names.items() if name.startswith("test_")]
    wanted = sys.argv[1:]
    failed = 0
    plain_signals()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with contextlib.ExitStack() as stack:
        world = World(stack)
        done = [test for test in tests if not wanted or test.__name__ in wanted]
        for number, test in enumerate(done, 1):
            failed += not run_one(number, test, world)
    print(f"1..{len(done)}", flush=True)
    sys.exit(1 if failed else 0)


def plain_signals():
    """Background jobs, nohup and many CI systems start us with signals ignored; all that we start would inherit it."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def run_one(number, test, world):
    name = test.__doc__.strip().splitlines()[0]
    start = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            world.stack, world.proxies = stack, []
            test(world)
        took = time.monotonic() - start
        print(f"ok {number} - {name}", flush=True)
        if took > 5:
            diag(f"{took:.1f} s")
        return True
    except Skipped as e:
        print(f"ok {number} - {name} # SKIP {e}", flush=True)
        return True
    except Failed as e:
        line = traceback.extract_tb(e.__traceback__)[1].lineno
        print(f"not ok {number} - {name}", flush=True)
        diag(f"{test.__name__}, line {line}")
        diag(e)
    except Exception:
        print(f"not ok {number} - {name}", flush=True)
        diag(traceback.format_exc())
    for proxy in world.proxies[-1:]:
        diag(f"mitm-bpf said:\n{shorten(proxy.log())}")
    return False


def wait_for(seconds, what, question):
    """Until question() is true; returns its answer."""
    end = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        check(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.01)


# ---- processes

def end(process, seconds=5):
    """Its own pid only: SIGTERM, then SIGKILL."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream:
            stream.close()


class Done:
    """A finished command: status, out, err (text), pid."""

    def __init__(self, process, out, err):
        self.pid, self.status = process.pid, process.returncode
        self.out, self.err = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")

    def well(self):
        check(self.status == 0, f"status {self.status}: {self.err}{self.out}")
        return self.out


def plain_environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and "SSLKEYLOG" not in k}
    env.update(more)
    return env


# ---- the world

def netlink(*words, netns=None):
    inside = ["nsenter", f"--net=/proc/{os.getpid()}/fd/{netns}"] if netns is not None else []
    subprocess.run(inside + ["ip", *words], check=True, capture_output=True)


class World:
    """The calling process moves into a network and a mount namespace of its own, with an origin's namespace behind a
    veth. Clients run in a child cgroup; only that one is ever steered. `stack` is the running test's,
    `whole` all tests' together."""

    def __init__(self, stack):
        self.proxies, self.stack, self.whole = [], stack, stack
        if os.geteuid() != 0:
            skip_all("needs root")
        if not os.access(MITM_BPF, os.X_OK):
            skip_all(f"{MITM_BPF} is not built")
        for program in ("ip", "nsenter", "curl", "openssl"):
            if not shutil.which(program):
                skip_all(f"needs {program}; run scripts/install-deps")
        os.chdir(ROOT)
        self.tmp = tempfile.mkdtemp(prefix="mitm-bpf-test.")
        stack.callback(shutil.rmtree, self.tmp, ignore_errors=True)
        self.make_namespaces(stack)
        self.make_cgroup(stack)
        self.confdir = os.path.join(self.tmp, "confdir")
        self.ca = os.path.join(self.confdir, "mitmproxy-ca-cert.pem")
        self.certificates = Certificates(os.path.join(self.tmp, "tls"))

    def make_namespaces(self, stack):
        fds = []
        if LIBC.unshare(CLONE_NEWNS) < 0 or LIBC.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) < 0:
            skip_all("cannot make a mount namespace: " + os.strerror(ctypes.get_errno()))
        for _ in range(2):
            if LIBC.unshare(CLONE_NEWNET) < 0:
                skip_all("cannot make a network namespace: " + os.strerror(ctypes.get_errno()))
            fds.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
            stack.callback(os.close, fds[-1])
        self.client_ns, self.origin_ns = fds
        LIBC.setns(self.client_ns, CLONE_NEWNET)
        netlink("link", "add", "mbA", "type", "veth", "peer", "name", "mbB")
        netlink("link", "set", "mbB", "netns", f"/proc/{os.getpid()}/fd/{self.origin_ns}")
        for ns, link, v4, v6 in ((self.client_ns, "mbA", CLIENT4, CLIENT6), (self.origin_ns, "mbB", ORIGIN4, ORIGIN6)):
            netlink("link", "set", "lo", "up", netns=ns)
            netlink("addr", "add", v4 + "/24", "dev", link, netns=ns)
            netlink("-6", "addr", "add", v6 + "/64", "dev", link, "nodad", netns=ns)
            netlink("link", "set", link, "up", netns=ns)
        netlink("route", "add", "default", "via", ORIGIN4, netns=self.client_ns)
        netlink("-6", "route", "add", "default", "via", ORIGIN6, netns=self.client_ns)
        # Thousands of connections to one server: the kernel's search for a port that is not in TIME_WAIT costs more
        # than all else then.
        for name, value in (("ip_local_port_range", "1024 65000"), ("tcp_max_tw_buckets", "1024")):
            with contextlib.suppress(OSError), open("/proc/sys/net/ipv4/" + name, "w", encoding="ascii") as f:
                f.write(value)

    def make_cgroup(self, stack):
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
        if not roots:
            skip_all("no cgroup v2 is mounted")
        self.cgroup_name = f"mitm-bpf-test-{os.getpid()}"
        self.cgroup = os.path.join(roots[0], self.cgroup_name)
        try:
            os.mkdir(self.cgroup)
        except OSError as e:
            skip_all(f"cannot make a cgroup: {e}")
        stack.callback(self.remove_cgroup)

    def remove_cgroup(self):
        kill = os.path.join(self.cgroup, "cgroup.kill")
        if os.path.exists(kill):
            with open(kill, "w", encoding="ascii") as f:
                f.write("1")
        for _ in range(100):
            with contextlib.suppress(OSError):
                for folder, _, _ in os.walk(self.cgroup, topdown=False):    # container runtimes leave some behind
                    os.rmdir(folder)
                return
            time.sleep(0.02)

    # -- clients

    def start(self, *command, inside=True, env=None, **options):
        """A process in the steered cgroup (or not); its pid is that of the command itself."""
        command = [str(word) for word in command]
        if inside:
            enter = 'echo $$ >"$0" && exec "$@"'
            command = ["sh", "-c", enter, os.path.join(self.cgroup, "cgroup.procs")] + command
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        process = subprocess.Popen(command, env=env or plain_environment(), **options)
        self.stack.callback(end, process)
        return process

    def run(self, *command, timeout=15, stdin=b"", **options):
        process = self.start(*command, stdin=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise Failed(f"not finished after {timeout} s: {command}\n{out[-500:]}{err[-500:]}") from None
        return Done(process, out, err)

    def curl(self, *words, ca=None, **options):
        return self.run("curl", "--disable", "--silent", "--show-error", "--max-time", "10", "--cacert",
                        ca or self.ca, *words, **options)

    def enter(self):
        """This process is a client, too, until the test is over: its connections are taken if the spec says so."""
        home = os.path.join(os.path.dirname(self.cgroup), "cgroup.procs")
        with open("/proc/self/cgroup", encoding="ascii") as f:
            for line in f:
                if line.startswith("0::"):
                    home = os.path.join(os.path.dirname(self.cgroup), line[4:].strip(), "cgroup.procs")

        def move(path):
            with open(path, "w", encoding="ascii") as procs:
                procs.write(str(os.getpid()))
        move(os.path.join(self.cgroup, "cgroup.procs"))
        self.stack.callback(move, home)

    def mount_small(self, size):
        """A file system of its own with so much room; nobody else sees it."""
        folder = tempfile.mkdtemp(prefix="full.", dir=self.tmp)
        if LIBC.mount(b"none", folder.encode(), b"tmpfs", 0, f"size={size}".encode()) < 0:
            raise Skipped("cannot mount a tmpfs: " + os.strerror(ctypes.get_errno()))
        self.stack.callback(LIBC.umount2, folder.encode(), 2)
        return folder

    # -- what serves them

    def origin(self, tls="good", where="namespace", behave=None, **options):
        origin = Origin(self, tls, where, behave, **options)
        self.stack.callback(origin.close)
        return origin

    def proxy(self, *words, **options):
        return Proxy(self, words, **options)


# ---- certificates

class Certificates:
    """A CA (ca.pem), and leaves made from it when they are first asked for: a pair (certificate, key) of paths."""

    SUBJECTS = {"good": "DNS:localhost,DNS:origin.test,IP:127.0.0.1,IP:::1,IP:%s,IP:%s" % (ORIGIN4, ORIGIN6),
                "expired": "DNS:localhost,IP:127.0.0.1", "wrong-host": "DNS:elsewhere.test",
                "untrusted": "DNS:localhost,IP:127.0.0.1"}

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, mode=0o700)
        self.ca = self.make_ca("ca")

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *words):
        done = subprocess.run(["openssl", *words], capture_output=True, check=False)
        if done.returncode:
            raise Failed(done.stderr.decode())

    def make_ca(self, name):
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                     "-subj", f"/O=The origins/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                     "-keyout", self.path(name + ".key"), "-out", self.path(name + ".pem"))
        return self.path(name + ".pem")

    def leaf(self, kind):
        cert, key = self.path(kind + "-cert.pem"), self.path(kind + "-key.pem")
        if os.path.exists(cert):
            return cert, key
        issuer = "ca"
        if kind == "untrusted":
            issuer = "other-ca"
            self.make_ca(issuer)
        config = self.path("openssl.cnf")
        with open(config, "w", encoding="ascii") as f:
            f.write(f"[ca]\ndefault_ca=d\n[d]\nnew_certs_dir={self.folder}\ndatabase={self.path('index')}\n"
                    f"rand_serial=yes\ndefault_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n[x]\n"
                    f"subjectAltName={self.SUBJECTS[kind]}\nextendedKeyUsage=serverAuth\n")
        with open(self.path("index"), "w", encoding="ascii"):
            pass
        request = self.path("request.pem")
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={kind}",
                     "-keyout", key, "-out", request)
        end_date = "20200201000000Z" if kind == "expired" else "20491231235959Z"
        self.openssl("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", cert, "-keyfile",
                     self.path(issuer + ".key"), "-cert", self.path(issuer + ".pem"), "-startdate",
                     "20200101000000Z", "-enddate", end_date)
        return cert, key


# ---- origins

def read_head(stream):
    """(request line's words, headers) or None at the end."""
    line = stream.readline(65536)
    if not line.strip():
        return None
    headers = {}
    while True:
        field = stream.readline(65536)
        if field in (b"\r\n", b"\n", b""):
            return line.decode("latin-1").split(), headers
        name, _, value = field.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()


def answer(sock, body, status="200 OK", more=""):
    sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body)


def http(sock, origin):
    """The well-behaved origin, and what its paths do."""
    stream = sock.makefile("rb")
    while True:
        head = read_head(stream)
        if not head:
            return
        (method, path, _), headers = head[0][:3], head[1]
        body = stream.read(int(headers.get("content-length", 0)))
        origin.requests.append((method, path, headers, body))
        words = path.split("?")[0].split("/")[1:]
        if words[0] == "bytes":             # /bytes/COUNT
            answer(sock, bytes(i & 255 for i in range(1024)) * (int(words[1]) // 1024))
        elif words[0] == "slow":            # /slow/PIECES/SECONDS: one piece after each pause
            sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {int(words[1]) * 10}\r\n\r\n".encode())
            for _ in range(int(words[1])):
                time.sleep(float(words[2]))
                sock.sendall(b"0123456789")
        elif words[0] == "peer":
            answer(sock, b"%s %d\n" % (sock.getpeername()[0].encode(), sock.getpeername()[1]))
        elif body:
            answer(sock, b"received " + body)
        else:
            answer(sock, f"the origin's answer to {path}\n".encode())


def reset(sock):
    """The next close sends RST. Under TLS, too: the socket itself is closed, not the session."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.socket.close(sock)


class Origin:
    """A listener whose connections run behave(socket, origin) in a thread each. In the origin's namespace
    ("namespace"), or on both loopback addresses beside the clients ("loopback")."""

    def __init__(self, world, tls, where, behave, context=None, port=0):
        self.world, self.where, self.behave = world, where, behave or http
        self.connections, self.requests, self.sessions = 0, [], []
        self.context = context
        if tls and not context:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*world.certificates.leaf(tls))
            self.context.set_alpn_protocols(["http/1.1"])
        self.listener = self.listen(world.origin_ns if where == "namespace" else world.client_ns, port)
        self.port = self.listener.getsockname()[1]
        self.host4, self.host6 = (ORIGIN4, ORIGIN6) if where == "namespace" else ("127.0.0.1", "::1")
        self.closed = False
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def listen(self, ns, port):
        made = []

        def make():
            LIBC.setns(ns, CLONE_NEWNET)
            sock = socket.socket(socket.AF_INET6)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
            sock.listen(4096)
            made.append(sock)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def url(self, path="/", host=None):
        host = host or self.host4
        return "%s://%s:%d%s" % ("https" if self.context else "http", f"[{host}]" if ":" in host else host, self.port,
                                 path)

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self.closed:
                sock.close()
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            if self.context:
                raw, sock = sock, None
                raw.settimeout(20)
                sock = self.context.wrap_socket(raw, server_side=True)
                alpn = sock.selected_alpn_protocol()
                self.sessions.append([sock.version(), sock.cipher()[0], alpn and alpn.encode()])
            self.behave(sock, self)
        except (OSError, ValueError):
            pass
        finally:
            if sock:
                with contextlib.suppress(OSError, ValueError):
                    if isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0:
                        sock.settimeout(1)
                        sock = sock.unwrap()
                with contextlib.suppress(OSError):
                    sock.close()

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


# ---- mitm-bpf

class Proxy:
    """A running mitm-bpf that only looks at the world's cgroup. `intercept`: the spec, None for other modes."""

    count = 0

    def __init__(self, world, words, intercept=None, trust=True, loopback=True, wait=True, env=None, io=None,
                 inside=False, prefix=(), stdout=None, confdir=None):
        Proxy.count += 1
        self.world = world
        self.file = os.path.join(world.tmp, f"flows-{Proxy.count}.mitm")
        self.log_path = os.path.join(world.tmp, f"log-{Proxy.count}")
        self.out_path = os.path.join(world.tmp, f"out-{Proxy.count}")
        words = list(words)
        if intercept is not None:
            words += ["--intercept", intercept, "--cgroup", world.cgroup]
            words += ["--set", "steer_loopback=true"] if loopback else []
        if trust:
            words += ["--set", "ssl_verify_upstream_trusted_ca=" + world.certificates.ca]
        if "-w" not in words:
            words += ["-w", self.file]
        words += ["--io", io] if io else []
        # For one more run of everything under another option: MITM_SET="seccomp=kill".
        for option in os.environ.get("MITM_SET", "").split():
            words += ["--set", option]
        command = [*prefix, MITM_BPF, "--set", "confdir=" + (confdir or world.confdir), *words]
        with open(self.log_path, "wb") as log, open(self.out_path, "wb") as out:
            self.process = world.start(*command, inside=inside, stdout=stdout or out, stderr=log,
                                       env=plain_environment(**(env or {})))
        self.pid = self.process.pid
        world.proxies.append(self)
        world.stack.callback(self.close)
        if wait:
            wait_for(10, "mitm-bpf is ready", self.ready)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def out(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def ready(self):
        check(self.process.poll() is None, f"mitm-bpf ended with {self.process.returncode}: {self.log()}")
        return re.search(r" started\.| listening at ", self.log())

    def said(self, text, seconds=3):
        wait_for(seconds, f"mitm-bpf says {text!r}", lambda: text in self.log())

    def flows(self, count=0, seconds=3):
        """Those in the file; waits until there are so many."""
        def read():
            flows = read_flows(self.file)
            return len(flows) >= count and (flows or True)
        found = wait_for(seconds, f"{count} flows are written", read)
        return [] if found is True else found

    def flow(self, path):
        """The one of this request path, waited for."""
        def find():
            found = [f for f in read_flows(self.file) if f["type"] == "http" and f["request"]["path"] == path.encode()]
            return found and found[0]
        return wait_for(3, f"a flow of {path} is written", find)

    def status(self, name):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return int(re.search(rf"^{name}:\s+(\d+)", f.read(), re.M).group(1))

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def listen_port(self):
        return int(re.search(r"listening at \S*:(\d+)", self.log()).group(1))

    def stop(self, sig=signal.SIGTERM, seconds=10):
        self.process.send_signal(sig)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"mitm-bpf still runs {seconds} s after {sig!r}") from None

    def close(self):
        end(self.process)
        report = [line for line in self.log().splitlines() if "Sanitizer" in line or "runtime error" in line]
        check(not report, "\n".join(report))


# ---- flow files

def tnet_parse(data, at=0):
    """One tnetstring at an offset: (value, offset behind it)."""
    colon = data.index(b":", at, at + 13)
    start, end_at = colon + 1, colon + 1 + int(data[at:colon])
    kind, payload = data[end_at:end_at + 1], data[start:end_at]
    if len(payload) != end_at - start or not kind:
        raise ValueError("cut short")
    if kind in b"]}":
        items = []
        while start < end_at:
            item, start = tnet_parse(data, start)
            items.append(item)
        if kind == b"]":
            return items, end_at + 1
        return dict(zip((k.decode() if isinstance(k, bytes) else k for k in items[::2]), items[1::2])), end_at + 1
    scalars = {b",": bytes, b";": lambda p: p.decode(), b"#": int, b"^": float, b"!": lambda p: p == b"true",
               b"~": lambda p: None}
    return scalars[kind](payload), end_at + 1


def read_flows(path, strict=False):
    """The whole flows of a file that may still be written; strict: it has to end with a whole one."""
    flows, at = [], 0
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as f:
        data = f.read()
        while at < len(data):
            try:
                flow, at = tnet_parse(data, at)
            except (ValueError, KeyError):
                if strict:
                    raise
                break
            flows.append(flow)
    return flows
