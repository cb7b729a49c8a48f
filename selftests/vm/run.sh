#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Boots a kernel in QEMU with the module and some programs, and judges what
# comes out.
set -eu

here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<USAGE
usage: run.sh [-t SECONDS] [-o DIR] [-k NAME] [-i] [-s] IMAGE MODULE SCRIPT PROGRAM...

Boots IMAGE, loads MODULE, copies the PROGRAMs to /bin and sources SCRIPT,
which calls "run SECONDS PROGRAM [ARGUMENT...]" for each kselftest, or
"skip PROGRAM REASON".  For x86-64; with ARCH=arm64 in the environment for arm64.

  -t SECONDS	the whole machine may take (default 600)
  -o DIR	for console.log, results.log and summary (default: temporary)
  -k NAME	IMAGE is the debug kernel kasan or kcsan of kernels.sh: tests may
		take longer, and its detectors are asked at the end
  -i		count instructions instead of time (QEMU -icount, one thread)
  -s		a shell instead of SCRIPT
  -q		show nothing but failures

The last line is "N passed, N failed, N skipped".  Exit status 0 only if
something passed and nothing failed.  Failures are: a test, a missing result,
a warning or worse in the kernel log, a counter of the module that does not
come back to zero, a module that does not unload, and a machine that does not
end by itself.  On a debug kernel also a leak, another taint than that of a
module from elsewhere, and a detector that is off.
USAGE
}

limit=600 out= debug= icount= shell= quiet=
while getopts t:o:k:isqh opt; do
	case $opt in
	t) limit=$OPTARG ;;
	o) out=$OPTARG ;;
	k) debug=$OPTARG ;;
	i) icount=1 ;;
	s) shell=1 ;;
	q) quiet=1 ;;
	h) usage; exit 0 ;;
	*) usage >&2; exit 2 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -ge 3 ] || { usage >&2; exit 2; }
image=$1 module=$2 script=$3
shift 3

busybox=$(command -v busybox)
if [ "${ARCH:-}" = arm64 ]; then
	busybox=$("$here/kernels.sh" sysroot)/bin/busybox
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
out=${out:-$tmp/out}
mkdir -p "$out"

# ------------------------------------------------------------- file system
root=$tmp/root
mkdir -p "$root/bin" "$root/etc"
cp "$busybox" "$root/bin/"
cp "$here/init" "$root/init"
cp "$module" "$root/evering.ko"
cp "$script" "$root/etc/run"
for program; do cp "$program" "$root/bin/"; done
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$tmp/initrd.gz"

# Does KVM work here?  A device node is not enough, so boot a kernel to its
# "no root file system" panic; once per boot of this machine.
kvm_works() {
	[ "${ARCH:-}" != arm64 ] || return 1
	[ -w /dev/kvm ] && [ -z "${EVERING_TCG:-}" ] || return 1
	answer=$here/../../build/kvm.$(cat /proc/sys/kernel/random/boot_id)
	if [ ! -e "$answer" ]; then
		mkdir -p "${answer%/*}"
		if timeout -k 1 10 qemu-system-x86_64 -accel kvm -cpu host -m 256 \
			-nodefaults -display none -no-reboot -kernel "$image" \
			-append "panic=-1" >/dev/null 2>&1; then
			echo yes >"$answer"
		else
			echo no >"$answer"
		fi
	fi
	[ "$(cat "$answer")" = yes ]
}

# --------------------------------------------------------------------- boot
tty=ttyS0
[ "${ARCH:-}" != arm64 ] || tty=ttyAMA0
append="console=$tty panic=-1 oops=panic loglevel=7"
append="$append sysctl.kernel.panic_on_rcu_stall=1 sysctl.kernel.hung_task_panic=1"
patience=60
if [ "$debug" ]; then
	patience=120
	append="$append DEBUG=$debug SLOW=4 watchdog_thresh=30 pci=noacpi"
fi
append="$append rcupdate.rcu_cpu_stall_timeout=$patience"
append="$append sysctl.kernel.hung_task_timeout_secs=$patience"
# The kernel has races of its own, and for KCSAN each would be a warning.
[ "$debug" = kcsan ] || append="$append panic_on_warn=1"
cpu=max
if [ "$icount" ]; then
	accel="-accel tcg,thread=single -icount shift=0,sleep=off"
	append="$append mitigations=off"
elif kvm_works; then
	accel="-accel kvm" cpu=host
else
	accel="-accel tcg,thread=multi"
fi
# A full registry is more than a gigabyte; where the host has none to spare, its
# test makes do with fewer entries.
memory=1024
if [ ! "$icount" ] && awk '/^MemAvailable:/ { exit $2 < 4194304 }' /proc/meminfo; then
	memory=2048
fi
[ -z "$debug" ] || memory=$((memory + 1024))
qemu="-smp 2 -m $memory -nodefaults -display none -no-reboot
	-kernel $image -initrd $tmp/initrd.gz"
if [ "${ARCH:-}" = arm64 ]; then
	# This board has one serial port of its own; the other is a card.  The
	# latest CPU signs its pointers, which takes twice as long.
	qemu="qemu-system-aarch64 -M virt,gic-version=3 $accel -cpu cortex-a72 $qemu
		-semihosting-config enable=on,userspace=on,target=native"
	append="$append RESULTS=ttyS0"
	second="-chardev file,id=results,path=$out/results.log -device pci-serial,chardev=results"
else
	qemu="qemu-system-x86_64 $accel -cpu $cpu $qemu -device isa-debug-exit,iobase=0xf4,iosize=1"
	second="-serial file:$out/results.log"
fi

if [ "$shell" ]; then
	# Quiet: the console is the person's.
	$qemu -serial mon:stdio -append "console=$tty panic=-1 quiet MODE=shell" || [ $? = 33 ]
	exit
fi

results=$out/results.log
console=$out/console.log

boot() {
	: >"$results"
	: >"$console"
	status=0
	timeout -k 5 "$limit" $qemu -serial "file:$console" $second \
		-append "$append" </dev/null >"$out/qemu.log" 2>&1 &
	pid=$!
	if [ ! "$quiet" ]; then
		# One line per program while it runs: long work shows progress.
		tail -n +1 -s 0.5 --pid=$pid -f "$results" 2>/dev/null |
			sed -n -u 's/\r$//; s/^# RUN /    /p; s/^not ok /    FAILED /p; s/^# show: //p' &
		tailer=$!
	fi
	wait $pid || status=$?
	[ "$quiet" ] || wait $tailer || :
}

boot
# Emulated CPUs now and then trip over the kernel's patching of its own code
# before init runs; that says nothing about the module, which is not loaded.
for again in 1 2; do
	grep -q '^# VM ' "$results" && break
	[ "$status" != 124 ] || break
	echo "the kernel did not reach init, trying again ($(tail -n 1 "$console"))"
	boot
done

# -------------------------------------------------------------------- judge
sed -i 's/\r$//' "$results" "$console"
awk -v status="$status" -v debug="$debug" -v expected="$(grep -cE '^(run|skip) ' "$script")" -f "$here/judge.awk" \
	"$results" "$console" >"$out/summary"
if ! grep -q ' 0 failed' "$out/summary" || [ ! "$quiet" ]; then
	grep '^FAILED' "$out/summary" || :
fi
tail -n 1 "$out/summary"
tail -n 1 "$out/summary" | grep -q '^[1-9][0-9]* passed, 0 failed'
