#!/bin/bash
# SPDX-License-Identifier: MIT
# The flow file between this program and mitmproxy, both ways, with traffic of an explicit proxy; and what happens to it
# when the disk is full, when the reader of standard output leaves, and when the program is killed.
. "$(dirname "$0")/lib.sh"
need_mitm_bpf
need_program curl python3

MITMDUMP=${MITMDUMP:-$(command -v mitmdump || true)}

export HOME=$TMP
free_port proxy
free_port origin
mkdir -p "$TMP/www"
echo "hello from the origin" >"$TMP/www/hello.txt"
head -c 100000 /dev/urandom >"$TMP/www/noise.bin"
(cd "$TMP/www" && exec python3 -m http.server "$origin" --bind 127.0.0.1) >"$TMP/origin.log" 2>&1 &
defer stop_pid $!
wait_port 127.0.0.1 "$origin"

start() { # ARGS…: sets mitm_pid
	"$MITM_BPF" -p "$proxy" --workers 2 "$@" >"$TMP/out" 2>"$TMP/err" &
	mitm_pid=$!
	defer stop_pid "$mitm_pid"
	wait_port 127.0.0.1 "$proxy" || diag "$(cat "$TMP/err")"
}
end() { # sets status
	kill -TERM "$mitm_pid"
	wait "$mitm_pid"
	status=$?
}
fetch() { curl --silent --proxy "http://127.0.0.1:$proxy" --output "$1" "http://127.0.0.1:$origin/$2"; }
flows() { "$MITM_BPF" -nr "$1" --set showhost=false 2>"$TMP/err" | grep -c ': [A-Z]* http'; }

# ---- ours, read by both

start -w "$TMP/a.mitm"
fetch "$TMP/got" hello.txt
ok "the body arrives" cmp "$TMP/got" "$TMP/www/hello.txt"
fetch "$TMP/got" noise.bin
fetch /dev/null missing
curl --silent --proxy "http://127.0.0.1:$proxy" --output /dev/null http://127.0.0.1:1/refused
end
is "a signal ends it with status 0" "$status" 0
is "four flows were printed" "$(grep -c ': GET http' "$TMP/out")" 4
is "four flows are in the file" "$(flows "$TMP/a.mitm")" 4
is "nobody else may read the file" "$(stat -c %a "$TMP/a.mitm")" 600
ok "reading and writing gives the same bytes" \
	sh -c '"$1" -qnr "$2" -w "$3" && cmp "$2" "$3"' - "$MITM_BPF" "$TMP/a.mitm" "$TMP/b.mitm"

if [ -n "$MITMDUMP" ]; then
	NO_COLOR=1 "$MITMDUMP" -nr "$TMP/a.mitm" --flow-detail 2 >"$TMP/theirs" 2>&1
	is "mitmproxy reads it without a complaint" $? 0
	NO_COLOR=1 "$MITM_BPF" -nr "$TMP/a.mitm" --flow-detail 2 >"$TMP/ours"
	ok "both print the same" diff "$TMP/theirs" "$TMP/ours"
	"$MITMDUMP" -qnr "$TMP/a.mitm" -w "$TMP/c.mitm" >"$TMP/theirs" 2>&1
	is "what mitmproxy wrote is read again" "$(flows "$TMP/c.mitm")" 4
	ok "the only difference is the order of metadata" \
		test "$(wc -c <"$TMP/a.mitm")" = "$(wc -c <"$TMP/c.mitm")"
else
	skip "mitmproxy reads it" "no mitmdump; set MITMDUMP to one"
fi

# ---- faults

start -w "+$TMP/a.mitm"
fetch /dev/null hello.txt
wait_for 5 grep -q hello.txt "$TMP/out"
kill -KILL "$mitm_pid"
wait "$mitm_pid" 2>/dev/null
is "after kill -9 the file holds what was printed" "$(flows "$TMP/a.mitm")" 5

truncate --size=-20 "$TMP/a.mitm"
start -w "+$TMP/a.mitm"
fetch /dev/null hello.txt
end
like "a torn end is said" "$(cat "$TMP/err")" "ended in the middle of a flow"
is "and cut off before appending" "$(flows "$TMP/a.mitm")" 5

start -w /dev/full
fetch /dev/null hello.txt
wait "$mitm_pid"
is "a full disk ends it with status 1" $? 1
like "and a sentence" "$(cat "$TMP/err")" "Error writing flows to /dev/full: No space left on device"

mkfifo "$TMP/pipe"
"$MITM_BPF" -p "$proxy" -w "$TMP/d.mitm" >"$TMP/pipe" 2>"$TMP/err" &
mitm_pid=$!
defer stop_pid "$mitm_pid"
exec 7<"$TMP/pipe"
wait_port 127.0.0.1 "$proxy"
exec 7<&-
fetch /dev/null hello.txt
wait "$mitm_pid"
is "standard output that nobody reads ends it with status 0" $? 0
is "and the flow is in the file" "$(flows "$TMP/d.mitm")" 1

"$MITM_BPF" -p "$origin" >"$TMP/out" 2>&1
is "a port in use ends it with status 1" $? 1
like "and a sentence" "$(cat "$TMP/out")" "failed to listen on 127.0.0.1:$origin with Address already in use"
fails "a file that is none" "$MITM_BPF" -nr "$TMP/www/noise.bin"
fails "a wrong flag" "$MITM_BPF" --no-such-flag
finish
