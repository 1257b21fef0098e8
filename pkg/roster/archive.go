package roster

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// Read reads a roster as it was uploaded: a zip archive of CSV files, or one CSV
// file, called name. What is wrong with it stands in Problems; an error is about
// the whole: im.TooLarge, or im.Invalid if it is no roster at all.
func Read(name string, content []byte) (*Roster, error) {
	if len(content) > MaxUploadBytes {
		return nil, tooLarge("The roster", MaxUploadBytes)
	}
	if !bytes.HasPrefix(content, []byte("PK\x03\x04")) && !bytes.HasPrefix(content, []byte("PK\x05\x06")) {
		return ReadFiles(map[string][]byte{path.Base(strings.ReplaceAll(name, `\`, "/")): content})
	}
	z, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return nil, im.E(im.Invalid, "The archive can't be read: it is cut short or damaged.").OnField("file")
	}
	files := make(map[string][]byte)
	left := int64(MaxTotalBytes)
	for _, f := range z.File {
		name, ok := wanted(f.Name)
		if !ok || f.FileInfo().IsDir() {
			continue
		}
		if _, twice := files[name]; twice {
			return nil, im.E(im.Invalid, "The archive has %s twice.", name).OnField("file")
		}
		if len(files) == MaxFiles {
			return nil, im.E(im.Invalid, "The archive has more than %d tables.", MaxFiles).OnField("file")
		}
		b, err := unpack(f, min(left, MaxFileBytes))
		if err != nil {
			return nil, err
		}
		left -= int64(len(b))
		files[name] = b
	}
	return ReadFiles(files)
}

// wanted returns the name of a file of an archive or a folder if it is to be
// read: CSV files wherever they are in it, but not what a Mac adds, and never the
// demographics, which nobody here needs to know.
func wanted(name string) (string, bool) {
	name = strings.ReplaceAll(name, `\`, "/")
	if strings.HasPrefix(name, "__MACOSX/") || strings.HasPrefix(path.Base(name), ".") {
		return "", false
	}
	name = strings.ToLower(path.Base(name))
	return name, strings.HasSuffix(name, ".csv") && name != "demographics.csv"
}

// Wanted says whether a file of a folder would be read, for a tool that packs
// one.
func Wanted(name string) bool {
	_, ok := wanted(name)
	return ok
}

// unpack reads one file of an archive, whatever size the archive says it has.
func unpack(f *zip.File, most int64) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, im.E(im.Invalid, "%s can't be unpacked.", cut(path.Base(f.Name))).OnField("file")
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	switch {
	case int64(len(b)) > most:
		return nil, tooLarge(cut(path.Base(f.Name))+", unpacked,", most)
	case err != nil:
		return nil, im.E(im.Invalid, "%s can't be unpacked: it is cut short or damaged.", cut(path.Base(f.Name))).OnField("file")
	}
	return b, nil
}

func tooLarge(what string, limit int64) error {
	return &im.Error{Kind: im.TooLarge, Field: "file", Limit: limit, Message: fmt.Sprintf("%s is larger than %d MB.", what, limit>>20)}
}

// ReadFiles reads a roster from its files by name. Names of OneRoster's files
// make it OneRoster; anything else is one simple CSV.
func ReadFiles(files map[string][]byte) (*Roster, error) {
	named := make(map[string][]byte, len(files))
	for name, content := range files {
		named[strings.ToLower(name)] = content
	}
	_, hasUsers := named["users.csv"]
	_, hasManifest := named["manifest.csv"]
	_, hasClasses := named["classes.csv"]
	switch {
	case hasManifest || hasUsers && hasClasses:
		return readOneRoster(named), nil
	case len(named) == 1:
		for name, content := range files {
			return readSimple(name, content), nil
		}
	case len(named) == 0:
		return nil, im.E(im.Invalid, "There is no CSV file in it.").OnField("file")
	}
	return nil, im.E(im.Invalid, "These files are no OneRoster: that has manifest.csv, users.csv and classes.csv among them. A simple roster is one CSV file.").OnField("file")
}
