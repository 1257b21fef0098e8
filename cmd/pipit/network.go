package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/provision"
)

func (t *tool) networkCmd() *cobra.Command {
	c := &cobra.Command{Use: "network", Short: "Addresses, names, Wi-Fi: show and change them", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(*cobra.Command, []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			n := readNetwork(dir, "/")
			return t.answer(n, func() { fmt.Fprint(t.out, n.text()) })
		}}
	c.AddCommand(t.networkHostCmd(), t.networkNameCmd(), t.networkWiFiCmd(), t.networkCableCmd(), t.networkAnnounceCmd())
	return c
}

type networkInfo struct {
	Host       string         `json:"host"`
	Names      []string       `json:"names"`     // in the local network
	Announced  bool           `json:"announced"` // avahi runs
	Interfaces []networkCard  `json:"interfaces"`
	Gateway    string         `json:"gateway,omitempty"`
	DNS        []string       `json:"dns"`
	WiFi       []machine.WiFi `json:"wifi"`
}

type networkCard struct {
	Name      string   `json:"name"`
	Up        bool     `json:"up"`
	Addresses []string `json:"addresses"`
	MAC       string   `json:"mac,omitempty"`
}

func readNetwork(dir, root string) networkInfo {
	n := networkInfo{Names: boxNames(dir), DNS: []string{}, WiFi: machine.Machine{}.WiFi(), Interfaces: []networkCard{}}
	n.Host, _, _ = strings.Cut(n.Names[0], ".")
	if n.WiFi == nil {
		n.WiFi = []machine.WiFi{}
	}
	_, err := os.Stat(filepath.Join(root, "run/avahi-daemon/socket"))
	n.Announced = err == nil
	cards, err := net.Interfaces()
	if err != nil {
		cards = nil
	}
	for _, i := range cards {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		card := networkCard{Name: i.Name, Up: i.Flags&net.FlagRunning != 0, MAC: i.HardwareAddr.String(), Addresses: []string{}}
		addrs, err := i.Addrs()
		if err != nil {
			addrs = nil
		}
		for _, a := range addrs {
			card.Addresses = append(card.Addresses, a.String())
		}
		n.Interfaces = append(n.Interfaces, card)
	}
	if b, err := os.ReadFile(filepath.Join(root, "proc/net/route")); err == nil {
		n.Gateway = gateway(string(b))
	}
	// systemd-resolved's own file names the servers, /etc/resolv.conf only it.
	for _, name := range []string{"run/systemd/resolve/resolv.conf", "etc/resolv.conf"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
				n.DNS = append(n.DNS, f[1])
			}
		}
		break
	}
	return n
}

// gateway finds the default route's (proc(5), net/route: little-endian hexadecimal).
func gateway(route string) string {
	for line := range strings.Lines(route) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil || len(b) != 4 || bytes.Equal(b, make([]byte, 4)) {
			continue
		}
		slices.Reverse(b)
		return net.IP(b).String()
	}
	return ""
}

func (n *networkInfo) text() string {
	var b strings.Builder
	row := func(k, format string, args ...any) { fmt.Fprintf(&b, "%-12s %s\n", k, fmt.Sprintf(format, args...)) }
	row("host", "%s", n.Host)
	for _, name := range n.Names {
		row("name", "http://%s", name)
	}
	if !n.Announced {
		row("", "avahi does not run here: these names are not announced")
	}
	for _, i := range n.Interfaces {
		state := "down"
		if i.Up {
			state = "up"
		}
		row(i.Name, "%s, %s", state, strings.TrimPrefix(strings.Join(append([]string{""}, i.Addresses...), " "), " "))
	}
	for _, w := range n.WiFi {
		if w.Quality == 0 {
			row("Wi-Fi", "%s is not connected", w.Interface)
		} else {
			row("Wi-Fi", "%s, quality %d of 70, %d dBm", w.Interface, w.Quality, w.SignalDBM)
		}
	}
	if n.Gateway != "" {
		row("gateway", "%s", n.Gateway)
	}
	if len(n.DNS) > 0 {
		row("DNS", "%s", strings.Join(n.DNS, " "))
	}
	return b.String()
}

// label is one part of a host name (RFC 1123 §2.1).
var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkLabel(s string) error {
	if !label.MatchString(s) {
		return im.E(im.Invalid, "%q is no name for a box: letters a to z, digits and dashes inside, at most 63.", s)
	}
	return nil
}

func (t *tool) networkHostCmd() *cobra.Command {
	return &cobra.Command{Use: "hostname NAME", Short: "Give the box another name; it is NAME.local then", Args: exactArgs("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkLabel(args[0]); err != nil {
				return err
			}
			if out, err := exec.CommandContext(cmd.Context(), "hostnamectl", "set-hostname", args[0]).CombinedOutput(); err != nil {
				return commandFailed("hostnamectl", err, out)
			}
			return t.answer(map[string]string{"host": args[0]}, func() {
				fmt.Fprintf(t.out, "The box is called %s now: http://%[1]s.local. Its certificate follows in a moment.\n", args[0])
			})
		}}
}

// commandFailed says what a program of the system said.
func commandFailed(name string, err error, out []byte) error {
	e := &im.Error{Kind: im.Unavailable, Op: "run " + name, Cause: err, Message: fmt.Sprintf("%s failed: %s", name, strings.TrimSpace(string(out)))}
	if errors.Is(err, exec.ErrNotFound) {
		e.Message = fmt.Sprintf("%s is not on this system; change the network with what the system has.", name)
	}
	return e
}

func (t *tool) networkNameCmd() *cobra.Command {
	var remove bool
	c := &cobra.Command{Use: "name [NAME]", Short: "Further names of the box in the local network, as oakhill.local", Args: cobra.MaximumNArgs(1),
		Long: "Adds NAME.local as another name of this box, for an organisation of its own, or removes it. The certificate follows\n" +
			"within seconds, and so does the announcement where pipit-names.service runs. Without NAME: lists them.",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			names := app.ReadNames(dir)
			if len(args) == 1 {
				name := strings.TrimSuffix(strings.ToLower(args[0]), ".local")
				if err := checkLabel(name); err != nil {
					return err
				}
				name += ".local"
				has := slices.Contains(names, name)
				switch {
				case remove && !has:
					return notFound("This box has no name %s. `pipit network name` lists those it has.", name)
				case remove:
					names = slices.DeleteFunc(names, func(n string) bool { return n == name })
				case !has:
					names = append(names, name)
				}
				slices.Sort(names)
				file := filepath.Join(dir, app.NamesName)
				if _, err := writeWhole(cmd.Context(), file, func(_ context.Context, w io.Writer) (int64, error) {
					n, err := io.WriteString(w, strings.Join(append(slices.Clone(names), ""), "\n"))
					return int64(n), err
				}); err != nil {
					return err
				}
				if err := giveTo(dir, file); err != nil {
					return err
				}
			}
			return t.answer(append([]string{}, names...), func() {
				for _, n := range names {
					fmt.Fprintln(t.out, n)
				}
			})
		}}
	c.Flags().BoolVar(&remove, "remove", false, "take the name away")
	return c
}

// apply writes a connection the way the first boot does, and brings it up where
// NetworkManager runs.
func (t *tool) apply(ctx context.Context, root string, s provision.Setup, connection string) error {
	if err := (provision.Host{Root: root, Group: -1}).Apply(s); err != nil {
		return fmt.Errorf("change the network (run this with sudo): %w", err)
	}
	when := "at the next start"
	if root == "/" {
		if _, err := exec.LookPath("nmcli"); err == nil {
			for _, args := range [][]string{{"connection", "reload"}, {"connection", "up", connection}} {
				if out, err := exec.CommandContext(ctx, "nmcli", args...).CombinedOutput(); err != nil {
					return commandFailed("nmcli", err, out)
				}
			}
			when = "now"
		}
	}
	return t.answer(map[string]string{"connection": connection, "when": when}, func() {
		fmt.Fprintf(t.out, "The connection %s is in force %s.\n", connection, when)
	})
}

func addressFlags(c *cobra.Command, address, gw *string, dns *[]string, root *string) {
	c.Flags().StringVar(address, "address", "", "static `ADDRESS/LENGTH`, as 192.168.1.5/24 (default: from the router)")
	c.Flags().StringVar(gw, "gateway", "", "`ADDRESS` of the router, with --address")
	c.Flags().StringSliceVar(dns, "dns", nil, "`ADDRESS` of a name server; may be given again")
	c.Flags().StringVar(root, "root", "/", "`DIR` of the system that is changed")
}

func fillAddress(s *provision.Setup, address, gw string, dns []string) (err error) {
	if address != "" {
		if s.Address, err = netip.ParsePrefix(address); err != nil {
			return usageError{fmt.Errorf("--address: %q is not like 192.168.1.5/24", address)}
		}
	}
	if gw != "" {
		if s.Gateway, err = netip.ParseAddr(gw); err != nil || !s.Address.Contains(s.Gateway) {
			return usageError{fmt.Errorf("--gateway: %q is no address in the network of --address", gw)}
		}
	}
	for _, d := range dns {
		a, err := netip.ParseAddr(d)
		if err != nil {
			return usageError{fmt.Errorf("--dns: %q is no address", d)}
		}
		s.DNS = append(s.DNS, a)
	}
	return nil
}

func (t *tool) networkWiFiCmd() *cobra.Command {
	var address, gw, root string
	var dns []string
	var open, stdin bool
	c := &cobra.Command{Use: "wifi NETWORK", Short: "Join a Wi-Fi network", Args: exactArgs("NETWORK"),
		Long: "Joins a Wi-Fi network, now and at each start. The password is asked for, or read with --password-stdin.",
		RunE: func(cmd *cobra.Command, args []string) error {
			s := provision.Setup{WiFi: provision.WiFi{Name: args[0]}}
			if len(args[0]) > 32 {
				return usageError{errors.New("the name of a Wi-Fi network has at most 32 bytes (IEEE 802.11)")}
			}
			if err := fillAddress(&s, address, gw, dns); err != nil {
				return err
			}
			if !open {
				p, err := t.password(stdin)
				if err != nil {
					return err
				}
				if len(p) > 63 {
					return usageError{errors.New("a Wi-Fi password has 8 to 63 characters")}
				}
				s.WiFi.Password = p
			}
			return t.apply(cmd.Context(), root, s, "pipit-wifi")
		}}
	addressFlags(c, &address, &gw, &dns, &root)
	c.Flags().BoolVar(&open, "open", false, "a network without a password")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	return c
}

func (t *tool) networkCableCmd() *cobra.Command {
	var address, gw, root string
	var dns []string
	var automatic bool
	c := &cobra.Command{Use: "cable", Short: "Give the cable a fixed address, or none", Args: noArgs,
		Example: "  sudo pipit network cable --address 192.168.1.5/24 --gateway 192.168.1.1 --dns 192.168.1.1\n  sudo pipit network cable --automatic",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var s provision.Setup
			if err := fillAddress(&s, address, gw, dns); err != nil {
				return err
			}
			if automatic == (s.Address.IsValid() || len(s.DNS) > 0) {
				return usageError{errors.New("say --address ADDRESS/LENGTH or --dns, or --automatic for what the router gives")}
			}
			if automatic {
				file := filepath.Join(root, "etc/NetworkManager/system-connections/pipit-cable.nmconnection")
				if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("change the network (run this with sudo): %w", err)
				}
				if root == "/" {
					if out, err := exec.CommandContext(cmd.Context(), "nmcli", "connection", "reload").CombinedOutput(); err != nil {
						return commandFailed("nmcli", err, out)
					}
				}
				return t.answer(map[string]string{"connection": "automatic"}, func() { fmt.Fprintln(t.out, "The cable takes the address that the router gives.") })
			}
			return t.apply(cmd.Context(), root, s, "pipit-cable")
		}}
	addressFlags(c, &address, &gw, &dns, &root)
	c.Flags().BoolVar(&automatic, "automatic", false, "take the address that the router gives")
	return c
}

// announcePause is how often names and addresses are looked at.
const announcePause = 5 * time.Second

func (t *tool) networkAnnounceCmd() *cobra.Command {
	return &cobra.Command{Use: "announce", Short: "Announce the further names by mDNS (run by pipit-names.service)", Args: noArgs,
		Long: "Keeps one avahi-publish running for each further name and each IPv4 address of the box, and follows changes of both.\n" +
			"The box's own name is announced by avahi itself.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			program, err := exec.LookPath("avahi-publish")
			if err != nil {
				return commandFailed("avahi-publish", exec.ErrNotFound, nil)
			}
			return t.announce(cmd.Context(), dir, program)
		}}
}

// announce runs until ctx ends; then all that it started has ended too.
func (t *tool) announce(ctx context.Context, dir, program string) error {
	type key struct{ name, addr string }
	running := map[key]context.CancelFunc{}
	ended := make(chan key)
	var wait sync.WaitGroup
	defer func() {
		for _, stop := range running {
			stop()
		}
		go func() { // those that end now find a reader
			for range ended {
			}
		}()
		wait.Wait()
		close(ended)
	}()
	tick := time.NewTicker(announcePause)
	defer tick.Stop()
	for {
		wanted := map[key]bool{}
		for _, name := range app.ReadNames(dir) {
			for _, addr := range localAddresses() {
				wanted[key{name, addr}] = true
			}
		}
		for k, stop := range running {
			if !wanted[k] {
				stop()
			}
		}
		for k := range wanted {
			if running[k] != nil {
				continue
			}
			one, stop := context.WithCancel(ctx)
			running[k] = stop
			wait.Go(func() {
				out, err := exec.CommandContext(one, program, "--address", "--no-reverse", k.name, k.addr).CombinedOutput()
				if one.Err() == nil {
					fmt.Fprintf(t.err, "%s %s: %v: %s\n", k.name, k.addr, err, strings.TrimSpace(string(out)))
				}
				ended <- k
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case k := <-ended:
			running[k]()
			delete(running, k)
			select { // not in a circle: avahi may be restarting
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		case <-tick.C:
		}
	}
}
