#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""--reset-existing: connections that predate us are broken, those of others are not."""
import e2e
from e2e import check, contains, same

# Keeps one connection, asks on it for each line that it reads; when it breaks, says so and dials again.
KEEPER = """
import socket, ssl, sys
ca, host, port = sys.argv[1:4]
def dial():
    s = socket.create_connection((host, int(port)), 5)
    return ssl.create_default_context(cafile=ca).wrap_socket(s, server_hostname=host)
def ask(s, path):
    s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
    data = s.recv(65536)
    if not data:
        raise ConnectionError("closed")
    return data.split(b"\\r\\n")[0].decode()
connection = dial()
for line in sys.stdin:
    try:
        print("kept", ask(connection, line.strip()), flush=True)
    except OSError as e:
        connection = dial()
        print("again", type(e).__name__, ask(connection, line.strip()), flush=True)
"""


def keeper(w, name, ca, origin):
    """A process under a name of its own."""
    process = w.start("bash", "-c", 'exec -a "$0" /usr/bin/python3 "$@"', name, "-c", KEEPER, ca, origin.host4,
                      origin.port, stdin=-1)
    return process


def ask(process, path):
    process.stdin.write(path.encode() + b"\n")
    process.stdin.flush()
    return process.stdout.readline().decode()


def test_reset_existing(w):
    """open connections of the selected are made anew through us; others', and all without the flag, stay"""
    origin = w.origin()
    w.proxy("-m", "regular@127.0.0.1:0").stop()  # makes the CA
    both = w.certificates.path("reset.pem")
    with open(both, "w", encoding="ascii") as out:
        for ca in (w.ca, w.certificates.ca):
            with open(ca, encoding="ascii") as part:
                out.write(part.read())
    taken = keeper(w, "taken", both, origin)
    other = keeper(w, "other", both, origin)
    for process in (taken, other):
        same(ask(process, "/before"), "kept HTTP/1.1 200 OK\n", "the answer before there is a proxy")
    proxy = w.proxy(intercept=str(taken.pid))
    for process in (taken, other):
        same(ask(process, "/without"), "kept HTTP/1.1 200 OK\n", "the answer without the flag")
    same(proxy.flows(), [], "what is seen of a connection that was there before")
    proxy.stop()
    proxy = w.proxy("--reset-existing", intercept=str(taken.pid))
    proxy.said("open already and have been reset: 1.")
    contains(ask(taken, "/after"), "again ", "what the selected one says")
    same(ask(other, "/after"), "kept HTTP/1.1 200 OK\n", "the answer to the other one")
    same([f["request"]["path"] for f in proxy.flows(1)], [b"/after"], "what is seen")
    same(proxy.flow("/after")["metadata"]["mitm_bpf.pid"], taken.pid, "whose it is")


def test_none(w):
    """nobody has a connection: said, and no error"""
    proxy = w.proxy("--reset-existing", intercept="nobody-has-this-name")
    proxy.said("open already and have been reset: 0.")
    check(proxy.process.poll() is None, "it runs")


if __name__ == "__main__":
    e2e.main(globals())
