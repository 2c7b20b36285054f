package dataset

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/paramserver/archive"
)

func write(t *testing.T, name string, data string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func parquetOf[T any](t *testing.T, rows []T) string {
	t.Helper()
	var out bytes.Buffer
	if err := parquet.Write(&out, rows); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

type weighed struct {
	Note   string   `parquet:"note"`
	Object string   `parquet:"object"`
	Weight *float64 `parquet:"weight,optional"`
}

func TestRead(t *testing.T) {
	half := 0.5
	want := []Object{{"(0,1)", 0.5, 0}, {"(2,3)", 1, 0}}
	for name, data := range map[string]string{
		"a.csv":     "\ufeffid,object,weight\n7,\"(0,1)\",0.5\n8, \"(2,3)\",\n",
		"a.parquet": parquetOf(t, []weighed{{"x", "(0,1)", &half}, {"y", "(2,3)", nil}}),
	} {
		got, err := Read(write(t, name, data))
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
	got, err := Read(write(t, "a.txt", "(0,1)\n\n  (2,3) \n"))
	if plain := []Object{{"(0,1)", 1, 1}, {"(2,3)", 1, 3}}; err != nil || !reflect.DeepEqual(got, plain) {
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
	got, err := Read(write(t, "a.parquet", out.String()))
	if want := []Object{{"(0,1)", 1, 1}, {"(2,3)", 1, 2}}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

// TestFaultsNameFileLineAndField.
func TestFaultsNameFileLineAndField(t *testing.T) {
	for _, c := range []struct{ name, data, says string }{
		{"a.json", "{}", "data.file: got"},
		{"a.csv", "", "object: missing; want a first line"},
		{"a.csv", "objects\nx\n", `object: got "objects"; want a first line`},
		{"a.csv", "object\n", "a.csv:1: object: missing; want at least one object"},
		{"a.csv", "object,weight\n(0,1),1\n", "a.csv:2: record: "},
		{"a.csv", "object,weight\n\"(0,1)\",1\n\"(0,2)\",-1\n", `a.csv:3: weight: got "-1"; want`},
		{"a.csv", "object,weight\n\"(0,1)\",nan\n", "a.csv:2: weight: "},
		{"a.csv", "object,weight\n,1\n", "a.csv:2: object: missing; want an object"},
		{"a.csv", "object\n\"(0,1)\n", "a.csv:"},
		{"a.txt", "\n\n", "a.txt:1: object: missing"},
		{"a.txt", strings.Repeat("x", MaxText+9), "object: got"},
		{"a.parquet", "PAR1 no", "data.file: got"},
		{"a.parquet", parquetOf(t, []struct {
			Text string `parquet:"text"`
		}{{"x"}}), "object: missing; want a column of texts"},
		{"a.parquet", parquetOf(t, []struct {
			Object int64 `parquet:"object"`
		}{{1}}), "object: missing; want a column of texts"},
		{"a.parquet", parquetOf(t, []struct {
			Object string `parquet:"object"`
			Weight string `parquet:"weight"`
		}{{"x", "1"}}), "weight: got"},
	} {
		objects, err := Read(write(t, c.name, c.data))
		var fault *fielderr.Error
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.says) || objects != nil {
			t.Errorf("%s %.40q: %v, which does not say %q", c.name, c.data, err, c.says)
		}
	}
	if _, err := Read("absent.csv"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
	if _, err := Read(t.TempDir() + "/"); err == nil {
		t.Error("a folder is read")
	}
}

func FuzzRead(f *testing.F) {
	f.Add("a.csv", "object,weight\n\"(0,1)\",1\n")
	f.Add("a.txt", "(0,1)\n")
	f.Add("a.parquet", "PAR1PAR1")
	f.Fuzz(func(t *testing.T, name, data string) {
		ext := filepath.Ext(name)
		if ext != ".csv" && ext != ".txt" {
			ext = ".parquet"
		}
		objects, err := Read(write(t, "a"+ext, data))
		if err == nil && len(objects) == 0 {
			t.Error("neither objects nor a fault")
		}
		for _, o := range objects {
			if o.Text == "" || !(o.Weight > 0) || o.Line < 1 {
				t.Errorf("%+v", o)
			}
		}
	})
}
