#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Fuzzes /dev/evering on the kernel kasan, guided by KCOV; what kills the kernel is made
# as short as it can be, a boot for each try.
# usage: run.sh [-t SECONDS] [-s SEED] IMAGE MODULE FUZZ_DEVICE VMEXIT
# (1200 seconds if nothing is said)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=1200 seed=$(date +%s)
while getopts t:s:h opt; do
	case $opt in
	t) seconds=$OPTARG ;;
	s) seed=$OPTARG ;;
	h) sed -n 's/^# //p' "$0" | sed 1d; exit 0 ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ $# = 4 ] || { echo "usage: run.sh [-t SECONDS] [-s SEED] IMAGE MODULE FUZZ_DEVICE VMEXIT" >&2; exit 2; }
image=$1 module=$2 fuzzer=$3 vmexit=$4
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' INT TERM

# boot SECONDS ARGUMENT...: of the fuzzer; the limit there is for a machine four
# times as fast, see init
boot() {
	limit=$1
	shift
	echo "run $((limit / 4 + 30)) fuzz_device $*" >"$tmp/script"
	rm -rf "$tmp/out"
	"$here/../vm/run.sh" -k kasan -t $((limit + 200)) -o "$tmp/out" "$image" "$module" \
		"$tmp/script" "$fuzzer" "$vmexit" >"$tmp/log"
}

echo "    fuzz_device for $seconds s, seed $seed"
if boot "$seconds" -t "$seconds" -s "$seed"; then
	sed -n '/programs, .*kept/s/^# *\(show: *\)*/    /p' "$tmp/out/results.log" | tail -n 1
	tail -n 1 "$tmp/log"
	exit 0
fi
sed 's/^/    /' "$tmp/out/summary"

# What it found itself it has also made short.  Else the last that it has begun, or
# one of the few before, is to blame.
if ! grep '^# short: ' "$tmp/out/results.log" | tail -n 1 | sed 's/^# //; s/^/    /' | grep .; then
	grep '^# program ' "$tmp/out/results.log" | tail -n 4 | sed 's/^# program //; 1!G; h; $!d' >"$tmp/programs"
	program=
	while read -r text; do
		echo "    trying $text"
		boot 120 -r "$text" </dev/null || { program=$text; break; }
	done <"$tmp/programs"
	if [ -z "$program" ]; then
		echo "    none of the last programs does it again; seed $seed"
	else
		i=$(echo "$program" | tr . '\n' | wc -l)
		while [ "$i" -gt 0 ]; do
			less=$(echo "$program" | tr . '\n' | sed "${i}d" | paste -sd .)
			if [ -n "$less" ] && ! boot 120 -r "$less"; then
				program=$less
			fi
			i=$((i - 1))
		done
		echo "    short: $program"
		boot 120 -r "$program" || sed 's/^/    /' "$tmp/out/summary"
	fi
fi
echo "0 passed, 1 failed, 0 skipped"
exit 1
