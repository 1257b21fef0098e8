package chat

import (
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
	"go.uber.org/goleak"
)

// TestMain fails if a Chat that was closed left a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// FuzzCursors gives the decoders of what clients hand back any text: it is
// refused, or means what the token made of it means.
func FuzzCursors(f *testing.F) {
	for _, s := range []string{
		"", syncToken(0), syncToken(1<<64 - 1), position{1, 2, true, 3}.cursor(), position{upTo: 9, at: 10}.cursor(),
		findCursor(&channel{id: "c_1", folded: "a room"}), "s1.", "d1.1.2", "u1.1.2.3", "u1.1.2.3.4", "s1.-1", "s1.+1", "s1.zzzzzzzzzzzzzzzz", "IA", "=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := parseSync(s); ok {
			if again, ok := parseSync(syncToken(n)); !ok || again != n {
				t.Errorf("%q: %d, and then %d", s, n, again)
			}
		}
		if p, err := parseCursor(s); err == nil {
			if again, err := parseCursor(p.cursor()); err != nil || again != p {
				t.Errorf("%q: %+v, and then %+v", s, p, again)
			}
		} else if !im.Is(err, im.Invalid) {
			t.Errorf("%q: %v", s, err)
		}
		if ch, err := parseFindCursor(s); err == nil {
			if again, err := parseFindCursor(findCursor(ch)); err != nil || *again != *ch {
				t.Errorf("%q: %+v, and then %+v", s, ch, again)
			}
		} else if !im.Is(err, im.Invalid) {
			t.Errorf("%q: %v", s, err)
		}
	})
}
