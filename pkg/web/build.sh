#!/usr/bin/env bash
# Builds the web client into dist, if anything that it is made of has changed.
#
#   build.sh            build; says so and ends well where Node.js or npm is missing
#   build.sh packages   install the npm packages of package-lock.json, if they are not
#   build.sh able       whether this machine can build it
#   build.sh again      build once more in another folder, and fail unless it is the same byte for byte
set -euo pipefail
cd "$(dirname "$0")"
stamp=../../.build/web.stamp

able() {
	command -v npm >/dev/null && command -v node >/dev/null && [[ $(node -p 'process.versions.node.split(".")[0] >= 20') == true ]]
}

# packages follows the lockfile exactly, and does nothing if that was done.
packages() {
	local mark=node_modules/.installed
	if ! cmp -s package-lock.json "$mark" 2>/dev/null; then
		npm ci --no-audit --no-fund --loglevel=error >/dev/null
		cp package-lock.json "$mark"
	fi
}

sources() {
	find app sdk/src package.json package-lock.json -type f -not -path '*/node_modules/*' -not -path '*/.svelte-kit/*' -not -path 'app/test/*' | LC_ALL=C sort | xargs sha256sum | sha256sum
}

case ${1:-} in
able) able ;;
packages) packages ;;
again)
	other=$(mktemp -d)
	trap 'rm -rf "$other"' EXIT
	mkdir -p "$other/pkg/web/dist" && cp -a app sdk package.json package-lock.json "$other/pkg/web/" && ln -s "$PWD/node_modules" "$other/pkg/web/node_modules"
	(cd "$other/pkg/web" && node_modules/.bin/vite build app --logLevel error)
	diff -rq -x placeholder.txt dist "$other/pkg/web/dist" || { echo "building the web client twice gives two results"; exit 1; }
	;;
*)
	if [[ ${WEB:-} == no ]] || ! able; then
		[[ -e dist/index.html ]] || echo "The web client is not in this build: it needs Node.js 20 or newer and npm."
		exit 0
	fi
	mkdir -p ../../.build
	if [[ -e dist/index.html && $(sources) == $(cat "$stamp" 2>/dev/null) ]]; then
		exit 0
	fi
	packages
	echo "building the web client"
	node_modules/.bin/vite build app --logLevel error
	sources >"$stamp"
	;;
esac
