package config

import (
	"fmt"
	"strings"
)

// commentWidth is the column at which comments of the printed file break.
const commentWidth = 98

// Defaults returns a settings file with every key at its default and what it
// means. Loading it changes nothing.
func Defaults() string {
	b := new(strings.Builder)
	b.WriteString("# Settings of pipitd, each at its default.\n" +
		"# The environment (PIPIT_…) overrides this file, options of the command line override both.\n" +
		"# Keys marked \"reload\" change on SIGHUP (systemctl reload pipit), others need a restart.\n")
	section := ""
	for i := range settings {
		s := &settings[i]
		sec, name := s.section()
		indent := ""
		if sec != "" {
			indent = "  "
		}
		if sec != section {
			fmt.Fprintf(b, "\n%s:\n", sec)
			section = sec
		} else {
			fmt.Fprintln(b)
		}
		notes := fmt.Sprintf("Allowed: %s. Environment: %s.", s.allowed, s.env())
		if s.reload {
			notes += " Reload."
		}
		comment(b, indent, s.doc)
		comment(b, indent, notes)
		mark := ""
		if s.environmental {
			mark = "# "
		}
		fmt.Fprintf(b, "%s%s%s: %s\n", indent, mark, name, s.yamlDefault())
	}
	return b.String()
}

func (s *setting) yamlDefault() string {
	switch s.field(&Config{}).(type) {
	case *string:
		return fmt.Sprintf("%q", s.def)
	case *[]string:
		return "[]"
	default:
		return s.def
	}
}

func comment(w *strings.Builder, indent, text string) {
	line := indent + "#"
	for _, word := range strings.Fields(text) {
		if len(line)+1+len(word) > commentWidth {
			fmt.Fprintln(w, line)
			line = indent + "#"
		}
		line += " " + word
	}
	fmt.Fprintln(w, line)
}
