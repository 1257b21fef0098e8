package provision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Host is the operating system that Apply writes to.
type Host struct {
	Root string // "/" but in tests and while an image is made
	// Group is the numeric group of the server's user, which may read the TLS key; -1:
	// root alone.
	Group int
}

// Names of files that Apply writes, below Root.
const (
	authorizedKeys = "etc/pipit/authorized_keys"
	pendingName    = "etc/pipit/first-boot.json"
	certificate    = "etc/pipit/tls/cert.pem"
	privateKey     = "etc/pipit/tls/key.pem"
	serverConfig   = "etc/pipit/pipit.yaml"
	connections    = "etc/NetworkManager/system-connections"
	managerState   = "var/lib/NetworkManager/NetworkManager.state"
	wifiModule     = "etc/modprobe.d/pipit-wifi.conf"
)

// Apply writes what the operating system and the server read at their start, each file
// whole and on stable storage. It may be done again. What Enroll has to do is kept for
// it in a file.
func (h Host) Apply(s Setup) error {
	steps := []struct {
		what string
		wish bool
		do   func() error
	}{
		{"host name", s.HostName != "", func() error { return h.hostName(s.HostName) }},
		{"language", s.Language != "", func() error { return h.language(s.Language) }},
		{"time zone", s.TimeZone != "", func() error { return h.timeZone(s.TimeZone) }},
		{"network", s.WiFi.Name != "" || s.Address.IsValid() || len(s.DNS) > 0, func() error { return h.network(s) }},
		{"SSH keys", len(s.SSHKeys) > 0, func() error {
			return h.write(authorizedKeys, strings.Join(s.SSHKeys, "\n")+"\n", 0o644)
		}},
		{"certificate", s.Certificate != nil, func() error { return h.certificate(s) }},
		{"organisation", s.Organisation != "", func() error { return h.pend(s) }},
	}
	for _, step := range steps {
		if !step.wish {
			continue
		}
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

func (h Host) path(name string) string { return filepath.Join(h.Root, name) }

func (h Host) write(name, text string, mode fs.FileMode) error {
	return writeFile(h.path(name), []byte(text), mode)
}

// hostName writes the name and makes the box find itself under it.
func (h Host) hostName(name string) error {
	if err := h.write("etc/hostname", name+"\n", 0o644); err != nil {
		return err
	}
	old, err := os.ReadFile(h.path("etc/hosts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var out strings.Builder
	for line := range bytes.Lines(old) {
		if !bytes.HasPrefix(line, []byte("127.0.1.1")) {
			out.Write(line)
		}
	}
	if out.Len() == 0 {
		out.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost\n")
	}
	fmt.Fprintf(&out, "127.0.1.1\t%s\n", name)
	return h.write("etc/hosts", out.String(), 0o644)
}

// language is what programs of the system speak where they can. The locale itself is
// C.UTF-8, the only one that every system has.
func (h Host) language(lang string) error {
	locale := map[string]string{"zh": "zh_CN:zh:en", "en": "en"}[lang]
	text := "LANG=C.UTF-8\nLANGUAGE=" + locale + "\n"
	if _, err := os.Stat(h.path("etc/default/locale")); err == nil {
		if err := h.write("etc/default/locale", text, 0o644); err != nil {
			return err
		}
	}
	return h.write("etc/locale.conf", text, 0o644)
}

// timeZone replaces /etc/localtime (localtime(5)) and Debian's copy of its name.
func (h Host) timeZone(name string) error {
	link := h.path("etc/localtime")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Remove(link + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink("../usr/share/zoneinfo/"+name, link+".new"); err != nil {
		return err
	}
	if err := os.Rename(link+".new", link); err != nil {
		return err
	}
	return h.write("etc/timezone", name+"\n", 0o644)
}

// network writes connections of NetworkManager (nm-settings-keyfile(5)): one for the
// cable, and one for Wi-Fi. A static address is the Wi-Fi's where there is one, else the
// cable's.
func (h Host) network(s Setup) error {
	static := s.ipv("auto")
	if s.WiFi.Name != "" {
		text := "[connection]\nid=pipit-wifi\ntype=wifi\nautoconnect=true\n\n" +
			"[wifi]\nmode=infrastructure\nssid=" + ssid(s.WiFi.Name) + "\n"
		if s.WiFi.Password != "" {
			text += "\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=" + keyfileString(s.WiFi.Password) + "\n"
		}
		if err := errors.Join(h.wireless(), h.country(s.WiFi.Country)); err != nil {
			return err
		}
		return h.write(filepath.Join(connections, "pipit-wifi.nmconnection"), text+static, 0o600)
	}
	return h.write(filepath.Join(connections, "pipit-cable.nmconnection"),
		"[connection]\nid=pipit-cable\ntype=ethernet\nautoconnect=true\nautoconnect-priority=10\n"+static, 0o600)
}

// wireless switches Wi-Fi on where the system came with it switched off, as Raspberry
// Pi OS does until somebody says in which country it is.
func (h Host) wireless() error {
	text, err := os.ReadFile(h.path(managerState))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // on
	}
	if err != nil {
		return err
	}
	return h.write(managerState, strings.ReplaceAll(string(text), "WirelessEnabled=false", "WirelessEnabled=true"), 0o644)
}

// country says which channels are allowed. The kernel reads it when it loads its Wi-Fi,
// which at the first start may have been before: then it holds from the next one on.
func (h Host) country(code string) error {
	if code == "" {
		return nil
	}
	return h.write(wifiModule, "# network.wifi_country of "+FileName+"\noptions cfg80211 ieee80211_regdom="+code+"\n", 0o644)
}

// ipv renders the sections for IPv4 and IPv6.
func (s *Setup) ipv(automatic string) string {
	sections := map[bool]*strings.Builder{true: {}, false: {}} // is IPv4
	method := map[bool]string{true: automatic, false: automatic}
	if s.Address.IsValid() {
		v4 := s.Address.Addr().Is4()
		method[v4] = "manual"
		fmt.Fprintf(sections[v4], "address1=%s", s.Address)
		if s.Gateway.IsValid() {
			fmt.Fprintf(sections[v4], ",%s", s.Gateway)
		}
		sections[v4].WriteString("\n")
	}
	for _, v4 := range []bool{true, false} {
		var list []string
		for _, a := range s.DNS {
			if a.Is4() == v4 {
				list = append(list, a.String())
			}
		}
		if len(list) > 0 {
			fmt.Fprintf(sections[v4], "dns=%s;\n", strings.Join(list, ";"))
		}
	}
	return fmt.Sprintf("\n[ipv4]\nmethod=%s\n%s\n[ipv6]\nmethod=%s\n%s", method[true], sections[true], method[false], sections[false])
}

// ssid writes the name as its bytes: no name then reads as something else.
func ssid(name string) string {
	var b strings.Builder
	for i := range len(name) {
		fmt.Fprintf(&b, "%d;", name[i])
	}
	return b.String()
}

// keyfileString escapes what a keyfile would eat: backslashes, and spaces at the ends.
func keyfileString(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\`)
	inner := strings.Trim(s, " ")
	if inner == s {
		return s
	}
	lead := len(s) - len(strings.TrimLeft(s, " "))
	return strings.Repeat(`\s`, lead) + inner + strings.Repeat(`\s`, len(s)-lead-len(inner))
}

// certificate copies the pair and names it in the server's settings, whose other lines
// stay as they are.
func (h Host) certificate(s Setup) error {
	if err := h.write(certificate, string(s.Certificate), 0o644); err != nil {
		return err
	}
	if err := h.write(privateKey, string(s.Key), 0o640); err != nil {
		return err
	}
	if h.Group >= 0 {
		if err := os.Chown(h.path(privateKey), 0, h.Group); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(h.path(serverConfig))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var has map[string]any
	if err := yaml.Unmarshal(text, &has); err != nil {
		return fmt.Errorf("%s: %w", serverConfig, err)
	}
	if has["tls"] != nil {
		return nil // set by hand, or by an earlier run that was cut
	}
	if n := len(text); n > 0 && text[n-1] != '\n' {
		text = append(text, '\n')
	}
	return h.write(serverConfig, string(text)+"\n# From pipit.yaml on the boot partition.\ntls:\n  cert: /"+certificate+"\n  key: /"+privateKey+"\n", 0o644)
}

// Pending is what waits until the server runs.
type Pending struct {
	TenantID      string `json:"tenant_id"`
	Organisation  string `json:"organisation"`
	Kind          string `json:"kind"`
	Language      string `json:"language,omitempty"`
	Administrator string `json:"administrator"`
	Username      string `json:"username"`
}

func (h Host) pend(s Setup) error {
	b, err := json.MarshalIndent(Pending{TenantID: s.TenantID, Organisation: s.Organisation, Kind: s.Kind, Language: s.Language,
		Administrator: s.Administrator, Username: s.Username}, "", "  ")
	if err != nil {
		return err
	}
	return h.write(pendingName, string(b)+"\n", 0o600)
}

// Pending returns what Apply kept for Enroll; false if nothing waits.
func (h Host) Pending() (p Pending, ok bool, err error) {
	b, err := os.ReadFile(h.path(pendingName))
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return p, false, fmt.Errorf("what waits for the server: %w", err)
	}
	return p, true, nil
}

// Done forgets what waited.
func (h Host) Done() error {
	if err := os.Remove(h.path(pendingName)); err != nil {
		return err
	}
	return syncDir(filepath.Dir(h.path(pendingName)))
}
