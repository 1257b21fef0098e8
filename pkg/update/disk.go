package update

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// disk is what an update does to the file system. The real one is osDisk; the
// test of cuts records the calls and plays every prefix of them.
type disk interface {
	Mkdir(name string, mode fs.FileMode) error
	// Write makes a file that must not exist, fills it and brings it to stable
	// storage.
	Write(name string, mode fs.FileMode, fill func(io.Writer) error) error
	Rename(from, to string) error
	RemoveAll(name string) error
	// SyncDir brings the entries of a folder to stable storage.
	SyncDir(name string) error
}

type osDisk struct{}

// Mkdir makes a folder with exactly this mode, whatever the umask.
func (osDisk) Mkdir(name string, mode fs.FileMode) error {
	if err := os.Mkdir(name, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// Write implements disk.
func (osDisk) Write(name string, mode fs.FileMode, fill func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// Rename, RemoveAll and SyncDir implement disk.
func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }

// RemoveAll implements disk.
func (osDisk) RemoveAll(name string) error { return os.RemoveAll(name) }

// SyncDir implements disk.
func (osDisk) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// ownerOf returns who owns an open file, and its mode.
func ownerOf(f *os.File) (uid uint32, mode fs.FileMode, err error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fmt.Errorf("%s: no owner known", f.Name())
	}
	return st.Uid, fi.Mode(), nil
}

// programOwner is who owns the program that runs: whoever that is could replace
// the program, so his keys and versions are believed.
func programOwner() owners {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		return owners{0}
	}
	defer f.Close()
	uid, _, err := ownerOf(f)
	if err != nil {
		return owners{0}
	}
	return owners{uid}
}
