#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""HTTP/2 with real clients (curl, nghttp, h2load) and a real origin (nginx), steered and through an explicit proxy."""
import hashlib
import os
import re
import shutil

import e2e
from e2e import Skipped, check, contains, same, wait_for

PORT_TLS, PORT_CLEAR = 8443, 8080
CONFIG = """
daemon off; master_process off; pid {tmp}/nginx.pid; error_log {tmp}/nginx.log;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {tmp}/nginx-body; client_max_body_size 0;
    proxy_temp_path {tmp}/a; fastcgi_temp_path {tmp}/b; uwsgi_temp_path {tmp}/c; scgi_temp_path {tmp}/d;
    server {{
        listen {host}:{tls} ssl http2; listen {host}:{clear} http2;
        ssl_certificate {chain}; ssl_certificate_key {key};
        root {tmp}/www;
        location /put/ {{ dav_methods PUT; create_full_put_path on; }}
        location /small {{ return 200 "small, over $server_protocol\\n"; }}
    }}
}}
"""


class Nginx:
    """An origin that speaks HTTP/2: over TLS, and in clear text to who knows it."""

    def __init__(self, w):
        if not shutil.which("nginx"):
            raise Skipped("needs nginx; run scripts/install-deps --test")
        self.host = e2e.ORIGIN4
        self.www = os.path.join(w.tmp, "www")
        os.makedirs(os.path.join(self.www, "put"), exist_ok=True)
        os.chmod(w.tmp, 0o755)
        chain, key = w.certificates.leaf("good")[:2]
        config = os.path.join(w.tmp, "nginx.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write("user root;" + CONFIG.format(tmp=w.tmp, host=self.host, tls=PORT_TLS, clear=PORT_CLEAR,
                                                 chain=chain, key=key))
        self.big = os.urandom(1 << 20) * 16
        with open(os.path.join(self.www, "big"), "wb") as f:
            f.write(self.big)
        self.process = w.start("nsenter", f"--net=/proc/{os.getpid()}/fd/{w.origin_ns}", "nginx", "-c", config,
                               inside=False)
        wait_for(5, "nginx answers", lambda: self.answers(w))

    def answers(self, w):
        if self.process.poll() is not None:
            raise Skipped("nginx does not start: " + self.process.stderr.read().decode()[-300:])
        return w.curl(self.url("/small"), "--insecure", inside=False).status == 0

    def url(self, path, clear=False):
        return f"http://{self.host}:{PORT_CLEAR}{path}" if clear else f"https://{self.host}:{PORT_TLS}{path}"


def versions(flow):
    return [flow["request"]["http_version"], flow["response"]["http_version"]]


def test_steered(w):
    """curl --http2, steered: HTTP/2 on both sides, seen as that"""
    nginx = Nginx(w)
    proxy = w.proxy(intercept="curl")
    done = w.curl("--http2", "-w", "%{http_version}", nginx.url("/small?steered"))
    same(done.well(), "small, over HTTP/2.0\n2", "what curl got")
    same(versions(proxy.flow("/small?steered")), [b"HTTP/2.0", b"HTTP/2.0"], "the flow's versions")


def test_regular(w):
    """curl --http2 through an explicit proxy: HTTP/2 inside the tunnel"""
    nginx = Nginx(w)
    proxy = w.proxy("--mode", "regular@127.0.0.1:0", "--set", "connection_strategy=eager")
    port = wait_for(5, "the proxy listens", proxy.listen_port)
    done = w.curl("--http2", "-w", "%{http_version}", "--proxy", f"http://127.0.0.1:{port}",
                  nginx.url("/small?regular"))
    same(done.well(), "small, over HTTP/2.0\n2", "what curl got")
    same(versions(proxy.flow("/small?regular")), [b"HTTP/2.0", b"HTTP/2.0"], "the flow's versions")


def test_to_http1(w):
    """A client of HTTP/2 and an origin of HTTP/1 (lazy: the client is answered before the origin is known)"""
    origin = w.origin()
    proxy = w.proxy("--set", "connection_strategy=lazy", intercept="curl")
    done = w.curl("--http2", "-w", "%{http_version}", origin.url("/mixed"))
    contains(done.well(), "the origin's answer to /mixed")
    same(done.out[-1:], "2", "the client's version")
    same(versions(proxy.flow("/mixed")), [b"HTTP/2.0", b"HTTP/1.1"], "the flow's versions")


def test_switched_off(w):
    """--set http2=false: both sides speak HTTP/1.1"""
    nginx = Nginx(w)
    proxy = w.proxy("--set", "http2=false", intercept="curl")
    done = w.curl("--http2", "-w", "%{http_version}", nginx.url("/small?off"))
    same(done.well(), "small, over HTTP/1.1\n1.1", "what curl got")
    same(versions(proxy.flow("/small?off")), [b"HTTP/1.1", b"HTTP/1.1"], "the flow's versions")


def test_clear_text(w):
    """HTTP/2 in clear text, with prior knowledge, to an origin that knows it, too"""
    nginx = Nginx(w)
    proxy = w.proxy(intercept="curl")
    done = w.curl("--http2-prior-knowledge", "-w", "%{http_version}", nginx.url("/small?clear", clear=True))
    same(done.well(), "small, over HTTP/2.0\n2", "what curl got")
    same(versions(proxy.flow("/small?clear")), [b"HTTP/2.0", b"HTTP/2.0"], "the flow's versions")


def test_big_both_ways(w):
    """16 MiB down and 16 MiB up, byte for byte"""
    nginx = Nginx(w)
    proxy = w.proxy(intercept="curl")
    wanted = hashlib.sha256(nginx.big).hexdigest()
    got = os.path.join(w.tmp, "got")
    w.curl("--http2", "-o", got, nginx.url("/big"), timeout=60).well()
    with open(got, "rb") as f:
        same(hashlib.sha256(f.read()).hexdigest(), wanted, "what came down")
    done = w.curl("--http2", "-w", "%{http_code} %{http_version}", "-T", os.path.join(nginx.www, "big"),
                  nginx.url("/put/up"), timeout=60)
    same(done.well()[-5:], "201 2", "the answer to PUT")
    with open(os.path.join(nginx.www, "put", "up"), "rb") as f:
        same(hashlib.sha256(f.read()).hexdigest(), wanted, "what went up")
    same(len(proxy.flow("/big")["response"]["content"]), len(nginx.big), "the captured body")


def test_multiplexed(w):
    """h2load: 4 clients with 25 streams each; each client's streams share one connection to the origin"""
    if not shutil.which("h2load"):
        raise Skipped("needs h2load; run scripts/install-deps --test")
    nginx = Nginx(w)
    proxy = w.proxy("--set", "flow_detail=0", intercept="h2load")
    done = w.run("h2load", "-n", "2000", "-c", "4", "-m", "25", nginx.url("/small?load"), timeout=60)
    contains(done.well(), "2000 succeeded, 0 failed, 0 errored")
    flows = proxy.flows(2000, 10)
    same({v for f in flows for v in versions(f)}, {b"HTTP/2.0"}, "the flows' versions")
    same(len({f["server_conn"]["id"] for f in flows}), 4, "the connections to the origin")


def test_nghttp(w):
    """nghttp: several URLs on one connection, a window of 64 KiB"""
    if not shutil.which("nghttp"):
        raise Skipped("needs nghttp; run scripts/install-deps --test")
    nginx = Nginx(w)
    w.proxy(intercept="nghttp")
    done = w.run("nghttp", "-n", "-s", "-w", "16", "-W", "16", nginx.url("/big"), nginx.url("/small?1"),
                 nginx.url("/small?2"), timeout=60)
    rows = re.findall(r" 200 +(\S+) +(\S+)$", done.well(), re.M)
    same(len(rows), 3, "the answers: " + done.out)
    check(any(size == "16M" for size, _ in rows), "the big one is whole: " + done.out)


if __name__ == "__main__":
    e2e.main(globals())
