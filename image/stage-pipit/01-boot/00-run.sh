#!/bin/bash -e
# What a person may edit on any PC before the first start lies on the boot partition.

cp -rv --no-preserve=mode,ownership "${PIPIT_DIR}/provisioning/." "${ROOTFS_DIR}/boot/firmware/"

# The server's watchdog is the Pi's: Raspberry Pi OS switches it on by default
# (dtparam=watchdog), and PID 1 is told to feed it (system.conf.d).
if [ -f "${ROOTFS_DIR}/boot/firmware/config.txt" ] && ! grep -q '^dtparam=watchdog' "${ROOTFS_DIR}/boot/firmware/config.txt"; then
	printf '\n# Pipit: a kernel that hangs is reset\ndtparam=watchdog=on\n' >>"${ROOTFS_DIR}/boot/firmware/config.txt"
fi
