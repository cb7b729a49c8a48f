#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Debian kernels to build the module for and to boot in QEMU.  They are
# downloaded as packages and unpacked into a cache; nothing is installed, and
# the machine's own kernel stays what it is.
set -eu

cache=${EVERING_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/evering}

usage() {
	cat <<USAGE
usage: kernels.sh build KERNEL		print the build directory (KDIR)
       kernels.sh image KERNEL		print the path of the bootable image
       kernels.sh sysroot		print where arm64's libraries and busybox are
       kernels.sh kselftest		print the directory of kselftest.h
       kernels.sh checkpatch		print the path of checkpatch.pl
       kernels.sh memory-model		print the directory of linux-kernel.cfg

KERNEL is 6.1 or 6.12, which are Debian's, or kasan or kcsan, which are 6.12
with what finds faults; see kasan.config and kcsan.config.  For x86-64, with
ARCH=arm64 in the environment for arm64 (6.1 and 6.12 only).  Downloads what is
missing first; kasan and kcsan are built then, which takes ten minutes each.
The cache is \$EVERING_CACHE, now $cache.
USAGE
}

die() {
	echo "kernels.sh: $*" >&2
	exit 1
}

# Packages of another architecture need lists of their own: to add one to the
# machine's would change what it installs.  The host's are there for kbuild.
arch=amd64 apt= try="'apt-get update'"
if [ "${ARCH:-}" = arm64 ]; then
	arch=arm64
	lists=$cache/apt-$arch
	mkdir -p "$lists/lists/partial" "$lists/archives/partial"
	: >>"$lists/status"
	apt="-o APT::Architecture=$arch -o APT::Architectures::=$arch
		-o APT::Architectures::=$(dpkg --print-architecture)
		-o Dir::State=$lists -o Dir::State::status=$lists/status
		-o Dir::Cache=$lists -o Dir::Cache::pkgcache=pkgcache.bin
		-o APT::Sandbox::User=root"
	try="again after rm -r $lists"
fi

# The package behind a metapackage: depends PACKAGE PATTERN
depends() {
	# A machine that has never fetched the lists knows no package.
	if [ "$apt" ] || [ "$(id -u)" = 0 ]; then
		apt-cache $apt show "$1" >/dev/null 2>&1 || apt-get $apt update -qq >&2 || :
	fi
	apt-cache $apt depends "$1" 2>/dev/null |
		sed -n "s/^[ |]*Depends: \($2\)\$/\1/p" | head -n 1
}

# unpack DIR PACKAGE... [-- PATH...]: into DIR, once it is complete
unpack() {
	dir=$1
	shift
	[ ! -e "$dir/.complete" ] || return 0
	echo "kernels.sh: downloading $*" >&2
	rm -rf "$dir.new"
	mkdir -p "$dir.new/debs"
	(cd "$dir.new/debs" && apt-get -qq -o APT::Sandbox::User=root $apt download "$@" >&2) ||
		die "cannot download $*; try $try"
	for deb in "$dir.new"/debs/*.deb; do
		case $deb in
		*/linux-image-*)
			# The loadable modules are not needed: 100 MB.
			dpkg-deb --fsys-tarfile "$deb" |
				tar -xf - -C "$dir.new" ./boot ;;
		*/linux-source-*)
			dpkg-deb --fsys-tarfile "$deb" |
				tar -xOf - --wildcards './usr/src/*.tar.xz' |
				tar -xJf - -C "$dir.new" --strip-components=1 \
					--wildcards \
					'*/tools/testing/selftests/kselftest.h' \
					'*/tools/testing/selftests/kselftest_harness.h' \
					'*/scripts/checkpatch.pl' \
					'*/scripts/spelling.txt' \
					'*/tools/memory-model/linux-kernel.*' \
					'*/tools/memory-model/lock.cat' \
					'*/scripts/const_structs.checkpatch' ;;
		*)	dpkg-deb -x "$deb" "$dir.new" ;;
		esac
	done
	rm -rf "$dir.new/debs"
	# The headers name each other by the path they are installed at.
	find "$dir.new/usr/src" -maxdepth 2 -name Makefile 2>/dev/null |
		xargs -r sed -i "s|^include /usr/src/|include $dir/usr/src/|"
	rm -rf "$dir"
	mv "$dir.new" "$dir"
	touch "$dir/.complete"
}

debug_failed() {
	tail -n 20 "$new/log" >&2
	die "cannot build the kernel $1"
}

debug_make() {
	make -s -C "$new/src" O="$new/build" -j "$(nproc)" "$@" >>"$new/log" 2>&1
}

# Lines of the fragment that are not in the configuration: what an option depends
# on may be missing, and nobody says so.
debug_dropped() {
	grep '^CONFIG_' "$new/fragment" | while read -r line; do
		case $line in
		*=n) ! grep -q "^${line%n}" "$new/build/.config" ;;
		*) grep -qxF "$line" "$new/build/.config" ;;
		esac || echo "$line"
	done
}

# debug_kernel NAME: builds what is not there yet, and sets dir
debug_kernel() {
	here=$(cd "$(dirname "$0")" && pwd)
	version=$(apt-cache show linux-source-6.12 2>/dev/null |
		sed -n 's/^Version: //p' | head -n 1)
	[ -n "$version" ] || die "no linux-source-6.12 here; is this Debian 12?"
	# Another source or configuration is another kernel.
	dir=$cache/debug-$1-$version-$(cat "$here/base.config" "$here/$1.config" |
		sha256sum | cut -c 1-12)
	[ ! -e "$dir/.complete" ] || return 0

	new=$dir.$$
	mkdir -p "$new/headers"
	trap 'rm -rf "$new"' EXIT
	trap 'exit 1' INT TERM
	echo "kernels.sh: downloading linux-source-6.12 for the kernel $1" >&2
	(cd "$new" && apt-get -qq -o APT::Sandbox::User=root download linux-source-6.12 >&2) ||
		die "cannot download linux-source-6.12; try 'apt-get update'"
	dpkg-deb --fsys-tarfile "$new"/*.deb | tar -xOf - --wildcards './usr/src/*.tar.xz' |
		tar -xJf - -C "$new"
	rm "$new"/*.deb
	mv "$new"/linux-source-* "$new/src"

	cat "$here/base.config" "$here/$1.config" >"$new/fragment"
	KCONFIG_ALLCONFIG="$new/fragment" debug_make allnoconfig || debug_failed "$1"
	dropped=$(debug_dropped)
	[ -z "$dropped" ] || die "not in the configuration of $1:" $dropped

	start=$(date +%s)
	while sleep 60; do
		echo "kernels.sh: building the kernel $1: $((($(date +%s) - start) / 60)) min," \
			"$(find "$new/build" -name '*.o' | wc -l) objects" >&2
	done &
	progress=$!
	trap 'kill $progress 2>/dev/null; rm -rf "$new"' EXIT
	debug_make bzImage modules || debug_failed "$1"
	kill $progress
	# What a module is built with: 70 MB of more than 1 GB.
	debug_make run-command KBUILD_RUN_COMMAND="\$(srctree)/scripts/package/install-extmod-build $new/headers" ||
		debug_failed "$1"
	cp "$new/build/.config" "$new/headers/"
	cp "$new/build/arch/x86/boot/bzImage" "$new/build/System.map" "$new/"
	rm -rf "$new/src" "$new/build" "$dir"
	mv "$new" "$dir"
	touch "$dir/.complete"
	trap - EXIT INT TERM
}

series() {
	case $1 in
	6.1)	meta=cloud-$arch ;;
	6.12)	meta=6.12-cloud-$arch ;;
	*)	usage >&2; exit 2 ;;
	esac
}

what=${1:-}
case $what-${2:-} in
build-kasan|build-kcsan)
	debug_kernel "$2"
	echo "$dir/headers"
	exit ;;
image-kasan|image-kcsan)
	debug_kernel "$2"
	echo "$dir/bzImage"
	exit ;;
esac
case $what in
build)
	series "${2:-}"
	headers=$(depends "linux-headers-$meta" 'linux-headers-.*')
	[ -n "$headers" ] || die "no linux-headers-$meta here; is this Debian 12?"
	common=$(depends "$headers" 'linux-headers-.*-common')
	kbuild=$(depends "$headers" 'linux-kbuild-.*')
	# Programs that run here, whatever they build for.
	[ -z "$apt" ] || kbuild=$kbuild:$(dpkg --print-architecture)
	unpack "$cache/$headers" "$headers" "$common" "$kbuild"
	echo "$cache/$headers/usr/src/$headers"
	;;
image)
	series "${2:-}"
	image=$(depends "linux-image-$meta" 'linux-image-.*')
	[ -n "$image" ] || die "no linux-image-$meta here; is this Debian 12?"
	unpack "$cache/$image" "$image"
	echo "$cache/$image/boot/vmlinuz-${image#linux-image-}"
	;;
sysroot)
	[ "$apt" ] || die "only with ARCH=arm64; what is needed of x86-64 is installed"
	depends busybox-static . >/dev/null
	unpack "$cache/sysroot-$arch" busybox-static liburing-dev nettle-dev
	echo "$cache/sysroot-$arch"
	;;
kselftest|checkpatch|memory-model)
	unpack "$cache/linux-source-6.12-files" linux-source-6.12
	case $what in
	kselftest) echo "$cache/linux-source-6.12-files/tools/testing/selftests" ;;
	checkpatch) echo "$cache/linux-source-6.12-files/scripts/checkpatch.pl" ;;
	*) echo "$cache/linux-source-6.12-files/tools/memory-model" ;;
	esac
	;;
-h|--help|help)
	usage ;;
*)
	usage >&2
	exit 2 ;;
esac
