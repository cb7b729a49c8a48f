#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make coverage`: which lines and branches of the library the tests run.
set -eu
cd "$(dirname "$0")/../.."
cov=build/coverage

usage() {
	cat <<'USAGE'
usage: run.sh 6.1|6.12		the library, by the unit tests here and by the
				kselftests in QEMU, as `make coverage` has built them
       run.sh -m DIR BUILD	the module: DIR has its .gcda files, from a guest's
				/sys/kernel/debug/gcov, BUILD its .gcno files

For -m, a kernel with CONFIG_GCOV_KERNEL and a module built for it with
GCOV_PROFILE=y by the same gcc are needed.  In the guest, mount debugfs, and
before rmmod copy what is below /sys/kernel/debug/gcov with cat: its files have
no size.

What a process has run is not seen where it is killed, or its _exit() is a
system call of its own.
USAGE
}

# gcda() SOURCE-DIR TO-DIR: beside the .gcno files of the same name
gcda() {
	n=0
	for f in $(find "$1" -name '*.gcda'); do
		note=$(find "$2" -name "$(basename "$f" .gcda).gcno" | head -n 1)
		[ -n "$note" ] || continue
		cp "$f" "${note%.gcno}.gcda"
		n=$((n + 1))
	done
	[ "$n" != 0 ] || { echo "no .gcda of $2 in $1" >&2; exit 1; }
}

# report SOURCES INPUT...: per file, lines and then branches, with those never run
report() {
	sources=$1
	shift
	for what in '' --branches; do
		gcovr --root . --filter "$sources" $what "$@" |
			sed '/^---/d; /GCC Code Coverage/d; /^Directory:/d'
		echo
	done
}

case ${1:-} in
-m)
	[ $# = 3 ] || { usage >&2; exit 2; }
	gcda "$2" "$3"
	report '.*/?kmod/' "$3"
	exit ;;
6.1|6.12) ;;
-h|--help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac
kernel=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM

# Tests that fail still say what they have run.
tally() { tail -n 1 "$cov/$1.log" | sed "s/^/$2: /"; }

find $cov -name '*.gcda' -delete
units=$(for c in selftests/unit/*.c; do echo "$cov/unit/$(basename "$c" .c)"; done)
selftests/unit/run.sh $units >$cov/unit.log 2>&1 || :
tally unit "unit tests"
gcovr --root . --filter lib/ --json $cov/unit.json $cov
find $cov -name '*.gcda' -delete

# The results go out by the serial port that has the tests' own.
{
	echo 'export GCOV_PREFIX=/tmp/gcov'
	echo "(umask 0; mkdir -p /tmp/gcov$PWD/$cov/lib)"
	echo 'umask 0'
	grep -v 'readme\|fuzz_device' selftests/vm/tests.vm
	echo 'unset GCOV_PREFIX'
	echo "(cd /tmp/gcov && tar -cz . | base64 | sed 's/^/# GCDA /')"
} >$tmp/tests
selftests/vm/run.sh -q -t 1500 -o $cov/guest "$(selftests/vm/kernels.sh image "$kernel")" \
	build/kmod-$kernel/evering.ko $tmp/tests \
	$(for c in selftests/*.c; do echo "$cov/vm/$(basename "$c" .c)"; done) \
	build/vm/vmexit build/vm/compat32 >$cov/guest.log 2>&1 || :
tally guest "kselftests on $kernel"
sed -n 's/^# GCDA //p' $cov/guest/results.log | base64 -d | tar -xz -C "$tmp"
gcda "$tmp" $cov/lib
gcovr --root . --filter lib/ --json $cov/guest.json $cov/lib

for by in unit guest; do
	echo "== $by alone"
	gcovr --root . -a $cov/$by.json |
		awk '/^lib|^TOTAL/ { printf "%-24s %6d %6d %6s\n", $1, $2, $3, $4 }'
done
echo "== both; lines, branches, and which were never run"
report lib/ -a $cov/unit.json -a $cov/guest.json
