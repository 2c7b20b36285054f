package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
)

// TestMain lets the test binary be the processes of a measurement.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && commands[os.Args[1]] != nil {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// TestCommitsBesideBareRaft runs the processes of one and of three voters for a moment.
func TestCommitsBesideBareRaft(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, voters := range []int{1, 3} {
		b := &bench{dir: t.TempDir(), params: 5000, rounds: 1, slice: 100 * time.Millisecond}
		c, err := b.commits(ctx, voters)
		if err != nil {
			t.Fatal(err)
		}
		if c.Voters != voters || c.Entry < 12*b.params || c.Entry > 12*b.params+200 || c.Ours.Rate <= 0 || c.Bare.Rate <= 0 || len(c.Ratios) != 1 {
			t.Errorf("%+v", c)
		}
	}
}

// TestWindowsOfALearner trains a job with commits and without for a moment.
func TestWindowsOfALearner(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := &bench{dir: t.TempDir(), job: "../../examples/hypergrid-2d.yaml", batch: 8, rounds: 1, slice: 400 * time.Millisecond}
	w, err := b.windows(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if w.Alone.Rate <= 0 || w.Alone.Commits != 0 || w.Commits.Rate <= 0 || w.Commits.Commits <= 0 || w.Commits.Window < 40 || w.Commits.Took <= 0 {
		t.Errorf("%+v", w)
	}
}

func TestPeers(t *testing.T) {
	got, err := parsePeers("a=127.0.0.1:1,b=127.0.0.1:2")
	if err != nil || len(got) != 2 || got[1] != (peer{"b", "127.0.0.1:2"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := parsePeers(""); err != nil || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"a", "=x", "a="} {
		if _, err := parsePeers(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestParentOf(t *testing.T) {
	pid, parent, ok := parentOf("42 (a) b (c) S 7 42 42 0")
	if pid != 42 || parent != 7 || !ok {
		t.Error(pid, parent, ok)
	}
	for _, bad := range []string{"", "42", "42 (x", "42 (x) S", "(x) 4 5"} {
		if _, _, ok := parentOf(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	workers, others, err := family(os.Getppid())
	if err != nil || len(workers) != 0 || len(others) < 2 {
		t.Errorf("%v, %v, %v: this process is missing", workers, others, err)
	}
}

// TestCourseReadsARunFolder: rate and lag of its last two thirds, whatever the end of
// the files looks like.
func TestCourseReadsARunFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("metrics.jsonl", `{"version":10,"trajectories":10,"lag":{"median":0}}
{"version":20,"trajectories":100,"lag":{"median":3}}
{"version":30,"trajectories":300,"lag":{"median":5}}
{"version":40,"trajectories":700,"lag":{"median":7}}
{"version":50,"traj`)
	write("timings.jsonl", `{"version":10,"seconds":1}
{"version":20,"seconds":4}
{"version":30,"seconds":6}
{"version":40,"seconds":10}
`)
	var c course
	if err := c.read(dir); err != nil || c.Rate != 100 || c.Lag != 5 {
		t.Errorf("%+v, %v", c, err)
	}
	write("timings.jsonl", "")
	if err := c.read(dir); err == nil {
		t.Error("a run without times has a rate")
	}
}

func TestTableSaysWhatWasMissed(t *testing.T) {
	r := &results{
		Ingest:      []ingest{{Streams: 8, Rate: 1e6, Intake: 400, Samplers: 600}},
		Publication: []publication{{4, &parts.Ages{Rate: 9, P50: 5, P95: 7, Transport: []float64{1, 2}, Copies: 4, NetCPU: 3}}},
		Commits:     []*commits{{Voters: 3, Entry: 852_000, Ratio: 0.91, Ratios: []float64{0.9, 0.91, 0.95}}, {Voters: 1, Ratio: 0.7, Ratios: []float64{0.7}}},
		Windows:     []*windows{{Voters: 1, Cost: 0.04, Kept: []float64{0.96}}, {Voters: 3, Cost: 0.04, Kept: []float64{0.95, 0.96}}},
		Compute:     &compute{Batch: 64, Up: []course{{Command: "driftmesh up"}}, Kept: 0.93, KeptOn: 0.8},
	}
	text := r.table()
	for _, want := range []string{
		"| 8 | no | 1000000 | 400.0 | 600.0 |", "| 4 | 9.00 | 5.00 / 7.00 | 1.00 / 2.00 | 4.00 | 3.00 |",
		"0.91 (0.90 – 0.95) | ≥ 0.90, met", "0.70 (0.70 – 0.70) | ≥ 0.90, missed",
		"4.0 % (4.0 – 4.0) | ≤ 3 %, missed", "4.0 % (4.0 – 5.0) | ≤ 10 %, met", "at 93 % of `train` at equal lag (target ≥ 90 %, met)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
	if text := (&results{}).table(); strings.Contains(text, "|") {
		t.Errorf("a table of nothing:\n%s", text)
	}
}

func TestMiddle(t *testing.T) {
	got := middle([]stretch{{Rate: 1, CPU: 9}, {Rate: 5, CPU: 7}, {Rate: 3, CPU: 8}}, (*stretch).fields)
	if got.Rate != 3 || got.CPU != 8 || got.Window != 0 {
		t.Errorf("%+v", got)
	}
}

func TestFlags(t *testing.T) {
	for want, args := range map[string][]string{
		"-parts": {"-parts", "ingest,none"}, "-params": {"-params", "0"}, "make bench-mesh": {"-binary", "/nowhere"},
	} {
		args = append(args, "-binary", os.Args[0], "-job", "../../examples/hypergrid-2d.yaml", "-dir", t.TempDir(), "-out", t.TempDir())
		if want == "make bench-mesh" {
			args = append(args, "-binary", "/nowhere")
		}
		if err := runBench(t.Context(), args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
