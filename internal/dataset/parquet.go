package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func readParquet(f *os.File, add adder) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	file, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		return fielderr.New("data.file", f.Name(), fmt.Sprintf("a Parquet file (%v)", err))
	}
	object, ok := file.Schema().Lookup(ObjectColumn)
	if !ok || object.Node.Type().Kind() != parquet.ByteArray {
		return fielderr.New(ObjectColumn, nil, "a column of texts")
	}
	weight := -1
	if w, ok := file.Schema().Lookup(WeightColumn); ok {
		switch w.Node.Type().Kind() {
		case parquet.Double, parquet.Float, parquet.Int32, parquet.Int64:
			weight = w.ColumnIndex
		default:
			return fielderr.New(WeightColumn, w.Node.Type().String(), "a column of numbers")
		}
	}
	line := 0
	for _, group := range file.RowGroups() {
		if err := readGroup(group, object.ColumnIndex, weight, &line, add); err != nil {
			return err
		}
	}
	return nil
}

func readGroup(group parquet.RowGroup, object, weight int, line *int, add adder) error {
	rows := group.Rows()
	defer rows.Close()
	buffer := make([]parquet.Row, 256)
	for {
		n, err := rows.ReadRows(buffer)
		for _, row := range buffer[:n] {
			*line++
			var text, w string
			for _, v := range row {
				switch {
				case v.IsNull():
				case v.Column() == object:
					text = string(v.ByteArray())
				case v.Column() == weight:
					w = number(v)
				}
			}
			if err := add(*line, text, w); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after row %d: %w", *line, err)
		}
	}
}

// number writes a numeric value exactly.
func number(v parquet.Value) string {
	switch v.Kind() {
	case parquet.Double:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64)
	case parquet.Float:
		return strconv.FormatFloat(float64(v.Float()), 'g', -1, 64)
	case parquet.Int32:
		return strconv.FormatInt(int64(v.Int32()), 10)
	}
	return strconv.FormatInt(v.Int64(), 10)
}
