#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Installs what a list, else tools/debian-packages, names and this machine lacks.
set -eu

list=$(dirname "$0")/debian-packages
case ${1:-} in
-h|--help)
	echo "usage: setup.sh [LIST]	install the missing ones of LIST, else $list"
	exit 0 ;;
?*)
	list=$1 ;;
esac

command -v dpkg-query >/dev/null || {
	echo "setup.sh: not a Debian system; install the like of $list" >&2
	exit 1
}

missing=
for package in $(grep -v '^#' "$list"); do
	dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null |
		grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

# Nothing that is there has to go, as gcc-multilib would for a cross compiler.
install="apt-get install -y --no-install-recommends --no-remove$missing"
if [ "$(id -u)" = 0 ]; then
	as_root=
elif sudo -n true 2>/dev/null; then
	as_root=sudo
else
	echo "setup.sh: no rights to install packages; run this as root:" >&2
	echo "apt-get update && $install" >&2
	exit 1
fi
echo "setup.sh: installing$missing"
# A machine whose lists are fresh enough need not fetch them.
if ! DEBIAN_FRONTEND=noninteractive $as_root $install >/dev/null 2>&1; then
	$as_root apt-get update -qq
	DEBIAN_FRONTEND=noninteractive $as_root $install >/dev/null
fi
