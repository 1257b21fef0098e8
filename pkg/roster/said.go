package roster

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// Said is a sentence for people, and what it was made of, so that a client can
// say it in its reader's language. Formats are literals, each of which the web
// client's catalogue has (TestCatalogue).
type Said struct {
	Text   string   `json:"text"`
	Format string   `json:"format"` // as fmt has it
	Args   []string `json:"args,omitempty"`
}

func say(format string, args ...any) Said {
	s := Said{Text: fmt.Sprintf(format, args...), Format: format}
	for _, a := range args {
		s.Args = append(s.Args, fmt.Sprint(a))
	}
	return s
}

// Join puts sentences into one line.
func Join(said []Said) string {
	var list []string
	for _, s := range said {
		list = append(list, s.Text)
	}
	return strings.Join(list, "; ")
}

// sizes says how many teach and learn in a class. Each number has a sentence of its
// own, which a language can say as it does.
func sizes(teachers, students int) []Said {
	t, s := say("%d teachers", teachers), say("%d students", students)
	if teachers == 1 {
		t = say("%d teacher", teachers)
	}
	if students == 1 {
		s = say("%d student", students)
	}
	return []Said{t, s}
}

// refused says why directory or auth did not take a person or a class of these
// names: what they say themselves is a sentence in one language.
func refused(err error, username, name string) Said {
	var e *im.Error
	if !errors.As(err, &e) {
		e = &im.Error{}
	}
	switch {
	case e.Field == "username" && e.Kind == im.Exists:
		return say("%s was not added: there is a user of that name already.", username)
	case e.Field == "username" && username == "":
		return say("The user name is missing.")
	case e.Field == "username":
		return say("The user name %q can't be one: it has letters, digits and the characters . _ - only, and at most %d bytes.", cut(username), im.MaxUsernameBytes)
	case e.Field == "name" && name == "":
		return say("The name is missing.")
	case e.Field == "name":
		return say("The name %q can't be one: it has at most %d characters, no line breaks, and something that can be seen.", cut(name), im.MaxTitleRunes)
	case e.Field == "password":
		return say("The password of %s can't be one: it needs at least %d characters, and must not be one that everybody tries first or be made of the user's or the organisation's name.", username, im.MinPasswordRunes)
	case e.Kind == im.TooLarge:
		return say("%s was not added: the organisation has as many users as it may have.", username)
	}
	return say("%s could not be stored.", cut(username+name))
}

// tell adds a problem that is worded already.
func (r *Roster) tell(p Place, s Said) {
	r.Wrong++
	r.add(Problem{Place: p, Said: s})
}
