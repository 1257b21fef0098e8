#!/usr/bin/env bash
# image/builder/image.sh: Pipit's own card image, into .build/image/. What `make
# image` runs. Prints the path of the image.
#
#   VERSION=1.2.3 PI5=1 image/builder/image.sh
#
# In order: the package for arm64, the base (cached), the image, its SBOM.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1764028800)}
export VERSION SOURCE_DATE_EPOCH
out=.build/image
name=$out/pipit-$VERSION-${PI5:+pi5-}arm64
mkdir -p "$out"

deb=$(image/deb/build.sh arm64)
base=$(image/builder/base.sh)
image/builder/assemble.sh --deb "$deb" --output "$name.img" >&2
${GO:-go} run ./image/release sbom -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH" -packages "$name.packages.tsv" \
	-out "$name.cdx.json" .build/release/linux-arm64/pipitd .build/release/linux-arm64/pipit

# What the image is made of against what the last release was made of.
lock=image/builder/packages${PI5:+-pi5}.lock
if ! diff -u --label "$lock" --label "this build" "$lock" "${base%.tar.zst}.lock" >"$out/lock.diff"; then
	{ echo "Debian's packages differ from $lock (make image-lock takes them over):"; grep '^[-+][^-+]' "$out/lock.diff" || cat "$out/lock.diff"; } >&2
	[[ ${LOCKED:-} != 1 ]] || exit 1
fi
echo "$deb" >"$name.deb-path"
echo "$name.img"
