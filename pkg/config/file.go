package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/viper"
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
	found, faults := ReadStrict(data, fileSchema)
	for _, f := range faults {
		switch s := byKey[f.Key]; {
		case f.What == NotYAML || f.What == SecondDocument:
			return "", fmt.Errorf("settings file %s: %w", name, f)
		case s != nil && (f.What == NoValue || f.What == HasMore):
			*probs = append(*probs, s.complain(fmt.Sprintf("%s:%d", name, f.Line), errors.New(strings.TrimPrefix(f.Error(), f.Key+": "))))
		default:
			*probs = append(*probs, fmt.Sprintf("%s:%d: %v", name, f.Line, f))
		}
	}
	for key, val := range found {
		origins[key] = fmt.Sprintf("%s:%d", name, val.Line)
	}
	if len(faults) > 0 {
		return name, nil // viper might refuse it with less to say
	}
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		return "", fmt.Errorf("settings file %s: %w", name, err)
	}
	return name, nil
}

// fileSchema is the table as a strict file.
var fileSchema = Schema{Keys: keyNames(), List: func(key string) bool {
	_, list := byKey[key].field(&Config{}).(*[]string)
	return list
}}

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
