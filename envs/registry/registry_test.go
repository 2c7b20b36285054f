package registry_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func TestDefaultsOpen(t *testing.T) {
	list := registry.List()
	if !slices.ContainsFunc(list, func(i registry.Info) bool { return i.Name == "hypergrid" }) {
		t.Fatalf("no hypergrid in %v", list)
	}
	for _, info := range list {
		if info.Name == "plugin" {
			continue // the program has no default
		}
		env, resolved, err := registry.Open(info.Name, nil)
		if err != nil {
			t.Fatalf("%s with its defaults: %v", info.Name, err)
		}
		if env.Spec().Name != info.Name || info.Summary == "" {
			t.Errorf("%s calls itself %s", info.Name, env.Spec().Name)
		}
		for _, p := range info.Params {
			if !reflect.DeepEqual(resolved[p.Name], p.Default) || p.Doc == "" {
				t.Errorf("%s: %s is %v, listed as %v (%s)", info.Name, p.Name, resolved[p.Name], p.Default, p.Doc)
			}
		}
	}
}

func TestParametersArrive(t *testing.T) {
	env, err := registry.New("hypergrid", map[string]any{"dim": uint64(3), "height": 9.0})
	if err != nil {
		t.Fatal(err)
	}
	if s := env.Spec(); s.Actions != 4 || s.Features != 27 || s.MaxSteps != 25 {
		t.Errorf("%+v", s)
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name       string
		given      map[string]any
		path, want string
	}{
		{"hypergird", nil, "name", `did you mean "hypergrid"`},
		{"", nil, "name", "one of"},
		{"hypergrid", map[string]any{"hieght": 3}, "params.hieght", `did you mean "height"`},
		{"hypergrid", map[string]any{"height": "x"}, "params.height", "an integer"},
		{"hypergrid", map[string]any{"height": 1}, "params.height", "at least 2"},
	} {
		_, err := registry.New(c.name, c.given)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%q %v: %v", c.name, c.given, err)
		}
	}
}
