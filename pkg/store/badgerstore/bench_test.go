package badgerstore

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// benchText is 150 bytes of ordinary words, the frame of TARGETS.
var benchWords = strings.Fields("the lesson moves to room twelve because of rain please bring your books and tell whoever is not here yet thank you see all of them at nine o'clock tomorrow morning")

func benchText(n int) string {
	var b strings.Builder
	for i := n; b.Len() < 150; i = i*1103515245 + 12345 {
		b.WriteString(benchWords[(i>>16&0x7fff)%len(benchWords)])
		b.WriteByte(' ')
	}
	return b.String()[:150]
}

// benchLog appends messages with keys to one conversation.
type benchLog struct {
	conv im.ConvID
	user im.UserID
	head im.Seq
}

func newBenchLog(i int) *benchLog {
	return &benchLog{conv: im.ConvID(fmt.Sprintf("c_%016d", i)), user: im.UserID(fmt.Sprintf("u_%016d", i))}
}

func (l *benchLog) write() *store.Write {
	l.head++
	key := fmt.Sprintf("%08x-0000-4000-8000-%012x", l.head, l.conv[10:])[:36]
	now := im.Millis(1790000000000 + int64(l.head))
	return &store.Write{Tenant: "oakhill", Create: l.head == 1, PrevHead: l.head - 1,
		Conv: &im.Conversation{ID: l.conv, Kind: im.KindGroup, Title: "Class 5a", Head: l.head, LastMsg: l.head, Created: 1790000000000, Last: now},
		Key:  &store.Key{User: l.user, Key: key, Body: [16]byte{1, 2, 3, byte(l.head)}, Conv: l.conv, Seq: l.head, Time: now},
		Entries: []im.Entry{{Conv: l.conv, Seq: l.head, Time: now, By: l.user, Kind: im.EntryMessage,
			Text: benchText(int(l.head) * 7919), Key: key}}}
}

func benchStore(b *testing.B, dir string) *Store {
	b.Helper()
	s, err := Open(Options{Dir: dir, ScrubInterval: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// procValue reads one number of a file in /proc/self.
func procValue(b *testing.B, file, name string) int64 {
	b.Helper()
	f, err := os.Open("/proc/self/" + file)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if rest, ok := strings.CutPrefix(in.Text(), name+":"); ok {
			v, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return v
		}
	}
	return 0
}

// BenchmarkAppend appends from many senders, each waiting for its
// acknowledgement, and reports how many shared a commit.
func BenchmarkAppend(b *testing.B) {
	for _, senders := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint("senders=", senders), func(b *testing.B) {
			s := benchStore(b, b.TempDir())
			written := procValue(b, "io", "write_bytes")
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			b.ResetTimer()
			for i := range senders {
				wg.Go(func() {
					l := newBenchLog(i)
					for left.Add(-1) >= 0 {
						if err := s.Append(context.Background(), []*store.Write{l.write()}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			st := s.Stats()
			b.ReportMetric(float64(st.BatchWrites)/float64(st.Batches), "writes/commit")
			b.ReportMetric(float64(procValue(b, "io", "write_bytes")-written)/float64(b.N)/150, "written/B")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sends/s")
		})
	}
}

// BenchmarkSteady sends 400 messages a second and reports what the disk was
// given for each message byte and how long an acknowledgement took.
func BenchmarkSteady(b *testing.B) {
	s := benchStore(b, b.TempDir())
	logs := make([]*benchLog, 100)
	for i := range logs {
		logs[i] = newBenchLog(i)
	}
	acks := make([]time.Duration, b.N)
	written := procValue(b, "io", "write_bytes")
	tick := time.NewTicker(time.Second / 400)
	defer tick.Stop()
	var wg sync.WaitGroup
	busy := make([]sync.Mutex, len(logs))
	b.ResetTimer()
	for i := range b.N {
		<-tick.C
		wg.Go(func() {
			start := time.Now()
			n := i % len(logs)
			busy[n].Lock()
			defer busy[n].Unlock()
			if err := s.Append(context.Background(), []*store.Write{logs[n].write()}); err != nil {
				b.Error(err)
			}
			acks[i] = time.Since(start)
		})
	}
	wg.Wait()
	b.StopTimer()
	slices.Sort(acks)
	st := s.Stats()
	b.ReportMetric(float64(procValue(b, "io", "write_bytes")-written)/float64(b.N)/150, "written/B")
	b.ReportMetric(float64(st.BatchWrites)/float64(st.Batches), "writes/commit")
	b.ReportMetric(float64(acks[len(acks)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(st.SyncNanos)/float64(st.Batches)/1000, "commit-us")
}

// fillBench stores n messages in 1000 conversations, 100 at a time.
func fillBench(b *testing.B, s *Store, n int) {
	b.Helper()
	logs := make([]*benchLog, 1000)
	for i := range logs {
		logs[i] = newBenchLog(i)
	}
	for i := 0; i < n; i += 100 {
		batch := make([]*store.Write, 0, 100)
		for j := range 100 {
			batch = append(batch, logs[(i+j)%len(logs)].write())
		}
		if err := s.Append(context.Background(), batch); err != nil {
			b.Fatal(err)
		}
	}
}

// benchMessages is how many messages the big benchmarks store; TARGETS has a
// million: BADGERSTORE_BENCH_MESSAGES=1000000.
func benchMessages() int {
	if n, err := strconv.Atoi(os.Getenv("BADGERSTORE_BENCH_MESSAGES")); err == nil {
		return n
	}
	return 200_000
}

// BenchmarkFill stores many messages with the memory limit of a small Pi and
// reports memory, disk, and how long the next start takes after a cut.
func BenchmarkFill(b *testing.B) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(96 << 20))
	for range b.N {
		n, dir := benchMessages(), filepath.Join(b.TempDir(), "data")
		s := benchStore(b, dir)
		written, start := procValue(b, "io", "write_bytes"), time.Now()
		fillBench(b, s, n)
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "sends/s")
		b.ReportMetric(float64(procValue(b, "io", "write_bytes")-written)/float64(n)/150, "written/B")
		debug.FreeOSMemory()
		b.ReportMetric(float64(procValue(b, "status", "RssAnon"))/1024, "RssAnon-MiB")
		b.ReportMetric(float64(procValue(b, "status", "VmRSS"))/1024, "RSS-MiB")
		var disk int64
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, name := range names {
			var st unix.Stat_t
			if unix.Stat(name, &st) == nil && filepath.Base(name) != reserveName {
				disk += st.Blocks * 512
			}
		}
		b.ReportMetric(float64(disk)/float64(n), "disk-B/message")
		cut := filepath.Join(b.TempDir(), "cut")
		if out, err := os.ReadDir(dir); err == nil {
			os.MkdirAll(cut, 0o700)
			for _, e := range out { // as a cut leaves it
				data, err := os.ReadFile(filepath.Join(dir, e.Name()))
				if err == nil && e.Name() != reserveName {
					os.WriteFile(filepath.Join(cut, e.Name()), data, 0o600)
				}
			}
		}
		start = time.Now()
		again, err := Open(Options{Dir: cut, ScrubInterval: -1})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "open-ms")
		again.Close()
	}
}

// processorTime makes a benchmark report the processor time of an operation, the
// collector's in it: what the bars are about, and what other programs on the
// machine do not stretch.
func processorTime(b *testing.B) (report func()) {
	used := func() int64 {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return r.Utime.Nano() + r.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkPage reads the newest 50 of a conversation among many: cold, each
// time another of 1000 conversations with next to no cache, and warm.
func BenchmarkPage(b *testing.B) {
	s := benchStore(b, filepath.Join(b.TempDir(), "data"))
	fillBench(b, s, 100_000)
	page := func(b *testing.B, i int) {
		c := im.ConvID(fmt.Sprintf("c_%016d", i))
		p, err := s.Page(context.Background(), "oakhill", c, "u_x", 51, 100)
		if err != nil || len(p.Entries) != 50 {
			b.Fatal(len(p.Entries), err)
		}
	}
	b.Run("cold", func(b *testing.B) {
		b.ReportAllocs()
		defer processorTime(b)()
		for i := range b.N {
			page(b, i*7%1000)
		}
	})
	b.Run("warm", func(b *testing.B) {
		b.ReportAllocs()
		defer processorTime(b)()
		for range b.N {
			page(b, 3)
		}
	})
}
