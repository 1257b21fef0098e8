package config

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// commandLine is what the arguments say: the action, the file, and the text of
// each setting that was named.
type commandLine struct {
	action Action
	file   string
	values map[string]string
}

// parseArgs reads GNU-style options. Values are kept as text: the table judges
// them like those of every other source.
func parseArgs(args []string) (commandLine, error) {
	fs, line := flagSet()
	if err := fs.Parse(args); err != nil {
		var unknown *pflag.NotExistError
		if errors.As(err, &unknown) && len(unknown.GetSpecifiedShortnames()) == 0 {
			return *line, &Error{Problems: []string{fmt.Sprintf("command line: there is no option --%s; the nearest is --%s",
				unknown.GetSpecifiedName(), nearest(unknown.GetSpecifiedName(), flagNames(fs)))}}
		}
		return *line, &Error{Problems: []string{"command line: " + err.Error()}}
	}
	if fs.NArg() > 0 {
		return *line, &Error{Problems: []string{fmt.Sprintf("command line: %q is no option; all of them begin with --", fs.Arg(0))}}
	}
	for name, a := range map[string]Action{"check": Check, "print-defaults": PrintDefaults, "version": Version, "help": Help} {
		if on, err := fs.GetBool(name); err == nil && on {
			line.action = max(line.action, a)
		}
	}
	fs.Visit(func(f *pflag.Flag) {
		for i := range settings {
			if settings[i].flag() == f.Name {
				line.values[settings[i].key] = f.Value.String()
			}
		}
	})
	return *line, nil
}

func flagSet() (*pflag.FlagSet, *commandLine) {
	line := &commandLine{values: map[string]string{}}
	fs := pflag.NewFlagSet("pipitd", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.SetOutput(io.Discard)
	fs.StringVar(&line.file, "config", "", "settings `FILE` (default "+DefaultFile+", if it exists)")
	fs.Bool("check", false, "say whether the settings are right, and end")
	fs.Bool("print-defaults", false, "print a settings file with every key, its default and its meaning, and end")
	fs.Bool("version", false, "print the version, and end")
	fs.BoolP("help", "h", false, "print this, and end")
	for i := range settings {
		s := &settings[i]
		f := fs.VarPF(new(textValue), s.flag(), "", firstSentence(s.doc))
		f.DefValue = s.def
		if _, ok := s.field(&Config{}).(*bool); ok {
			f.NoOptDefVal = "true"
		}
	}
	return fs, line
}

// textValue is a flag whose text the table judges later.
type textValue string

func (t *textValue) String() string     { return string(*t) }
func (t *textValue) Set(s string) error { *t = textValue(s); return nil }
func (t *textValue) Type() string       { return "VALUE" }

func flagNames(fs *pflag.FlagSet) []string {
	var out []string
	fs.VisitAll(func(f *pflag.Flag) { out = append(out, f.Name) })
	return out
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		return s[:i]
	}
	return strings.TrimSuffix(s, ".")
}

// Usage returns the help text: every option with its default.
func Usage() string {
	fs, _ := flagSet()
	return "Usage: pipitd [options]\n\n" + fs.FlagUsagesWrapped(100) +
		"\nEach setting may also stand in the file, or in the environment (limits.heartbeat is\n" +
		"PIPIT_LIMITS_HEARTBEAT). Options win over the environment, that over the file.\n"
}
