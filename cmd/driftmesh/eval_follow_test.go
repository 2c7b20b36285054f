package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// TestEvalFollows: correlations over all objects are in rows, in the JSON of eval and on
// the screen, apart from those of a test set; what is not defined is null, and undefined.
func TestEvalFollows(t *testing.T) {
	dir := trainQuick(t)
	rows, err := runs.ReadRows(dir)
	if err != nil {
		t.Fatal(err)
	}
	last := rows[len(rows)-1]
	if last.ExactPearson == nil || last.ExactSpearman == nil || last.TestPearson != nil {
		t.Fatalf("%+v", last)
	}
	exact := decode(t, ok(t, "eval", dir, "--json", "--samples", "64"))["exact"].(map[string]any)
	c := exact["correlation"].(map[string]any)
	if !near(c["pearson"], float64(*last.ExactPearson)) || !near(c["spearman"], float64(*last.ExactSpearman)) || c["objects"] != exact["objects"] || c["undefined"] != nil {
		t.Errorf("%v, and the last row has %v and %v", c, *last.ExactPearson, *last.ExactSpearman)
	}
	if out := ok(t, "eval", dir, "--samples", "64"); !strings.Contains(out, "follows Spearman 0.") || !strings.Contains(out, "(exact, all ") || strings.Contains(out, "\n  test ") {
		t.Errorf("%s", out)
	}

	// The bits of an Ising model without bonds are all worth the same.
	root := t.TempDir()
	path := filepath.Join(root, "flat.yaml")
	write(t, path, "name: flat\nenv: {name: ising, params: {l1: 3, l2: 3, sigma: 0, order: left}}\npolicy: {hidden: [8]}\ntrain: {batch: 8, updates: 5}\neval: {every: 5}\n")
	ok(t, "train", path, "--runs", root, "--plain")
	dir = filepath.Join(root, "flat")
	if text := read(t, dir, runs.MetricsFile); !strings.Contains(text, `"exact_pearson":null,"exact_spearman":null`) {
		t.Errorf("%s", text)
	}
	c = decode(t, ok(t, "eval", dir, "--json", "--samples", "64"))["exact"].(map[string]any)["correlation"].(map[string]any)
	if v, has := c["spearman"]; !has || v != nil || c["undefined"] != "all objects have the same reward" {
		t.Errorf("%v", c)
	}
	if out := ok(t, "eval", dir, "--samples", "64"); !strings.Contains(out, "Spearman undefined, Pearson undefined") || !strings.Contains(out, "same reward") {
		t.Errorf("%s", out)
	}
}
