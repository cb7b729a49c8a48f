#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# The two programs of the README, as a reader would try them.
echo "1..1"
readme-server &
server=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
	out=$(readme-client 2>/dev/null) && break
	usleep 100000
done
kill $server
wait $server 2>/dev/null
if [ "$out" = "6 * 7 = 42" ]; then
	echo "ok 1 client and server of the README"
else
	echo "not ok 1 client and server of the README: $out"
fi
