package gateway

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

// crowdSize is how many sessions the cost tests open.
const crowdSize = 2000

// crowd makes users with tokens, in conversations of 40 members each.
func crowd(t testing.TB, b *box, n int) (tokens []string) {
	t.Helper()
	ctx := context.Background()
	var news []directory.NewUser
	for i := range n {
		news = append(news, directory.NewUser{Username: fmt.Sprintf("user%d", i), Name: fmt.Sprintf("User %d", i), Role: im.RoleStaff})
	}
	var ids []im.UserID
	for _, nu := range news {
		u, err := b.dir.AddUser(ctx, "oakhill", nu)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, u.ID)
	}
	tokens, err := b.auth.IssueMany(ctx, "oakhill", ids, "test")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; i += 40 {
		actor := im.Actor{Tenant: "oakhill", User: ids[i], Role: im.RoleStaff}
		_, err := b.chat.Do(ctx, &chat.Command{Op: chat.Create, Actor: actor, Key: "k", Kind: im.KindGroup, Title: "Class", Users: ids[i+1 : min(i+40, n)]})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tokens
}

// rawClients are sockets without anything of Go's about them, so that what they
// cost is not counted.
type rawClients struct {
	fds []int
}

func (r *rawClients) close() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

func (r *rawClients) open(t testing.TB, addr string, n int) {
	t.Helper()
	ap := netip.MustParseAddrPort(addr)
	upgrade := []byte("GET /v1/ws HTTP/1.1\r\nHost: " + addr + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pipit.v1\r\n\r\n")
	buf := make([]byte, 4096)
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.fds = append(r.fds, fd)
		patient := unix.NsecToTimeval(patience.Nanoseconds())
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patient)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, upgrade); err != nil {
			t.Fatal(err)
		}
		got := ""
		for !strings.Contains(got, "\r\n\r\n") {
			n, err := read(fd, buf)
			if err != nil || n == 0 {
				t.Fatalf("upgrade: %d bytes, %v", n, err)
			}
			got += string(buf[:n])
		}
	}
}

// read reads what is there. With a time limit on the socket the kernel does not go
// on by itself after a signal, and the scheduler sends them.
func read(fd int, buf []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, buf); err != unix.EINTR {
			return n, err
		}
	}
}

// hello says hello on all sockets, without waiting, then reads all replies.
func (r *rawClients) hello(t testing.TB, tokens []string) {
	t.Helper()
	for i, fd := range r.fds {
		if _, err := unix.Write(fd, maskedFrame(envelope("1", "session.hello", fmt.Sprintf(`{"token":%q}`, tokens[i])))); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 16384)
	for _, fd := range r.fds {
		have, want := 0, 4
		for have < want {
			n, err := read(fd, buf[have:])
			if err != nil || n == 0 {
				t.Fatalf("hello: %d bytes, %v", n, err)
			}
			if have += n; have >= 4 {
				want = 4 + int(binary.BigEndian.Uint16(buf[2:]))
			}
		}
		if !strings.Contains(string(buf[:have]), `"session":"s_`) {
			t.Fatalf("hello was answered with %q", buf[:have])
		}
	}
}

func liveHeap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func cpu() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestCostOfSessions holds what an idle signed-in session, member of one
// conversation of 40, costs in live heap, everything between socket and store
// included (TARGETS: 1,200 bytes, aim 600).
func TestCostOfSessions(t *testing.T) {
	b := newBox(t)
	defer b.end(t)
	tokens := crowd(t, b, crowdSize)
	var r rawClients
	defer r.close()
	before := liveHeap()
	r.open(t, b.addr, crowdSize)
	opened := liveHeap()
	start := cpu()
	r.hello(t, tokens)
	spent := cpu() - start
	after := liveHeap()
	each := (after - before) / crowdSize
	t.Logf("live heap: %d bytes a session, %d of them a socket before its hello", each, (opened-before)/crowdSize)
	t.Logf("CPU: %v a hello, the client's part and the kernel's included", spent/crowdSize)
	if each > 1200 {
		t.Errorf("an idle session costs %d bytes of live heap, want at most 1200", each)
	}
	if n := b.hub.Stats().Sessions; n != crowdSize {
		t.Errorf("%d sessions, want %d", n, crowdSize)
	}
}
