#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What the library reads of a peer, fuzzed; and faults in copies of it, to be found.
# Last line: N passed, N failed, N skipped.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
seconds=10

usage() {
	cat <<USAGE
usage: peers.sh [-t SECONDS] DIRECTORY

Builds the fuzzers in DIRECTORY (clang, libFuzzer, the address and undefined behaviour
sanitizers), runs each for SECONDS (default $seconds) from its corpus on, and then on
libraries with a planted fault until it is found, for at most a minute.  What was found
is left in DIRECTORY; run the fuzzer there with that file as its argument.

corpus/NAME has one input a line, in hexadecimal digits.
USAGE
}

while getopts t:h option; do
	case $option in
	t) seconds=$OPTARG ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ $# = 1 ] || { usage >&2; exit 2; }
mkdir -p "$1"
work=$(cd "$1" && pwd)
cd "$here/../.."
passed=0 failed=0

compile="clang -std=c11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -pthread
	-fno-sanitize-recover=all -Iuapi -Ilib/include -Iselftests -Iselftests/unit
	-Iselftests/fuzz"

# The library's objects, once.
objects() {
	rm -rf "$work/obj"
	mkdir "$work/obj"
	ls lib/*.c | xargs -P 2 -I{} sh -c '
		$1 -fsanitize=fuzzer-no-link,address,undefined -Ilib \
			-c -o "$2/$(basename "$3" .c).o" "$3"' sh "$compile" "$work/obj" {}
}

# build LIBRARY NAME [SOURCE]: with SOURCE as it is in LIBRARY.  What the fuzzer has in
# itself is left out.
build() {
	own= planted=
	[ "$2" != topic ] || own=subscriber
	[ -z "${3:-}" ] || [ "$3" = "$own.c" ] || { own=${3%.c} planted=$1/$3; }
	$compile -fsanitize=fuzzer,address,undefined "-I$1" -o "$work/$2" \
		"selftests/fuzz/peer_$2.c" $planted $(ls "$work/obj"/*.o | grep -v "/$own\.o\$")
}

# fuzz NAME SECONDS: exit status 0 if nothing was found
fuzz() {
	rm -rf "$work/corpus"
	mkdir "$work/corpus"
	DIR=$work/corpus perl -ne 'chomp; open my $f, ">", "$ENV{DIR}/$." or die;
		print $f pack "H*", $_; close $f' <"$here/corpus/$1"
	"$work/$1" "-artifact_prefix=$work/" -max_len=600 "-max_total_time=$2" \
		"$work/corpus" >"$work/$1.log" 2>&1
}

result() {
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		echo "ok $((passed + failed)) $2"
	else
		failed=$((failed + 1))
		echo "not ok $((passed + failed)) $2"
		tail -n 20 "$work/$3.log" | sed 's/^/# /'
	fi
}

# plant NAME FILE SED WHAT: it is found
plant() {
	rm -rf "$work/lib"
	cp -r lib "$work/lib"
	sed -i "$3" "$work/lib/$2"
	if cmp -s "$work/lib/$2" "lib/$2"; then
		echo "not planted" >"$work/$1.log"
		result 1 "$4" "$1"
		return
	fi
	build "$work/lib" "$1" "$2"
	fuzz "$1" 60 || :
	status=0
	grep -qE 'not so:|ERROR: AddressSanitizer' "$work/$1.log" || status=1
	result "$status" "found: $4" "$1"
}

echo 1..7
objects
for name in channel topic envelope; do
	build lib "$name"
	status=0
	fuzz "$name" "$seconds" || status=1
	result "$status" "$name, $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$work/$name.log") inputs" "$name"
done
plant channel lend.c 's/if (!at || !evr_is_sent(.*$/if (!at)/' \
	'a completion that frees what was not sent'
plant channel lend.c 's/if (!block || block->state != EVR_BLOCK_LENT ||/if (!block ||/' \
	'a release of what was not lent'
plant topic subscriber.c 's/len > s->size - offset/len > s->size/' \
	'a payload that ends beyond the heap'
plant envelope envelope.c 's/envelope->len > size/envelope->len > size + 1/' 'a body that ends beyond what is there'
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
