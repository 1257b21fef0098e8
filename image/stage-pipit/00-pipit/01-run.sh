#!/bin/bash -e
# Pipit's package and the overlay go in; 02-run-chroot.sh installs and enables them.

if [ ! -f "${PIPIT_DEB}" ]; then
	echo "There is no package of Pipit for arm64. Make it first: make deb (or set PIPIT_DEB)."
	exit 1
fi
# /tmp and /run of the chroot are memory while a script runs in it.
install -v -D -m 644 "${PIPIT_DEB}" "${ROOTFS_DIR}/var/cache/pipit/pipit.deb"

# The overlay of Pipit's own image, but for what belongs to its read-only root:
# Raspberry Pi OS keeps its fstab, its first process and its own compressed swap.
tar -C "${PIPIT_DIR}/image/overlay" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
	--exclude=./etc/fstab --exclude=./data --exclude=./usr/lib/pipit/init \
	--exclude=./usr/lib/pipit/zram --exclude='*/pipit-zram.service' -c . |
	tar -C "${ROOTFS_DIR}" -x --keep-directory-symlink
# sudo refuses a file that others may read.
chmod 440 "${ROOTFS_DIR}"/etc/sudoers.d/pipit
