// Package dataset reads objects, in an environment's textual form, from files:
// CSV and Parquet with a column "object" and perhaps one "weight", or plain text
// with one object a line. Other columns are not looked at, so an exported archive
// is a data set as it is.
package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Caps, which are checked before anything is kept.
const (
	MaxBytes   = 1 << 30 // of a file
	MaxObjects = 1 << 22
	MaxText    = 1 << 20 // bytes of one object
)

// Names of the columns.
const (
	ObjectColumn = "object"
	WeightColumn = "weight"
)

// Object is one of a file's.
type Object struct {
	Text   string
	Weight float64 // positive; 1 where the file has none
	Line   int     // where it stands, from 1; of a Parquet file the row
}

// Read returns the objects of a file, of which there is at least one. Its ending
// says what it is: .csv, .parquet or .txt. Faults of the contents name file and
// line and are *fielderr.Error.
func Read(path string) ([]Object, error) {
	kind := strings.ToLower(filepath.Ext(path))
	read, ok := map[string]func(f *os.File, add adder) error{".csv": readCSV, ".parquet": readParquet, ".txt": readText}[kind]
	if !ok {
		return nil, fielderr.New("data.file", path, "a file that ends in .csv, .parquet or .txt")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("data.file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("data.file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > MaxBytes {
		return nil, fielderr.New("data.file", path, fmt.Sprintf("a regular file of at most %d bytes", MaxBytes))
	}
	var out []Object
	err = read(f, func(line int, text, weight string) error {
		o, err := parse(line, text, weight)
		if err == nil && len(out) == MaxObjects {
			err = fielderr.New(ObjectColumn, "one more", fmt.Sprintf("at most %d objects in a file", MaxObjects))
		}
		if err != nil {
			return At(path, line, err)
		}
		out = append(out, o)
		return nil
	})
	var bad *csv.ParseError
	switch {
	case errors.As(err, &bad):
		return nil, At(path, bad.Line, fielderr.New("record", bad.Err.Error(), "as many fields as the header has, quoted where they hold commas"))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case len(out) == 0:
		return nil, At(path, 1, fielderr.New(ObjectColumn, nil, "at least one object"))
	}
	return out, nil
}

// At is err with the place in a file that it is about.
func At(path string, line int, err error) error {
	return &placed{path, line, err}
}

type placed struct {
	path string
	line int
	err  error
}

func (p *placed) Error() string { return fmt.Sprintf("%s:%d: %v", p.path, p.line, p.err) }
func (p *placed) Unwrap() error { return p.err }

// adder takes one object; weight is empty where there is none.
type adder func(line int, text, weight string) error

func parse(line int, text, weight string) (Object, error) {
	o := Object{Text: strings.TrimSpace(text), Weight: 1, Line: line}
	switch {
	case o.Text == "":
		return o, fielderr.New(ObjectColumn, nil, "an object in the environment's textual form")
	case len(o.Text) > MaxText:
		return o, fielderr.New(ObjectColumn, o.Text[:40]+"…", fmt.Sprintf("at most %d bytes", MaxText))
	}
	if weight = strings.TrimSpace(weight); weight == "" {
		return o, nil
	}
	w, err := strconv.ParseFloat(weight, 64)
	if err != nil || !(w > 0) || math.IsInf(w, 0) {
		return o, fielderr.New(WeightColumn, weight, "a finite number above 0, or nothing for 1")
	}
	o.Weight = w
	return o, nil
}

func readText(f *os.File, add adder) error {
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, MaxText+2)
	n := 0
	for lines.Scan() {
		n++
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		if err := add(n, lines.Text(), ""); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fielderr.New(ObjectColumn, fmt.Sprintf("line %d", n+1), fmt.Sprintf("lines of at most %d bytes", MaxText))
	}
	return lines.Err()
}

func readCSV(f *os.File, add adder) error {
	r := csv.NewReader(bufio.NewReader(f))
	r.ReuseRecord, r.TrimLeadingSpace = true, true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return fielderr.New(ObjectColumn, nil, "a first line that names the columns, one of them object")
	}
	if err != nil {
		return err
	}
	for i := range header {
		header[i] = strings.TrimSpace(strings.TrimPrefix(header[i], "\ufeff"))
	}
	object, weight := slices.Index(header, ObjectColumn), slices.Index(header, WeightColumn)
	if object < 0 {
		return fielderr.New(ObjectColumn, strings.Join(header, ", "), "a first line that names the columns, one of them object")
	}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		line, _ := r.FieldPos(object)
		w := ""
		if weight >= 0 {
			w = record[weight]
		}
		if err := add(line, record[object], w); err != nil {
			return err
		}
	}
}
