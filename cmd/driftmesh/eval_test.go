package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// near reports whether two numbers agree to rounding.
func near(got any, want float64) bool {
	x, isNumber := got.(float64)
	return isNumber && math.Abs(x-want) <= 1e-12*math.Max(1, math.Abs(want))
}

func TestEvalJSON(t *testing.T) {
	dir := trainQuick(t)
	e := decode(t, ok(t, "eval", dir, "--json", "--samples", "512"))
	keys(t, e, "name", "version", "trajectories", "exact", "log_z", "importance_log_z", "modes_found", "modes_total", "estimates")
	keys(t, e["importance_log_z"], "value", "std_err", "samples", "ess")
	exact, _ := e["exact"].(map[string]any)
	keys(t, exact["distances"], "tv", "l1", "forward_kl", "reverse_kl", "jsd", "hellinger", "chi2", "chi2_reverse")
	if e["name"] != "quick" || e["version"] != 300.0 || e["trajectories"] != 1200.0 || exact["objects"] != 16.0 {
		t.Errorf("got %v", e)
	}
	// The last row of training was computed from the same parameters.
	rows, err := runs.ReadRows(dir)
	if err != nil {
		t.Fatal(err)
	}
	last := rows[len(rows)-1]
	if distances := exact["distances"].(map[string]any); !near(distances["tv"], float64(*last.TV)) || !near(distances["forward_kl"], float64(*last.KL)) {
		t.Errorf("distances %v; the last row has TV %v and KL %v", distances, *last.TV, *last.KL)
	}
	if !near(e["log_z"], float64(last.LogZ)) || !near(exact["log_z"], float64(*last.LogZExact)) {
		t.Errorf("log Z %v and exact %v; the last row has %v and %v", e["log_z"], exact["log_z"], last.LogZ, *last.LogZExact)
	}
	is := e["importance_log_z"].(map[string]any)
	if is["samples"] != 512.0 || math.Abs(is["value"].(float64)-exact["log_z"].(float64)) > 6*is["std_err"].(float64) {
		t.Errorf("importance-sampled log Z %v, exact %v", is, exact["log_z"])
	}
	keys(t, e["estimates"], "samples", "elbo", "eubo", "log_z", "true_log_z", "top_k", "counted")
	text := ok(t, "eval", dir)
	for _, want := range []string{"quick at version 300", "TV", "log Z", "learned", "by importance sampling", "ELBO", "EUBO", "distinct samples"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if again := ok(t, "eval", dir+"/checkpoint", "--json", "--samples", "512"); !strings.Contains(again, `"version":300`) {
		t.Errorf("eval of the checkpoint folder: %s", again)
	}
}

// TestEvalWithoutLogZ: an objective or a normaliser that learns none reports none.
func TestEvalWithoutLogZ(t *testing.T) {
	root := t.TempDir()
	ok(t, "train", "../../examples/objective-ml.yaml", "--runs", root, "--set", "name=ml", "--set", "train.updates=5")
	for _, dir := range []string{filepath.Join(root, "ml"), trainQuick(t, "--set", "loss.normaliser=batch_mean", "--set", "train.updates=5")} {
		e := decode(t, ok(t, "eval", dir, "--json", "--samples", "64"))
		if z, has := e["log_z"]; has || e["exact"] == nil {
			t.Errorf("%s: log Z %v", e["name"], z)
		}
	}
}

// TestEstimatesInRows: rows of a job that asks have estimates, equal seeds equal
// ones; training does not notice; `eval` says of the last version what its row says.
func TestEstimatesInRows(t *testing.T) {
	ask := []string{"--set", "env.params.height=8", "--set", "eval.samples=600", "--set", "eval.top_k=5"}
	dir := trainQuick(t, ask...)
	text := read(t, dir, runs.MetricsFile)
	if again := read(t, trainQuick(t, ask...), runs.MetricsFile); again != text {
		t.Errorf("equal seeds give\n%s\nand\n%s", text, again)
	}
	with, err := runs.ReadRows(dir)
	if err != nil {
		t.Fatal(err)
	}
	without, err := runs.ReadRows(trainQuick(t, ask[:2]...))
	if err != nil {
		t.Fatal(err)
	}
	for i, row := range with {
		if row.EvalSamples != 600 || row.EvalELBO == nil || row.EvalEUBO == nil || row.EvalLogZ == nil || row.SampleTV == nil ||
			row.SampleModes == nil || row.TopKReward == nil || row.TestSpearman != nil {
			t.Errorf("row %d: %+v", i, row)
		}
		if row.Hellinger == nil || row.Chi2 == nil || row.Chi2Reverse == nil {
			t.Errorf("row %d lacks exact distances: %+v", i, row)
		}
		row.Estimates = runs.Estimates{}
		a, b := encode(t, row), encode(t, without[i])
		if a != b {
			t.Errorf("row %d is\n%s\nwithout estimates\n%s", i, a, b)
		}
	}
	e := decode(t, ok(t, "eval", dir, "--json", "--samples", "600", "--top-k", "5"))
	est := e["estimates"].(map[string]any)
	last := with[len(with)-1]
	if z := est["log_z"].(map[string]any); !near(z["value"], float64(*last.EvalLogZ)) || !near(est["top_k"].(map[string]any)["diversity"], float64(*last.TopKDiversity)) {
		t.Errorf("eval says %v, the last row %+v", est, last)
	}
	report := read(t, dir, runs.ReportFile)
	for _, want := range []string{"ELBO", "EUBO", "Best of the samples"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report does not say %s", want)
		}
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestSampleLines(t *testing.T) {
	dir := trainQuick(t)
	out := ok(t, "sample", dir, "-n", "1500")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 1500 {
		t.Fatalf("%d lines", len(lines))
	}
	object := regexp.MustCompile(`^\([0-3],[0-3]\)$`)
	for _, line := range lines {
		var s map[string]any
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if text, _ := s["object"].(string); !object.MatchString(text) {
			t.Fatalf("object %v", s["object"])
		}
		if pf, _ := s["log_pf"].(float64); pf > 0 || s["steps"].(float64) < 1 {
			t.Fatalf("line %s", line)
		}
	}
	keys(t, decode(t, lines[0]), "object", "log_reward", "log_pf", "steps")
	if head := ok(t, "sample", dir, "-n", "1100"); !strings.HasPrefix(out, head) {
		t.Error("fewer samples are not the first of more")
	}
	if other := ok(t, "sample", dir, "-n", "1500", "--seed", "7"); other == out {
		t.Error("another seed draws the same")
	}
}

// TestSamplingNeedsNoPrior: a tuned sampler is a sampler. To measure it needs the prior.
func TestSamplingNeedsNoPrior(t *testing.T) {
	root := t.TempDir()
	prior := filepath.Join(root, "diffusion-25")
	small := []string{"--runs", root, "--set", "train.updates=2", "--set", "policy.hidden=[8]", "--set", "eval.every=0"}
	ok(t, append([]string{"train", "../../examples/diffusion-25.yaml"}, small...)...)
	ok(t, append([]string{"train", "../../examples/prior-tuning.yaml", "--set", "loss.prior=" + prior}, small...)...)
	tuned := filepath.Join(root, "prior-tuning")
	before := ok(t, "sample", tuned, "-n", "5")
	if err := os.RemoveAll(prior); err != nil {
		t.Fatal(err)
	}
	if after := ok(t, "sample", tuned, "-n", "5"); after != before {
		t.Errorf("other objects:\n%s", after)
	}
	ok(t, "best", tuned)
	if r := command(t, "eval", tuned, "--samples", "8"); r.code != exitBadInput || !strings.Contains(r.stderr, "loss.prior") {
		t.Errorf("eval: %d, %s", r.code, r.stderr)
	}
}

// TestDescribeAndEvalAsDocumented runs the command lines that the
// documentation shows and checks their numbers.
func TestDescribeAndEvalAsDocumented(t *testing.T) {
	d := decode(t, ok(t, "envs", "describe", "hypergrid", "--set", "dim=3", "--set", "height=9", "--set", "r0=0.05", "--json"))
	keys(t, d, "name", "params", "cells", "max_steps", "log_z", "modes", "max_reward")
	z, largest := gridZ(3, 9, 0.05, 0.5, 2)
	if d["cells"] != 729.0 || d["max_steps"] != 25.0 || d["modes"] != 8.0 || !near(d["log_z"], math.Log(z)) || !near(d["max_reward"], largest) {
		t.Errorf("got %v; want log Z %v, largest reward %v", d, math.Log(z), largest)
	}

	e := decode(t, ok(t, "losses", "eval", "alpha:0.5", "--delta=-1.5,0,2", "--batch=0.1,-0.4,2", "--json"))
	keys(t, e, "name", "behaviour", "effective_alpha", "delta", "g", "g1", "g2", "c")
	for i, delta := range []float64{-1.5, 0, 2} {
		// alpha 0.5, b = 1/2: g = (e^(−bδ) − 1 + bδ)/b², g' = (1 − e^(−bδ))/b, g'' = e^(−bδ).
		decay := math.Exp(-delta / 2)
		for key, want := range map[string]float64{"g": 4 * (decay - 1 + delta/2), "g1": 2 * (1 - decay), "g2": decay} {
			if list, _ := e[key].([]any); len(list) != 3 || !near(list[i], want) {
				t.Errorf("%s at %v: %v, want %v", key, delta, e[key], want)
			}
		}
	}
	if c := 2 * math.Log((math.Exp(-0.05)+math.Exp(0.2)+math.Exp(-1))/3); !near(e["c"], c) {
		t.Errorf("c = %v, want %v", e["c"], c)
	}
	v := decode(t, ok(t, "version", "--json"))
	keys(t, v, "version", "go", "os", "arch")
}

// gridZ sums the standard hypergrid reward over every cell and returns the sum
// and the largest reward.
func gridZ(dim, height int, r0, r1, r2 float64) (z, largest float64) {
	at := make([]int, dim)
	for {
		wide, narrow := true, true
		for _, x := range at {
			a := math.Abs(float64(x)/float64(height-1) - 0.5)
			wide = wide && a > 0.25
			narrow = narrow && a > 0.3 && a < 0.4
		}
		r := r0
		if wide {
			r += r1
		}
		if narrow {
			r += r2
		}
		z, largest = z+r, math.Max(largest, r)
		i := 0
		for ; i < dim; i++ {
			if at[i]++; at[i] < height {
				break
			}
			at[i] = 0
		}
		if i == dim {
			return z, largest
		}
	}
}

// TestNoTestSet: what is not there is said, whoever asks.
func TestNoTestSet(t *testing.T) {
	dir := trainQuick(t)
	if r := command(t, "eval", dir, "--test-set", "3"); r.code != exitBadInput || !strings.Contains(r.stderr, "hypergrid has no test set") {
		t.Errorf("eval: %+v", r)
	}
	r := command(t, "train", "../../examples/hypergrid-2d.yaml", "--runs", filepath.Join(t.TempDir(), "runs"), "--set", "eval.test_set=3")
	if r.code != exitBadInput || !strings.Contains(r.stderr, "eval.test_set: got 3") {
		t.Errorf("train: %+v", r)
	}
}
