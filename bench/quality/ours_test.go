package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/job"
)

// TestTheCopyPlans: the copy of the study that is run elsewhere finds the files that
// the study names beside itself.
func TestTheCopyPlans(t *testing.T) {
	text, err := os.ReadFile("quality.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	s, err := experiment.Parse(filepath.Join(t.TempDir(), "quality-test.yaml"), []byte(atHome(string(text), folder)))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := s.Plan(testSet, experiment.Checks{Job: func(spec *job.Spec) error {
		_, err := registry.OfJob(spec)
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	last := plan.Parts[len(plan.Parts)-1].Cells[0].Spec
	if files := last.Files(); len(files) != 1 || files[0].Path != filepath.Join(folder, "modes.txt") {
		t.Errorf("%s: files %+v", last.Env.Name, files)
	}
}
