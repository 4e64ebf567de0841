#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Half a minute of demo/service.py on the stock interpreter with pyleakd beside it (make demo).
#
#   demo.sh PYLEAKD [SECONDS]
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1

pyleakd=${1:?usage: demo.sh PYLEAKD [SECONDS]}
seconds=${2:-30}
python=/usr/bin/python3.11
service= load=

finish() {
	# shellcheck disable=SC2086 # empty where it was never started
	[ -z "$load$service" ] || kill $load $service 2>/dev/null
	wait 2>/dev/null
}
trap finish EXIT
trap 'exit 130' INT TERM

if [ "$(id -u)" != 0 ]; then
	echo "demo: needs root: sudo make demo" >&2
	exit 1
fi

exec 3< <(exec "$python" demo/service.py)
service=$!
read -r -t 10 port <&3 || { echo "demo: the service did not start" >&2; exit 1; }
"$python" demo/service.py --load "$port" &
load=$!

echo "demo/service.py is pid $service. Running: pyleakd --pid $service --duration ${seconds}s" >&2
"$pyleakd" --pid "$service" --duration "${seconds}s" --interval 2s | cat
