#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""TLS that starts late, in each protocol that is known for it: what is said inside becomes part of the TCP flow."""
import json
import ssl

import e2e
from e2e import check, contains, same

PYTHON = "/usr/bin/python3"
LDAP_ASK = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"
LDAP_YES = bytes.fromhex("300c02010178070a010004000400")
MYSQL_GREETING = bytes.fromhex("4a0000000a") + b"8.0.36\0" + bytes(range(62))
MYSQL_SSL = bytes.fromhex("20000001") + bytes.fromhex("05aeff01") + bytes(28)

# Who says what before TLS: c is the client, s the server.
DIALOGUES = {
    "SMTP": [("s", b"220 mail.test ESMTP\r\n"), ("c", b"EHLO me\r\n"), ("s", b"250-mail.test\r\n250 STARTTLS\r\n"),
             ("c", b"STARTTLS\r\n"), ("s", b"220 2.0.0 Ready\r\n")],
    "IMAP": [("s", b"* OK ready\r\n"), ("c", b"a1 STARTTLS\r\n"), ("s", b"a1 OK Begin TLS\r\n")],
    "POP3": [("s", b"+OK ready\r\n"), ("c", b"STLS\r\n"), ("s", b"+OK Begin TLS\r\n")],
    "XMPP": [("c", b"<?xml version='1.0'?><stream:stream to='x'>"), ("s", b"<stream:stream><stream:features/>"),
             ("c", b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
             ("s", b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")],
    "LDAP": [("c", LDAP_ASK), ("s", LDAP_YES)],
    "PostgreSQL": [("c", bytes.fromhex("0000000804d2162f")), ("s", b"S")],
    "MySQL": [("s", MYSQL_GREETING), ("c", MYSQL_SSL)],
}

CLIENT = r"""
import json, socket, ssl, sys
host, port, ca, dialogue, tls = sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), sys.argv[5] == "1"
sock = socket.create_connection((host, port), 10)
for who, text in dialogue:
    text = bytes.fromhex(text)
    if who == "c":
        sock.sendall(text)
    else:
        got = b""
        while len(got) < len(text):
            got += sock.recv(len(text) - len(got))
        assert got == text, got
if tls:
    sock = ssl.create_default_context(cafile=ca).wrap_socket(sock, server_hostname=host)
sock.sendall(b"the secret question\n")
print(sock.makefile("rb").readline().decode().strip())
sock.close()
"""


def speak(w, dialogue, tls):
    def behave(sock, origin):
        for who, text in dialogue:
            if who == "s":
                sock.sendall(text)
                continue
            got = b""
            while len(got) < len(text):
                got += sock.recv(len(text) - len(got))
            origin.requests.append(got)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*w.certificates.leaf("good"))
            sock = context.wrap_socket(sock, server_side=True)
        origin.requests.append(sock.makefile("rb").readline())
        sock.sendall(b"the secret answer\n")

    origin = w.origin(tls=None, behave=behave)
    proxy = w.proxy(intercept="python3")
    text = json.dumps([(who, text.hex()) for who, text in dialogue])
    done = w.run(PYTHON, "-c", CLIENT, origin.host4, origin.port, w.ca, text, int(tls))
    contains(done.well(), "the secret answer")
    same(origin.requests[-1], b"the secret question\n", "what the server heard")
    flows = proxy.flows(1)
    same([f["type"] for f in flows], ["tcp"], "the flows")
    return flows[0]


def late(w, name):
    dialogue = DIALOGUES[name]
    flow = speak(w, dialogue, True)
    joined = {True: b"", False: b""}
    for message in flow["messages"]:
        joined[message[0]] += bytes(message[1])
    for client, who, last in ((True, "c", b"the secret question\n"), (False, "s", b"the secret answer\n")):
        same(joined[client], b"".join(text for side, text in dialogue if side == who) + last, "the messages")
    check(flow["client_conn"]["tls"] and flow["client_conn"]["tls_version"] and flow["server_conn"]["tls_version"],
          "the flow does not say that TLS came")


def test_smtp(w):
    """SMTP: readable after STARTTLS"""
    late(w, "SMTP")


def test_imap(w):
    """IMAP: readable after STARTTLS"""
    late(w, "IMAP")


def test_pop3(w):
    """POP3: readable after STLS"""
    late(w, "POP3")


def test_xmpp(w):
    """XMPP: readable after starttls and proceed"""
    late(w, "XMPP")


def test_ldap(w):
    """LDAP: readable after StartTLS"""
    late(w, "LDAP")


def test_postgres(w):
    """PostgreSQL: readable after SSLRequest"""
    late(w, "PostgreSQL")


def test_mysql(w):
    """MySQL: readable after SSLRequest"""
    late(w, "MySQL")


def test_refused(w):
    """a refusal: it stays plain, and so do we"""
    flow = speak(w, DIALOGUES["SMTP"][:-1] + [("s", b"454 not now\r\n")], False)
    check(any(bytes(m[1]) == b"the secret question\n" for m in flow["messages"]), "the question is missing")


if __name__ == "__main__":
    e2e.main(globals())
