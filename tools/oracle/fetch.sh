#!/bin/bash
# SPDX-License-Identifier: MIT OR GPL-2.0
# The oracle of probe plans: Debian's release interpreter 3.11 with the DWARF that its build left
# in python3.11-dbg, which says where the compiler inlined what.
#
#   fetch.sh [DIR]     unpacks both packages, of one version, below DIR (build/oracle)
#
# Nothing is installed. What is there already is kept. The installed python3.11 may be of another
# version than the archive's: so both come from the archive.
set -eu -o pipefail
cd "$(dirname "$0")/../.."

DIR=${1:-${BUILD:-build}/oracle}
PACKAGES='python3.11-minimal python3.11-dbg'

if [ -e "$DIR/complete" ]; then
	exit 0
fi
rm -rf "$DIR"
mkdir -p "$DIR/debs"
version=$(apt-cache show python3.11-dbg 2>/dev/null | awk '/^Version:/ { print $2; exit }')
if [ -z "$version" ]; then
	echo "oracle: the package index has no python3.11-dbg: run apt-get update" >&2
	exit 1
fi
for package in $PACKAGES; do
	(cd "$DIR/debs" && apt-get download -qq "$package=$version")
	dpkg-deb -x "$DIR/debs/$package"_*.deb "$DIR"
done
rm -rf "$DIR/debs"
# The debug file is found by the release interpreter's build ID.
build_id=$(readelf -n "$DIR/usr/bin/python3.11" | awk '/Build ID:/ { print $3; exit }')
debug=$DIR/usr/lib/debug/.build-id/${build_id:0:2}/${build_id:2}.debug
if [ ! -e "$debug" ]; then
	echo "oracle: python3.11-dbg $version has no debug file for build ID $build_id" >&2
	exit 1
fi
ln -sf "$(realpath --relative-to="$DIR" "$debug")" "$DIR/python3.11.debug"
touch "$DIR/complete"
echo "oracle: python3.11 $version, build ID $build_id" >&2
