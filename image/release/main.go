// Command release writes the lists that go with a release: what is in the image
// (SBOM), what Raspberry Pi Imager offers, and the sums of all files with their
// signature. image/release.sh calls it for each; it builds nothing and talks to
// nobody. The same input gives the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

const usage = `usage:
  release sbom   -version V -epoch SECONDS -packages FILE.tsv -out FILE PROGRAM…
  release imager -version V -epoch SECONDS -url ADDRESS -image FILE.img -download FILE.img.xz -out FILE
  release sums   [-key FILE] DIR`

func run(args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	f := flag.NewFlagSet("release "+args[0], flag.ContinueOnError)
	version := f.String("version", "", "the `VERSION` of the release")
	epoch := f.Int64("epoch", 0, "when it was made, in `SECONDS` since 1970")
	packages := f.String("packages", "", "the Debian packages: name, version, architecture, source, home page, tab-separated")
	out := f.String("out", "", "the `FILE` to write")
	image := f.String("image", "", "the card image")
	download := f.String("download", "", "the compressed card image")
	address := f.String("url", "", "the `ADDRESS` of the folder that the files are downloaded from")
	key := f.String("key", "", "the secret update key that signs the sums")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	when := time.Unix(*epoch, 0).UTC()
	switch {
	case args[0] == "sbom" && *version != "" && *packages != "" && *out != "":
		return writeSBOM(*out, *version, when, *packages, f.Args())
	case args[0] == "imager" && *version != "" && *image != "" && *download != "" && *address != "" && *out != "":
		return writeImagerList(*out, *version, when, *address, *image, *download)
	case args[0] == "sums" && f.NArg() == 1:
		return writeSums(f.Arg(0), *key)
	}
	return errors.New(usage)
}
