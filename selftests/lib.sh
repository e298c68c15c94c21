# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the shell selftests share: TAP, clean-up, scratch cgroups and namespaces, origins. Source it first; it sets the
# options and the working directory (the repository's root), makes $TMP, and cleans up on every way out.
#
#	. "$(dirname "$0")/lib.sh"
#	need_root
#	scratch_cgroup cg
#	ok "curl is intercepted" in_cgroup "$cg" curl --silent …
#	finish
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

MITM_BPF=${MITM_BPF:-build/mitm-bpf}
TMP=$(mktemp -d "${TMPDIR:-/tmp}/mitm-bpf-test.XXXXXX")
tap_count=0
tap_failed=0
cleanups=()

# ---- clean-up: last in, first out, also after a signal

defer() { # COMMAND…: words are kept as they are
	cleanups+=("$(printf '%q ' "$@")")
}

# shellcheck disable=SC2317
run_cleanups() {
	local i
	trap '' INT TERM
	for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
		eval "${cleanups[i]}" >/dev/null 2>&1 || true
	done
	cleanups=()
	rm -rf "$TMP"
}
trap run_cleanups EXIT
trap 'exit 130' INT TERM

# Ends a process that this script started: SIGTERM, five seconds, SIGKILL.
stop_pid() { # PID
	local i
	kill "$1" 2>/dev/null || return 0
	for ((i = 0; i < 50; i++)); do
		kill -0 "$1" 2>/dev/null || break
		sleep 0.1
	done
	kill -KILL "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	return 0
}

# ---- TAP

diag() { printf '%s\n' "$*" | sed 's/^/# /'; }

result() { # STATUS NAME
	tap_count=$((tap_count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tap_count - $2"
	else
		tap_failed=$((tap_failed + 1))
		echo "not ok $tap_count - $2"
	fi
}

ok() { # NAME COMMAND…: passes when the command succeeds; says what it printed when not
	local name=$1 out status=0
	shift
	out=$("$@" 2>&1) || status=$?
	result "$status" "$name"
	if [ "$status" != 0 ]; then
		diag "status $status of: $*"
		[ -z "$out" ] || diag "$out"
	fi
	return "$status"
}

fails() { # NAME COMMAND…: passes when the command fails (other than by a signal or by not being found)
	local name=$1 out status=0
	shift
	out=$("$@" 2>&1) || status=$?
	if [ "$status" -gt 0 ] && [ "$status" -lt 126 ]; then
		result 0 "$name"
		return 0
	fi
	result 1 "$name"
	diag "status $status, wanted a failure, of: $*"
	[ -z "$out" ] || diag "$out"
	return 1
}

is() { # NAME GOT WANTED
	if [ "$2" = "$3" ]; then
		result 0 "$1"
		return 0
	fi
	result 1 "$1"
	diag "got:    $2"
	diag "wanted: $3"
	return 1
}

like() { # NAME TEXT REGEX
	if [[ $2 =~ $3 ]]; then
		result 0 "$1"
		return 0
	fi
	result 1 "$1"
	diag "got:          $2"
	diag "wanted match: $3"
	return 1
}

skip() { # NAME REASON: one case
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

skip_all() { # REASON: the whole program
	echo "1..0 # SKIP $1"
	exit 77
}

finish() {
	echo "1..$tap_count"
	[ "$tap_failed" = 0 ] && [ "$tap_count" -gt 0 ]
	exit
}

# ---- what a test needs

need_root() { [ "$(id -u)" = 0 ] || skip_all "needs root"; }
need_program() { # NAME…
	local name
	for name in "$@"; do
		command -v "$name" >/dev/null || skip_all "needs $name; run scripts/install-deps"
	done
}
need_mitm_bpf() { [ -x "$MITM_BPF" ] || skip_all "$MITM_BPF is not built"; }

# The v2 hierarchy's mount point: /sys/fs/cgroup, or /sys/fs/cgroup/unified on a hybrid system.
cgroup2_root() { awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts; }

# A child of the v2 root for this test alone, removed at the end with whoever is still in it.
scratch_cgroup() { # VARIABLE
	local root path
	root=$(cgroup2_root)
	[ -n "$root" ] || skip_all "no cgroup v2 is mounted"
	path=$root/mitm-bpf-test-$$-$RANDOM
	mkdir "$path" || skip_all "cannot make a cgroup below $root"
	defer remove_cgroup "$path"
	printf -v "$1" '%s' "$path"
}

# shellcheck disable=SC2317
remove_cgroup() { # PATH
	local i
	[ -w "$1/cgroup.kill" ] && echo 1 >"$1/cgroup.kill"
	for ((i = 0; i < 50; i++)); do
		rmdir "$1" 2>/dev/null && return
		sleep 0.1
	done
}

in_cgroup() { # PATH COMMAND…
	local path=$1
	shift
	(
		echo "$BASHPID" >"$path/cgroup.procs" || exit 125
		exec "$@"
	)
}

# A network namespace with loopback up: ip netns exec "$name" …
scratch_netns() { # VARIABLE
	local name=mitm-bpf-$$-$RANDOM
	ip netns add "$name" || skip_all "cannot make a network namespace"
	defer ip netns delete "$name"
	ip -n "$name" link set lo up
	printf -v "$1" '%s' "$name"
}

free_port() { # VARIABLE: a TCP port that nobody listens on just now
	local port
	port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	printf -v "$1" '%s' "$port"
}

listening() { # HOST PORT
	(exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}

wait_port() { # HOST PORT [SECONDS]: until somebody listens there
	local i
	for ((i = 0; i < ${3:-5} * 50; i++)); do
		listening "$1" "$2" && return 0
		sleep 0.02
	done
	diag "nobody listens on $1:$2"
	return 1
}

wait_for() { # SECONDS COMMAND…: until it succeeds
	local i seconds=$1
	shift
	for ((i = 0; i < seconds * 20; i++)); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.05
	done
	return 1
}

# A CA and a certificate for localhost, 127.0.0.1 and ::1 in $TMP/tls: ca.pem, cert.pem, key.pem. Made once.
make_certificates() {
	[ -f "$TMP/tls/cert.pem" ] || scripts/make-certificates "$TMP/tls"
}

# A TLS origin that answers /path with the file $TMP/www/path. Sets origin_pid.
start_tls_origin() { # PORT
	make_certificates
	mkdir -p "$TMP/www"
	(
		cd "$TMP/www" || exit 1
		exec openssl s_server -accept "$1" -cert "$TMP/tls/cert.pem" -key "$TMP/tls/key.pem" -WWW -quiet
	) >"$TMP/origin.log" 2>&1 </dev/null &
	origin_pid=$!
	defer stop_pid "$origin_pid"
	wait_port 127.0.0.1 "$1"
}
