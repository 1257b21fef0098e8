package provision

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/pipit-im/pipit/pkg/im"
)

// card returns a folder that holds text as pipit.yaml.
func card(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, FileName, text)
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// delivered is the file that is on the card, with every comment sign of a setting
// removed.
func delivered(t *testing.T) (asIs, filledIn string) {
	t.Helper()
	b, err := os.ReadFile("../../provisioning/pipit.yaml")
	if err != nil {
		t.Fatal(err)
	}
	setting := regexp.MustCompile(`^# ( *)([a-z_]+:.*|- ssh-.*)$`)
	var out []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		// A sentence may end in a colon; a setting has nothing but its name before it.
		if m := setting.FindStringSubmatch(line); m != nil {
			line = m[1] + m[2]
		}
		out = append(out, line)
	}
	return string(b), strings.Join(out, "\n")
}

// TestDelivered: the file on the card says nothing as it is, and every key of the table
// when it is filled in.
func TestDelivered(t *testing.T) {
	asIs, filledIn := delivered(t)
	if strings.Count(asIs, "\n") != strings.Count(asIs, "\r\n") {
		t.Error("every line must end in CR LF, or old editors show one line")
	}
	s, problems, err := Read(card(t, asIs))
	if err != nil || len(problems) > 0 || !s.Empty() {
		t.Fatalf("as it is: %+v, %v, %v", s, problems, err)
	}
	dir := card(t, filledIn)
	cert, key := pair(t)
	put(t, dir, "cert.pem", cert)
	put(t, dir, "key.pem", key)
	s, problems, err = Read(dir)
	if err != nil || len(problems) > 0 {
		t.Fatalf("filled in: %v, %v\n%s", problems, err, filledIn)
	}
	if s.HostName != "pipit" || s.Organisation != "橡树山学校" || s.Kind != "school" || s.TenantID != "oakhill" || s.Username != "ann" ||
		s.WiFi.Name != "Oakhill" || len(s.SSHKeys) != 1 || s.Certificate == nil || s.Address.String() != "192.168.1.10/24" {
		t.Errorf("%+v", s)
	}
	for _, r := range rows {
		_, name, ok := strings.Cut(r.key, ".")
		if !ok {
			name = r.key
		}
		if !regexp.MustCompile(`(?m)^ *` + name + `:`).MatchString(filledIn) {
			t.Errorf("%s is not in provisioning/pipit.yaml", r.key)
		}
	}
}

func utf16le(s string, order binary.AppendByteOrder, bom uint16) string {
	b := order.AppendUint16(nil, bom)
	for _, u := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, u)
	}
	return string(b)
}

// TestEditors: what Windows' editors make of the file is read, or named.
func TestEditors(t *testing.T) {
	const text = "hostname: school\r\norganisation:\r\n  name: 橡树山\r\nadministrator:\r\n  name: 李安\r\n"
	for name, raw := range map[string]string{
		"CR LF":         text,
		"UTF-8 mark":    "\xef\xbb\xbf" + text,
		"UTF-16 little": utf16le(text, binary.LittleEndian, 0xfeff),
		"UTF-16 big":    utf16le(text, binary.BigEndian, 0xfeff),
		"old Mac":       strings.ReplaceAll(text, "\r\n", "\r"),
	} {
		s, problems, err := Read(card(t, raw))
		if err != nil || len(problems) > 0 || s.HostName != "school" || s.Organisation != "橡树山" || s.TenantID != "open" {
			t.Errorf("%s: %+v, %v, %v", name, s, problems, err)
		}
	}
	for name, want := range map[string][]string{
		"hostname: a\norganisation:\n  name: \xcf\xf0\xca\xf7": {"line 3", "UTF-8"}, // GBK
		"hostname: pi\x00pit": {"word processor"},
	} {
		_, problems, err := Read(card(t, name))
		if err != nil || len(problems) != 1 || !containsAll(problems[0].String(), want...) {
			t.Errorf("%q: %v, %v", name, problems, err)
		}
	}
	for _, name := range otherNames {
		dir := t.TempDir()
		put(t, dir, name, text)
		if s, problems, err := Read(dir); err != nil || len(problems) > 0 || s.HostName != "school" {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
	}
	dir := card(t, text)
	put(t, dir, "pipit.yaml.txt", text)
	if _, problems, err := Read(dir); err != nil || len(problems) != 1 || !strings.Contains(problems[0].EN, "pipit.yaml and pipit.yaml.txt") {
		t.Errorf("two files: %v, %v", problems, err)
	}
	if _, _, err := Read(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("no file: %v", err)
	}
}

func containsAll(s string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(s, p) })
}

// TestProblems: each mistake is named with its line and a way out, in both languages.
func TestProblems(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string // of the first problem; the first is its line
		zh   string
	}{
		{"hostnme: pipit", []string{"line 1", "hostnme", "nearest is hostname"}, "最接近的是 hostname"},
		{"hostname:pipit", []string{"line 1", "space behind the colon"}, "空一格"},
		{"# hello\nhostname\uff1apipit", []string{"line 2", "Chinese one"}, "英文的"},
		{"organisation:\n\tname: x", []string{"line 2", "tab"}, "Tab"},
		{"language: zh\npipit", []string{"line 2", `"pipit" is no setting`}, "不是设置"},
		{"hostname: \"a", []string{"line", "can't be understood"}, "看不懂"},
		{"hostname: a\nhostname: b", []string{"line 2", "line 1 already"}, "第 1 行"},
		{"hostname:", []string{"line 1", "nothing behind its colon"}, "后面是空的"},
		{"organisation: Oakhill", []string{"line 1", "lines below it"}, "下面的行"},
		{"organisation.name: x", []string{"line 1", "Write organisation: on a line"}, "再在下一行"},
		{"hostname:\n  - a", []string{"line 1", "one value"}, "一个值"},
		{"hostname: my box", []string{"line 1", "can't be a host name"}, "主机名"},
		{"language: de", []string{"line 1", "none of: zh, en"}, "zh, en"},
		{"timezone: China", []string{"line 1", "no time zone", "Asia/Shanghai"}, "时区"},
		{"timezone: ../../etc/passwd", []string{"line 1", "no time zone"}, "时区"},
		{"organisation:\n  name: Oak", []string{"line 2", "needs administrator.name"}, "还要写"},
		{"administrator:\n  name: Ann", []string{"line 2", "needs organisation.name"}, "还要写"},
		{"network:\n  address: 192.168.1.10", []string{"line 2", "192.168.1.10/24"}, "网络长度"},
		{"network:\n  address: 192.168.1.0/24", []string{"line 2", "192.168.1.10/24"}, "网络长度"},
		{"network:\n  address: 10.0.0.2/8\n  gateway: 192.168.1.1", []string{"line 3", "not in the network"}, "不在"},
		{"network:\n  gateway: 192.168.1.1", []string{"line 2", "needs network.address"}, "还要写"},
		{"network:\n  wifi_name: x\n  wifi_password: short", []string{"line 3", "8 to 63"}, "8 到 63"},
		{"network:\n  wifi_password: longenough", []string{"line 2", "needs network.wifi_name"}, "还要写"},
		{"network:\n  wifi_name: x\n  wifi_country: Germany", []string{"line 3", "two letters"}, "国家代码"},
		{"network:\n  wifi_country: de", []string{"line 2", "needs network.wifi_name"}, "还要写"},
		{"ssh:\n  keys: [hello]", []string{"line 2", "no SSH public key"}, "公钥"},
		{"ssh:\n  keys:\n    - '-----BEGIN OPENSSH PRIVATE KEY-----'", []string{"line 2", "private key", ".pub"}, "私钥"},
		{"tls:\n  certificate: cert.pem\n  key: key.pem", []string{"line 2", "no file cert.pem"}, "没有 cert.pem"},
		{"tls:\n  certificate: ../cert.pem\n  key: key.pem", []string{"line 2", "without a folder"}, "不带文件夹"},
		{"---\nhostname: a\n---\nhostname: b", []string{"---"}, "---"},
	} {
		s, problems, err := Read(card(t, tc.text))
		if err != nil || len(problems) == 0 {
			t.Errorf("%q: %+v, %v", tc.text, s, err)
			continue
		}
		if !containsAll(problems[0].String(), tc.want...) || !strings.Contains(problems[0].ZH, tc.zh) {
			t.Errorf("%q: %q / %q", tc.text, problems[0], problems[0].ZH)
		}
		if r := Report(problems); !strings.HasPrefix(r, "\ufeff") || !strings.Contains(r, problems[0].EN+"\r\n") || !strings.Contains(r, problems[0].ZH+"\r\n") {
			t.Errorf("report of %q: %q", tc.text, r)
		}
	}
	// All of them at once, in the order of the lines.
	_, problems, _ := Read(card(t, "timezone: nowhere\nlanguage: de\nhostname: -x\n"))
	if len(problems) != 3 || problems[0].Line != 1 || problems[1].Line != 2 || problems[2].Line != 3 {
		t.Errorf("%v", problems)
	}
	_, problems, _ = Read(card(t, "organisation:\n  name: x\nadminstrator:\n  name: y\nlanguage: de\n"))
	if len(problems) != 2 || problems[0].Line != 3 || problems[1].Line != 5 {
		t.Errorf("%v", problems)
	}
	// A secret is never repeated.
	_, problems, _ = Read(card(t, "network:\n  wifi_name: x\n  wifi_password: geheim\n"))
	if len(problems) != 1 || strings.Contains(Report(problems), "geheim") {
		t.Errorf("%v", problems)
	}
}

// TestApply: what a system reads at its start, from one file; done twice it is the same.
func TestApply(t *testing.T) {
	_, filledIn := delivered(t)
	filledIn = strings.Replace(filledIn, `"write it here"`, `'a\b "c" '`, 1)
	dir, root := card(t, filledIn), t.TempDir()
	cert, key := pair(t)
	put(t, dir, "cert.pem", cert)
	put(t, dir, "key.pem", key)
	put(t, root, "etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\told\n")
	put(t, root, serverConfig, "data_dir: /var/lib/pipit")
	put(t, root, managerState, "[main]\nWirelessEnabled=false\n") // as Raspberry Pi OS
	h := Host{Root: root, Group: -1}
	for range 2 {
		s, problems, err := Read(dir)
		if err != nil || len(problems) > 0 {
			t.Fatal(problems, err)
		}
		if err := h.Apply(s); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"etc/hostname":    "pipit\n",
		"etc/hosts":       "127.0.0.1\tlocalhost\n127.0.1.1\tpipit\n",
		"etc/timezone":    "Asia/Shanghai\n",
		managerState:      "[main]\nWirelessEnabled=true\n",
		wifiModule:        "# network.wifi_country of pipit.yaml\noptions cfg80211 ieee80211_regdom=CN\n",
		"etc/locale.conf": "LANG=C.UTF-8\nLANGUAGE=zh_CN:zh:en\n",
		certificate:       cert,
		privateKey:        key,
		serverConfig:      "data_dir: /var/lib/pipit\n\n# From pipit.yaml on the boot partition.\ntls:\n  cert: /etc/pipit/tls/cert.pem\n  key: /etc/pipit/tls/key.pem\n",
		connections + "/pipit-wifi.nmconnection": "[connection]\nid=pipit-wifi\ntype=wifi\nautoconnect=true\n\n[wifi]\nmode=infrastructure\nssid=79;97;107;104;105;108;108;\n\n" +
			"[wifi-security]\nkey-mgmt=wpa-psk\npsk=a\\\\b \"c\"\\s\n\n[ipv4]\nmethod=manual\naddress1=192.168.1.10/24,192.168.1.1\ndns=192.168.1.1;\n\n[ipv6]\nmethod=auto\n",
	} {
		if got := get(t, root, name); got != want {
			t.Errorf("%s:\n%q, want\n%q", name, got, want)
		}
	}
	if link, err := os.Readlink(filepath.Join(root, "etc/localtime")); err != nil || link != "../usr/share/zoneinfo/Asia/Shanghai" {
		t.Errorf("localtime: %q, %v", link, err)
	}
	for name, mode := range map[string]os.FileMode{connections + "/pipit-wifi.nmconnection": 0o600, privateKey: 0o640, pendingName: 0o600} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}

	// Used: read once, and nothing secret stays.
	s, _, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Complain(dir, []Problem{problem(1, "x", "x")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Used(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(dir); !errors.Is(err, ErrNone) {
		t.Errorf("it would be read again: %v", err)
	}
	if used := get(t, dir, UsedName); strings.Contains(used, `a\b`) || !strings.Contains(used, "wifi_password: \"********\"") || !strings.Contains(used, "hostname: pipit") {
		t.Errorf("used: %s", used)
	}
	for _, gone := range []string{"key.pem", ErrorsName} {
		if _, err := os.Stat(filepath.Join(dir, gone)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there still: %v", gone, err)
		}
	}
}

// TestBlank: the password goes and the rest stays; where it can't be taken out alone,
// the file goes with it.
func TestBlank(t *testing.T) {
	for text, kept := range map[string]bool{
		"network:\n  wifi_name: x\n  wifi_password: password # note\n":          true,
		"network:\r\n  wifi_password: \"pass\\u0077ord\"\r\n  wifi_name: x\r\n": true,
		"network: {wifi_name: x, wifi_password: password}\n":                    false,
		"network:\n  wifi_name: x\n  wifi_password: >-\n    password\n":         false,
		"network:\n  wifi_name: x\n  \"wifi_password\": password\n":             false,
		"network:\n  wifi_name: x\n  wifi_password:\n    password\n":            false,
	} {
		dir := card(t, text)
		s, problems, err := Read(dir)
		if err != nil || len(problems) > 0 || s.WiFi.Password != "password" {
			t.Errorf("%q: %+v, %v, %v", text, s.WiFi, problems, err)
			continue
		}
		if err := s.Used(); err != nil {
			t.Fatal(err)
		}
		used := strings.ReplaceAll(get(t, dir, UsedName), "wifi_password:", "")
		if strings.Contains(used, "password") == kept && kept || strings.Contains(used, "0077ord") || strings.Contains(used, ": password") || strings.Contains(used, "wifi_name: x") != kept {
			t.Errorf("%q became %q", text, used)
		}
	}
}

// box records what Enroll asks of the server.
type box struct {
	did   []string
	fails map[string]error
}

func (b *box) do(parts ...string) error {
	b.did = append(b.did, strings.Join(parts, " "))
	return b.fails[parts[0]]
}

func (b *box) AddTenant(_ context.Context, id, name, kind string) error {
	return b.do("tenant", id, name, kind)
}
func (b *box) AddOwner(_ context.Context, tenant, username, name string) error {
	return b.do("owner", tenant, username, name)
}
func (b *box) SetUpCode(_ context.Context, tenant, username string) (string, error) {
	return "ABCD-EFGH", b.do("code", tenant, username)
}
func (b *box) ImportRoster(_ context.Context, tenant, name string, data []byte) error {
	return b.do("roster", tenant, name, string(data))
}

// TestEnroll: what waits is done on the server, in order; what is there already is no
// failure, anything else leaves it waiting.
func TestEnroll(t *testing.T) {
	dir, h := card(t, "organisation:\n  name: Oakhill School\n  kind: school\nadministrator:\n  name: Ann Lee\n"), Host{Root: t.TempDir(), Group: -1}
	put(t, dir, "roster/b.csv", "bob")
	put(t, dir, "roster/A.CSV", "ann")
	put(t, dir, "roster/README.txt", "no list")
	put(t, dir, "roster/.b.csv", "no list")
	s, problems, err := Read(dir)
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	if err := h.Apply(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Used(); err != nil {
		t.Fatal(err)
	}
	p, ok, err := h.Pending()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	down := &box{fails: map[string]error{"owner": im.E(im.Unavailable, "starting")}}
	if _, err := h.Enroll(t.Context(), p, dir, down); err == nil {
		t.Error("a server that is not there is no error")
	}
	there := &box{fails: map[string]error{"tenant": im.E(im.Exists, "there"), "owner": im.E(im.Exists, "there"), "roster": im.E(im.Invalid, "line 1 has no name")}}
	problems, err = h.Enroll(t.Context(), p, dir, there)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"tenant oakhill-school Oakhill School school", "owner oakhill-school admin Ann Lee", "code oakhill-school admin",
		"roster oakhill-school A.CSV ann", "roster oakhill-school b.csv bob"}
	if !slices.Equal(there.did, want) {
		t.Errorf("did %q", there.did)
	}
	if len(problems) != 2 || !strings.Contains(problems[0].EN, "roster/A.CSV: line 1 has no name") {
		t.Errorf("%v", problems)
	}
	if !strings.Contains(get(t, h.Root, SetUpName), `"code": "ABCD-EFGH"`) {
		t.Error("no code for the screen")
	}
	if err := h.Done(); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := h.Pending(); ok || err != nil {
		t.Errorf("waits still: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{"hostname: pipit", "organisation:\n  name: x\n", "\xff\xfeh\x00", "a: &a [*a]", "ssh:\n  keys:\n  - x", "network:\n  dns: [1.1.1.1]"} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, FileName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		s, problems, err := Read(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(problems) > 0 {
			Report(problems)
			return
		}
		if s.WiFi.Name != "" && strings.ContainsAny(ssid(s.WiFi.Name), "\n[") {
			t.Error("a name got out of its line")
		}
		if strings.Contains(keyfileString(s.WiFi.Password), "\n") {
			t.Error("a password got out of its line")
		}
	})
}
