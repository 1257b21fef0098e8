#!/usr/bin/env bash
# image/deb/build.sh: the Debian packages, into .build/deb/.
#
#   image/deb/build.sh [ARCH…]      amd64 arm64 armhf; all three without a name
#
# Expects the programs in .build/release/ (make release-build) or builds them. Prints
# the path of each package. The version is the nearest tag (1.2.3), or 0~git… without
# one; SOURCE_DATE_EPOCH or the last commit's time is the time of every file.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

GO=${GO:-go}
out=${PIPIT_DEB_OUT:-.build/deb}
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1764028800)}
export SOURCE_DATE_EPOCH

# debVersion: a Debian version begins with a digit and sorts a later build above an
# earlier one.
debVersion() {
	case $1 in
	v[0-9]*) sed 's/^v//; s/-\([0-9]*\)-g/+\1.g/; s/-dirty/+0.dirty/; s/-/~/g' <<<"$1" ;;
	*) echo "0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M).$(tr -c 'a-zA-Z0-9.\n' . <<<"$1")" ;;
	esac
}
DEB_VERSION=$(debVersion "$version")
mkdir -p "$out" .build/tools
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

(cd image/tools && $GO build -o ../../.build/tools/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm)

cat >"$stage/copyright" <<'C'
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Pipit
Source: https://github.com/pipit-im/pipit

Files: *
Copyright: 2026 The Pipit authors
License: Apache-2.0
 On Debian systems the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
C
# A package of its own makers has one changelog, in Debian's form.
{
	printf "pipit (%s) stable; urgency=medium\n\n" "$DEB_VERSION"
	sed -n "/^## /,\$ s/^- /  * /p" CHANGELOG.md | fold -s -w 75 | sed "/^  \*/!s/^/    /; s/ *\$//"
	printf "\n -- Pipit engineers <pipit@pipit.invalid>  %s\n" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$stage/changelog.gz"
gzip -9nc image/deb/pipitd.8 >"$stage/pipitd.8.gz"
$GO build -ldflags "-X github.com/pipit-im/pipit/pkg/app.Version=$version" -o .build/tools/pipit ./cmd/pipit
.build/tools/pipit man "$stage/man" >/dev/null
gzip -9n "$stage"/man/*.8
.build/tools/pipit completion bash >"$stage/pipit.bash"

for arch in "${@:-amd64 arm64 armhf}"; do
	for DEB_ARCH in $arch; do
		case $DEB_ARCH in
		amd64) goarch=amd64 goarm='' ;;
		arm64) goarch=arm64 goarm='' ;;
		armhf) goarch=arm goarm=7 ;;
		*) echo "image/deb/build.sh: no such architecture: $DEB_ARCH" >&2; exit 2 ;;
		esac
		DEB_BIN=.build/release/linux-$goarch${goarm:+v$goarm}
		mkdir -p "$DEB_BIN"
		CGO_ENABLED=0 GOOS=linux GOARCH=$goarch GOARM=$goarm $GO build -trimpath \
			-ldflags "-s -w -X github.com/pipit-im/pipit/pkg/app.Version=$version" -o "$DEB_BIN/" ./cmd/pipitd ./cmd/pipit
		export DEB_ARCH DEB_VERSION DEB_BIN DEB_STAGE=$stage
		file=$out/pipit_${DEB_VERSION}_$DEB_ARCH.deb
		.build/tools/nfpm package --packager deb --config image/deb/nfpm.yaml --target "$file" >"$stage/nfpm.log" 2>&1 || { cat "$stage/nfpm.log" >&2; exit 1; }
		echo "$file"
	done
done
