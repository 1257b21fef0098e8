package boot

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
	"github.com/pipit-im/pipit/tests/image/guest"
)

const (
	// crowd is how many sessions the box holds.
	crowd = 4000
	// small and large are how much larger a card is than the image. The large one is
	// above 64 GiB, what an ext4 grows to by itself while it is mounted.
	small  = 4 << 30
	large  = 96 << 30
	dataAt = "/var/lib/pipit"
)

// flash writes the image to a larger card, as Raspberry Pi Imager does, and puts
// pipit.yaml with a technician's key on it, as a person does.
func flash(t *testing.T, larger int64) guest.Options {
	t.Helper()
	from := image(t)
	dir := t.TempDir()
	card := filepath.Join(dir, "card.img")
	run(t, "cp", "--sparse=always", from, card)
	info, err := os.Stat(card)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(card, info.Size()+larger); err != nil {
		t.Fatal(err)
	}
	_, secret, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	fat, err := guest.OpenFAT(card)
	if err != nil {
		t.Fatal(err)
	}
	if err := fat.Write("pipit.yaml", provisioning(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))))); err != nil {
		t.Fatal(err)
	}
	return guest.Options{Card: card, Processors: 1, MemoryMiB: 2048, Key: key, User: "technician", Dir: dir}
}

// box is a running guest and how it is administered.
type box struct {
	*guest.Guest
	t     *testing.T
	admin *apiclient.Client
}

// start boots the card and waits until a technician can sign in and the server
// answers.
func start(t *testing.T, o guest.Options) *box {
	t.Helper()
	g, err := guest.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	b := &box{Guest: g, t: t}
	began := time.Now()
	t.Cleanup(func() {
		b.Cut()
		t.Logf("QEMU used %v of processor time", b.CPU().Round(time.Second))
		if t.Failed() {
			t.Logf("console:\n%s", b.Tail(60))
		}
	})
	b.answers()
	t.Logf("HTTP answered after %v", time.Since(began).Round(time.Second))
	b.must(b.Until(b.ctx(), "sign in over SSH", func(ctx context.Context) error {
		_, err := b.Run(ctx, "true")
		return err
	}))
	t.Logf("SSH after %v", time.Since(began).Round(time.Second))
	b.admin = b.administer()
	return b
}

// ctx bounds a wait against a machine that hangs and does not end. A machine
// shared with others boots in minutes.
func (b *box) ctx() context.Context {
	ctx, stop := context.WithTimeout(context.Background(), 15*time.Minute)
	b.t.Cleanup(stop)
	return ctx
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// on is the box as a subtest uses it.
func (b *box) on(t *testing.T) *box { return &box{Guest: b.Guest, t: t, admin: b.admin} }

// sh runs a command that must succeed and returns its trimmed output.
func (b *box) sh(command string) string {
	b.t.Helper()
	out, err := b.Run(b.ctx(), command)
	if err != nil {
		b.t.Error(err)
	}
	return strings.TrimSpace(out)
}

// answers waits for the page on port 80.
func (b *box) answers() {
	b.t.Helper()
	b.must(b.Until(b.ctx(), "HTTP on port 80", func(ctx context.Context) error { return get(ctx, "http://"+b.Addr(80)+"/", http.DefaultClient) }))
}

func get(ctx context.Context, url string, c *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode >= 500 {
		return errors.New(resp.Status)
	}
	return nil
}

// relay connects standard input and output with a Unix socket; the image has
// Perl and no netcat.
const relay = `sudo perl -MIO::Socket::UNIX -e '$s=IO::Socket::UNIX->new(Peer=>$ARGV[0]) or die "$!\n"; ` +
	`if(!($p=fork)){while(sysread(STDIN,$b,65536)){syswrite($s,$b)}shutdown($s,1);exit} ` +
	`while(sysread($s,$b,65536)){syswrite(STDOUT,$b)} kill 9,$p' `

// administer returns a client of the admin socket, which is reached through SSH
// as root, as `sudo pipit` reaches it.
func (b *box) administer() *apiclient.Client {
	b.t.Helper()
	dir, err := os.MkdirTemp("", "pipit-admin-") // a socket's path is short
	b.must(err)
	l, err := net.Listen("unix", filepath.Join(dir, apiclient.SocketName))
	b.must(err)
	b.t.Cleanup(func() { l.Close(); os.RemoveAll(dir) })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_ = b.Pipe(context.Background(), relay+dataAt+"/"+apiclient.SocketName, conn, conn)
			}()
		}
	}()
	c := apiclient.New(dir)
	b.t.Cleanup(c.Close)
	return c
}

// people makes n people of a new organisation, with tokens.
func (b *box) people(org string, n int) []apiclient.BulkPerson {
	b.t.Helper()
	ctx := b.ctx()
	_, err := b.admin.AddTenant(ctx, org, org)
	b.must(err)
	var all []apiclient.BulkPerson
	for len(all) < n {
		in := apiclient.BulkPeople{Tokens: true}
		for i := len(all); i < min(n, len(all)+500); i++ {
			in.Users = append(in.Users, apiclient.NewPerson{Username: fmt.Sprintf("user%04d", i), Name: fmt.Sprintf("User %d", i), Role: im.RoleStaff.String()})
		}
		made, err := b.admin.AddUsers(ctx, org, in)
		b.must(err)
		all = append(all, made...)
	}
	return all
}

// chat lets two people talk over url until each has read the other.
func (b *box) chat(org, url string) {
	b.t.Helper()
	two := b.people(org, 2)
	ctx := b.ctx()
	heard := make(chan string, 16) // more than there is to hear
	var all []*client.Client
	for i, p := range two {
		c := client.New(client.Options{URL: url, Token: p.Token, Name: "image-test", FromStart: true, TLS: &tls.Config{InsecureSkipVerify: true}, // the certificate is the tool's test
			Handler: client.Handler{Entry: func(m *im.Message) { heard <- strconv.Itoa(i) + " " + m.Entry.Text }}})
		defer c.Close()
		all = append(all, c)
	}
	conv := b.pair(ctx, all[0], im.UserID(two[1].ID))
	for i, c := range all {
		if _, err := c.Send(ctx, client.Outgoing{Conversation: conv, Text: "hello from " + strconv.Itoa(i)}); err != nil {
			b.t.Fatal(err)
		}
	}
	missing := map[string]bool{"0 hello from 0": true, "0 hello from 1": true, "1 hello from 0": true, "1 hello from 1": true}
	for len(missing) > 0 {
		select {
		case h := <-heard:
			delete(missing, h)
		case <-ctx.Done():
			b.t.Fatalf("not heard: %v", missing)
		}
	}
}

// pair opens a group of two.
func (b *box) pair(ctx context.Context, c *client.Client, with im.UserID) im.ConvID {
	b.t.Helper()
	b.must(c.Wait(ctx))
	var conv im.ConvID
	b.must(c.Call(ctx, wire.MethodCreate, &wire.CreateParams{Kind: im.KindGroup, Title: "image-test", Members: []im.UserID{with}, Key: client.NewKey()}, func(result []byte) error {
		h, err := wire.DecodeHead(result)
		conv = h.ID
		return err
	}))
	return conv
}

// hold connects n people and holds them while two others talk.
// At most 64 connect at a time: the machine is emulated.
func (b *box) hold(org string, n int) {
	t := b.t
	t.Helper()
	ctx := b.ctx()
	all := b.people(org, n)
	began := time.Now()
	clients := make([]*client.Client, n)
	var lost atomic.Int64
	turn := make(chan struct{}, 64)
	var connecting sync.WaitGroup
	for i, p := range all {
		turn <- struct{}{}
		connecting.Go(func() {
			defer func() { <-turn }()
			c := client.New(client.Options{URL: "http://" + b.Addr(80), Token: p.Token, Name: "image-test", Handler: client.Handler{
				Down: func(error, time.Duration) { lost.Add(1) },
			}})
			clients[i] = c
			if err := c.Wait(ctx); err != nil {
				t.Errorf("person %d: %v", i, err)
			}
		})
	}
	connecting.Wait()
	// Who was refused for a moment and came back is there now; from here on nobody may go.
	tries := lost.Swap(0)
	b.chat(org+"-beside", "http://"+b.Addr(80))
	status, err := b.admin.Status(ctx)
	b.must(err)
	t.Logf("%d sessions after %v, %d second tries; memory of the machine:\n%s", status.Sessions, time.Since(began).Round(time.Second), tries, b.sh("free -m"))
	if status.Sessions < n || lost.Load() > 0 {
		t.Errorf("%d sessions are held, and %d were lost while two others talked: want %d and 0", status.Sessions, lost.Load(), n)
	}
	var closing sync.WaitGroup
	for _, c := range clients {
		closing.Go(func() { _ = c.Close() })
	}
	closing.Wait()
}

// identity is what must differ between two devices.
func (b *box) identity() map[string]string {
	b.t.Helper()
	return map[string]string{
		"machine-id":   b.sh("cat /etc/machine-id"),
		"SSH host key": b.sh("cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub"),
		"certificate":  b.certificate(),
	}
}

// certificate is the fingerprint of what port 443 shows.
func (b *box) certificate() string {
	b.t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, ServerName: "pipit.local"}}).DialContext(b.ctx(), "tcp", b.Addr(443))
	if err != nil {
		b.t.Error(err)
		return ""
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:])
}

// TestAppliance boots a new card in a machine whose clock says 1970.
func TestAppliance(t *testing.T) {
	t.Parallel() // two cards at a time, of one processor each
	first := flash(t, small)
	first.Clock = "1970-01-02T00:00:00"
	b := start(t, first)

	t.Run("the system is well", func(t *testing.T) {
		b := b.on(t)
		b.settled()
		if failed := b.sh("systemctl list-units --failed --no-legend --plain"); failed != "" {
			t.Errorf("failed units:\n%s", failed)
		}
		if mounts := b.sh("findmnt -n -o OPTIONS /"); !strings.HasPrefix(mounts, "ro,") {
			t.Errorf("the root is mounted %s", mounts)
		}
		if out, err := b.Run(b.ctx(), "sudo touch /usr/pipit-was-here"); err == nil || !strings.Contains(out, "Read-only file system") {
			t.Errorf("something could be written to the root: %s", out)
		}
	})
	t.Run("the data partition has grown", func(t *testing.T) { b.on(t).grown(small) })
	t.Run("limits", func(t *testing.T) {
		b := b.on(t)
		pid := b.sh("systemctl show --value -p MainPID pipit.service")
		if got := b.sh("sudo awk '/Max open files/ { print $4 }' /proc/" + pid + "/limits"); got != "524288" {
			t.Errorf("the server may open %s files", got)
		}
		for name, want := range map[string]string{"net/core/somaxconn": "16384", "kernel/panic": "10"} {
			if got := b.sh("cat /proc/sys/" + name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		t.Logf("doctor:\n%s", b.sh("sudo pipit doctor"))
	})
	t.Run("kTLS", func(t *testing.T) {
		b := b.on(t)
		if got := b.sh("sudo modprobe tls && lsmod | awk '$1 == \"tls\" { print $1 }'"); got != "tls" {
			t.Error("the kernel's TLS can't be loaded")
		}
	})
	t.Run("a clock of 1970", func(t *testing.T) {
		b := b.on(t)
		now, err := strconv.ParseInt(b.sh("date +%s"), 10, 64)
		if built := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).Unix(); err != nil || now < built {
			t.Errorf("the clock says %d, before this was built: it should start at the last known time", now)
		}
	})
	t.Run("HTTPS", func(t *testing.T) {
		b := b.on(t)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
		b.must(b.Until(b.ctx(), "HTTPS on port 443", func(ctx context.Context) error { return get(ctx, "https://"+b.Addr(443)+"/", c) }))
	})
	t.Run("two people talk", func(t *testing.T) { b.on(t).chat("plain", "http://"+b.Addr(80)) })
	t.Run("two people talk over TLS", func(t *testing.T) { b.on(t).chat("secure", "https://"+b.Addr(443)) })
	t.Run("4000 sessions in 2 GB", func(t *testing.T) { b.on(t).hold("crowd", crowd) })
	t.Run("pipit.yaml was used", func(t *testing.T) {
		b := b.on(t)
		if text := b.sh("cat /boot/firmware/pipit*.yaml"); !strings.Contains(text, "Oakhill") || strings.Contains(text, secretMark) {
			t.Errorf("the used pipit.yaml should be there without its secrets:\n%s", text)
		}
		if text := b.sh("ls /boot/firmware"); strings.Contains(text, "pipit-errors.txt") {
			t.Errorf("there are complaints:\n%s", b.sh("cat /boot/firmware/pipit-errors.txt"))
		}
		tenants, err := b.admin.Tenants(b.ctx())
		b.must(err)
		if !slices.ContainsFunc(tenants, func(o apiclient.TenantInfo) bool { return o.ID == "oakhill" && o.Name == "Oakhill" }) {
			t.Errorf("the organisation of pipit.yaml is not there: %+v", tenants)
		}
	})
	differs(t, b.identity())
}

// TestFirstProcessFails: PID 1 that fails starts the machine again, also while no
// watchdog is fed yet. It was found by a start on a starved machine, where systemd gave
// up before it had opened the watchdog, and stood still for good.
func TestFirstProcessFails(t *testing.T) {
	t.Parallel()
	o := flash(t, small)
	o.Processors = 2
	start(t, o).breaks(0, "sync; sudo kill -SEGV 1; sleep 60")
}

// breaks runs a command that ends the machine, while PID 1 feeds the watchdog of that
// time (0: none), and waits until it has started again and answers.
func (b *box) breaks(watchdog time.Duration, command string) {
	b.t.Helper()
	b.sh("sudo busctl set-property org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager RuntimeWatchdogUSec t " + strconv.FormatInt(watchdog.Microseconds(), 10))
	// bootID tells one start of the machine from another, "" if it does not answer.
	bootID := func(ctx context.Context) string {
		id, err := b.Run(ctx, "cat /proc/sys/kernel/random/boot_id")
		if err != nil {
			return ""
		}
		return strings.TrimSpace(id)
	}
	was := bootID(b.ctx())
	ctx, stop := context.WithTimeout(b.ctx(), 20*time.Second)
	_, _ = b.Run(ctx, command) // its connection ends with the machine
	stop()
	began := time.Now()
	b.must(b.Until(b.ctx(), "the machine comes back", func(ctx context.Context) error {
		if now := bootID(ctx); now == "" || now == was {
			return errors.New("it has not been reset yet")
		}
		return nil
	}))
	b.t.Logf("back after %v", time.Since(began).Round(time.Second))
	b.answers()
}

// identities are those of the boxes that booted so far.
var identities struct {
	sync.Mutex
	all []map[string]string
}

// differs checks that a box has all of an identity and shares nothing of it with another.
func differs(t *testing.T, own map[string]string) {
	t.Helper()
	identities.Lock()
	defer identities.Unlock()
	for name, is := range own {
		if is == "" {
			t.Errorf("the box has no %s", name)
		}
		for _, other := range identities.all {
			if other[name] == is {
				t.Errorf("two boxes have the same %s: %q", name, is)
			}
		}
	}
	identities.all = append(identities.all, own)
}

// TestSmallBoard boots a second card in a machine with a Pi Zero 2 W's memory, and the
// same again after its kernel crashed.
func TestSmallBoard(t *testing.T) {
	t.Parallel()
	o := flash(t, large)
	o.MemoryMiB = 512
	b := start(t, o)
	b.grown(large)
	b.settled()
	one := b.identity()
	differs(t, one)
	b.hold("crowd", crowd)
	if killed := b.sh("sudo journalctl -k --grep 'Out of memory|oom-kill' --no-pager -q || true"); killed != "" {
		t.Errorf("the machine ran out of memory:\n%s", killed)
	}
	if n := b.sh("systemctl show --value -p NRestarts pipit.service"); n != "0" {
		t.Errorf("the server was restarted %s times", n)
	}
	t.Run("the watchdog resets a crashed kernel", func(t *testing.T) {
		b := b.on(t)
		if conf := b.sh("systemd-analyze cat-config systemd/system.conf | grep ^RuntimeWatchdogSec=; ls /dev/watchdog0"); conf != "RuntimeWatchdogSec=14s\n/dev/watchdog0" {
			t.Errorf("PID 1 is told to feed no hardware watchdog: %s", conf)
		}
		// With the time of a Pi, in place of that of a slow start (tests/image/guest).
		// Without kernel.panic a crashed kernel stands still, and only the hardware is left.
		b.breaks(14*time.Second, "echo 0 | sudo tee /proc/sys/kernel/panic; sync; echo c | sudo tee /proc/sysrq-trigger")
		now := b.identity()
		for name, was := range one {
			if now[name] != was {
				t.Errorf("the %s is another one after a restart: %s, was %s", name, now[name], was)
			}
		}
		tenants, err := b.admin.Tenants(b.ctx())
		b.must(err)
		if len(tenants) < 3 {
			t.Errorf("only %d organisations are left", len(tenants))
		}
	})
}

// grown checks that the data partition fills the card.
func (b *box) grown(larger int64) {
	b.t.Helper()
	size, err := strconv.ParseInt(b.sh("df --block-size=1 --output=size /data | tail -n 1"), 10, 64)
	if want := larger * 9 / 10; err != nil || size < want {
		b.t.Errorf("data has %d bytes, want nine tenths of what the card is larger, %d (%v)", size, want, err)
	}
}

// settled waits until systemd has started everything.
func (b *box) settled() {
	t := b.t
	t.Helper()
	state, _ := b.Run(b.ctx(), "systemctl is-system-running --wait")
	if state = strings.TrimSpace(state); state != "running" {
		t.Errorf("the system is %s", state)
	}
	t.Logf("%s", b.sh("systemd-analyze time | head -n 1"))
}
