package twin

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// label is how the stick of the nightly backups is called.
const label = "PIPIT-BACKUP"

// stick makes a file with the file system of a USB stick.
func stick(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stick.ext4")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 128<<20); err != nil {
		t.Fatal(err)
	}
	// Sticks are FAT, which not every kernel has that tests.
	run(t, "mkfs.ext4", "-q", "-F", "-L", label, "-O", "^has_journal", file)
	return file
}

// plug puts a stick into the running machine; what udev would do there is done here.
func (m *Machine) plug(file string) {
	m.t.Helper()
	dev := m.loop(file)
	m.Run("mkdir", "-p", "/dev/disk/by-label")
	m.Run("mknod", dev, "b", "7", strings.TrimPrefix(dev, "/dev/loop"))
	m.Run("ln", "-s", dev, "/dev/disk/by-label/"+label)
}

// night is what a nightly backup leaves for the day on which the card is dead.
type night struct {
	stick    string // file with the stick's file system
	identity string // that opens the backup
	root     []byte // certificate of the box's authority
}

// backup: what was there then is there after a restore, and nothing else.
func (m *Machine) backup(t *testing.T, p *party, night *night) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	add := func(id string) {
		if _, err := m.box().AddTenant(ctx, id, id); err != nil {
			t.Fatal(err)
		}
	}
	add("kept")
	start := func(unit string) {
		t.Helper()
		if out, err := m.Try("systemctl", "start", unit); err != nil {
			t.Errorf("%s: %v %s\n%s", unit, err, out, m.Run("journalctl", "--no-pager", "-u", unit, "-o", "cat"))
		}
	}
	// The nightly one, under its unit's sandbox: without a key it fails nobody's night.
	start("pipit-backup.service")
	var key struct{ Identity string }
	if err := json.Unmarshal([]byte(m.Run("pipit", "backup", "key", "--json")), &key); err != nil || key.Identity == "" {
		t.Fatalf("the key: %v", err)
	}
	night.identity = key.Identity
	m.plug(night.stick)
	start("pipit-backup.service")
	var list struct {
		Backups []struct{ Name string }
		Last    struct {
			Error  string
			Places []struct{ Place, Path string }
		}
	}
	if err := json.Unmarshal([]byte(m.Run("pipit", "backup", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Backups) != 1 || list.Last.Error != "" || len(list.Last.Places) != 2 || list.Last.Places[0].Place != "card" || list.Last.Places[1].Place != "stick" {
		t.Errorf("after a night: %+v", list)
	}
	if mounted := m.Run("sh", "-c", "mount | grep -c pipit-stick || :"); mounted != "0" {
		t.Error("the stick is mounted still")
	}
	var err error
	if night.root, err = os.ReadFile(m.Path("/var/lib/pipit/tls/ca.crt")); err != nil {
		t.Fatal(err)
	}
	start("pipit-scrub.service")

	m.Run("pipit", "backup", "/data/system/x.backup")
	add("lost")
	m.Run("systemctl", "stop", "pipit.socket", "pipit-https.socket", "pipit.service")
	m.Run("sh", "-c", "find /var/lib/pipit -mindepth 1 -delete")
	m.Run("chmod", "644", "/data/system/x.backup")
	m.write("/run/identity", night.identity)
	m.Run("sudo", "-u", "pipit", "pipit", "--data-dir", "/var/lib/pipit", "restore", "/data/system/x.backup", "--identity", "/run/identity")
	m.Run("systemctl", "start", "pipit.socket", "pipit-https.socket", "pipit.service")
	if got := m.tenants(t); got != "kept oakhill party" {
		t.Errorf("after the restore: %q", got)
	}
	p.talk()
}

// write puts a file into the running machine.
func (m *Machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(m.Path(name), []byte(text+"\n"), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// tenants returns the ids of all organisations.
func (m *Machine) tenants(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tenants, err := m.box().Tenants(ctx)
	if err != nil {
		t.Error(err)
	}
	var ids []string
	for _, x := range tenants {
		ids = append(ids, x.ID)
	}
	return strings.Join(ids, " ")
}

// fresh: the card of a box is dead. A new one, the stick with the last night, and one
// command.
func (m *Machine) fresh(t *testing.T, night *night) {
	if night.identity == "" {
		t.Fatal("there was no night")
	}
	m.plug(night.stick)
	m.write("/run/identity", night.identity)
	m.Run("pipit", "restore", "--identity", "/run/identity")
	if got := m.tenants(t); got != "kept oakhill party" {
		t.Errorf("on the fresh card: %q", got)
	}
	if status, _ := m.get("/readyz"); status != http.StatusOK {
		t.Errorf("after the restore the server answers %d", status)
	}
	if root, err := os.ReadFile(m.Path("/var/lib/pipit/tls/ca.crt")); err != nil || !bytes.Equal(root, night.root) {
		t.Errorf("every device would have to trust the box anew: %v", err)
	}
	if owner := m.Run("sh", "-c", "find /var/lib/pipit -mindepth 1 -not -user pipit -not -path '*/versions*' -not -path '*/keys*'"); owner != "" {
		t.Errorf("the server can't read what is not its own: %s", owner)
	}
}
