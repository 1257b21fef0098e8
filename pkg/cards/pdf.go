package cards

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-pdf/fpdf"

	"github.com/pipit-im/pipit/pkg/im"
)

// The layout of a page, in millimetres.
const (
	margin  = 10.0
	across  = 2
	down    = 5
	width   = (210 - 2*margin) / across
	height  = 55.0
	padding = 4.0
	side    = 34.0 // of the QR code
)

// PDF writes the sheet as PDF, ten cards a page, with the letters it needs of the
// first of the font files that is there (Fonts).
func PDF(w io.Writer, s *Sheet, fonts []string) error {
	if err := s.check(); err != nil {
		return err
	}
	ttf, err := font(fonts)
	if err != nil {
		return err
	}
	text := s.words()
	doc := fpdf.New("P", "mm", "A4", "")
	doc.SetTitle(text.title+" · "+s.Organisation, true)
	doc.SetCreator("Pipit", true)
	// No clock in it: two prints of the same cards are the same.
	doc.SetCreationDate(time.Unix(0, 0).UTC())
	doc.SetModificationDate(time.Unix(0, 0).UTC())
	doc.SetMargins(margin, margin, margin)
	doc.SetAutoPageBreak(false, margin)
	doc.AddUTF8FontFromBytes("text", "", ttf)
	doc.SetDashPattern([]float64{1, 1}, 0)
	doc.SetLineWidth(0.2)
	for i := range s.Cards {
		if i%(across*down) == 0 {
			doc.AddPage()
		}
		place := i % (across * down)
		x, y := margin+float64(place%across)*width, margin+float64(place/across)*height
		if err := card(doc, s, &s.Cards[i], text, x, y); err != nil {
			return err
		}
	}
	if err := doc.Output(w); err != nil {
		return im.Wrap("cards: write the PDF", err)
	}
	return nil
}

func card(doc *fpdf.Fpdf, s *Sheet, c *Card, text words, x, y float64) error {
	const grey, black = 95, 17
	doc.SetDrawColor(150, 150, 150)
	doc.Rect(x, y, width, height, "D")
	room := width - 3*padding - side
	line := func(size float64, colour int, dx, dy, room float64, t string) {
		t, size = fit(doc, plain(t), size, room)
		doc.SetTextColor(colour, colour, colour)
		doc.SetFont("text", "", size)
		doc.Text(x+padding+dx, y+padding+dy, t)
	}
	line(8, grey, 0, 2.6, room, s.Organisation)
	line(14, black, 0, 9, room, c.Name)
	dy := 15.0
	for _, row := range [][2]string{{text.class, c.Class}, {text.username, c.Username}, {text.code, c.Code}, {text.address, s.Address}} {
		if row[1] == "" {
			continue
		}
		line(7, grey, 0, dy, room, row[0])
		line(10, black, 0, dy+4, room, row[1])
		dy += 8
	}
	doc.SetFont("text", "", 7)
	doc.SetTextColor(grey, grey, grey)
	doc.SetXY(x+width-padding-side, y+padding+side)
	doc.MultiCell(side, 2.8, text.how+" "+fmt.Sprintf(text.days, s.Days), "", "L", false)
	code, err := encode(c.URL)
	if err != nil {
		return err
	}
	doc.SetFillColor(0, 0, 0)
	module := side / float64(code.Size+2*quiet)
	for qy := range code.Size {
		for qx := 0; qx < code.Size; qx++ {
			n := 0
			for qx+n < code.Size && code.Black(qx+n, qy) {
				n++
			}
			if n > 0 {
				// A hair taller, or a printer shows white between the rows.
				doc.Rect(x+width-padding-side+float64(qx+quiet)*module, y+padding/2+float64(qy+quiet)*module, float64(n)*module, module*1.02, "F")
				qx += n
			}
		}
	}
	return nil
}

// plain replaces what the library can't write, characters beyond the first plane
// (rare Han, emoji), by a box, as a font without them does.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r > 0xffff {
			return '□'
		}
		return r
	}, text)
}

// least is the smallest size, in points, that can be read.
const least = 6

// fit makes a text smaller until there is room for it, and shorter where it would
// become too small to read.
func fit(doc *fpdf.Fpdf, text string, size, room float64) (string, float64) {
	doc.SetFont("text", "", size)
	w := doc.GetStringWidth(text)
	if w <= room {
		return text, size
	}
	if size = size * room / w; size >= least {
		return text, size
	}
	doc.SetFont("text", "", least)
	runes := []rune(text)
	for len(runes) > 1 && doc.GetStringWidth(string(runes)+"…") > room {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…", least
}
