#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Checks the protocol model with SPIN: what must hold holds in every state, and
# each way to break the protocol is seen to break it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<USAGE
usage: run.sh [bounded|large]

  bounded	small bounds, under a minute on two cores (default)
  large		larger bounds as well, up to 15 minutes

One line for each configuration, then "N passed, N failed".  A configuration
that must hold passes only if SPIN has searched all of its states; one that must
fail passes only if SPIN finds the error that is expected there.  Exit status 0
only if all passed.

Environment:
  JOBS		configurations at a time (default 2)
  KEEP		a directory for logs and trails (default: none are kept)
USAGE
}

# Name, what is expected, -D of the model.  Expected is "holds", "progresses"
# (holds, and nobody runs for ever without a delivery), or what must go wrong:
#
#	asleep	a side sleeps for ever, or an entry is left in the ring
#	torn	half of an entry
#	order	an entry twice, or out of order, or stale
#	lost	the end is told before all that was committed
configurations_bounded() {
	cat <<'LIST'
one-slot		holds	N=1 MSGS=3 NOBODY_ENDS
two-slots		holds	N=2 MSGS=3 BATCH=2 WANT=2 NOBODY_ENDS
progress		progresses N=1 MSGS=2 NOBODY_ENDS
progress-events		progresses N=1 MSGS=1 SIGNALS=1 STRAYS=1 NOBODY_ENDS
skipped			holds	N=1 MSGS=2 SKIPS=1 NOBODY_ENDS
skipped-min		holds	N=2 MSGS=2 SKIPS=1 WANT=2 NOBODY_ENDS
signal			holds	N=1 MSGS=2 SIGNALS=1 NOBODY_ENDS
stray-wake		holds	N=1 MSGS=2 STRAYS=1 NOBODY_ENDS
end-drain		holds	N=2 MSGS=2 BATCH=2 WANT=2
end-either		holds	N=1 MSGS=2 QUITS=1
kill			holds	N=1 MSGS=2 KILLS=1 NOBODY_ENDS
consumer-polls		holds	N=1 MSGS=3 CONSUMER_POLLS NOBODY_ENDS
consumer-polls-end	holds	N=1 MSGS=2 CONSUMER_POLLS
consumer-polls-kill	holds	N=1 MSGS=1 CONSUMER_POLLS KILLS=1
producer-polls		holds	N=1 MSGS=3 PRODUCER_POLLS NOBODY_ENDS
producer-polls-end	holds	N=1 MSGS=2 PRODUCER_POLLS QUITS=1
NO_PRODUCER_BARRIER	asleep	N=1 MSGS=2 NOBODY_ENDS NO_PRODUCER_BARRIER
NO_KERNEL_BARRIER	asleep	N=1 MSGS=2 NOBODY_ENDS NO_KERNEL_BARRIER
NO_RELEASE_BARRIER	asleep	N=1 MSGS=2 NOBODY_ENDS NO_RELEASE_BARRIER
NO_POLL_BARRIER		asleep	N=1 MSGS=2 NOBODY_ENDS CONSUMER_POLLS NO_POLL_BARRIER
NO_POLL_BARRIER-space	asleep	N=1 MSGS=3 NOBODY_ENDS PRODUCER_POLLS NO_POLL_BARRIER
SPACE_OFF_BY_N		asleep	N=1 MSGS=2 NOBODY_ENDS SPACE_OFF_BY_N
WAKE_AT_OFF_BY_ONE	asleep	N=1 MSGS=2 NOBODY_ENDS WAKE_AT_OFF_BY_ONE
DOORBELL_CLEARS_WORD	asleep	N=1 MSGS=2 NOBODY_ENDS DOORBELL_CLEARS_WORD
UNLOCKED_RECHECK	asleep	N=1 MSGS=1 NOBODY_ENDS STRAYS=1 UNLOCKED_RECHECK
NO_PUBLISH_BEFORE_SLEEP	asleep	N=2 MSGS=3 WANT=2 NOBODY_ENDS NO_PUBLISH_BEFORE_SLEEP
PUBLISH_TOO_EARLY	asleep	N=1 MSGS=2 SKIPS=1 NOBODY_ENDS PUBLISH_TOO_EARLY
EXHAUSTED_NOT_SETTLED	asleep	N=2 MSGS=3 SKIPS=1 WANT=2 NOBODY_ENDS EXHAUSTED_NOT_SETTLED
POLL_ARM_ONLY_WHEN_NOT_READY asleep N=1 MSGS=2 NOBODY_ENDS CONSUMER_POLLS POLL_ARM_ONLY_WHEN_NOT_READY
POLL_KEYED		asleep	N=1 MSGS=2 NOBODY_ENDS CONSUMER_POLLS POLL_KEYED
NO_DEATH_WAKE		asleep	N=1 MSGS=1 NO_DEATH_WAKE
NO_SHUTDOWN_WAKE	asleep	N=1 MSGS=1 NO_SHUTDOWN_WAKE
RING_BEFORE_END		lost	N=1 MSGS=1 RING_BEFORE_END
NO_LAST_LOOK		lost	N=1 MSGS=1 NO_LAST_LOOK
STAMP_FIRST		torn	N=1 MSGS=2 NOBODY_ENDS STAMP_FIRST
PUBLISH_BEFORE_COPY	torn	N=1 MSGS=2 NOBODY_ENDS PUBLISH_BEFORE_COPY
NO_LAP			order	N=1 MSGS=2 NOBODY_ENDS NO_LAP
LIST
}

configurations_large() {
	cat <<'LIST'
large-one-slot		holds	N=1 MSGS=4 SIGNALS=1 BUFFER=8 NOBODY_ENDS
large-two-slots-laps	holds	N=2 MSGS=6 NOBODY_ENDS
large-two-slots		holds	N=2 MSGS=5 BATCH=2 WANT=2 BUFFER=8 NOBODY_ENDS
large-four-slots	holds	N=4 MSGS=6 BATCH=3 WANT=3 BUFFER=6 NOBODY_ENDS
large-progress		progresses N=2 MSGS=3 BATCH=2 WANT=2 NOBODY_ENDS
large-skipped		holds	N=2 MSGS=3 SKIPS=1 BATCH=2 WANT=2
large-all-events	holds	N=1 MSGS=1 KILLS=1 SIGNALS=1 QUITS=1 STRAYS=1
large-kill-ends		holds	N=1 MSGS=2 KILLS=1
large-kill-both		holds	N=1 MSGS=2 KILLS=2 NOBODY_ENDS
large-kill-two-slots	holds	N=2 MSGS=3 BATCH=2 WANT=2 KILLS=1 NOBODY_ENDS
large-consumer-polls	holds	N=2 MSGS=4 BATCH=2 CONSUMER_POLLS NOBODY_ENDS
large-consumer-polls-kill holds	N=1 MSGS=2 CONSUMER_POLLS KILLS=1 STRAYS=1
large-producer-polls	holds	N=2 MSGS=4 BATCH=2 PRODUCER_POLLS NOBODY_ENDS
large-producer-polls-kill holds	N=1 MSGS=2 PRODUCER_POLLS KILLS=1
LIST
}

# Runs SPIN; $1 is a directory, $2 the line.  Leaves "ok" or the reason there.
one() {
	dir=$1
	set -- $2
	# Compiling well takes longer than a small search.
	optimize=-O0 compress=
	case $1 in
	large-*) optimize=-O1 compress=-DCOLLAPSE ;;
	esac
	expect=$2
	shift 2
	defs= cc=-DSAFETY args=
	for def; do defs="$defs -D$def"; done
	[ "$expect" != progresses ] || { cc=-DNP args=-l; }

	cd "$dir"
	cp "$here/channel.pml" .
	# An error is an error, with or without a message.
	if ! spin $defs -a channel.pml >spin.log 2>&1 ||
	   grep -q -i error spin.log || [ ! -f pan.c ]; then
		echo "spin: $(head -1 spin.log)"
		return
	fi
	# -DNOREDUCE: partial order reduction does not know "unless".
	if ! gcc "$optimize" -w -DNOREDUCE $compress "-DMEMLIM=$megabytes" \
		$cc -o pan pan.c >cc.log 2>&1; then
		echo "gcc: $(head -1 cc.log)"
		return
	fi
	status=0
	/usr/bin/env time -f %U -o seconds \
		timeout "$seconds" ./pan -m20000 -w22 $args >pan.log 2>&1 ||
		status=$?
	verdict "$expect" "$status"
}

verdict() {
	case $1 in
	holds | progresses) error= ;;
	asleep)	error='(stopped|doomed)' ;;
	torn)	error='\(v==w\)' ;;
	order)	error='\(v==\(taken\+1\)\)' ;;
	lost)	error='\(taken==committed\)' ;;
	*)	echo "what is '$1'?"; return ;;
	esac
	found=$(grep -m 1 -E '^pan:[0-9]+: ' pan.log || :)
	if [ -n "$error" ]; then
		if echo "$found" | grep -q -E "assertion violated.*$error"; then
			echo ok
		else
			echo "no such error found: ${found:-none}"
		fi
	elif [ "$2" -ne 0 ] || [ -n "$found" ]; then
		echo "${found:-stopped with status $2}"
	elif grep -q -i -E 'search not completed|max search depth|out of memory|memory bound|memlim|bit statespace' pan.log ||
	     ! grep -q '^Full statespace search' pan.log; then
		echo 'not searched to the end'
	elif ! grep -q 'errors: 0$' pan.log; then
		echo 'no result'
	else
		echo ok
	fi
}

# "1234 states, 5 s" of a finished search
effort() {
	states=$(awk '/states, stored/ { print $1 }' "$1/pan.log" 2>/dev/null || :)
	printf '%s states, %s s' "${states:-0}" \
		"$(tail -1 "$1/seconds" 2>/dev/null || :)"
}

case ${1:-bounded} in
bounded) lists=configurations_bounded seconds=300 megabytes=900 ;;
large)	lists='configurations_bounded configurations_large'
	seconds=600 megabytes=4000 ;;
--one)	seconds=$4 megabytes=$5
	result=$(one "$2" "$3")
	echo "$result" >"$2/result"
	exit ;;
-h | --help) usage; exit 0 ;;
*)	usage >&2; exit 2 ;;
esac

for tool in spin gcc; do
	command -v "$tool" >/dev/null || {
		echo "run.sh: no $tool; apt-get install $tool" >&2
		exit 2
	}
done

tmp=$(mktemp -d)
jobs=
trap '[ -z "$jobs" ] || kill "$jobs" 2>/dev/null || :; rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM

total=0
for list in $lists; do
	"$list"
done >"$tmp/list"
while read -r line; do
	total=$((total + 1))
	mkdir "$tmp/$total"
	printf '%s\0%s\0' "$tmp/$total" "$line"
done <"$tmp/list" >"$tmp/queue"
total=$(wc -l <"$tmp/list")

# The arguments of --one: a directory, a line, and the same two for all.
xargs -0 -n 2 -P "${JOBS:-2}" sh -c \
	'exec "$1" --one "$4" "$5" "$2" "$3"' sh \
	"$here/run.sh" "$seconds" "$megabytes" <"$tmp/queue" &
jobs=$!

echo "1..$total"
passed=0 failed=0 i=0
while read -r name expect _; do
	i=$((i + 1))
	while [ ! -s "$tmp/$i/result" ] && kill -0 "$jobs" 2>/dev/null; do
		sleep 0.2
	done
	result=$(cat "$tmp/$i/result" 2>/dev/null || echo 'did not run')
	case $expect in
	holds | progresses) what= ;;
	*) what=', fails as it must' ;;
	esac
	if [ "$result" = ok ]; then
		passed=$((passed + 1))
		echo "ok $i $name # $(effort "$tmp/$i")$what"
	else
		failed=$((failed + 1))
		echo "not ok $i $name: $result # $(effort "$tmp/$i")"
	fi
	if [ -n "${KEEP:-}" ]; then
		mkdir -p "$KEEP/$name"
		cp "$tmp/$i"/*.log "$tmp/$i"/*.trail "$KEEP/$name" 2>/dev/null || :
	fi
done <"$tmp/list"
wait "$jobs" || :
jobs=
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -eq "$total" ]
