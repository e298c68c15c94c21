#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Where the cgroup v2 tree can be: alone at /sys/fs/cgroup, beside the old hierarchies, elsewhere, under another mount,
or mounted nowhere. In each, whom we take by which name is the same, and so is what is said of it."""
import os
import subprocess

from e2e import MITM_BPF, ROOT, Skipped, check, contains, main, read_flows, same, wait_for
from run_test import environment

# Each in a mount namespace of its own; the last words are the command.
PLACES = {
    "alone": 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup',
    "beside": 'umount -R /sys/fs/cgroup && mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/unified && '
              'mount -t cgroup2 none /sys/fs/cgroup/unified',
    "elsewhere": 'umount -R /sys/fs/cgroup && mkdir -p "$PLACE" && mount -t cgroup2 none "$PLACE"',
    "hidden": 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && '
              'mount -t tmpfs none /sys/fs/cgroup',
    "nowhere": 'umount -R /sys/fs/cgroup',
}
SAID = {"alone": "/sys/fs/cgroup (unified)", "beside": "/sys/fs/cgroup/unified (hybrid)",
        "elsewhere": "(at an unusual place)", "hidden": "not mounted, but could be for us alone",
        "nowhere": "not mounted, but could be for us alone"}


def at(w, place):
    """What to put before a command."""
    words = ["env", f"PLACE={w.tmp}/{place}", "unshare", "--mount", "sh", "-c", PLACES[place] + ' && exec "$@"', "sh"]
    done = subprocess.run([*words, "true"], capture_output=True, check=False)
    if done.returncode:
        raise Skipped("cannot mount it so: " + done.stderr.decode().strip())
    return words


def takes(w, place):
    before, group = at(w, place), "0::/" + w.cgroup_name
    o = w.origin()
    for spec in ("curl", "cgroup:/" + w.cgroup_name, "!nobody-at-all,!cgroup:/elsewhere"):
        proxy = w.proxy("--intercept", spec, "--cgroup", group, "--set", "steer_loopback=true", prefix=before)
        w.curl(o.url("/taken")).well()
        same(proxy.flow("/taken")["metadata"]["mitm_bpf.cgroup"], "/" + w.cgroup_name, "the flow's cgroup")
        w.curl(o.url("/direct"), inside=False, ca=w.certificates.ca).well()
        waits = w.start("sleep", "100")
        wait_for(10, "it is in the group", lambda: str(waits.pid) in open(w.cgroup + "/cgroup.procs",
                                                                          encoding="ascii").read().split())
        listed = w.run(*before, MITM_BPF, "ps", "--pid", str(proxy.pid), inside=False).well()
        line = [line for line in listed.splitlines() if line.split()[:1] == [str(waits.pid)]]
        check(line, f"ps does not list {waits.pid}:\n{listed}")
        same(line[0].split()[2], "-" if spec == "curl" else "taken", "what ps says of a process in the group")
        contains(line[0], "/" + w.cgroup_name)
        same(proxy.stop(), 0, "the exit status")
        same(len(proxy.flows()), 1, "the number of flows")


def runs_command(w, place):
    before, group = at(w, place), "0::/" + w.cgroup_name
    o = w.origin(where="namespace")
    for number, words in enumerate(([], ["--cgroup", group])):
        file = os.path.join(w.tmp, f"{place}-{number}.mitm")
        done = w.run(*before, MITM_BPF, "run", "--set", "confdir=" + w.confdir, "--set",
                     "ssl_verify_upstream_trusted_ca=" + w.certificates.ca, "-w", file, *words, "--", "sh", "-c",
                     f"curl -sS {o.url('/run')}; true", env=environment(), timeout=40)
        contains(done.well(), "the origin's answer to /run")
        same([f["request"]["path"] for f in read_flows(file)], [b"/run"], f"flows; it said {done.err}")
    left = [name for name in os.listdir(w.cgroup) if os.path.isdir(os.path.join(w.cgroup, name))]
    same(left, [], "cgroups that are left")


def is_said(w, place):
    done = w.run(*at(w, place), MITM_BPF, "doctor", "--cgroup", "0::/" + w.cgroup_name, inside=False, timeout=60)
    line = [line for line in done.out.splitlines() if " cgroup v2 " in line]
    check(line, f"nothing about cgroups: {done.out}{done.err}")
    contains(line[0], SAID[place])
    same((line[0].split()[0], done.status), ("ok", 0), f"the verdict; it said {done.out}")


def everything(w, place):
    takes(w, place)
    runs_command(w, place)
    is_said(w, place)


def test_alone(w):
    """the v2 tree alone, as distributions have it now"""
    everything(w, "alone")


def test_beside(w):
    """the v2 tree at /sys/fs/cgroup/unified"""
    everything(w, "beside")


def test_elsewhere(w):
    """the v2 tree at a place that nobody expects"""
    everything(w, "elsewhere")


def test_hidden(w):
    """the v2 tree under another mount: it is mounted for us alone"""
    everything(w, "hidden")


def test_nowhere(w):
    """no v2 tree mounted: it is, for us alone"""
    everything(w, "nowhere")


def whole_program(w, name):
    """A test of its own, where the v2 tree is alone."""
    path = os.path.join(ROOT, name)
    if not os.access(path, os.X_OK):
        raise Skipped(f"{name} is not built")
    env = environment(CMOCKA_MESSAGE_OUTPUT="TAP")
    done = w.run(*at(w, "alone"), path, inside=False, timeout=120, env=env)
    check(done.status == 0 and "\nnot ok" not in done.out, f"status {done.status}: {done.out}{done.err}")


def test_selection(w):
    """all that is said of names, pids and groups holds where the v2 tree is alone"""
    whole_program(w, "build/selftests/steer_select_test")


def test_words(w):
    """the same of the words of a spec"""
    whole_program(w, "build/selftests/steer_words_test")


if __name__ == "__main__":
    main(globals())
