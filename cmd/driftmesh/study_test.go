package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/study"
)

// TestStudyPublishes runs a small table of real trainings twice: it is there in
// every form, and equal seeds give equal bytes.
func TestStudyPublishes(t *testing.T) {
	var before string
	for range 2 {
		dir := filepath.Join(t.TempDir(), "out")
		got := ok(t, "study", "restricted_on_policy", "--out", dir, "--json", "--seed", "3",
			"--set", "separations=[4]", "--set", "alphas=[0, 1]", "--set", "seeds=2", "--set", "updates=60", "--set", "picture=4")
		keys(t, decode(t, got), "columns", "rows", "values", "notes", "figures")
		if before != "" && got != before {
			t.Errorf("the same command gives\n%s\nafter\n%s", got, before)
		}
		before = got
		if read(t, dir, "table.json") != got || strings.Count(read(t, dir, "table.csv"), "\n") != 3 {
			t.Errorf("the folder holds another table than was printed")
		}
		for _, name := range []string{"figure-1.png", "figure-2.png"} {
			if !strings.HasPrefix(read(t, dir, name), "\x89PNG") {
				t.Errorf("%s is no picture", name)
			}
		}
	}
}

func TestStudyPrintsText(t *testing.T) {
	got := ok(t, "study", "gradients", "--set", "env=categorical", "--set", "networks=1")
	for _, want := range []string{"environment", "huber:1", "off by at most"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	list := ok(t, "study")
	for name := range study.Computations(nil) {
		if !strings.Contains(list, name) {
			t.Errorf("%s is not listed", name)
		}
	}
}

func TestStudyFaults(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"study", "gradient"}, `did you mean "gradients"`},
		{[]string{"study", "gradients", "--set", "netwrks=1"}, "netwrks"},
		{[]string{"study", "gradients", "--set", "networks"}, "name=value"},
		{[]string{"study", "gradients", "--set", "env=chess"}, "one of hypergrid"},
		{[]string{"study", "restricted_behaviours", "--set", "separations=[4, 40]"}, "separation"},
	} {
		if r := command(t, c.args...); r.code != exitBadInput || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%v: exit %d, %s", c.args, r.code, r.stderr)
		}
	}
}
