#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# pyleakd on other kernels: Debian's, each booted by qemu in software with the program, the stock
# interpreter and guest.py in an initial RAM disk (make check-kernels; not part of check).
#
#   run.sh PYLEAKD [SERIES...]      5.10 6.1 6.12 7.2 by default
#
# Needs qemu-system-x86_64, cpio, busybox (static) and, for kernels that are not yet in
# build/kernels, the package archive. Nothing is installed. Exit 1: something failed; a kernel that
# can't be had is reported and skipped.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1
. tools/archive.sh

PYLEAKD=$(realpath "$1") || exit 2
shift
[ $# -gt 0 ] || set -- 5.10 6.1 6.12 7.2
KERNELS=${KERNELS:-$PWD/build/kernels}
TIMEOUT=${TIMEOUT:-900}
PYTHON=/usr/bin/python3.11

# What each series is expected to use.
declare -A METHODS=([5.10]="refused" [6.1]="tracefs" [6.12]="uprobe_multi" [7.2]="uprobe_multi")
# The suites that have them, where it is not the machine's own.
declare -A SUITES=([5.10]="bullseye" [7.2]="sid")

for tool in qemu-system-x86_64 cpio busybox; do
	if ! command -v "$tool" > /dev/null; then
		echo "check-kernels: skipped: no $tool"
		exit 0
	fi
done

image() {
	find "$KERNELS/$1" -name 'vmlinu*' -type f 2>/dev/null | head -n 1
}

# The newest kernel of a series that the archive has, unpacked below KERNELS.
fetch() {
	local series=$1 root=$KERNELS/$1 suite=${SUITES[$1]:-} package
	[ -n "$(image "$series")" ] && return 0
	if [ -n "$suite" ]; then
		side_index "$KERNELS/.index/$suite" "$suite" || return 1
		local -x APT_CONFIG=$KERNELS/.index/$suite/apt.conf
	fi
	# From 7.2 on the image is in a package of its own.
	package=$(apt-cache pkgnames linux- |
		grep -E "^linux-(binary|image)-${series//./\\.}\.[0-9].*-cloud-amd64\$" |
		sort -t- -k2,2 -k3V | awk -F- '!first { first = $2 } $2 == first' | tail -n 1)
	[ -n "$package" ] || return 1
	mkdir -p "$root"
	(cd "$root" && apt-get download -qq "$package" && dpkg-deb -x ./*.deb . && rm -- *.deb)
}

# A program to where it is to be, with the loader and the libraries that it needs.
copy_program() {
	local root=$1 library
	cp -L "$2" "$root$3"
	while read -r library; do
		[ -e "$root$library" ] || cp --parents -L "$library" "$root"
	done < <(ldd "$2" 2>/dev/null | grep -o '/[^ ]*')
}

ramdisk() {
	local root=$1 method=$2 extension
	mkdir -p "$root"/{bin,dev,proc,sys,tmp,usr/bin,usr/lib,lib,lib64}
	cp -L "$(command -v busybox)" "$root/bin/busybox"
	ln -s /bin/busybox "$root/usr/bin/busybox"
	copy_program "$root" "$PYTHON" "$PYTHON"
	copy_program "$root" "$PYLEAKD" /usr/bin/pyleakd
	tar -C / --exclude=test --exclude=idlelib --exclude=__pycache__ --exclude=ensurepip \
		--exclude='config-3.11*' -c usr/lib/python3.11 | tar -C "$root" -x
	for extension in "$root"/usr/lib/python3.11/lib-dynload/*.so; do
		copy_program "$root" "${extension#"$root"}" "${extension#"$root"}"
	done
	cp tests/kernels/{init,guest.py,leaker.py} "$root/"
	echo "$method" > "$root/expected-method"
	(cd "$root" && find . | cpio -o -H newc --quiet) | gzip -1
}

run() {
	local series=$1 work=$2 log=$KERNELS/$1.log
	ramdisk "$work/root" "${METHODS[$series]}" > "$work/ramdisk.gz" || return 1
	timeout "$TIMEOUT" qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 1 \
		-m 2048 -nographic -no-reboot -kernel "$(image "$series")" \
		-initrd "$work/ramdisk.gz" -append "console=ttyS0 quiet panic=-1 rdinit=/init" \
		< /dev/null > "$log" 2>&1
	tr -d '\r' < "$log" | grep -E '^(Linux|RESULT)' | sed "s/^/$series: /"
	! grep -q 'FAILED' "$log" && grep -q 'RESULT all done' "$log"
}

failed=0
for series in "$@"; do
	if ! fetch "$series"; then
		echo "check-kernels: skipped $series: the archive has none"
		continue
	fi
	work=$(mktemp -d)
	run "$series" "$work" || { failed=1; echo "$series: FAILED, see $KERNELS/$series.log"; }
	rm -rf "$work"
done
exit $failed
