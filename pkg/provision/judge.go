package provision

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/pipit-im/pipit/pkg/config"
)

// row is one key of pipit.yaml: how its value goes into a Setup, or why it does not.
type row struct {
	key  string
	list bool
	set  func(j *judgement, v config.Value)
}

// rows is the table of keys. provisioning/pipit.yaml shows the same, with examples.
var rows = []row{
	{key: "hostname", set: func(j *judgement, v config.Value) {
		j.s.HostName = strings.ToLower(v.Text[0])
		if !hostName.MatchString(j.s.HostName) {
			j.bad(v, "%q can't be a host name: 1 to 63 letters a to z, digits and dashes, no dash first or last. For example pipit.",
				"“%s”不能作主机名:只能用 1 到 63 个英文字母、数字和横线,横线不能在头尾。例如 pipit。", v.Text[0])
		}
	}},
	{key: "language", set: func(j *judgement, v config.Value) { j.word(v, &j.s.Language, "zh", "en") }},
	{key: "timezone", set: func(j *judgement, v config.Value) {
		j.s.TimeZone = v.Text[0]
		if _, err := time.LoadLocation(v.Text[0]); err != nil || v.Text[0] == "" || v.Text[0] == "Local" {
			j.bad(v, "%q is no time zone. For example Asia/Shanghai, Europe/Berlin or UTC.", "没有“%s”这个时区。例如 Asia/Shanghai。", v.Text[0])
		}
	}},
	{key: "organisation.name", set: func(j *judgement, v config.Value) { j.name(v, &j.s.Organisation) }},
	{key: "organisation.id", set: func(j *judgement, v config.Value) {
		j.s.TenantID = v.Text[0]
		if !tenantID.MatchString(v.Text[0]) {
			j.bad(v, "%q can't be an id: 1 to 32 letters a to z, digits and dashes. For example oakhill.",
				"“%s”不能作标识:只能用 1 到 32 个小写英文字母、数字和横线。例如 oakhill。", v.Text[0])
		}
	}},
	{key: "organisation.kind", set: func(j *judgement, v config.Value) { j.word(v, &j.s.Kind, "school", "office", "open") }},
	{key: "administrator.name", set: func(j *judgement, v config.Value) { j.name(v, &j.s.Administrator) }},
	{key: "administrator.username", set: func(j *judgement, v config.Value) {
		j.s.Username = v.Text[0]
		if !userName.MatchString(v.Text[0]) {
			j.bad(v, "%q can't be a user name: 1 to 64 letters, digits, dots, dashes and underscores. For example ann.",
				"“%s”不能作用户名:只能用 1 到 64 个英文字母、数字、点、横线和下划线。例如 ann。", v.Text[0])
		}
	}},
	{key: "network.address", set: func(j *judgement, v config.Value) {
		p, err := netip.ParsePrefix(v.Text[0])
		if err != nil || p.Addr().IsUnspecified() || p.Bits() == 0 || p.Addr() == p.Masked().Addr() && p.Addr().Is4() && p.Bits() < 31 {
			j.bad(v, "%q is no address with the length of its network. For example 192.168.1.10/24.", "“%s”不是带网络长度的地址。例如 192.168.1.10/24。", v.Text[0])
		}
		j.s.Address = p
	}},
	{key: "network.gateway", set: func(j *judgement, v config.Value) { j.address(v, v.Text[0], &j.s.Gateway) }},
	{key: "network.dns", list: true, set: func(j *judgement, v config.Value) {
		for _, text := range v.Text {
			var a netip.Addr
			j.address(v, text, &a)
			j.s.DNS = append(j.s.DNS, a)
		}
	}},
	{key: "network.wifi_name", set: func(j *judgement, v config.Value) {
		j.s.WiFi.Name = v.Text[0]
		if n := len(v.Text[0]); n < 1 || n > 32 {
			j.bad(v, "A Wi-Fi name has 1 to 32 bytes; this one has %d.", "Wi-Fi 名称为 1 到 32 字节,这个有 %d 字节。", n)
		}
	}},
	{key: "network.wifi_password", set: func(j *judgement, v config.Value) {
		j.s.WiFi.Password = v.Text[0]
		j.s.secrets = map[string]int{"network.wifi_password": v.Line}
		// IEEE 802.11, annex J.4: 8 to 63 printable ASCII characters, or the key itself.
		if n := len(v.Text[0]); (n < 8 || n > 63 || strings.ContainsFunc(v.Text[0], func(r rune) bool { return r < 0x20 || r > 0x7e })) && !hexKey.MatchString(v.Text[0]) {
			j.bad(v, "A Wi-Fi password has 8 to 63 characters of the English keyboard; this one has %d.", "Wi-Fi 密码为 8 到 63 个英文键盘字符,这个有 %d 个。", utf8.RuneCountInString(v.Text[0]))
		}
	}},
	{key: "network.wifi_country", set: func(j *judgement, v config.Value) {
		j.s.WiFi.Country = strings.ToUpper(v.Text[0])
		if !country.MatchString(j.s.WiFi.Country) {
			j.bad(v, "%q is no country: two letters, as CN, DE or US.", "“%s”不是国家代码:要写两个字母,例如 CN。", v.Text[0])
		}
	}},
	{key: "ssh.keys", list: true, set: func(j *judgement, v config.Value) {
		for i, text := range v.Text {
			text = strings.TrimSpace(text)
			switch _, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(text)); {
			case strings.Contains(text, "PRIVATE KEY"):
				j.bad(v, "Key %d is a private key. It belongs to you alone: put the line of the file that ends in .pub here.", "第 %d 个是私钥,只能自己保管。请填 .pub 文件里的那一行。", i+1)
			case err != nil || len(rest) > 0:
				j.bad(v, "Key %d is no SSH public key. It is one line that begins with ssh-ed25519 or ssh-rsa.", "第 %d 个不是 SSH 公钥。公钥是一行,以 ssh-ed25519 或 ssh-rsa 开头。", i+1)
			default:
				j.s.SSHKeys = append(j.s.SSHKeys, text)
			}
		}
	}},
	{key: "tls.certificate", set: func(j *judgement, v config.Value) { j.s.Certificate, _ = j.read(v) }},
	{key: "tls.key", set: func(j *judgement, v config.Value) { j.s.Key, j.s.keyFile = j.read(v) }},
}

var schema = config.Schema{Keys: keys(), List: func(key string) bool {
	return slices.ContainsFunc(rows, func(r row) bool { return r.key == key && r.list })
}}

func keys() []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r.key
	}
	return out
}

var (
	hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	tenantID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	userName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	country  = regexp.MustCompile(`^[A-Z]{2}$`) // ISO 3166-1 alpha-2
	hexKey   = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)
)

// judgement goes through one file.
type judgement struct {
	s        Setup
	folder   string
	problems []Problem
}

// judge turns what was found into a Setup, and adds to the faults of the text everything
// that can't be meant, in the order of the lines.
func judge(found map[string]config.Value, faults []Problem, folder string) (Setup, []Problem) {
	j := &judgement{folder: folder, problems: faults}
	for _, r := range rows {
		if v, ok := found[r.key]; ok {
			r.set(j, v)
		}
	}
	line := func(key string) int { return found[key].Line }
	need := func(key, other string) {
		// A key that is missing may be one of those that are spelt wrong.
		if _, ok := found[key]; ok && found[other].Line == 0 && len(faults) == 0 {
			j.problems = append(j.problems, problem(line(key), fmt.Sprintf("%s needs %s too.", key, other), fmt.Sprintf("写了 %s,还要写 %s。", key, other)))
		}
	}
	need("network.gateway", "network.address")
	need("network.wifi_password", "network.wifi_name")
	need("network.wifi_country", "network.wifi_name")
	need("tls.certificate", "tls.key")
	need("tls.key", "tls.certificate")
	need("organisation.kind", "organisation.name")
	need("organisation.id", "organisation.name")
	need("administrator.name", "organisation.name")
	need("administrator.username", "administrator.name")
	need("organisation.name", "administrator.name")
	if j.s.Address.IsValid() && j.s.Gateway.IsValid() && !j.s.Address.Contains(j.s.Gateway) {
		j.problems = append(j.problems, problem(line("network.gateway"),
			fmt.Sprintf("The gateway %s is not in the network of %s.", j.s.Gateway, j.s.Address), fmt.Sprintf("网关 %s 不在 %s 的网络里。", j.s.Gateway, j.s.Address)))
	}
	if j.s.Certificate != nil && j.s.Key != nil {
		if _, err := tls.X509KeyPair(j.s.Certificate, j.s.Key); err != nil {
			j.problems = append(j.problems, problem(line("tls.certificate"),
				"The certificate and the key can't be used together: "+err.Error()+". Both are PEM files (-----BEGIN …), the server's certificate first, and the key has no password.",
				"证书和私钥不能配对使用("+err.Error()+")。两者都应是 PEM 文件(-----BEGIN …),服务器证书在最前,私钥不带密码。"))
		}
	}
	j.s.complete()
	slices.SortStableFunc(j.problems, func(a, b Problem) int { return a.Line - b.Line })
	return j.s, j.problems
}

// complete fills in what follows from the rest.
func (s *Setup) complete() {
	if s.Organisation == "" {
		return
	}
	if s.Kind == "" {
		s.Kind = "open"
	}
	if s.Username == "" {
		s.Username = "admin"
	}
	if s.TenantID == "" {
		// What is left of the name in ASCII; of a Chinese one that is nothing.
		id := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(s.Organisation), "-"), "-")
		id = strings.Trim(id[:min(len(id), 32)], "-")
		if !tenantID.MatchString(id) {
			id = s.Kind
		}
		s.TenantID = id
	}
}

func (j *judgement) bad(v config.Value, en, zh string, args ...any) {
	j.problems = append(j.problems, problem(v.Line, fmt.Sprintf(en, args...), fmt.Sprintf(zh, args...)))
}

func (j *judgement) word(v config.Value, to *string, words ...string) {
	*to = strings.ToLower(v.Text[0])
	if !slices.Contains(words, *to) {
		list := strings.Join(words, ", ")
		j.bad(v, "%q is none of: %s.", "“%s”不在可选范围内:%s。", v.Text[0], list)
	}
}

// name is a name for people: of an organisation or a person.
func (j *judgement) name(v config.Value, to *string) {
	*to = strings.TrimSpace(v.Text[0])
	if n := utf8.RuneCountInString(*to); n < 1 || n > 120 || strings.ContainsFunc(*to, unicode.IsControl) {
		j.bad(v, "A name has 1 to 120 characters on one line; this one has %d.", "名称为一行 1 到 120 个字,这个有 %d 个。", n)
	}
}

func (j *judgement) address(v config.Value, text string, to *netip.Addr) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.IsUnspecified() {
		j.bad(v, "%q is no address. For example 192.168.1.1.", "“%s”不是地址。例如 192.168.1.1。", text)
	}
	*to = a
}

// maxFileBytes bounds a certificate file: chains are a few KiB.
const maxFileBytes = 256 << 10

// read reads a file that lies beside pipit.yaml.
func (j *judgement) read(v config.Value) (data []byte, name string) {
	text := v.Text[0]
	if text == "" || text != filepath.Base(text) || strings.ContainsAny(text, `/\`) {
		j.bad(v, "%q must be the name of a file beside pipit.yaml, without a folder.", "“%s”应当是 pipit.yaml 旁边的文件名,不带文件夹。", text)
		return nil, ""
	}
	name = filepath.Join(j.folder, text)
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.bad(v, "There is no file %s beside pipit.yaml.", "pipit.yaml 旁边没有 %s 这个文件。", text)
		return nil, ""
	case err == nil && info.Size() > maxFileBytes:
		j.bad(v, "%s is too large for a certificate or a key.", "%s 太大,不是证书或私钥。", text)
		return nil, ""
	case err == nil:
		data, err = os.ReadFile(name)
	}
	if err != nil {
		j.bad(v, "%s can't be read; copy it to the card again.", "%s 读不出来,请重新拷贝到卡上。", text)
		return nil, ""
	}
	return data, name
}
