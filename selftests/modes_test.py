#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every way in for TCP but the kernel's: what a client is configured for, or redirected to, with curl and the real
program."""
import base64
import os
import re
import shutil
import socket
import ssl
import subprocess

import e2e
from e2e import Skipped, check, contains, same


def port_of(proxy, description):
    """Where it listens; the proxies here take a free port."""
    found = re.search(re.escape(description) + r" listening at \S*:(\d+)[ .\n]", proxy.log())
    check(found, f"no {description!r} in: {proxy.log()}")
    return int(found.group(1))


def start(w, mode, description, *words, at="127.0.0.1:0", **options):
    proxy = w.proxy("-m", f"{mode}@{at}", *words, **options)
    return proxy, port_of(proxy, description)


def says(origin, path):
    return f"the origin's answer to {path}\n"


# ---- SOCKS 5

def test_socks5(w):
    """SOCKS 5: names and addresses of both families, http and https"""
    origin, loopback = w.origin(), w.origin(tls=None, where="loopback")
    for io in ("epoll", "uring"):
        proxy, port = start(w, "socks5", "SOCKS v5 proxy", io=io)
        for host in (origin.host4, origin.host6):
            path = f"/{io}?{host}"
            same(w.curl("--socks5", f"127.0.0.1:{port}", origin.url(path, host)).well(), says(origin, path))
            same(proxy.flow(path)["server_conn"]["address"][:2], [host, origin.port], "the destination")
        same(w.curl("--socks5-hostname", f"127.0.0.1:{port}", loopback.url("/name", "localhost")).well(),
             says(loopback, "/name"))
        same(proxy.flow("/name")["server_conn"]["address"][0], "localhost", "the name that was asked for")
        same(proxy.flow("/name")["client_conn"]["proxy_mode"], "socks5@127.0.0.1:0", "the flow's mode")


def test_socks5_login(w):
    """SOCKS 5 with a password: the right one, a wrong one, none"""
    origin = w.origin()
    proxy, port = start(w, "socks5", "SOCKS v5 proxy", "--proxyauth", "user:secret")
    same(w.curl("--socks5", f"user:secret@127.0.0.1:{port}", origin.url("/in")).well(), says(origin, "/in"))
    for who in ("user:wrong@", ""):
        check(w.curl("--socks5", f"{who}127.0.0.1:{port}", origin.url("/out")).status == 97, f"{who!r} was let in")
    same([f["request"]["path"] for f in proxy.flows()], [b"/in"], "what came through")


# ---- upstream

def test_upstream(w):
    """upstream: through another proxy, for http and https, IPv4 and IPv6"""
    origin, plain = w.origin(), w.origin(tls=None)
    behind, behind_port = start(w, "regular", "HTTP(S) proxy")
    for scheme in ("http", "https"):
        for io in ("epoll", "uring"):
            proxy, port = start(w, f"upstream:{scheme}://127.0.0.1:{behind_port}", "HTTP(S) proxy (upstream mode)",
                                "-k", io=io)
            for where in (origin, plain):
                for host in (where.host4, where.host6):
                    path = f"/{scheme}/{io}/{where.port}?{host}"
                    same(w.curl("-x", f"127.0.0.1:{port}", where.url(path, host)).well(), says(where, path))
                    same(behind.flow(path)["server_conn"]["address"][:2], [host, where.port], "the other's server")
                    own = proxy.flow(path)["server_conn"]
                    same(own["address"][:2], [host, where.port], "the server's address")
                    same(own["via"], [scheme, ["127.0.0.1", behind_port]], "the way there")


def test_upstream_password(w):
    """upstream: the other proxy wants a password; a wrong one is told"""
    origin, plain = w.origin(), w.origin(tls=None)
    _, behind = start(w, "regular", "HTTP(S) proxy", "--proxyauth", "user:secret")
    _, right = start(w, f"upstream:http://127.0.0.1:{behind}", "HTTP(S) proxy (upstream mode)", "-k", "--upstream-auth",
                     "user:secret")
    for where in (origin, plain):
        same(w.curl("-x", f"127.0.0.1:{right}", where.url("/right")).well(), says(where, "/right"))
        check("proxy-authorization" not in where.requests[-1][2], "the password reached the origin")
    _, wrong = start(w, f"upstream:http://127.0.0.1:{behind}", "HTTP(S) proxy (upstream mode)", "-k", "--upstream-auth",
                     "user:wrong")
    contains(w.curl("-x", f"127.0.0.1:{wrong}", origin.url("/wrong")).well(),
             f"Upstream proxy 127.0.0.1:{behind} refused HTTP CONNECT request: 407 Proxy Authentication Required")
    contains(w.curl("-x", f"127.0.0.1:{wrong}", plain.url("/wrong")).well(), "407 Proxy Authentication Required")
    _, nobody = start(w, "upstream:http://127.0.0.1:1", "HTTP(S) proxy (upstream mode)")
    contains(w.curl("-x", f"127.0.0.1:{nobody}", plain.url("/")).well(), "Connection refused")


# ---- reverse

def test_reverse_http(w):
    """reverse: https and http behind, TLS and plain in front; the Host is the target's"""
    origin, plain = w.origin(), w.origin(tls=None)
    for where, scheme in ((origin, "https"), (plain, "http")):
        target = f"{where.host4}:{where.port}"
        proxy, port = start(w, f"reverse:{scheme}://{target}", f"reverse proxy to {scheme}://{target}")
        for front in ("http", "https"):
            path = f"/{scheme}-{front}"
            same(w.curl(f"{front}://localhost:{port}{path}", f"{front}://localhost:{port}/again").well(),
                 says(where, path) + says(where, "/again"))
            same(where.requests[-1][2]["host"], target, "the Host that the target sees")
            flow = proxy.flow(path)
            same(flow["server_conn"]["address"][:2], [where.host4, where.port], "the flow's server")
            same(flow["client_conn"]["timestamp_tls_setup"] is not None, front == "https", "the flow's TLS in front")


def test_reverse_options(w):
    """reverse: a kept Host, an IPv6 target, a password for the target, one of its own"""
    plain = w.origin(tls=None)
    target = f"http://[{plain.host6}]:{plain.port}"
    _, port = start(w, f"reverse:{target}", f"reverse proxy to {target}", "--set", "keep_host_header=true",
                    "--upstream-auth", "them:theirs")
    same(w.curl(f"http://localhost:{port}/kept").well(), says(plain, "/kept"))
    same(plain.requests[-1][2]["host"], f"localhost:{port}", "the kept Host")
    same(plain.requests[-1][2]["authorization"], "Basic " + base64.b64encode(b"them:theirs").decode(), "the password")
    _, port = start(w, f"reverse:{target}", f"reverse proxy to {target}", "--proxyauth", "any")
    done = w.curl("-w", "%{http_code}", f"http://localhost:{port}/closed").well()
    contains(done, "401 Unauthorized</h1></body></html>401")
    same(w.curl("-u", "a:b", f"http://localhost:{port}/open").well(), says(plain, "/open"))
    check("authorization" not in plain.requests[-1][2], "our password reached the target")


def greet(sock, _):
    """A server that speaks first, and echoes."""
    sock.sendall(b"220 ready\r\n")
    echo(sock, _)


def echo(sock, _):
    while data := sock.recv(4096):
        sock.sendall(data)


def talk_tls(w, port, greeting):
    context = ssl.create_default_context(cafile=w.ca)
    with socket.create_connection(("127.0.0.1", port), 5) as raw, \
            context.wrap_socket(raw, server_hostname="localhost") as client, \
            client.makefile("rwb", buffering=0) as stream:
        same(stream.readline() if greeting else b"", greeting)
        stream.write(b"hello\n")
        same(stream.readline(), b"hello\n")


def test_reverse_tcp(w):
    """reverse: tcp and tls behind, a server that speaks first, TLS in front"""
    for tls in (None, "good"):
        origin = w.origin(tls=tls, behave=greet)
        target = f"{'tls' if tls else 'tcp'}://{origin.host4}:{origin.port}"
        proxy, port = start(w, f"reverse:{target}", f"reverse proxy to {target}")
        with socket.create_connection(("127.0.0.1", port), 5) as client, client.makefile("rwb", buffering=0) as stream:
            same(stream.readline(), b"220 ready\r\n")
            stream.write(b"GET / HTTP/1.1\r\n")
            same(stream.readline(), b"GET / HTTP/1.1\r\n")
        same([f["type"] for f in proxy.flows(1)], ["tcp"], "the flow")
        if tls:
            talk_tls(w, port, b"220 ready\r\n")
    origin = w.origin(tls=None, behave=echo)
    target = f"tcp://{origin.host4}:{origin.port}"
    _, port = start(w, f"reverse:{target}", f"reverse proxy to {target}")
    talk_tls(w, port, b"")


def test_down(w):
    """A target that is down, in each mode"""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free = s.getsockname()[1]
    _, port = start(w, f"reverse:http://127.0.0.1:{free}", f"reverse proxy to http://127.0.0.1:{free}")
    same(w.curl(f"http://localhost:{port}/").status, 52, "curl's status: an empty reply")
    _, port = start(w, "socks5", "SOCKS v5 proxy")
    same(w.curl("--socks5", f"127.0.0.1:{port}", f"http://127.0.0.1:{free}/").status, 97, "curl's status: SOCKS")


# ---- passwords

def test_htpasswd(w):
    """A file of passwords; what is wrong with one is said"""
    origin, plain = w.origin(), w.origin(tls=None)
    path = os.path.join(w.tmp, "htpasswd")
    hashed = subprocess.run(["openssl", "passwd", "-apr1", "secret"], check=True, capture_output=True).stdout.decode()
    with open(path, "w", encoding="ascii") as f:
        f.write("user:" + hashed)
    proxy, port = start(w, "regular", "HTTP(S) proxy", "--proxyauth", "@" + path)
    for where in (origin, plain):
        same(w.curl("-x", f"user:secret@127.0.0.1:{port}", where.url("/in")).well(), says(where, "/in"))
        check("proxy-authorization" not in where.requests[-1][2], "the password reached the origin")
    same(w.curl("-x", f"127.0.0.1:{port}", "-o", "/dev/null", "-w", "%{http_code}", plain.url("/out")).well(), "407")
    same(w.curl("-x", f"user:x@127.0.0.1:{port}", "-o", "/dev/null", "-w", "%{http_connect}",
                origin.url("/out")).out, "407")
    same(w.curl("--proxy-anyauth", "-x", f"user:secret@127.0.0.1:{port}", origin.url("/asked")).well(),
         says(origin, "/asked"))
    check(any(f["metadata"].get("proxyauth") == "user" for f in proxy.flows()), "no flow says who it was")
    with open(path, "w", encoding="ascii") as f:
        f.write("user:plain\n")
    done = w.run(e2e.MITM_BPF, "--proxyauth", "@" + path, "-p", "0")
    same(done.status, 1)
    contains(done.err, f"Could not open htpasswd file: {path}")
    done = w.run(e2e.MITM_BPF, "--proxyauth", "@/nowhere", "-p", "0")
    contains(done.err, "Could not open htpasswd file: /nowhere (No such file or directory)")


# ---- all of them

def test_several(w):
    """Several modes at once; two on one port are refused, and so is what there is not"""
    plain = w.origin(tls=None)
    proxy = w.proxy("-m", "regular@127.0.0.1:0", "-m", "socks5@[::1]:0",
                    "-m", f"reverse:http://{plain.host4}:{plain.port}@127.0.0.2:0", "-m", "transparent@127.0.0.3:0")
    regular, socks = port_of(proxy, "HTTP(S) proxy"), port_of(proxy, "SOCKS v5 proxy")
    reverse = port_of(proxy, f"reverse proxy to http://{plain.host4}:{plain.port}")
    same(w.curl("-x", f"127.0.0.1:{regular}", plain.url("/a")).well(), says(plain, "/a"))
    same(w.curl("--socks5", f"[::1]:{socks}", plain.url("/b")).well(), says(plain, "/b"))
    same(w.curl(f"http://127.0.0.2:{reverse}/c").well(), says(plain, "/c"))
    same([f["client_conn"]["proxy_mode"] for f in proxy.flows(3)],
         ["regular@127.0.0.1:0", "socks5@[::1]:0", f"reverse:http://{plain.host4}:{plain.port}@127.0.0.2:0"], "modes")
    check(w.curl(f"http://127.0.0.3:{port_of(proxy, 'Transparent Proxy')}/").status != 0, "an answer from nowhere")
    proxy.said("Transparent mode failure: the connection was made to the proxy itself")
    for modes, text in ((["regular", "transparent"], "multiple servers on the same address: 127.0.0.1:8080"),
                        (["socks"], "Invalid proxy mode specification: socks (unknown mode)"),
                        (["reverse:tcp://a"], "(Port specification missing.)"),
                        (["dns"], "dns mode is not implemented")):
        done = w.run(e2e.MITM_BPF, *(word for mode in modes for word in ("-m", mode)))
        same(done.status, 1)
        contains(done.err, text)


def test_connect_addr(w):
    """connect_addr: upstream connections come from that address"""
    plain = w.origin(tls=None)
    e2e.netlink("addr", "add", "10.77.0.77/24", "dev", "mbA")
    _, port = start(w, "regular", "HTTP(S) proxy", "--set", "connect_addr=10.77.0.77")
    contains(w.curl("-x", f"127.0.0.1:{port}", plain.url("/peer")).well(), "10.77.0.77 ")
    contains(w.curl("-x", f"127.0.0.1:{port}", plain.url("/peer", plain.host6)).well(), e2e.CLIENT6)


def test_large(w):
    """Bodies above stream_large_bodies pass, and are not kept"""
    plain = w.origin(tls=None)
    proxy, port = start(w, "regular", "HTTP(S) proxy", "--set", "body_streaming=never", "--set",
                        "stream_large_bodies=1m")
    for size in (1 << 19, 4 << 20):
        done = w.curl("-x", f"127.0.0.1:{port}", "-o", "/dev/null", "-w", "%{size_download}",
                      plain.url(f"/bytes/{size}"))
        same(done.well(), str(size))
    same(len(proxy.flow(f"/bytes/{1 << 19}")["response"]["content"]), 1 << 19, "what is kept of the small one")
    same(proxy.flow(f"/bytes/{4 << 20}")["response"]["content"], None, "what is kept of the large one")
    proxy.said(f"Streaming response from {plain.host4}.")


# ---- transparent

FAR4, FAR6 = "198.51.100.9", "2001:db8:77::9"


def forwarded_client(w):
    """A third namespace, whose only way out is through the proxy's; its process id."""
    holder = w.start("unshare", "--net", "sh", "-c", "echo ready; exec sleep 120", inside=False)
    same(holder.stdout.readline(), b"ready\n")
    for words in (("link", "add", "mbC", "type", "veth", "peer", "name", "mbD"), ("link", "set", "mbD", "netns",
                  str(holder.pid)), ("addr", "add", "10.78.0.1/24", "dev", "mbC"),
                  ("-6", "addr", "add", "fd78::1/64", "dev", "mbC", "nodad"), ("link", "set", "mbC", "up")):
        e2e.netlink(*words)
    w.stack.callback(subprocess.run, ["ip", "link", "del", "mbC"], capture_output=True, check=False)
    inside = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    for words in (("link", "set", "lo", "up"), ("addr", "add", "10.78.0.2/24", "dev", "mbD"),
                  ("-6", "addr", "add", "fd78::2/64", "dev", "mbD", "nodad"), ("link", "set", "mbD", "up"),
                  ("route", "add", "default", "via", "10.78.0.1"), ("-6", "route", "add", "default", "via", "fd78::1")):
        subprocess.run([*inside, "ip", *words], check=True, capture_output=True)
    return inside


def test_transparent_foreign(w):
    """transparent: a connection to an address that is not ours, as TPROXY hands it over (IPv4, IPv6)"""
    origin = w.origin(tls=None)
    for address, link in ((FAR4 + "/32", ()), (FAR6 + "/128", ("nodad",))):
        e2e.netlink(*(("-6",) if ":" in address else ()), "addr", "add", address, "dev", "mbB", *link,
                    netns=w.origin_ns)
    inside = forwarded_client(w)
    for family in ("-4", "-6"):
        e2e.netlink(family, "rule", "add", "iif", "mbC", "lookup", "77")
        w.stack.callback(subprocess.run, ["ip", family, "rule", "del", "iif", "mbC"], capture_output=True, check=False)
        e2e.netlink(family, "route", "add", "local", "default", "dev", "lo", "table", "77")
    for io in ("epoll", "uring"):
        proxy = w.proxy("-m", "transparent", "--listen-host", "", "-p", origin.port, io=io)
        for host in (FAR4, FAR6):
            path = f"/{io}?{host}"
            done = w.run(*inside, "curl", "-sS", "--max-time", "10", origin.url(path, host), inside=False)
            same(done.well(), says(origin, path))
            flow = proxy.flow(path)
            same(flow["server_conn"]["address"][:2], [host, origin.port], "the destination")
            same(flow["client_conn"]["sockname"][:2], [host, origin.port], "what the client is connected to")
        same(proxy.stop(), 0, "the exit status")


def redirect_rules(port, to):
    """Commands that send what others than root (the proxy) send to a port to another, with what this machine has."""
    if shutil.which("nft"):
        rules = "".join(f"table {family} mb {{ chain c {{ type nat hook output priority -100; meta skuid != 0 "
                        f"tcp dport {port} redirect to :{to}; }}; }}\n" for family in ("ip", "ip6"))
        return [(["nft", "-f", "-"], rules)]
    if shutil.which("iptables"):
        return [([tool, *"-t nat -A OUTPUT -m owner ! --uid-owner 0 -p tcp --dport".split(), str(port), "-j",
                  "REDIRECT", "--to-ports", str(to)], "") for tool in ("iptables", "ip6tables")]
    return None


def test_transparent_redirect(w):
    """transparent: a connection that a firewall rule redirects (SO_ORIGINAL_DST)"""
    if redirect_rules(1, 1) is None:
        raise Skipped("needs nft or iptables")
    origin = w.origin(tls=None)
    proxy, port = start(w, "transparent", "Transparent Proxy", at=":0")
    for command, text in redirect_rules(origin.port, port):
        subprocess.run(command, input=text.encode(), check=True, capture_output=True)
    for host in (origin.host4, origin.host6):
        path = "/sent?" + host
        done = w.run("setpriv", "--reuid=65534", "--clear-groups", "curl", "-sS", "--max-time", "10",
                     origin.url(path, host), inside=False)
        same(done.well(), says(origin, path))
        same(proxy.flow(path)["server_conn"]["address"][:2], [host, origin.port], "the destination")


if __name__ == "__main__":
    e2e.main(globals())
