#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Interpreters that no package has: CPython built by clang with ThinLTO and PGO, and what BOLT
# makes of it. Built from Debian's sources (make bolted), as root, on Debian 12; 10 to 30 minutes
# for each version on two processors.
#
#   bolted.sh [3.11] [3.13]   builds what is missing of these; without a version 3.11
#
# The results, below build/interpreters-bolted (or $BOLTED_ROOTS):
#
#   clang-3.11            clang 19, ThinLTO, PGO; linked with --emit-relocs, as BOLT wants it
#   bolted-3.11           the same file after BOLT, instrumented and applied by hand: 3.11's
#                         configure has no --enable-bolt
#   bolted-3.11-stripped  the same without symbols
#   bolted-3.13           3.13's own --enable-bolt, and bolted-3.13-stripped
#
# They are no part of the ordinary tests: `BOLTED=1 tools/interpreters.sh list` shows them, and
# with BOLTED=1 in its environment whatever uses that list takes them in.
# The training is short: these serve to look at the code's shape, not at its speed. BOLTED_PGO=no
# leaves PGO out, which takes a third of the time; what is there already isn't built again.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
. tools/archive.sh

ROOTS=${BOLTED_ROOTS:-$PWD/build/interpreters-bolted}
WORK=$ROOTS/.work
LLVM=/usr/lib/llvm-19/bin
JOBS=${JOBS:-2}

PACKAGES='clang-19 lld-19 llvm-19 libclang-rt-19-dev bolt-19 libbolt-19-dev dpkg-dev make
	libexpat1-dev zlib1g-dev libbz2-dev liblzma-dev libffi-dev libssl-dev libsqlite3-dev'

# version, suite
SOURCES='3.11 bookworm
3.13 trixie'

# test_generators stays out: it ends the instrumented interpreter; and so does what needs the
# modules that only serve tests, which are not built (make stops where a test fails).
TRAINING='-m test --pgo --timeout=600 test_json test_re test_dict test_list test_set test_struct
	test_dataclasses test_raise test_exception_variations test_float test_bytes'
TRAINING=$(echo $TRAINING)

# What CPython 3.13 passes (configure.ac, BOLT_COMMON_FLAGS and BOLT_APPLY_FLAGS), for 3.11 too,
# but for -update-debug-sections: there BOLT 19 ends by a segmentation fault.
# BOLT 19 can't do computed jumps in position-independent code, so the evaluation loop and the
# regular expressions' matchers stay where they were, in .bolt.org.text.
COMPUTED_JUMPS='_PyEval_EvalFrameDefault,sre_ucs1_match/1,sre_ucs2_match/1,sre_ucs4_match/1'
BOLT_COMMON="-skip-funcs=$COMPUTED_JUMPS"
BOLT_APPLY='-reorder-blocks=ext-tsp -reorder-functions=cdsort
	-split-functions -icf=1 -inline-all -split-eh -reorder-functions-use-hot-size
	-peepholes=none -jump-tables=aggressive -inline-ap -indirect-call-promotion=all
	-dyno-stats -use-gnu-stack -frame-opt=hot'

say() {
	echo "bolted: $*" >&2
}

install_packages() {
	local package
	local -a missing=()
	for package in $PACKAGES; do
		dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null |
			grep -qx installed || missing+=("$package")
	done
	[ ${#missing[@]} != 0 ] || return 0
	say "installing ${missing[*]}"
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 update &&
		DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 \
			-o Dpkg::Use-Pty=0 install --no-install-recommends "${missing[@]}" \
			> /dev/null
}

# The source as Debian builds it: downloaded, verified against the suite's signed index, patched.
unpack_source() {
	local version=$1 suite=$2 work=$3
	side_index "$work/index" "$suite" deb-src || return 1
	rm -rf "$work/source"
	(cd "$work" && APT_CONFIG=$work/index/apt.conf \
		apt-get source -qq --download-only "python$version") || return 1
	dpkg-source --no-check -x "$work"/python"$version"_*.dsc "$work/source" > "$work/unpack.log"
}

# configure_and_make WORK PREFIX [configure's further arguments]. The log stays in WORK; PREFIX
# appears when it is whole.
configure_and_make() {
	local work=$1 prefix=$2
	local no_debug=CFLAGS_NODIST=-g0 # behind the -g that configure takes for LTO
	local -a pgo=(--enable-optimizations)
	shift 2
	[ "${BOLTED_PGO-}" != no ] || pgo=()
	rm -rf "$work/build" "$work/stage" "$prefix"
	mkdir -p "$work/build"
	(
		cd "$work/build" || exit 1
		export CC=clang-19 LLVM_AR=$LLVM/llvm-ar LLVM_PROFDATA=$LLVM/llvm-profdata
		export LDFLAGS="-fuse-ld=lld-19 -Wl,--emit-relocs,--thinlto-cache-dir=$work/lto"
		export PROFILE_TASK=$TRAINING
		export LLVM_BOLT=$LLVM/llvm-bolt MERGE_FDATA=$LLVM/merge-fdata
		export BOLT_COMMON_FLAGS=$BOLT_COMMON
		nice -n 10 ../source/configure --prefix="$prefix" --with-lto=thin \
			"${pgo[@]}" --without-ensurepip --disable-test-modules \
			--with-system-expat "$@" &&
			nice -n 10 make -j"$JOBS" "$no_debug" &&
			nice -n 10 make altinstall "$no_debug" DESTDIR="$work/stage"
	) > "$work/build.log" 2>&1 && mv "$work/stage$prefix" "$prefix"
}

# bolt_by_hand IN OUT WORK SOURCE: OUT is IN after BOLT, trained by SOURCE's tests.
bolt_by_hand() {
	local in=$1 out=$2 work=$3 source=$4
	local instrumented=$(dirname "$in")/instrumented
	rm -rf "$work/profile" && mkdir -p "$work/profile"
	{
		nice -n 10 "$LLVM/llvm-bolt" "$in" -instrument -o "$instrumented" \
			-instrumentation-file="$work/profile/python.fdata" \
			-instrumentation-file-append-pid $BOLT_COMMON &&
			PYTHONPATH=$source/Lib nice -n 10 "$instrumented" $TRAINING
		rm -f "$instrumented"
		"$LLVM/merge-fdata" "$work"/profile/python.fdata.* > "$work/profile/merged.fdata" &&
			nice -n 10 "$LLVM/llvm-bolt" "$in" -o "$out" \
				-data="$work/profile/merged.fdata" $BOLT_COMMON $BOLT_APPLY
	} > "$work/bolt.log" 2>&1
}

# sibling NAME ROOT VERSION: a root beside ROOT that shares its library; the executable is the
# caller's to make. It appears whole: the caller renames it.
sibling() {
	local root=$ROOTS/.work/$1
	rm -rf "$root"
	mkdir -p "$root/bin" && ln -s "../$2/lib" "$root/lib" && echo "$root"
}

stripped() {
	local name=$1 version=$2 root
	[ ! -x "$ROOTS/$name-stripped/bin/python$version" ] || return 0
	root=$(sibling "$name-stripped" "$name") &&
		strip -o "$root/bin/python$version" "$ROOTS/$name/bin/python$version" &&
		mv "$root" "$ROOTS/$name-stripped"
}

# Called with the version's directory of work, where the source lies.
build_311() {
	local work=$1 root
	if [ ! -x "$ROOTS/clang-3.11/bin/python3.11" ]; then
		configure_and_make "$work" "$ROOTS/clang-3.11" || return 1
	fi
	if [ ! -x "$ROOTS/bolted-3.11/bin/python3.11" ]; then
		root=$(sibling bolted-3.11 clang-3.11) &&
			bolt_by_hand "$ROOTS/clang-3.11/bin/python3.11" \
				"$root/bin/python3.11" "$work" "$work/source" &&
			mv "$root" "$ROOTS/bolted-3.11" || return 1
	fi
	stripped bolted-3.11 3.11
}

build_313() {
	local work=$1
	if [ ! -x "$ROOTS/bolted-3.13/bin/python3.13" ]; then
		configure_and_make "$work" "$ROOTS/bolted-3.13" --enable-bolt || return 1
	fi
	stripped bolted-3.13 3.13
}

main() {
	local version suite
	[ $# != 0 ] || set -- 3.11
	install_packages || { say "packages are missing"; return 1; }
	for version; do
		suite=$(echo "$SOURCES" | awk -v version="$version" '$1 == version { print $2 }')
		[ -n "$suite" ] || { say "no such version: $version"; return 2; }
		mkdir -p "$WORK/$version"
		if [ ! -d "$WORK/$version/source" ]; then
			unpack_source "$version" "$suite" "$WORK/$version" ||
				{ say "no source of $version in $suite"; return 1; }
		fi
		"build_${version/./}" "$WORK/$version" ||
			{ say "$version could not be built, see $WORK/$version/*.log"; return 1; }
	done
	ls -d "$ROOTS"/*/bin/python3.*[0-9]
}

main "$@"
