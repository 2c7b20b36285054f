package strictyaml

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
)

type inner struct {
	Rate  schedule.Value  `yaml:"rate"`
	Other *schedule.Value `yaml:"other,omitempty"`
	Size  int             `yaml:"size"`
}

type doc struct {
	Name  string         `yaml:"name"`
	Big   uint64         `yaml:"big"`
	Real  float64        `yaml:"real"`
	List  []int          `yaml:"list"`
	Free  map[string]any `yaml:"free"`
	Inner inner          `yaml:"inner"`
	Ptr   *int64         `yaml:"ptr,omitempty"`
}

func TestScalars(t *testing.T) {
	text := "free: {a: 010, b: 1e3, c: 0x1F, d: 0o17, e: '1', f: yes, g: True, h: ~, i: .5, j: -3, k: 1_000, l: '', m: 5., n: \"\\u00e9\", o: 18e0, p: 1e20}\n"
	var d doc
	if _, err := Parse("x", []byte(text), nil, &d); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"a": int64(10), "b": int64(1000), "c": int64(31), "d": int64(15), "e": "1", "f": "yes", "g": true, "h": nil,
		"i": 0.5, "j": int64(-3), "k": "1_000", "l": "", "m": int64(5), "n": "é", "o": int64(18), "p": 1e20,
	}
	if !reflect.DeepEqual(d.Free, want) {
		t.Errorf("got %#v\nwant %#v", d.Free, want)
	}
}

func TestFieldTypes(t *testing.T) {
	text := "\ufeffname: |\n  two\n  lines\r\nbig: 18446744073709551615\nreal: 3\nlist: [1, 2.0, 3e0]\nptr: 4\n" +
		"inner:\n  rate: linear:1:0:5\n  other: {kind: cosine, from: 1, to: 2, over: 3, start: 4}\n  size: 0x10\n"
	var d doc
	src, err := Parse("x", []byte(text), nil, &d)
	if err != nil {
		t.Fatal(err)
	}
	four := int64(4)
	want := doc{
		Name: "two\nlines\n", Big: math.MaxUint64, Real: 3, List: []int{1, 2, 3}, Ptr: &four,
		Inner: inner{
			Rate:  schedule.Value{Kind: schedule.Linear, From: 1, Over: 5},
			Other: &schedule.Value{Kind: schedule.Cosine, From: 1, To: 2, Over: 3, Start: 4},
			Size:  16,
		},
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got %+v\nwant %+v", d, want)
	}
	for path, at := range map[string][2]int{
		"list[1]": {6, 11}, "list.1": {6, 11}, "inner.size": {11, 9}, "inner.rate.from": {9, 9}, "inner.absent": {9, 3}, "absent": {0, 0},
	} {
		if line, col := src.At(path); line != at[0] || col != at[1] {
			t.Errorf("%s is at %d:%d, want %v", path, line, col, at)
		}
	}
	if !src.Given("inner.size") || src.Given("inner.absent") || src.Empty() || src.Name() != "x" {
		t.Error("the source does not know what it holds")
	}
}

// TestFaultsKeepDefaults: one bad element leaves the whole list as it was.
func TestFaultsKeepDefaults(t *testing.T) {
	d := doc{Name: "n", List: []int{7}, Free: map[string]any{"k": 1}, Inner: inner{Rate: schedule.Const(2)}}
	want := d
	_, err := Parse("x", []byte("name: [1]\nlist: [1, x]\nfree: {a: .nan}\ninner: {rate: {kind: cosine}}\nptr: x\n"), nil, &d)
	if err == nil || !reflect.DeepEqual(d, want) {
		t.Errorf("%v left %+v", err, d)
	}
}

// TestAListIsShownAsItsField: what is given for a list comes back as one, where it can.
func TestAListIsShownAsItsField(t *testing.T) {
	type lists struct {
		Hidden  []int             `yaml:"hidden"`
		Command []string          `yaml:"command"`
		Select  [][]schedule.Kind `yaml:"select"`
		Values  []Part            `yaml:"values"`
	}
	for text, want := range map[string]string{
		"hidden: 256":                         "want a list, such as [256, 256]",
		"hidden: a b":                         "want a list, such as [256, 256]",
		"command: python3 -u x.py":            `got "python3 -u x.py"; want a list, such as [python3, -u, x.py]`,
		"command: tv,kl":                      "want a list, such as [tv, kl]",
		"command: 'a: [b'":                    "want a list, such as [first, second]",
		"command: 3":                          "want a list, such as [first, second]",
		"command: ''":                         "want a list, such as [first, second]",
		"command: " + strings.Repeat("a ", 9): "want a list, such as [first, second]",
		"select: a":                           "want a list of mappings",
		"values: hellinger":                   "want a list, such as [hellinger]",
		"values: 0.5":                         "want a list, such as [0.5]",
	} {
		var d lists
		if _, err := Parse("x", []byte(text), nil, &d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", text, err, want)
		}
	}
}

func TestEmptySectionKeepsDefaults(t *testing.T) {
	d := doc{Inner: inner{Size: 3}, Free: map[string]any{"k": 1}}
	if _, err := Parse("x", []byte("inner:\nfree:\nname: n\n"), nil, &d); err != nil || d.Inner.Size != 3 || d.Free["k"] != 1 {
		t.Errorf("%v left %+v", err, d)
	}
}

func TestBounds(t *testing.T) {
	cases := []struct{ text, says string }{
		{strings.Repeat("[", 100_000), "too many values"},
		{"list: " + strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested too deeply"},
		{strings.Repeat("- ", 80) + "a", "nested too deeply"},
		{"list: [" + strings.Repeat("1,", 20_000) + "1]", "too many values"},
		{"name: a\x00b\xff", "not UTF-8"},
	}
	for _, c := range cases {
		var d doc
		src, err := Parse("x", []byte(c.text), nil, &d)
		if err == nil || !strings.Contains(err.Error(), c.says) || src == nil {
			t.Errorf("%.20q: %v does not say %q", c.text, err, c.says)
		}
	}
	var d doc
	if _, err := Parse("x", []byte("name: a"), []string{strings.Repeat("a.", 70) + "b=1"}, &d); err == nil {
		t.Error("a path of 71 names was accepted")
	}
}

func TestLocate(t *testing.T) {
	var d doc
	src, err := Parse("f.yaml", []byte("name: a\ninner:\n  size: many\nreal: 1\n"), nil, &d)
	if err == nil {
		t.Fatal("a size of many was accepted")
	}
	sentinel := errors.New("no field at all")
	located := src.Locate(errors.Join(
		sentinel,
		fmt.Errorf("late: %w", fielderr.New("real", 1, "two")),
		errors.Join(fielderr.New("name", "a", "b"), fielderr.New("inner.size", 0, "more")),
		fmt.Errorf("%w and %w", sentinel, fielderr.New("big", nil, "some")),
		err,
	))
	want := `f.yaml: no field at all and big: missing; want some
f.yaml:1:7: name: got "a"; want b
f.yaml:3:9: inner.size: got "many"; want an integer
f.yaml:4:7: late: real: got 1; want two
no field at all`
	if located.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", located, want)
	}
	if !errors.Is(located, sentinel) {
		t.Error("the sentinel is lost")
	}
	if again := src.Locate(located); again.Error() != want {
		t.Errorf("a second time gives\n%v", again)
	}
	if src.Locate(nil) != nil {
		t.Error("nil has a place")
	}
}
