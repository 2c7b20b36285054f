package datafile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/suggest"
)

// Row is a text with a number.
type Row struct {
	Text  string
	Value float64
	Line  int // of the file, or row of a Parquet file, from 1
}

// Columns are the names of the two columns that are read; others are left alone.
type Columns struct {
	Text, Value string
	// Default is what rows without a value have; nil: every row needs one.
	Default *float64
}

// Table reads a CSV with a header, gzipped or not, or a Parquet file, told apart by
// their content. Values are finite. Faults are *Error.
func (f *File) Table(c Columns) ([]Row, error) {
	if bytes.HasPrefix(f.Data, []byte("PAR1")) {
		return f.parquetTable(c)
	}
	data, err := f.text()
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(bytes.NewReader(data))
	r.ReuseRecord, r.TrimLeadingSpace = true, true
	header, err := r.Read()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Error{File: f.Name, Fault: "empty; want a header and rows"}
		}
		return nil, f.csvFault(err)
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	for _, name := range []string{c.Text, c.Value} {
		if at := slices.Index(header, name); at >= 0 && slices.Contains(header[at+1:], name) {
			return nil, &Error{File: f.Name, Line: 1, Field: name, Fault: fmt.Sprintf("got %q; want one column of that name", strings.Join(header, ", "))}
		}
	}
	text, value := slices.Index(header, c.Text), slices.Index(header, c.Value)
	if text < 0 || value < 0 && c.Default == nil {
		missing := c.Text
		if text >= 0 {
			missing = c.Value
		}
		return nil, f.noColumn(missing, header)
	}
	var rows []Row
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if errors.Is(err, csv.ErrFieldCount) {
			fault := fmt.Sprintf("got %d fields, and the header has %d", len(record), len(header))
			if len(record) > len(header) {
				fault += " (a text with commas stands in double quotes)"
			}
			line, _ := r.FieldPos(0)
			return nil, &Error{File: f.Name, Line: line, Fault: fault}
		}
		if err != nil {
			return nil, f.csvFault(err)
		}
		line, _ := r.FieldPos(0)
		if len(rows) == MaxRows {
			return nil, &Error{File: f.Name, Line: line, Fault: fmt.Sprintf("more than %d rows", MaxRows)}
		}
		number := ""
		if value >= 0 {
			number = strings.TrimSpace(record[value])
		}
		x, ok := c.value(number)
		if !ok {
			return nil, &Error{File: f.Name, Line: line, Field: c.Value, Fault: fmt.Sprintf("got %.40q; want a finite number, such as 0.125", number)}
		}
		if len(record[text]) > maxText {
			return nil, &Error{File: f.Name, Line: line, Field: c.Text, Fault: fmt.Sprintf("%d bytes; at most %d are read", len(record[text]), maxText)}
		}
		// Cloned, or every text would keep its whole line.
		rows = append(rows, Row{Text: strings.Clone(record[text]), Value: x, Line: line})
	}
}

// value reads the text of a decimal number. Hexadecimal ones and underscores, which
// strconv knows as well, are rather a code in the wrong column.
func (c *Columns) value(text string) (float64, bool) {
	if text == "" && c.Default != nil {
		return *c.Default, true
	}
	if strings.ContainsAny(text, "xX_") {
		return 0, false
	}
	x, err := strconv.ParseFloat(text, 64)
	return x, err == nil && !math.IsNaN(x) && !math.IsInf(x, 0)
}

func (f *File) csvFault(err error) error {
	var pe *csv.ParseError
	if errors.As(err, &pe) {
		return &Error{File: f.Name, Line: pe.Line, Fault: pe.Err.Error()}
	}
	return &Error{File: f.Name, Fault: err.Error()}
}

func (f *File) noColumn(missing string, have []string) error {
	shown := have[:min(len(have), 20)]
	fault := fmt.Sprintf("no such column; there are %.400q", shown)
	if near := suggest.Closest(missing, have); near != "" {
		fault += fmt.Sprintf(" (did you mean %q?)", near)
	}
	return &Error{File: f.Name, Line: 1, Field: missing, Fault: fault}
}
