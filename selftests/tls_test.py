#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""TLS with real programs: certificates of clients and our own, origins that insist on one, programs that refuse ours,
mistakes at the start, fingerprints in flow files."""
import os
import re
import socket
import ssl
import subprocess
import time

import e2e
from e2e import check, contains, same, wait_for

VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def identity(w, name="me", passphrase=None):
    """A self-signed client certificate with its key in one file: (path, certificate alone)."""
    path, cert, key = (w.certificates.path(name + end) for end in (".both.pem", ".pem", ".key"))
    if not os.path.exists(path):
        secret = ["-passout", "pass:" + passphrase] if passphrase else ["-nodes"]
        w.certificates.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", *secret, "-days",
                               "30", "-subj", "/CN=" + name, "-keyout", key, "-out", cert)
        with open(path, "w", encoding="ascii") as out:
            for part in (cert, key):
                with open(part, encoding="ascii") as f:
                    out.write(f.read())
    return path, cert


def private_origin(w, version, demand=ssl.CERT_REQUIRED, **options):
    """Answers with the name in the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*w.certificates.leaf("good"))
    context.load_verify_locations(identity(w)[1])
    context.verify_mode = demand
    context.maximum_version = version

    def behave(sock, origin):
        peer = sock.getpeercert()
        origin.requests.append(peer and peer["subject"][0][0][1])
        stream = sock.makefile("rb")
        if e2e.read_head(stream):
            e2e.answer(sock, b"hello %s\n" % (origin.requests[-1] or "nobody").encode(), more="Connection: close\r\n")
    return w.origin(context=context, behave=behave, **options)


def passed_flows(proxy, count):
    def read():
        flows = [f for f in proxy.flows() if "mitm_bpf.passed_through" in f["metadata"]]
        return len(flows) >= count and flows
    return wait_for(3, f"{count} passed connections are flows", read)


# ---- certificates of clients

def test_client_certs(w):
    """client_certs: a file for all, a folder by name or address; presented over TLS 1.2 and 1.3"""
    path, _ = identity(w)
    folder = os.path.join(w.tmp, "client-certs")
    os.makedirs(folder, exist_ok=True)
    os.symlink(path, os.path.join(folder, e2e.ORIGIN4 + ".pem"))
    for where in (path, folder):
        proxy = w.proxy("--set", "client_certs=" + where, intercept="curl")
        for version in VERSIONS:
            origin = private_origin(w, version)
            same(w.curl(origin.url("/in")).well(), "hello me\n", f"the answer with {where}")
            same(origin.requests, ["me"], "whom the origin saw")
        same(proxy.stop(), 0, "the exit status")
        same([f["type"] for f in proxy.flows()], ["http", "http"], "the flows")


def test_own_certificate(w):
    """without one configured, the program's own certificate reaches an origin that insists on it, at once and again"""
    path, _ = identity(w)
    for version in VERSIONS:
        origin = private_origin(w, version)
        proxy = w.proxy(intercept="curl")
        for _ in range(2):
            done = w.curl("--cert", path, origin.url("/own"), ca=w.certificates.ca)
            same(done.well(), "hello me\n", f"the answer over {version}")
        why = "the server insists on a client certificate, and none is configured for it"
        flows = passed_flows(proxy, 2)
        for flow in flows:
            same([flow["type"], flow["metadata"]["mitm_bpf.passed_through"], flow["messages"], flow["error"]],
                 ["tcp", why, [], None], "the flow")
            check(flow["metadata"]["mitm_bpf.bytes_dropped"] > 1000, "bytes are not counted")
            same(flow["server_conn"]["address"][:2], [origin.host4, origin.port], "the server")
        proxy.said("Server TLS handshake failed. The server insists on a client certificate")
        same(proxy.log().count("will be relayed untouched for the next 3600 seconds"), 1, "times that it was learned")
        same(proxy.log().count("is relayed untouched: " + why), 2, "times that it was passed")
        same(proxy.stop(), 0, "the exit status")


def test_own_certificate_lazy(w):
    """lazy, and through an explicit proxy: the first try fails and says why, the next one works"""
    path, _ = identity(w)
    for version in VERSIONS:
        origin = private_origin(w, version)
        proxy = w.proxy("-m", "regular@127.0.0.1:0", "--set", "connection_strategy=lazy")
        via = ["-x", f"http://127.0.0.1:{proxy.listen_port()}", "--cert", path, origin.url("/lazy")]
        contains(w.curl(*via).well(), "502 Bad Gateway", "the first answer")
        same(w.curl(*via, ca=w.certificates.ca).well(), "hello me\n", "the second answer")
        passed_flows(proxy, 1)
        same(proxy.stop(), 0, "the exit status")


def test_own_certificate_proxies(w):
    """the same at once through an explicit proxy, SOCKS 5, and a chain of two"""
    path, _ = identity(w)
    last = w.proxy("-m", "regular@127.0.0.1:0", "--set", "ignore_hosts=.")
    for mode, flag in (("regular", "-x"), ("socks5", "--socks5"),
                       (f"upstream:http://127.0.0.1:{last.listen_port()}", "-x")):
        proxy = w.proxy("-m", mode + "@127.0.0.1:0")
        for version in VERSIONS:
            origin = private_origin(w, version)
            done = w.curl(flag, f"127.0.0.1:{proxy.listen_port()}", "--cert", path, origin.url("/proxied"),
                          ca=w.certificates.ca)
            same(done.well(), "hello me\n", f"the answer over {version} in mode {mode}")
        passed_flows(proxy, 2)
        same(proxy.stop(), 0, "the exit status")


def test_no_certificate_at_all(w):
    """nobody has one: the program hears it from the origin itself; with the option off, from us"""
    origin = private_origin(w, VERSIONS[0])
    proxy = w.proxy(intercept="curl")
    check(w.curl(origin.url("/none"), ca=w.certificates.ca).status != 0, "it went well")
    proxy.stop()
    proxy = w.proxy("--set", "tls_passthrough_client_cert=false", intercept="curl")
    contains(w.curl(origin.url("/none")).well(), "insists on a client certificate", "the page")
    flow = proxy.flow("/none")
    contains(flow["error"]["msg"], "insists on a client certificate", "the flow's error")


def test_optional_certificate(w):
    """an origin that asks and takes none is intercepted as ever, and it is said that it asked"""
    for version in VERSIONS:
        origin = private_origin(w, version, ssl.CERT_OPTIONAL)
        proxy = w.proxy(intercept="curl")
        same(w.curl(origin.url("/optional")).well(), "hello nobody\n", "the answer")
        proxy.said("The server asks for a client certificate, and none is configured for it")
        same(proxy.flow("/optional")["response"]["status_code"], 200, "the status")
        proxy.stop()


def test_s_server(w):
    """openssl s_server -Verify, with curl's certificate and with ours"""
    path, cert = identity(w)
    leaf, key = w.certificates.leaf("good")
    server = w.start("openssl", "s_server", "-accept", "127.0.0.1:24433", "-cert", leaf, "-key", key, "-CAfile", cert,
                     "-Verify", "1", "-verify_return_error", "-www", inside=False, stdout=subprocess.DEVNULL,
                     stderr=subprocess.DEVNULL)
    w.stack.callback(e2e.end, server)
    time.sleep(0.3)
    url = "https://localhost:24433/"
    proxy = w.proxy(intercept="curl")
    contains(w.curl("--cert", path, "-4", url, ca=w.certificates.ca).well(), "s_server -accept", "its page")
    passed_flows(proxy, 1)
    proxy.stop()
    proxy = w.proxy("--set", "client_certs=" + path, intercept="curl")
    contains(w.curl("-4", url).well(), "s_server -accept", "its page")
    same(proxy.flow("/")["response"]["status_code"], 200, "the status")


def test_request_client_cert(w):
    """request_client_cert: what the client shows is in the flow"""
    path, cert = identity(w)
    origin = w.origin()
    proxy = w.proxy("--set", "request_client_cert=true", intercept="curl")
    w.curl("--cert", path, origin.url("/shown")).well()
    w.curl(origin.url("/hidden")).well()
    with open(cert, encoding="ascii") as f:
        same([c.decode() for c in proxy.flow("/shown")["client_conn"]["certificate_list"]], [f.read()],
             "the certificate")
    same(proxy.flow("/hidden")["client_conn"]["certificate_list"], [], "the certificates")


# ---- programs that refuse ours

def test_refused(w):
    """tls_passthrough_failed: who refused our certificate works from its next try on; others are looked at"""
    origin = w.origin()
    proxy = w.proxy("--set", "tls_passthrough_failed=true", intercept="curl,openssl")
    same(w.curl(origin.url("/pinned"), ca=w.certificates.ca).status, 60, "curl's status")
    proxy.said("will be relayed untouched for the next 3600 seconds: the client refuses our certificate")
    for _ in range(2):
        same(w.curl(origin.url("/pinned"), ca=w.certificates.ca).well(), "the origin's answer to /pinned\n")
    for flow in passed_flows(proxy, 2):
        contains(flow["metadata"]["mitm_bpf.passed_through"], "the client refuses our certificate (", "the reason")
        contains(flow["metadata"]["mitm_bpf.exe"], "/curl", "the program")
    done = w.run("openssl", "s_client", "-CAfile", w.ca, "-servername", "origin.test", "-ign_eof", "-connect",
                 f"{origin.host4}:{origin.port}", stdin=b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    contains(done.out, "the origin's answer to /other")
    same(proxy.flow("/other")["response"]["status_code"], 200, "the status")
    same(proxy.stop(), 0, "the exit status")


def test_refused_off(w):
    """off, as it is by default, nothing is learned; on, it is forgotten again"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    for _ in range(2):
        same(w.curl(origin.url("/pinned"), ca=w.certificates.ca).status, 60, "curl's status")
    check("relayed untouched" not in proxy.log(), "something was learned")
    proxy.stop()
    proxy = w.proxy("--set", "tls_passthrough_failed=true", "--set", "tls_passthrough_seconds=1", intercept="curl")
    same(w.curl(origin.url("/pinned"), ca=w.certificates.ca).status, 60, "curl's status")
    same(w.curl(origin.url("/pinned"), ca=w.certificates.ca).status, 0, "curl's status")
    time.sleep(1.1)
    same(w.curl(origin.url("/pinned"), ca=w.certificates.ca).status, 60, "curl's status")


def test_compares_later(w):
    """a program that compares the certificate after the handshake, and leaves, gets the real one on its next try"""
    origin = w.origin()
    with open(w.certificates.leaf("good")[0], encoding="ascii") as f:
        pinned = ssl.PEM_cert_to_DER_cert(f.read())
    proxy = w.proxy("--set", "tls_passthrough_failed=true", intercept=str(os.getpid()))
    context = ssl.create_default_context(cafile=w.ca)
    context.load_verify_locations(w.certificates.ca)
    w.enter()

    def fits():
        with socket.create_connection((origin.host4, origin.port), 5) as raw:
            with context.wrap_socket(raw, server_hostname="origin.test") as s:
                return s.getpeercert(True) == pinned
    check(not fits(), "our certificate was not shown")
    proxy.said("the client left right after the handshake, without a word")
    check(fits(), "the origin's certificate was not shown")
    passed_flows(proxy, 1)


# ---- our certificates and parameters

def test_certs(w):
    """--certs with a passphrase, by pattern; add_upstream_certs_to_client_chain; curves"""
    custom, cert = identity(w, "custom.test", "sesame")
    origin = w.origin()
    proxy = w.proxy("-m", "regular@127.0.0.1:0", "--certs", "*.custom.test=" + custom, "--cert-passphrase", "sesame",
                    "--set", "add_upstream_certs_to_client_chain=true", "--set", "tls_ecdh_curve_client=secp384r1",
                    "--set", "ssl_insecure=true")

    def shown(name, *words):
        done = w.run("openssl", "s_client", "-showcerts", "-proxy", f"127.0.0.1:{proxy.listen_port()}", "-servername",
                     name, "-connect", f"{origin.host4}:{origin.port}", *words, stdin=b"")
        return done.out
    with open(cert, encoding="ascii") as f:
        contains(shown("www.custom.test"), f.read().strip(), "the certificates for *.custom.test")
    with open(w.certificates.leaf("good")[0], encoding="ascii") as f:
        text = shown("other.example")
        contains(text, f.read().strip(), "the chain for another name")
    contains(text, "Server Temp Key: ECDH, secp384r1", "the group")
    contains(shown("other.example", "-groups", "X25519"), "Cipher is (NONE)")
    proxy.said("cannot agree on a group to use")


def test_old_client(w):
    """a client that knows DHE alone gets an RSA certificate, and the group of mitmproxy-dhparam.pem"""
    origin = w.origin()
    proxy = w.proxy("-m", "regular@127.0.0.1:0")
    done = w.run("openssl", "s_client", "-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256", "-CAfile", w.ca, "-proxy",
                 f"127.0.0.1:{proxy.listen_port()}", "-connect", f"{origin.host4}:{origin.port}", stdin=b"")
    contains(done.out, "Server Temp Key: DH, 4096 bits", "the group")
    contains(done.out, "Verify return code: 0 (ok)", "the verdict")


def test_mistakes(w):
    """what is wrong with an option is one sentence at the start, and the program ends"""
    secret, cert = identity(w, "locked", "sesame")
    mixed = os.path.join(w.tmp, "mixed.pem")
    with open(mixed, "w", encoding="ascii") as out:
        for part in (identity(w)[1], w.certificates.path("ca.key")):
            with open(part, encoding="ascii") as f:
                out.write(f.read())
    folder = os.path.join(w.tmp, "mixed-certs")
    os.makedirs(folder, exist_ok=True)
    os.symlink(mixed, os.path.join(folder, "origin.test.pem"))
    for option, sentence in (
            (["client_certs=/nowhere.pem"], "cannot read client certificates from /nowhere.pem: No such file"),
            (["client_certs=" + cert], f"Invalid certificate format for {cert}: the private key is missing"),
            (["client_certs=" + secret], "the private key is encrypted; set the option cert_passphrase"),
            (["client_certs=" + secret, "cert_passphrase=open"], "does not open with the option cert_passphrase"),
            (["client_certs=" + mixed], "the private key does not fit the first certificate"),
            (["client_certs=" + folder], f"{folder}/origin.test.pem: the private key does not fit"),
            (["client_certs=/etc/hostname"], "it holds no certificate in PEM form"),
            (["certs=/nowhere.pem"], "Certificate file does not exist: /nowhere.pem"),
            (["certs=x.test=" + secret], "the private key is encrypted; set the option cert_passphrase"),
            (["certs=" + mixed], "the private key does not fit the first certificate"),
            (["tls_ecdh_curve_client=secp256k9"], "Invalid value for tls_ecdh_curve_client: secp256k9 (groups that"),
            (["tls_ecdh_curve_server=:"], "Invalid value for tls_ecdh_curve_server: :"),
            (["ciphers_client=NO-SUCH"], "no cipher of option ciphers_client=NO-SUCH is known"),
            (["ciphers_server=TLS_NO_SUCH"], "Invalid value for ciphers_server: there is no cipher suite TLS_NO_SUCH"),
            (["add_upstream_certs_to_client_chain=true", "upstream_cert=false"],
             "add_upstream_certs_to_client_chain requires the upstream_cert option to be enabled."),
            (["tls_passthrough_seconds=0"], "Invalid value for tls_passthrough_seconds: 0"),
    ):
        words = [word for text in option for word in ("--set", text)]
        done = w.run(e2e.MITM_BPF, "--set", "confdir=" + w.confdir, "-m", "regular@127.0.0.1:0", *words, inside=False,
                     timeout=10)
        check(done.status != 0, f"{option} was taken")
        contains(done.err, sentence, f"what was said of {option}")
        same(len(done.err.strip().splitlines()), 1, f"lines of {done.err}")


# ---- fingerprints

def test_fingerprints(w):
    """JA3 and JA4 of both sides are in the flow file, and tell programs apart"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl,openssl")
    w.curl(origin.url("/ja")).well()
    w.curl("--tls-max", "1.2", origin.url("/ja12")).well()
    modern, old = (proxy.flow(path)["metadata"] for path in ("/ja", "/ja12"))
    for own in (modern, old):
        for key in ("client_ja3", "upstream_ja3", "server_ja3s"):
            check(re.fullmatch("[0-9a-f]{32}", own["mitm_bpf." + key]), f"{key} is {own}")
        for key in ("client_ja4", "upstream_ja4"):
            check(re.fullmatch("t1[23][di][0-9]{4}[a-z0-9]{2}_[0-9a-f]{12}_[0-9a-f]{12}", own["mitm_bpf." + key]),
                  f"{key} is {own}")
    same([own["mitm_bpf.client_ja4"][:4] for own in (modern, old)], ["t13i", "t12i"], "the clients' versions")
    same(modern["mitm_bpf.upstream_ja4"][:3], "t13", "our version")
    same(proxy.stop(), 0, "the exit status")


if __name__ == "__main__":
    e2e.main(globals())
