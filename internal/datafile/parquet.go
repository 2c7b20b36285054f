package datafile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go"
)

// parquetTable reads two columns of a Parquet file. The library allocates what the
// file claims, so its claims are bounded first, and damage that makes it panic is a
// fault of the file.
func (f *File) parquetTable(c Columns) (rows []Row, err error) {
	defer func() {
		if r := recover(); r != nil {
			rows, err = nil, &Error{File: f.Name, Fault: fmt.Sprintf("damaged: %v", r)}
		}
	}()
	file, err := f.openParquet()
	if err != nil {
		return nil, err
	}
	text, err := f.leaf(file, c.Text, "texts")
	if err != nil {
		return nil, err
	}
	want := wanted{columns: c, text: text.ColumnIndex, value: -1}
	if _, there := file.Schema().Lookup(c.Value); there || c.Default == nil {
		value, err := f.leaf(file, c.Value, "numbers")
		if err != nil {
			return nil, err
		}
		number, instead := numbers(value.Node.Type())
		if instead != "" {
			return nil, &Error{File: f.Name, Line: 1, Field: c.Value, Fault: fmt.Sprintf("got a column of %s; want numbers", instead)}
		}
		want.value, want.number = value.ColumnIndex, number
	}
	rows = make([]Row, 0, file.NumRows())
	for _, group := range file.RowGroups() {
		if group.NumRows() == 0 {
			continue // cannot be read
		}
		if rows, err = f.readGroup(group.Rows(), want, rows); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// openParquet opens the file and checks what its footer claims.
func (f *File) openParquet() (*parquet.File, error) {
	const frame = 8 // the footer's length and a magic number, at the end
	n := len(f.Data)
	if n < frame+frame/2 || int64(binary.LittleEndian.Uint32(f.Data[n-frame:])) > int64(n-frame-frame/2) {
		return nil, &Error{File: f.Name, Fault: "damaged: no footer"}
	}
	file, err := parquet.OpenFile(bytes.NewReader(f.Data), int64(n), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, &Error{File: f.Name, Fault: err.Error()}
	}
	if r := file.NumRows(); r < 0 || r > MaxRows {
		return nil, &Error{File: f.Name, Fault: fmt.Sprintf("%d rows; at most %d are read", r, MaxRows)}
	}
	total := int64(0)
	for _, g := range file.Metadata().RowGroups {
		for i := range g.Columns {
			size := g.Columns[i].MetaData.TotalUncompressedSize
			if total += size; size < 0 || total > MaxBytes {
				return nil, &Error{File: f.Name, Fault: fmt.Sprintf("over %d bytes when unpacked", MaxBytes)}
			}
		}
	}
	return file, nil
}

// wanted are the columns that are read, by their indices.
type wanted struct {
	columns Columns
	text    int
	value   int // -1 if there is none
	number  func(parquet.Value) float64
}

// leaf is a column at the top of the schema, which holds what.
func (f *File) leaf(file *parquet.File, name, what string) (parquet.LeafColumn, error) {
	if leaf, ok := file.Schema().Lookup(name); ok {
		return leaf, nil
	}
	var have []string
	for _, field := range file.Schema().Fields() {
		if field.Name() == name {
			return parquet.LeafColumn{}, &Error{File: f.Name, Line: 1, Field: name, Fault: "got a column of groups; want " + what}
		}
		have = append(have, field.Name())
	}
	return parquet.LeafColumn{}, f.noColumn(name, have)
}

func (f *File) readGroup(r parquet.Rows, want wanted, rows []Row) ([]Row, error) {
	c := want.columns
	defer r.Close()
	batch := make([]parquet.Row, 1024)
	for {
		n, err := r.ReadRows(batch)
		for _, values := range batch[:n] {
			if len(rows) == MaxRows {
				return nil, &Error{File: f.Name, Fault: fmt.Sprintf("more than %d rows", MaxRows)}
			}
			row := Row{Line: len(rows) + 1}
			fault := func(field, fault string) error {
				return &Error{File: f.Name, Line: row.Line, Field: field, Fault: fault}
			}
			texts, numbers := 0, 0
			if c.Default != nil {
				row.Value = *c.Default
			}
			for _, v := range values {
				switch v.Column() {
				case want.text:
					if v.Kind() != parquet.ByteArray || v.IsNull() || len(v.ByteArray()) > maxText {
						return nil, fault(c.Text, fmt.Sprintf("got %.40s; want a text of at most %d bytes", shown(v), maxText))
					}
					row.Text = string(v.ByteArray())
					texts++
				case want.value:
					if c.Default != nil && v.IsNull() {
						continue
					}
					x := math.NaN()
					if !v.IsNull() {
						x = want.number(v)
					}
					if math.IsNaN(x) || math.IsInf(x, 0) {
						return nil, fault(c.Value, fmt.Sprintf("got %.40s; want a finite number", shown(v)))
					}
					row.Value = x
					numbers++
				}
			}
			if texts != 1 || numbers > 1 || numbers == 0 && c.Default == nil {
				return nil, fault("", fmt.Sprintf("%d values of %s and %d of %s; want one of each", texts, c.Text, numbers, c.Value))
			}
			rows = append(rows, row)
		}
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, &Error{File: f.Name, Line: len(rows) + 1, Fault: err.Error()}
		}
		if n == 0 {
			return nil, &Error{File: f.Name, Line: len(rows) + 1, Fault: "damaged: no progress"}
		}
	}
}

// shown is a value as messages say it.
func shown(v parquet.Value) string {
	if k := v.Kind(); !v.IsNull() && (k == parquet.ByteArray || k == parquet.FixedLenByteArray) {
		return fmt.Sprintf("%.40q", v.ByteArray())
	}
	return v.String()
}
