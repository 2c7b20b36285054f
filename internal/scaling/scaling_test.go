package scaling

import (
	"encoding/json"
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
)

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance*max(1, math.Abs(b)) }

// TestRatesOfSteps: a counter that moves by the same amount at a fixed pace has
// that rate in every interval, wherever the intervals begin.
func TestRatesOfSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.IntRange(1, 900).Draw(t, "every ms")) * time.Millisecond
		by := float64(rapid.IntRange(1, 1000).Draw(t, "by"))
		begin := every + time.Duration(rapid.IntRange(0, 5000).Draw(t, "begin ms"))*time.Millisecond
		var steps []Step
		for at := time.Duration(0); at < begin+5*time.Second; at += every {
			steps = append(steps, Step{at, by * float64(len(steps)+1)})
		}
		rates := Rates(steps, begin, time.Second, 5)
		if len(rates) != 5 {
			t.Fatalf("%d intervals", len(rates))
		}
		for _, r := range rates {
			if want := by / every.Seconds(); !near(r, want, 1e-9) {
				t.Fatalf("rates %v, want %v", rates, want)
			}
		}
	})
	if rates := Rates([]Step{{0, 5}}, time.Second, time.Second, 2); len(rates) != 2 || rates[0] != 0 || rates[1] != 0 {
		t.Errorf("nothing moves: %v", rates)
	}
	if rates := Rates(nil, 0, time.Second, 2); rates != nil {
		t.Errorf("no readings: %v", rates)
	}
}

// TestRatesOfBursts: rounds of rewards that end within a part of their round move
// the rate by no more than the square of a round's share of the interval says,
// whatever the phase.
func TestRatesOfBursts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const each = 10 // steps of a burst
		rounds := rapid.IntRange(4, 40).Draw(t, "rounds")
		round := 5 * time.Second / time.Duration(rounds)
		width := time.Duration(rapid.Float64Range(0.05, 0.9).Draw(t, "width") * float64(round))
		phase := time.Duration(rapid.Float64Range(0, 1).Draw(t, "phase") * float64(round))
		var steps []Step
		for r := 0; time.Duration(r)*round < 20*time.Second; r++ {
			for i := range each {
				steps = append(steps, Step{time.Duration(r)*round + width*time.Duration(i)/each, float64(r*each + i + 1)})
			}
		}
		want := each / round.Seconds()
		for _, got := range Rates(steps, round+phase, 5*time.Second, 2) {
			if off := math.Abs(got/want - 1); off > 2.5/float64(rounds*rounds) {
				t.Fatalf("%d rounds: off by %.4f", rounds, off)
			}
		}
	})
}

// TestIntervals against values of a table and of hand calculation.
func TestIntervals(t *testing.T) {
	m := Mean([]float64{1, 2, 3, 4, 5})
	if !near(m.Value, 3, 1e-12) || !near(m.High-3, 2.7764451*math.Sqrt(2.5/5), 1e-6) || !near(3-m.Low, m.High-3, 1e-9) {
		t.Errorf("%+v", m)
	}
	if one := Mean([]float64{7}); one.Value != 7 || !math.IsNaN(one.Low) {
		t.Errorf("one sample: %+v", one)
	}
	e := Efficiency(1, []float64{100, 100, 100}, 4, []float64{380, 380, 380})
	if e != (Estimate{0.95, 0.95, 0.95}) {
		t.Errorf("without noise: %+v", e)
	}
	e = Efficiency(2, []float64{198, 200, 202}, 8, []float64{790, 800, 810})
	if !near(e.Value, 1, 1e-12) || !(e.Low < 1 && 1 < e.High && e.High < 1.05) {
		t.Errorf("%+v", e)
	}
	if e := Efficiency(1, []float64{0, 0}, 2, []float64{1, 1}); !math.IsNaN(e.Low) {
		t.Errorf("a base that does not move: %+v", e)
	}
}

// TestEstimateJSON keeps what is not known apart from 0.
func TestEstimateJSON(t *testing.T) {
	data, err := json.Marshal([]Estimate{{1, 0.5, 2}, {3, math.NaN(), math.Inf(1)}})
	if want := `[{"high":2,"low":0.5,"value":1},{"high":null,"low":null,"value":3}]`; err != nil || string(data) != want {
		t.Fatalf("%s, %v; want %s", data, err, want)
	}
	var back []Estimate
	if err := json.Unmarshal(data, &back); err != nil || back[0] != (Estimate{1, 0.5, 2}) || back[1].Value != 3 || !math.IsNaN(back[1].High) {
		t.Errorf("%v, %v", back, err)
	}
}

// TestCoverage: the interval of an efficiency holds the true one about as often
// as it says.
func TestCoverage(t *testing.T) {
	r := rng.New(1, rng.Bootstrap)
	const trials = 2000
	held := 0
	for range trials {
		var base, at []float64
		for range 5 {
			base = append(base, 100*(1+0.03*r.NormFloat64()))
			at = append(at, 0.9*6400*(1+0.05*r.NormFloat64()))
		}
		if e := Efficiency(1, base, 64, at); e.Low <= 0.9 && 0.9 <= e.High {
			held++
		}
	}
	if share := float64(held) / trials; share < 0.93 || share > 0.975 {
		t.Errorf("intervals hold the truth in %.1f %% of trials", 100*share)
	}
}

// TestNames: one load for each name.
func TestNames(t *testing.T) {
	for want, l := range map[Bottleneck]Load{
		Reward:   {Update: 0.1, Batch: 0.9, Reward: 0.9, Sampling: 0.1},
		Sampling: {Update: 0.3, Batch: 0.6, Commit: 0.1, Reward: 0.2, Sampling: 0.7, Credit: 0.1},
		Ingest:   {Update: 0.2, Batch: 0.8, Sampling: 0.1, Credit: 0.9},
		Learner:  {Update: 0.9, Batch: 0.1, Credit: 0.9, Reward: 0.1},
		Commit:   {Update: 0.4, Batch: 0, Commit: 0.6, Credit: 0.9},
		FanOut:   {Update: 0.2, Batch: 0.8, Sampling: 1, Stale: 0.5},
		Unknown:  {},
	} {
		if got := l.Name(); got != want {
			t.Errorf("%+v: %s, want %s", l, got, want)
		}
	}
	if got := (Load{Batch: 1, Marks: 0.7, Reward: 0.3}).Name(); got != Commit {
		t.Errorf("workers that wait for marks: %s", got)
	}
}

// TestLoadBetween: shares of differences; readings of another lease, which
// begins at zero, give no nonsense.
func TestLoadBetween(t *testing.T) {
	a := wire.Effort{Update: 10, Batch: 20, Commit: 30, Stale: 5, Workers: wire.Spent{Reward: 100}}
	b := wire.Effort{Trained: 90, Update: 20, Batch: 50, Commit: 30, Stale: 15, Workers: wire.Spent{Reward: 160, Sampling: 20}}
	l := LoadBetween(a, b)
	if !near(l.Update, 0.25, 1e-12) || !near(l.Batch, 0.75, 1e-12) || l.Commit != 0 || !near(l.Reward, 0.75, 1e-12) || !near(l.Stale, 0.1, 1e-12) {
		t.Errorf("%+v", l)
	}
	if l := LoadBetween(b, b); l != (Load{}) || l.Name() != Unknown {
		t.Errorf("no time: %+v", l)
	}
}

// TestModelLaws: the rate grows with the workers, stays below both asymptotes,
// and one worker never queues.
func TestModelLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Model{
			Own:    rapid.Float64Range(1e-6, 1e-2).Draw(t, "own"),
			Demand: rapid.Float64Range(1e-6, 1e-2).Draw(t, "demand"),
		}
		delay, n := rapid.Float64Range(0, 1).Draw(t, "delay"), rapid.IntRange(1, 300).Draw(t, "workers")
		one, many, more := m.Rate(1, delay), m.Rate(n, delay), m.Rate(n+1, delay)
		if !near(one, 1/(delay+m.Own+m.Demand), 1e-12) {
			t.Fatalf("one worker: %v", one)
		}
		if many > min(float64(n)*one, 1/m.Demand)*(1+1e-9) || more < many*(1-1e-12) {
			t.Fatalf("%d workers: %v, one more: %v; one: %v, bound %v", n, many, more, one, 1/m.Demand)
		}
		m.Growth = 0.01
		if m.Rate(n, delay) > many {
			t.Fatal("growing demand makes the mesh faster")
		}
	})
}

// TestFitFindsTheModel behind noisy rates, and its prediction at 1,000 workers.
func TestFitFindsTheModel(t *testing.T) {
	truth := Model{Own: 4e-4, Demand: 9e-5, Growth: 2e-3}
	r := rng.New(3, rng.Bootstrap)
	var cells []Cell
	for _, delay := range []float64{0.001, 0.003, 0.01, 0.03, 0.1} {
		for w := 1; w <= 64; w *= 2 {
			cells = append(cells, Cell{w, delay, truth.Rate(w, delay) * math.Exp(0.02*r.NormFloat64())})
		}
	}
	f, err := FitModel(cells, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !near(f.Model.Own/truth.Own, 1, 0.1) || !near(f.Model.Demand/truth.Demand, 1, 0.1) || f.Error() > 0.03 {
		t.Errorf("%+v, error %v; want %+v", f.Model, f.Error(), truth)
	}
	for _, delay := range []float64{0.001, 0.1} {
		p, want := f.Predict(1000, delay), truth.Rate(1000, delay)
		if !(p.Low <= want && want <= p.High) || p.High > 3*p.Low {
			t.Errorf("1,000 workers at %v s: %+v, truth %v", delay, p, want)
		}
	}
	again, err := FitModel(cells, 1)
	if err != nil || again.Predict(1000, 0.01) != f.Predict(1000, 0.01) {
		t.Errorf("the same seed gives another interval: %v", err)
	}
	if _, err := FitModel(cells[:3], 1); !errors.Is(err, ErrTooFew) {
		t.Errorf("three cells: %v", err)
	}
	if _, err := FitModel(append(cells[:4:4], Cell{1, 1, math.NaN()}), 1); err == nil {
		t.Error("a rate that is no number is fitted")
	}
}
