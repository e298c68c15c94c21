#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Hooks of the real program beyond what recorded conversations show: what waits for a person does not stay for ever,
what nobody wants whole streams, and flows are stopped while they are on their way."""
import json
import os
import re
import socket
import threading
import time

import e2e
from e2e import check, contains, same

ONE = "GET http://{0}/{1} HTTP/1.1\r\nHost: {0}\r\n\r\n"


class Origin:
    """Answers each request with the head, and the rest when it is told to."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.at = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.go = threading.Event()
        self.seen, self.ended = [], threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            c, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(c,), daemon=True).start()

    def talk(self, c):
        with c:
            data = b""
            while b"\r\n\r\n" not in data:
                more = c.recv(65536)
                if not more:
                    return
                data += more
            self.seen.append(data)
            c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            try:
                while not self.go.wait(0.05):
                    c.settimeout(0.05)
                    try:
                        if not c.recv(1):
                            break
                    except TimeoutError:
                        pass
                else:
                    c.sendall(b"half")
                    return
            except OSError:
                pass
            self.ended.set()


def control(w, *actions):
    path = os.path.join(w.tmp, f"control-{time.monotonic_ns()}.json")
    with open(path, "w") as f:
        json.dump(actions, f)
    return path


def start(w, *actions, words=()):
    trace = os.path.join(w.tmp, f"trace-{time.monotonic_ns()}.jsonl")
    proxy = w.proxy("-m", "regular@127.0.0.1:0", "--hook-trace", trace, "--hook-control", control(w, *actions), *words)
    port = int(re.search(r"HTTP\(S\) proxy listening at \S*:(\d+)", proxy.log()).group(1))
    return proxy, port, lambda: [json.loads(line) for line in open(trace)]


def client(port, text):
    c = socket.create_connection(("127.0.0.1", port))
    c.settimeout(15)
    c.sendall(text.encode())
    return c


def read(c, wanted=None):
    data = b""
    while wanted is None or wanted not in data:
        try:
            more = c.recv(65536)
        except ConnectionResetError:
            break
        if not more:
            break
        data += more
    return data


def names(trace, key="flow"):
    return [h["hook"] for h in trace() if key in h["ids"]]


def test_streams(w):
    """a trace alone holds no body back; who changes bodies gets them whole"""
    origin = Origin()
    proxy, port, trace = start(w)
    c = client(port, ONE.format(origin.at, "stream"))
    contains(read(c, b"half"), b"\r\n\r\nhalf", "what comes before the end")
    origin.go.set()
    same(read(c, b"half"), b"half", "the rest")
    e2e.wait_for(5, "the response hook", lambda: "response" in names(trace))
    origin = Origin()
    proxy, port, trace = start(w, {"hook": "response", "do": "set_response_body", "value": "other"})
    c = client(port, ONE.format(origin.at, "whole"))
    c.settimeout(0.5)
    try:
        check(not c.recv(1), "it was sent before it was whole")
    except TimeoutError:
        pass
    c.settimeout(15)
    origin.go.set()
    contains(read(c, b"other"), b"Content-Length: 5\r\n\r\nother")


def test_kill_intercepted(w):
    """killing what is intercepted wakes it: the error hook, and the client is closed"""
    origin = Origin()
    proxy, port, trace = start(w, {"hook": "request", "do": "intercept", "kill_after": 0.3})
    same(read(client(port, ONE.format(origin.at, "kill"))), b"", "what the client got")
    e2e.wait_for(5, "the error hook", lambda: names(trace) == ["requestheaders", "request", "error"])
    same(origin.seen, [], "what the origin was asked")


def test_stop_while_intercepted(w):
    """the program ends while flows are intercepted: they are let go, and written"""
    origin = Origin()
    origin.go.set()
    proxy, port, trace = start(w, {"hook": "request", "do": "intercept"})
    clients = [client(port, ONE.format(origin.at, f"wait{i}")) for i in range(5)]
    e2e.wait_for(5, "five questions", lambda: names(trace).count("request") == 5)
    proxy.process.send_signal(2)
    time.sleep(0.3)
    proxy.process.send_signal(2)
    same(proxy.process.wait(10), 0, "the exit status")
    for c in clients:
        read(c)
    same(len(proxy.flows()), 5, "flows in the file")


def test_control_file(w):
    """a control file that makes no sense is refused with a sentence"""
    done = w.run(e2e.MITM_BPF, "--hook-control", control(w, {"hook": "request", "do": "dance"}), "-m",
                 "regular@127.0.0.1:0")
    same(done.status, 1, "the exit status")
    contains(done.err, 'action 1: nothing is known to do "dance"', "what it says")


if __name__ == "__main__":
    e2e.main(globals())
