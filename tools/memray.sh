#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Debian trixie's memray with all that it runs on, unpacked as a root for chroot: what
# bench/against.py --memray takes. Prints the root; one that is there already is kept.
#
# Nothing of the system is changed: packages are unpacked, not installed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
. tools/archive.sh

SUITE=trixie
PLACE=${MEMRAY:-$PWD/build/memray}
ROOT=$PLACE/root
WORK=$PLACE/.work

fail() {
	echo "memray: $1" >&2
	exit 1
}

# By the suite's own dependencies; what is neither a library nor Python's (debconf, perl, dpkg …)
# is for maintainer scripts, which are not run.
closure() {
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances python3-memray 2>/dev/null |
		grep -E '^(lib[a-z0-9.+-]+|python3[a-z0-9.+-]*|zlib1g)(:amd64)?$' |
		sed 's/:amd64$//' | grep -Ev -e '-perl$|^libdebian-installer|^libnewt' | sort -u
}

# What has been downloaded stays until the root is whole: apt-get takes no file twice.
unpack() {
	local root=$1 debs=$2
	local -a packages
	mapfile -t packages < <(closure)
	printf '%s\n' "${packages[@]}" | grep -qx 'python3-memray' || return 1
	unpack_root "$root" "$debs" "${packages[@]}" || return 1
	chroot "$root" /usr/bin/python3.13 -c 'import memray, memray.commands'
}

if [ ! -x "$ROOT/usr/bin/python3.13" ]; then
	[ "$(id -u)" = 0 ] || fail "chroot needs root"
	mkdir -p "$WORK"
	side_index "$WORK/$SUITE" "$SUITE" 2>/dev/null ||
		fail "the archive gives no index of $SUITE"
	(export APT_CONFIG=$WORK/$SUITE/apt.conf
	    unpack "$WORK/root" "$WORK/debs") ||
		fail "python3-memray of $SUITE could not be unpacked"
	mv "$WORK/root" "$ROOT" || exit 1
	rm -rf "$WORK/debs"
fi
echo "$ROOT"
