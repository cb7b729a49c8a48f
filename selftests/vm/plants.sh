#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Tests the runner: each planted fault must turn it red, for its own reason.
# usage: plants.sh [-k NAME] IMAGE MODULE PLANT-MODULE PROGRAM...
# (vmexit among them; with -k, the detectors of a debug kernel, one a boot: the
# first report turns others off)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
-h|--help) sed -n 's/^# //p' "$0" | sed 1d; exit 0 ;;
esac
debug=
if [ "${1:-}" = -k ]; then
	debug=$2
	shift 2
fi
[ $# -ge 4 ] || { echo "usage: plants.sh [-k NAME] IMAGE MODULE PLANT-MODULE PROGRAM..." >&2; exit 2; }
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

# boot SECONDS [MODULE] <SCRIPT: sets $red
boot() {
	rm -rf "$tmp/out"
	cat >"$tmp/script"
	seconds=$1
	[ -z "$debug" ] || seconds=$((seconds * 5))
	red=1
	"$here/run.sh" -q ${debug:+-k "$debug"} -t "$seconds" -o "$tmp/out" "$image" "${2:-$module}" "$tmp/script" \
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

finish() {
	echo "$passed passed, $failed failed, 0 skipped"
	[ "$failed" = 0 ]
	exit
}

# plant HOW PATTERN WHAT [COMMAND]: the fault alone turns a boot red
plant() {
	boot 60 <<SCRIPT
run 10 tap 1..1 "ok 1 good"
${4:-}
insmod /bin/plant.ko how=$1
SCRIPT
	seen "$2" "$3"
}

boot 60 <<'SCRIPT'
run 10 tap 1..1 "ok 1 good"
run 10 tap 1..2 "ok 1 good" "ok 2 # SKIP for a reason"
SCRIPT
if [ "$red" = 1 ] && [ "$(tail -n 1 "$tmp/out/summary")" = "2 passed, 0 failed, 1 skipped" ]; then
	check 0 "a good run is green, and a skip is no pass"
else
	check 1 "a good run is green, and a skip is no pass"
fi

# The detectors of a debug kernel.
log="kernel log: .*"
case $debug in
kasan)
	plant bounds "${log}KASAN: slab-out-of-bounds" "a write behind an allocation"
	plant vmalloc "${log}KASAN: vmalloc-out-of-bounds" "a write behind a mapping"
	plant free "${log}KASAN: slab-use-after-free" "a write to freed memory"
	plant leak "leaks is " "a leak"
	plant list "${log}kernel BUG at lib/list_debug" "a broken list"
	plant object "${log}ODEBUG: free active" "an object freed in use"
	plant shift "${log}UBSAN: shift-out-of-bounds" "a shift too far"
	plant index "${log}UBSAN: array-index-out-of-bounds" "an index too high"
	plant atomic "${log}BUG: sleeping function" "sleep under a spinlock"
	plant order "${log}possible circular locking" "locks in two orders"
	plant softirq "${log}inconsistent lock state" "a lock that a softirq takes"
	plant rcu "${log}suspicious RCU usage" "RCU without its lock"
	plant preempt "${log}BUG: using smp_processor_id" "a CPU that may change"
	# Sooner than in a test.
	plant hung "${log}INFO: task plant.* blocked" "a task that hangs" \
		"echo 5 >/proc/sys/kernel/hung_task_timeout_secs"
	plant lockup "${log}BUG: soft lockup" "a CPU that hangs" \
		"echo 3 >/proc/sys/kernel/watchdog_thresh"
	plant lockdep "debug_locks is 0" "a lockdep that is off"
	plant taint "taint is 4160" "a taint"
	finish ;;
kcsan)
	plant race "${log}BUG: KCSAN: data-race in plant_racer" "a data race"
	plant barrier "${log}BUG: KCSAN: data-race in plant_unlocker" "a missing barrier"
	plant atomic "${log}BUG: sleeping function" "sleep under a spinlock"
	plant taint "taint is 4160" "a taint"
	finish ;;
esac

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

finish
