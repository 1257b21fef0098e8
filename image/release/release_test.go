package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/pb33f/jsonschema/v6"

	"github.com/pipit-im/pipit/pkg/update"
)

const packages = "base-files\t13.8\tarm64\t\t\nlibssl3t64\t3.5.1-1+deb13u1\tarm64\topenssl (3.5.1-1)\thttps://www.openssl.org/\n"

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSBOM(t *testing.T) {
	list, out := file(t, "packages.tsv", packages), filepath.Join(t.TempDir(), "out.json")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"sbom", "-version", "1.2.3", "-epoch", "1764028800", "-packages", list, "-out", out, self}
	if err := run(args); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var bom cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	got := map[string]cdx.Component{}
	for _, c := range *bom.Components {
		if _, twice := got[c.BOMRef]; twice {
			t.Errorf("%s stands there twice", c.BOMRef)
		}
		got[c.BOMRef] = c
	}
	for ref, name := range map[string]string{
		"pkg:deb/debian/base-files@13.8?arch=arm64&distro=debian-13":            "base-files",
		"pkg:deb/debian/libssl3t64@3.5.1-1+deb13u1?arch=arm64&distro=debian-13": "libssl3t64",
	} {
		if c, ok := got[ref]; !ok || c.Name != name {
			t.Errorf("no %s in %s", ref, text)
		}
	}
	if source := (*got["pkg:deb/debian/libssl3t64@3.5.1-1+deb13u1?arch=arm64&distro=debian-13"].Properties)[0].Value; source != "openssl" {
		t.Errorf("the source of libssl3t64 is %q", source)
	}
	if !strings.Contains(string(text), `"pkg:golang/std@`) {
		t.Error("Go's own library is missing")
	}
	if err := run(args); err != nil {
		t.Fatal(err)
	}
	if again, _ := os.ReadFile(out); !bytes.Equal(text, again) {
		t.Error("the same input made another list")
	}
	if err := run([]string{"sbom", "-version", "1", "-packages", file(t, "bad.tsv", "base-files\n"), "-out", out}); err == nil {
		t.Error("a list that can't be read was taken")
	}
}

// valid holds text against the schema.
func valid(t *testing.T, text []byte) error {
	t.Helper()
	schema, err := os.ReadFile("imager.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("imager.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("imager.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(value)
}

func TestImagerList(t *testing.T) {
	image, download := file(t, "pipit.img", strings.Repeat("x", 1024)), file(t, "pipit.img.xz", "packed")
	out := filepath.Join(t.TempDir(), "list.json")
	if err := run([]string{"imager", "-version", "1.2.3", "-epoch", "1764028800", "-url", "https://example.org/r/", "-image", image, "-download", download, "-out", out}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := valid(t, text); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	var list imagerList
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	e := list.OSList[0]
	if e.URL != "https://example.org/r/pipit.img.xz" || e.ExtractSize != 1024 || e.DownloadSize != 6 || e.ReleaseDate != "2025-11-25" {
		t.Errorf("got %+v", e)
	}
	// The schema finds what Imager would stumble over.
	for from, to := range map[string]string{
		`"extract_size": 1024`: `"extract_size": "1024"`, "2025-11-25": "25.11.2025", "pi4-64bit": "pi4", `"init_format": "none"`: `"init_format": "no"`,
		"https://example.org": "example.org", `"name": "Pipit 1.2.3"`: `"title": "Pipit"`,
	} {
		if !bytes.Contains(text, []byte(from)) {
			t.Fatalf("%s is not in the list", from)
		}
		if valid(t, bytes.ReplaceAll(text, []byte(from), []byte(to))) == nil {
			t.Errorf("the schema takes %s", to)
		}
	}
}

// TestSums checks what minisign (jedisct1) would: both signatures, over the sums and
// over the comment. The test of the whole release asks the program itself.
func TestSums(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"b.img.xz": "image", "a.deb": "package", "SHA256SUMS": "old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	public, secret, _, err := update.GenerateKey("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"sums", "-key", file(t, "key", string(secret)), dir}); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	sums := read("SHA256SUMS")
	if lines := strings.Split(sums, "\n"); len(lines) != 3 || !strings.HasSuffix(lines[0], "  a.deb") || !strings.HasSuffix(lines[1], "  b.img.xz") {
		t.Errorf("the sums are:\n%s", sums)
	}
	key, err := update.ParsePublic(public)
	if err != nil {
		t.Fatal(err)
	}
	blob := func(line string) []byte {
		b, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(b) < 42 || line == "" {
			t.Fatalf("%q: %v", line, err)
		}
		return b
	}
	pub, sig := blob(strings.Split(read("SHA256SUMS.pub"), "\n")[1]), strings.Split(read("SHA256SUMS.minisig"), "\n")
	own := blob(sig[1])
	if !bytes.Equal(pub[10:], key.Key) || !bytes.Equal(pub[:10], own[:10]) || string(pub[:2]) != "Ed" {
		t.Error("the public key and the signature do not belong together")
	}
	if !ed25519.Verify(key.Key, []byte(sums), own[10:]) {
		t.Error("the signature of the sums is wrong")
	}
	comment := strings.TrimPrefix(sig[2], "trusted comment: ")
	if !ed25519.Verify(key.Key, append(own[10:], comment...), blob(sig[3])) {
		t.Error("the signature of the comment is wrong")
	}
}
