package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/losses"
)

func TestObjectivesList(t *testing.T) {
	text := ok(t, "objectives", "list")
	var list []losses.ObjectiveInfo
	if err := json.Unmarshal([]byte(ok(t, "objectives", "list", "--json")), &list); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/OBJECTIVES.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{job.TB, job.SubTB, job.DB, job.FLDB, job.FM, job.ML} {
		if !strings.Contains("\n"+text, "\n"+name+"\n") || !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("%s is not listed, or not in docs/OBJECTIVES.md", name)
		}
	}
	if len(list) != 6 {
		t.Errorf("%d objectives", len(list))
	}
}

// TestExamplesOfObjectivesTrain: each learns its grid, from the command line.
func TestExamplesOfObjectivesTrain(t *testing.T) {
	for _, name := range []string{"objective-subtb", "objective-db", "objective-fl-db", "objective-fm", "objective-ml", "data"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runs := t.TempDir()
			out := ok(t, "train", "../../examples/"+name+".yaml", "--runs", runs, "--plain",
				"--set", "train.updates=40", "--set", "eval.every=20")
			if !strings.Contains(out, "finished after 40 updates") || !strings.Contains(out, "(exact)") {
				t.Errorf("printed\n%s", out)
			}
			again := ok(t, "train", "../../examples/"+name+".yaml", "--runs", runs, "--plain", "--set", "train.updates=60", "--set", "eval.every=20")
			if !strings.Contains(again, "resuming at version 40") {
				t.Errorf("the second time it printed\n%s", again)
			}
			text := ok(t, "eval", filepath.Join(runs, name), "--samples", "64") // needs no data file
			if learns := name != "objective-ml"; strings.Contains(text, "learned") != learns {
				t.Errorf("a learned log Z: want %v in\n%s", learns, text)
			}
		})
	}
}

// TestBadDataEndsBeforeAnythingBegins, and a mesh takes none.
func TestBadDataEndsBeforeAnythingBegins(t *testing.T) {
	dir := t.TempDir()
	spec := "env: {name: hypergrid, params: {dim: 2, height: 4}}\npolicy: {backward: uniform}\nloss: {objective: ml}\ndata: {file: objects.csv, share: 1}\n"
	path := filepath.Join(dir, "offline.yaml")
	write(t, path, spec)
	runs := filepath.Join(dir, "runs")
	refused := func(says string, args ...string) {
		t.Helper()
		r := command(t, append(args, path, "--runs", runs)...)
		if r.code != exitBadInput || !strings.Contains(r.stderr, says) {
			t.Errorf("%v: exit code %d, %s", args, r.code, r.stderr)
		}
		if _, err := os.Stat(runs); err == nil {
			t.Errorf("%v: there is a run folder", args)
		}
	}
	refused("objects.csv: no such file", "train")
	write(t, filepath.Join(dir, "objects.csv"), "object\n\"(1,2)\"\n\"(1,7)\"\n")
	refused(`objects.csv:3: object: got "(1,7)"; want an object of the environment`, "train")
	refused("driftmesh train reads it", "up")
}
