package main

import (
	"strings"

	"github.com/mdp/qrterminal/v3"
)

// qrText draws a QR code in half blocks: light on dark terminals, readable to
// cameras on both, because the quiet zone is drawn as well.
func qrText(s string) string {
	var b strings.Builder
	qrterminal.GenerateWithConfig(s, qrterminal.Config{Level: qrterminal.L, Writer: &b, HalfBlocks: true, QuietZone: 2,
		BlackChar: qrterminal.BLACK_BLACK, WhiteChar: qrterminal.WHITE_WHITE,
		BlackWhiteChar: qrterminal.BLACK_WHITE, WhiteBlackChar: qrterminal.WHITE_BLACK})
	return strings.TrimRight(b.String(), "\n")
}
