#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make test`: runs every step, shows how it goes, and adds up.
# The last line is "N passed, N failed, N skipped"; exit status 0 only if
# something passed and nothing failed.
set -u

usage() {
	cat <<'USAGE'
usage: selftests/run.sh [STEP...]

Steps, in this order, all of them by default:
  source    checkpatch, sparse, W=1, gcc, clang, cppcheck, exported symbols
  unit      library and rings on the host, under the sanitizers and valgrind
  fuzz      what the library reads of a peer, a few seconds
  model     the protocol model, bounded
  vm-6.1    kselftests in QEMU on Debian's 6.1
  vm-6.12   the same on 6.12
  runner    planted faults that the runner must see
  icount    a blocking round trip, in instructions, against other IPC
and, only if asked for (make test-long):
  long-6.1  thousands of kills and minutes of lies in QEMU on 6.1
  long-6.12 the same on 6.12
and (make test-debug):
  debug-kasan  kselftests on a kernel that finds memory errors, undefined
            behaviour, locking mistakes and leaks, and planted ones
  debug-kcsan  the same on a kernel that finds data races
and (make fuzz-device):
  fuzz-plants  faults in copies of the module, which the fuzzer must find
  fuzz-device  programs of system calls made at random, on the first of these
With ARCH=arm64 in the environment those for arm64; selftests/vm/arm64-skipped
says which are not, and why.
USAGE
}

case ${1:-} in -h|--help) usage; exit 0 ;; esac
cd "$(dirname "$0")/.." || exit 1
all="source unit fuzz model vm-6.1 vm-6.12 runner icount"
long="long-6.1 long-6.12"
debug="debug-kasan debug-kcsan fuzz-plants fuzz-device"
logs=build/test
passed=0 failed=0 skipped=0
steps=${*:-$all}

if [ "${ARCH:-}" = arm64 ]; then
	logs=build/arm64/test
	for step in ${*:-$all}; do
		why=$(sed -n "s/^step $step //p" selftests/vm/arm64-skipped)
		[ "$why" ] || continue
		echo "== $step"
		echo "   skipped: $why"
		skipped=$((skipped + 1))
		steps=$(echo " $steps " | sed "s/ $step / /")
	done
fi
mkdir -p "$logs"

for step in $steps; do
	case " $all $long $debug " in
	*" $step "*) ;;
	*) usage >&2; exit 2 ;;
	esac
	echo "== $step"
	start=$(date +%s)
	# A step prints its own progress, and its result as its last line.
	make -s --no-print-directory "test-$step" 2>&1 | tee "$logs/$step.log" |
		grep -vE '^(ok |#|1\.\.|TAP |  [A-Z]+ |make)' | sed '/ passed, .* failed/d'
	result=$(tail -n 5 "$logs/$step.log" |
		sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)\{0,1\}$/\1 \2 \4/p' | tail -n 1)
	if [ -z "$result" ]; then
		echo "   $step did not come to a result; see $logs/$step.log"
		tail -n 15 "$logs/$step.log" | sed 's/^/   | /'
		result="0 1 0"
	fi
	set -- $result
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + ${3:-0}))
	echo "   $step: $1 passed, $2 failed, ${3:-0} skipped in $(($(date +%s) - start)) s"
	if [ "$2" != 0 ]; then
		grep -E '^(not ok|FAILED)' "$logs/$step.log" | sed 's/^/   | /'
	fi
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
