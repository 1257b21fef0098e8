package roster

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jszwec/csvutil"
)

// table reads the rows of one file into T, a struct whose csv tags name columns.
// Bad rows become problems of r and are left out.
type table[T any] struct {
	file    string
	decoder *csvutil.Decoder
	rows    *rows
	r       *Roster
	count   int
}

// rows is a csv reader that knows the line of what it returned last, bounds cells
// and drops empty rows. encoding/csv wants every row as long as the header; what a
// spreadsheet leaves off at the end is filled in, what is too much is an error of
// that row.
type rows struct {
	csv   *csv.Reader
	width int
	line  int
	wrong *Said // with the row that was read last
}

func (x *rows) refuse(format string, args ...any) {
	s := say(format, args...)
	x.wrong = &s
}

func (x *rows) Read() ([]string, error) {
	for {
		rec, err := x.csv.Read()
		x.wrong = nil
		var bad *csv.ParseError
		if errors.As(err, &bad) {
			x.refuse("The quotes of this row don't match.")
			x.line = bad.StartLine
			return make([]string, x.width), nil
		}
		if err != nil {
			return nil, err
		}
		x.line, _ = x.csv.FieldPos(0)
		if !slices.ContainsFunc(rec, func(s string) bool { return strings.TrimSpace(s) != "" }) {
			continue
		}
		for i, cell := range rec {
			rec[i] = strings.TrimSpace(strings.TrimPrefix(cell, "'")) // a spreadsheet's mark of text
			if len(cell) > MaxCellBytes {
				x.refuse("A cell has more than %d bytes.", MaxCellBytes)
				rec[i] = ""
			}
		}
		switch n := len(rec); {
		case n < x.width:
			rec = append(rec, make([]string, x.width-n)...)
		case n > x.width:
			if slices.ContainsFunc(rec[x.width:], func(s string) bool { return s != "" }) {
				x.refuse("This row has %d cells, the header %d.", n, x.width)
			}
			rec = rec[:x.width]
		}
		return rec, nil
	}
}

// newTable reads the header of a file. canonical turns what stands there into the
// tag of a column, "" for one that is not ours. required are the tags without
// which nothing can be read.
func newTable[T any](r *Roster, file string, content []byte, canonical func(string) string, required ...string) (*table[T], bool) {
	text, ok := decode(content)
	if !ok {
		r.problem(Place{File: file}, "This is not text in UTF-8 or GB18030. Save the table as CSV, not as a workbook.")
		return nil, false
	}
	c := csv.NewReader(bytes.NewReader(text))
	c.Comma, c.FieldsPerRecord, c.LazyQuotes, c.ReuseRecord = delimiter(text), -1, false, true
	head, err := c.Read()
	if errors.Is(err, io.EOF) {
		r.problem(Place{File: file}, "The file is empty.")
		return nil, false
	}
	if err != nil || len(head) > MaxColumns {
		r.problem(Place{file, 1}, "The header can't be read: it is one row of at most %d names of columns.", MaxColumns)
		return nil, false
	}
	header := make([]string, len(head))
	for i, name := range head {
		tag := canonical(strings.ToLower(strings.TrimSpace(name)))
		if tag != "" && slices.Contains(header, tag) {
			r.problem(Place{file, 1}, "The column %s is there twice.", tag)
			return nil, false
		}
		if header[i] = tag; tag == "" {
			header[i] = fmt.Sprintf(" ignored %d", i)
		}
	}
	var missing []string
	for _, tag := range required {
		if !slices.Contains(header, tag) {
			missing = append(missing, tag)
		}
	}
	if len(missing) > 0 {
		seen := make([]string, 0, len(head))
		for _, name := range head {
			seen = append(seen, cut(strings.TrimSpace(name)))
		}
		r.problem(Place{file, 1}, "The header lacks: %s. It has: %s.", strings.Join(missing, ", "), cut(strings.Join(seen, ", ")))
		return nil, false
	}
	x := &rows{csv: c, width: len(header)}
	d, err := csvutil.NewDecoder(x, header...)
	if err != nil {
		r.problem(Place{file, 1}, "The header can't be read.")
		return nil, false
	}
	return &table[T]{file: file, decoder: d, rows: x, r: r}, true
}

// each calls fn with every row that could be read.
func (t *table[T]) each(fn func(p Place, row *T)) {
	for {
		var row T
		err := t.decoder.Decode(&row)
		if errors.Is(err, io.EOF) {
			return
		}
		p := Place{t.file, t.rows.line}
		if t.count++; t.count > MaxRows {
			t.r.problem(p, "The file has more than %d rows; the rest was not read.", MaxRows)
			return
		}
		switch {
		case err != nil:
			t.r.problem(p, "From here on the file can't be read.")
			return
		case t.rows.wrong != nil:
			t.r.tell(p, *t.rows.wrong)
		default:
			fn(p, &row)
		}
	}
}

// cut shortens what a file says for a message.
func cut(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
