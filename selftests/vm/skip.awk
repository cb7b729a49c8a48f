# SPDX-License-Identifier: GPL-2.0
# Makes a script for run.sh of arm64-skipped and tests.vm, for one kernel.
# Variable: kernel.

FILENAME ~ /skipped$/ {
	if ($1 == kernel) {
		program = $2
		sub(/^[^ ]+ +[^ ]+ +/, "")
		gsub(/'/, "'\\''")
		why[program] = $0
	}
	next
}

$1 == "run" && $3 in why {
	print "skip " $3 " '" why[$3] "'"
	delete why[$3]
	next
}

{ print }

# A line that has outlived its program
END {
	for (program in why) {
		print "arm64-skipped: there is no " program >"/dev/stderr"
		status = 1
	}
	exit status
}
