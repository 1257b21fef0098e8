#!/bin/bash -e
# What a person may edit on any PC before the first start lies on the boot partition.

cp -rv --no-preserve=mode,ownership "${PIPIT_DIR}/provisioning/." "${ROOTFS_DIR}/boot/firmware/"

# The server's watchdog is the Pi's: Raspberry Pi OS switches it on by default
# (dtparam=watchdog), and PID 1 is told to feed it (system.conf.d).
if [ -f "${ROOTFS_DIR}/boot/firmware/config.txt" ] && ! grep -q '^dtparam=watchdog' "${ROOTFS_DIR}/boot/firmware/config.txt"; then
	printf '\n# Pipit: a kernel that hangs is reset\ndtparam=watchdog=on\n' >>"${ROOTFS_DIR}/boot/firmware/config.txt"
fi

# Nobody stands beside the box to switch it off and on: where PID 1 fails before it
# feeds the watchdog, it starts again instead of standing still.
if [ -f "${ROOTFS_DIR}/boot/firmware/cmdline.txt" ] && ! grep -q 'systemd.crash_action=' "${ROOTFS_DIR}/boot/firmware/cmdline.txt"; then
	sed -i '1s/$/ systemd.crash_action=reboot/' "${ROOTFS_DIR}/boot/firmware/cmdline.txt"
fi
