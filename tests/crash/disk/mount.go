package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each wait for a helper process or the kernel. It is generous because only a broken machine meets it.
const patience = 60 * time.Second

// poll calls ok every few milliseconds until it says true or fails, or patience ends.
func poll(what string, ok func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := ok()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("disk: %s did not happen within %v", what, patience)
		case <-tick.C:
		}
	}
}

// Mount shows the disk as an ext4 at dir, an existing directory. The first Mount makes the file system, unless the disk has a Base.
func (d *Disk) Mount(dir string) error {
	if d.closed {
		return errClosed
	}
	if d.mounted != "" {
		return fmt.Errorf("disk: already mounted at %s", d.mounted)
	}
	if err := d.startFuse(); err != nil {
		return err
	}
	// Direct I/O: the loop device must not answer reads from the page cache of the fuse file, or injected read
	// errors would never be seen.
	loop, err := attachLoop(d.export(), unix.LO_FLAGS_DIRECT_IO)
	if err != nil {
		return err
	}
	defer loop.Close()
	if !d.formatted {
		if err := makeExt4(loop.Name()); err != nil {
			return err
		}
		d.formatted = true
	}
	if err := mountExt4(loop.Name(), dir); err != nil {
		return err
	}
	d.mounted = dir
	if d.opts.Lie {
		if err := syncFS(dir); err != nil {
			return errors.Join(err, d.Unmount())
		}
		d.SetLie(true)
	}
	return nil
}

// SetLie says whether flushes that come from now on are acknowledged without persisting.
func (d *Disk) SetLie(lie bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lying = lie
}

// Unmount takes the file system off its directory, as an orderly shutdown would. Nothing may be open on it. The disk can be mounted again.
func (d *Disk) Unmount() error {
	if d.mounted == "" {
		return errors.New("disk: not mounted")
	}
	if err := unmount(d.mounted); err != nil {
		return err
	}
	d.mounted = ""
	return nil
}

func (d *Disk) export() string { return filepath.Join(d.scratch, "nbd", "disk") }

// startFuse starts nbdfuse, unless it runs, and returns when it shows the disk as a file.
func (d *Disk) startFuse() error {
	if d.fuse != nil {
		return nil
	}
	dir := filepath.Dir(d.export())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	var said bytes.Buffer
	cmd := exec.Command("nbdfuse", d.export(), "--unix", d.socket())
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	d.fuse, d.fuseDone = cmd, make(chan error, 1)
	go func() { d.fuseDone <- cmd.Wait() }() // waited for by stopFuse
	return poll("nbdfuse showing the disk", func() (bool, error) {
		select {
		case err := <-d.fuseDone:
			d.fuse = nil
			return false, fmt.Errorf("disk: nbdfuse ended (%v): %s", err, bytes.TrimSpace(said.Bytes()))
		default:
		}
		st, err := os.Stat(d.export())
		return err == nil && st.Size() == d.opts.SizeBytes, nil
	})
}

// stopFuse ends the nbdfuse that startFuse started: it ends by itself when its mount goes.
func (d *Disk) stopFuse() error {
	if d.fuse == nil {
		return nil
	}
	err := unmount(filepath.Dir(d.export()))
	if err != nil {
		err = errors.Join(err, unix.Unmount(filepath.Dir(d.export()), unix.MNT_DETACH), d.fuse.Process.Kill())
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case werr := <-d.fuseDone:
		if err == nil && werr != nil {
			err = fmt.Errorf("disk: nbdfuse: %w", werr)
		}
	case <-timer.C:
		err = errors.Join(err, fmt.Errorf("disk: nbdfuse did not end within %v", patience), d.fuse.Process.Kill())
		<-d.fuseDone
	}
	d.fuse = nil
	return err
}

// attachLoop makes a block device of the file at path. The kernel takes the device away when its last user closes
// it or unmounts it, so there is nothing to detach, also when this process dies.
func attachLoop(path string, flags uint32) (*os.File, error) {
	back, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer back.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer control.Close()
	var dev *os.File
	err = poll("a free loop device", func() (bool, error) {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return false, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		dev, err = os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if errors.Is(err, os.ErrNotExist) {
			return false, nil // the kernel is still making the node
		}
		if err != nil {
			return false, err
		}
		config := unix.LoopConfig{Fd: uint32(back.Fd()), Size: sectorBytes}
		config.Info.Flags = flags | unix.LO_FLAGS_AUTOCLEAR
		copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
		err = unix.IoctlLoopConfigure(int(dev.Fd()), &config)
		if err == nil {
			return true, nil
		}
		dev.Close()
		if errors.Is(err, unix.EBUSY) {
			return false, nil // another process took this number first
		}
		return false, os.NewSyscallError("LOOP_CONFIGURE", err)
	})
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	return dev, nil
}

// makeExt4 makes the file system as a distribution's image has it, but complete: no thread that goes on writing
// tables after the mount, which would make logs of the same load differ.
func makeExt4(device string) error {
	// A disk this small would get blocks of 1 KiB; a card has 4 KiB.
	return run("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
}

func mountExt4(device, dir string) error {
	if err := unix.Mount(device, dir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("disk: mounting %s at %s: %w", device, dir, err)
	}
	return nil
}

func unmount(dir string) error {
	err := poll("the end of the last use of "+dir, func() (bool, error) {
		err := unix.Unmount(dir, 0)
		if errors.Is(err, unix.EBUSY) {
			return false, nil // a process that was killed just now may still hold it for a moment
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("disk: unmounting %s: %w", dir, err)
	}
	return nil
}

// syncFS writes back everything that the file system at dir holds in memory.
func syncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("disk: syncfs %s: %w", dir, err)
	}
	return nil
}

func run(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("disk: %s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// Image is the disk as a power cut left it. What is done to it does not touch the disk it came from,
// but its file lies in that disk's scratch directory: close it first.
type Image struct {
	path    string
	mounted string
}

// Path is the image's file, of the size of the disk, until Close: for Options.Base, or for programs that look at
// damage. Writes of a mounted image may not have reached it yet.
func (img *Image) Path() string { return img.path }

// Mount mounts the image at dir, an existing directory, through a loop device; ext4 replays its journal, as at the start after a cut.
func (img *Image) Mount(dir string) error {
	if img.mounted != "" {
		return fmt.Errorf("disk: image already mounted at %s", img.mounted)
	}
	loop, err := attachLoop(img.path, 0)
	if err != nil {
		return err
	}
	defer loop.Close()
	if err := mountExt4(loop.Name(), dir); err != nil {
		return err
	}
	img.mounted = dir
	return nil
}

// Unmount takes the image off its directory; what was written to it is in the file then. Nothing may be open on it.
func (img *Image) Unmount() error {
	if img.mounted == "" {
		return errors.New("disk: image not mounted")
	}
	if err := unmount(img.mounted); err != nil {
		return err
	}
	img.mounted = ""
	return nil
}

// Close unmounts the image, if it is mounted, and removes its file. Closing again does nothing.
func (img *Image) Close() error {
	if img.path == "" {
		return nil
	}
	if img.mounted != "" {
		if err := img.Unmount(); err != nil {
			return err
		}
	}
	err := os.Remove(img.path)
	img.path = ""
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}
