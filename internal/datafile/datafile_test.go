package datafile_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/datafile"
)

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadAndCheck(t *testing.T) {
	path := write(t, "t.txt", []byte("abc"))
	f, err := datafile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	const sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2
	if f.SHA256 != sum || f.Check("") != nil || f.Check(strings.ToUpper(sum)) != nil {
		t.Errorf("sum %s", f.SHA256)
	}
	if err := f.Check("ab"); err == nil || !strings.Contains(err.Error(), sum) {
		t.Errorf("a wrong sum: %v", err)
	}
	for _, c := range []struct{ path, want string }{
		{filepath.Join(t.TempDir(), "none.csv"), "no such file"},
		{t.TempDir(), "not a regular file"},
		{os.DevNull, "not a regular file"},
	} {
		var fault *datafile.Error
		if _, err := datafile.Read(c.path); !errors.As(err, &fault) || fault.File != c.path || !strings.Contains(fault.Fault, c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

// TestTooLarge: a sparse file of more than is read is refused by its size, and so is
// a small one that unpacks to more.
func TestTooLarge(t *testing.T) {
	path := write(t, "large.csv", nil)
	if err := os.Truncate(path, datafile.MaxBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := datafile.Read(path); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestSpeed)
	if _, err := io.Copy(z, io.LimitReader(zeros{}, datafile.MaxBytes+1)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := datafile.New("bomb.csv.gz", bomb.Bytes()).Table(datafile.Columns{Text: "a", Value: "b"}); err == nil || !strings.Contains(err.Error(), "when unpacked") {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestLines(t *testing.T) {
	got, err := datafile.New("m.txt", []byte("\n  0101\r\n\n1111  \n00")).Lines()
	if err != nil || strings.Join(got, "|") != "0101|1111|00" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestNumbersAreDecimal: what other notations make a number of is none in a table.
func TestNumbersAreDecimal(t *testing.T) {
	table := func(number string) ([]datafile.Row, error) {
		return datafile.New("t.csv", []byte("a,b\nx,"+number+"\n")).Table(datafile.Columns{Text: "a", Value: "b"})
	}
	for text, want := range map[string]float64{"1": 1, "-0.5": -0.5, "+.5": 0.5, "5.": 5, "1e-3": 1e-3, "2E+2": 200, "010": 10} {
		if rows, err := table(text); err != nil || rows[0].Value != want {
			t.Errorf("%s: %v, %v", text, rows, err)
		}
	}
	for _, text := range []string{"0x1p-3", "0X1P4", "1_0", "0x_1p0", "inf", "-Infinity", "nan", "1e999", "1,5", "0b1", "1d3", "½"} {
		if rows, err := table(text); err == nil {
			t.Errorf("%s was read as %v", text, rows)
		}
	}
	if _, err := table("0x1p-3"); err == nil || err.Error() != `t.csv:2: b: got "0x1p-3"; want a finite number, such as 0.125` {
		t.Error(err)
	}
}

func TestParquetFaults(t *testing.T) {
	type row struct {
		Sequence *string  `parquet:"sequence,optional"`
		Value    *float64 `parquet:"value,optional"`
		List     []int64  `parquet:"list"`
	}
	text, number := "ACGT", 1.5
	table := func(rows ...row) []byte {
		var out bytes.Buffer
		if err := parquet.Write(&out, rows); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	columns := datafile.Columns{Text: "sequence", Value: "value"}
	whole := table(row{&text, &number, []int64{1, 2, 3}}, row{&text, &number, nil})
	rows, err := datafile.New("t.parquet", whole).Table(columns)
	if err != nil || len(rows) != 2 || rows[1].Text != text || rows[1].Value != number || rows[1].Line != 2 {
		t.Fatalf("%v, %v", rows, err)
	}
	for _, c := range []struct {
		data    []byte
		columns datafile.Columns
		want    string
	}{
		{whole[:6], columns, "damaged"},
		{whole[:len(whole)-9], columns, "t.parquet: "},
		{whole, datafile.Columns{Text: "sequence", Value: "valeu"}, `valeu: no such column; there are ["sequence" "value" "list"] (did you mean "value"?)`},
		{whole, datafile.Columns{Text: "value", Value: "sequence"}, "t.parquet:1: "},
		{table(row{nil, &number, nil}), columns, "t.parquet:1: sequence: "},
		{table(row{&text, &number, nil}, row{&text, nil, nil}), columns, "t.parquet:2: value: "},
	} {
		if _, err := datafile.New("t.parquet", c.data).Table(c.columns); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
}

// FuzzTable: whatever the bytes are, there are rows or an *Error.
func FuzzTable(f *testing.F) {
	var columns, zipped bytes.Buffer
	type row struct {
		Sequence string  `parquet:"sequence"`
		Value    float32 `parquet:"value"`
	}
	if err := parquet.Write(&columns, []row{{"A", 1}, {"C", 2}}); err != nil {
		f.Fatal(err)
	}
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte("sequence,value\nA,1\n")); err != nil {
		f.Fatal(err)
	}
	if err := z.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("sequence,value\nA,1\n\"C\n,2"))
	f.Add(columns.Bytes())
	f.Add(zipped.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := datafile.New("t", data).Table(datafile.Columns{Text: "sequence", Value: "value"})
		var fault *datafile.Error
		if err != nil && !errors.As(err, &fault) || err != nil && rows != nil {
			t.Errorf("%d rows, %v", len(rows), err)
		}
	})
}
