package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// TestAnotherRunGoesBeside: another seed or setting never touches a run that is
// there, and each command finds its own run again.
func TestAnotherRunGoesBeside(t *testing.T) {
	root := t.TempDir()
	job := []string{"train", quickJob, "--runs", root, "--set", "name=q", "--set", "train.updates=10", "--set", "policy.hidden=[8]"}
	train := func(extra ...string) string { return ok(t, append(append([]string(nil), job...), extra...)...) }

	train()
	first := contents(t, filepath.Join(root, "q"))
	out := train("--set", "seed=9")
	if want := "q holds another run (seed is 1 there, 9 here); this run goes to " + filepath.Join(root, "q-2"); !strings.Contains(out, want) {
		t.Errorf("got %q, want it to say %q", out, want)
	}
	if out := train("--set", "policy.hidden=[16]"); !strings.Contains(out, filepath.Join(root, "q-3")) {
		t.Errorf("a third run: %q", out)
	}
	if out := train("--set", "seed=9"); !strings.Contains(out, "was finished already, at version 10") || !strings.Contains(out, filepath.Join(root, "q-2", runs.ReportFile)) {
		t.Errorf("the second run is not found again: %q", out)
	}
	for path, digest := range contents(t, filepath.Join(root, "q")) {
		if first[path] != digest {
			t.Errorf("%s of the first run has changed", path)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 3 {
		t.Errorf("%d folders, want 3 (%v)", len(entries), err)
	}

	// train and up do not take over each other's runs.
	if err := os.Mkdir(filepath.Join(root, "q", meshDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if out := train(); !strings.Contains(out, "holds a run of driftmesh up") || !strings.Contains(out, filepath.Join(root, "q-4")) {
		t.Errorf("train beside a mesh: %q", out)
	}
	if out := train("--fresh"); strings.Contains(out, "goes to") {
		t.Errorf("--fresh goes elsewhere: %q", out)
	}
}
