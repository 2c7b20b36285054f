package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/scaling"
)

// TestPublish: measurements that follow a model give its predictions, a table
// with a row per number of slots, and a plot.
func TestPublish(t *testing.T) {
	truth := scaling.Model{Own: 3e-4, Demand: 2e-5, Growth: 1e-3}
	r := &results{Machine: parts.Machine(), Rollout: 8}
	for _, ms := range []float64{1, 10, 100} {
		s := series{DelayMS: ms}
		most := 64
		if ms == 1 {
			most = 256
		}
		for w := 1; w <= most; w *= 4 {
			rate := truth.Rate(w, ms/1000)
			p := point{Workers: w, Rate: scaling.Estimate{Value: rate, Low: rate, High: rate}, Bottleneck: scaling.Reward, Efficiency: scaling.Estimate{Value: 1, Low: math.NaN(), High: math.NaN()}}
			if w == 64 && ms == 1 {
				p.Bottleneck = scaling.Learner
			}
			s.Points = append(s.Points, p)
		}
		s.Bare = []bare{{1, 95}, {64, 6000}}
		r.Series = append(r.Series, s)
	}
	if err := r.fit(1); err != nil {
		t.Fatal(err)
	}
	if len(r.Predictions) != 3 {
		t.Fatalf("%d predictions", len(r.Predictions))
	}
	for _, p := range r.Predictions {
		if want := truth.Rate(predicted, p.DelayMS/1000); math.Abs(p.Rate.Value/want-1) > 0.05 {
			t.Errorf("%v ms: %v, want %v", p.DelayMS, p.Rate, want)
		}
	}
	dir := filepath.Join(t.TempDir(), "results")
	if err := r.publish(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| slots | 1 ms | 10 ms | 100 ms |", "\n| 64 |", "\n| 256 |", "; learner)", "**1000**, predicted", "| bare sleeps | 64: 6000 (0.987) |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, name := range []string{"results.json", "results.png"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUsage: what is wrong is named, before anything runs.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"-delays", "1,x"}, {"-delays", "-1"}, {"-nothing"}} {
		if err := run(t.Context(), args); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
