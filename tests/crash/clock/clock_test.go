//go:build linux && amd64

package clock_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/pipit-im/pipit/tests/crash/clock"
)

// asProgram makes this test binary a program that prints the time whenever it reads a line.
const asProgram = "PIPIT_CLOCK_TEST_PROGRAM"

func TestMain(m *testing.M) {
	clock.Shim()
	if os.Getenv(asProgram) == "" {
		os.Exit(m.Run())
	}
	var line string
	for {
		if _, err := fmt.Scanln(&line); err != nil {
			return
		}
		began := time.Now()
		time.Sleep(time.Millisecond)
		fmt.Println(time.Now().Unix(), time.Since(began) >= time.Millisecond && time.Since(began) < time.Hour)
	}
}

// TestLeaps: a static Go program believes in the clock, wherever it leaps, and its monotonic clock stays true.
func TestLeaps(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var c clock.Clock
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := c.Start(cmd); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"1970-01-02", "2026-11-26", "2082-01-01", "2001-09-09"} {
		at, err := time.Parse(time.DateOnly, to)
		if err != nil {
			t.Fatal(err)
		}
		c.Set(at)
		if _, err := in.Write([]byte("x\n")); err != nil {
			t.Fatal(err)
		}
		var sec int64
		var sane bool
		if _, err := fmt.Fscanln(out, &sec, &sane); err != nil {
			t.Fatal(err, said.String())
		}
		if got := time.Unix(sec, 0).UTC().Format(time.DateOnly); got != to || !sane {
			t.Errorf("set to %s it says %s, monotonic clock true: %v", to, got, sane)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if c.Asked() < 8 || c.Err() != nil {
		t.Errorf("asked %d times, %v", c.Asked(), c.Err())
	}
}

// TestNoSuchProgram: a program that is not there ends, and nothing hangs.
func TestNoSuchProgram(t *testing.T) {
	var c clock.Clock
	cmd := exec.Command("/nowhere/at/all")
	if err := c.Start(cmd); err == nil && cmd.Wait() == nil {
		t.Error("it ran")
	}
}
