# SPDX-License-Identifier: MIT
"""The proxies that are compared: how each is configured, started, reached and stopped.

Every one terminates the client's TLS with a certificate that its CA signed, opens TLS to the origin and verifies it,
with one process or thread for traffic, in the configuration that its own documentation gives for that.
"""
import os
import shutil
import signal
import socket
import subprocess
import time

STOP_SECONDS = 5


class Unavailable(Exception):
    """The peer is not installed, or cannot run here; the text says why."""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def find_program(*names):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def find_file(path):
    return path if os.path.exists(path) else None


def cgroup2_root():
    with open("/proc/self/mounts", encoding="ascii") as mounts:
        for line in mounts:
            fields = line.split()
            if fields[2] == "cgroup2":
                return fields[1]
    return None


def processes():
    """{pid: (parent, cpu ticks of it and of the children that it waited for)}"""
    table = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        table[int(pid)] = (int(fields[1]), sum(int(n) for n in fields[11:15]))
    return table


def tree(root):
    table = processes()
    found = [root] if root in table else []
    for pid in found:
        found += [child for child, (parent, _) in table.items() if parent == pid]
    return {pid: table[pid][1] for pid in found}


def status_kib(pid, field):
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


class Peer:
    """One way to the origin. Subclasses say how; a Peer itself is the way without a proxy."""

    name = "direct"

    def __init__(self, bench):
        self.bench = bench
        self.child = None
        self.folder = os.path.join(bench.folder, self.name.replace(" ", "-"))

    # ---- what a subclass changes

    def prepare(self):
        """Raises Unavailable. Writes configuration and whatever CA the clients will trust; called once."""

    def command(self):
        """The proxy's command line, or None when there is no proxy."""
        return None

    def ca(self):
        return self.bench.origin_ca

    def tls_args(self, fresh):
        """How load reaches the origin's TLS port through this peer. fresh: every request on new connections."""
        del fresh
        return ["--to", f"127.0.0.1:{self.bench.tls_port}", "--host", f"localhost:{self.bench.tls_port}"]

    def plain_args(self):
        return ["--to", f"127.0.0.1:{self.bench.plain_port}", "--host", f"localhost:{self.bench.plain_port}"]

    def client_cgroup(self):
        return None

    def h2_port(self):
        """Where it speaks HTTP/2 over TLS as a server; None: it does not, or nothing would be compared."""
        return None

    def relay_port(self):
        """Where it relays bytes to the origin's plain port."""
        return None

    def saving_command(self):
        """command(), with every flow saved to a file; None: it cannot."""
        return None

    # ---- the same for all

    def load_args(self, kind, fresh=False):
        if kind == "plain":
            return self.plain_args()
        return self.tls_args(fresh) + ["--tls", "--ca", self.ca()]

    def write(self, name, text):
        os.makedirs(self.folder, exist_ok=True)
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def log_path(self):
        return os.path.join(self.folder, "log")

    def start(self, command=None):
        command = command or self.command()
        if not command:
            return
        os.makedirs(self.folder, exist_ok=True)
        with open(self.log_path(), "wb") as log:
            # pylint: disable=subprocess-popen-preexec-fn
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True, preexec_fn=self.bench.pin_proxy)

    def died(self):
        """The last thing it said, if it is not running any more."""
        if not self.child or self.child.poll() is None:
            return None
        with open(self.log_path(), encoding="utf-8", errors="replace") as f:
            lines = [line.strip() for line in f if line.strip()]
        return f"exit status {self.child.returncode}: {' / '.join(lines[-3:]) or 'it said nothing'}"

    def stop(self):
        if not self.child:
            return
        children = list(tree(self.child.pid))
        for sig in (signal.SIGTERM, signal.SIGKILL):
            if self.child.poll() is None:
                self.child.send_signal(sig)
            try:
                self.child.wait(STOP_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
        # Helpers of its own that outlived it: same session, so not somebody else's reused process id.
        for pid in children:
            try:
                if os.getsid(pid) == self.child.pid:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.child = None

    def cpu_s(self):
        if not self.child:
            return None
        return sum(tree(self.child.pid).values()) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self, field):
        if not self.child:
            return None
        return sum(status_kib(pid, field) for pid in tree(self.child.pid)) / 1024


class Haproxy(Peer):
    name = "haproxy"

    def prepare(self):
        self.program = find_program("haproxy")
        if not self.program:
            raise Unavailable("not installed; run scripts/install-deps --bench")
        self.port, self.plain_port, self.http2, self.relay = (free_port() for _ in range(4))
        b = self.bench
        # http-reuse never: one connection of the client, one to the origin, as an interceptor has it. With HTTP/2 that
        # costs it twice as much, so there it has its own default.
        self.config = self.write("haproxy.cfg", f"""
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 10s
    timeout client 600s
    timeout server 600s
    http-reuse never
    option http-no-delay
frontend tls
    bind 127.0.0.1:{self.port} ssl crt {b.certificates}/both.pem
    default_backend tls
backend tls
    default-server ssl verify required ca-file {b.origin_ca} sni str(localhost) verifyhost localhost
    server origin 127.0.0.1:{b.tls_port}
frontend plain
    bind 127.0.0.1:{self.plain_port}
    default_backend plain
backend plain
    server origin 127.0.0.1:{b.plain_port}
frontend http2
    bind 127.0.0.1:{self.http2} ssl crt {b.certificates}/both.pem alpn h2
    default_backend http2
backend http2
    http-reuse safe
    default-server ssl verify required ca-file {b.origin_ca} sni str(localhost) verifyhost localhost alpn h2
    server origin 127.0.0.1:{b.h2_port}
listen relay
    mode tcp
    bind 127.0.0.1:{self.relay}
    server origin 127.0.0.1:{b.plain_port}
""")

    def h2_port(self):
        return self.http2

    def relay_port(self):
        return self.relay

    def command(self):
        return [self.program, "-db", "-f", self.config]

    def tls_args(self, fresh):
        return ["--to", f"127.0.0.1:{self.port}", "--host", f"localhost:{self.bench.tls_port}"]

    def plain_args(self):
        return ["--to", f"127.0.0.1:{self.plain_port}", "--host", f"localhost:{self.bench.plain_port}"]


class Nginx(Peer):
    name = "nginx"

    def prepare(self):
        self.program = find_program("nginx")
        if not self.program:
            raise Unavailable("not installed; run scripts/install-deps --bench")
        self.port, self.fresh_port, self.plain_port, self.http2, self.relay = (free_port() for _ in range(5))
        b = self.bench
        module = find_file("/usr/lib/nginx/modules/ngx_stream_module.so")
        stream = f"stream {{ server {{ listen 127.0.0.1:{self.relay}; proxy_pass 127.0.0.1:{b.plain_port}; }} }}"
        if not module:
            stream, self.relay = "", None
        user = "user root;" if os.getuid() == 0 else ""
        proxy = f"""
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate {b.origin_ca};
            proxy_ssl_name localhost;
            proxy_ssl_server_name on;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;"""
        tls = f"ssl_certificate {b.certificates}/cert.pem; ssl_certificate_key {b.certificates}/key.pem;"
        # Without an upstream block's keepalive each request opens a connection: that is the second server.
        self.config = self.write("nginx.conf", f"""
{f"load_module {module};" if module else ""}
{user}
daemon off;
worker_processes 1;
pid {self.folder}/pid;
error_log stderr warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    client_max_body_size 0;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    ssl_session_cache shared:s:4m;
    client_body_temp_path {self.folder}/body;
    proxy_temp_path {self.folder}/proxy;
    fastcgi_temp_path {self.folder}/fastcgi;
    uwsgi_temp_path {self.folder}/uwsgi;
    scgi_temp_path {self.folder}/scgi;
    upstream tls {{ server 127.0.0.1:{b.tls_port}; keepalive 2000; keepalive_requests 100000000; }}
    upstream plain {{ server 127.0.0.1:{b.plain_port}; keepalive 2000; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{self.port} ssl backlog=4096; {tls}
        location / {{ proxy_pass https://tls; proxy_set_header Connection ""; {proxy} }}
    }}
    server {{
        listen 127.0.0.1:{self.fresh_port} ssl backlog=4096; {tls}
        location / {{ proxy_pass https://127.0.0.1:{b.tls_port}; {proxy} }}
    }}
    server {{
        listen 127.0.0.1:{self.plain_port} backlog=4096;
        location / {{ proxy_pass http://plain; proxy_set_header Connection ""; {proxy} }}
        location /websocket {{
            proxy_pass http://plain; {proxy}
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "Upgrade";
        }}
        location /stamps {{
            proxy_pass http://plain; {proxy}
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
    server {{
        listen 127.0.0.1:{self.http2} ssl http2 backlog=4096; {tls}
        http2_max_concurrent_streams 128;
        location / {{ proxy_pass https://tls; proxy_set_header Connection ""; {proxy} }}
    }}
}}
{stream}
""")

    def h2_port(self):
        return self.http2

    def relay_port(self):
        return self.relay

    def command(self):
        return [self.program, "-c", self.config, "-p", self.folder, "-e", "stderr"]

    def tls_args(self, fresh):
        port = self.fresh_port if fresh else self.port
        return ["--to", f"127.0.0.1:{port}", "--host", f"localhost:{self.bench.tls_port}"]

    def plain_args(self):
        return ["--to", f"127.0.0.1:{self.plain_port}", "--host", f"localhost:{self.bench.plain_port}"]


class ConnectProxy(Peer):
    """An explicit proxy: CONNECT for TLS, absolute-form for plain HTTP."""

    port = 0

    def tls_args(self, fresh):
        return ["--to", f"127.0.0.1:{self.port}", "--connect", "--host", f"localhost:{self.bench.tls_port}"]

    def plain_args(self):
        return ["--to", f"127.0.0.1:{self.port}", "--absolute", "--host", f"localhost:{self.bench.plain_port}"]


class Squid(ConnectProxy):
    name = "squid"

    def prepare(self):
        self.program = find_program("squid")
        helper = find_program("/usr/lib/squid/security_file_certgen", "/usr/libexec/squid/security_file_certgen")
        if not self.program or not helper:
            raise Unavailable("no squid with ssl-bump; run scripts/install-deps --bench")
        self.port = free_port()
        # Its shared memory is named after the service, and stays when it is killed.
        self.service = f"bench{os.getpid()}"
        self.bench.at_end(self.remove_shared_memory)
        b = self.bench
        ca = b.rsa_ca()
        database = os.path.join(self.folder, "certificates")
        shutil.rmtree(database, ignore_errors=True)
        os.makedirs(self.folder, exist_ok=True)
        done = subprocess.run([helper, "-c", "-s", database, "-M", "4MB"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"{helper}: {done.stdout.strip()}")
        user = ""
        if os.getuid() == 0:
            # It gives up root, also for its helpers.
            user = "cache_effective_user nobody\ncache_effective_group nogroup"
            subprocess.run(["chown", "-R", "nobody:nogroup", self.folder], check=True)
        self.config = self.write("squid.conf", f"""
http_port 127.0.0.1:{self.port} ssl-bump tls-cert={ca} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {helper} -s {database} -M 4MB
sslcrtd_children 2 startup=1
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
tls_outgoing_options cafile={b.origin_ca}
http_access allow all
cache deny all
access_log none
cache_log {self.folder}/cache.log
{user}
pid_filename {self.folder}/pid
coredump_dir {self.folder}
visible_hostname localhost
shutdown_lifetime 0 seconds
client_lifetime 1 day
pconn_timeout 10 minutes
max_filedescriptors 8192
memory_pools off
""")

    def remove_shared_memory(self):
        for name in os.listdir("/dev/shm"):
            if name.startswith(self.service + "-"):
                os.unlink(os.path.join("/dev/shm", name))

    def command(self):
        return [self.program, "-N", "-d", "1", "-n", self.service, "-f", self.config]

    def ca(self):
        return self.bench.rsa_ca()


class Mitmproxy(ConnectProxy):
    name = "mitmproxy"

    def prepare(self):
        self.program = os.environ.get("MITMDUMP") or find_program("mitmdump")
        if not self.program:
            raise Unavailable("no mitmdump in PATH or in the variable MITMDUMP")
        self.choose_ports()
        self.bench.make_ca(self)

    def choose_ports(self):
        self.port, self.http2, self.relay = (free_port() for _ in range(3))

    def ca(self):
        return os.path.join(self.folder, "mitmproxy-ca-cert.pem")

    def h2_port(self):
        return self.http2

    def relay_port(self):
        return self.relay

    def command(self):
        modes = (f"regular@127.0.0.1:{self.port}",
                 f"reverse:https://localhost:{self.bench.h2_port}@127.0.0.1:{self.http2}",
                 f"reverse:tcp://127.0.0.1:{self.bench.plain_port}@127.0.0.1:{self.relay}")
        return [self.program, "--quiet", *(word for mode in modes for word in ("--mode", mode)),
                "--set", f"confdir={self.folder}",
                "--set", f"ssl_verify_upstream_trusted_ca={self.bench.origin_ca}"]

    def saving_command(self):
        return [*self.command(), "--save-stream-file", os.path.join(self.folder, "flows")]


class MitmBpf(Mitmproxy):
    """Flows are recorded in memory, as they are when somebody watches."""

    name = "mitm-bpf"

    def find(self):
        self.program = os.environ.get("MITM_BPF", os.path.abspath("build/mitm-bpf"))
        if not os.access(self.program, os.X_OK):
            raise Unavailable(f"{os.path.relpath(self.program)} is not built")

    def prepare(self):
        self.find()
        self.choose_ports()
        self.bench.make_ca(self)

    def command(self):
        return super().command() + os.environ.get("BENCH_MITM_ARGS", "").split()


class MitmBpfSteered(MitmBpf):
    name = "mitm-bpf steered"

    def prepare(self):
        self.find()
        if os.getuid() != 0:
            raise Unavailable("steering needs root")
        root = cgroup2_root()
        if not root:
            raise Unavailable("no cgroup v2 is mounted")
        self.cgroup = os.path.join(root, f"mitm-bpf-bench-{os.getpid()}")
        os.mkdir(self.cgroup)
        self.bench.at_end(self.remove_cgroup)
        self.bench.make_ca(self)

    def remove_cgroup(self):
        for _ in range(50):
            try:
                os.rmdir(self.cgroup)
                return
            except OSError:
                time.sleep(0.1)

    def client_cgroup(self):
        return self.cgroup

    def h2_port(self):
        return None

    def relay_port(self):
        return None

    def saving_command(self):
        return None

    def command(self):
        return [self.program, "--quiet", "--intercept", "load", "--cgroup", os.path.basename(self.cgroup),
                "--set", "steer_loopback=true", "--set", f"confdir={self.folder}",
                "--set", f"ssl_verify_upstream_trusted_ca={self.bench.origin_ca}",
                *os.environ.get("BENCH_MITM_ARGS", "").split()]

    def tls_args(self, fresh):
        return Peer.tls_args(self, fresh)

    def plain_args(self):
        return Peer.plain_args(self)


ALL = [MitmBpf, MitmBpfSteered, Haproxy, Nginx, Squid, Mitmproxy, Peer]
