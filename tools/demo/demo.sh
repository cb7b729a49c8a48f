#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# What `make demo` runs in the virtual machine.  Lines after "# show:" are for
# the person; the rest is TAP for the runner.
file=/bin/vmlinuz
n=0
result() {
	n=$((n + 1))
	if [ "$1" = 0 ]; then echo "ok $n $2"; else echo "not ok $n $2"; fi
}
say() { echo "# show: $*"; }
# shown COMMAND...: its output for the person, its status for us
shown() {
	"$@" >/tmp/out 2>&1
	status=$?
	sed 's/^/# show: /' /tmp/out
	return $status
}
counters() {
	(cd /sys/class/misc/evering &&
		echo "urings $(cat urings), endpoints $(cat endpoints), services $(cat services), bytes $(cat bytes)")
}

echo "1..6"
say "evering on Linux $(uname -r), $(nproc) CPUs, in QEMU"
say ""
sha=$(sha256sum $file | cut -d' ' -f1)
evr-digest-server demo &
server=$!
while ! evr-digest -d 1 demo /etc/run >/dev/null 2>&1; do usleep 50000; done

say "A kernel image of $(stat -c %s $file) bytes goes to the digest server, many requests in flight:"
shown evr-digest -d 32 -c "$sha" demo $file
result $? "32 in flight"
say ""
say "The same with one in flight:"
shown evr-digest -d 1 -c "$sha" demo $file
result $? "one in flight"
say ""
say "And once more, but the server is killed in mid-run:"
shown evr-digest -k demo $file
result $? "the client knows of the server's death"
wait $server 2>/dev/null
[ $? = 137 ]
result $? "the server was killed"
shown evr-digest demo $file
[ $? = 1 ]
result $? "nobody listens any more, and that is told"
for _ in 1 2 3 4 5 6 7 8 9 10; do
	now=$(counters)
	[ "$now" = "urings 0, endpoints 0, services 0, bytes 0" ] && break
	usleep 100000
done
say "  the module's counters: $now"
[ "$now" = "urings 0, endpoints 0, services 0, bytes 0" ]
result $? "nothing is left behind"
