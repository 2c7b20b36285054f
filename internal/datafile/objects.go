package datafile

import (
	"fmt"
	"path/filepath"
	"strings"
)

// The columns of a data set; others are ignored.
const (
	ObjectColumn = "object"
	WeightColumn = "weight"
)

// Object is one of a data set.
type Object struct {
	Text   string
	Weight float64 // above 0; 1 where the file has none
	Line   int     // where it stands, from 1; of a Parquet file the row
}

// Objects reads a data set, which has at least one object: a table with a column
// object and perhaps weight, or a list whose name ends in .txt. What the objects
// are is for an environment to say.
func (f *File) Objects() ([]Object, error) {
	rows, err := f.objects()
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, &Error{File: f.Name, Line: 1, Field: ObjectColumn, Fault: "missing; want at least one object"}
	}
	out := make([]Object, len(rows))
	for i, row := range rows {
		fault := func(field, text string) error {
			return &Error{File: f.Name, Line: row.Line, Field: field, Fault: text}
		}
		o := Object{Text: strings.TrimSpace(row.Text), Weight: row.Value, Line: row.Line}
		switch {
		case o.Text == "":
			return nil, fault(ObjectColumn, "missing; want an object in the environment's textual form")
		case !(o.Weight > 0):
			return nil, fault(WeightColumn, fmt.Sprintf("got %v; want a number above 0, or nothing for 1", o.Weight))
		}
		out[i] = o
	}
	return out, nil
}

func (f *File) objects() ([]Row, error) {
	one := 1.0
	switch strings.ToLower(filepath.Ext(strings.TrimSuffix(f.Name, ".gz"))) {
	case ".csv", ".parquet":
		return f.Table(Columns{Text: ObjectColumn, Value: WeightColumn, Default: &one})
	case ".txt":
		rows, err := f.list()
		for i := range rows {
			rows[i].Value = one
		}
		return rows, err
	}
	return nil, &Error{File: f.Name, Fault: "want a file that ends in .csv, .parquet or .txt"}
}
