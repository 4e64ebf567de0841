#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Installs what the build and the tests need (make deps), as root, on Debian 12. Asks dpkg what is
# there; does nothing, and touches no index, where all of it is.
#
#   deps.sh            installs what is missing
#   deps.sh --missing  names what is missing, a package a line
#   deps.sh --bench    installs what the benchmarks of the sampled mode run (make bench-deps)
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
. tools/archive.sh

# Build; lint; tests. numpy, gevent and uwsgi are targets of the system tests, prometheus
# scrapes the daemon in one of them.
PACKAGES='gcc libc6-dev make clang llvm libclang-rt-14-dev
	libelf-dev libdw-dev zlib1g-dev libzydis-dev libsystemd-dev libjansson-dev
	libmicrohttpd-dev
	clang-format universal-ctags
	libcmocka-dev python3 python3-pytest python3-numpy python3-gevent
	uwsgi-core uwsgi-plugin-python3 prometheus
	binutils procps util-linux'

# uprobe_multi is known to libbpf from 1.3 on, Debian 12 has 1.1: these come from its backports,
# one by one (-t would take newer libraries along that nothing here needs).
BACKPORTS='libbpf-dev libbpf1 bpftool'
LIBBPF_MINIMUM=1:1.3

# Services and load for bench/; nothing else needs them.
BENCH_PACKAGES='python3-flask gunicorn wrk python3-pandas'

installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_packages() {
	local package
	# One question for all of them: the usual answer is "all there".
	if dpkg-query -W -f '${db:Status-Status}\n' $PACKAGES 2>/dev/null |
		awk '$1 != "installed" { bad = 1 } END { exit bad }' 2>/dev/null; then
		return 0
	fi
	for package in $PACKAGES; do
		installed "$package" || echo "$package"
	done
}

missing_backports() {
	local package version
	for package in $BACKPORTS; do
		installed "$package" || { echo "$package"; continue; }
		version=$(dpkg-query -W -f '${Version}' "$package")
		case $package in
		libbpf*)
			dpkg --compare-versions "$version" ge "$LIBBPF_MINIMUM" || echo "$package"
			;;
		esac
	done
}

apt_quietly() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 \
		-o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"
}

# The archive that serves this release serves its backports too.
add_backports() {
	local suite uri
	suite=$(. /etc/os-release && echo "$VERSION_CODENAME")-backports
	if apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' |
		grep -qx "$suite"; then
		return 0
	fi
	uri=$(archive_uri) || return 1
	cat > /etc/apt/sources.list.d/pyleakd-backports.sources <<-END
		Types: deb
		URIs: $uri
		Suites: $suite
		Components: main
		Signed-By: $KEYRING
	END
	apt_quietly update
}

main() {
	local packages backports suite
	local -a wanted=()
	if ! command -v dpkg-query > /dev/null; then
		echo "deps: not a Debian system: install by hand, under their names here:" \
			$PACKAGES $BACKPORTS >&2
		return 0
	fi
	if [ "${1-}" = --bench ]; then
		PACKAGES=$BENCH_PACKAGES
		BACKPORTS=
	fi
	packages=$(missing_packages)
	backports=$(missing_backports)
	if [ "${1-}" = --missing ]; then
		printf '%s' "$packages${packages:+$'\n'}$backports${backports:+$'\n'}"
		return 0
	fi
	[ -n "$packages$backports" ] || return 0
	echo "deps: installing" $packages $backports >&2
	if [ "$(id -u)" != 0 ]; then
		echo "deps: not root: run make deps as root" >&2
		return 1
	fi
	apt_quietly update || return 1
	[ -z "$packages" ] || wanted+=($packages)
	if [ -n "$backports" ]; then
		add_backports || { echo "deps: no archive to take backports from" >&2; return 1; }
		suite=$(. /etc/os-release && echo "$VERSION_CODENAME")-backports
		for package in $backports; do
			wanted+=("$package/$suite")
		done
	fi
	apt_quietly install --no-install-recommends "${wanted[@]}" > /dev/null || return 1
	packages=$(missing_packages; missing_backports)
	if [ -n "$packages" ]; then
		echo "deps: still missing:" $packages >&2
		return 1
	fi
}

main "$@"
