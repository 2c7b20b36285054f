package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestReadsTheReferenceImplementation(t *testing.T) {
	f, err := ReadFile("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if f.Metadata["note"] != `größer < "x"` || f.Metadata["format"] != "np" || len(f.Tensors) != 6 {
		t.Fatalf("metadata %v, %d tensors", f.Metadata, len(f.Tensors))
	}
	get := func(name string, shape ...int) Tensor {
		x, ok := f.Tensor(name)
		if !ok || !slices.Equal(x.Shape, shape) {
			t.Fatalf("tensor %s: present %t, shape %v; want %v", name, ok, x.Shape, shape)
		}
		return x
	}
	if w, err := get("policy/w", 2, 3).Float32(); err != nil || !slices.Equal(w, []float32{1, 2.5, -3, 4, 5e-8, 6}) {
		t.Fatal(w, err)
	}
	if m, err := get("moments", 2).Float64(); err != nil || m[0] != 1e300 || !math.Signbit(m[1]) {
		t.Fatal(m, err)
	}
	if c, err := get("counters", 2).Int64(); err != nil || !slices.Equal(c, []int64{-1, 1 << 62}) {
		t.Fatal(c, err)
	}
	if p, err := get("private", 3).Bytes(); err != nil || !bytes.Equal(p, []byte{0, 255, 7}) {
		t.Fatal(p, err)
	}
	if s, err := get("scalar").Float32(); err != nil || !slices.Equal(s, []float32{2}) {
		t.Fatal(s, err)
	}
	if e, err := get("empty", 0, 3).Float32(); err != nil || len(e) != 0 {
		t.Fatal(e, err)
	}
	if _, err := get("scalar").Float64(); err == nil {
		t.Fatal("an F32 tensor was read as F64")
	}
}

func TestGoldenBytes(t *testing.T) {
	f := File{
		Metadata: map[string]string{"version": "12", "kind": "params"},
		Tensors: []Tensor{
			FromFloat32("w", []int{2, 2}, []float32{1, -2, 0.5, 3}),
			FromBytes("blob", []byte("abc")),
			FromInt64("n", nil, []int64{-9}),
			FromFloat64("none", []int{0}, nil),
		},
	}
	path := filepath.Join(t.TempDir(), "a.safetensors")
	if err := WriteFile(path, f); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/golden.safetensors", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := File{Metadata: rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "metadata")}
		names := rapid.SliceOfNDistinct(rapid.String().Filter(func(s string) bool { return s != metadataKey }), 0, 5, rapid.ID).Draw(t, "names")
		for _, name := range names {
			shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape")
			dtype := rapid.SampledFrom([]DType{F32, F64, I64, U8}).Draw(t, "dtype")
			size, err := byteSize(dtype, shape)
			if err != nil {
				t.Fatal(err)
			}
			data := rapid.SliceOfN(rapid.Byte(), int(size), int(size)).Draw(t, "data")
			f.Tensors = append(f.Tensors, Tensor{name, dtype, shape, data})
		}
		var b bytes.Buffer
		if err := Write(&b, f); err != nil {
			t.Fatal(err)
		}
		for how, read := range map[string]func() (File, error){
			"Decode": func() (File, error) { return Decode(b.Bytes()) },
			"Read":   func() (File, error) { return Read(bytes.NewReader(b.Bytes()), int64(b.Len())) },
		} {
			back, err := read()
			if err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			var again bytes.Buffer
			if err := Write(&again, back); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), again.Bytes()) {
				t.Fatalf("%s: %q became %q", how, b.Bytes(), again.Bytes())
			}
		}
	})
}

// raw makes a file of a header and data as they are given.
func raw(header string, data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func TestRefusals(t *testing.T) {
	long := binary.LittleEndian.AppendUint64(nil, math.MaxUint64)
	for _, c := range []struct {
		name string
		file []byte
		says string
	}{
		{"nothing", nil, "too few"},
		{"header length beyond the cap", append(long, '{', '}'), "at most"},
		{"header longer than the file", raw("{}", "")[:9], "in a file of 9"},
		{"no object", raw("[]", ""), "does not begin with {"},
		{"leading space", raw(" {}", ""), "does not begin with {"},
		{"not UTF-8", raw("{\"\xff\":1}", ""), "UTF-8"},
		{"torn JSON", raw(`{"a":`, ""), "header"},
		{"bytes after the header", raw(`{} {}`, ""), "after the header's end"},
		{"name twice", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"), `"a" twice`},
		{"unknown type", raw(`{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}`, "xy"), `"BF16" is not one of`},
		{"unknown field", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, "x"), "unknown field"},
		{"missing field", raw(`{"a":{"dtype":"U8","shape":[1]}}`, "x"), "data_offsets"},
		{"three offsets", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,9]}}`, "x"), "data_offsets"},
		{"negative dimension", raw(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, "x"), "negative"},
		{"overflowing shape", raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""), "too large"},
		{"offsets beyond the data", raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "x"), "[0, 2] in 1 bytes"},
		{"offsets backwards", raw(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}}`, "x"), "[1, 0]"},
		{"shape and length disagree", raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "xxxx"), "takes 8 bytes"},
		{"overlap", raw(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, "xyz"), `"b"`},
		{"gap", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, "xy"), "begins at 1"},
		{"bytes after the tensors", raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "xy"), "the file has 2"},
		{"metadata that is no text", raw(`{"__metadata__":{"a":1}}`, ""), "metadata"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(c.file)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Decode: got %v; want ErrFormat with %q", err, c.says)
			}
			path := filepath.Join(t.TempDir(), "bad.safetensors")
			if err := os.WriteFile(path, c.file, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err = ReadFile(path)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) {
				t.Errorf("ReadFile: got %v; want ErrFormat with the path", err)
			}
		})
	}
}

func TestRefusesToWriteWhatCannotBeRead(t *testing.T) {
	for name, tensors := range map[string][]Tensor{
		"shape":    {FromFloat32("a", []int{3}, make([]float32, 2))},
		"twice":    {FromBytes("a", nil), FromBytes("a", nil)},
		"reserved": {FromBytes(metadataKey, nil)},
		"type":     {{Name: "a", DType: "F16", Shape: []int{0}}},
	} {
		path := filepath.Join(t.TempDir(), "a")
		if err := WriteFile(path, File{Tensors: tensors}); err == nil {
			t.Errorf("%s: written without an error", name)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a file is left: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"reference", "golden"} {
		b, err := os.ReadFile("testdata/" + name + ".safetensors")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(raw(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("an error that is not ErrFormat: %v", err)
			}
			return
		}
		total := 0
		for _, x := range file.Tensors {
			if err := x.check(); err != nil {
				t.Fatalf("decoded, yet %v", err)
			}
			total += len(x.Data)
		}
		if total > len(b) {
			t.Fatalf("%d bytes of tensors from %d bytes", total, len(b))
		}
		var again bytes.Buffer
		if err := Write(&again, file); err != nil {
			t.Fatal(err)
		}
		back, err := Decode(again.Bytes())
		if err != nil || len(back.Tensors) != len(file.Tensors) {
			t.Fatalf("second decoding: %d tensors of %d, %v", len(back.Tensors), len(file.Tensors), err)
		}
	})
}
