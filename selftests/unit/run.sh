#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Runs TAP programs one after the other and adds up.
# usage: run.sh COMMAND...   each a program with its arguments, quoted
set -u
passed=0 failed=0 skipped=0
for command; do
	echo "   $command"
	out=$(timeout 300 $command 2>&1)
	rc=$?
	echo "$out"
	ok=$(echo "$out" | grep -cE '^ok ' )
	skip=$(echo "$out" | grep -cE '^ok .*# SKIP')
	bad=$(echo "$out" | grep -cE '^not ok ')
	plan=$(echo "$out" | sed -n 's/^1\.\.\([0-9]*\)$/\1/p' | head -n 1)
	# A sanitizer or valgrind speaks by the exit status.
	if [ "$rc" != 0 ] && [ "$bad" = 0 ]; then
		echo "not ok - $command: exit status $rc"
		bad=1
	fi
	if [ "$((ok + bad))" -lt "${plan:-1}" ]; then
		echo "not ok - $command: ${plan:-no} tests announced, $((ok + bad)) results"
		bad=$((bad + 1))
	fi
	passed=$((passed + ok - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
