// Package provision is the first boot: it reads pipit.yaml from the card's boot
// partition, which any PC can edit, and turns it into a configured box.
//
// It owns that file, pipit-errors.txt beside it, and the steps from one to the other:
// Read judges the file, all of it at once and in two languages; Host.Apply writes what
// the operating system needs (host name, time zone, network, SSH keys, certificate);
// Enroll makes the organisation and its first administrator on the running server.
// Nothing is applied of a file that has a mistake. What was applied is renamed and its
// secrets are blanked, so that it is read once. Each step may be cut by a pulled plug
// and done again.
//
// It never makes a default password, and writes no secret but to the files that need
// it. It knows the server only as Server, an interface that the tool fills with calls
// on the admin socket. Nothing in it is used from more than one goroutine.
//
// The contract is provisioning/pipit.yaml, which lists every key; a test holds the two
// together.
package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/pipit-im/pipit/pkg/config"
)

// Names of files on the boot partition.
const (
	FileName   = "pipit.yaml"
	UsedName   = "pipit-used.yaml"  // what FileName is called once it was applied
	ErrorsName = "pipit-errors.txt" // what is wrong with it, in plain words
	RosterName = "roster"           // folder with lists of people
)

// otherNames are what editors make of FileName.
var otherNames = []string{"pipit.yaml.txt", "pipit.yml", "pipit.yml.txt", "pipit.txt"}

// Setup is what pipit.yaml says. What it does not say is the zero value, and is left
// as it is.
type Setup struct {
	HostName string // a label (RFC 1123 §2.1), lower case
	Language string // zh, en
	TimeZone string // of the tz database

	Organisation string
	TenantID     string // of the organisation; derived where the file has none
	Kind         string // school, office, open

	Administrator string // name for people
	Username      string // of the administrator; "admin" where the file has none

	Address netip.Prefix // static address; invalid = automatic
	Gateway netip.Addr
	DNS     []netip.Addr
	WiFi    WiFi

	SSHKeys []string // lines of authorized_keys

	Certificate, Key []byte // PEM, both or neither

	secrets map[string]int // keys whose values are blanked after use, and their lines
	file    string         // that was read, with its folder
	text    []byte         // of it, as UTF-8
	keyFile string         // of Key, removed after use
}

// WiFi is a network to join.
type WiFi struct {
	Name, Password string // without a password: an open network
	Country        string // two capitals; "" = the channels that are allowed everywhere
}

// Empty says whether the file said nothing: as it is delivered, all of it is comment.
func (s *Setup) Empty() bool { return s.text == nil }

// ErrNone means that there is no pipit.yaml: a box that has been set up, or a system
// without a boot partition.
var ErrNone = errors.New("there is no " + FileName)

// Read reads pipit.yaml from the folder of the boot partition and judges it. Problems
// are for people: the file, not the program, is wrong. The error is for a folder that
// can't be read, or ErrNone.
func Read(folder string) (Setup, []Problem, error) {
	name, problem, err := find(folder)
	if err != nil || problem != nil {
		return Setup{}, problem, err
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return Setup{}, nil, fmt.Errorf("read %s: %w", name, err)
	}
	text, p := decode(raw)
	if p != nil {
		return Setup{}, []Problem{*p}, nil
	}
	found, faults := config.ReadStrict(text, schema)
	if len(found)+len(faults) == 0 {
		return Setup{file: name}, nil, nil
	}
	s, problems := judge(found, explain(faults, text), folder)
	s.file, s.text = name, text
	return s, problems, nil
}

// find returns the file, whatever an editor made of its name.
func find(folder string) (string, []Problem, error) {
	var there []string
	for _, n := range append([]string{FileName}, otherNames...) {
		if _, err := os.Stat(filepath.Join(folder, n)); err == nil {
			there = append(there, n)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("look for %s: %w", n, err)
		}
	}
	switch len(there) {
	case 0:
		return "", nil, ErrNone
	case 1:
		return filepath.Join(folder, there[0]), nil, nil
	}
	return "", []Problem{problem(0,
		fmt.Sprintf("There are %s. Keep one and delete the others.", strings.Join(there, " and ")),
		fmt.Sprintf("这里有 %s。请只留一个,删掉其余的。", strings.Join(there, " 和 ")))}, nil
}

// Used renames the file that was applied and blanks the secrets in it, and removes a
// private key that was copied and the list of problems. It is done last: cut before it,
// the file is applied once more.
func (s *Setup) Used() error {
	text := s.text
	for key, line := range s.secrets {
		text = blank(text, key, line)
	}
	folder := filepath.Dir(s.file)
	if err := writeFile(filepath.Join(folder, UsedName), text, 0o644); err != nil {
		return err
	}
	for _, name := range []string{s.file, s.keyFile, filepath.Join(folder, ErrorsName)} {
		if name == "" {
			continue
		}
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return syncDir(folder)
}

// blank replaces the value of key, which stands in that line. Where more than the line
// belongs to it, so that the rest would not say what it said, nothing of the file is
// kept.
func blank(text []byte, key string, line int) []byte {
	before, _ := config.ReadStrict(text, schema)
	lines := strings.SplitAfter(string(text), "\n")
	if line >= 1 && line <= len(lines) {
		old := lines[line-1]
		ending := old[len(strings.TrimRight(old, "\r\n")):]
		_, name, _ := strings.Cut(key, ".")
		if head, _, ok := strings.Cut(old, name+":"); ok {
			lines[line-1] = head + name + ": \"" + blanked + "\"" + ending
		}
	}
	out := []byte(strings.Join(lines, ""))
	after, faults := config.ReadStrict(out, schema)
	if v, ok := before[key]; ok && len(faults) == 0 {
		v.Text = []string{blanked}
		before[key] = v
		if reflect.DeepEqual(before, after) {
			return out
		}
	}
	return []byte("# The file was used. It held a secret that could not be taken out, so it was erased.\r\n# 文件已经使用过。其中的密码无法单独抹掉,所以整个文件已清空。\r\n")
}

const blanked = "********"

// writeFile replaces name by data, so that it is what it was or complete and on stable
// storage.
func writeFile(name string, data []byte, mode fs.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	// A mode is given again because a file left by a cut may have had another. FAT has
	// none and refuses some.
	if cerr := f.Chmod(mode); err == nil && !errors.Is(cerr, fs.ErrPermission) {
		err = cerr
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name+".new"))
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
