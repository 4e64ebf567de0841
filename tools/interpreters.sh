#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Debian's interpreters of other suites, unpacked side by side as roots for chroot.
#
#   interpreters.sh fetch   unpacks what is missing (make interpreters); a suite that the archive
#                           no longer has, or that can't be reached, is reported and skipped
#   interpreters.sh list    a line for each interpreter at hand, tab-separated: name, command that
#                           runs it, root of its file system, the ELF file that holds CPython;
#                           with BOLTED=1 those that tools/bolted.sh has built as well
#
# Nothing of the system is changed: packages are unpacked, not installed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
. tools/archive.sh

ROOTS=${INTERPRETERS:-$PWD/build/interpreters}
BOLTED_ROOTS=${BOLTED_ROOTS:-$PWD/build/interpreters-bolted}

# name, suite, version
TABLE='debian-3.9 bullseye 3.9
debian-3.13 trixie 3.13
debian-3.13-sid sid 3.13
debian-3.14 sid 3.14
debian-3.15 sid 3.15'

skip() {
	echo "interpreters: skipped $1: $2" >&2
	skipped=$((skipped + 1))
}

# The interpreter's packages and the libraries below them, by the suite's own dependencies; what
# is not a library (debconf, perl …) is not needed to run.
closure() {
	local version=$1
	apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
		--no-breaks --no-replaces --no-enhances "python$version" 2>/dev/null |
		grep -E "^(lib[a-z0-9.+-]+|python$version(-minimal)?|zlib1g)(:amd64)?\$" |
		sed 's/:amd64$//' | sort -u
}

unpack() {
	local version=$1 root=$2 debs=$3
	local -a packages
	mapfile -t packages < <(closure "$version")
	if ! printf '%s\n' "${packages[@]}" | grep -qx "python$version-minimal"; then
		return 1
	fi
	unpack_root "$root" "$debs" "${packages[@]}" || return 1
	chroot "$root" /usr/sbin/ldconfig 2>/dev/null
	chroot "$root" "/usr/bin/python$version" \
		-c 'import json, re, decimal, sqlite3, ctypes, zlib'
}

fetch() {
	local name suite version work=$ROOTS/.work
	skipped=0
	while read -r name suite version; do
		[ -x "$ROOTS/$name/usr/bin/python$version" ] && continue
		if [ "$(id -u)" != 0 ]; then
			skip "$name" "chroot needs root"
			continue
		fi
		mkdir -p "$work/$suite"
		if ! side_index "$work/$suite" "$suite"; then
			skip "$name" "the archive gives no index of $suite"
			continue
		fi
		rm -rf "$work/debs"
		if (export APT_CONFIG=$work/$suite/apt.conf
		    unpack "$version" "$work/$name" "$work/debs"); then
			# The name appears when the root is whole: others wait for it.
			mv "$work/$name" "$ROOTS/$name" &&
				echo "interpreters: $name is $(chroot "$ROOTS/$name" \
					"/usr/bin/python$version" --version) of $suite" >&2
		else
			skip "$name" "python$version of $suite could not be unpacked"
			rm -rf "${work:?}/$name"
		fi
		rm -rf "$work/debs"
	done <<< "$TABLE"
	[ "$skipped" = 0 ] || echo "interpreters: $skipped skipped" >&2
	return 0
}

# Not by themselves: the tests' running time shall not depend on what somebody built once.
list_bolted() {
	local executable name
	[ "${BOLTED-}" = 1 ] || return 0
	for executable in "$BOLTED_ROOTS"/*/bin/python3.{[89],1[0-9]}; do
		[ -x "$executable" ] || continue
		name=$(basename "$(dirname "$(dirname "$executable")")")
		printf '%s\t%s\t/\t%s\n' "$name" "$executable" "$executable"
	done
}

# Stock interpreters hold CPython themselves, pyenv's in a shared library beside them.
list() {
	local name suite version root executable elf
	if [ -x /usr/bin/python3.11 ]; then
		printf 'stock-3.11\t/usr/bin/python3.11\t/\t/usr/bin/python3.11\n'
	fi
	while read -r name suite version; do
		root=$ROOTS/$name
		if [ -x "$root/usr/bin/python$version" ]; then
			printf '%s\tchroot %s /usr/bin/python%s\t%s\t%s/usr/bin/python%s\n' \
				"$name" "$root" "$version" "$root" "$root" "$version"
		fi
	done <<< "$TABLE"
	list_bolted
	command -v pyenv > /dev/null || return 0
	for root in "$(pyenv root)"/versions/*; do
		version=$(basename "$root" | cut -d. -f1,2)
		executable=$root/bin/python$version
		case $version in 3.[89]|3.1[0-5]) ;; *) continue ;; esac
		[ -x "$executable" ] || continue
		elf=$executable
		if [ -e "$root/lib/libpython$version.so.1.0" ]; then
			elf=$root/lib/libpython$version.so.1.0
		fi
		printf 'pyenv-%s\t%s\t/\t%s\n' "$version" "$executable" "$elf"
	done
}

case ${1-} in
fetch) fetch ;;
# ONLY='stock-3.11|debian-3.14' narrows the list.
list) list | grep -E "^(${ONLY:-.*})	" ;;
*) echo "usage: $0 fetch|list" >&2; exit 2 ;;
esac
