#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The pairings of lib/memory-order.md in the memory model of the Linux kernel: each
# *.litmus must never end as its last line says; and with one of the lines that have an
# "else" replaced by what stands there, it must be possible.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<USAGE
usage: run.sh

Runs herd7 (\$HERD, or the one in the path) on each litmus test here, and on each with
one of its barriers or orders taken out.  Last line: N passed, N failed.

herd7 is not in Debian 12; 7.57 builds there from
https://github.com/herd/herdtools7 (tag 7.57) in five minutes:

  apt-get install ocaml-nox ocaml-dune menhir libmenhir-ocaml-dev \\
          libzarith-ocaml-dev ocaml-findlib
  sh version-gen.sh \$PWD/prefix && dune build --profile release herd/herd.exe
  HERD="\$PWD/_build/default/herd/herd.exe -set-libdir \$PWD/herd/libdir" make litmus
USAGE
}

case ${1:-} in
-h|--help) usage; exit 0 ;;
'') ;;
*) usage >&2; exit 2 ;;
esac
herd=${HERD:-herd7}
command -v ${herd%% *} >/dev/null || {
	echo "run.sh: no herd7" >&2
	usage >&2
	exit 1
}
model=$("$here/../../vm/kernels.sh" memory-model)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
passed=0 failed=0

# observe NAME FILE EXPECTED: its comments are not for herd7
observe() {
	sed 's|[[:space:]]*//.*||' "$2" >"$tmp/$1.litmus"
	found=$(cd "$model" && $herd -conf linux-kernel.cfg "$tmp/$1.litmus" 2>&1 |
		sed -n 's/^Observation [^ ]* \([A-Za-z]*\) .*/\1/p')
	if [ "$found" = "$3" ]; then
		passed=$((passed + 1))
		echo "ok $1: $3"
	else
		failed=$((failed + 1))
		echo "not ok $1: ${found:-no answer}, not $3"
	fi
}

for test in "$here"/*.litmus; do
	name=$(basename "$test" .litmus)
	observe "$name" "$test" Never
	n=0
	for line in $(grep -n '// else' "$test" | cut -d: -f1); do
		n=$((n + 1))
		sed "${line}s|^\([[:space:]]*\).*// else *|\1|" "$test" >"$tmp/without"
		observe "$name-without-$n" "$tmp/without" Sometimes
	done
	[ "$n" -gt 0 ] || { echo "not ok $name: nothing to take out"; failed=$((failed + 1)); }
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
