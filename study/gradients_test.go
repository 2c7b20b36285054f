package study_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/study"
)

// TestOnPolicyGradientIsThatOfTheDivergence: the theorem of f-TB for every
// member in every listed environment; the networks are float32.
func TestOnPolicyGradientIsThatOfTheDivergence(t *testing.T) {
	table, err := study.Gradients().Run(context.Background(), map[string]any{"networks": 1}, 7)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(study.Cases()) * len(losses.Table()); len(table.Rows) != want {
		t.Fatalf("%d rows, want %d", len(table.Rows), want)
	}
	for _, row := range table.Rows {
		if worst, ok := row[8].(float64); !ok || worst > 1e-5 {
			t.Errorf("%v", row)
		}
	}
	t.Log(strings.Join(table.Notes, "\n"))
}

// TestEveryListedEnvironmentHasACase: what can be listed is in the table, the hypergrid
// with each of its rewards.
func TestEveryListedEnvironmentHasACase(t *testing.T) {
	known := map[string]bool{"diffusion": true, "plugin": true} // continuous, or another program's
	for _, c := range study.Cases() {
		known[c.Env] = true
		if reward, ok := c.Params["reward"].(string); ok {
			known[reward] = true
		}
	}
	for _, e := range registry.List() {
		if !known[e.Name] {
			t.Errorf("no case of %s", e.Name)
		}
	}
	for _, reward := range []string{hypergrid.Cosine, hypergrid.Sparse, hypergrid.Deceptive, hypergrid.Corner} {
		if !known[reward] {
			t.Errorf("no hypergrid with the %s reward", reward)
		}
	}
}

// TestTableOfOnesOwn takes the place of the words.
func TestTableOfOnesOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "words.csv")
	if err := os.WriteFile(file, []byte("sequence,value\nA,1\nC,2\nG,0.5\nT,3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	table, err := study.Gradients().Run(context.Background(), map[string]any{"networks": 1, "table": file, "env": "sequence"}, 7)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != len(losses.Table()) || table.Rows[0][1] != 4.0 || table.Values["worst_relative_error"] > 1e-5 {
		t.Errorf("%v, rows %v", table.Values, table.Rows)
	}
}
