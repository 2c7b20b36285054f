package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/metrics"
)

var update = flag.Bool("update", false, "write testdata anew")

func requirePython(t *testing.T) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	if err := exec.Command(python, "-c", "pass").Run(); err != nil {
		t.Skip("python3 does not run")
	}
	return python
}

// TestPythonSideParses: it needs the peers to run, not to parse.
func TestPythonSideParses(t *testing.T) {
	python := requirePython(t)
	files, err := filepath.Glob("py/*.py")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		if out, err := exec.Command(python, "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", f).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}

// exactCase is a policy on a grid and what becomes of it, in C order of the cells.
type exactCase struct {
	Dim         int          `json:"dim"`
	Height      int          `json:"height"`
	LogProbs    [][]*float64 `json:"log_probs"` // null where an action is illegal
	Rewards     []float64    `json:"rewards"`
	Terminating []float64    `json:"terminating"`
	TV          float64      `json:"tv"`
}

// newExactCase evaluates a random policy with the evaluator of Driftmesh.
func newExactCase(t *testing.T, dim, height int) exactCase {
	c := hypergrid.Default()
	c.Dim, c.Height, c.R0 = dim, height, 0.1
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		t.Fatal(err)
	}
	n, actions := e.NumStates(), e.Spec().Actions
	r := rand.New(rand.NewPCG(uint64(dim), uint64(height)))
	s, mask := e.NewStates(1), make([]bool, actions)
	logPF := make([]float32, n*actions)
	cellOf := make([]int, n) // by state
	for state := range n {
		e.Load(s, 0, state)
		for _, f := range s.AppendFeatures(nil, 0) { // coordinate · height + value
			cellOf[state] += int(f) % height * int(math.Pow(float64(height), float64(dim-1-int(f)/height)))
		}
		s.ForwardMask(0, mask)
		sum := 0.0
		row := logPF[state*actions : (state+1)*actions]
		for a := range row {
			row[a] = float32(math.Inf(-1))
			if mask[a] {
				row[a] = float32(r.NormFloat64())
				sum += math.Exp(float64(row[a]))
			}
		}
		for a := range row {
			row[a] -= float32(math.Log(sum))
		}
	}
	policy := func(first int, out []float32) error { copy(out, logPF[first*actions:]); return nil }
	log, err := envs.Terminating(e, policy)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := metrics.Exact(env, policy)
	if err != nil {
		t.Fatal(err)
	}
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	out := exactCase{Dim: dim, Height: height, TV: rep.Distances.TV, LogProbs: make([][]*float64, n), Rewards: make([]float64, n), Terminating: make([]float64, n)}
	for state, cell := range cellOf {
		object, terminal := e.Child(state, dim)
		if !terminal {
			t.Fatalf("action %d of state %d does not stop", dim, state)
		}
		out.Rewards[cell], out.Terminating[cell] = math.Exp(logR[object]), math.Exp(log[object])
		for a := range actions {
			v := float64(logPF[state*actions+a])
			out.LogProbs[cell] = append(out.LogProbs[cell], &v)
			if math.IsInf(v, -1) {
				out.LogProbs[cell][a] = nil
			}
		}
	}
	return out
}

// TestExactFixture: the Python side is tested against what is written there.
func TestExactFixture(t *testing.T) {
	want := []exactCase{newExactCase(t, 2, 5), newExactCase(t, 3, 4)}
	path := filepath.Join("testdata", "exact.json")
	if *update {
		data, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []exactCase
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for i, c := range want {
		if math.Abs(got[i].TV-c.TV) > 1e-12 || !slices.EqualFunc(got[i].Terminating, c.Terminating, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
			t.Errorf("%d-D height %d: TV %v, the fixture has %v", c.Dim, c.Height, c.TV, got[i].TV)
		}
	}
	python := requirePython(t)
	if out, err := exec.Command(python, "-B", "-m", "unittest", "discover", "-s", "py").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// fixed is an entry with these times, two rounds.
func fixed(cell string, batch, after int, variant string, a, b, c [2]float64) *entry {
	side := func(ms [2]float64) *series {
		return &series{MS: ms[:], Lengths: []float64{5, 5}, Counts: []int{3, 3}, First: []float64{1, 1}, Elsewhere: []float64{0, 0.5}, States: []float64{40, 40}}
	}
	return &entry{
		Cell: cell, Grid: standard(2, 8), Batch: batch, Threads: 2, After: after, Variant: variant,
		Sides: map[library]*series{ours: side(a), torchgfn: side(b), gfnx: side(c)},
	}
}

// TestRatiosAreToTheFasterPeer of the same round.
func TestRatiosAreToTheFasterPeer(t *testing.T) {
	e := fixed("x", 16, 0, plainTB, [2]float64{1, 2}, [2]float64{10, 60}, [2]float64{20, 40})
	if r := e.ratios(); !slices.Equal(r, []float64{10, 20}) {
		t.Errorf("%v", r)
	}
	delete(e.Sides, torchgfn)
	delete(e.Sides, gfnx)
	if r := e.ratios(); len(r) != 0 {
		t.Errorf("without peers: %v", r)
	}
	if g := geomean([]float64{2, 8}); math.Abs(g-4) > 1e-12 || !math.IsNaN(geomean(nil)) {
		t.Errorf("geometric mean %v", g)
	}
}

func TestTableAndFigures(t *testing.T) {
	tv := 0.25
	r := &results{
		Equal: &checks{header{Complete: true}, []check{{standard(2, 8), map[library]answer{
			ours: {Parameters: 7, TV: &tv, Cells: map[string]int{"0.1": 60, "2.6": 4}}, torchgfn: {Parameters: 7, TV: &tv, Cells: map[string]int{"0.1": 61, "2.6": 3}}, gfnx: {Parameters: 7, TV: &tv, Cells: map[string]int{"0.1": 60, "2.6": 4}},
		}}}},
		Updates: &times{header{Rounds: 2}, []*entry{
			fixed("2d-h8-b16", 16, 0, plainTB, [2]float64{1, 1}, [2]float64{10, 10}, [2]float64{20, 20}),
			fixed("2d-h8-b32", 32, 0, plainTB, [2]float64{1, 1}, [2]float64{90, 90}, [2]float64{40, 40}),
			fixed("2d-h8-b16", 16, 0, uniformPB, [2]float64{0.5, 0.5}, [2]float64{9, 9}, [2]float64{20, 20}),
		}},
		Sampling: &times{header{Complete: true}, []*entry{fixed("2d-h8-b512", 512, 0, plainTB, [2]float64{1, 1}, [2]float64{30, 30}, [2]float64{20, 20})}},
		Quality: &races{header: header{Complete: true}, Limit: 60, Races: []*race{
			{ours, 0.1, []attempt{{setting{64, 1e-3}, 1, training{Reached: true, Seconds: 2, Updates: 100}}}},
			{gfnx, 0.1, []attempt{{setting{64, 1e-3}, 1, training{Seconds: 60, Updates: 900}}}},
		}},
		Start: &startups{header: header{Complete: true}, Sides: map[library]*startup{
			ours: {First: []float64{0.2}, PSS: []float64{50}, RSS: []float64{60}, Peak: []float64{60}}, gfnx: {First: []float64{9}, PSS: []float64{400}, RSS: []float64{60}, Peak: []float64{60}},
		}},
	}
	text := r.table()
	for _, want := range []string{
		"| 2d-h8 | 7 | 0.00000, 0.00000, 0.00000 | 0.25000, 0.25000, 0.25000 | torchgfn has other rewards in 1 cells |",
		"| 2d-h8-b16 | 1.00 | 10.0 | 20.0 | 10.0× (10.0 – 10.0) | 5.0, 5.0, 5.0 | 40.0 |",
		"| geometric mean | | | | 20.0× | | |",
		"geometric mean **20.0×**, least 10.0×.",
		"kept up to 0.50 cores busy",
		"**Interrupted: not all was measured.**",
		"| uniform_pb | 2d-h8-b16 | 0 | 2 | 0.500 | 1.00 | 0.50 | 1.00 | 9.00 | 20.0 | 18.0×",
		"| 2d-h8-b512 | 512000 | 17067 | 25600 | 20.0×",
		"| 0.1 | gfnx | 64 | 0.001 | > 60.0 | 900 | 60.0 | 30.0× |",
		"The smaller peer's memory is 8.0 times ours.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	figures := r.figures()
	if len(figures) != 1 {
		t.Fatalf("%d figures", len(figures))
	}
	for _, f := range figures {
		if _, err := plots.PNG(f); err != nil {
			t.Error(err)
		}
	}
}

func TestUnequalSidesAreFound(t *testing.T) {
	tv := func(v float64) *float64 { return &v }
	same := answer{Parameters: 7, LogZ: 3, TV: tv(0.1)}
	for want, other := range map[string]answer{
		"":           same,
		"parameters": {Parameters: 8, LogZ: 3, TV: tv(0.1)},
		"log Z":      {Parameters: 7, LogZ: 4, TV: tv(0.1)},
		"TV":         {Parameters: 7, LogZ: 3, TV: tv(0.2)},
		"one side":   {Parameters: 7, LogZ: 3},
	} {
		k := check{Sides: map[library]answer{ours: same, torchgfn: same, gfnx: other}}
		if err := k.agree(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", want, err)
		}
	}
}

// TestChecksOfOtherGridsStay: a run of one part does not unpublish what was checked for
// the others, unless the versions are other ones.
func TestChecksOfOtherGridsStay(t *testing.T) {
	of := func(version string, grids ...grid) *checks {
		c := &checks{header: header{Versions: map[string]string{"gfnx": version}}}
		for _, g := range grids {
			c.Checks = append(c.Checks, check{Grid: g, Sides: map[library]answer{ours: {Parameters: len(grids)}}})
		}
		return c
	}
	for want, old := range map[string]*checks{
		"2d-h8 3, 4d-h8 1, 4d-h16 3": of("1", standard(2, 8), standard(4, 8), standard(4, 16)),
		"4d-h8 1":                    of("2", standard(2, 8)),
	} {
		c := of("1", standard(4, 8))
		c.keep(old)
		c.keep(nil)
		var got []string
		for _, k := range c.Checks {
			got = append(got, fmt.Sprintf("%s %d", k.Grid, k.Sides[ours].Parameters))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s, want %s", text, want)
		}
	}
}

func TestCellsByName(t *testing.T) {
	for pattern, want := range map[string]int{"": 16, "4d-h16": 4, "b16": 4, "4d": 12, "2d-h8-b16,b512": 5, "4d-h16-b512": 1} {
		if got, err := cells(pattern); err != nil || len(got) != want {
			t.Errorf("%q: %d cells, %v; want %d", pattern, len(got), err, want)
		}
	}
	if _, err := cells("5d"); err == nil {
		t.Error("a pattern that picks nothing is no error")
	}
}

// TestOwnSideAnswers asks the process of Driftmesh, in one.
func TestOwnSideAnswers(t *testing.T) {
	var o *ownSide
	ask := func(r request) any {
		t.Helper()
		a, err := o.answer(&o, &r)
		if err != nil {
			t.Fatalf("%s: %v", r.Op, err)
		}
		return a
	}
	r := request{Op: "prepare", Grid: standard(2, 8), Batch: 16, Backward: "joint", Seed: 1, LearningRate: learnedRate, LogZRate: learnedZRate, Params: filepath.Join(t.TempDir(), "p.f32"), Updates: 3}
	ask(r)
	trainedParams := slices.Clone(o.updater.Params())
	r.Op, r.LearningRate, r.LogZRate, r.Seconds, r.Least = "update", held, held, 0.01, 3
	a := ask(r).(answer)
	if a.Count < 3 || a.MS <= 0 || a.Length < 1 || a.States < 2 {
		t.Errorf("%+v", a)
	}
	if !slices.EqualFunc(o.updater.Params(), trainedParams, func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-6 }) {
		t.Error("timing moved the parameters")
	}
	r.Op = "check"
	if a := ask(r).(answer); a.Parameters != 71430 || a.Cells["2.6"] != 4 || a.Cells["0.1"] != 48 || a.TV == nil || *a.TV < 0.3 {
		t.Errorf("%+v", a)
	}
	r.Op, r.LearningRate, r.LogZRate, r.Every, r.Target, r.InARow, r.Limit, r.Params = "quality", 3e-3, 0.1, 25, 0.5, 2, 60, ""
	q := ask(r).(training)
	if !q.Reached || len(q.TVs) < 2 || q.TVs[len(q.TVs)-1] > 0.5 || q.TVs[len(q.TVs)-2] > 0.5 || q.Updates != 25*(len(q.TVs)-1) || q.Seconds <= 0 {
		t.Errorf("%+v", q)
	}
	r.Loss, r.Op = forwardKL, "sample"
	if a := ask(r).(answer); a.Count < 3 || a.Length < 1 {
		t.Errorf("%+v", a)
	}
	r.Op = "fly"
	if _, err := o.answer(&o, &r); err == nil {
		t.Error("an unknown request is answered")
	}
}

// TestChildIsPinned: to one core, whatever this process may use.
func TestChildIsPinned(t *testing.T) {
	cmd := exec.Command("sh", "-c", "grep Cpus_allowed_list /proc/self/status; echo $GOMAXPROCS; read x; echo $x")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stdin = &out, strings.NewReader("done\n")
	if err := pinned(cmd, 1); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(out.String())
	if len(fields) != 4 || strings.ContainsAny(fields[1], ",-") || fields[2] != "1" || fields[3] != "done" {
		t.Errorf("%q", fields)
	}
	if err := pinned(exec.Command("true"), 1<<20); err == nil {
		t.Error("a million cores are had")
	}
}

func TestBusyElsewhere(t *testing.T) {
	before, after := cpuTimes{all: 1000, idle: 500}, cpuTimes{all: 1000 + ticks*10, idle: 500 + ticks*4}
	// Of 10 core-seconds 4 were idle and 3 ours: so 3 of 10 were another's.
	if got := elsewhere(before, after, 3*time.Second); math.Abs(got-0.3*float64(numCPU)) > 1e-9 {
		t.Errorf("%v cores", got)
	}
	if got := elsewhere(before, before, 0); got != 0 {
		t.Errorf("%v cores in no time", got)
	}
	if got := statusMiB([]byte("Name:\tx\nVmRSS:\t    2048 kB\n"), "VmRSS:"); got != 2 {
		t.Errorf("%v MiB", got)
	}
}

// TestFaultsOfFlags have exit code 2 and leave nothing behind.
func TestFaultsOfFlags(t *testing.T) {
	dir := t.TempDir()
	for _, args := range [][]string{{"-cells", "9d"}, {"-only", "all"}, {"-threads", "none"}, {"-rounds", "0"}, {"-nonsense"}} {
		full := append([]string{"compare", "-binary", os.Args[0], "-python", os.Args[0], "-scripts", "py", "-dir", dir + "/d", "-out", dir + "/o"}, args...)
		if code := run(full); code != 2 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
	if err := runOurs(canceled(t), nil); err == nil {
		t.Error("a process goes on after it was told to end")
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
