#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Tests the fuzzer: faults in copies of the module that it must find and make short.
# usage: plants.sh KDIR IMAGE FUZZ_DEVICE VMEXIT
set -eu
here=$(cd "$(dirname "$0")" && pwd)
case ${1:-} in
-h|--help) sed -n 's/^# //p' "$0" | sed 1d; exit 0 ;;
esac
[ $# = 4 ] || { echo "usage: plants.sh KDIR IMAGE FUZZ_DEVICE VMEXIT" >&2; exit 2; }
kdir=$1 image=$2 fuzzer=$3 vmexit=$4
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
passed=0 failed=0

# plant NAME FILE SED PATTERN MOST: what it says of it, and in how many steps
plant() {
	rm -rf "$tmp/module"
	mkdir "$tmp/module"
	cp -r "$here/../../Kbuild" "$here/../../kmod" "$here/../../uapi" "$tmp/module"
	sed -i "$3" "$tmp/module/kmod/$2"
	if cmp -s "$tmp/module/kmod/$2" "$here/../../kmod/$2"; then
		echo "    NOT PLANTED: $1"
		failed=$((failed + 1))
		return
	fi
	make -s -C "$kdir" M="$tmp/module" KCOV_INSTRUMENT=y KCFLAGS=-g modules >"$tmp/make.log" 2>&1 ||
		{ cat "$tmp/make.log" >&2; exit 1; }
	"$here/run.sh" -t 300 -s 1 "$image" "$tmp/module/evering.ko" "$fuzzer" "$vmexit" >"$tmp/log" || :
	steps=$(sed -n 's/^ *short: //p' "$tmp/log" | tail -n 1 | tr . '\n' | grep -c . || :)
	if grep -q "$4" "$tmp/log" && [ "$steps" -ge 1 ] && [ "$steps" -le "$5" ]; then
		echo "    ok: $1, in $steps steps"
		passed=$((passed + 1))
	else
		echo "    NOT FOUND, or not short: $1"
		sed 's/^/        /' "$tmp/log"
		failed=$((failed + 1))
	fi
}

# Nobody accepts, and one too many connects.
plant "a reference to a service that is not dropped" service.c \
	'/^	if (ret) {$/,/^	}$/s/^		evr_service_put(service);$//' \
	'something is left behind' 6
plant "a reference to a uring that is dropped twice" open.c \
	's/^	ret = evr_may_open(uring, control, &args);$/&\n	if (ret)\n		evr_uring_put(uring);/' \
	'kernel log: .*\(refcount\|KASAN\)' 6

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
