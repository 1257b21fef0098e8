//go:build ignore

// gen_protocol writes sdk/src/protocol.gen.ts from sdk/protocol.json: the types
// of the protocol, and the same as data that the decoder walks.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
)

// pair and ordered keep the order of a JSON object, so that what is generated
// is in the order of the table.
type pair struct {
	name string
	raw  json.RawMessage
}
type ordered []pair

// UnmarshalJSON reads an object member by member.
func (o *ordered) UnmarshalJSON(p []byte) error {
	d := json.NewDecoder(bytes.NewReader(p))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return err
		}
		*o = append(*o, pair{name.(string), raw})
	}
	return nil
}

type method struct {
	Params       ordered
	Result       string
	Keyed        bool
	Notification bool
}

var (
	out   bytes.Buffer
	table struct {
		Enums, Shapes, Methods ordered
		Events, Errors         ordered
	}
	enums = map[string]bool{}
)

func read[T any](p []byte) T {
	var v T
	if err := json.Unmarshal(p, &v); err != nil {
		log.Fatal(err)
	}
	return v
}

// camel makes the name of a TypeScript type: read_list → ReadList.
func camel(s string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(s, "_") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// tsType returns the TypeScript type of a table type. A value from the server
// may also be an enum's "": one that this version does not know.
func tsType(t string, received bool) string {
	if inner, ok := strings.CutPrefix(t, "["); ok {
		return tsType(strings.TrimSuffix(inner, "]"), received) + "[]"
	}
	switch {
	case t == "int":
		return "number"
	case t == "bool":
		return "boolean"
	case t == "string":
		return "string"
	case t == "presence_row":
		return "PresenceRow"
	case enums[t] && received:
		return t + " | ''"
	case enums[t]:
		return t
	}
	return camel(t)
}

func members(list ordered, received bool) string {
	var b strings.Builder
	for _, m := range list {
		ts := tsType(read[string](m.raw), received)
		fmt.Fprintf(&b, "  %s: %s;\n", m.name, ts)
	}
	return b.String()
}

func main() {
	p, err := os.ReadFile("sdk/protocol.json")
	if err != nil {
		log.Fatal(err)
	}
	table = read[struct{ Enums, Shapes, Methods, Events, Errors ordered }](p)
	w := func(format string, a ...any) { fmt.Fprintf(&out, format, a...) }
	w("// Code generated from protocol.json by gen_protocol.go. DO NOT EDIT.\n\n")
	for _, e := range table.Enums {
		enums[e.name] = true
		w("export type %s = '%s';\n", e.name, strings.Join(read[[]string](e.raw), "' | '"))
	}
	w("export type PresenceRow = [user: string, state: PresenceState, since: number];\n")
	w("export type Retry = 'no' | 'sign-in' | 'then' | 'later' | 'once';\n")
	for _, s := range table.Shapes {
		w("\nexport interface %s {\n%s}\n", camel(s.name), members(read[ordered](s.raw), true))
	}
	w("\n/** Every method with its params and its result (PROTOCOL 3 to 8). */\nexport interface Methods {\n")
	for _, m := range table.Methods {
		d := read[method](m.raw)
		params := strings.ReplaceAll(strings.TrimSpace(members(d.Params, false)), "\n ", "")
		if params == "" {
			params = "[name: string]: never"
		}
		w("  '%s': { params: { %s }; result: %s };\n", m.name, strings.TrimSuffix(params, ";"), camel(d.Result))
	}
	w("}\n\n/** Every event with its params. */\nexport interface Events {\n")
	for _, e := range table.Events {
		w("  '%s': %s;\n", e.name, camel(read[string](e.raw)))
	}
	w("}\n\nexport type ErrorKind = ")
	for i, e := range table.Errors {
		if i > 0 {
			w(" | ")
		}
		w("'%s'", e.name)
	}
	w(";\n\n/** What the decoder walks: a member's type by its name; `?` after it: it may be absent. */\n")
	w("export const enums: Record<string, readonly string[]> = {\n")
	for _, e := range table.Enums {
		w("  %s: ['%s'],\n", e.name, strings.Join(read[[]string](e.raw), "', '"))
	}
	w("};\n\nexport const shapes: Record<string, Record<string, string>> = {\n")
	for _, s := range table.Shapes {
		w("  %s: {", s.name)
		for i, m := range read[ordered](s.raw) {
			if i > 0 {
				w(",")
			}
			name, optional := strings.CutSuffix(m.name, "?")
			t := read[string](m.raw)
			if optional {
				t += "?"
			}
			w(" %s: '%s'", name, t)
		}
		w(" },\n")
	}
	w("};\n\nexport const results: { [M in keyof Methods]: string } = {\n")
	for _, m := range table.Methods {
		w("  '%s': '%s',\n", m.name, read[method](m.raw).Result)
	}
	w("};\n\n/** Methods whose requests append under a key, and may be sent again unchanged (PROTOCOL 6.2). */\nexport type KeyedMethod =")
	for _, m := range table.Methods {
		if read[method](m.raw).Keyed {
			w("\n  | '%s'", m.name)
		}
	}
	w(";\n\n/** Methods that are sent without an id and get no reply (PROTOCOL 2.2). */\nexport type Notification =")
	for _, m := range table.Methods {
		if read[method](m.raw).Notification {
			w(" | '%s'", m.name)
		}
	}
	w(";\n\nexport const events: { [E in keyof Events]: string } = {\n")
	for _, e := range table.Events {
		w("  %q: %q,\n", e.name, read[string](e.raw))
	}
	w("};\n\nexport const retries: Record<ErrorKind, Retry> = {\n")
	for _, e := range table.Errors {
		w("  %s: '%s',\n", e.name, read[struct{ Retry string }](e.raw).Retry)
	}
	w("};\n")
	text := strings.NewReplacer(`"`, `'`).Replace(out.String())
	if err := os.WriteFile("sdk/src/protocol.gen.ts", []byte(text), 0o644); err != nil {
		log.Fatal(err)
	}
}
