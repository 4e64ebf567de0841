#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# make bench: the C benchmarks, then whole sessions. As root, on a machine that does nothing else.
#
#   run.sh BUILD
set -eu -o pipefail
cd "$(dirname "$0")/.."
build=${1:?usage: run.sh BUILD}

for bench in "$build"/bench/*; do
	if [ -f "$bench" ] && [ -x "$bench" ]; then
		echo "== $(basename "$bench")"
		"$bench"
	fi
done
echo "== exact mode, whole sessions"
PYLEAKD=$build/pyleakd /usr/bin/python3 bench/exact.py
