#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real clients and servers of three languages, steered through the real program: each gets what it would get without
us, and the flow that was recorded says what passed. `make interop` runs it, once `prepare` has made what it needs."""
import contextlib
import json
import os
import re
import shutil
import sys
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import e2e                                                             # noqa: E402
from e2e import Skipped, check, same, wait_for                         # noqa: E402

MADE = os.path.join(e2e.ROOT, "build", "interop")
PYTHON = os.path.join(MADE, "venv", "bin", "python3")
GO = os.path.join(MADE, "interop-go")
H2SPEC = os.path.join(MADE, "h2spec")
BODY = bytes(range(256)) * 1024

SERVERS = {"python": [PYTHON, os.path.join(HERE, "python_server.py")], "go": [GO, "serve"],
           "node": ["node", os.path.join(MADE, "node", "server.js")]}
CLIENTS = {"python": [PYTHON, os.path.join(HERE, "python_client.py")], "go": [GO],
           "node": ["node", os.path.join(MADE, "node", "client.js")]}


class Lane:
    """One proxy and one server of each language for all cases; they are found in the flow file by their number."""

    def __init__(self, w):
        self.stack, self.servers, self.count, self.seen = contextlib.ExitStack(), {}, 0, []
        w.whole.callback(self.stack.close)
        with self.shared(w):
            self.proxy = w.proxy(intercept="python3,interop-go,node,curl,nghttp,h2spec")
        self.env = e2e.plain_environment(SSL_CERT_FILE=w.ca, NODE_EXTRA_CA_CERTS=w.ca)

    @contextlib.contextmanager
    def shared(self, w):
        """What is started meanwhile lives as long as the lane."""
        own, w.stack = w.stack, self.stack
        yield
        w.stack = own

    def ports(self, w, language):
        if language not in self.servers:
            chain, key = w.certificates.leaf("good")
            with self.shared(w):
                process = w.start("nsenter", f"--net=/proc/{os.getpid()}/fd/{w.origin_ns}", *SERVERS[language],
                                  e2e.ORIGIN4, chain, key, inside=False)
            line = process.stdout.readline()
            check(line, f"the {language} server does not start: {process.stderr.read().decode() if not line else ''}")
            self.servers[language] = json.loads(line)
        return self.servers[language]

    def flow(self, number, seconds=5):
        def find():
            for f in e2e.read_flows(self.proxy.file):
                if f["type"] == "http" and [b"x-case", number] in [[k.lower(), v] for k, v in
                                                                   f["request"]["headers"]]:
                    return f
            return None
        return wait_for(seconds, f"the flow of case {number} is written", find)


def lane(w):
    if not hasattr(w, "lane"):
        w.lane = Lane(w)
    w.proxies.append(w.lane.proxy)
    return w.lane


def needs(*languages):
    for language in languages:
        missing = os.path.join(MADE, language + ".missing")
        if os.path.exists(missing):
            with open(missing, encoding="utf-8", errors="replace") as f:
                raise Skipped(f.read().strip())
        if not os.path.exists({"python": PYTHON, "go": GO, "h2spec": H2SPEC,
                               "node": os.path.join(MADE, "node", "made")}[language]):
            raise Skipped("not prepared; run make interop")


def talk(w, client, library, server, port, scenario):
    """(what the client printed, its flow)"""
    needs(client, server)
    at = lane(w)
    at.count += 1
    target = f"{e2e.ORIGIN4}:{at.ports(w, server)[port]}"
    done = w.run(*CLIENTS[client], library, scenario, target, at.count, env=at.env, timeout=30)
    return json.loads(done.well()), at.flow(str(at.count).encode())


def headers_of(message, name):
    return [v.decode() for k, v in message["headers"] if k.lower() == name]


# ---- what each scenario must come to

def versions(flow, wanted):
    same([flow["request"]["http_version"], flow["response"]["http_version"]], [wanted, wanted], "the flow's versions")


def http_get(got, flow, version):
    same((got["status"], got["body"]), (200, "/echo"), "what the client got")
    same((flow["request"]["method"], flow["response"]["content"]), (b"GET", b"/echo"), "the flow")
    versions(flow, version)


def http_post(got, flow, version):
    same((got["status"], got["body"]), (200, True), "what the client got")
    check(flow["request"]["content"] == BODY and flow["response"]["content"] == BODY, "the flow has other bodies")
    versions(flow, version)


def http_stream(got, flow, version):
    same(got["body"], "piece0piece1piece2", "what the client got")
    check(got["spread"] > 0.3, f"the pieces were held back: {got['spread']} s between first and last")
    same(flow["response"]["content"], b"piece0piece1piece2", "the flow")
    versions(flow, version)


def http_trailers(got, flow, version):
    same((got["status"], got["body"], got["trailer"], got["hints"]), (200, True, f"{len(BODY)} up", 103), "what it got")
    same([[k.lower(), v] for k, v in flow["request"]["trailers"]], [[b"x-up", b"up"]], "the request's trailers")
    same([[k.lower(), v] for k, v in flow["response"]["trailers"]], [[b"x-sum", b"%d up" % len(BODY)]],
         "the response's trailers")
    versions(flow, version)


def http_trailers_http1(got, flow, version):
    http_trailers({**got, "hints": 103}, flow, version)


def websocket(got, flow, messages):
    same(got["text"], "héllo", "the client's text")
    check(got.get("binary", True), "the binary message came back changed")
    same(got.get("closed", 4001) in (4001, True), True, f"the close code {got.get('closed')}")
    same(flow["response"]["status_code"], 101, "the status")
    sent = [bytes(m[2]) for m in flow["websocket"]["messages"]]
    same(len(sent), messages, "the messages in the flow")
    same(sent[:2], ["héllo".encode()] * 2, "the first messages")


def grpc(got, flow, wanted):
    same({k: got.get(k) for k in wanted}, wanted, "what the client got")
    versions(flow, b"HTTP/2.0")
    return flow


def grpc_status(flow):
    """Of the flow: in trailers, or, when there was nothing else to say, in the head."""
    response = flow["response"]
    fields = (response["trailers"] or []) + response["headers"]
    return [v.decode() for k, v in map(tuple, fields) if k == b"grpc-status"]


# ---- the cases

def add(name, function):
    def case(w):
        function(w)
    case.__doc__ = name
    case.__name__ = "test_" + re.sub(r"\W+", "_", name)
    globals()[case.__name__] = case


HTTP = {"get": http_get, "post": http_post, "stream": http_stream}
HTTP1, HTTP2 = b"HTTP/1.1", b"HTTP/2.0"


def add_http(client, library, server, port, version, scenarios=("get", "post", "stream")):
    for scenario in scenarios:
        def run(w, scenario=scenario):
            got, flow = talk(w, client, library, server, port, scenario)
            function = HTTP.get(scenario) or (http_trailers if version == HTTP2 else http_trailers_http1)
            function(got, flow, version)
        add(f"{client} {library} to {server}, {version.decode()}: {scenario}", run)


def add_websocket(client, library, server, port, messages):
    def run(w):
        got, flow = talk(w, client, library, server, port, "ws")
        websocket(got, flow, messages)
        if library == "h2":
            same((got["offered"], got["status"]), (1, "200"), "the answer to the extended CONNECT")
            same(flow["request"]["http_version"], HTTP2, "the request's version")
            same(flow["response"]["http_version"], HTTP2 if port == "h2" else HTTP1, "the response's version")
    add(f"{client} {library} to {server} ({port}): WebSocket", run)


GRPC = {"unary": ({"same": True, "trailer": "there"}, "0"), "large": ({"same": True, "trailer": "there"}, "0"),
        "server-stream": ({"body": "m0m1m2"}, "0"), "client-stream": ({"body": "a+b+c"}, "0"),
        "bidi": ({"body": "re:0,re:1,re:2,re:3,re:4", "rest": 0}, "0"),
        "error": ({"details": "nothing of that kind"}, "5"), "deadline": ({}, None), "cancel": ({}, None)}
CODES = {"error": ("NOT_FOUND", "NotFound"), "deadline": ("DEADLINE_EXCEEDED", "DeadlineExceeded"),
         "cancel": ("CANCELLED", "Canceled")}


def add_grpc(client, library, server):
    for scenario, (wanted, status) in GRPC.items():
        def run(w, scenario=scenario, wanted=wanted, status=status):
            got, flow = talk(w, client, library, server, "grpc", scenario)
            same({k: got.get(k) for k in wanted}, wanted, "what the client got")
            if scenario in CODES:
                check(got["code"] in CODES[scenario], f"the code is {got['code']}")
            if scenario == "server-stream":
                check(got["spread"] > 0.3, f"the messages were held back: {got['spread']} s between first and last")
            same(flow["request"]["http_version"], HTTP2, "the request's version")
            if status:
                same(grpc_status(flow), [status], "the flow's grpc-status")
            else:
                check(got["cancelled"] >= 1, "the server did not hear of the end")
                # some servers look at the clock themselves, and say so
                check(flow["error"] or grpc_status(flow) in (["1"], ["4"]), "the flow knows nothing of it")
        add(f"{client} {library} to {server}, gRPC: {scenario}", run)


for one in ("python", "go", "node"):
    for other in ("requests", "urllib3", "aiohttp", "httpx"):
        add_http("python", other, one, "http", HTTP1,
                 ("get", "post") if other == "aiohttp" else ("get", "post", "stream"))
    add_http("go", "http1", one, "http", HTTP1, ("get", "post", "stream", "trailers") if one != "python" else
             ("get", "post", "stream"))
    add_http("node", "fetch", one, "http", HTTP1)
for one in ("go", "node"):
    add_http("python", "httpx-h2", one, "h2", HTTP2)
    add_http("go", "http", one, "h2", HTTP2, ("get", "post", "stream", "trailers"))
    add_http("node", "fetch-h2", one, "h2", HTTP2)
    add_http("node", "http2", one, "h2", HTTP2, ("get", "post", "stream", "trailers"))
add_http("python", "httpx-h2", "python", "h2", HTTP2, ("get",))
for one in ("python", "go", "node"):
    add_websocket("python", "websockets", one, "ws", 6)
    add_websocket("python", "aiohttp", one, "ws", 4)
    add_websocket("go", "websocket", one, "ws", 4)
    add_websocket("node", "ws", one, "ws", 4)
    add_websocket("python", "h2", one, "ws", 4)
    add_websocket("node", "h2", one, "ws", 2)
add_websocket("python", "h2", "python", "h2", 4)
add_websocket("node", "h2", "python", "h2", 2)
for one in ("python", "go", "node"):
    add_grpc("python", "grpcio", one)
    add_grpc("go", "grpc", one)
    add_grpc("node", "grpc", one)


def test_connect(w):
    """python h2: two CONNECT tunnels on one connection to the proxy, TLS inside"""
    needs("python", "go")
    at = lane(w)
    at.count += 1
    proxy = w.proxy("--mode", "regular@127.0.0.1:0")
    env = {**at.env, "PROXY_PORT": str(wait_for(5, "the proxy listens", proxy.listen_port))}
    target = f"{e2e.ORIGIN4}:{at.ports(w, 'go')['http']}"
    done = w.run(*CLIENTS["python"], "connect", "tunnels", target, at.count, env=env, inside=False)
    same(json.loads(done.well()), {"alpn": "h2", "status": ["200", "200"], "bodies": ["/echo?1", "/echo?3"]},
         "what the client got")
    for path in ("/echo?1", "/echo?3"):
        flow = proxy.flow(path)
        same(flow["request"]["scheme"], b"https", "the scheme inside")
        versions(flow, HTTP1)


def test_curl(w):
    """curl --http2 to go and to node: HTTP/2.0"""
    for server in ("go", "node"):
        needs(server)
        at = lane(w)
        at.count += 1
        url = f"https://{e2e.ORIGIN4}:{at.ports(w, server)['h2']}/echo"
        done = w.curl("--http2", "-w", " %{http_version}", "-H", f"x-case: {at.count}", url)
        same(done.well(), "/echo 2", "what curl got")
        versions(at.flow(str(at.count).encode()), HTTP2)


def test_nghttp(w):
    """nghttp to go and to node: HTTP/2.0"""
    if not shutil.which("nghttp"):
        raise Skipped("needs nghttp; run scripts/install-deps")
    for server in ("go", "node"):
        needs(server)
        at = lane(w)
        at.count += 1
        url = f"https://{e2e.ORIGIN4}:{at.ports(w, server)['h2']}/echo"
        same(w.run("nghttp", "-H", f"x-case: {at.count}", url).well(), "/echo", "what nghttp got")
        versions(at.flow(str(at.count).encode()), HTTP2)


# By RFC 7540, which it checks. RFC 9113 5.1 lets DATA for a closed stream be ignored, and has no priorities.
H2SPEC_OLD = ["Sends PRIORITY frame that depend on itself", "closed: Sends a DATA frame",
              "closed: Sends a DATA frame after sending RST_STREAM frame"]


def test_h2spec(w):
    """h2spec: 145 cases of frames from a client, to go: what RFC 9113 asks for"""
    needs("h2spec", "go")
    at = lane(w)
    report, before = os.path.join(w.tmp, "h2spec.xml"), len(at.proxy.flows())
    done = w.run(H2SPEC, "--tls", "--insecure", "--timeout", "5", "--host", e2e.ORIGIN4, "--port",
                 at.ports(w, "go")["h2"], "--path", "/echo", "--junit-report", report, timeout=300)
    check(os.path.exists(report), f"h2spec did not run: {done.err}")
    cases = xml.etree.ElementTree.parse(report).findall(".//testcase")
    failed = sorted(c.get("classname") for c in cases if c.find("failure") is not None or c.find("error") is not None)
    same((len(cases), failed), (145, H2SPEC_OLD), "the cases, and those that failed")
    at.proxy.flows(before + 50)         # they did pass through us


if __name__ == "__main__":
    if os.path.isdir(os.path.join(MADE, "node")):
        for script in ("server.js", "client.js"):
            shutil.copy(os.path.join(HERE, "node", script), os.path.join(MADE, "node", script))
    e2e.main(globals())
