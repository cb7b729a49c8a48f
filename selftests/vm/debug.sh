#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The tests on a debug kernel of kernels.sh, then faults that it must find.
# usage: debug.sh kasan|kcsan OUT MODULE PLANT-MODULE PROGRAM...
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
-h|--help) sed -n 's/^# //p' "$0" | sed 1d; exit 0 ;;
esac
[ $# -ge 5 ] || { echo "usage: debug.sh kasan|kcsan OUT MODULE PLANT-MODULE PROGRAM..." >&2; exit 2; }
name=$1 out=$2 module=$3 plant=$4
shift 4
image=$("$here/kernels.sh" image "$name")
mkdir -p "$out"

awk -v name="$name" -f "$here/debug.awk" "$here/debug.vm" "$here/tests.vm" >"$out/script"

passed=0 failed=0 skipped=0
# Adds the result on the last line of FILE, of STEP, which may have died.
add() {
	result=$(tail -n 1 "$1" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped$/\1 \2 \3/p')
	if [ -z "$result" ]; then
		echo "FAILED $2 did not come to a result"
		result="0 1 0"
	fi
	set -- $result
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

"$here/run.sh" -k "$name" -t 7200 -o "$out" "$image" "$module" "$out/script" "$@" |
	tee "$out/tests.log" | sed '/ passed, .* failed/d'
add "$out/tests.log" "run.sh"
grep 'data races of the kernel' "$out/summary" || :

for program; do
	case $program in
	*/vmexit|*/evr-digest-server) programs="${programs:-} $program" ;;
	esac
done
"$here/plants.sh" -k "$name" "$image" "$module" "$plant" $programs |
	tee "$out/plants.log" | sed '/ passed, .* failed/d'
add "$out/plants.log" "plants.sh"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
