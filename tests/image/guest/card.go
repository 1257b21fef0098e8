package guest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Partition is a row of a card's table.
type Partition struct {
	Type           byte
	Bootable       bool
	Offset, Length int64 // bytes
}

// Table reads the MBR of a card: its disk id and the partitions in use.
func Table(card string) (id uint32, parts []Partition, err error) {
	f, err := os.Open(card)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	var sector [512]byte
	if _, err := io.ReadFull(f, sector[:]); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", card, err)
	}
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return 0, nil, fmt.Errorf("%s has no partition table", card)
	}
	for i := range 4 {
		row := sector[446+16*i:]
		if row[4] == 0 {
			continue
		}
		parts = append(parts, Partition{
			Type: row[4], Bootable: row[0] == 0x80,
			Offset: int64(binary.LittleEndian.Uint32(row[8:])) * 512, Length: int64(binary.LittleEndian.Uint32(row[12:])) * 512,
		})
	}
	return binary.LittleEndian.Uint32(sector[440:]), parts, nil
}

// FAT is the boot partition of a card that no machine runs from, as a person
// sees it on a PC.
type FAT struct{ at string }

// OpenFAT finds the boot partition.
func OpenFAT(card string) (*FAT, error) {
	_, parts, err := Table(card)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 || parts[0].Type != 0x0c {
		return nil, fmt.Errorf("%s: the first partition is no FAT32", card)
	}
	return &FAT{at: fmt.Sprintf("%s@@%d", card, parts[0].Offset)}, nil
}

func mtool(in io.Reader, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	// The table of a card that grew is none of mtools' business.
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	cmd.Stdin = in
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return out, nil
}

// Read returns a file's content.
func (f *FAT) Read(name string) ([]byte, error) { return mtool(nil, "mtype", "-i", f.at, "::/"+name) }

// Extract copies a file out.
func (f *FAT) Extract(name, to string) error {
	_, err := mtool(nil, "mcopy", "-n", "-o", "-i", f.at, "::/"+name, to)
	return err
}

// Write makes or replaces a file.
func (f *FAT) Write(name, content string) error {
	_, err := mtool(strings.NewReader(content), "mcopy", "-o", "-i", f.at, "-", "::/"+name)
	return err
}

// List returns the paths of all files.
func (f *FAT) List() ([]string, error) {
	out, err := mtool(nil, "mdir", "-i", f.at, "-b", "-/", "::/")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name := strings.TrimPrefix(strings.TrimSpace(line), "::/"); name != "" && !strings.HasSuffix(name, "/") {
			names = append(names, name)
		}
	}
	return names, nil
}
