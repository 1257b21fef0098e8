#!/usr/bin/env bash
# image/builder/base.sh: the base of the image, Debian trixie arm64 without Pipit, as a
# tar in the cache, and the list of what is in it.
#
#   image/builder/base.sh            make it unless it is there; print its path
#   image/builder/base.sh key        print its path only
#   image/builder/base.sh lock       make it and write its versions to packages.lock
#
# It is made by mmdebstrap under emulation (minutes), so it is cached outside
# the checkout, keyed by a hash of everything that goes into it. Needs root and
# mmdebstrap, arch-test, qemu-user-static, binfmt-support. Environment:
#
#   PI5=1                 with the kernel of trixie-backports, which knows the Pi 5
#   PIPIT_DEBIAN_MIRROR   a Debian mirror or a dated snapshot, instead of the default
#   PIPIT_IMAGE_CACHE     instead of ${XDG_CACHE_HOME:-$HOME/.cache}/pipit
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd / # the build goes on when the folder that it was started in goes away
SUITE=trixie
# The date that files of the base carry at most: a base built tomorrow from the
# same packages is the same base.
export SOURCE_DATE_EPOCH=1764028800
PI5=${PI5:-}
cache=${PIPIT_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pipit}

packages() { sed 's/#.*//' "$here/packages.list" | xargs; }

key() {
	{ cat "$here/packages.list" "$here/base.sh" "$here/dpkg.conf" "$here/initramfs-modules.list"; echo "$SUITE ${PI5:+pi5} ${PIPIT_DEBIAN_MIRROR:-}"; } | sha256sum | cut -c1-16
}

# The hooks run inside mmdebstrap, with the root of the new system as $1.

# before_packages: what must be there before a package is configured.
before_packages() {
	local root=$1
	# The first file system is built once, at the end, and from our own list.
	install -D -m 644 /dev/stdin "$root/etc/initramfs-tools/update-initramfs.conf" <<<'update_initramfs=no'
	install -D -m 644 "$here/initramfs-modules.list" "$root/etc/initramfs-tools/modules"
	install -D -m 644 /dev/stdin "$root/etc/initramfs-tools/conf.d/pipit" <<-'CONF'
		MODULES=list
		COMPRESS=zstd
		RESUME=none
	CONF
	# A root that is never written is never checked: no fsck in the first file system.
	install -D -m 644 /dev/stdin "$root/etc/fstab" <<<'/dev/root / ext4 ro 0 0'
	# Keys are made on the device. openssh-server makes none where some are, and
	# under emulation they would cost a minute.
	install -d "$root/etc/ssh"
	for kind in rsa ecdsa ed25519; do : >"$root/etc/ssh/ssh_host_${kind}_key"; : >"$root/etc/ssh/ssh_host_${kind}_key.pub"; done
	# No service starts in a build.
	install -D -m 755 /dev/stdin "$root/usr/sbin/policy-rc.d" <<<$'#!/bin/sh\nexit 101'
	# assemble.sh lays the firmware's files on the boot partition, not a hook.
	install -D -m 644 /dev/stdin "$root/etc/default/raspi-firmware" <<<'SKIP_UPDATE=1'
	mkdir -p "$root/boot/firmware" "$root/var/cache/apt/archives"
	if [[ -n $PI5 ]]; then
		sed "s/ $SUITE / $SUITE-backports /" "$root/etc/apt/sources.list" | head -n 1 >"$root/etc/apt/sources.list.d/backports.list"
		install -D -m 644 /dev/stdin "$root/etc/apt/preferences.d/kernel" <<-CONF
			Package: linux-image-* linux-base
			Pin: release n=$SUITE-backports
			Pin-Priority: 900
		CONF
	fi
}

# grafted are programs that packages' scripts call all the time and that give the
# same result on any processor. While the base is made, they are this machine's own
# and not emulated: shell, Perl, unpacking, and what builds the first file system.
# Left out is what looks at its own processor: dpkg, apt, ldconfig, systemd.
grafted=(bash dash perl dpkg-deb tar gzip xz zstd sed grep mawk cpio find xargs
	cat cp mv rm ln ls mkdir mktemp chmod chown touch head tail sort cut tr uniq wc basename dirname readlink date stat install env expr id test)

# graft: before the first package is configured. dpkg is told that each of these
# files belongs elsewhere (a diversion), so that it unpacks the system's own there.
graft() {
	local root=$1 tools p
	[[ $(uname -m) == x86_64 ]] || return 0
	tools=$("$here/tools.sh")
	cp -a "$tools/usr/lib64" "$root/usr/lib64"
	ln -s usr/lib64 "$root/lib64"
	cp -a "$tools/usr/lib/x86_64-linux-gnu" "$root/usr/lib/x86_64-linux-gnu"
	for p in kmod "${grafted[@]}"; do
		[[ ! -e $root/usr/bin/$p ]] || mv "$root/usr/bin/$p" "$root/usr/bin/$p.arm64"
		cp -L "$tools/usr/bin/$p" "$root/usr/bin/$p"
		printf '%s\n' "/usr/bin/$p" "/usr/bin/$p.arm64" : >>"$root/var/lib/dpkg/diversions"
	done
}

# ungraft: nothing of this machine stays, and the system's own are back in their
# places: first kmod (it goes into the first file system), then the others.
ungraft() {
	local root=$1 p
	[[ -d $root/usr/lib/x86_64-linux-gnu ]] || return 0
	for p in "${@:2}"; do
		rm "$root/usr/bin/$p"
		[[ ! -e $root/usr/bin/$p.arm64 ]] || mv "$root/usr/bin/$p.arm64" "$root/usr/bin/$p"
	done
}

# strangers DIR: programs and libraries that are of x86-64.
strangers() {
	find "$1" -xdev -type f -size +0 -print0 |
		perl -0 -ne 'chomp; open my $f, "<", $_ or next; read $f, my $b, 20; print "$_\n" if $b =~ /^\x7fELF.{14}\x3e\0/s'
}

# after_packages: build the first file system and leave nothing of this machine.
after_packages() {
	local root=$1
	echo 'update_initramfs=yes' >"$root/etc/initramfs-tools/update-initramfs.conf"
	local version
	version=$(cd "$root/usr/lib/modules" && ls)
	ungraft "$root" kmod
	rm -f "$root"/usr/lib/x86_64-linux-gnu/libkmod.so* # mkinitramfs would take it along
	chroot "$root" mkinitramfs -o "/boot/initrd.img-$version" "$version"
	chroot "$root" unmkinitramfs "/boot/initrd.img-$version" /tmp/initrd
	ungraft "$root" "${grafted[@]}"
	perl -i -ne 'push @r, $_; if (@r == 3) { print @r unless $r[1] =~ /\.arm64$/; @r = () }' "$root/var/lib/dpkg/diversions"
	rm -rf "$root/usr/lib64" "${root:?}/lib64" "$root/usr/lib/x86_64-linux-gnu"
	[[ -z $(strangers "$root") ]] || { echo "base.sh: programs of another processor are left:"; strangers "$root"; return 1; } >&2
	[[ -n $(find "$root/tmp/initrd" -maxdepth 2 -name init -perm -100) && -z $(strangers "$root/tmp/initrd") ]] || { echo "base.sh: the first file system is not whole:"; strangers "$root/tmp/initrd"; return 1; } >&2
	rm -rf "$root/tmp/initrd"
	# Kept of mmdebstrap's settings: what dpkg leaves out, for who adds a package by hand.
	sed -i '/^force-/d' "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
	rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap"
	chroot "$root" dpkg-query -W -f '${Package}=${Version}\n' | LC_ALL=C sort >"$root/usr/share/pipit-packages.lock"
	chroot "$root" dpkg-query -W -f '${Package}\t${Version}\t${Architecture}\t${Source}\t${Homepage}\n' | LC_ALL=C sort >"$root/usr/share/pipit-packages.tsv"
	rm -f "$root"/etc/ssh/ssh_host_* "$root/usr/sbin/policy-rc.d" "$root"/var/log/*.log "$root"/var/log/apt/* \
		"$root"/var/lib/dpkg/*-old "$root"/var/cache/debconf/*-old "$root/etc/machine-id" "$root/var/lib/dbus/machine-id" \
		"$root/etc/hostname"
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/ldconfig "$root"/var/cache/apt/*.bin "$root/var/lib/systemd/random-seed"
	: >"$root/etc/machine-id"
}

build() {
	local tar=$1 debs=$cache/debs-$SUITE-arm64 options=() m
	for m in mmdebstrap arch-test update-binfmts zstd cpio; do
		command -v "$m" >/dev/null || { echo "image/builder/base.sh: needs $m (Debian: mmdebstrap arch-test qemu-user-static binfmt-support zstd cpio)" >&2; return 1; }
	done
	[[ $(id -u) == 0 ]] || { echo "image/builder/base.sh: needs root" >&2; return 1; }
	emulation
	mkdir -p "$debs" "$(dirname "$tar")"
	tmp=$(mktemp -d "${TMPDIR:-/tmp}/pipit-base.XXXXXX")
	trap 'rm -rf "$tmp"' EXIT
	# dpkg flushes every file; on memory that costs nothing.
	if [[ $(stat -f -c %T "$tmp") != tmpfs && $(awk '/MemAvailable/ { print int($2 / 1048576) }' /proc/meminfo) -ge 4 ]] &&
		mount -t tmpfs -o size=3g,mode=700 tmpfs "$tmp"; then
		trap 'umount -l "$tmp"; rm -rf "$tmp"' EXIT
	fi
	while read -r m; do options+=("--dpkgopt=$m"); done < <(sed 's/#.*//;/^\s*$/d' "$here/dpkg.conf")
	# systemd-hwdb costs tens of seconds and describes keyboards and mice.
	# INITRD=No: the kernel's script builds no first file system; after_packages does, once.
	export SYSTEMD_HWDB_UPDATE_BYPASS=1 INITRD=No PI5 DEBIAN_FRONTEND=noninteractive
	TMPDIR=$tmp mmdebstrap --mode=root --variant=apt --architectures=arm64 \
		--components="main contrib non-free-firmware" \
		--include="$(packages | tr ' ' ,)" --aptopt='APT::Install-Recommends "false"' --aptopt='#clear DPkg::Pre-Install-Pkgs' "${options[@]}" --dpkgopt=force-confold \
		--skip=download/empty --skip=essential/unlink \
		--setup-hook="'$here/base.sh' hook before_packages \"\$1\"" \
		--setup-hook="sync-in '$debs' /var/cache/apt/archives/" \
		--extract-hook="'$here/base.sh' hook graft \"\$1\"" \
		--customize-hook="sync-out /var/cache/apt/archives '$debs'" \
		--customize-hook="rm -f \"\$1\"/var/cache/apt/archives/*.deb" \
		--customize-hook="'$here/base.sh' hook after_packages \"\$1\"" \
		"$SUITE" "$tmp/base.tar" ${PIPIT_DEBIAN_MIRROR:+"$PIPIT_DEBIAN_MIRROR"} >&2
	rm -rf "$debs/partial" "$debs/lock"
	tar -xOf "$tmp/base.tar" ./usr/share/pipit-packages.lock >"${tar%.tar.zst}.lock"
	tar -xOf "$tmp/base.tar" ./usr/share/pipit-packages.tsv >"${tar%.tar.zst}.tsv"
	zstd -q -3 -T0 -f "$tmp/base.tar" -o "$tar.new"
	mv "$tar.new" "$tar"
}

# emulation makes the kernel run arm64 programs, in chroots too (flag F).
emulation() {
	[[ $(uname -m) == aarch64 ]] && return
	[[ -e /proc/sys/fs/binfmt_misc/status ]] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
	[[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]] || update-binfmts --enable qemu-aarch64
}

case ${1:-} in
hook) "$2" "$3" ;;
key) echo "$cache/base-$SUITE-arm64-$(key).tar.zst" ;;
emulation) emulation ;;
lock | '')
	tar=$("$here/base.sh" key)
	if [[ ! -e $tar ]]; then
		echo "base: building $(basename "$tar") under emulation; once, this takes minutes" >&2
		build "$tar"
	fi
	[[ ${1:-} != lock ]] || cp "${tar%.tar.zst}.lock" "$here/packages${PI5:+-pi5}.lock"
	echo "$tar"
	;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2 ;;
esac
