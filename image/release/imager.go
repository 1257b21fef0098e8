package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// imagerList is a repository of Raspberry Pi Imager (its documentation:
// doc/os-sublist-example.json): started with --repo, or opened as a file that
// ends in .rpi-imager-manifest, it offers our image.
type imagerList struct {
	OSList []imagerEntry `json:"os_list"`
}

type imagerEntry struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	Icon           string   `json:"icon"`
	URL            string   `json:"url"`
	ExtractSize    int64    `json:"extract_size"`   // bytes of the card image
	ExtractSHA256  string   `json:"extract_sha256"` // of the card image
	DownloadSize   int64    `json:"image_download_size"`
	DownloadSHA256 string   `json:"image_download_sha256"`
	ReleaseDate    string   `json:"release_date"` // YYYY-MM-DD
	InitFormat     string   `json:"init_format"`
	Architecture   string   `json:"architecture"`
	Devices        []string `json:"devices"`
	Website        string   `json:"website"`
}

// icon is a small bird, drawn here, so that Imager need not fetch one.
const icon = "data:image/svg+xml;utf8,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'><rect width='40' height='40' rx='8' fill='%23236a5b'/>" +
	"<path d='M8 24c0-8 6-13 13-13 3 0 5 1 6 3l6 2-5 3c0 8-6 12-12 12-3 0-6-1-8-3z' fill='%23fff'/><circle cx='23' cy='16' r='1.5' fill='%23236a5b'/></svg>"

func writeImagerList(out, version string, when time.Time, address, image, download string) error {
	size, sum, err := measure(image)
	if err != nil {
		return err
	}
	packed, packedSum, err := measure(download)
	if err != nil {
		return err
	}
	at, err := url.JoinPath(address, filepath.Base(download))
	if err != nil {
		return err
	}
	list := imagerList{OSList: []imagerEntry{{
		Name:        "Pipit " + version,
		Description: "A private chat server for a school or an office, without internet. Settings: pipit.yaml on the boot partition, or in the browser.",
		Icon:        icon, URL: at, ExtractSize: size, ExtractSHA256: sum, DownloadSize: packed, DownloadSHA256: packedSum,
		ReleaseDate: when.Format(time.DateOnly),
		// Imager's own questions (user, Wi-Fi) would be ignored: pipit.yaml asks them.
		InitFormat: "none", Architecture: "armv8",
		Devices: []string{"pi3-64bit", "pi4-64bit"}, Website: "https://github.com/pipit-im/pipit",
	}}}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

// measure returns a file's size in bytes and its SHA-256 in hexadecimal.
func measure(name string) (int64, string, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return n, hex.EncodeToString(h.Sum(nil)), err
}
