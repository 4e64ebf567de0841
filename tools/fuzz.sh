#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Runs every fuzzer of a build for so many seconds, as many at once as there are processors.
#
#   fuzz.sh BUILD SECONDS
#
# New inputs are kept below BUILD/corpus; what crashes is named and kept below BUILD/crashes.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1

build=${1:?usage: fuzz.sh BUILD SECONDS}
seconds=${2:?usage: fuzz.sh BUILD SECONDS}

run_one() {
	local fuzzer=$1 build=$2 seconds=$3 name
	local -a seeds=()
	name=$(basename "$fuzzer" | sed 's/^fuzz_//')
	mkdir -p "$build/corpus/$name" "$build/crashes"
	[ -d "tests/fuzz/seeds/$name" ] && seeds=("tests/fuzz/seeds/$name")
	if "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
		-print_final_stats=1 -artifact_prefix="$build/crashes/$name-" \
		"$build/corpus/$name" "${seeds[@]}" \
		> "$build/$name.log" 2>&1; then
		printf 'fuzz: %s ran %s inputs\n' "$name" \
			"$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$name.log")"
	else
		tail -n 40 "$build/$name.log" >&2
		printf 'fuzz: %s FAILED: see %s\n' "$name" "$build/crashes" >&2
		return 1
	fi
}
export -f run_one

mapfile -t fuzzers < <(find "$build/fuzzer" -type f -name 'fuzz_*' -perm -u+x 2>/dev/null | sort)
if [ "${#fuzzers[@]}" = 0 ]; then
	echo "fuzz: no fuzzer in $build" >&2
	exit 1
fi
# xargs's status tells of a failure in any of them.
printf '%s\n' "${fuzzers[@]}" |
	xargs -P "$(nproc)" -I {} bash -c 'run_one "$@"' run {} "$build" "$seconds"
