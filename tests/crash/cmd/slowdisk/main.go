// Command slowdisk mounts the disk of tests/crash/disk at a directory until it is interrupted, to try a server by
// hand on storage like that of a small board: each flush takes its time, or fails now and then.
//
//	go run ./tests/crash/cmd/slowdisk -at /mnt/slow -flush 10ms
//
// It needs root. What was written is gone when it ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pipit-im/pipit/tests/crash/disk"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "slowdisk:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	at := flag.String("at", "", "existing `directory` to mount the disk at")
	sizeMiB := flag.Int64("size", 512, "size of the disk in `MiB`")
	logMiB := flag.Int64("log", 8192, "what may be written in all, in `MiB`: everything is kept until the end")
	flush := flag.Duration("flush", 10*time.Millisecond, "how long each flush takes")
	readEIO := flag.Float64("read-eio", 0, "`probability` of a read to fail")
	writeEIO := flag.Float64("write-eio", 0, "`probability` of a write to fail")
	flushEIO := flag.Float64("flush-eio", 0, "`probability` of a flush to fail")
	flag.Parse()
	if *at == "" || flag.NArg() > 0 {
		flag.Usage()
		return errors.New("say where with -at DIRECTORY")
	}
	if err := disk.Available(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := disk.New(disk.Options{SizeBytes: *sizeMiB << 20, LogBytes: *logMiB << 20, FlushDelay: *flush})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := d.Mount(*at); err != nil {
		return err
	}
	d.SetFaults(*readEIO, *writeEIO, *flushEIO)
	fmt.Printf("Mounted at %s. Interrupt to end it; stop what runs on it first.\n", *at)
	<-ctx.Done()
	fmt.Printf("%+v\n", d.Stats())
	return nil
}
