package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// readFile loads the YAML file into v, notes in origins where each key was
// said, and adds to probs what is unknown in it. It returns the name of the
// file that was read, "" if the default one does not exist.
//
// The tree is walked before viper decodes it: viper would take a typo, a key in
// other case or a second document in silence, and names no line.
func readFile(v *viper.Viper, src Source, named string, origins map[string]string, probs *[]string) (string, error) {
	name := named
	if name == "" {
		name = src.DefaultFile
	}
	data, err := src.ReadFile(name)
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("settings file: %w", err)
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return name, nil // empty, or comments only
	} else if err != nil {
		return "", fmt.Errorf("settings file %s: %w", name, err)
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("settings file %s: has a second document after \"---\"; only one is read", name)
	}
	w := walker{file: name, origins: origins}
	w.mapping("", doc.Content[0])
	*probs = append(*probs, w.probs...)
	if len(w.probs) > 0 {
		return name, nil // viper might refuse it with less to say
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return "", fmt.Errorf("settings file %s: %w", name, err)
	}
	return name, nil
}

// walker judges the tree of one file.
type walker struct {
	file    string
	origins map[string]string
	probs   []string
}

func (w *walker) bad(n *yaml.Node, format string, args ...any) {
	w.probs = append(w.probs, fmt.Sprintf("%s:%d: ", w.file, n.Line)+fmt.Sprintf(format, args...))
}

func (w *walker) mapping(section string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "limits:" with nothing below, or a file of comments
	}
	if n.Kind != yaml.MappingNode {
		if section == "" {
			w.bad(n, "the file must be a list of `key: value` lines")
		} else {
			w.bad(n, "%s is a section: its keys go on lines of their own below it, indented", section)
		}
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		key := k.Value
		if section != "" {
			key = section + "." + key
		}
		if line := seen[key]; line != 0 {
			w.bad(k, "%s was set in line %d already", key, line)
			continue
		}
		seen[key] = k.Line
		for val.Kind == yaml.AliasNode {
			val = val.Alias
		}
		switch s := byKey[key]; {
		case s != nil && (section != "" || !strings.Contains(key, ".")):
			w.value(s, k, val)
		case s != nil:
			sec, name := s.section()
			w.bad(k, "%q must be written as `%s:` with `%s:` indented below it", key, sec, name)
		case section == "" && isSection(key):
			w.mapping(key, val)
		default:
			w.bad(k, "%s is no setting; the nearest is %s", key, nearest(key, keyNames()))
		}
	}
}

func (w *walker) value(s *setting, k, val *yaml.Node) {
	_, list := s.field(&Config{}).(*[]string)
	switch {
	case val.Kind == yaml.ScalarNode && val.Tag == "!!null":
		w.probs = append(w.probs, s.complain(fmt.Sprintf("%s:%d", w.file, k.Line), errNoValue))
	case val.Kind == yaml.MappingNode, val.Kind == yaml.SequenceNode && !list:
		w.probs = append(w.probs, s.complain(fmt.Sprintf("%s:%d", w.file, k.Line), errors.New("has more below it, but is a single value")))
	default:
		w.origins[s.key] = fmt.Sprintf("%s:%d", w.file, k.Line)
	}
}

func isSection(name string) bool {
	for i := range settings {
		if sec, _ := settings[i].section(); sec == name && sec != "" {
			return true
		}
	}
	return false
}

// render turns what viper holds into the text that set parses.
func render(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errNoValue
	case string:
		return v, nil
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = fmt.Sprint(e)
			if strings.Contains(parts[i], listSeparator) {
				return "", fmt.Errorf("%q has a %q in it", parts[i], listSeparator)
			}
		}
		return strings.Join(parts, listSeparator), nil
	default:
		return fmt.Sprint(v), nil
	}
}
