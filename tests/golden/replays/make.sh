#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# Records the sessions of this directory anew, with the reports that they made (as root).
#
#   make.sh PYLEAKD [NAME...]     NAME: leaking-3.11, threads-3.11, ...
#
# The programs run with an empty environment and without site, so that nothing of the machine
# is in their memory but the interpreter's own paths.
set -eu
pyleakd=$(realpath "${1:?usage: make.sh PYLEAKD [NAME...]}")
shift
cd "$(dirname "$0")/../../.."
here=tests/golden/replays

record() {
	local name=$1 program=${1%%-*}.py root=$2
	shift 2
	mkdir -p "$root/srv/replays"
	cp "$here/$program" "$root/srv/replays/"
	(cd / && exec env -i "$@" -I -S "/srv/replays/$program") &
	local target=$!
	sleep 0.7
	"$pyleakd" --pid "$target" --duration 5s --interval 200ms --record "$here/$name.rec" \
		--format json --output "$here/$name.json"
	kill "$target"
	wait "$target" 2> /dev/null || true
	rm -r "$root/srv/replays"
	chmod 644 "$here/$name.rec"
	"$pyleakd" replay "$here/$name.rec" --output "$here/$name.txt"
	"$pyleakd" replay "$here/$name.rec" --format json | cmp - "$here/$name.json"
}

debian=$PWD/build/interpreters/debian
for name in "${@:-leaking-3.11 threads-3.11 leaking-3.9 leaking-3.14}"; do
	for each in $name; do
		case $each in
		*-3.11) record "$each" "" /usr/bin/python3.11 ;;
		*) record "$each" "$debian-${each#*-}" /usr/sbin/chroot "$debian-${each#*-}" \
			"/usr/bin/python${each#*-}" ;;
		esac
	done
done
