package params_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

type config struct {
	n int
	x float64
	s string
}

func (c *config) bind() []params.Binding {
	return []params.Binding{
		params.Int("height", &c.n, "cells"),
		params.Float("r0", &c.x, "floor"),
		params.Text("reward", &c.s, "kind"),
	}
}

func TestDecodeAccepts(t *testing.T) {
	for _, v := range []any{8, int8(8), int64(8), uint16(8), uint64(8), 8.0, float32(8), json.Number("8"), json.Number("8.0"), "8e0", "+.8E+1"} {
		c := config{s: "standard"}
		if err := params.Decode(c.bind(), map[string]any{"height": v, "r0": v}); err != nil || c != (config{8, 8, "standard"}) {
			t.Errorf("%T %v: %+v, %v", v, v, c, err)
		}
	}
	var c config
	var given map[string]any
	if err := yaml.Unmarshal([]byte("{height: 5, r0: 1e-3, reward: cosine}"), &given); err != nil {
		t.Fatal(err)
	}
	if err := params.Decode(c.bind(), given); err != nil || c != (config{5, 1e-3, "cosine"}) {
		t.Errorf("YAML: %+v, %v", c, err)
	}
	if v := params.Values(c.bind()); v["height"] != 5 || v["r0"] != 1e-3 || v["reward"] != "cosine" || len(v) != 3 {
		t.Errorf("values: %v", v)
	}
	d := params.Describe(c.bind())
	if d[0] != (params.Info{Name: "height", Type: "integer", Default: 5, Doc: "cells"}) || d[1].Type != "number" || d[2].Type != "text" {
		t.Errorf("description: %+v", d)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		want  string
	}{
		{"height", 8.5, "an integer"},
		{"height", "8", "an integer"},
		{"height", true, "an integer"},
		{"height", nil, "an integer"},
		{"height", 1e300, "an integer"},
		{"height", math.NaN(), "an integer"},
		{"height", uint64(math.MaxUint64), "an integer"},
		{"height", json.Number("x"), "an integer"},
		{"r0", "small", "a number"},
		{"r0", "1e999", "a number"},
		{"r0", "0x1p-3", "a number"},
		{"r0", json.Number("x"), "a number"},
		{"r0", []any{1}, "a number"},
		{"reward", 3, "a text"},
		{"hieght", 8, `did you mean "height"`},
		{"zzz", nil, "no such parameter"},
	} {
		var cfg config
		err := params.Decode(cfg.bind(), map[string]any{c.name: c.value})
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.name || !strings.Contains(fault.Want, c.want) || cfg != (config{}) {
			t.Errorf("%s = %v: %v, %+v", c.name, c.value, err, cfg)
		}
	}
}

func TestDecodeReportsAllFaults(t *testing.T) {
	var c config
	err := params.Decode(c.bind(), map[string]any{"height": "x", "r0": "y", "colour": 1})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "colour") || !strings.HasPrefix(lines[1], "height") || !strings.HasPrefix(lines[2], "r0") {
		t.Errorf("%v", err)
	}
}

func TestOneOf(t *testing.T) {
	known := []string{"hypergrid", "ising", "bits"}
	for name, want := range map[string]string{
		"hypergird": `one of hypergrid, ising, bits (did you mean "hypergrid"?)`,
		"bit":       `one of hypergrid, ising, bits (did you mean "bits"?)`,
		"molecules": "one of hypergrid, ising, bits",
		"":          "one of hypergrid, ising, bits",
	} {
		if got := params.OneOf(name, known); got != want {
			t.Errorf("%q: %s", name, got)
		}
	}
}

func TestFloats(t *testing.T) {
	list := []float64{1}
	bind := []params.Binding{params.Floats("weights", &list, "masses")}
	for _, c := range []struct {
		given any
		want  []float64
	}{
		{[]any{0.5, uint64(2), "1e-3", json.Number("4")}, []float64{0.5, 2, 1e-3, 4}},
		{[]float64{7}, []float64{7}},
		{3, []float64{3}},
		{[]any{}, []float64{}},
	} {
		if err := params.Decode(bind, map[string]any{"weights": c.given}); err != nil || !slices.Equal(list, c.want) {
			t.Errorf("%v becomes %v: %v", c.given, list, err)
		}
	}
	for _, wrong := range []any{"many", []any{1, "x"}, map[string]any{}, nil, make([]float64, 5000)} {
		var fault *fielderr.Error
		if err := params.Decode(bind, map[string]any{"weights": wrong}); !errors.As(err, &fault) || fault.Path != "weights" {
			t.Errorf("%.20v: %v", wrong, err)
		}
	}
	if info := params.Describe(bind)[0]; info.Type != "list of numbers" {
		t.Errorf("described as %+v", info)
	}
}
