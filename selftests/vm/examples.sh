#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The programs of tools/examples, as a reader would try them.
n=0

result() {
	n=$((n + 1))
	if [ "$1" = "$2" ]; then
		echo "ok $n $3"
	else
		echo "not ok $n $3: '$1', not '$2'"
	fi
}

# Until @1 succeeds, for two seconds: whom it needs may not be there yet.
try() {
	for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		out=$("$@" 2>/dev/null) && break
		usleep 100000
	done
}

echo "1..5"
positions serve &
server=$!
try positions ask 1001
result "$out" "middle of 1001: 500, 1000" "typed requests"
positions ask 1000000 2>/tmp/out
result "$(cat /tmp/out)" "positions: alloc: Cannot allocate memory" "more than the heap has"
kill $server
wait $server 2>/dev/null

workqueue submit 2000 >/tmp/submitted &
submitter=$!
try sh -c 'workqueue work >/tmp/first & worker=$!; usleep 200000; kill -9 $worker; [ -s /tmp/first ]'
workqueue work >/tmp/second &
workqueue work >/tmp/third &
wait $submitter
wait
result "$(cat /tmp/submitted)" "2000 jobs are done" "a work queue with leases"
# None is missing, though a worker was killed in the middle.
result "$(cat /tmp/first /tmp/second /tmp/third | sed 's/:.*//' | sort -u | grep -c '^job [0-9]')" \
	2000 "every job, of a worker that was killed too"

ticker publish 300 &
usleep 100000
ticker latest >/tmp/latest &
follower=$!
try ticker follow
wait $follower
wait
case $out in
*" prices, 0 missed; the last of evering: 102.99") result ok ok "a topic" ;;
*) result "$out" "the last of evering: 102.99" "a topic" ;;
esac
