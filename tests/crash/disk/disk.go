// Package disk is a virtual disk that can lose its power: the proof that what was acknowledged is on stable storage.
// A process that is killed proves nothing about that, because the kernel's page cache survives it; this disk forgets
// what was not flushed.
//
// How: a small NBD server in this process keeps every write and flush, and the marks of its caller, in one ordered
// log. Debian's nbdfuse shows the export as a file, a loop device makes a block device of the file, and an ordinary
// ext4 with its journal lies on that. The program under test runs on it. For any position of the log, [Disk.CutAt] rebuilds the disk as a power
// cut at that moment could have left it: what the last completed flush covered is there, of later writes any were
// lost, kept, kept without their predecessors, or torn by sectors of 512 bytes. The live disk is not touched by that, so
// one run under load yields as many cuts as are asked for. The same disk can flush slowly, answer EIO, or lie about flushing.
//
// It owns the processes, loop devices and mounts it starts, and a scratch directory; [Disk.Close] and [Image.Close] end them
// all. What a killed test process left behind is cleared by the next [New]. It never changes anything outside its
// scratch directory and the mount points that it is given. It needs root; [Available] says what is missing.
//
// The disk is served by this process, so this process must never take a page fault on the disk: a program that
// maps files there (badger does) belongs in a process of its own, or a garbage collection can wait for a thread
// that waits for this very server. Plain system calls from here are fine.
//
// All methods are safe for concurrent use, but Mount, Unmount and Close of one Disk or Image are for one caller at a time.
package disk

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Options say what disk to make. Only SizeBytes is needed.
type Options struct {
	// SizeBytes is the size of the disk, a multiple of 4096, at least 16 MiB. The scratch space needed is what is
	// written of it, once more for the log of all writes, and once more for each image.
	SizeBytes int64
	// FlushDelay is how long each flush takes; flushes queue behind one another as in an SD card.
	FlushDelay time.Duration
	// Lie makes the disk acknowledge flushes without persisting anything, once the first Mount has returned.
	Lie bool
	// LieCacheBytes is the volatile cache of a lying disk: the newest writes of that many bytes can be lost.
	// Default 8 MiB.
	LieCacheBytes int64
	// LogBytes bounds the log. When it is full, writes are answered with EIO and Close returns an error: a run
	// longer than its log proves nothing about what came after. Default 1 GiB.
	LogBytes int64
	// Dir holds the scratch directory; default os.TempDir(). It must not be on a disk of this package.
	Dir string
	// Base is a file whose content the disk starts with, such as Image.Path() of a cut whose image is not
	// mounted; the first Mount then finds that file system and does not make one. Its size must be SizeBytes.
	// New copies it.
	Base string
	// Seed is that of the injected faults.
	Seed uint64
}

// Stats counts what the disk was asked for.
type Stats struct {
	Writes, Zeroes    int64 // write requests; trims and write-zeroes
	BytesWritten      int64
	Flushes           int64 // completed and honest
	LiedFlushes       int64 // acknowledged without persisting
	FailedFlushes     int64 // answered with EIO
	ReadEIO, WriteEIO int64 // injected
}

var errClosed = errors.New("the disk is closed")

// Disk is a virtual disk whose every write can be lost again.
type Disk struct {
	opts     Options
	scratch  string
	log      *journal
	content  *os.File // what a reader sees now; the server's alone
	listener net.Listener

	serving  sync.WaitGroup
	closing  chan struct{}
	flushing sync.Mutex // held by the one flush that is being carried out

	mu       sync.Mutex // guards what follows
	conns    map[net.Conn]struct{}
	rng      *rand.Rand
	readEIO  float64
	writeEIO float64
	flushEIO float64
	delay    time.Duration
	lying    bool
	readErrs int64
	writErrs int64
	images   int   // made so far, for their names
	fault    error // first fault of the rig itself

	// Of the one caller of Mount, Unmount and Close.
	fuse      *exec.Cmd
	fuseDone  chan error
	formatted bool
	mounted   string
	closed    bool
}

// New makes the disk and serves it on a socket in its scratch directory. The caller must Close it.
func New(opts Options) (_ *Disk, err error) {
	if opts.SizeBytes < 16<<20 || opts.SizeBytes%4096 != 0 {
		return nil, fmt.Errorf("disk: SizeBytes is %d: want a multiple of 4096, at least 16 MiB", opts.SizeBytes)
	}
	if opts.LieCacheBytes == 0 {
		opts.LieCacheBytes = 8 << 20
	}
	if opts.LogBytes == 0 {
		opts.LogBytes = 1 << 30
	}
	if opts.Dir == "" {
		opts.Dir = os.TempDir()
	}
	if err := sweep(opts.Dir); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(opts.Dir, scratchName(os.Getpid()))
	if err != nil {
		return nil, fmt.Errorf("disk: scratch directory: %w", err)
	}
	d := &Disk{
		opts: opts, scratch: scratch, closing: make(chan struct{}), conns: make(map[net.Conn]struct{}),
		rng: rand.New(rand.NewPCG(opts.Seed, 1)), delay: opts.FlushDelay, formatted: opts.Base != "",
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if opts.Base != "" {
		own, err := d.newContent("base") // every image begins with it, and the caller's may go
		if err != nil {
			return nil, err
		}
		d.opts.Base = own.Name()
		if err := own.Close(); err != nil {
			return nil, fmt.Errorf("disk: %w", err)
		}
	}
	if d.log, err = openJournal(filepath.Join(scratch, "log"), opts.LogBytes); err != nil {
		return nil, err
	}
	if d.content, err = d.newContent("content"); err != nil {
		return nil, err
	}
	if d.listener, err = net.Listen("unix", d.socket()); err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	d.serving.Add(1)
	go d.accept()
	return d, nil
}

// URI is where another NBD client than Mount reaches the disk, such as a virtual machine. One connection at a time.
func (d *Disk) URI() string { return "nbd+unix:///?socket=" + d.socket() }

func (d *Disk) socket() string { return filepath.Join(d.scratch, "nbd.sock") }

// newContent makes a file in the scratch directory that holds what the disk held before its first write.
func (d *Disk) newContent(name string) (_ *os.File, err error) {
	f, err := os.OpenFile(filepath.Join(d.scratch, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("disk: initial content: %w", err), f.Close(), os.Remove(f.Name()))
			f = nil
		}
	}()
	if d.opts.Base != "" {
		base, err := os.Open(d.opts.Base)
		if err != nil {
			return nil, err
		}
		defer base.Close()
		if st, err := base.Stat(); err != nil || st.Size() != d.opts.SizeBytes {
			return nil, errors.Join(err, fmt.Errorf("%s is not of %d bytes", d.opts.Base, d.opts.SizeBytes))
		}
		if err := copySparse(f, base); err != nil {
			return nil, err
		}
	}
	return f, f.Truncate(d.opts.SizeBytes)
}

// copySparse copies what src has allocated; holes stay holes, since most of a test disk is one.
func copySparse(dst, src *os.File) error {
	for off := int64(0); ; {
		start, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil
		}
		if err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if off, err = unix.Seek(int(src.Fd()), start, unix.SEEK_HOLE); err != nil {
			return os.NewSyscallError("lseek", err)
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, start), io.NewSectionReader(src, start, off-start)); err != nil {
			return err
		}
	}
}

// Stamp puts v as a mark behind everything that has happened to the disk so far, and returns the position just after it:
// what was acknowledged before the call is owed by every cut at that position or a later one. v is kept for Stamps
// until Close and may be nil.
func (d *Disk) Stamp(v any) int64 { return d.log.stamp(v) }

// Stamps yields the marks that a cut at pos must honour, with their positions, in order.
func (d *Disk) Stamps(pos int64) (iter.Seq2[int64, any], error) { return d.log.stampsBefore(pos) }

// Position is the end of the log now, in records.
func (d *Disk) Position() int64 { return d.log.position() }

// SetFaults sets the probability, 0 to 1, with which each read, write or flush that reaches the disk from now on is
// answered with EIO. A failed write changes nothing; a failed flush makes nothing durable, a later good one does.
// The file system's cache answers most reads and never asks the disk.
func (d *Disk) SetFaults(readEIO, writeEIO, flushEIO float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readEIO, d.writeEIO, d.flushEIO = readEIO, writeEIO, flushEIO
}

// SetFlushDelay changes Options.FlushDelay for flushes that come from now on.
func (d *Disk) SetFlushDelay(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay = delay
}

// Stats returns the counts so far.
func (d *Disk) Stats() Stats {
	d.mu.Lock()
	s := Stats{ReadEIO: d.readErrs, WriteEIO: d.writErrs}
	d.mu.Unlock()
	d.log.mu.Lock()
	defer d.log.mu.Unlock()
	s.Writes, s.Zeroes, s.BytesWritten = d.log.counts[recordWrite], d.log.counts[recordZero], d.log.written
	s.Flushes, s.LiedFlushes, s.FailedFlushes = d.log.counts[recordFlushed], d.log.counts[recordLied], d.log.counts[recordBadFlush]
	return s
}

// Close unmounts, ends every process and loop device that the disk started, and removes its scratch directory, also
// when Mount failed half-way. Images of the disk must be closed before. It returns the first fault of the rig
// itself (not an injected one), such as a full log. Closing again does nothing.
func (d *Disk) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	d.SetFaults(0, 0, 0)
	d.SetFlushDelay(0)
	var errs []error
	if d.mounted != "" {
		errs = append(errs, d.Unmount())
	}
	errs = append(errs, d.stopFuse())
	close(d.closing)
	if d.listener != nil {
		errs = append(errs, d.listener.Close())
	}
	d.mu.Lock()
	for c := range d.conns {
		c.Close() // its goroutine reports nothing once closing is closed
	}
	d.mu.Unlock()
	d.serving.Wait()
	if d.log != nil {
		errs = append(errs, d.log.close())
	}
	if d.content != nil {
		errs = append(errs, d.content.Close())
	}
	errs = append(errs, os.RemoveAll(d.scratch))
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(append(errs, d.fault)...)
}

// broken remembers the first fault of the rig itself, for Close.
func (d *Disk) broken(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		d.fault = err
	}
}

func (d *Disk) accept() {
	defer d.serving.Done()
	for {
		c, err := d.listener.Accept()
		if err != nil {
			return // closed by Close
		}
		d.mu.Lock()
		d.conns[c] = struct{}{}
		d.mu.Unlock()
		d.serving.Add(1)
		go func() {
			defer d.serving.Done()
			err := negotiate(c, d.opts.SizeBytes)
			if err == nil {
				err = transmit(c, d.opts.SizeBytes, d)
			}
			c.Close()
			d.mu.Lock()
			delete(d.conns, c)
			d.mu.Unlock()
			// A client that just goes away is the usual end of nbdfuse; anything else is a fault of the rig.
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, errAborted) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
				d.broken(err)
			}
		}()
	}
}

var errInjected = errors.New("injected EIO")

func (d *Disk) read(p []byte, off int64) error {
	d.mu.Lock()
	hit := d.rng.Float64() < d.readEIO
	if hit {
		d.readErrs++
	}
	d.mu.Unlock()
	if hit {
		return errInjected
	}
	_, err := d.content.ReadAt(p, off)
	if err != nil {
		d.broken(err)
	}
	return err
}

func (d *Disk) write(p []byte, off int64, fua bool) error {
	return d.change(record{kind: recordWrite, fua: fua, off: off, length: uint32(len(p))}, p)
}

func (d *Disk) zero(off int64, length uint32, fua bool) error {
	return d.change(record{kind: recordZero, fua: fua, off: off, length: length}, nil)
}

func (d *Disk) change(r record, p []byte) error {
	d.mu.Lock()
	hit := d.rng.Float64() < d.writeEIO
	if hit {
		d.writErrs++
	}
	r.fua = r.fua && !d.lying
	d.mu.Unlock()
	if hit {
		return errInjected
	}
	// The log first: a write that the log does not hold must not be readable, or a cut would lose it unnoticed.
	if _, err := d.log.append(r, p); err != nil {
		d.broken(err)
		return err
	}
	if err := apply(d.content, r, p); err != nil {
		d.broken(err)
		return err
	}
	return nil
}

// apply carries the change r out on f.
func apply(f *os.File, r record, p []byte) error {
	if r.kind == recordWrite {
		_, err := f.WriteAt(p, r.off)
		return err
	}
	if r.length == 0 {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.off, int64(r.length))
	return os.NewSyscallError("fallocate", err)
}

// flush covers the writes that were answered before it came: the client cannot rely on any other (NBD_CMD_FLUSH).
func (d *Disk) flush(done func(error)) {
	covers := d.log.position()
	d.mu.Lock()
	delay, lying := d.delay, d.lying
	hit := d.rng.Float64() < d.flushEIO
	d.mu.Unlock()
	r := record{kind: recordFlushed, data: covers}
	switch {
	case hit:
		r = record{kind: recordBadFlush}
	case lying:
		r = record{kind: recordLied}
	}
	finish := func() {
		_, err := d.log.append(r, nil)
		if hit {
			err = errInjected
		}
		done(err)
	}
	if delay == 0 {
		finish()
		return
	}
	d.serving.Add(1)
	go func() {
		defer d.serving.Done()
		d.flushing.Lock()
		defer d.flushing.Unlock()
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			finish()
		case <-d.closing:
			done(errClosed)
		}
	}()
}
