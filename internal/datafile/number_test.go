package datafile_test

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/datafile"
)

// column writes a Parquet file with texts and one column of values of a type.
func column(t *testing.T, node parquet.Node, values ...parquet.Value) []byte {
	t.Helper()
	var out bytes.Buffer
	schema := parquet.NewSchema("table", parquet.Group{"sequence": parquet.String(), "value": node})
	w := parquet.NewWriter(&out, schema)
	for _, v := range values {
		if _, err := w.WriteRows([]parquet.Row{{parquet.ValueOf("ACGT").Level(0, 0, 0), v.Level(0, 0, 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestNumbersOfEveryType: what is stored is read as what the column's type says that
// it means, to the same bits as the number in a CSV.
func TestNumbersOfEveryType(t *testing.T) {
	columns := datafile.Columns{Text: "sequence", Value: "value"}
	wide := parquet.FixedLenByteArrayValue
	for name, c := range map[string]struct {
		node   parquet.Node
		stored []parquet.Value
		want   []float64
	}{
		"decimal of 32 bits":  {parquet.Decimal(2, 5, parquet.Int32Type), []parquet.Value{parquet.ValueOf(int32(70)), parquet.ValueOf(int32(-1))}, []float64{0.7, -0.01}},
		"decimal of 64 bits":  {parquet.Decimal(3, 18, parquet.Int64Type), []parquet.Value{parquet.ValueOf(int64(1<<62 + 1))}, []float64{4611686018427387.905}},
		"decimal in bytes":    {parquet.Decimal(2, 5, parquet.FixedLenByteArrayType(3)), []parquet.Value{wide([]byte{0, 0, 70}), wide([]byte{0xff, 0xff, 0xba})}, []float64{0.7, -0.7}},
		"unsigned of 32 bits": {parquet.Uint(32), []parquet.Value{parquet.ValueOf(uint32(3e9))}, []float64{3e9}},
		"unsigned of 64 bits": {parquet.Uint(64), []parquet.Value{parquet.ValueOf(uint64(1 << 63))}, []float64{1 << 63}},
		"of 8 bits":           {parquet.Int(8), []parquet.Value{parquet.ValueOf(int32(-3))}, []float64{-3}},
		"float":               {parquet.Leaf(parquet.FloatType), []parquet.Value{parquet.ValueOf(float32(0.5))}, []float64{0.5}},
	} {
		rows, err := datafile.New("t.parquet", column(t, c.node, c.stored...)).Table(columns)
		if err != nil || len(rows) != len(c.want) {
			t.Errorf("%s: %v, %v", name, rows, err)
			continue
		}
		for i, row := range rows {
			if math.Float64bits(row.Value) != math.Float64bits(c.want[i]) {
				t.Errorf("%s: value %d is %v, want %v", name, i, row.Value, c.want[i])
			}
		}
	}
	if rows, err := datafile.New("t.parquet", column(t, parquet.Leaf(parquet.DoubleType))).Table(columns); err != nil || len(rows) != 0 {
		t.Errorf("a table without rows: %v, %v", rows, err)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"time":  {column(t, parquet.Timestamp(parquet.Microsecond), parquet.ValueOf(time.Unix(1, 0).UnixMicro())), "t.parquet:1: value: got a column of TIMESTAMP"},
		"text":  {column(t, parquet.String(), parquet.ValueOf("0.5")), "t.parquet:1: value: got a column of STRING; want numbers"},
		"scale": {column(t, parquet.Decimal(39, 39, parquet.FixedLenByteArrayType(17)), wide(make([]byte, 17))), "39 digits after the point"},
		"bytes": {column(t, parquet.Leaf(parquet.FixedLenByteArrayType(2)), wide([]byte{0, 0x3c})), `t.parquet:1: value: got "\x00<"; want a finite number`},
	} {
		rows, err := datafile.New("t.parquet", c.data).Table(columns)
		if rows != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
