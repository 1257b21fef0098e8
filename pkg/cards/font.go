package cards

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/pipit-im/pipit/pkg/im"
)

// Fonts are the files that hold Latin and Chinese letters both, in the order of
// preference: what Debian's fonts-wqy-microhei installs.
var Fonts = []string{"/usr/share/fonts/truetype/wqy/wqy-microhei.ttc"}

// Package is the Debian package that Fonts come with.
const Package = "fonts-wqy-microhei"

// maxFontBytes bounds a font file.
const maxFontBytes = 32 << 20

// font returns the first of the files that is there, as a single TrueType font.
func font(files []string) ([]byte, error) {
	for _, name := range files {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, im.Wrap("cards: open a font", err)
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxFontBytes))
		if err != nil {
			return nil, im.Wrap("cards: read a font", err)
		}
		return single(b)
	}
	return nil, im.E(im.Unavailable, "To print this as PDF, a font is missing on the box: install it (sudo apt install %s), or print the cards as HTML, which needs none.", Package)
}

var errFont = errors.New("cards: not a TrueType font")

// single takes the first font out of a collection (OpenType 1.9, "Font
// Collections"): a table directory of its own, with the tables behind it. A single
// font is returned as it is.
func single(b []byte) ([]byte, error) {
	if len(b) < 16 {
		return nil, errFont
	}
	if string(b[:4]) != "ttcf" {
		return b, nil
	}
	at := int(binary.BigEndian.Uint32(b[12:]))
	if at < 0 || at+12 > len(b) {
		return nil, errFont
	}
	n := int(binary.BigEndian.Uint16(b[at+4:]))
	head := 12 + 16*n
	if at+head > len(b) {
		return nil, errFont
	}
	out := slices.Clone(b[at : at+head])
	for i := range n {
		entry := out[12+16*i : 28+16*i]
		from, size := int(binary.BigEndian.Uint32(entry[8:])), int(binary.BigEndian.Uint32(entry[12:]))
		if from < 0 || size < 0 || from+size > len(b) || len(out)+size > maxFontBytes {
			return nil, errFont
		}
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
		binary.BigEndian.PutUint32(out[12+16*i+8:], uint32(len(out)))
		out = append(out, b[from:from+size]...)
	}
	return out, nil
}
