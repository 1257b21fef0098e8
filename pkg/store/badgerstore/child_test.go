package badgerstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// A store that meets a full disk or is killed lives in a child process, which
// is this test program again: so a crash of it is seen and a restart is one.
const childEnv = "BADGERSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(childMain(dir))
	}
	os.Exit(m.Run())
}

// childMain opens the store and obeys one command a line, with one answer a
// line.
func childMain(dir string) int {
	o := fullOptions(dir)
	o.unwatched = false
	o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	if at := os.Getenv("BADGERSTORE_TEST_SIZES"); at != "" {
		fmt.Sscan(at, &o.MemTableBytes, &o.LowWaterBytes, &o.ReserveBytes)
	}
	s, err := Open(o)
	var oe *OpenError
	if errors.As(err, &oe) {
		fmt.Printf("open %d %v\n", oe.Reason, oe)
		return 3
	}
	if err != nil {
		fmt.Println("open ?", err)
		return 3
	}
	f := &filler{s: s}
	if c, err := s.Conv(context.Background(), "oak", fillConv); err == nil {
		f.head = c.Head
	}
	fmt.Println("opened", f.head, s.Stats().State)
	answer := func(err error) {
		if err != nil {
			fmt.Println(im.KindOf(err), f.head, s.Stats().State, "#", err)
			return
		}
		fmt.Println("ok", f.head, s.Stats().State)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var n int
		cmd, arg, _ := strings.Cut(in.Text(), " ")
		fmt.Sscan(arg, &n)
		switch cmd {
		case "append": // one message of n bytes
			answer(f.append(n))
		case "fill": // messages of n bytes until refused
			for err = nil; err == nil; {
				start := time.Now()
				if err = f.append(n); err != nil && time.Since(start) > time.Second {
					err = fmt.Errorf("the refusal took %v: %w", time.Since(start), io.ErrNoProgress)
				}
			}
			answer(err)
		case "stream": // messages of n bytes until refused, each acknowledged
			for err = f.append(n); err == nil; err = f.append(n) {
				fmt.Println("ack", f.head)
			}
			answer(err)
		case "check":
			answer(f.readAll())
		case "verify":
			rep, err := s.Verify(context.Background(), nil)
			if err == nil && (rep.Damaged != 0 || rep.Entries != uint64(f.head)) {
				err = fmt.Errorf("%d entries of %d, %+v", rep.Entries, f.head, rep.Damages)
			}
			answer(err)
		case "close":
			answer(s.Close())
			return 0
		}
	}
	return 0
}

// child is the parent's end.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr *strings.Builder
	opened string
}

func startChild(t *testing.T, dir string, sizes ...int64) *child {
	t.Helper()
	c, said := tryChild(t, dir, sizes...)
	if c == nil {
		t.Fatal(said)
	}
	return c
}

// tryChild is startChild for a directory that may not open: then it returns nil
// and what the child said.
func tryChild(t *testing.T, dir string, sizes ...int64) (_ *child, said string) {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0]), stderr: &strings.Builder{}}
	c.cmd.Env = append(os.Environ(), childEnv+"="+dir)
	if len(sizes) > 0 {
		c.cmd.Env = append(c.cmd.Env, "BADGERSTORE_TEST_SIZES="+strings.Trim(fmt.Sprint(sizes), "[]"))
	}
	c.cmd.Stderr = c.stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // ends it if the test did not
		c.in.Close()
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	c.opened = c.line()
	if !strings.HasPrefix(c.opened, "opened ") {
		return nil, c.opened + "\n" + c.stderr.String()
	}
	return c, ""
}

// line reads an answer; a child that crashed fails the test.
func (c *child) line() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.cmd.Wait()
		text := c.stderr.String()
		c.t.Fatalf("the child ended: %v\n%s", c.cmd.ProcessState, text[:min(len(text), 4000)])
	}
	return c.out.Text()
}

func (c *child) say(cmd string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, cmd); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a command and returns the first word of the answer.
func (c *child) ask(cmd string) string {
	c.t.Helper()
	c.say(cmd)
	word, _, _ := strings.Cut(c.line(), " ")
	return word
}

// must sends a command that must be answered so.
func (c *child) must(cmd, want string) {
	c.t.Helper()
	c.say(cmd)
	if got := c.line(); !strings.HasPrefix(got, want+" ") {
		c.t.Fatalf("%s: got %q, want %q\n%s", cmd, got, want, c.stderr.String())
	}
}

// end closes the store and awaits the child.
func (c *child) end() {
	c.t.Helper()
	c.must("close", "ok")
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("the child: %v", err)
	}
}

// kill ends the child as kill -9 does. rest gets what it had said before that:
// Wait closes the pipe, so it is read first.
func (c *child) kill(rest func(line string)) {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	for c.out.Scan() {
		rest(c.out.Text())
	}
	c.cmd.Wait()
}
