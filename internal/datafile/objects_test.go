package datafile_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/paramserver/archive"
)

// objects reads a data set.
func objects(name, data string) ([]datafile.Object, error) {
	return datafile.New(name, []byte(data)).Objects()
}

func parquetOf[T any](t *testing.T, rows []T) string {
	t.Helper()
	var out bytes.Buffer
	if err := parquet.Write(&out, rows); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

type weighed struct {
	Note   string   `parquet:"note"`
	Object string   `parquet:"object"`
	Weight *float64 `parquet:"weight,optional"`
}

func TestRead(t *testing.T) {
	half := 0.5
	want := []datafile.Object{{Text: "(0,1)", Weight: 0.5}, {Text: "(2,3)", Weight: 1}}
	for name, data := range map[string]string{
		"a.csv":     "\ufeffid,object,weight\n7,\"(0,1)\",0.5\n8, \"(2,3)\",\n",
		"a.parquet": parquetOf(t, []weighed{{"x", "(0,1)", &half}, {"y", "(2,3)", nil}}),
	} {
		got, err := objects(name, data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range got {
			if got[i].Line == 0 {
				t.Errorf("%s: object %d has no line", name, i)
			}
			got[i].Line = 0
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	got, err := objects("a.txt", "\ufeff(0,1)\n\n  (2,3) \n")
	if plain := []datafile.Object{{Text: "(0,1)", Weight: 1, Line: 1}, {Text: "(2,3)", Weight: 1, Line: 3}}; err != nil || !reflect.DeepEqual(got, plain) {
		t.Errorf("text: %+v, %v", got, err)
	}
}

// TestArchivesAreDataSets: what a job was trained on can be read as it is.
func TestArchivesAreDataSets(t *testing.T) {
	var out bytes.Buffer
	w := archive.NewWriter(&out)
	if _, err := w.Write([]archive.Row{{Object: "(0,1)", LogReward: 1, Worker: "a"}, {Object: "(2,3)", LogReward: -1, Worker: "b"}}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := objects("a.parquet", out.String())
	if want := []datafile.Object{{Text: "(0,1)", Weight: 1, Line: 1}, {Text: "(2,3)", Weight: 1, Line: 2}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestFaultsOfObjects name file, line and field.
func TestFaultsOfObjects(t *testing.T) {
	for _, c := range []struct{ name, data, says string }{
		{"a.json", "{}", "a.json: want a file that ends in"},
		{"a.csv", "", "a.csv: empty"},
		{"a.csv", "objects\nx\n", `a.csv:1: object: no such column; there are ["objects"] (did you mean "objects"?)`},
		{"a.csv", "object\n", "a.csv:1: object: missing; want at least one object"},
		{"a.csv", "object,weight\n(0,1),1\n", `a.csv:2: got 3 fields, and the header has 2 (a text with commas stands in double quotes)`},
		{"a.csv", "object,weight\n\"(0,1)\",1\n\"(0,2)\",-1\n", `a.csv:3: weight: got -1; want`},
		{"a.csv", "object,weight\n\"(0,1)\",nan\n", `a.csv:2: weight: got "nan"; want`},
		{"a.csv", "object,weight\n,1\n", "a.csv:2: object: missing; want an object"},
		{"a.csv", "object\n\"(0,1)\n", "a.csv:"},
		{"a.csv", "object,id,object\na,1,b\n", "object: got \"object, id, object\"; want one column"},
		{"a.txt", "\n\n", "a.txt:1: object: missing"},
		{"a.txt", "x\n" + strings.Repeat("x", 1<<17), "a.txt:2: 131072 bytes"},
		{"a.parquet", "PAR1 no", "a.parquet: damaged"},
		{"a.parquet", parquetOf(t, []struct {
			Text string `parquet:"text"`
		}{{"x"}}), "object: no such column"},
		{"a.parquet", parquetOf(t, []struct {
			Object []string `parquet:"object"`
		}{{[]string{"x", "y"}}}), "a.parquet:1: 2 values of object"},
		{"a.parquet", parquetOf(t, []struct {
			Object []string `parquet:"object,list"`
		}{{[]string{"x", "y"}}}), "a.parquet:1: object: got a column of groups; want texts"},
		{"a.parquet", parquetOf(t, []weighed{}), "a.parquet:1: object: missing; want at least one object"},
		// By pyarrow 26, which writes a group of no rows.
		{"a.parquet", testdata(t, "no-rows.parquet"), "a.parquet:1: object: missing; want at least one object"},
		{"a.parquet", parquetOf(t, []struct {
			Object int64 `parquet:"object"`
		}{{1}}), "a.parquet:1: object: got 1; want a text"},
		{"a.parquet", parquetOf(t, []struct {
			Object string `parquet:"object"`
			Weight string `parquet:"weight"`
		}{{"x", "1"}}), "a.parquet:1: weight: got a column of STRING; want numbers"},
	} {
		got, err := objects(c.name, c.data)
		var fault *datafile.Error
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.says) || got != nil {
			t.Errorf("%s %.40q: %v, which does not say %q", c.name, c.data, err, c.says)
		}
	}
}

// TestDamagedObjects are faults, whatever the library for Parquet does with them.
func TestDamagedObjects(t *testing.T) {
	half := 0.5
	whole := parquetOf(t, []weighed{{"x", "(0,1)", &half}, {"y", "(2,3)", nil}})
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		data := []byte(whole)
		for range 1 + r.IntN(3) {
			data[r.IntN(len(data))] = byte(r.Uint32())
		}
		checkObjects(t, "a.parquet", string(data[:len(data)-r.IntN(2)*r.IntN(len(data))]))
	}
}

func checkObjects(t *testing.T, name, data string) {
	got, err := objects(name, data)
	var fault *datafile.Error
	if err == nil && len(got) == 0 || err != nil && !errors.As(err, &fault) {
		t.Errorf("%d objects, %v", len(got), err)
	}
	for _, o := range got {
		if o.Text == "" || !(o.Weight > 0) || o.Line < 1 {
			t.Errorf("%+v", o)
		}
	}
}

func FuzzObjects(f *testing.F) {
	f.Add("a.csv", "object,weight\n\"(0,1)\",1\n")
	f.Add("a.txt", "(0,1)\n")
	f.Add("a.parquet", "PAR1PAR1")
	f.Fuzz(func(t *testing.T, name, data string) {
		ext := filepath.Ext(name)
		if ext != ".csv" && ext != ".txt" {
			ext = ".parquet"
		}
		checkObjects(t, "a"+ext, data)
	})
}
