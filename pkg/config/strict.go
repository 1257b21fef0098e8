package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Schema is what a strict file may say: keys at the top or one section deep.
type Schema struct {
	Keys []string              // "data_dir", "limits.heartbeat"
	List func(key string) bool // whether the key's value may be a list
}

// Value is what a strict file says of one key.
type Value struct {
	Text []string // as it is written, without quotes; one but for lists
	Line int
}

// Fault is one thing that is wrong with a strict file. Whoever reads the file puts
// it into words; Error is the English ones.
type Fault struct {
	Line  int // 0: the file as a whole
	What  FaultKind
	Key   string // as far as it is known
	Other string // the nearest known key, or what the parser said
	First int    // the line that set the key first
}

// FaultKind says what is wrong.
type FaultKind uint8

// The faults.
const (
	NotYAML        FaultKind = iota // Other is the parser's word
	NotMapping                      // the file is no list of `key: value`
	NotSection                      // Key is a section, and has a value of its own
	Twice                           // Key was set in line First
	Dotted                          // Key is written with its dot instead of nested
	Unknown                         // Key is no key; the nearest is Other
	NoValue                         // nothing behind the colon of Key
	HasMore                         // Key is a single value and has more below it
	SecondDocument                  // "---" and another document
)

// Error puts the fault into English, without its line.
func (f Fault) Error() string {
	section, name, _ := strings.Cut(f.Key, ".")
	switch f.What {
	case NotMapping:
		return "the file must be a list of `key: value` lines"
	case NotSection:
		return f.Key + " is a section: its keys go on lines of their own below it, indented"
	case Twice:
		return fmt.Sprintf("%s was set in line %d already", f.Key, f.First)
	case Dotted:
		return fmt.Sprintf("%q must be written as `%s:` with `%s:` indented below it", f.Key, section, name)
	case Unknown:
		return fmt.Sprintf("%s is no setting; the nearest is %s", f.Key, f.Other)
	case NoValue:
		return f.Key + ": has no value"
	case HasMore:
		return f.Key + ": has more below it, but is a single value"
	case SecondDocument:
		return `has a second document after "---"; only one is read`
	}
	return f.Other
}

// ReadStrict parses YAML and judges every key in it. What is found is complete only
// without faults; they come in the order of the file. An empty file says nothing and
// is no fault.
func ReadStrict(data []byte, schema Schema) (map[string]Value, []Fault) {
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil // empty, or comments only
	} else if err != nil {
		return nil, []Fault{{What: NotYAML, Other: err.Error(), Line: yamlLine(err)}}
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, []Fault{{What: SecondDocument}}
	}
	w := walker{schema: schema, found: map[string]Value{}}
	w.mapping("", doc.Content[0])
	return w.found, w.faults
}

// yamlLine finds the line in the parser's message ("yaml: line 3: …").
func yamlLine(err error) int {
	var line int
	if _, rest, ok := strings.Cut(err.Error(), "line "); ok {
		if _, serr := fmt.Sscanf(rest, "%d", &line); serr != nil {
			return 0
		}
	}
	return line
}

// walker judges the tree of one file.
type walker struct {
	schema Schema
	found  map[string]Value
	faults []Fault
}

func (w *walker) bad(n *yaml.Node, f Fault) {
	f.Line = n.Line
	w.faults = append(w.faults, f)
}

func (w *walker) mapping(section string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // "limits:" with nothing below, or a file of comments
	}
	if n.Kind != yaml.MappingNode {
		if section == "" {
			w.bad(n, Fault{What: NotMapping})
		} else {
			w.bad(n, Fault{What: NotSection, Key: section})
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
			w.bad(k, Fault{What: Twice, Key: key, First: line})
			continue
		}
		seen[key] = k.Line
		for val.Kind == yaml.AliasNode {
			val = val.Alias
		}
		known := w.schema.known(key)
		switch {
		case known && (section != "" || !strings.Contains(key, ".")):
			w.value(key, k, val)
		case known:
			w.bad(k, Fault{What: Dotted, Key: key})
		case section == "" && w.schema.section(key):
			w.mapping(key, val)
		default:
			w.bad(k, Fault{What: Unknown, Key: key, Other: nearest(key, w.schema.Keys)})
		}
	}
}

func (w *walker) value(key string, k, val *yaml.Node) {
	v := Value{Line: k.Line}
	switch {
	case val.Kind == yaml.ScalarNode && val.Tag == "!!null":
		w.bad(k, Fault{What: NoValue, Key: key})
		return
	case val.Kind == yaml.ScalarNode:
		v.Text = []string{val.Value}
	case val.Kind == yaml.SequenceNode && w.schema.List(key):
		for _, elem := range val.Content {
			for elem.Kind == yaml.AliasNode {
				elem = elem.Alias
			}
			if elem.Kind != yaml.ScalarNode {
				w.bad(elem, Fault{What: HasMore, Key: key})
				return
			}
			v.Text = append(v.Text, elem.Value)
		}
	default:
		w.bad(k, Fault{What: HasMore, Key: key})
		return
	}
	w.found[key] = v
}

func (s *Schema) known(key string) bool {
	for _, k := range s.Keys {
		if k == key {
			return true
		}
	}
	return false
}

func (s *Schema) section(name string) bool {
	for _, k := range s.Keys {
		if section, _, ok := strings.Cut(k, "."); ok && section == name {
			return true
		}
	}
	return false
}
