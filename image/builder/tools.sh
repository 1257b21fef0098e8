#!/usr/bin/env bash
# image/builder/tools.sh: the few programs that write file systems and partition tables,
# from Debian trixie, unpacked (not installed) into the cache; prints the folder.
#
# Why: e2fsprogs 1.47.2 makes an ext4 straight from a tar and takes every time
# from SOURCE_DATE_EPOCH; bookworm's does neither. With one set of tools an image
# is the same whichever machine builds it. base.sh borrows the others.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${PIPIT_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pipit}
PACKAGES=base-files,coreutils,e2fsprogs,libarchive13t64,mtools,dosfstools,fdisk,findutils,dash,libc-bin,bash,perl-base,dpkg,tar,gzip,xz-utils,zstd,sed,grep,mawk,cpio,kmod,init-system-helpers,systemd,passwd,diffutils
dir=$cache/tools-$({ echo "$PACKAGES $(uname -m) ${PIPIT_DEBIAN_MIRROR:-}"; cat "$here/tools.sh"; } | sha256sum | cut -c1-16)
if [[ ! -e $dir/work ]]; then
	[[ $(id -u) == 0 ]] || { echo "image/builder/tools.sh: needs root" >&2; exit 1; }
	mkdir -p "$cache"
	tmp=$(mktemp -d "$cache/tools-new.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	mmdebstrap --quiet --mode=root --variant=extract --include="$PACKAGES" trixie "$tmp" ${PIPIT_DEBIAN_MIRROR:+"$PIPIT_DEBIAN_MIRROR"} >&2
	# With their own scripts not run, dash is not sh yet and the libraries are not indexed.
	chroot "$tmp" /usr/bin/dash -c 'test -e /bin/sh || ln -s dash /usr/bin/sh; ldconfig'
	: >"$tmp/etc/mtab" # mkfs looks whether its file is mounted
	mkdir "$tmp/work"
	chmod 755 "$tmp"
	rm -rf "$dir"
	mv "$tmp" "$dir"
fi
echo "$dir"
