package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/experiment"
)

func TestReadPeer(t *testing.T) {
	r, err := readPeer("ising-0.1", 3, []byte("noise\n"+`{"seconds": 1.5, "log_z": 26.5, "ess": 0.25, "samples": 20000, "settings": {"lr": 0.001}, "versions": {"gfnx": "0.0.1"}}`+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if r.Measured["eval_log_z"] != 26.5 || r.Measured["eval_ess"] != 0.25 || r.Versions["gfnx"] != "0.0.1" || r.Settings["lr"] != 0.001 {
		t.Errorf("%+v", r)
	}
	if _, ok := r.Measured["seconds"]; ok {
		t.Error("time is not quality")
	}
	if _, err := readPeer("grid", 0, []byte("Traceback")); err == nil {
		t.Error("no JSON is taken for a result")
	}
}

func TestComparison(t *testing.T) {
	grid := tasks[0]
	tv := func(v float64) map[string]float64 { return map[string]float64{"tv": v} }
	ours := &outcome{
		choosing: results{"grid": {
			tb:          {0: tv(0.020), 1: tv(0.021), 2: tv(0.019)},
			"alpha:0.5": {0: tv(0.010), 1: tv(0.012), 2: tv(0.011)},
			"huber:1":   {0: tv(0.030), 1: tv(0.030), 2: tv(0.030)},
		}},
		tested: results{"grid": {
			tb:          {3: tv(0.020), 4: tv(0.022), 5: tv(0.021)},
			"alpha:0.5": {3: tv(0.011), 4: tv(0.012), 5: tv(0.011)},
		}},
		best: map[string]string{},
	}
	if got := ours.choosing.best(grid); got != "alpha:0.5" {
		t.Fatalf("best is %s", got)
	}
	bitseq := tasks[len(tasks)-1]
	higher := results{"bitseq": {"a": {0: {"test_spearman": 0.5}}, "b": {0: {"test_spearman": 0.7}}}}
	if got := higher.best(bitseq); got != "b" {
		t.Errorf("best correlation: %s", got)
	}
	ours.best["grid"] = "alpha:0.5"
	var peers []peerRun
	for seed, v := range []float64{0.025, 0.026, 0.024, 0.025, 0.026} {
		peers = append(peers, peerRun{Task: "grid", Seed: uint64(seed), Measured: tv(v)})
	}
	r := compareTask(grid, ours, peers)
	if r.BesideGfnx.Diff.N != 5 || r.BesideGfnx.Verdict != "better" || r.BesideTB.Diff.N != 3 || r.BesideTB.Verdict != "better" {
		t.Errorf("%+v", r)
	}
	if math.Abs(r.Tested.Mean-0.034/3) > 1e-12 || math.Abs(r.Chosen.Mean-0.011) > 1e-12 {
		t.Errorf("means %v and %v", r.Tested.Mean, r.Chosen.Mean)
	}
}

// TestDivergedRunsCount: a member is not praised for the seeds in which it did not
// diverge, neither when it is chosen nor when it is tested.
func TestDivergedRunsCount(t *testing.T) {
	dir := t.TempDir()
	text := `{"plan": {"study": "quality", "set": "choose"}, "records": [
		{"part": "grid", "seed": 0, "status": "finished", "at": [{"axis": "loss.divergence", "text": "alpha:2"}], "values": {"tv": 0.001}},
		{"part": "grid", "seed": 1, "status": "diverged", "at": [{"axis": "loss.divergence", "text": "alpha:2"}]},
		{"part": "grid", "seed": 0, "status": "finished", "at": [{"axis": "loss.divergence", "text": "huber:1"}], "values": {"tv": 0.02}},
		{"part": "grid", "seed": 1, "status": "finished", "at": [{"axis": "loss.divergence", "text": "huber:1"}], "values": {"tv": 0.02}},
		{"part": "ising-0.1", "seed": 0, "status": "finished", "at": [{"axis": "loss.divergence", "text": "huber:1"}], "values": {"eval_log_z": 26}},
		{"part": "ising-0.1", "seed": 0, "status": "finished", "at": [{"axis": "loss.divergence", "text": "alpha:2"}], "values": {"eval_ess": 0}}]}`
	if err := os.WriteFile(filepath.Join(dir, experiment.ResultsFile+".json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := results{}
	if err := r.add(dir); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 2} {
		if got := r.best(tasks[at]); got != "huber:1" {
			t.Errorf("%s: best is %s", tasks[at].name, got)
		}
	}
	tv := func(v float64) map[string]float64 { return map[string]float64{"tv": v} }
	tested := results{"grid": {
		tb:        {3: tv(0.020), 4: tv(0.022), 5: tv(0.021), 6: tv(0.021)},
		"huber:1": {3: tv(0.011), 4: tv(0.012), 5: tv(0.011), 6: nil},
	}}
	got := compareTask(tasks[0], &outcome{tested: tested, best: map[string]string{"grid": "huber:1"}}, nil)
	if got.BesideTB.Diff.N != 3 || got.BesideTB.Verdict != experiment.Open || got.Tested.N != 3 {
		t.Errorf("%+v, tested %+v", got.BesideTB, got.Tested)
	}
}

func TestTasksAreNamed(t *testing.T) {
	if got, err := selected("ising-0.2,grid"); err != nil || len(got) != 2 || got[0].name != "ising-0.2" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := selected("isnig"); err == nil {
		t.Error("a task that there is none of")
	}
}

// TestPublishedRowsAreRead: those of the repository, which the command goes on from.
func TestPublishedRowsAreRead(t *testing.T) {
	rows, err := readRows(filepath.Join("results", resultsFile))
	if err != nil || len(rows) != len(tasks) {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// TestOneTaskKeepsTheOthers: the rows of tasks that are not asked for stay.
func TestOneTaskKeepsTheOthers(t *testing.T) {
	dir := t.TempDir()
	var peers []peerRun
	for _, task := range tasks {
		for seed, by := range []float64{0, 0.01, 0.02} {
			peers = append(peers, peerRun{Task: task.name, Seed: uint64(seed), Measured: map[string]float64{"tv": 0.5 + by, "test_spearman": 0.25 + by, "modes_found": by}})
		}
	}
	of := func(v float64) *outcome {
		seeds := map[uint64]map[string]float64{}
		for seed := range uint64(5) {
			seeds[seed] = map[string]float64{"tv": v, "test_spearman": v, "modes_found": 0}
		}
		r := results{}
		for _, task := range tasks {
			r[task.name] = map[string]map[uint64]map[string]float64{tb: seeds}
		}
		return &outcome{choosing: r, tested: r, best: map[string]string{"grid": tb, "bitseq": tb}}
	}
	if err := publish(dir, nil, tasks[:1], of(0.5), peers); err != nil {
		t.Fatal(err)
	}
	before, err := readRows(filepath.Join(dir, resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := publish(dir, before, tasks[len(tasks)-1:], of(0.25), peers); err != nil {
		t.Fatal(err)
	}
	rows, err := readRows(filepath.Join(dir, resultsFile))
	if err != nil || len(rows) != 2 || rows[0].Gfnx != before[0].Gfnx || !rows[0].Gfnx.Known() || rows[0].TB.Mean != 0.5 || rows[1].TB.Mean != 0.25 || rows[1].Also["modes_found"].TB.N != 3 {
		t.Errorf("%+v, %v", rows, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil || strings.Count(string(text), "\n") != 5 {
		t.Errorf("%v:\n%s", err, text)
	}
}
