#!/usr/bin/env bash
# The steps behind `make`: tests/run.sh test|check|e2e|screenshots|race|bench|torture|fuzz|gen-check.
#
# Each step is announced, timed and run even if one before it failed; the run
# fails if any did. What could not run is listed at the end (tests/skips), and
# with CI=true that fails too. Nothing here knows a path outside the checkout.
set -uo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
BUILD=.build
SKIPPED=$BUILD/skipped
MODULE=$($GO list -m) || exit 1

# Tests that fill a disk against a running store: they run by themselves, with
# the other faults, and not beside three packages that slow the disk down.
ALONE='^TestDiskFull$'

# Reads bombs of zeros with one goroutine, nothing else: 2 s, and 45 s under the race
# detector. `make test` runs it without, `make race` with it too.
SINGLE='^TestBounds$'

failed=()
began=$SECONDS

# worked is how many seconds of processor time the steps so far took (proc(5),
# cutime and cstime): on a machine shared with others the clock says little.
worked() {
	local stat
	read -r -a stat </proc/$$/stat
	echo $(((stat[15] + stat[16]) / $(getconf CLK_TCK)))
}

# step NAME COMMAND…: run one step and say how long it took. A pipeline that hears
# nothing takes a long step for a dead one, so each minute says that it goes on.
step() {
	local name=$1 start=$SECONDS work beat good=0
	work=$(worked)
	shift
	printf '\n== %s\n' "$name"
	while sleep 60 </dev/null >/dev/null 2>&1; do printf '   %s: %d s\n' "$name" $((SECONDS - start)); done &
	beat=$!
	"$@" || good=$?
	{ kill "$beat" && wait "$beat"; } 2>/dev/null
	if ((good == 0)); then
		printf -- '-- %s: %d s, %d s of processors (%d s so far)\n' "$name" $((SECONDS - start)) $(($(worked) - work)) $((SECONDS - began))
	else
		printf -- '-- %s: FAILED after %d s\n' "$name" $((SECONDS - start))
		failed+=("$name")
	fi
}

# both COMMAND COMMAND: two at once, one of which waits where the other one works; what
# the second says comes after the first.
both() {
	local good=0 log=$BUILD/second.log second
	$2 >"$log" 2>&1 &
	second=$!
	$1 || good=1
	wait "$second" || good=1
	cat "$log"
	return "$good"
}

# note TEXT: remember that a whole step could not run.
note() { "$BUILD/skips" -to "$SKIPPED" -note "$*"; }

# Packages at a time: each waits half of the time, for a disk, a timer or a process.
# Without paths in what is compiled, a checkout at another place compiles nothing anew.
export GOFLAGS="${GOFLAGS:-} -trimpath -p=$((2 * $(nproc)))"

# gotest ARGS…: go test, one line a package, failures in full, skips remembered. No result
# of an earlier run counts: some tests build and start the server, which Go does not see.
gotest() { $GO test -count=1 -json "$@" 2>&1 | "$BUILD/skips" -to "$SKIPPED"; }

# prepare builds the filter and forgets the skips of the run before.
prepare() {
	mkdir -p "$BUILD" && rm -f "$SKIPPED" && $GO build -o "$BUILD/skips" ./tests/skips
}

# tools [COMMAND:PACKAGE…] installs what the tests need, and these, where that is
# possible and anything is missing. A failure is no error here: the tests that need it say so.
tools() {
	local missing=() pair
	for pair in gcc:gcc gcc:libc6-dev nbdfuse:libnbd-bin fusermount3:fuse3 mkfs.ext4:e2fsprogs pdftoppm:poppler-utils certutil:libnss3-tools apache2:apache2-bin \
		mmdebstrap:mmdebstrap systemd-nspawn:systemd-container lintian:lintian dpkg-deb:dpkg ssh-keygen:openssh-client "$@"; do
		PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	[[ -n $(browser) ]] || missing+=(chromium-headless-shell)
	[[ -e /usr/lib/apache2/modules/mod_auth_openidc.so ]] || missing+=(libapache2-mod-auth-openidc)
	# Fonts have no command: Chinese text and emoji, as on the phones of the users.
	[[ -e /usr/share/fonts/truetype/wqy ]] || missing+=(fonts-wqy-microhei)
	[[ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ]] || missing+=(fonts-noto-color-emoji)
	runs32 || command -v qemu-arm-static >/dev/null || missing+=(qemu-user-static)
	if ((${#missing[@]} == 0)); then
		return 0
	fi
	if [[ $(id -u) != 0 || ! -e /etc/debian_version ]] || ! command -v apt-get >/dev/null; then
		echo "missing (install by hand, or run as root on Debian): ${missing[*]}"
		return 0
	fi
	echo "installing ${missing[*]}"
	local log=$BUILD/apt.log
	export DEBIAN_FRONTEND=noninteractive
	if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
		tail -n 3 "$log"
		echo "could not install them all; what needs them will be listed as skipped"
	fi
}

formatted() {
	local wrong
	wrong=$(gofmt -l cmd pkg tests) || return 1
	[[ -z $wrong ]] || { printf 'not formatted (gofmt -w): %s\n' "$wrong"; return 1; }
}

# generated compares what `go generate` makes with what is there. It asks no
# version control, so it works on an unpacked archive too.
generated() {
	local sources before after
	sources=$(grep -rl --include='*.go' '^//go:generate' cmd pkg tests) || return 0 # nothing to make
	marks() { { grep -rlI --exclude-dir=node_modules 'Code generated .* DO NOT EDIT' cmd pkg tests; ls pkg/api/openapi.yaml; } 2>/dev/null | sort -u | xargs -r sha256sum; }
	before=$(marks)
	# shellcheck disable=SC2046 # package folders have no spaces
	$GO generate $(dirname $sources | sort -u | sed 's|^|./|') || return 1
	after=$(marks)
	[[ $before == "$after" ]] || { echo "not current; they are now, look at the difference and commit it:"; diff <(echo "$before") <(echo "$after"); return 1; }
}

# cross builds every command and compiles every test for the boards.
cross() {
	local target arch arm
	for target in arm64: arm:7 amd64: 386:; do
		arch=${target%:*} arm=${target#*:}
		echo "linux/$arch${arm:+ v$arm}"
		CGO_ENABLED=0 GOOS=linux GOARCH=$arch GOARM=$arm $GO build ./... || return 1
	done
	CGO_ENABLED=0 GOOS=linux GOARCH=arm GOARM=7 $GO vet ./pkg/... || return 1
}

# The 32-bit architecture that a kernel like this one may run without help.
WORD=386
[[ $(uname -m) == aarch64 ]] && WORD=arm

# runs32 tells whether this kernel does.
runs32() { CGO_ENABLED=0 GOARCH=$WORD $GO run ./tests/skips -summary /nonexistent >/dev/null 2>&1; }

# words32 runs the packages with atomics, sizes and system calls as 32-bit
# binaries, where a 64-bit atomic that is not aligned panics. Most kernels of amd64
# and of arm64 boards run them; where they don't, QEMU does, but for the tests that
# start their own binary again, which it does not take over.
words32() {
	local list=() p how=() skip=$ALONE word=$WORD
	for p in netloop hub chat gateway wire metrics sysd config im bus store wal auth client; do
		[[ -d pkg/$p ]] && list+=("./pkg/$p/...")
	done
	if ! runs32; then
		if ! command -v qemu-arm-static >/dev/null; then
			note "32-bit tests: this kernel runs no $word binaries (Debian: qemu-user-static)"
			return 0
		fi
		word=arm how=(-exec qemu-arm-static) skip="$ALONE|^(TestKill|TestListenersFromSystemd|TestListenersRefused)$"
		echo "emulated: this kernel runs no $WORD binaries"
	fi
	CGO_ENABLED=0 GOARCH=$word GOARM=7 gotest -timeout 20m "${how[@]}" -skip "$skip" "${list[@]}"
}

race() {
	if ! command -v "$($GO env CC)" >/dev/null; then
		note "race detector: needs a C compiler (Debian: gcc libc6-dev)"
		return 0
	fi
	CGO_ENABLED=1 gotest -race -timeout 20m -skip "$ALONE${1:+|$1}" ./pkg/...
}

# targets KIND: a line for each package with functions of that kind (Fuzz,
# Benchmark), the package first. None at all is an error, not a success.
targets() {
	local out
	out=$($GO test -list "^$1" ./...) || { echo "$out" >&2; return 1; }
	awk -v kind="^$1" '$0 ~ kind { t = t " " $1 } /^ok/ { if (t) { print $2 t; n++ } t = "" } END { exit !n }' <<<"$out"
}

fuzz() {
	local list pkg names name bad=0
	list=$(targets Fuzz) || return 1
	while read -r pkg names; do
		for name in $names; do
			printf '%s %s\n' "${pkg#"$MODULE"/}" "$name"
			$GO test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-30s}" "$pkg" </dev/null >"$BUILD/fuzz.log" 2>&1 || { cat "$BUILD/fuzz.log"; bad=1; }
		done
	done <<<"$list"
	return $bad
}

# bench runs one package at a time: ratios taken beside another load mean
# nothing.
bench() {
	local list pkg names bad=0
	list=$(targets Benchmark) || return 1
	while read -r pkg names; do
		$GO test -run '^$' -bench . -benchmem -benchtime "${BENCHTIME:-1s}" -timeout 60m "$pkg" </dev/null || bad=1
	done <<<"$list"
	return $bad
}

# bars drives the built server end to end and prints every bar of the design with
# its figure (tests/load/RESULTS.md says what they mean).
bars() { make -s build && $GO run ./tests/load -bin "$BUILD"; }

units() {
	local list
	# The longest first: with them at the end the others would be done and wait.
	list=$({ $GO list ./tests/... ./cmd/... && $GO list ./...; } | awk '!seen[$0]++' | grep -v -e "^$MODULE/tests/crash" -e "^$MODULE/tests/image/boot" -e "^$MODULE/tests/twin") || return 1
	# shellcheck disable=SC2086 # a list of packages
	gotest -timeout 20m -skip "$ALONE" $list
}

# strangers installs the npm packages of tests/signin as its lockfile says: clients
# and providers that nobody here wrote. Without them those tests skip.
strangers() {
	local mark=node_modules/.installed
	pkg/web/build.sh able || return 0
	(cd tests/signin && { cmp -s package-lock.json "$mark" || { npm ci --no-audit --no-fund --loglevel=error >/dev/null && cp package-lock.json "$mark"; }; })
}

# web checks and builds the web client and runs the tests that need no browser.
web() {
	if ! pkg/web/build.sh able; then
		note "web client: needs Node.js 20 or newer and npm"
		return 0
	fi
	pkg/web/build.sh packages && (cd pkg/web && npm run --silent check && NO_COLOR=1 npm run --silent test -- --reporter=dot) && pkg/web/build.sh && pkg/web/build.sh again
}

# browser is the one for the tests: Chromium without windows, which takes two thirds of
# the processor time of the whole one, or that.
browser() { command -v chromium-headless-shell || command -v chromium; }

# e2e drives the built client in a real browser against a real pipitd.
e2e() {
	if ! pkg/web/build.sh able; then
		note "browser tests: need Node.js 20 or newer and npm"
		return 0
	fi
	if [[ -z $(browser) ]]; then
		note "browser tests: need a browser (Debian: chromium-headless-shell)"
		return 0
	fi
	local way
	for way in together alone; do
		(cd pkg/web && NO_COLOR=1 PIPIT_E2E=$way CHROMIUM=$(browser) npx --no vitest run --config vitest.e2e.config.ts) || return 1
	done
}

# twin boots the image's own system as a container: the units, the first boot, the
# watchdog, the packages.
twin() { gotest -timeout 20m ./tests/twin; }

screenshots() { (cd pkg/web && NO_COLOR=1 PIPIT_SCREENSHOTS=1 CHROMIUM=$(browser) npx --no vitest run --config vitest.e2e.config.ts); }

crash() {
	gotest -p 1 -timeout "$1" ./tests/crash/... || return 1
	gotest -timeout "$1" -run "$ALONE" ./pkg/store/badgerstore
}

# What building and booting the card image needs.
IMAGE_TOOLS=(mmdebstrap:mmdebstrap arch-test:arch-test qemu-aarch64-static:qemu-user-static update-binfmts:binfmt-support zstd:zstd cpio:cpio
	qemu-system-aarch64:qemu-system-arm mcopy:mtools fsck.fat:dosfstools sfdisk:fdisk debugfs:e2fsprogs systemd-nspawn:systemd-container)

# card builds the card image; boot boots it (tests/image/boot).
card() {
	if [[ $(id -u) != 0 ]] || ! command -v mmdebstrap >/dev/null; then
		note "card image: needs root on Debian"
		return 0
	fi
	image/builder/image.sh >"$BUILD/image-path" && cat "$BUILD/image-path"
}

boot() {
	local image
	image=$PWD/$(cat "$BUILD/image-path" 2>/dev/null) && [[ -f $image ]] || return 0 # said already
	PIPIT_IMAGE=$image PIPIT_DEB=$PWD/$(cat "${image%.img}.deb-path") gotest -timeout "$1" "${@:2}" ./tests/image/boot
}

checks() {
	step "formatting" formatted
	step "vet" $GO vet ./...
	step "staticcheck" $GO tool staticcheck ./...
	step "the plan of the house" gotest ./tests/arch
	step "generated files" generated
}

case ${1:-} in
test)
	step "tools for the tests" prepare
	step "packages for the tests" tools "${IMAGE_TOOLS[@]}"
	checks
	step "web client" web
	step "clients and providers for the tests" strangers
	step "unit tests" units
	step "web client in a browser" e2e
	step "race detector" race "$SINGLE"
	step "the twin of the card, and 32-bit tests" both twin words32
	step "faults, short form, and other boards" both "crash 20m" cross
	step "card image" card
	step "card image, booted" boot 40m -run '^Test(Appliance|SmallBoard|SameTwice|Layout|NothingSecret)$'
	step "what was skipped" "$BUILD/skips" -summary "$SKIPPED"
	;;
check)
	step "tools for the tests" prepare
	checks
	;;
race)
	step "tools for the tests" prepare
	step "race detector" race
	;;
torture)
	step "tools for the tests" prepare
	step "packages for the tests" tools
	step "faults, long form" crash 24h
	step "bit rot, long form" gotest -timeout 24h -run '^TestBitRot$' ./pkg/store/badgerstore
	step "what was skipped" "$BUILD/skips" -summary "$SKIPPED"
	;;
e2e)
	step "tools for the tests" prepare
	step "packages for the tests" tools
	step "web client" web
	step "web client in a browser" e2e
	step "what was skipped" "$BUILD/skips" -summary "$SKIPPED"
	;;
image)
	step "tools for the tests" prepare
	step "packages for the tests" tools "${IMAGE_TOOLS[@]}"
	step "card image" card
	step "card image, booted" boot 60m
	step "what was skipped" "$BUILD/skips" -summary "$SKIPPED"
	;;
image-torture)
	step "tools for the tests" prepare
	step "packages for the tests" tools "${IMAGE_TOOLS[@]}"
	step "card image" card
	step "card image, power cuts" boot 12h -run '^TestPowerCuts$'
	step "what was skipped" "$BUILD/skips" -summary "$SKIPPED"
	;;
screenshots)
	step "tools for the tests" prepare
	step "packages for the tests" tools
	step "web client" pkg/web/build.sh
	step "screenshots" screenshots
	;;
fuzz)
	step "tools for the tests" prepare
	step "fuzzing, ${FUZZTIME:-30s} each" fuzz
	;;
bench)
	step "benchmarks" bench
	step "bars, end to end" bars
	;;
gen-check) step "generated files" generated ;;
*)
	echo "usage: tests/run.sh test|check|e2e|screenshots|race|bench|torture|image|image-torture|fuzz|gen-check" >&2
	exit 2
	;;
esac

echo
if ((${#failed[@]} > 0)); then
	printf 'FAILED: %s\n' "${failed[@]}"
	exit 1
fi
echo "All steps passed in $((SECONDS - began)) s, with $(worked) s of processor time."
