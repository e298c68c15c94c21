#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""JA3 and JA4 of the recorded ClientHellos beside this file, worked out without the program's code: writes
fingerprints.json, which the unit test compares with."""
import glob
import hashlib
import json
import os
import struct

FOLDER = os.path.dirname(os.path.abspath(__file__))


def message(records):
    out = b""
    while len(out) < 4 or len(out) < 4 + int.from_bytes(out[1:4], "big"):
        size = struct.unpack(">H", records[3:5])[0]
        out += records[5:5 + size]
        records = records[5 + size:]
    return out[:4 + int.from_bytes(out[1:4], "big")]


def words(data):
    return list(struct.unpack(f">{len(data) // 2}H", data[:len(data) // 2 * 2]))


def real(values):
    return [v for v in values if not (v & 0x0F0F == 0x0A0A and v >> 8 == v & 0xFF)]


def parse(m):
    at = 4
    version = struct.unpack(">H", m[at:at + 2])[0]
    at += 34
    at += 1 + m[at]
    size = struct.unpack(">H", m[at:at + 2])[0]
    ciphers = words(m[at + 2:at + 2 + size])
    at += 2 + size
    at += 1 + m[at]
    extensions = []
    end = at + 2 + struct.unpack(">H", m[at:at + 2])[0]
    at += 2
    while at < end:
        kind, size = struct.unpack(">HH", m[at:at + 4])
        extensions.append((kind, m[at + 4:at + 4 + size]))
        at += 4 + size
    return version, ciphers, extensions


def ja3(m):
    version, ciphers, extensions = parse(m)
    body = dict(extensions)
    groups = words(body.get(10, b"\0\0")[2:])
    formats = list(body.get(11, b"\0")[1:])
    parts = [[version], ciphers, [k for k, _ in extensions], groups, formats]
    return ",".join("-".join(map(str, real(p))) for p in parts)


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else "0" * 12


def ja4(m):
    version, ciphers, extensions = parse(m)
    body = dict(extensions)
    if 43 in body:
        version = max(real(words(body[43][1:])))
    name = {0x304: "13", 0x303: "12", 0x302: "11", 0x301: "10", 0x300: "s3"}.get(version, "00")
    names, rest = [], body.get(16, b"")[2:]
    while rest:
        names.append(rest[1:1 + rest[0]])
        rest = rest[1 + rest[0]:]
    names = [n for n in names if len(n) != 2 or real(words(n))]
    alpn = names[0].decode("ascii") if names else "00"
    kinds = real([k for k, _ in extensions])
    signatures = real(words(body.get(13, b"\0\0")[2:]))
    hexes = lambda values: ",".join(f"{v:04x}" for v in values)
    tail = hexes(sorted(k for k in kinds if k not in (0, 16)))
    if signatures:
        tail += "_" + hexes(signatures)
    return (f"t{name}{'d' if 0 in body else 'i'}{min(99, len(real(ciphers))):02}{min(99, len(kinds)):02}"
            f"{alpn[0]}{alpn[-1]}_{sha(hexes(sorted(real(ciphers))))}_{sha(tail)}")


def main():
    found = {}
    for path in sorted(glob.glob(os.path.join(FOLDER, "*.bin"))):
        with open(path, "rb") as f:
            m = message(f.read())
        found[os.path.basename(path)] = {"ja3_text": ja3(m), "ja3": hashlib.md5(ja3(m).encode()).hexdigest(),
                                         "ja4": ja4(m)}
    with open(os.path.join(FOLDER, "fingerprints.json"), "w", encoding="ascii") as f:
        json.dump(found, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
