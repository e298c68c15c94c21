#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The flow file and mitmproxy: it reads what we write, field by field, and we read what it writes. The mitmdump to ask
is $MITMDUMP, or the one in $PATH."""
import ast
import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import e2e
from e2e import Failed, Skipped, check, contains, same, wait_for

# Prints each flow's state as mitmproxy understands it.
READER = """
import sys
from mitmproxy import io
def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value
with open(sys.argv[1], "rb") as f:
    for flow in io.FlowReader(f).stream():
        print(repr(plain(flow.get_state())))
"""


def mitmdump():
    found = os.environ.get("MITMDUMP") or shutil.which("mitmdump")
    if not found or not os.access(found, os.X_OK):
        raise Skipped("needs mitmdump (mitmproxy 12) in PATH or $MITMDUMP")
    return found


def run_mitmdump(w, *words, **options):
    return w.run(mitmdump(), "--set", f"confdir={w.tmp}/mitmproxy", *words, inside=False, timeout=30, **options)


def read_with_mitmproxy(w, path):
    """The flows' states, by mitmproxy's own reader; its python is beside mitmdump, or in its first line."""
    program = mitmdump()
    python = os.path.join(os.path.dirname(os.path.realpath(program)), "python3")
    if not os.access(python, os.X_OK):
        with open(program, encoding="latin-1") as f:
            python = f.readline().lstrip("#!").strip()
    done = w.run(python, "-c", READER, path, inside=False, timeout=30)
    if "No module named 'mitmproxy'" in done.err:
        raise Skipped(f"{python} has no mitmproxy module")
    return [ast.literal_eval(line) for line in done.well().splitlines()]


def check_lossless(w, path):
    """mitmproxy's understanding of each flow is what is in the file, key by key. Returns the states."""
    ours, theirs = e2e.read_flows(path, strict=True), read_with_mitmproxy(w, path)
    same(len(theirs), len(ours), "the number of flows that mitmproxy read")
    for mine, flow in zip(ours, theirs):
        compare(mine, flow, mine.get("type", "flow"))
    return theirs


def compare(mine, flow, where):
    if isinstance(mine, dict) and isinstance(flow, dict):
        same(sorted(mine), sorted(flow), f"the keys of {where}")
        for key in mine:
            compare(mine[key], flow[key], f"{where}.{key}")
    else:
        same(flow, mine, where)


def gzipped(sock, origin):
    stream = sock.makefile("rb")
    if e2e.read_head(stream):
        e2e.answer(sock, gzip.compress(b"compressed text\n" * 20), more="Content-Encoding: gzip\r\nSet-Cookie: a=1\r\n"
                   "Set-Cookie: b=2\r\nX-Odd: \xe9\r\n")


def make_flows(w, proxy):
    """One of everything that we can record; returns what is needed to check them."""
    tls, clear, untrusted = w.origin(), w.origin(tls=None), w.origin(tls="untrusted", where="loopback")
    packed = w.origin(behave=gzipped)
    facts = {"port": tls.port, "pid": {}}

    def curl(name, *words, **options):
        done = w.curl("--verbose", *words, **options)
        facts["pid"][name] = done.pid
        facts[name] = re.findall(r"SSL connection using (\S+) / (\S+)", done.err)
    curl("/get", "--resolve", f"origin.test:{tls.port}:{tls.host4}", tls.url("/get", "origin.test"))
    curl("/six", "--tls-max", "1.2", tls.url("/six", tls.host6))
    curl("/post", "--data-binary", "@-", tls.url("/post"), stdin=bytes(range(256)) * 200)
    curl("/clear", "--header", "X-One: 1", "--header", "x-one: 2", clear.url("/clear?q=%C3%A4#f"))
    curl("/gzip", "--compressed", packed.url("/gzip"))
    curl("/untrusted", untrusted.url("/untrusted", "localhost"))
    refused = w.origin(tls=None)
    refused.close()
    w.curl(refused.url("/refused"))
    facts["cert"], facts["sessions"] = w.certificates.leaf("good")[0], tls.sessions
    return facts


def http_flows(states):
    return {f["request"]["path"].split(b"?")[0].decode(): f for f in states if f["type"] == "http"}


def check_order(flow):
    """The order in which things happen on one connection."""
    client, server, error = flow["client_conn"], flow["server_conn"], flow["error"]
    stamps = [("client start", client["timestamp_start"]), ("client tls", client["timestamp_tls_setup"]),
              ("request start", flow["request"]["timestamp_start"]), ("request end", flow["request"]["timestamp_end"])]
    if flow["response"]:
        stamps += [("response start", flow["response"]["timestamp_start"]),
                   ("response end", flow["response"]["timestamp_end"])]
    if error:
        stamps.append(("error", error["timestamp"]))
    stamps = [(name, at) for name, at in stamps if at is not None]
    same([n for n, _ in sorted(stamps, key=lambda s: s[1])], [n for n, _ in stamps], "the order of the timestamps")
    check(all(abs(at - time.time()) < 100 for _, at in stamps), f"not the time of day: {stamps}")
    if server["timestamp_tls_setup"]:
        check(server["timestamp_start"] <= server["timestamp_tcp_setup"] <= server["timestamp_tls_setup"] <=
              client["timestamp_tls_setup"], f"the server's TLS is not before the client's: {server}")


def pem_of(path):
    with open(path, "rb") as f:
        return re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", f.read(), re.S)


def check_tls(w, flows, facts):
    get, six = flows["/get"], flows["/six"]
    for flow, name in ((get, "/get"), (six, "/six")):
        same((flow["client_conn"]["tls_version"], flow["client_conn"]["cipher"]), facts[name][0], "curl's TLS")
    for flow, session in ((get, facts["sessions"][0]), (six, facts["sessions"][1])):
        same([flow["server_conn"][k] for k in ("tls_version", "cipher", "alpn")], session, "the origin's TLS")
    same([get["client_conn"][k] for k in ("tls", "sni", "tls_version", "alpn")],
         [True, "origin.test", "TLSv1.3", b"http/1.1"], "the client's TLS")
    same([get["server_conn"][k] for k in ("tls", "sni", "tls_version")], [True, "origin.test", "TLSv1.3"],
         "the server's TLS")
    contains(get["client_conn"]["alpn_offers"], b"http/1.1", "the client's ALPN offers")
    same(get["server_conn"]["certificate_list"][:1], pem_of(facts["cert"]), "the server's certificate")
    leaf = os.path.join(w.tmp, "leaf.pem")
    with open(leaf, "wb") as f:
        f.write(get["client_conn"]["mitmcert"])
    text = w.run("openssl", "x509", "-in", leaf, "-noout", "-text", inside=False).well()
    contains(text, "DNS:origin.test", "the names in mitmcert")
    w.run("openssl", "verify", "-CAfile", w.ca, leaf, inside=False).well()
    same(six["client_conn"]["tls_version"], "TLSv1.2", "the client's TLS version")
    same(six["client_conn"]["sni"], None, "the SNI of an address")
    same(flows["/clear"]["client_conn"]["tls"], False, "TLS of plain HTTP")
    same(flows["/clear"]["server_conn"]["certificate_list"], [], "the certificates of plain HTTP")


def test_fields(w):
    """mitmproxy reads what -w wrote: every key, requests, bodies, TLS, the order of timestamps, metadata"""
    mitmdump()
    proxy = w.proxy(intercept="curl")
    facts = make_flows(w, proxy)
    same(proxy.stop(), 0, "the exit status")
    states = check_lossless(w, proxy.file)
    flows = http_flows(states)
    same(list(flows), ["/get", "/six", "/post", "/clear", "/gzip", "/untrusted"], "the paths, in order")
    same([f["type"] for f in states], ["http"] * 6 + ["tcp"], "the types")
    check_tls(w, flows, facts)
    for path, flow in flows.items():
        check_order(flow)
        own = flow["metadata"]
        same(own["mitm_bpf.pid"], facts["pid"][path], "the pid")
        contains(own["mitm_bpf.exe"], "/curl", "the exe")
        contains(own["mitm_bpf.cgroup"], w.cgroup_name, "the cgroup")
        same(flow["client_conn"]["proxy_mode"], "local:curl", "the mode")
        same(flow["request"]["http_version"], b"HTTP/2.0" if flow["client_conn"]["alpn"] == b"h2" else b"HTTP/1.1",
             "the version")
    same(flows["/post"]["request"]["content"], bytes(range(256)) * 200, "the posted body")
    same(flows["/post"]["response"]["content"], b"received " + bytes(range(256)) * 200, "the answered body")
    same(flows["/get"]["response"]["content"], b"the origin's answer to /get\n", "the body")
    same(gzip.decompress(flows["/gzip"]["response"]["content"]), b"compressed text\n" * 20, "the compressed body")
    same([v for k, v in flows["/gzip"]["response"]["headers"] if k == b"Set-Cookie"], [b"a=1", b"b=2"], "the cookies")
    clear = flows["/clear"]["request"]
    same([clear[k] for k in ("method", "scheme", "host", "path")],
         [b"GET", b"http", e2e.ORIGIN4, b"/clear?q=%C3%A4"], "the request")
    same([h for h in clear["headers"] if h[0].lower() == b"x-one"], [[b"X-One", b"1"], [b"x-one", b"2"]], "the headers")
    contains(flows["/untrusted"]["error"]["msg"], "ertificate verify failed", "the error")
    contains(states[-1]["error"]["msg"], "refused", "the error")


def test_mitmdump_prints(w):
    """mitmdump -nr prints our file: the same requests and answers; so do we, in its words"""
    mitmdump()
    proxy = w.proxy(intercept="curl")
    make_flows(w, proxy)
    same(proxy.stop(), 0, "the exit status")
    theirs = run_mitmdump(w, "-nr", proxy.file, "--set", "flow_detail=1").well()
    ours = w.run(e2e.MITM_BPF, "--flow-detail", "1", "-nr", proxy.file, inside=False).well()
    for path in ("/get", "/six", "/post", "/clear", "/gzip", "/untrusted"):
        contains(theirs, path, "what mitmdump printed")
        contains(ours, path, "what we printed")
    summary = re.compile(r"^ *<< (.*)$", re.M)
    same(summary.findall(ours), summary.findall(theirs), "the answers' lines")
    same(theirs.count("<< 200 OK"), 5, "the number of good answers")


def test_append(w):
    """-w +FILE appends to what is there, also behind a torn flow"""
    origin = w.origin()
    file = os.path.join(w.tmp, "appended.mitm")
    for path in ("/one", "/two"):
        proxy = w.proxy("-w", "+" + file, intercept="curl")
        w.curl(origin.url(path)).well()
        same(proxy.stop(), 0, "the exit status")
    size = os.path.getsize(file)
    with open(file, "ab") as f, open(file, "rb") as whole:
        f.write(whole.read()[:1000])
    proxy = w.proxy("-w", "+" + file, intercept="curl")
    contains(proxy.log(), "its last 1000 bytes were cut off", "the log")
    w.curl(origin.url("/three")).well()
    same(proxy.stop(), 0, "the exit status")
    check(os.path.getsize(file) > size, "it did not grow")
    same([f["request"]["path"] for f in check_lossless(w, file)], [b"/one", b"/two", b"/three"], "the flows")


def test_unfinished(w):
    """a flow that the end of the program cuts is one that mitmproxy reads, too"""
    origin = w.origin()
    proxy = w.proxy(intercept="curl")
    w.start("curl", "--disable", "-sS", "--cacert", w.ca, origin.url("/slow/100/0.1"))
    wait_for(5, "the download began", lambda: origin.requests)
    time.sleep(0.3)
    proxy.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    same(proxy.stop(signal.SIGINT), 0, "the exit status")
    flow, = check_lossless(w, proxy.file)
    same(flow["request"]["path"], b"/slow/100/0.1", "the flow")


def test_tcp(w):
    """TCP flows: mitmproxy reads the same messages, in order, with their times"""
    def shout(sock, _):
        while data := sock.recv(1000):
            sock.sendall(data.upper())
    origin = w.origin(tls=None, behave=shout)
    proxy = w.proxy(intercept=str(os.getpid()))
    w.enter()
    with socket.create_connection((origin.host6, origin.port), 5) as s:
        for word in (b"\x00one", b"two", b"three"):
            s.sendall(word)
            same(s.recv(100), word.upper(), "the echo")
    same(proxy.stop(), 0, "the exit status")
    flow, = check_lossless(w, proxy.file)
    same([(m[0], m[1]) for m in flow["messages"]],
         [(True, b"\x00one"), (False, b"\x00ONE"), (True, b"two"), (False, b"TWO"), (True, b"three"),
          (False, b"THREE")], "the messages")
    times = [m[2] for m in flow["messages"]]
    same(times, sorted(times), "their times")
    same(flow["server_conn"]["address"][:2], [origin.host6, origin.port], "the server's address")
    same(flow["metadata"]["mitm_bpf.pid"], os.getpid(), "the pid")


def record_with_mitmdump(w, file):
    """Flows made by mitmproxy itself, as an explicit proxy."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    origin, clear = w.origin(where="loopback"), w.origin(tls=None, where="loopback")
    process = w.start(mitmdump(), "-q", "--listen-host", "127.0.0.1", "-p", str(port), "-w", file, "--set",
                      f"confdir={w.tmp}/mitmproxy", "--ssl-insecure", inside=False, stdout=subprocess.DEVNULL,
                      stderr=subprocess.DEVNULL)

    def listening():
        check(process.poll() is None, "mitmdump ended")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            return False
    wait_for(20, "mitmdump listens", listening)
    for url in (origin.url("/theirs/1"), clear.url("/theirs/2"), origin.url("/theirs/3", "::1")):
        w.curl("--proxy", f"http://127.0.0.1:{port}", "--insecure", "--data-binary", "@-", url, inside=False,
               stdin=b"their \x00 body").well()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        raise Failed("mitmdump does not end") from None


def test_theirs(w):
    """we read what mitmdump -w wrote, print it, write it again without losing a field, and append to it"""
    file, copy = os.path.join(w.tmp, "theirs.mitm"), os.path.join(w.tmp, "copy.mitm")
    record_with_mitmdump(w, file)
    states = read_with_mitmproxy(w, file)
    same(len(states), 3, "the number of mitmproxy's flows")
    done = w.run(e2e.MITM_BPF, "--flow-detail", "3", "-nr", file, "-w", copy, inside=False)
    same((done.status, done.err), (0, ""), "the exit status and the errors")
    for i in (1, 2, 3):
        contains(done.out, f"/theirs/{i}", "what we printed")
    same(done.out.count("<< 200 OK"), 3, "the answers")
    same(read_with_mitmproxy(w, copy), states, "the copy")
    proxy = w.proxy("-w", "+" + copy, intercept="curl")
    w.curl(w.origin().url("/ours")).well()
    same(proxy.stop(), 0, "the exit status")
    same([f["request"]["path"] for f in read_with_mitmproxy(w, copy)],
         [b"/theirs/1", b"/theirs/2", b"/theirs/3", b"/ours"], "their flows and ours")
    with open(file, "rb") as f:
        done = w.run(e2e.MITM_BPF, "-nr", "-", inside=False, stdin=f.read()[:-100])
    same(done.status, 1, "the exit status with a file that was cut")
    contains(done.err, "loaded 2 flows", "what it said")


if __name__ == "__main__":
    e2e.main(globals())
