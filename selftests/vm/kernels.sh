#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Debian kernels to build the module for and to boot in QEMU.  They are
# downloaded as packages and unpacked into a cache; nothing is installed, and
# the machine's own kernel stays what it is.
set -eu

cache=${EVERING_CACHE:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/evering}

usage() {
	cat <<USAGE
usage: kernels.sh build 6.1|6.12	print the build directory (KDIR)
       kernels.sh image 6.1|6.12	print the path of the bootable image
       kernels.sh kselftest		print the directory of kselftest.h
       kernels.sh checkpatch		print the path of checkpatch.pl

Downloads what is missing first.  The cache is \$EVERING_CACHE,
now $cache.
USAGE
}

die() {
	echo "kernels.sh: $*" >&2
	exit 1
}

# The package behind a metapackage: depends PACKAGE PATTERN
depends() {
	# A machine that has never fetched the lists knows no package.
	if [ "$(id -u)" = 0 ] && ! apt-cache show "$1" >/dev/null 2>&1; then
		apt-get update -qq >&2
	fi
	apt-cache depends "$1" 2>/dev/null |
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
	(cd "$dir.new/debs" && apt-get -qq -o APT::Sandbox::User=root download "$@" >&2) ||
		die "cannot download $*; try 'apt-get update'"
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

series() {
	case $1 in
	6.1)	meta=cloud-amd64 ;;
	6.12)	meta=6.12-cloud-amd64 ;;
	*)	usage >&2; exit 2 ;;
	esac
}

what=${1:-}
case $what in
build)
	series "${2:-}"
	headers=$(depends "linux-headers-$meta" 'linux-headers-.*')
	[ -n "$headers" ] || die "no linux-headers-$meta here; is this Debian 12?"
	common=$(depends "$headers" 'linux-headers-.*-common')
	kbuild=$(depends "$headers" 'linux-kbuild-.*')
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
kselftest|checkpatch)
	unpack "$cache/linux-source-6.12" linux-source-6.12
	case $what in
	kselftest) echo "$cache/linux-source-6.12/tools/testing/selftests" ;;
	*) echo "$cache/linux-source-6.12/scripts/checkpatch.pl" ;;
	esac
	;;
-h|--help|help)
	usage ;;
*)
	usage >&2
	exit 2 ;;
esac
