package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeSBOM lists everything that the image holds, in CycloneDX 1.6: Debian's
// packages and the Go modules of our programs.
func writeSBOM(out, version string, when time.Time, packages string, programs []string) error {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: when.Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: "pipit-image", Type: cdx.ComponentTypeOS, Name: "pipit-image", Version: version,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}},
	}
	debian, err := debianPackages(packages)
	if err != nil {
		return err
	}
	parts := debian
	for _, p := range programs {
		modules, err := goModules(p, version)
		if err != nil {
			return err
		}
		parts = append(parts, modules...)
	}
	slices.SortFunc(parts, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	parts = slices.CompactFunc(parts, func(a, b cdx.Component) bool { return a.BOMRef == b.BOMRef })
	bom.Components = &parts
	// The number names this list: another content has another number.
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintln(h, p.BOMRef)
	}
	fmt.Fprintln(h, version)
	id := hex.EncodeToString(h.Sum(nil))
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%s-%s-4%s-8%s-%s", id[:8], id[8:12], id[13:16], id[17:20], id[20:32])

	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return err
	}
	return f.Close()
}

// debianPackages reads what dpkg-query wrote: name, version, architecture, source,
// home page. The source names the source package where that is another.
func debianPackages(file string) ([]cdx.Component, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all []cdx.Component
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || f[0] == "" || f[1] == "" || f[2] == "" {
			return nil, fmt.Errorf("%s: %q is no package", file, line)
		}
		purl := fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=debian-13", url.PathEscape(f[0]), url.PathEscape(f[1]), url.QueryEscape(f[2]))
		c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: f[0], Version: f[1], PackageURL: purl}
		if source := strings.Fields(f[3]); len(source) > 0 {
			c.Properties = &[]cdx.Property{{Name: "debian:source", Value: source[0]}}
		}
		if f[4] != "" {
			c.ExternalReferences = &[]cdx.ExternalReference{{Type: cdx.ERTypeWebsite, URL: f[4]}}
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s is empty", file)
	}
	return all, nil
}

// goModules reads what the linker wrote into a program.
func goModules(program, version string) ([]cdx.Component, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	add := func(kind cdx.ComponentType, path, version string) cdx.Component {
		purl := "pkg:golang/" + path + "@" + url.PathEscape(version)
		return cdx.Component{BOMRef: purl, Type: kind, Name: path, Version: version, PackageURL: purl}
	}
	all := []cdx.Component{
		add(cdx.ComponentTypeApplication, info.Main.Path+"/cmd/"+filepath.Base(program), version),
		add(cdx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go")),
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, add(cdx.ComponentTypeLibrary, m.Path, m.Version))
	}
	return all, nil
}
