#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Checks the models of the protocol with SPIN: what must hold holds in every
# state, and each way to break the protocol is seen to break it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<USAGE
usage: run.sh [bounded|large]

  bounded	small bounds, about two minutes on two cores (default)
  large		larger bounds as well, up to 25 minutes

One line for each configuration, then "N passed, N failed".  A configuration
that must hold passes only if SPIN has searched all of its states; one that must
fail passes only if SPIN finds the error that is expected there.  Exit status 0
only if all passed.

Environment:
  JOBS		configurations at a time (default 2)
  KEEP		a directory for logs and trails (default: none are kept)
USAGE
}

# Name, model, what is expected, -D of the model.  F and a number in a name: the
# list of what once broke the protocol, in README.  Expected is "holds",
# "progresses" (holds, and nobody runs for ever without a delivery, or in the
# model multi without anybody's having changed anything), or what must go wrong:
#
#	asleep	somebody sleeps for ever, or an entry is left in the ring
#	torn	half of an entry
#	order	an entry twice, or out of order, or stale, or never sent
#	lost	the end is told before all that was committed
#	late	an entry is committed after the end was told
#	lie	an honest peer is called a liar
#	astray	a cursor is not where the claims end
#	miscounted a lost entry is not counted, or an empty slot is, or deliveries
#	crowd	more are woken than there is to get
#	endless	somebody runs for ever and nothing changes
configurations_bounded() {
	cat <<'LIST'
one-slot		channel holds	N=1 MSGS=3 NOBODY_ENDS
two-slots		channel holds	N=2 MSGS=3 BATCH=2 WANT=2 NOBODY_ENDS
progress		channel progresses N=1 MSGS=2 NOBODY_ENDS
progress-events		channel progresses N=1 MSGS=1 SIGNALS=1 STRAYS=1 NOBODY_ENDS
skipped			channel holds	N=1 MSGS=2 SKIPS=1 NOBODY_ENDS
skipped-min		channel holds	N=2 MSGS=2 SKIPS=1 WANT=2 NOBODY_ENDS
signal			channel holds	N=1 MSGS=2 SIGNALS=1 NOBODY_ENDS
stray-wake		channel holds	N=1 MSGS=2 STRAYS=1 NOBODY_ENDS
end-drain		channel holds	N=2 MSGS=2 BATCH=2 WANT=2
end-either		channel holds	N=1 MSGS=2 QUITS=1
kill			channel holds	N=1 MSGS=2 KILLS=1 NOBODY_ENDS
consumer-polls		channel holds	N=1 MSGS=3 CONSUMER_POLLS NOBODY_ENDS
consumer-polls-end	channel holds	N=1 MSGS=2 CONSUMER_POLLS
consumer-polls-kill	channel holds	N=1 MSGS=1 CONSUMER_POLLS KILLS=1
producer-polls		channel holds	N=1 MSGS=3 PRODUCER_POLLS NOBODY_ENDS
producer-polls-end	channel holds	N=1 MSGS=2 PRODUCER_POLLS QUITS=1
NO_PRODUCER_BARRIER	channel asleep	N=1 MSGS=2 NOBODY_ENDS NO_PRODUCER_BARRIER
NO_KERNEL_BARRIER	channel asleep	N=1 MSGS=2 NOBODY_ENDS NO_KERNEL_BARRIER
NO_RELEASE_BARRIER	channel asleep	N=1 MSGS=2 NOBODY_ENDS NO_RELEASE_BARRIER
NO_POLL_BARRIER		channel asleep	N=1 MSGS=2 NOBODY_ENDS CONSUMER_POLLS NO_POLL_BARRIER
NO_POLL_BARRIER-space	channel asleep	N=1 MSGS=3 NOBODY_ENDS PRODUCER_POLLS NO_POLL_BARRIER
SPACE_OFF_BY_N		channel asleep	N=1 MSGS=2 NOBODY_ENDS SPACE_OFF_BY_N
WAKE_AT_OFF_BY_ONE	channel asleep	N=1 MSGS=2 NOBODY_ENDS WAKE_AT_OFF_BY_ONE
DOORBELL_CLEARS_WORD	channel asleep	N=1 MSGS=2 NOBODY_ENDS DOORBELL_CLEARS_WORD
UNLOCKED_RECHECK	channel asleep	N=1 MSGS=1 NOBODY_ENDS STRAYS=1 UNLOCKED_RECHECK
NO_PUBLISH_BEFORE_SLEEP	channel asleep	N=2 MSGS=3 WANT=2 NOBODY_ENDS NO_PUBLISH_BEFORE_SLEEP
PUBLISH_TOO_EARLY	channel asleep	N=1 MSGS=2 SKIPS=1 NOBODY_ENDS PUBLISH_TOO_EARLY
EXHAUSTED_NOT_SETTLED	channel asleep	N=2 MSGS=3 SKIPS=1 WANT=2 NOBODY_ENDS EXHAUSTED_NOT_SETTLED
POLL_ARM_ONLY_WHEN_NOT_READY channel asleep N=1 MSGS=2 NOBODY_ENDS CONSUMER_POLLS POLL_ARM_ONLY_WHEN_NOT_READY
POLL_KEYED		channel asleep	N=1 MSGS=2 NOBODY_ENDS CONSUMER_POLLS POLL_KEYED
NO_DEATH_WAKE		channel asleep	N=1 MSGS=1 NO_DEATH_WAKE
NO_SHUTDOWN_WAKE	channel asleep	N=1 MSGS=1 NO_SHUTDOWN_WAKE
RING_BEFORE_END		channel lost	N=1 MSGS=1 RING_BEFORE_END
NO_LAST_LOOK		channel lost	N=1 MSGS=1 NO_LAST_LOOK
STAMP_FIRST		channel torn	N=1 MSGS=2 NOBODY_ENDS STAMP_FIRST
PUBLISH_BEFORE_COPY	channel torn	N=1 MSGS=2 NOBODY_ENDS PUBLISH_BEFORE_COPY
NO_LAP			channel order	N=1 MSGS=2 NOBODY_ENDS NO_LAP
multi			multi holds	MSGS=2 PRODUCERS=1
multi-progress-2x1	multi progresses CONSUMERS=1 MSGS=1 KILLS=1
multi-batch-2x1		multi holds	CONSUMERS=1 MSGS=2 BATCH=2
multi-cancel-2x1	multi holds	CONSUMERS=1 SKIPS=1
multi-close-2x1		multi holds	CONSUMERS=1 CLOSES
multi-kill-1x2		multi holds	PRODUCERS=1 MSGS=3 KILLS=1
multi-kill-close-1x2	multi holds	PRODUCERS=1 KILLS=1 CLOSES
multi-kill-batch-1x2	multi holds	PRODUCERS=1 MSGS=4 BATCH=2 WHOLE KILLS=1
multi-kills-1x1		multi holds	PRODUCERS=1 CONSUMERS=1 MSGS=4 BATCH=2 KILLS=2 SKIPS=1
multi-four-1x1		multi holds	N=4 PRODUCERS=1 CONSUMERS=1 MSGS=6 BATCH=3 WHOLE KILLS=1
multi-new-name		multi holds	PRODUCERS=1 CONSUMERS=1 MSGS=3 BATCH=2 KILLS=1 NEW_NAME
multi-judge-strictly	multi holds	CONSUMERS=1 JUDGE_STRICTLY
F2-ROOM_FIRST		multi lie	PRODUCERS=1 CONSUMERS=1 KILLS=1 HEAL_DOES_NOT_HELP ROOM_FIRST
F1-READY_FIRST		multi asleep	PRODUCERS=1 CONSUMERS=1 MSGS=3 KILLS=1 HEAL_DOES_NOT_HELP READY_FIRST
F2-PRODUCER_DOES_NOT_HELP multi lie	CONSUMERS=1 KILLS=1 HEAL_DOES_NOT_HELP PRODUCER_DOES_NOT_HELP
F1-CONSUMER_DOES_NOT_HELP multi asleep	PRODUCERS=1 CONSUMERS=1 KILLS=1 HEAL_DOES_NOT_HELP CONSUMER_DOES_NOT_HELP
F2-HELP_BY_ONE		multi astray	BATCH=2 HELP_BY_ONE
PLAIN_CURSOR		multi astray	CONSUMERS=1 MSGS=3 PLAIN_CURSOR
F11-NO_RELOAD		multi lie	CONSUMERS=1 MSGS=3 NO_RELOAD
F11-RELOAD_ONLY_CURSOR	multi lie	CONSUMERS=1 JUDGE_STRICTLY RELOAD_ONLY_CURSOR
F11-RELOAD_ONLY_CURSOR-take multi lie	PRODUCERS=1 JUDGE_STRICTLY RELOAD_ONLY_CURSOR
FIRST_STAMP_FIRST	multi torn	PRODUCERS=1 CONSUMERS=1 BATCH=2 KILLS=1 FIRST_STAMP_FIRST
FIRST_CLAIM_FIRST	multi torn	PRODUCERS=1 CONSUMERS=1 BATCH=2 KILLS=1 FIRST_CLAIM_FIRST
HEAL_FIRST_FIRST	multi order	PRODUCERS=1 CONSUMERS=1 BATCH=2 KILLS=1 HEAL_FIRST_FIRST
F8-NAME_REUSED		multi torn	PRODUCERS=1 CONSUMERS=1 KILLS=1 NAME_REUSED
NO_INNER_CLAIM		multi torn	PRODUCERS=1 CONSUMERS=1 MSGS=4 BATCH=2 NO_INNER_CLAIM
F7-NO_CLOSED_LOOK	multi late	CLOSES NO_CLOSED_LOOK
F7-NO_SECOND_LOOK	multi lost	CLOSES NO_SECOND_LOOK
F7-CLOSE_IN_TWO_STEPS	multi asleep	CONSUMERS=1 KILLS=1 CLOSES CLOSE_IN_TWO_STEPS
F9-SKIPPED_IS_LOST	multi miscounted PRODUCERS=1 CONSUMERS=1 KILLS=1 SKIPS=1 SKIPPED_IS_LOST
lease-1x2		multi holds	LEASES PRODUCERS=1 KILLS=1 NACKS=1
lease-2x1		multi holds	LEASES CONSUMERS=1 MSGS=1 KILLS=1 NACKS=1
lease-stays-dead	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 NACKS=1 STAYS_DEAD
lease-bulk		multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 BATCH=2 KILLS=1 STAYS_DEAD
lease-claims		multi holds	LEASES N=4 PRODUCERS=1 CONSUMERS=1 MSGS=5 BATCH=3 TAKES=3 WHOLE KILLS=1 SKIPS=1 NEW_NAME
lease-progress		multi progresses LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 NACKS=1 STAYS_DEAD
lease-new-name		multi holds	LEASES PRODUCERS=1 CONSUMERS=1 MSGS=2 BATCH=2 KILLS=1 NACKS=1 NEW_NAME
lease-retaken		multi holds	LEASES PRODUCERS=1 CONSUMERS=1 MSGS=2 KILLS=2 NACKS=2
lease-walker		multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 NACKS=1 WALKER
lease-holds		multi progresses LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 STAYS_DEAD HOLDS
lease-end-bell		multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 NACKS=1 STAYS_DEAD END_BELL
lease-end-bell-bulk	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 BATCH=2 SKIPS=1 END_BELL
single-producer		multi progresses SINGLE_PRODUCER PRODUCERS=1 MSGS=3 KILLS=1
single-producer-batch	multi holds	SINGLE_PRODUCER PRODUCERS=1 BATCH=2 KILLS=1 SKIPS=1
single-producer-restart	multi holds	SINGLE_PRODUCER PRODUCERS=1 BATCH=2 KILLS=1 RESTARTS
single-consumer		multi holds	SINGLE_CONSUMER CONSUMERS=1 KILLS=1
single-consumer-progress multi progresses SINGLE_CONSUMER CONSUMERS=1 MSGS=1 BATCH=1 KILLS=1 SKIPS=1
single-consumer-batch	multi holds	SINGLE_CONSUMER PRODUCERS=1 CONSUMERS=1 MSGS=4 BATCH=2 KILLS=1 SKIPS=1
single-consumer-close	multi holds	SINGLE_CONSUMER CONSUMERS=1 MSGS=1 CLOSES KILLS=1
liar			multi progresses LIAR PRODUCERS=1 LIE_STATES=2 LIE_LAPS=2
liar-lease		multi progresses LIAR PRODUCERS=1 LIES=2 LIE_STATES=2 LIE_LAPS=2 LEASES KILLS=1
liar-single-consumer	multi progresses LIAR PRODUCERS=1 CONSUMERS=1 SINGLE_CONSUMER
liar-consumer		multi progresses LIAR_CONSUMER CONSUMERS=1 LIES=1
liar-head		multi progresses LIAR_CONSUMER CONSUMERS=1 LIES=1 SINGLE_CONSUMER
liar-count		multi progresses LIAR PRODUCERS=1 CONSUMERS=1 BATCH=2 LIES=2 LIE_STATES=2 LIE_LAPS=2 LIE_COUNTS=2
liar-consumer-count	multi progresses LIAR_CONSUMER CONSUMERS=1 BATCH=2 LIES=1 LIE_COUNTS=2
F3-ROOM_BY_HEAD		multi torn	SINGLE_PRODUCER PRODUCERS=1 MSGS=3 ROOM_BY_HEAD
F4-ORPHANS_NOT_SCANNED	multi asleep	LEASES PRODUCERS=1 CONSUMERS=1 MSGS=3 KILLS=1 ORPHANS_NOT_SCANNED
F4-SEQ_READ_AFTER_SCAN	multi asleep	LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 NACKS=1 STAYS_DEAD SEQ_READ_AFTER_SCAN
F4-NO_SEQ_AFTER_HEAL	multi asleep	LEASES PRODUCERS=1 CONSUMERS=1 MSGS=1 KILLS=1 NACKS=1 NO_SEQ_AFTER_HEAL
F4-END_IGNORES_LEASES	multi lost	LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 END_IGNORES_LEASES
HEAL_KEEPS_COUNT	multi torn	LEASES PRODUCERS=1 CONSUMERS=1 MSGS=3 BATCH=2 KILLS=1 SKIPS=1 HEAL_KEEPS_COUNT
HEAL_LEASE_FIRST_FIRST	multi lost	LEASES SINGLE_PRODUCER PRODUCERS=1 BATCH=2 KILLS=1 SKIPS=1 STAYS_DEAD HEAL_LEASE_FIRST_FIRST
END_SCANS_FROM_ZERO	multi lost	LEASES SINGLE_PRODUCER PRODUCERS=1 MSGS=3 BATCH=2 KILLS=1 SKIPS=1 STAYS_DEAD END_SCANS_FROM_ZERO
ORPHAN_COUNTS_AS_SLOTS	multi miscounted LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 NACKS=1 ORPHAN_COUNTS_AS_SLOTS
ORPHAN_COUNTS_AS_SLOTS-walk multi astray LEASES SINGLE_PRODUCER PRODUCERS=1 NACKS=1 WALKER ORPHAN_COUNTS_AS_SLOTS
NO_END_BELL		multi asleep	LEASES SINGLE_PRODUCER PRODUCERS=1 END_BELL NO_END_BELL
ACKS_ALONE_RING		multi asleep	LEASES SINGLE_PRODUCER PRODUCERS=1 SKIPS=1 END_BELL ACKS_ALONE_RING
ACKS_ALONE_RING-bulk	multi asleep	LEASES SINGLE_PRODUCER PRODUCERS=1 BATCH=2 END_BELL ACKS_ALONE_RING
HOLDERS_SLEEP		multi asleep	LEASES SINGLE_PRODUCER PRODUCERS=1 HOLDS HOLDERS_SLEEP
F6-NO_TAIL_WALK		multi astray	SINGLE_PRODUCER PRODUCERS=1 KILLS=1 RESTARTS NO_TAIL_WALK
PUBLISH_TOO_EARLY-many	multi torn	SINGLE_CONSUMER PRODUCERS=1 CONSUMERS=1 MSGS=3 PUBLISH_TOO_EARLY
F26-HEAL_OF_ANYBODY	multi torn	PRODUCERS=1 KILLS=1 HEAL_OF_ANYBODY
F11-ENDLESS_BUSY	multi endless	LIAR PRODUCERS=1 LIE_STATES=2 LIE_LAPS=2 ENDLESS_BUSY
F11-ROOM_NOT_OWN	multi endless	LIAR_CONSUMER CONSUMERS=1 ROOM_NOT_OWN
F11-ROOM_NOT_OWN-head	multi endless	LIAR_CONSUMER CONSUMERS=1 SINGLE_CONSUMER ROOM_NOT_OWN
ROOM_STAYS		multi torn	CONSUMERS=1 MSGS=2 ROOM_STAYS
ONLY_RESERVED		multi lost	SINGLE_CONSUMER CONSUMERS=1 MSGS=1 SKIPS=1 CLOSES ONLY_RESERVED
NO_INNER_STAMP		multi torn	LIAR_CONSUMER CONSUMERS=1 BATCH=2 LIES=2 NO_INNER_STAMP
queue-1x2		queue_wait holds	PRODUCERS=1 MSGS=2
queue-2x1		queue_wait holds	CONSUMERS=1 N=1
queue-progress		queue_wait progresses PRODUCERS=1
queue-signal-1x2	queue_wait holds	PRODUCERS=1 SIGNALS=1
queue-signal-2x1	queue_wait holds	CONSUMERS=1 N=1 SIGNALS=1
queue-kill-1x2		queue_wait holds	PRODUCERS=1 KILLS=1
queue-kill-2x1		queue_wait holds	CONSUMERS=1 N=1 KILLS=1 COARSE
queue-close-1x2		queue_wait holds	PRODUCERS=1 CLOSES
queue-close-kill	queue_wait holds	PRODUCERS=1 CONSUMERS=1 CLOSES KILLS=1
queue-stray		queue_wait holds	PRODUCERS=1 STRAYS=1
queue-polls		queue_wait holds	PRODUCERS=1 MSGS=2 POLLERS=2
queue-polls-and-sleeps	queue_wait holds	PRODUCERS=1 MSGS=2 POLLERS=1
queue-polls-kill	queue_wait holds	PRODUCERS=1 POLLERS=1 KILLS=1
queue-polls-close	queue_wait holds	PRODUCERS=1 CONSUMERS=1 POLLERS=1 CLOSES
queue-given-stays	queue_wait holds	PRODUCERS=1 KILLS=1 WAKE_ALL_KEEPS_GIVEN
queue-leases		queue_wait holds	PRODUCERS=1 LEASES NACKS=1
queue-leases-kill	queue_wait holds	PRODUCERS=1 LEASES KILLS=1
ORPHANS_COUNTED		queue_wait asleep	PRODUCERS=1 CONSUMERS=3 MSGS=2 LEASES NACKS=1 COARSE ORPHANS_COUNTED
F15-LOOK_AT_HEAD	queue_wait asleep	LOOK_AT_HEAD
F16-COUNT_FROM_COMMIT	queue_wait asleep	COUNT_FROM_COMMIT
READY_WALKS_ONCE	queue_wait asleep	PRODUCERS=1 MSGS=2 READY_WALKS_ONCE
NEWS_WALKS_ONCE		queue_wait asleep	NEWS_WALKS_ONCE
F18-NO_DEATH_WAKE-queue	queue_wait asleep	CONSUMERS=1 KILLS=1 NO_DEATH_WAKE
NO_PASS_ON		queue_wait asleep	PRODUCERS=1 SIGNALS=1 NO_PASS_ON
PASS_ON_KEEPS_GIVEN	queue_wait asleep	PRODUCERS=1 SIGNALS=1 PASS_ON_KEEPS_GIVEN
F16-GIVEN_NOT_CLAMPED	queue_wait asleep	PRODUCERS=1 MSGS=2 GIVEN_NOT_CLAMPED
F16-NO_GIVEN		queue_wait crowd	PRODUCERS=1 CONSUMERS=3 MSGS=2 NO_GIVEN
NO_RESTORE		queue_wait asleep	PRODUCERS=1 MSGS=3 NO_RESTORE
F22-NO_PRODUCER_BARRIER-queue queue_wait asleep	PRODUCERS=1 CONSUMERS=1 NO_PRODUCER_BARRIER
F22-NO_KERNEL_BARRIER-queue queue_wait asleep	PRODUCERS=1 CONSUMERS=1 NO_KERNEL_BARRIER
F22-NO_RELEASE_BARRIER-queue queue_wait asleep	PRODUCERS=1 CONSUMERS=1 N=1 MSGS=2 NO_RELEASE_BARRIER
F20-SPACE_OFF_BY_N-queue queue_wait asleep	PRODUCERS=1 CONSUMERS=1 N=1 MSGS=2 SPACE_OFF_BY_N
F19-POLL_ARM_ONLY_WHEN_NOT_READY-queue queue_wait asleep	PRODUCERS=1 CONSUMERS=1 N=1 MSGS=2 POLLERS=1 POLL_ARM_ONLY_WHEN_NOT_READY
F19-DISARM_WAKES_ONE	queue_wait asleep	PRODUCERS=1 MSGS=2 POLLERS=2 DISARM_WAKES_ONE
END_WAKES_ONE		queue_wait asleep	PRODUCERS=1 CLOSES END_WAKES_ONE
NO_SKIP_RING		queue_wait asleep	PRODUCERS=1 CONSUMERS=1 CLOSES NO_SKIP_RING
release			release holds	LENDS=6
release-one		release holds	ENTRIES=1
release-liar		release holds	LIES=2
release-cancel		release holds	CANCELS=1 LIES=1
UNSENT_COMES_BACK	release order	LIES=1 UNSENT_COMES_BACK
NO_LIMIT		release order	NO_LIMIT
TAIL_FIRST		release order	TAIL_FIRST
RELEASE_BEFORE_READ	release torn	RELEASE_BEFORE_READ
NO_GENERATION		release order	LIES=1 NO_GENERATION
topic			topic holds
topic-kill		topic holds	KILLS=1
topic-cancel		topic holds	CANCELS=1 MSGS=3
F5-NO_FLOOR		topic torn	NO_FLOOR
F5-FLOOR_LATE		topic torn	FLOOR_LATE
F5-NOT_CHECKED		topic torn	NOT_CHECKED
F5-SLOT_KEEPS		topic torn	SLOT_KEEPS
F5-WRAP_KEEPS		topic torn	N=4 CELLS=5 MSGS=6 WRAP_KEEPS
LIST
}

configurations_large() {
	cat <<'LIST'
large-one-slot		channel holds	N=1 MSGS=4 SIGNALS=1 BUFFER=8 NOBODY_ENDS
large-two-slots-laps	channel holds	N=2 MSGS=6 NOBODY_ENDS
large-two-slots		channel holds	N=2 MSGS=5 BATCH=2 WANT=2 BUFFER=8 NOBODY_ENDS
large-four-slots	channel holds	N=4 MSGS=6 BATCH=3 WANT=3 BUFFER=6 NOBODY_ENDS
large-progress		channel progresses N=2 MSGS=3 BATCH=2 WANT=2 NOBODY_ENDS
large-skipped		channel holds	N=2 MSGS=3 SKIPS=1 BATCH=2 WANT=2
large-all-events	channel holds	N=1 MSGS=1 KILLS=1 SIGNALS=1 QUITS=1 STRAYS=1
large-kill-ends		channel holds	N=1 MSGS=2 KILLS=1
large-kill-both		channel holds	N=1 MSGS=2 KILLS=2 NOBODY_ENDS
large-kill-two-slots	channel holds	N=2 MSGS=3 BATCH=2 WANT=2 KILLS=1 NOBODY_ENDS
large-consumer-polls	channel holds	N=2 MSGS=4 BATCH=2 CONSUMER_POLLS NOBODY_ENDS
large-consumer-polls-kill channel holds	N=1 MSGS=2 CONSUMER_POLLS KILLS=1 STRAYS=1
large-producer-polls	channel holds	N=2 MSGS=4 BATCH=2 PRODUCER_POLLS NOBODY_ENDS
large-producer-polls-kill channel holds	N=1 MSGS=2 PRODUCER_POLLS KILLS=1
large-multi		multi holds	MSGS=2
large-multi-progress-kill multi progresses MSGS=1 KILLS=1
large-multi-progress	multi progresses MSGS=2
large-multi-progress-2x1 multi progresses CONSUMERS=1 KILLS=1
large-multi-kill-close-1x2 multi holds	PRODUCERS=1 MSGS=3 KILLS=1 CLOSES
large-multi-kills	multi holds	MSGS=1 KILLS=2
large-multi-kill-cancel-2x1 multi holds	CONSUMERS=1 KILLS=1 SKIPS=1
large-multi-kill-batch-2x1 multi holds	CONSUMERS=1 BATCH=2 KILLS=1
large-multi-close	multi holds	MSGS=1 CLOSES
large-multi-kill-close-2x1 multi holds	CONSUMERS=1 KILLS=1 CLOSES
large-multi-kill-close-batch multi holds	CONSUMERS=1 BATCH=2 WHOLE KILLS=1 CLOSES
large-multi-four-progress multi progresses N=4 CONSUMERS=1 MSGS=2 BATCH=2 WHOLE KILLS=1
large-multi-four-1x2	multi holds	N=4 PRODUCERS=1 MSGS=4 BATCH=3 TAKES=2 WHOLE KILLS=1
large-multi-four-2x1	multi holds	N=4 CONSUMERS=1 MSGS=3 BATCH=3 WHOLE KILLS=1
large-lease		multi holds	LEASES MSGS=1 KILLS=1 NACKS=1
large-lease-three	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 CONSUMERS=3 KILLS=2 STAYS_DEAD
large-lease-bulk	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 MSGS=3 BATCH=2 KILLS=1 SKIPS=1 STAYS_DEAD
large-lease-four	multi holds	LEASES N=4 SINGLE_PRODUCER PRODUCERS=1 MSGS=5 BATCH=2 TAKES=3 WHOLE KILLS=1 NACKS=1 STAYS_DEAD
large-lease-kills	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 MSGS=2 KILLS=2 NACKS=1
large-lease-new-name	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 BATCH=2 KILLS=1 NEW_NAME
large-lease-progress	multi progresses LEASES PRODUCERS=1 KILLS=1 NACKS=1
large-lease-end-bell	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 BATCH=2 KILLS=1 SKIPS=1 END_BELL
large-lease-walker	multi holds	LEASES SINGLE_PRODUCER PRODUCERS=1 KILLS=1 NACKS=1 STAYS_DEAD WALKER
large-single-producer	multi holds	SINGLE_PRODUCER PRODUCERS=1 MSGS=4 BATCH=2 KILLS=2 RESTARTS
large-single-producer-four multi holds	N=4 SINGLE_PRODUCER PRODUCERS=1 MSGS=6 BATCH=3 TAKES=2 WHOLE KILLS=1
large-single-consumer	multi holds	SINGLE_CONSUMER CONSUMERS=1 BATCH=2 KILLS=1 SKIPS=1
large-single-consumer-four multi holds	N=4 SINGLE_CONSUMER CONSUMERS=1 MSGS=3 BATCH=2 WHOLE KILLS=1
large-liar		multi progresses LIAR PRODUCERS=1
large-liar-lease	multi progresses LIAR PRODUCERS=1 LEASES LIE_STATES=2 LIE_LAPS=2 KILLS=1
large-liar-consumer	multi progresses LIAR_CONSUMER CONSUMERS=1 LIES=2
large-liar-count	multi progresses LIAR PRODUCERS=1 BATCH=2 LIES=2 LIE_STATES=2 LIE_LAPS=2 LIE_COUNTS=2
large-liar-head		multi progresses LIAR_CONSUMER CONSUMERS=1 LIES=2 SINGLE_CONSUMER BATCH=2
large-queue-2x2		queue_wait holds	MSGS=1
large-queue-3x1		queue_wait holds	PRODUCERS=3 CONSUMERS=1
large-queue-1x3		queue_wait holds	PRODUCERS=1 CONSUMERS=3 COARSE
large-queue-leases	queue_wait holds	PRODUCERS=1 MSGS=2 LEASES NACKS=1
large-queue-laps-2x1	queue_wait holds	CONSUMERS=1 N=1 MSGS=2
large-queue-signal-1x2	queue_wait holds	PRODUCERS=1 MSGS=2 SIGNALS=1
large-queue-kill-1x2	queue_wait holds	PRODUCERS=1 MSGS=2 KILLS=1
large-queue-close-1x2	queue_wait holds	PRODUCERS=1 MSGS=2 CLOSES
large-queue-close-2x1	queue_wait holds	CONSUMERS=1 N=1 CLOSES
large-release		release holds	ENTRIES=4 LENDS=6 LIES=1
large-topic		topic holds	N=4 CELLS=5 MSGS=6
large-topic-kill	topic holds	N=4 CELLS=4 MSGS=5 KILLS=1
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
	model=$2.pml expect=$3
	shift 3
	defs= cc=-DSAFETY args= reduce=
	for def; do defs="$defs -D$def"; done
	case $expect in
	progresses | endless) cc=-DNP args=-l ;;
	esac
	# Partial order reduction does not know "unless".
	! grep -q unless "$here/$model" || reduce=-DNOREDUCE

	cd "$dir"
	cp "$here/$model" .
	# An error is an error, with or without a message.
	if ! spin $defs -a "$model" >spin.log 2>&1 ||
	   grep -q -i error spin.log || [ ! -f pan.c ]; then
		echo "spin: $(head -1 spin.log)"
		return
	fi
	if ! gcc "$optimize" -w $reduce $compress "-DMEMLIM=$megabytes" \
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
	asleep)	error='assertion violated.*(stopped|doomed|working|overslept)' ;;
	torn)	error='assertion violated.*(\(v==w\)|!\(torn\))' ;;
	order)	error='assertion violated.*(\(v==\(taken\+1\)\)|!\((ghost|disordered)\))' ;;
	lost)	error='assertion violated.*(\(taken==committed\)|!\(early\))' ;;
	late | lie | astray | miscounted | crowd) error="assertion violated.*!\\($1\\)" ;;
	endless) error='non-progress cycle' ;;
	*)	echo "what is '$1'?"; return ;;
	esac
	found=$(grep -m 1 -E '^pan:[0-9]+: ' pan.log || :)
	if [ -n "$error" ]; then
		if echo "$found" | grep -q -E "$error"; then
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
while read -r name _ expect _; do
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
