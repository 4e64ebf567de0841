#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Runs test programs, as many at once as there are processors; what each says is shown whole, when
# it has ended. Fails when one fails, and when there is none.
#
#   run-tests.sh PROGRAM...
set -u -o pipefail

run_one() {
	local log status=0
	log=$(mktemp)
	"$1" > "$log" 2>&1 || status=$?
	flock "$LOCK" cat "$log"
	[ "$status" = 0 ] || flock "$LOCK" echo "FAILED: $1 (exit $status)"
	rm -f "$log"
	return "$status"
}
export -f run_one

if [ $# = 0 ]; then
	echo "no test to run" >&2
	exit 1
fi
LOCK=$(mktemp)
export LOCK
trap 'rm -f "$LOCK"' EXIT
# xargs's status tells of a failure in any of them.
printf '%s\n' "$@" | xargs -P "$(nproc)" -I {} bash -c 'run_one {}'
