#!/usr/bin/env bash
# image/release.sh: everything that is published, into .build/release-VERSION/. What
# `make release` runs, as root on Debian.
#
#   KEY=FILE        the secret update key (pipit update keygen): signs bundles and sums
#   URL=ADDRESS     the folder that the files will be downloaded from, for Imager's list
#   PI5=0           without the image for the Pi 5
#   COMPRESS=zst    for trying: seconds instead of minutes
#   LOCKED=0        take Debian's packages as they are today
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1764028800)}
URL=${URL:-https://github.com/pipit-im/pipit/releases/download/$VERSION}
COMPRESS=${COMPRESS:-xz}
LOCKED=${LOCKED:-1}
export VERSION SOURCE_DATE_EPOCH LOCKED
GO=${GO:-go}
[[ -n ${KEY:-} ]] || { echo "image/release.sh: name the secret update key: make release KEY=FILE (pipit update keygen makes one)" >&2; exit 2; }
[[ -f $KEY ]] || { echo "image/release.sh: there is no key $KEY: pipit update keygen NAME makes NAME.key" >&2; exit 2; }
KEY=$(realpath "$KEY")
out=.build/release-$VERSION
rm -rf "$out"
mkdir -p "$out"

compress() {
	case $COMPRESS in
	xz) xz -q -6 -T0 -c "$1" >"$2.xz" ;;
	zst) zstd -q -10 -T0 -f "$1" -o "$2.zst" ;;
	*) echo "image/release.sh: COMPRESS is xz or zst" >&2; return 2 ;;
	esac
}

echo "== packages"
image/deb/build.sh amd64 arm64 armhf | xargs -I{} cp {} "$out/"

echo "== programs and bundles"
make -s bundle VERSION="$VERSION" KEY="$KEY" BUILT="$SOURCE_DATE_EPOCH" >/dev/null
cp .build/release/pipit-"$VERSION"-*.pipit "$out/"
for name in arm64 armv7 amd64; do
	tar -C .build/release --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
		--transform="s|^linux-$name|pipit-$VERSION-linux-$name|" -c "linux-$name" | gzip -9n >"$out/pipit-$VERSION-linux-$name.tar.gz"
done
tar -C image --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --mode=u=rw,go=r,a+X \
	-c cloud-init -C .. provisioning | gzip -9n >"$out/pipit-$VERSION-cloud-init.tar.gz"

echo "== images"
for pi5 in '' 1; do
	[[ -z $pi5 || ${PI5:-1} != 0 ]] || continue
	image=$(PI5=$pi5 image/builder/image.sh)
	compress "$image" "$out/$(basename "$image")"
	cp "${image%.img}.cdx.json" "${image%.img}.packages.tsv" "$out/"
	if [[ -z $pi5 ]]; then
		$GO run ./image/release imager -version "$VERSION" -epoch "$SOURCE_DATE_EPOCH" -url "$URL" -image "$image" \
			-download "$out/$(basename "$image").$COMPRESS" -out "$out/pipit.rpi-imager-manifest"
	fi
done

chmod 644 "$out"/* # tools make files for themselves only; these are for everybody

echo "== sums"
$GO run ./image/release sums -key "$KEY" "$out"
cat "$out/SHA256SUMS"
echo "$out"
