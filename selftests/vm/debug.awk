# SPDX-License-Identifier: GPL-2.0
# tests.vm for the debug kernel -v name=NAME: awk -f debug.awk debug.vm tests.vm
# Less what debug.vm leaves out there, and with what it has besides.
FNR == NR {
	if (!/^#/ && NF && ($1 == name || $1 == "both"))
		options[$2] = options[$2] " -T " $3
	else if (!/^#/ && NF && $1 == "only-" name)
		more = more "run " $3 " " $2 "\n"
	next
}
/^run / { print $0 options[$3]; next }
{ print }
END { printf "%s", more }
