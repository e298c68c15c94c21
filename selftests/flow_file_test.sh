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
	: >"$TMP/err"   # what the former one said is not taken for this one's
	"$MITM_BPF" -p "$proxy" --workers 2 "$@" >"$TMP/out" 2>"$TMP/err" &
	mitm_pid=$!
	defer stop_pid "$mitm_pid"
	# not by connecting: after kill -9 the port of the former one answers for a moment
	wait_for 10 grep -q "listening at" "$TMP/err" || diag "$(cat "$TMP/err")"
}
end() { # sets status
	kill -TERM "$mitm_pid"
	wait "$mitm_pid"
	status=$?
}
fetch() { # FILE PATH
	rm -f "$TMP/got"
	curl --silent --proxy "http://127.0.0.1:$proxy" --output "$1" "http://127.0.0.1:$origin/$2"
}
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
complains() {
	"$MITM_BPF" -nr "$1" 2>&1 >/dev/null |
		grep -oE "corrupted|Is a directory|Invalid data|This is JSON" | tr "\n" " "
}
is "a folder is not called corrupted" "$(complains "$TMP/www")" "Is a directory "
for start in '\377' 'hello' '12' '12:' '999999999999999:'; do   # fixed: noise can look like something
	printf "$start\\200\\201" >"$TMP/none"
	is "what begins with $start is" "$(complains "$TMP/none")" "corrupted Invalid data "
done
for start in '{' '\357\273\277{'; do
	printf "$start}" >"$TMP/none"
	is "what begins with $start is not" "$(complains "$TMP/none")" "This is JSON "
done
cat "$TMP/none" >>"$TMP/b.mitm"
is "but behind a flow it is" "$(complains "$TMP/b.mitm")" "corrupted Invalid data "

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

# ---- bodies that do not stay in memory

head -c 3000000 /dev/urandom >"$TMP/www/large.bin"
holds() { # FILE BODY: twice, behind its length
	python3 -c 'import sys
f, b = (open(p, "rb").read() for p in sys.argv[1:])
sys.exit(f.count(b"%d:" % len(b) + b + b",") != 2)' "$1" "$2"
}
start -w "$TMP/large.mitm" --set body_memory_max=64k
fetch "$TMP/got" large.bin
ok "a large body arrives" cmp "$TMP/got" "$TMP/www/large.bin"
fetch "$TMP/got" large.bin
end
is "the program ends with status 0" "$status" 0
is "both flows are in the file" "$(flows "$TMP/large.mitm")" 2
ok "and can be written again" \
	sh -c '"$1" -qnr "$2" -w "$3" && cmp "$2" "$3"' - "$MITM_BPF" "$TMP/large.mitm" "$TMP/again.mitm"
ok "the whole bodies are in the file" holds "$TMP/large.mitm" "$TMP/www/large.bin"
if [ -n "$MITMDUMP" ]; then
	"$MITMDUMP" -qnr "$TMP/large.mitm" -w "$TMP/theirs.mitm" >"$TMP/theirs" 2>&1
	ok "mitmproxy finds them whole" holds "$TMP/theirs.mitm" "$TMP/www/large.bin"
else
	skip "mitmproxy finds them whole" "no mitmdump; set MITMDUMP to one"
fi
start -w "$TMP/cut.mitm" --set body_memory_max=64k --set body_capture_max=1m
fetch "$TMP/got" large.bin
ok "a body that is too large to be kept arrives, too" cmp "$TMP/got" "$TMP/www/large.bin"
end
like "that not all is kept is said" "$(cat "$TMP/err")" "does not keep all of the response from 127.0.0.1"
like "and in the flow's line" "$("$MITM_BPF" -nr "$TMP/cut.mitm")" "2.9m .not all kept."
"$MITM_BPF" -p "$proxy" --set body_disk_folder=/proc/nope >"$TMP/out" 2>&1
is "a folder that is none ends it with status 1" $? 1
like "and a sentence" "$(cat "$TMP/out")" "Cannot make a temporary file in /proc/nope"

# A file system of its own that is full after a mebibyte.
mkdir "$TMP/small"
: >"$TMP/err"
if unshare --mount true 2>/dev/null; then
	unshare --mount sh -c 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"' "$TMP/small" \
		"$MITM_BPF" -p "$proxy" -w "$TMP/full.mitm" --set body_memory_max=64k \
		--set body_disk_folder="$TMP/small" \
		>"$TMP/out" 2>"$TMP/err" &
	mitm_pid=$!
	defer stop_pid "$mitm_pid"
	# not by connecting: after kill -9 the port of the former one answers for a moment
	wait_for 10 grep -q "listening at" "$TMP/err" || diag "$(cat "$TMP/err")"
	fetch "$TMP/got" large.bin
	ok "with a full disk a body arrives" cmp "$TMP/got" "$TMP/www/large.bin"
	fetch "$TMP/got" hello.txt
	end
	is "the program goes on, and ends with status 0" "$status" 0
	like "it is said" "$(cat "$TMP/err")" "Cannot write captured bodies to the temporary file: No space left"
	like "the flow says so" "$("$MITM_BPF" -nr "$TMP/full.mitm")" "2.9m .not all kept."
	is "and both flows are in the file" "$(flows "$TMP/full.mitm")" 2
else
	skip "with a full disk a body arrives" "no mount namespace; run as root"
fi

# ---- faults

start -w "+$TMP/a.mitm"
fetch /dev/null hello.txt
wait_for 5 grep -q hello.txt "$TMP/out"
kill -KILL "$mitm_pid"
wait "$mitm_pid" 2>/dev/null
is "after kill -9 the file holds what was printed" "$(flows "$TMP/a.mitm")" 5

# The same with many at a time, while the reader of standard output stands still: what it can still read is in the file.
mkfifo "$TMP/slow"
exec 8<>"$TMP/slow"
full() { python3 -c 'import fcntl, sys, termios
sys.exit(int.from_bytes(fcntl.ioctl(8, termios.FIONREAD, bytes(4)), sys.byteorder) < 60000)'; }
seen() { python3 -c 'import os
os.set_blocking(8, False)
print(os.read(8, 1 << 20).count(b": GET http"))'; }
"$MITM_BPF" -p "$proxy" --workers 2 -w "$TMP/many.mitm" >&8 2>"$TMP/err" 8>&- &
mitm_pid=$!
defer stop_pid "$mitm_pid"
wait_for 10 grep -q "listening at" "$TMP/err"
clients=()
for _ in 1 2 3 4; do
	curl --silent --proxy "http://127.0.0.1:$proxy" --output /dev/null "http://127.0.0.1:1/refused?[1-5000]" 8>&- &
	defer stop_pid $!
	clients+=($!)
done
wait_for 60 full
sleep 0.2               # so that it has met the end of the pipe; if not, this shows less
kill -KILL "$mitm_pid" "${clients[@]}"
wait "$mitm_pid" "${clients[@]}" 2>/dev/null
seen=$(seen)
ok "hundreds of flows were printed ($seen)" test "$seen" -gt 200
ok "after kill -9 all that was printed is in the file" test "$(flows "$TMP/many.mitm")" -ge "$seen"
exec 8>&-

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
fails "a file that is none" "$MITM_BPF" -nr "$TMP/www/hello.txt"
fails "a wrong flag" "$MITM_BPF" --no-such-flag
finish
