#!/usr/bin/env bash
# image/pi-gen.sh: Raspberry Pi OS with Pipit, made by an unmodified pi-gen. What
# `make pi-gen` runs, as root.
#
#   PI_GEN_DIR=/path/to/pi-gen image/pi-gen.sh     a checkout of its branch arm64
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
: "${PI_GEN_DIR:?names no checkout of pi-gen: git clone --branch arm64 https://github.com/RPi-Distro/pi-gen}"
[[ -x $PI_GEN_DIR/build.sh ]] || { echo "there is no build.sh in $PI_GEN_DIR" >&2; exit 1; }

PIPIT_DEB=$(realpath "${PIPIT_DEB:-$(cd "$here" && image/deb/build.sh arm64)}")
export PIPIT_DEB
# Raspberry Pi OS Lite by itself is not exported (pi-gen's README, "Stage specification").
[[ ! -d $PI_GEN_DIR/stage2 ]] || touch "$PI_GEN_DIR/stage2/SKIP_IMAGES"
# It looks for the program by the name that trixie gives it.
if ! command -v qemu-arm >/dev/null && command -v qemu-arm-static >/dev/null; then
	shim=$(mktemp -d)
	trap 'rm -rf "$shim"' EXIT
	ln -s "$(command -v qemu-arm-static)" "$shim/qemu-arm"
	PATH=$PATH:$shim
fi
git -C "$PI_GEN_DIR" rev-parse HEAD >/dev/null 2>&1 || export GIT_HASH=${GIT_HASH:-unknown}
cd "$PI_GEN_DIR"
./build.sh -c "$here/pi-gen.conf"
