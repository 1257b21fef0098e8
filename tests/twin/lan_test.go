package twin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The local network that a test lays: the box and one neighbour.
const (
	boxAddress       = "10.77.0.1"
	neighbourAddress = "10.77.0.2"
)

// neighbour is another computer in the local network of the box: a network of its own
// at the other end of a cable.
type neighbour struct {
	m   *Machine
	pid int // of the process that holds its network
}

// newNeighbour plugs a cable into the box and gives both ends an address.
func (m *Machine) newNeighbour(t *testing.T) *neighbour {
	t.Helper()
	// It ends when its input does, at the latest with this process.
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(input.Close(), holder.Wait()); err != nil {
			t.Error(err)
		}
	})
	n := &neighbour{m: m, pid: holder.Process.Pid}
	in := func(pid int, args ...string) {
		t.Helper()
		run(t, "nsenter", append([]string{"-t", strconv.Itoa(pid), "-n", "ip"}, args...)...)
	}
	in(m.leader, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", strconv.Itoa(n.pid))
	in(n.pid, "addr", "add", neighbourAddress+"/24", "dev", "lan0")
	in(n.pid, "link", "set", "lan0", "up")
	in(n.pid, "route", "add", "224.0.0.0/4", "dev", "lan0")
	// NetworkManager would look for an address by DHCP, and take this one away when it found none.
	m.Within("NetworkManager sees the cable", func() bool {
		_, err := m.Try("nmcli", "device", "set", "lan0", "managed", "no")
		return err == nil
	})
	in(m.leader, "addr", "add", boxAddress+"/24", "dev", "lan0")
	in(m.leader, "link", "set", "lan0", "up")
	return n
}

// resolve asks the network once for a name (RFC 6762), as any computer does that knows
// mDNS; invalid if nobody answers within two seconds.
func (n *neighbour) resolve(t *testing.T, name string) netip.Addr {
	t.Helper()
	question := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	packet, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := within(n.pid, func() (net.PacketConn, error) { return net.ListenPacket("udp4", ":0") })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteTo(packet, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 9000); ; {
		size, _, err := c.ReadFrom(buf)
		if err != nil {
			return netip.Addr{} // nobody answered
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:size]); err != nil {
			t.Fatal(err)
		}
		for _, a := range m.Answers {
			if r, ok := a.Body.(*dnsmessage.AResource); ok && strings.EqualFold(a.Header.Name.String(), name+".") {
				return netip.AddrFrom4(r.A)
			}
		}
	}
}

// certificate is what the box shows to the neighbour on port 443.
func (n *neighbour) certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := within(n.pid, func() (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", boxAddress+":443")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The names are judged by the caller, which waits for them.
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "oakhill.local"})
	if err := s.HandshakeContext(ctx); err != nil {
		t.Fatal(err)
	}
	return s.ConnectionState().PeerCertificates[0]
}

// names: an organisation of its own name is found by it in the local network, and the
// box's certificate is for that name; both go when the name goes.
func (m *Machine) names(t *testing.T) {
	n := m.newNeighbour(t)
	resolves := func(name string) bool { return n.resolve(t, name) == netip.MustParseAddr(boxAddress) }
	root, err := os.ReadFile(m.Path("/var/lib/pipit/tls/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	trusted := func(name string) bool {
		_, err := n.certificate(t).Verify(x509.VerifyOptions{DNSName: name, Roots: pool})
		return err == nil
	}
	m.Within("the box's own name in the network", func() bool { return resolves("oakhill.local") })
	if n.resolve(t, "birchwood.local").IsValid() || trusted("birchwood.local") {
		t.Error("a name is there that nobody gave")
	}
	m.Run("pipit", "network", "name", "birchwood")
	m.Within("the further name in the network", func() bool { return resolves("birchwood.local") })
	m.Within("a certificate for the further name", func() bool { return trusted("birchwood.local") })
	for _, name := range []string{"oakhill.local", boxAddress} {
		if !trusted(name) {
			t.Errorf("the certificate is not for %s any more", name)
		}
	}
	m.Run("pipit", "network", "name", "--remove", "birchwood")
	m.Run("systemctl", "reload", "pipit.service")
	m.Within("the end of the further name", func() bool { return !n.resolve(t, "birchwood.local").IsValid() })
	m.Within("a certificate without the further name", func() bool { return !trusted("birchwood.local") })
}
