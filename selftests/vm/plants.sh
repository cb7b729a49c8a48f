#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Tests the runner: each planted fault must turn it red, for its own reason.
# usage: plants.sh IMAGE MODULE PLANT-MODULE PROGRAM...   (vmexit among them)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
-h|--help) sed -n 's/^# //p' "$0" | sed 1d; exit 0 ;;
esac
[ $# -ge 4 ] || { echo "usage: plants.sh IMAGE MODULE PLANT-MODULE PROGRAM..." >&2; exit 2; }
image=$1 module=$2 plant=$3
shift 3
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
passed=0 failed=0

check() {
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		echo "    ok: $2"
	else
		failed=$((failed + 1))
		echo "    NOT SEEN: $2"
		sed 's/^/        /' "$tmp/out/summary" 2>/dev/null || :
	fi
}

# boot SECONDS SCRIPT [MODULE]: sets $red
boot() {
	rm -rf "$tmp/out"
	cat >"$tmp/script"
	red=1
	"$here/run.sh" -q -t "$1" -o "$tmp/out" "$image" "${2:-$module}" "$tmp/script" \
		"$plant" "$tmp/tap" "$tmp/leak" $programs >/dev/null || red=0
}
# seen PATTERN WHAT: the run was red, and for this reason
seen() {
	if [ "$red" = 0 ] && grep -q "^FAILED $1" "$tmp/out/summary"; then
		check 0 "$2"
	else
		check 1 "$2"
	fi
}
programs=$*

# A test program that prints its arguments, each a line.
printf '#!/bin/sh\nfor line; do echo "$line"; done\n' >"$tmp/tap"
# One that leaves an open service behind.
printf '#!/bin/sh\necho 1..1\nevr-digest-server left >/dev/null 2>&1 &\nusleep 300000\necho ok 1\n' >"$tmp/leak"
chmod +x "$tmp/tap" "$tmp/leak"

boot 60 <<'SCRIPT'
run 10 tap 1..1 "ok 1 good"
run 10 tap 1..2 "ok 1 good" "ok 2 # SKIP for a reason"
SCRIPT
if [ "$red" = 1 ] && [ "$(tail -n 1 "$tmp/out/summary")" = "2 passed, 0 failed, 1 skipped" ]; then
	check 0 "a good run is green, and a skip is no pass"
else
	check 1 "a good run is green, and a skip is no pass"
fi

boot 60 <<'SCRIPT'
run 10 tap 1..2 "ok 1 good" "not ok 2 bad"
run 10 tap 1..2 "ok 1 good"
run 10 tap "ok 1 without a plan"
run 10 false
run 2 sleep 100
run 10 leak
SCRIPT
seen "tap .*not ok 2 bad" "a failing test"
seen "tap .*2 tests announced, 1 results" "a missing result"
seen "tap ok 1 without a plan: no plan" "a missing plan"
seen "false: exit status 1" "a bad exit status"
seen "sleep 100: exit status 137" "a test that hangs"
seen "leak: leaked: .*services:1" "a leaked object"
seen "the module does not unload" "a module still in use"

for how in oops warn bug; do
	boot 60 <<SCRIPT
run 10 tap 1..1 "ok 1 good"
insmod /bin/plant.ko how=$how
SCRIPT
	seen "kernel log" "a kernel $how"
done

boot 15 <<'SCRIPT'
run 10 tap 1..1 "ok 1 good"
sleep 100
SCRIPT
seen "QEMU ended with 124" "a machine that hangs"

boot 60 "$plant" <<'SCRIPT'
run 10 tap 1..1 "ok 1 good"
SCRIPT
seen "the module does not load" "a module that does not load"

boot 60 <<'SCRIPT'
SCRIPT
if [ "$red" = 0 ]; then check 0 "an empty run"; else check 1 "an empty run"; fi

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
