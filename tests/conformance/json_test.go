package conformance_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
)

// J is a JSON object to be sent.
type J = map[string]any

// value is a piece of JSON that was received. What is not there is a value too, that exists() denies.
type value struct{ v any }

type absent struct{}

func decode(p []byte) (value, error) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return value{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return value{}, fmt.Errorf("more behind the JSON: %q", p)
	}
	return value{v}, nil
}

func parse(t *testing.T, p []byte) value {
	t.Helper()
	v, err := decode(p)
	if err != nil {
		t.Fatalf("%v: %q", err, p)
	}
	return v
}

// get follows member names and indexes.
func (x value) get(path ...any) value {
	for _, step := range path {
		switch v := x.v.(type) {
		case map[string]any:
			name, ok := step.(string)
			next, there := v[name]
			if !ok || !there {
				return value{absent{}}
			}
			x = value{next}
		case []any:
			i, ok := step.(int)
			if ok && i < 0 {
				i += len(v)
			}
			if !ok || i < 0 || i >= len(v) {
				return value{absent{}}
			}
			x = value{v[i]}
		default:
			return value{absent{}}
		}
	}
	return x
}

func (x value) exists() bool {
	_, no := x.v.(absent)
	return !no && x.v != nil
}

func (x value) has(path ...any) bool { return x.get(path...).exists() }

// str is the string, or a text that no test expects.
func (x value) str() string {
	if s, ok := x.v.(string); ok {
		return s
	}
	return fmt.Sprintf("no string: %s", x)
}

// num is the integer, or -1.
func (x value) num() int64 {
	if n, ok := x.v.(json.Number); ok {
		if i, err := n.Int64(); err == nil {
			return i
		}
	}
	return -1
}

func (x value) yes() bool { return x.v == true }
func (x value) no() bool  { return x.v == false }

func (x value) list() []value {
	v, _ := x.v.([]any)
	list := make([]value, len(v))
	for i := range v {
		list[i] = value{v[i]}
	}
	return list
}

// members are the names of an object's members.
func (x value) members() map[string]any {
	v, _ := x.v.(map[string]any)
	return v
}

func (x value) String() string {
	if _, no := x.v.(absent); no {
		return "(absent)"
	}
	b, err := json.Marshal(x.v)
	if err != nil {
		return err.Error()
	}
	if len(b) > 600 {
		b = append(b[:600], "…"...)
	}
	return string(b)
}

// strs is a list of strings.
func (x value) strs() []string {
	list := []string{}
	for _, v := range x.list() {
		list = append(list, v.str())
	}
	return list
}
