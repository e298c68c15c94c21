#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Recorded conversations (tests/vectors/traces) played through the real binary: the bytes at both ends, and each hook
in its order. Several run at a time, each player in a network of its own, so that no two take the same port.

usage: traces_test.py [NAME…]    only these
"""
import argparse
import ctypes
import glob
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
TRACES = os.path.join(ROOT, "tests/vectors/traces")
BINARY = os.path.join(ROOT, os.environ.get("MITM_BPF", "build/mitm-bpf"))
SUBJECT = BINARY + " --hook-trace {trace} --hook-control {control} --set body_streaming=never {args}"
CLONE_NEWNET = 0x40000000
PLAYERS = 8      # they wait more than they work

# What differs from the recorded program on purpose. DB: the number of the weakness that is done better.
DIFFERENT = {
    "connect_refused_eager": "DB-6: what is of no more use is closed",
    "connect_tcp_half_close_client": "DB-16: half-closes stay what they are inside a tunnel",
    "h1_chunked_trailers_request": "DB-1: trailers are read and sent on",
    "h1_h2_prior_knowledge": "DB-20: HTTP/2 with prior knowledge is spoken",
    "h1_leading_crlf": "DB-31: empty lines before a request are skipped",
    "h1_origin_sends_103": "DB-19: interim responses are forwarded, and the final one follows",
    "h2_cl_mismatch": "the request is shown: its head was in order, and came before what was not",
    "h2_origin_rst": "DB-15: what the origin refused unseen is asked once more",
    "kill_tcp_message": "DB-28: a killed flow ends",
    "kill_websocket_start": "DB-28: a killed flow ends",
    "respond_101": "a relay to nobody is not begun",
    "reverse_tls_untrusted": "DB-1: a relay without a server ends at once",
    "tls_client_hello_garbage": "DB-9: alerts are sent",
    "ws_kill_message": "DB-28: a killed flow ends",
}

# What waits for a part that is not there yet.
LATER = {}

# Recorded, too, but not among the files: they come with the part that they need.
ABSENT = {
    "DNS": "dns_mode_hosts dns_reverse_refused dns_reverse_tcp dns_reverse_udp dns_same_id kill_dns_request",
    "QUIC and HTTP/3": "h3_origin_reset h3_reverse_get_post h3_untrusted_origin quic_allow_hosts",
    "replay": "replay_client replay_server_kill_extra",
}


def arguments(confdir):
    return argparse.Namespace(subject=SUBJECT, confdir=confdir, subject_ca=None, server_re="Server: mitm-bpf",
                              trace=True, hooks=False, control=True, match="", json=None, record=False, keep=False,
                              strict=False)


def own_network():
    if os.geteuid() != 0 or ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def play(run_trace, scenario, args, certs, work):
    result = run_trace.Run(scenario, args, certs, work).go()
    # in HTTP/2 the runner knows pages of the program's own by this name alone
    result = json.loads(re.sub(r'"mitm-bpf [0-9][0-9a-z.]*"', '"<proxy>"', json.dumps(result)))
    return run_trace.compare(scenario, result, args)


def player(run_trace, jobs, results, args, certs, work):
    own_network()
    for scenario in iter(jobs.get, None):
        try:
            results.put((scenario["name"], play(run_trace, scenario, args, certs, work), None))
        except Exception:
            results.put((scenario["name"], None, traceback.format_exc()))


def prepared_confdir(work):
    """Its CA is made once: that takes longer than most conversations."""
    confdir = os.path.join(work, "confdir")
    os.mkdir(confdir)
    made = subprocess.Popen([BINARY, "-q", "--mode", "regular@127.0.0.1:0", "--set", "confdir=" + confdir],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        made.wait(2)
    except subprocess.TimeoutExpired:
        made.terminate()
        made.wait()
    return confdir


def play_all(run_trace, scenarios, work):
    jobs, results = multiprocessing.Queue(), multiprocessing.Queue()
    folder = os.path.join(work, "certs")
    os.mkdir(folder)
    certs, args = run_trace.Certs(folder), arguments(prepared_confdir(work))
    players = [multiprocessing.Process(target=player, args=(run_trace, jobs, results, args, certs, work), daemon=True)
               for _ in range(min(PLAYERS, len(scenarios)))]
    for p in players:
        p.start()
    for scenario in scenarios:
        jobs.put(scenario)
    for _ in players:
        jobs.put(None)
    for _ in scenarios:
        yield results.get(timeout=120)
    for p in players:
        p.join()


def report(number, scenario, differences, failure):
    name, known = scenario["name"], scenario.get("compare", {}).get("known_bug")
    if failure or (differences and not known and name not in DIFFERENT):
        print(f"not ok {number} {name}")
        for line in (failure or "\n".join(json.dumps(d)[:2500] for d in differences)).splitlines():
            print("# " + line)
        return False
    if not differences and name in DIFFERENT:
        print(f"not ok {number} {name}\n# it is listed as different ({DIFFERENT[name]}), and is not")
        return False
    why = f"differs: {DIFFERENT[name]}" if name in DIFFERENT else f"better than recorded: {known}"
    print(f"ok {number} {name}" + (f" ({why})" if differences else ""))
    return True


def main():
    try:
        sys.path.insert(0, TRACES)
        import h2.connection  # noqa: F401: a peer of HTTP/2
        import run_trace
    except ImportError as e:
        print(f"1..0 # SKIP {e}; scripts/install-deps installs what the peers need")
        return 77
    scenarios = [json.load(open(f)) for f in sorted(glob.glob(os.path.join(TRACES, "*.json")))]
    if len(sys.argv) > 1:
        scenarios = [s for s in scenarios if s["name"] in sys.argv[1:]]
    absent = [(name, part) for part, names in ABSENT.items() for name in names.split()] if len(sys.argv) == 1 else []
    print(f"1..{len(scenarios) + len(absent)}", flush=True)
    work, good = tempfile.mkdtemp(prefix="traces-"), True
    for number, scenario in enumerate((s for s in scenarios if s["name"] in LATER), 1):
        print(f"ok {number} {scenario['name']} # SKIP {LATER[scenario['name']]}")
    number = sum(s["name"] in LATER for s in scenarios)
    for number, (name, part) in enumerate(absent, number + 1):
        print(f"ok {number} {name} # SKIP there is no {part} yet")
    todo = {s["name"]: s for s in scenarios if s["name"] not in LATER}
    try:
        for name, differences, failure in play_all(run_trace, list(todo.values()), work):
            number += 1
            good &= report(number, todo[name], differences, failure)
            sys.stdout.flush()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
