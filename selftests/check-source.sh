#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What can be said of the source without running it, in TAP.
set -u
cd "$(dirname "$0")/.." || exit 1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
n=0 passed=0 failed=0

# check WHAT COMMAND...: passes if the command does
check() {
	what=$1
	shift
	n=$((n + 1))
	if "$@" >"$tmp/out" 2>&1; then
		passed=$((passed + 1))
		echo "ok $n $what"
	else
		failed=$((failed + 1))
		echo "not ok $n $what"
		sed 's/^/# /' "$tmp/out" | head -n 40
	fi
}

quiet() { "$@" >"$tmp/all" 2>&1 || { cat "$tmp/all"; return 1; }; }

# compat.h is there to ask for the kernel's version; TRACE_EVENT has a style
# of its own; the tests' macros are the harness's.
checkpatch() {
	(cd "$tmp" && perl "$1" --no-tree --no-summary --terse --file \
		--ignore LINUX_VERSION_CODE,CONSTANT_COMPARISON,NEW_TYPEDEFS $2) >"$tmp/cp" 2>&1
	! grep -E 'WARNING|ERROR' "$tmp/cp"
}

# Every warning of a module build counts, sparse's among them.
module() {
	kdir=$(selftests/vm/kernels.sh build "$1") || return 1
	rm -rf "$tmp/kmod"
	mkdir "$tmp/kmod"
	cp -r Kbuild kmod uapi "$tmp/kmod"
	make -C "$kdir" M="$tmp/kmod" W=1 C=2 CHECK=sparse modules >"$tmp/build" 2>&1 || {
		cat "$tmp/build"
		return 1
	}
	! grep -E 'warning|error' "$tmp/build"
}

# One of the benchmarks needs the headers of DPDK, which only `make bench` brings.
benchmarks=$(grep -L '"rings.h"' tools/bench/*.c)
flags="-D_GNU_SOURCE -O2 -Wall -Wextra -Werror -Iuapi -Ilib/include"
library() {
	for f in lib/*.c $benchmarks tools/demo/*.c tools/examples/*.c; do
		"$1" -std=c11 $flags -Ilib -c "$f" -o "$tmp/o" || return 1
	done
}

# The harness that the tests see here is a sketch of it; a program of 32 bits is
# checked as such.  To be ignored here, with the reason: cppcheck-suppress in a comment.
cppcheck_() {
	cppcheck -q -j "$(nproc)" --error-exitcode=1 --inline-suppr --std=c11 \
		--enable=warning,performance,portability -D_GNU_SOURCE \
		-Iuapi -Ilib/include -Ilib -Iselftests -Iselftests/unit -Iselftests/cppcheck "$@"
}

source_cppcheck() {
	cppcheck_ -D__x86_64__ lib/*.c tools/*/*.c selftests/*.c selftests/unit/*.c \
		selftests/fuzz/*.c selftests/gcov/*.c selftests/vm/vmexit.c &&
		cppcheck_ -D__i386__ selftests/vm/compat32.c
}

header() {
	printf '#include <linux/evering.h>\n#include <evering.h>\nint main(void) { return 0; }\n' >"$tmp/h.$2"
	"$1" $3 $flags -pedantic "$tmp/h.$2" -o "$tmp/o"
}

# The shared library exports what the header declares, and nothing else.
symbols() {
	headers="lib/include/evering.h $(echo lib/include/evering/*.h)"
	awk '/^static inline/ { inside = 1 }
		inside && match($0, /evering_[a-z_]+\(/) {
			print substr($0, RSTART, RLENGTH - 1); inside = 0
		}' $headers uapi/linux/evering.h | sort -u >"$tmp/inline"
	grep -ohE '\bevering_[a-z_]+\(' $headers | tr -d '(' | sort -u |
		comm -23 - "$tmp/inline" >"$tmp/declared"
	nm -D --defined-only build/lib/libevering.so | awk '$2 == "T" { sub(/@.*/, "", $3); print $3 }' |
		sort -u >"$tmp/exported"
	# Names in comments end in "()" as well, and are declared too.
	diff "$tmp/declared" "$tmp/exported"
}

# A checker that does not run finds nothing either.
checkpatch_works() {
	printf '/* SPDX-License-Identifier: GPL-2.0 */\nint x=1 ;\n' >"$tmp/bad.h"
	! checkpatch "$1" "$tmp/bad.h"
}

# In a test: what stands for the harness must not hide it.
cppcheck_works() {
	cat >"$tmp/bad.c" <<'BAD'
#include "evering_test.h"
TEST(bad)
{
	int fd[2] = { 0 }, i;

	for (i = 0; i <= 2; i++) {
		EXPECT_EQ(0, fd[i]) TH_LOG("%d", i);
	}
}
BAD
	! cppcheck_ "$tmp/bad.c" || return 1
	grep -q arrayIndexOutOfBounds "$tmp/out" || return 1
	sed -i 's/<= 2/< 2/' "$tmp/bad.c"
	cppcheck_ "$tmp/bad.c"
}

# A stranger's build of the README's client, which then asks for the module.
installed() {
	make -s install DESTDIR="$tmp/root" PREFIX=/usr || return 1
	export PKG_CONFIG_PATH="$tmp/root/usr/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$tmp/root"
	PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 \
		pkg-config --cflags --libs libevering >"$tmp/pkg" || return 1
	gcc -o "$tmp/client" build/vm/readme-client.c $(cat "$tmp/pkg") || return 1
	LD_LIBRARY_PATH="$tmp/root/usr/lib" "$tmp/client" 2>"$tmp/said"
	cat "$tmp/said"
	if [ -e /dev/evering ]; then
		grep -q 'Connection refused' "$tmp/said"
	else
		grep -q 'No such file' "$tmp/said"
	fi
}

checkpatch=$(selftests/vm/kernels.sh checkpatch) || exit 1
check "checkpatch finds a planted fault" checkpatch_works "$checkpatch"
for f in kmod/*.c kmod/*.h uapi/linux/*.h; do
	case $f in kmod/trace.h) continue ;; esac
	check "checkpatch $f" checkpatch "$checkpatch" "$PWD/$f"
done
check "module, Linux 6.1: W=1 and sparse" module 6.1
check "module, Linux 6.12: W=1 and sparse" module 6.12
check "library and tools with gcc" library gcc
check "library and tools with clang" library clang
check "cppcheck finds a planted fault, and nothing where there is none" cppcheck_works
check "library, tools and tests with cppcheck" source_cppcheck
check "headers in C11 (gcc)" header gcc c -std=c11
check "headers in C11 (clang)" header clang c -std=c11
check "headers in C++11" header g++ cc -std=c++11
check "headers in C++20" header g++ cc -std=c++20
check "exported symbols" symbols
check "installed shared library, by pkg-config" installed
echo "1..$n"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
