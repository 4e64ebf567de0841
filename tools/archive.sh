# SPDX-License-Identifier: MIT OR GPL-2.0
# Sourced by other tools: where this machine's Debian archive is, and side indexes of its other
# suites that touch nothing of the system.

KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# archive_uri: the address of the archive that this machine gets its own release from. Needs an
# index (apt-get update has been run); prints nothing and fails without one.
archive_uri() {
	local codename
	codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
		awk -v codename="$codename" '$2 == codename { print $1; found = 1; exit }
			END { exit !found }'
}

# side_index DIR SUITE [TYPES]: an index of SUITE below DIR, used by setting
# APT_CONFIG=DIR/apt.conf; TYPES is deb (binary packages) or deb-src. A fresh one (younger than a
# day) is kept. Fails where the archive has no such suite.
side_index() {
	local dir=$1 suite=$2 types=${3:-deb} uri

	if [ -n "$(find "$dir/fresh" -mtime -1 2>/dev/null)" ]; then
		return 0
	fi
	uri=$(archive_uri) || return 1
	mkdir -p "$dir/lists/partial" "$dir/archives/partial" "$dir/preferences.d"
	: > "$dir/status"
	cat > "$dir/side.sources" <<-END
		Types: $types
		URIs: $uri
		Suites: $suite
		Components: main
		Signed-By: $KEYRING
	END
	cat > "$dir/apt.conf" <<-END
		Dir::Etc::sourcelist "$dir/side.sources";
		Dir::Etc::sourceparts "-";
		Dir::Etc::preferencesparts "$dir/preferences.d";
		Dir::State::lists "$dir/lists";
		Dir::State::status "$dir/status";
		Dir::Cache::archives "$dir/archives";
		Dir::Cache::pkgcache "";
		Dir::Cache::srcpkgcache "";
		APT::Sandbox::User "root";
		Acquire::Languages "none";
		Acquire::Retries "3";
	END
	# Without Error-Mode an unreachable suite is a warning and a success.
	APT_CONFIG=$dir/apt.conf apt-get update -qq -o APT::Update::Error-Mode=any >&2 || return 1
	touch "$dir/fresh"
}

# unpack_root ROOT DEBS PACKAGE...: the packages as a root for chroot, by the index that APT_CONFIG
# names; unpacking follows the links of a merged /usr. What has been downloaded is in DEBS.
unpack_root() {
	local root=$1 debs=$2 package deb
	shift 2
	rm -rf "$root"
	mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,proc,tmp,etc} "$debs"
	for package in bin sbin lib lib64; do
		ln -s "usr/$package" "$root/$package"
	done
	(cd "$debs" && apt-get download -qq "$@" >&2) || return 1
	for package in "$@"; do
		deb=$(find "$debs" -name "${package}_*.deb" | head -n 1)
		[ -n "$deb" ] || return 1
		dpkg-deb --fsys-tarfile "$deb" |
			tar -x --keep-directory-symlink -C "$root" \
				--exclude './usr/share/doc*' ||
			return 1
	done
	chmod 1777 "$root/tmp"
	mknod -m 666 "$root/dev/null" c 1 3 2>/dev/null
	mknod -m 666 "$root/dev/urandom" c 1 9 2>/dev/null
	return 0
}
