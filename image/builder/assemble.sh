#!/usr/bin/env bash
# image/builder/assemble.sh: the card image, from the base (base.sh), Pipit's package and
# the overlay. Seconds; no loop device; the same bytes each time.
#
#   image/builder/assemble.sh --deb FILE --output FILE.img [--epoch SECONDS]
#
# Writes FILE.img and beside it FILE.packages.tsv (what is in it, for the SBOM).
# Needs root, mmdebstrap, zstd and 3 GiB of memory or TMPDIR.
#
# The card, MBR, each partition at a multiple of 4 MiB:
#   1  FAT32  BOOTFS  256 MiB  the firmware's files, kernel, pipit.yaml
#   2  ext4   root    what it holds and 64 MiB; mounted read-only
#   3  ext4   data    64 MiB, grown to the card's end at first boot
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
deb='' output='' epoch=${SOURCE_DATE_EPOCH:-}
while (($#)); do
	case $1 in
	--deb) deb=$2; shift 2 ;;
	--output) output=$2; shift 2 ;;
	--epoch) epoch=$2; shift 2 ;;
	*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d' >&2; exit 2 ;;
	esac
done
[[ -n $deb && -n $output ]] || { echo "image/builder/assemble.sh: say --deb FILE and --output FILE.img" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "image/builder/assemble.sh: needs root (owners of files, mounts)" >&2; exit 1; }
base=$("$here/base.sh")
tools=$("$here/tools.sh")
: "${epoch:=$(git -C "$here" log -1 --format=%ct 2>/dev/null || echo 1764028800)}"
export SOURCE_DATE_EPOCH=$epoch TZ=UTC LC_ALL=C

MIB=1048576
BOOT_MIB=256 DATA_MIB=64

# Everything happens in a mount namespace of its own: no mount outlives this.
if [[ ${PIPIT_ASSEMBLE_INSIDE:-} != 1 ]]; then
	PIPIT_ASSEMBLE_INSIDE=1 exec unshare --mount --propagation private "$0" --deb "$(realpath "$deb")" --output "$(realpath -m "$output")" --epoch "$epoch"
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/pipit-image.XXXXXX")
trap 'umount -l "$work/tools/work" "$work/tools" "$work" 2>/dev/null; rm -rf "$work"' EXIT
if (($(awk '/MemAvailable/ { print int($2 / 1024) }' /proc/meminfo) > 4096)); then
	mount -t tmpfs -o size=4g,mode=755 tmpfs "$work"
fi
root=$work/out/root boot=$work/out/boot
mkdir -p "$root" "$boot" "$work/tools"
mount --bind "$tools" "$work/tools"
mount --bind "$work/out" "$work/tools/work"
# tool COMMAND…: the tools of trixie, the same on every machine that builds. /work is out/.
tool() { chroot "$work/tools" /usr/bin/env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }

# 1. the system
zstd -qdc "$base" | tar -C "$root" -xp --numeric-owner --xattrs --xattrs-include='*'
# The tools' dpkg, in place of the system's own under emulation; Pipit's scripts know how to work on another root.
cp "$deb" "$work/out/pipit.deb"
tool dpkg --root=/work/root --force-architecture --force-depends --force-script-chrootless --force-unsafe-io --log=/dev/null \
	--install /work/pipit.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; exit 1; }
tar -C "$here/../overlay" -c --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX . | tar -C "$root" -xp --keep-directory-symlink
chmod 440 "$root"/etc/sudoers.d/*
tool systemd-sysusers --root=/work/root

# 2. the boot partition: firmware, kernel and what a person edits; not twice on the card
cp -r "$root"/usr/lib/raspi-firmware/* "$boot/"
cp "$root"/usr/lib/linux-image-*/broadcom/*.dtb "$boot/"
mv "$root"/boot/vmlinuz-* "$boot/vmlinuz"
mv "$root"/boot/initrd.img-* "$boot/initrd.img"
rm -rf "$root"/usr/lib/raspi-firmware "$root"/usr/lib/linux-image-*/ "$root"/boot/firmware/* "$root"/boot/System.map-* "$root"/{vmlinuz,initrd.img}*
cp "$here"/boot/* "$boot/"
cp -r "$here"/../../provisioning/. "$boot/"

# 3. root as a tar in one order, with one clock; its hash names the disk
find "$root" -newermt "@$epoch" -exec touch -h -d "@$epoch" {} +
tar -C "$root" -c --sort=name --numeric-owner --format=posix --pax-option='delete=atime,delete=ctime' \
	--xattrs --xattrs-include='security.capability' --clamp-mtime --mtime="@$epoch" . >"$work/out/root.tar"
id=$(sha256sum <"$work/out/root.tar" | cut -c1-32)
uuid() { local h; h=$(printf '%s %s' "$id" "$1" | sha256sum | cut -c1-32); echo "${h:0:8}-${h:8:4}-4${h:13:3}-8${h:17:3}-${h:20:12}"; }
sed -i "s/@DISKID@/${id:0:8}/" "$boot/cmdline.txt"
used_mib=$(($(du -s --apparent-size --block-size=1 "$root" | cut -f1) / MIB))
root_mib=$(((used_mib * 112 / 100 + 64 + 3) / 4 * 4))
cp "$root/usr/share/pipit-packages.tsv" "${output%.img}.packages.tsv"
rm -rf "$root"

# 4. the file systems. Files enter the FAT one by one in sorted order, so that it is the same each time.
truncate -s "${BOOT_MIB}M" "$work/out/boot.vfat"
tool mkfs.vfat --invariant -F 32 -n BOOTFS -i "${id:8:8}" /work/boot.vfat >/dev/null
find "$boot" -exec touch -h -d "@$epoch" {} +
(cd "$boot" && find . -mindepth 1 -type d -printf '::/%P\0' | sort -z) | tool xargs -0 -r mmd -i /work/boot.vfat
(cd "$boot" && find . -type f -printf '%P\0' | sort -z) >"$work/out/files"
tool sh -c 'xargs -0 -n 1 sh -c "mcopy -m -i /work/boot.vfat \"/work/boot/\$1\" \"::/\$1\"" - </work/files'

# ext4FS FILE MIB LABEL EXTENDED OPTION…: an ext4 whose every field follows from its content.
# 16 MiB of journal bound what a start after a power cut has to read.
ext4FS() {
	local file=$1 mib=$2 label=$3 extended=$4
	shift 4
	truncate -s "${mib}M" "$work/out/$file"
	tool env LC_ALL=C.UTF-8 E2FSPROGS_FAKE_TIME="$epoch" mkfs.ext4 -q -F -L "$label" -U "$(uuid "$label")" -J size=16 \
		-E "hash_seed=$(uuid "$label hash"),lazy_itable_init=0,lazy_journal_init=0,nodiscard$extended" "$@" "/work/$file"
}
ext4FS root.ext4 "$root_mib" root '' -d /work/root.tar
# As /usr/lib/pipit/init makes it after a factory reset; and it can grow online to a
# card of 2 TiB (in blocks of 4 KiB), where it could to 64 GiB only.
ext4FS data.ext4 "$DATA_MIB" data ,resize=536870912 -b 4096 -m 0 -i 65536 -O metadata_csum

# 5. the card
boot_at=4 root_at=$((4 + BOOT_MIB)) data_at=$((4 + BOOT_MIB + root_mib))
truncate -s "$((data_at + DATA_MIB))M" "$work/out/card.img"
tool sfdisk -q --no-tell-kernel --no-reread /work/card.img <<TABLE
label: dos
label-id: 0x${id:0:8}
start=${boot_at}MiB, size=${BOOT_MIB}MiB, type=c, bootable
start=${root_at}MiB, size=${root_mib}MiB, type=83
start=${data_at}MiB, size=${DATA_MIB}MiB, type=83
TABLE
put() { dd if="$work/out/$1" of="$work/out/card.img" bs=1M seek="$2" conv=notrunc,sparse status=none; }
put boot.vfat "$boot_at"
put root.ext4 "$root_at"
put data.ext4 "$data_at"
cp --sparse=always "$work/out/card.img" "$output.new"
mv "$output.new" "$output"
echo "$output: boot $BOOT_MIB MiB, root $root_mib MiB, data $DATA_MIB MiB"
