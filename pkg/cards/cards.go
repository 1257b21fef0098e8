// Package cards prints login cards: sheets of A4 with a card for each person,
// which is cut out and handed over. On it stand the person's name, class and user
// name, the address of the box, and a code that works once, as text and as a QR
// code that leads to the page where a password is chosen.
//
// It owns the look of the sheets, as HTML to be printed from a browser and as PDF.
// It knows no user and makes no code; whoever calls brings finished cards. Both
// forms hold everything they need: a sheet printed without a network is right.
//
// Chinese needs a font: HTML uses what the reader's machine has; for PDF a font of
// this machine is embedded, the characters that occur alone (Fonts). Where none is
// installed and a name needs one, PDF says which package to install.
//
// All functions may be called from any goroutine.
package cards

import (
	"cmp"
	"fmt"
	"slices"

	"rsc.io/qr"

	"github.com/pipit-im/pipit/pkg/im"
)

// Card is one person's.
type Card struct {
	Name     string
	Class    string // "" if in none
	Username string
	Code     string // as it is typed
	URL      string // what the QR code says
}

// Sheet is what is printed.
type Sheet struct {
	Organisation string
	Address      string // as people type it
	Days         int    // how long the codes work
	Lang         string // "zh" or "en"
	Cards        []Card
}

// MaxCards bounds the cards of one sheet: 5,000 are 500 pages.
const MaxCards = 5000

// words are what a card says in a language.
type words struct{ title, class, username, code, address, how, days string }

var languages = map[string]words{
	"en": {"Login cards", "Class", "User name", "One-time code", "Address",
		"Scan this, or open the address and type user name and code. Then choose a password of your own.", "Works once, for %d days. Keep it to yourself."},
	"zh": {"登录卡", "班级", "用户名", "一次性代码", "网址",
		"扫描二维码,或打开网址输入用户名和代码,然后设置自己的密码。", "仅可使用一次,%d 天内有效。请勿给他人看。"},
}

func (s *Sheet) words() words {
	if w, ok := languages[s.Lang]; ok {
		return w
	}
	return languages["en"]
}

// check refuses what can't be printed.
func (s *Sheet) check() error {
	if len(s.Cards) == 0 {
		return im.E(im.Invalid, "There is nobody to print a card for.")
	}
	if len(s.Cards) > MaxCards {
		return &im.Error{Kind: im.TooLarge, Limit: MaxCards, Message: fmt.Sprintf("At most %d cards are printed at once: print class by class.", MaxCards)}
	}
	return nil
}

// Sort puts cards into the order in which they are handed out: by class, then by
// name.
func Sort(list []Card) {
	slices.SortStableFunc(list, func(a, b Card) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Username, b.Username))
	})
}

// encode makes a card's QR code, which still reads with a fold across it (level M,
// ISO/IEC 18004).
func encode(url string) (*qr.Code, error) {
	c, err := qr.Encode(url, qr.M)
	if err != nil {
		return nil, im.E(im.Invalid, "The address is too long for a QR code.").OnField("address")
	}
	return c, nil
}

// quiet is the empty border of a QR code, in modules.
const quiet = 4
