#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make coverage`: which lines and branches of the library and the module the tests run.
set -eu
cd "$(dirname "$0")/../.."
cov=build/coverage

usage() {
	cat <<'USAGE'
usage: run.sh library 6.1|6.12	by the unit tests here and by the kselftests in QEMU
       run.sh module		by the kselftests and five minutes of fuzz_device, on
				the debug kernel kasan

Both print, file by file, the lines and then the branches that were never run.  All is
to be built before, as `make coverage` does.

What a process has run of the library is not seen where it is killed, or its _exit()
is a system call of its own.
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

# sent DIR: what a guest has sent by the serial port that has the tests' own results
sent() {
	sed -n 's/^# GCDA //p' "$1/results.log" | base64 -d | tar -xz -C "$tmp"
}

# Tests that fail still say what they have run.
tally() { tail -n 1 "$cov/$1.log" | sed "s/^/$2: /"; }

module() {
	mkdir -p $cov/module
	find build/kmod-gcov -name '*.gcda' -delete
	{
		awk -v name=kasan -f selftests/vm/debug.awk selftests/vm/debug.vm selftests/vm/tests.vm
		echo 'run 150 fuzz_device -t 300'
		# The files have no size, and are gone with the module.
		cat <<'GUEST'
(cd /sys/kernel/debug/gcov && find . -name '*.gcda' | while read -r f; do
	mkdir -p "/tmp/gcov/${f%/*}" && cat "$f" >"/tmp/gcov/$f"
done)
(cd /tmp/gcov && tar -cz . | base64 | sed 's/^/# GCDA /')
GUEST
	} >$tmp/tests
	selftests/vm/run.sh -k kasan -t 7200 -o $cov/module "$(selftests/vm/kernels.sh image kasan)" \
		build/kmod-gcov/evering.ko $tmp/tests "$@" >$cov/module.log 2>&1 || :
	tally module "kselftests on kasan"
	sent $cov/module
	gcda "$tmp" build/kmod-gcov
	# By gcov itself, as gcovr does not find where the kernel was built; what the
	# kernel's headers look like is of no interest.
	mkdir "$tmp/gcov"
	files=$(find "$PWD/build/kmod-gcov" -name '*.gcda')
	(cd "$tmp/gcov" && gcov -b -c -p $files >log 2>&1) || { cat "$tmp/gcov/log"; exit 1; }
	report '.*kmod-gcov/kmod/' -g "$tmp/gcov"
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM

case ${1:-}-${2:-} in
library-6.1|library-6.12) kernel=$2 ;;
module-*)
	shift
	module "$@"
	exit ;;
-h-|--help-) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac

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
sent $cov/guest
gcda "$tmp" $cov/lib
gcovr --root . --filter lib/ --json $cov/guest.json $cov/lib

for by in unit guest; do
	echo "== $by alone"
	gcovr --root . -a $cov/$by.json |
		awk '/^lib|^TOTAL/ { printf "%-24s %6d %6d %6s\n", $1, $2, $3, $4 }'
done
echo "== both; lines, branches, and which were never run"
report lib/ -a $cov/unit.json -a $cov/guest.json
