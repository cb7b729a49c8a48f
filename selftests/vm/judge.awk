# SPDX-License-Identifier: GPL-2.0
# Reads results.log and console.log of one boot; see run.sh.
# Variables: status (of QEMU), expected (programs that must have run), debug (the
# name of a debug kernel, or nothing).

function fail(why) {
	failed++
	print "FAILED " why
}

# A program is over: did it tell all that it announced?
function finish() {
	if (!running)
		return
	if (!planned)
		fail(program ": no plan, so no result is to be trusted")
	else if (told != plan)
		fail(program ": " plan " tests announced, " told + 0 " results")
	running = 0
}

# The state of a detector, read twice: with the module, and without.
function expect_state(name, value) {
	if (states[name] != 2)
		fail(name " was not read")
	if (name in wrong)
		fail(name " is " wrong[name] " instead of " value)
}

BEGIN {
	if (debug == "kasan") {
		want["debug_locks"] = 1
		want["leaks"] = 0
	}
	if (debug == "kcsan")
		want["kcsan"] = 1
	# A module from elsewhere, and nothing else.
	if (debug)
		want["taint"] = 4096
}

FILENAME ~ /results\.log$/ {
	if (/^# RUN /) {
		finish()
		running = 1
		programs++
		program = substr($0, 7)
		planned = told = plan = 0
		exited = rested = 0
	} else if (running && /^1\.\.[0-9]+/) {
		planned = 1
		plan = substr($1, 4) + 0
	} else if (running && /^ok .*# SKIP/) {
		told++
		skipped++
		print "skipped " program ": " $0
	} else if (running && /^ok /) {
		told++
		passed++
	} else if (running && /^not ok /) {
		told++
		fail(program ": " $0)
	} else if (/^# EXIT /) {
		exits++
		# 4: all of its tests were skipped
		if ($3 != 0 && $3 != 4)
			fail(program ": exit status " $3 ($3 == 137 ? " (killed: it took too long)" : ""))
		finish()
	} else if (/^# REST ok/) {
		rests++
	} else if (/^# REST /) {
		rests++
		fail(program ": " substr($0, 8))
	} else if (/^# STATE /) {
		states[$3]++
		if ($4 != want[$3])
			wrong[$3] = $4
	} else if (/^# RMMOD ok/) {
		unloaded = 1
	} else if (/^# RMMOD /) {
		unloaded = 1
		fail("the module does not unload: " $0)
	} else if (/^# INSMOD failed/) {
		fail("the module does not load")
	} else if (/^# DONE/) {
		done = 1
	}
	next
}

# Both functions are named, with their modules.  The kernel has races of its own,
# also where we call it.
/BUG: KCSAN: / {
	race = substr($0, index($0, "BUG: KCSAN: "))
	if (race !~ /\[(evering|plant)\]/)
		others++
	else if (!races[race]++ && nr_races++ < 20)
		fail("kernel log: " race)
	next
}

# What the kernel says about itself; never said in a healthy run.
/BUG:|BUG [a-z]|WARNING:|Oops|KASAN|UBSAN|unreferenced object|INFO: task|INFO: rcu|possible .* detected|suspicious RCU|Call [Tt]race|refcount_t:|Kernel panic|general protection|[Uu]nable to handle|Internal error|SError|bad: scheduling|Bad page|ODEBUG|LOCKUP|inconsistent lock|non-static key|locking correctness|kmemleak: .*disabled/ {
	if (complaints++ < 5)
		fail("kernel log: " $0)
}

END {
	finish()
	for (name in want)
		expect_state(name, want[name])
	if (exits != programs)
		fail("a program did not end")
	if (rests != programs)
		fail("the counters were not read after every program")
	if (programs != expected)
		fail(expected + 0 " programs were to run, " programs + 0 " did")
	if (!unloaded)
		fail("the module was not unloaded")
	if (!done)
		fail("the machine did not come to its end")
	if (status != 33)
		fail("QEMU ended with " status " instead of 33" (status == 124 || status == 137 ? ": a hang" : ""))
	if (others)
		print "data races of the kernel itself: " others
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
}
