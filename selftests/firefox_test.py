#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Firefox itself: as a command of `run`, with the profile that it has made, and taken by its name; HTTP/3 included."""
import glob
import os
import shutil
import subprocess
import tempfile

from e2e import ORIGIN4, Skipped, check, contains, main, same, wait_for
from run_test import Run, environment, needs, origin, sums
from udp_test import Echo


def end_group(w):
    """All who are in the test's group; what they were busy with may be removed then."""
    with open(os.path.join(w.cgroup, "cgroup.kill"), "w", encoding="ascii") as f:
        f.write("1")
    wait_for(10, "they are gone", lambda: "populated 0" in open(os.path.join(w.cgroup, "cgroup.events"),
                                                                encoding="ascii").read())


# ---- one that a person has

def browse(w, words, seconds=90):
    """A browser's status and what it said. It may leave children with our pipes behind when it hangs: files instead,
    and the end of the whole group."""
    said = tempfile.mkstemp(dir=w.tmp)[1]
    with open(said, "wb") as out:
        process = w.start(*words[0], stdout=out, stderr=out, env=words[1])
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        end_group(w)
        status = None
    with open(said, encoding="utf-8", errors="replace") as f:
        return status, f.read()


class Firefox:
    """One home, in which it has been started once, as a person would have it."""

    def __init__(self, w):
        self.w, self.home = w, tempfile.mkdtemp(dir=w.tmp)
        self.program = next((p for p in ("firefox", "firefox-esr") if shutil.which(p)), None)
        if not self.program:
            raise Skipped("needs Firefox (Debian: firefox-esr)")
        needs("certutil")
        self.env = environment(HOME=self.home)
        for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY"):
            self.env.pop(name, None)

    def words(self, url, *options):
        return [self.program, *options, "--headless", "--screenshot", self.home + "/shot.png", url]

    def first_start(self, *options):
        status, said = browse(self.w, (self.words("about:blank", *options), self.env))
        same(status, 0, f"the status of the first start, which said {said}")
        return self.profile()

    def profile(self):
        """The folder with the database that it uses."""
        found = [path for place in (".mozilla/firefox", ".config/mozilla/firefox", "own")
                 for path in glob.glob(f"{self.home}/{place}/**/cert9.db", recursive=True)]
        check(len(found) == 1, f"not one database: {found}")
        return os.path.dirname(found[0])

    def sees(self, path, *options, more=()):
        """It shows a page through us without a warning, and we saw it."""
        o, run = origin(self.w), Run(self.w, *more)
        status, said = browse(self.w, (run.command(*self.words(o.url(path), *options)), self.env))
        same((status, run.paths().count(path) > 0), (0, True), f"status and flow, when it said {said}")
        run.saw(path)
        return run


def authorities(profile):
    return subprocess.run(["certutil", "-L", "-d", "sql:" + profile], capture_output=True, check=True).stdout.decode()


# ---- run

def test_firefox(w):
    """Firefox, headless, with the profile of its first start, wherever its version puts that; nothing stays there"""
    f, before = Firefox(w), sums()
    profile = f.first_start()
    f.sees("/firefox")
    check("mitm-bpf" not in authorities(profile), "the CA is in the profile")
    same(sums(), before, "the system's stores")
    # the other place
    config, mozilla = f.home + "/.config/mozilla/firefox", f.home + "/.mozilla/firefox"
    source, target = (config, mozilla) if profile.startswith(config) else (mozilla, config)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.rename(source, target)
    if os.path.isdir(f.home + "/.mozilla"):     # where there is both, the older one is used
        f.sees("/elsewhere")
        check("mitm-bpf" not in authorities(f.profile()), "the CA is in the profile")


def test_firefox_profile(w):
    """Firefox with --profile FOLDER; one that it has never used is told of, since nothing can be trusted there"""
    f = Firefox(w)
    own = f.home + "/own"
    os.mkdir(own)
    said = os.path.join(w.tmp, "first")
    with open(said, "wb") as out:
        w.start(*Run(w).command(*f.words("about:blank", "--profile", own)), env=f.env, stdout=out, stderr=out)

    def read():
        with open(said, encoding="utf-8", errors="replace") as f:
            return f.read()
    wait_for(30, "it says what to do", lambda: "will not trust the CA" in read())
    contains(read(), "Start it once without mitm-bpf")
    end_group(w)
    shutil.rmtree(own)
    os.mkdir(own)
    f.first_start("--profile", own)
    f.sees("/own", "--profile", own)
    check("mitm-bpf" not in authorities(own), "the CA is in the profile")


# ---- by name

def no_version(data):
    """QUIC version negotiation (RFC 9000, 17.2.1) with none that a client knows, so that it does not wait for more."""
    if data[0] & 0x80 == 0:
        return None
    first = data[6:6 + data[5]]
    second = data[7 + len(first):7 + len(first) + data[6 + len(first)]]
    return b"".join((b"\x80\0\0\0\0", bytes([len(second)]), second, bytes([len(first)]), first, b"\x1a\x2a\x3a\x4a"))


# Every name is the origin's address, and the origin is said to speak HTTP/3, which Firefox then tries first; it does so
# with authorities that a person added, too.
PREFERENCES = {"network.dns.forceResolve": f'"{ORIGIN4}"', "network.dns.disableIPv6": "true",
               "network.captive-portal-service.enabled": "false", "network.connectivity-service.enabled": "false",
               "network.http.http3.enable": "true",
               "network.http.http3.disable_when_third_party_roots_found": "false",
               "network.http.http3.alt-svc-mapping-for-testing": '"origin.test;h3=:443"'}


def trusting(w, *authority_files):
    """One whose profile has these authorities for good."""
    f = Firefox(w)
    profile = f.first_start()
    for path in authority_files:
        subprocess.run(["certutil", "-A", "-d", "sql:" + profile, "-n", os.path.basename(path), "-t", "C,,", "-i",
                        path], check=True)
    with open(profile + "/user.js", "w", encoding="ascii") as prefs:
        prefs.writelines(f'user_pref("{name}", {value});\n' for name, value in PREFERENCES.items())
    return f


def test_name(w):
    """--intercept firefox takes it, whichever of its processes connects; HTTP/3 is seen as datagrams, or refused"""
    o, datagrams = w.origin(where="namespace", port=443), Echo(w, 443, behave=no_version)
    w.proxy(intercept="nobody-at-all").stop()       # makes the CA
    f = trusting(w, w.ca, w.certificates.ca)

    def visit(path):
        status, said = browse(w, (f.words("https://origin.test" + path), f.env))
        same((status, [r for r in o.requests if r[1] == path] != []), (0, True), f"status and request, it said {said}")
    visit("/direct")
    check(datagrams.received, "Firefox does not try HTTP/3")
    for option, quic in (("--set=block_quic=false", True), ("--block-quic", False)):
        datagrams.received.clear()
        proxy = w.proxy(option, intercept="firefox")
        visit("/" + option)
        flow = proxy.flow("/" + option)
        same(flow["request"]["scheme"], b"https", "the scheme")
        contains(flow["metadata"]["mitm_bpf.exe"], "firefox")
        same(bool(datagrams.received), quic, "datagrams at the origin's port 443")
        same(proxy.stop(), 0, "the exit status")
        seen = [flow for flow in proxy.flows() if flow["type"] == "udp" and flow["server_conn"]["address"][1] == 443]
        same(bool(seen), quic, "flows of UDP port 443")


if __name__ == "__main__":
    main(globals())
