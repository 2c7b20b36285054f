package main

import (
	"encoding/csv"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/runs"
)

const smallStudy = `name: small
base:
  name: cell
  env: {name: hypergrid, params: {dim: 2, height: 6, r0: 0.01, r1: 0.5, r2: 2.0}}
  policy: {hidden: [12]}
  optimiser: {learning_rate: 2e-3}
  train: {batch: 8, updates: 60}
  eval: {every: 20}
axes:
  loss.divergence: [reverse_kl, hellinger]
  train.lag: [0, 5]
seeds: 2
metrics: [tv, modes_held]
figures: [tv]
times:
  close: {when: tv <= 0.9, times: 2}
baseline: {loss.divergence: reverse_kl}
`

func studyFile(t *testing.T, text string) (path, root string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "study.yaml")
	write(t, path, text)
	return path, filepath.Join(dir, "runs")
}

// TestStudiesOfDistances: every exact distance and correlation is there for a study to
// name, without estimates.
func TestStudiesOfDistances(t *testing.T) {
	names := []string{"tv", "hellinger", "chi2", "chi2_reverse", "exact_pearson", "exact_spearman"}
	study, root := studyFile(t, strings.NewReplacer(
		"metrics: [tv, modes_held]", "metrics: ["+strings.Join(names, ", ")+"]", "  train.lag: [0, 5]\n", "", "seeds: 2", "seeds: 1",
	).Replace(smallStudy))
	ok(t, "experiment", "run", study, "--runs", root)
	table, err := csv.NewReader(strings.NewReader(read(t, root, "small", "all", "results.csv"))).ReadAll()
	if err != nil || len(table) != 3 {
		t.Fatal(table, err)
	}
	for _, name := range names {
		at := slices.Index(table[0], name)
		for _, row := range table[1:] {
			if at < 0 || row[at] == "" {
				t.Errorf("no %s in %v", name, row)
			}
		}
	}
}

// TestExperimentEndToEnd runs a small study, looks at everything that it
// leaves, and runs it again: nothing is trained twice and no byte changes.
func TestExperimentEndToEnd(t *testing.T) {
	study, root := studyFile(t, smallStudy)
	out := ok(t, "experiment", "run", study, "--runs", root)
	if !strings.Contains(out, "small, all: 8 runs done, 0 of them diverged") {
		t.Errorf("says\n%s", out)
	}
	set := filepath.Join(root, "small", "all")
	table := read(t, set, "results.csv")
	if lines := strings.Count(table, "\n"); lines != 9 {
		t.Errorf("%d lines in results.csv, want 9:\n%s", lines, table)
	}
	rows, err := parquet.ReadFile[struct {
		Cell string  `parquet:"cell"`
		Seed int64   `parquet:"seed"`
		Lag  int64   `parquet:"train.lag"`
		TV   float64 `parquet:"tv"`
	}](filepath.Join(set, "results.parquet"))
	if err != nil || len(rows) != 8 || rows[7].Seed != 1 || rows[7].Cell != "divergence=hellinger, lag=5" || !(rows[7].TV > 0) {
		t.Errorf("results.parquet: %v, %+v", err, rows)
	}
	page := read(t, set, "report.html")
	for _, want := range []string{"small, all", "<svg", "divergence=hellinger", "paired by seed", "the same exploration and the same budget"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if m := regexp.MustCompile(`(?:src|href)="(?:https?:)?//[^"]*"`).FindString(page); m != "" {
		t.Errorf("the report needs %s", m)
	}
	if _, err := os.Stat(filepath.Join(set, "plots", "small-01.png")); err != nil {
		t.Error(err)
	}

	// Every cell has the bits of `driftmesh train`.
	res, err := experiment.ReadResults(set)
	if err != nil {
		t.Fatal(err)
	}
	last := res.Records[len(res.Records)-1]
	cell := filepath.Join(root, "small", "cells", last.ID)
	trained := t.TempDir()
	ok(t, "train", filepath.Join(cell, runs.ConfigFile), "--runs", trained)
	if got, want := read(t, cell, runs.MetricsFile), read(t, trained, "cell", runs.MetricsFile); got != want {
		t.Errorf("the cell has other metrics than train:\n%s\nfrom\n%s", got, want)
	}

	for _, verb := range []string{"eval", "sample"} { // its checkpoint is gone
		if r := command(t, verb, cell); r.code != exitBadInput || !strings.Contains(r.stderr, "--keep-checkpoints") || strings.Contains(r.stderr, "yet") {
			t.Errorf("%s of a finished cell: %+v", verb, r)
		}
	}

	before := contents(t, filepath.Join(root, "small", "cells"))
	out = ok(t, "experiment", "run", study, "--runs", root)
	if !strings.Contains(out, "8 runs, 8 of them done before") {
		t.Errorf("the second time says\n%s", out)
	}
	for path, digest := range contents(t, filepath.Join(root, "small", "cells")) {
		if before[path] != digest {
			t.Errorf("%s changed", path)
		}
	}
	if got := read(t, set, "results.csv"); got != table {
		t.Errorf("another table:\n%s\nfrom\n%s", got, table)
	}

	var c struct {
		Cells []struct{ Pairs []map[string]any }
	}
	text := ok(t, "experiment", "compare", set+"@divergence=hellinger, lag=0", set+"@divergence=reverse_kl, lag=0", "--json")
	if err := json.Unmarshal([]byte(text), &c); err != nil || len(c.Cells) != 1 || len(c.Cells[0].Pairs) != 3 {
		t.Errorf("compare: %v, %s", err, text)
	}
	if r := command(t, "experiment", "compare", study, set); r.code != exitBadInput || !strings.Contains(r.stderr, "want a set's folder") {
		t.Errorf("compare of a file: %+v", r)
	}
	for cell, want := range map[string]string{
		"divergence=helinger, lag=0": `all: no cell "divergence=helinger, lag=0"; did you mean "divergence=hellinger, lag=0"?` + "\n",
		"nothing":                    `there are "divergence=reverse_kl, lag=0", "divergence=reverse_kl, lag=5", "divergence=hellinger, lag=0", "divergence=hellinger, lag=5"` + "\n",
	} {
		if r := command(t, "experiment", "compare", set+"@"+cell, set); r.code != exitBadInput || !strings.Contains(r.stderr, want) {
			t.Errorf("compare of an unknown cell: %+v", r)
		}
	}
	if text := ok(t, "experiment", "compare", set, set); !strings.Contains(text, "[0, 0]") {
		t.Errorf("a result beside itself:\n%s", text)
	}
}

// TestStudyOfData: a cell may learn from a file beside the study. A mesh's may not.
func TestStudyOfData(t *testing.T) {
	text := strings.Replace(smallStudy, "base:\n", "base:\n  data: {file: cells.txt, share: 0.5}\n", 1)
	study, root := studyFile(t, strings.Replace(text, "seeds: 2", "seeds: 1", 1))
	write(t, filepath.Join(filepath.Dir(study), "cells.txt"), "(0,0)\n(5,5)\n")
	if out := ok(t, "experiment", "run", study, "--runs", root); !strings.Contains(out, "4 runs done, 0 of them diverged") {
		t.Errorf("says\n%s", out)
	}
	write(t, filepath.Join(filepath.Dir(study), "cells.txt"), "(0,0)\n(5,4)\n")
	if r := command(t, "experiment", "run", study, "--runs", root); r.code != exitBadInput || !strings.Contains(r.stderr, "the study has changed: 4 runs are new") {
		t.Errorf("other data: exit %d: %s", r.code, r.stderr)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(study), "cells.txt")); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "experiment", "run", study, "--runs", root); r.code != exitBadInput || !strings.Contains(r.stderr, "data.file: ") {
		t.Errorf("no data: exit %d: %s", r.code, r.stderr)
	}
	text = strings.Replace(text, "[0, 5]", "[0]", 1)
	write(t, study, strings.Replace(text, "name: small", "name: "+strings.Repeat("s", 48), 1))
	if r := command(t, "experiment", "run", study, "--runs", root, "--server", "127.0.0.1:1"); r.code != exitBadInput || !strings.Contains(r.stderr, "at most 47 characters on a mesh") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	write(t, study, text)
	r := command(t, "experiment", "run", study, "--runs", root, "--server", "127.0.0.1:1")
	if r.code != exitBadInput || !strings.Contains(r.stderr, "no data file in a mesh") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// TestChangedStudy is refused until it is told to go on, and then only what is
// new is run.
func TestChangedStudy(t *testing.T) {
	study, root := studyFile(t, smallStudy)
	ok(t, "experiment", "run", study, "--runs", root)
	write(t, study, strings.Replace(smallStudy, "[0, 5]", "[0, 7]", 1))
	r := command(t, "experiment", "run", study, "--runs", root)
	if r.code != exitBadInput || !strings.Contains(r.stderr, "the study has changed: 4 runs are new, 4 are no longer in it, 4 stay") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	out := ok(t, "experiment", "run", study, "--runs", root, "--continue")
	if !strings.Contains(out, "8 runs, 4 of them done before") {
		t.Errorf("says\n%s", out)
	}
	// What is only reported otherwise is no change.
	write(t, study, strings.Replace(strings.Replace(smallStudy, "[0, 5]", "[0, 7]", 1), "figures: [tv]", "figures: [modes_held]", 1))
	if out := ok(t, "experiment", "run", study, "--runs", root); !strings.Contains(out, "8 of them done before") {
		t.Errorf("says\n%s", out)
	}
}

// TestDivergedCellsArePublished: numbers that stop being finite are a result.
func TestDivergedCellsArePublished(t *testing.T) {
	study, root := studyFile(t, strings.NewReplacer(
		"loss.divergence: [reverse_kl, hellinger]", "optimiser.learning_rate: [1e-3, 1000]",
		"baseline: {loss.divergence: reverse_kl}", "baseline: {optimiser.learning_rate: 1e-3}",
		"learning_rate: 2e-3", "kind: sgd", "[0, 5]", "[5]",
	).Replace(smallStudy))
	out := ok(t, "experiment", "run", study, "--runs", root)
	if !strings.Contains(out, "4 runs done, 2 of them diverged") {
		t.Fatalf("says\n%s", out)
	}
	if page := read(t, root, "small", "all", "report.html"); !strings.Contains(page, "2 diverged") || !strings.Contains(page, "diverged 2 : 0") {
		t.Error("the report does not say so")
	}
	if out := ok(t, "experiment", "run", study, "--runs", root); !strings.Contains(out, "4 of them done before") {
		t.Errorf("a diverged run is run again:\n%s", out)
	}
}

// TestKilledExperimentResumes: a study that is interrupted, then killed, and
// then left alone gives the bytes of one that was never disturbed.
func TestKilledExperimentResumes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	text := strings.NewReplacer("updates: 60", "updates: 3000", "every: 20", "every: 100", "seeds: 2", "seeds: 1").Replace(smallStudy)
	study, root := studyFile(t, text)
	undisturbed := filepath.Join(t.TempDir(), "runs")
	args := []string{"experiment", "run", study, "--parallel", "2", "--runs"}
	ok(t, append(args, undisturbed)...)

	begun := func() bool { // both kinds of cells are on their way
		found, _ := filepath.Glob(filepath.Join(root, "small", "cells", "*", runs.MetricsFile))
		n := 0
		for _, path := range found {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), "cell.json")); err == nil {
				continue
			}
			if data, err := os.ReadFile(path); err == nil && len(data) > 0 {
				n++
			}
		}
		return n >= 2
	}
	p := start(t, append(args, root)...)
	p.until(t, "two cells have begun", begun)
	p.interrupt(t)
	if code := p.wait(t); code != exitInterrupted || !strings.Contains(p.stdout.String(), "the same command goes on") {
		t.Fatalf("exit %d\n%s%s", code, p.stdout.String(), p.stderr.String())
	}
	kept, err := filepath.Glob(filepath.Join(root, "small", "cells", "*", runs.CheckpointDir))
	if err != nil || len(kept) == 0 {
		t.Errorf("no checkpoint was kept: %v", err)
	}
	p = start(t, append(args, root)...)
	p.until(t, "it has begun", func() bool { return strings.Contains(p.stdout.String(), "at once") })
	if r := command(t, append(args, root)...); r.code != exitBadInput || !strings.Contains(r.stderr, "in use") {
		t.Errorf("a second process: exit %d, %s", r.code, r.stderr)
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	ok(t, append(args, root)...)
	for _, name := range []string{"results.csv", "results.parquet", "results.json", "curves.csv", "curves.parquet"} {
		if read(t, root, "small", "all", name) != read(t, undisturbed, "small", "all", name) {
			t.Errorf("%s differs from that of the undisturbed study", name)
		}
	}
}

func TestBadStudiesAreRefused(t *testing.T) {
	study, root := studyFile(t, strings.Replace(smallStudy, "hellinger]", "helinger]", 1))
	r := command(t, "experiment", "run", study, "--runs", root)
	if r.code != exitBadInput || !strings.Contains(r.stderr, study+`:10:33: loss.divergence: got "helinger"`) {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if _, err := os.Stat(root); err == nil {
		t.Error("a folder was made")
	}
	for _, args := range [][]string{
		{"run", study, "--use", "quick"}, {"run", "no-such.yaml"}, {"compare", root, root}, {"report", study}, {"run", study, "--parallel", "-1"},
	} {
		if r := command(t, append([]string{"experiment"}, args...)...); r.code != exitBadInput || r.stderr == "" {
			t.Errorf("experiment %q: exit %d: %s", args, r.code, r.stderr)
		}
	}
}

func TestStudiesHaveASchema(t *testing.T) {
	if !json.Valid([]byte(ok(t, "experiment", "schema"))) {
		t.Error("no JSON")
	}
}

// TestPaperStudies expands every set of the studies in examples/paper, and runs
// the set called test: every kind of part, to its report.
func TestPaperStudies(t *testing.T) {
	paths, err := filepath.Glob("../../examples/paper/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no studies: %v", err)
	}
	for _, path := range paths {
		study, err := experiment.Load(path)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, set := range study.Sets() {
			if _, err := study.Plan(set, experiment.Checks{Job: checkJob, Computations: experimentComputations()}); err != nil {
				t.Errorf("%s, %s: %v", path, set, err)
			}
		}
		if testing.Short() {
			continue
		}
		root := t.TempDir()
		out := ok(t, "experiment", "run", path, "--use", "test", "--runs", root)
		if _, err := os.Stat(filepath.Join(root, study.Name, "test", "report.html")); err != nil || !strings.Contains(out, "0 of them diverged") {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
}

// TestStudyOnAMesh runs cells as jobs of a cluster, and runs none of them twice.
func TestStudyOnAMesh(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	data := t.TempDir()
	_, addr := startServer(t, "--data", filepath.Join(data, "server"), "--init")
	start(t, "worker", "--data", filepath.Join(data, "worker"), "--join", addr)
	study, root := studyFile(t, strings.NewReplacer("[0, 5]", "[0]", "seeds: 2", "seeds: 1").Replace(smallStudy))
	args := []string{"experiment", "run", study, "--runs", root, "--server", addr}
	out := ok(t, args...)
	if !strings.Contains(out, "2 runs done, 0 of them diverged") {
		t.Errorf("says\n%s", out)
	}
	if table := read(t, root, "small", "all", "results.csv"); strings.Count(table, ",finished,0,60,480,0.") != 2 {
		t.Errorf("results\n%s", table)
	}
	if out := ok(t, args...); !strings.Contains(out, "2 of them done before") {
		t.Errorf("says\n%s", out)
	}
	write(t, study, smallStudy)
	if r := command(t, args...); r.code != exitBadInput || !strings.Contains(r.stderr, "study.yaml:11:18: train.lag: got 5; want 0 on a mesh") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// TestFilesOfAStudy: a path is taken from the folder of the file that it is written in.
func TestFilesOfAStudy(t *testing.T) {
	study, root := studyFile(t, strings.NewReplacer(
		"base:\n", "base: jobs/base.yaml\nwith: {env.params.modes_file: more.txt}\nunused:\n", "seeds: 2", "seeds: 1",
	).Replace(smallStudy))
	text := read(t, filepath.Dir(study), "study.yaml")
	from, to := strings.Index(text, "unused:"), strings.Index(text, "axes:")
	base := "env: {name: bitseq, params: {n: 8, k: 4, modes_file: modes.txt}}\npolicy: {hidden: [12]}\ntrain: {batch: 8, updates: 20}\neval: {every: 10}\n"
	write(t, study, text[:from]+text[to:])
	if err := os.Mkdir(filepath.Join(filepath.Dir(study), "jobs"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(filepath.Dir(study), "jobs/base.yaml"), base)
	write(t, filepath.Join(filepath.Dir(study), "more.txt"), "00000000\n11110000\n")
	if out := ok(t, "experiment", "run", study, "--runs", root); !strings.Contains(out, "4 runs done") {
		t.Errorf("says\n%s", out)
	}
	modes := filepath.Join(filepath.Dir(study), "more.txt")
	write(t, modes, "00000000\n11111111\n")
	if r := command(t, "experiment", "run", study, "--runs", root); r.code != exitBadInput || !strings.Contains(r.stderr, "the study has changed: 4 runs are new") {
		t.Errorf("other modes: exit %d: %s", r.code, r.stderr)
	}
	if err := os.Rename(modes, filepath.Join(filepath.Dir(study), "moved.txt")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(filepath.Dir(study), "moved.txt"), "00000000\n11110000\n")
	write(t, study, strings.Replace(text[:from]+text[to:], "more.txt", "moved.txt", 1))
	if out := ok(t, "experiment", "run", study, "--runs", root); !strings.Contains(out, "4 of them done before") {
		t.Errorf("the same file elsewhere:\n%s", out)
	}
	write(t, study, strings.Replace(text[:from]+text[to:], "with: {env.params.modes_file: more.txt}\n", "", 1))
	if r := command(t, "experiment", "run", study, "--runs", root); r.code != exitBadInput || !strings.Contains(r.stderr, "jobs/modes.txt: no such file") || !strings.Contains(r.stderr, "jobs/base.yaml:1") {
		t.Errorf("%+v", r)
	}
}

// TestSharedRunsCountOnce: what two parts have in common is one run, from the first
// line to the last.
func TestSharedRunsCountOnce(t *testing.T) {
	text := smallStudy[:strings.Index(smallStudy, "axes:")] + "seeds: 2\nmetrics: [tv]\nparts:\n" +
		"  one: {axes: {loss.divergence: [reverse_kl, hellinger]}}\n  two: {axes: {loss.divergence: [hellinger, \"alpha:0.5\"]}}\n"
	study, root := studyFile(t, text)
	out := ok(t, "experiment", "run", study, "--runs", root)
	for _, want := range []string{"small, all: 6 runs for 8 results, for cells that are alike share theirs;", "6 of 6", "small, all: 6 runs done, 0 of them diverged"} {
		if !strings.Contains(out, want) {
			t.Errorf("does not say %q:\n%s", want, out)
		}
	}
	if out := ok(t, "experiment", "list", study, "--runs", root); !strings.Contains(out, "6 of 6 runs done") {
		t.Errorf("list says\n%s", out)
	}
}
