package schedule

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/invopop/jsonschema"
	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func TestAt(t *testing.T) {
	cases := []struct {
		text   string
		update int64
		want   float64
	}{
		{"0.5", 0, 0.5},
		{"0.5", math.MaxInt64, 0.5},
		{"linear:0.75:1.2:3000", 0, 0.75},
		{"linear:0.75:1.2:3000", 1500, 0.975},
		{"linear:0.75:1.2:3000", 3000, 1.2},
		{"linear:0.75:1.2:3000", math.MaxInt64, 1.2},
		{"linear:1:0:100:50", 50, 1},
		{"linear:1:0:100:50", 75, 0.75},
		{"cosine:1:0:4", 1, 0.5 + math.Sqrt2/4},
		{"cosine:1:0:4", 2, 0.5},
		{"exponential:1:0.01:2", 1, 0.1},
		{"exponential:-1:-100:2", 1, -10},
		{"linear:0:1:9223372036854775807:9223372036854775807", math.MaxInt64, 0},
	}
	for _, c := range cases {
		v, err := Parse(c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		if got := v.At(c.update); math.Abs(got-c.want) > 1e-15*math.Max(1, math.Abs(c.want)) {
			t.Errorf("%s at %d = %v, want %v", c.text, c.update, got, c.want)
		}
	}
}

func TestUnset(t *testing.T) {
	var v Value
	if v.IsSet() || v.IsConst() || v.At(3) != 0 || v.String() != "" || v.Validate() != nil {
		t.Errorf("zero Value is not inert: %+v", v)
	}
	if v.Or(2) != Const(2) || Const(1).Or(2) != Const(1) {
		t.Error("Or does not prefer what is set")
	}
}

// wellFormed draws any valid schedule.
func wellFormed(t *rapid.T) Value {
	kind := rapid.SampledFrom([]Kind{Constant, Linear, Cosine, Exponential}).Draw(t, "kind")
	num := rapid.Float64Range(-1e6, 1e6)
	if kind == Constant {
		return Const(num.Draw(t, "value"))
	}
	if kind == Exponential {
		num = rapid.Float64Range(1e-6, 1e6)
	}
	return Value{
		Kind: kind, From: num.Draw(t, "from"), To: num.Draw(t, "to"),
		Over: rapid.Int64Range(1, 1e6).Draw(t, "over"), Start: rapid.Int64Range(0, 1e6).Draw(t, "start"),
	}
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := wellFormed(t)
		if back, err := Parse(v.String()); err != nil || back != v {
			t.Fatalf("text: %v gave %v, %v", v, back, err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back Value
		if err := json.Unmarshal(data, &back); err != nil || back != v {
			t.Fatalf("JSON: %s gave %v, %v", data, back, err)
		}
		data, err = yaml.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back = Value{}
		if err := yaml.UnmarshalWithOptions(data, &back, yaml.Strict()); err != nil || back != v {
			t.Fatalf("YAML: %s gave %v, %v", data, back, err)
		}
	})
}

func TestBoundsAndMonotony(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := wellFormed(t)
		u := rapid.Int64Range(0, 3e6).Draw(t, "update")
		a, b := v.At(u), v.At(u+1)
		if a < v.Min() || a > v.Max() {
			t.Fatalf("%v at %d = %v lies outside [%v, %v]", v, u, a, v.Min(), v.Max())
		}
		slack := 1e-12 * math.Max(1, math.Max(math.Abs(v.From), math.Abs(v.To)))
		if v.Kind != Constant && (b-a)*(v.To-v.From) < -slack*math.Abs(v.To-v.From) {
			t.Fatalf("%v turns round between %d and %d: %v, %v", v, u, u+1, a, b)
		}
	})
}

type doc struct {
	A Value  `json:"a" yaml:"a"`
	B *Value `json:"b,omitempty" yaml:"b"`
}

func TestDecodingInsideADocument(t *testing.T) {
	const text = "a: {kind: cosine, from: 0.75, to: 1.2, over: 3000}\nb: 1e-3\n"
	want := Value{Kind: Cosine, From: 0.75, To: 1.2, Over: 3000}
	var d doc
	if err := yaml.UnmarshalWithOptions([]byte(text), &d, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if d.A != want || d.B == nil || *d.B != Const(1e-3) {
		t.Fatalf("got %+v, %v", d.A, d.B)
	}
	data, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back doc
	if err := json.Unmarshal(data, &back); err != nil || back.A != want || *back.B != Const(1e-3) {
		t.Fatalf("%s gave %+v, %v", data, back, err)
	}
	var empty doc
	if err := yaml.UnmarshalWithOptions([]byte("a: 3\n"), &empty, yaml.Strict()); err != nil || empty.A != Const(3) || empty.B != nil {
		t.Fatalf("got %+v, %v", empty, err)
	}
	if err := json.Unmarshal([]byte(`{"a":null}`), &empty); err != nil || empty.A.IsSet() {
		t.Fatalf("null gave %+v, %v", empty.A, err)
	}
}

func TestBadDocuments(t *testing.T) {
	cases := []struct{ text, says string }{
		{"a: {kind: cosine, from: 0.75, to: 1.2, ovr: 3000}", "ovr"},
		{"a: {kind: cosin, from: 0.75, to: 1.2, over: 3000}", "constant, linear, cosine or exponential"},
		{"a: {kind: linear, from: 0.75, over: 3000}", "to: missing"},
		{"a: {from: 0.75, to: 1, over: 3000}", "kind: missing"},
		{"a: {kind: constant, from: 0.75, to: 1, over: 3000}", "plain number"},
		{"a: {kind: linear, from: 0.75, to: 1, over: 0}", "at least 1"},
		{"a: {kind: linear, from: 0.75, to: 1, over: 10, start: -1}", "at least 0"},
		{"a: {kind: exponential, from: 0, to: 1, over: 10}", "same sign"},
		{"a: fast", "want a number"},
		{"a: [1, 2]", "want a number"},
		{"a: true", "want a number"},
		{"a: .nan", "a number"},
		{"a: .inf", "finite"},
	}
	for _, c := range cases {
		var d doc
		err := yaml.UnmarshalWithOptions([]byte(c.text), &d, yaml.Strict())
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v does not say %q", c.text, err, c.says)
		}
	}
	var d doc
	err := json.Unmarshal([]byte(`{"a":{"kind":"linear","from":1,"to":2,"over":3,"end":4}}`), &d)
	if err == nil || !strings.Contains(err.Error(), "end") {
		t.Errorf("JSON with an unknown key: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", ":", "x", "NaN", "inf", "linear", "linear:1:2", "linear:1:2:3:4:5", "linear:1:2:0", "constant:1:2:3", "cubic:1:2:3", "exponential:1:-1:5", "linear:1:2:x", "linear:1:x:2", "linear:x:1:2"} {
		v, err := Parse(text)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || v != (Value{}) {
			t.Errorf("%q gave %v, %v", text, v, err)
		}
	}
	if v, err := Parse("constant:4"); err != nil || v != Const(4) {
		t.Errorf("constant:4 gave %v, %v", v, err)
	}
}

func TestValidateOfLiterals(t *testing.T) {
	for _, v := range []Value{{From: 1}, {Kind: Linear, From: math.Inf(1), Over: 1}, {Kind: Constant, From: math.NaN()}} {
		if v.Validate() == nil {
			t.Errorf("%+v is valid", v)
		}
	}
}

func TestJSONSchema(t *testing.T) {
	data, err := json.Marshal(jsonschema.Reflect(&doc{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"exponential"`, `"number"`, `"over"`, `"additionalProperties":false`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("schema lacks %s: %s", want, data)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("linear:0.75:1.2:3000")
	f.Add("exponential:1:0.1:10:5")
	f.Add("1e-3")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := Parse(text)
		if err != nil {
			return
		}
		if back, err := Parse(v.String()); err != nil || back != v {
			t.Fatalf("%q → %v → %v, %v", text, v, back, err)
		}
	})
}
