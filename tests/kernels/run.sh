#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# pyleakd on other kernels: Debian's, each booted by qemu in software with the program, the stock
# interpreter and guest.py in an initial RAM disk (make check-kernels; not part of check).
#
#   run.sh PYLEAKD [SERIES...]      6.1 6.12 by default
#
# Needs qemu-system-x86_64, cpio, busybox (static) and, for kernels that are not yet in
# build/kernels, the package archive. Nothing is installed. Exit 1: something failed; a kernel that
# can't be had is reported and skipped.
set -u -o pipefail
cd "$(dirname "$0")/../.." || exit 1

PYLEAKD=$(realpath "$1") || exit 2
shift
[ $# -gt 0 ] || set -- 6.1 6.12
KERNELS=${KERNELS:-$PWD/build/kernels}
TIMEOUT=${TIMEOUT:-900}
PYTHON=/usr/bin/python3.11

# What each series is expected to use.
declare -A METHODS=([6.1]="tracefs" [6.12]="uprobe_multi")

for tool in qemu-system-x86_64 cpio busybox; do
	if ! command -v "$tool" > /dev/null; then
		echo "check-kernels: skipped: no $tool"
		exit 0
	fi
done

# The newest kernel of a series that the archive has, unpacked below KERNELS.
fetch() {
	local series=$1 root=$KERNELS/$1 package
	compgen -G "$root/boot/vmlinuz-*" > /dev/null && return 0
	package=$(apt-cache pkgnames linux-image- |
		grep -E "^linux-image-${series//./\\.}\.[0-9].*-cloud-amd64\$" | grep -v unsigned |
		sort -V | tail -n 1)
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
	timeout "$TIMEOUT" qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 1 -m 2048 \
		-nographic -no-reboot -kernel "$KERNELS/$series"/boot/vmlinuz-* \
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
