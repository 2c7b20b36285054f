package paramserver_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
)

// TestTuningFromDataAlone: nothing is sampled forward. Objects of a file get walks by
// Brownian bridges, and their residuals have the prior in the place of P_B; columns get
// the shares of the posterior, whether the objects are the prior's own or cover the
// square evenly.
func TestTuningFromDataAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for what, draw := range map[string]func() float64{
		"draws of the prior": func() float64 { return 5 * r.NormFloat64() },
		"an even square":     func() float64 { return 40*r.Float64() - 20 },
	} {
		_, spec := tilting(t)
		var text strings.Builder
		for range 4000 {
			fmt.Fprintf(&text, "(%v,%v)\n", float32(draw()), float32(draw()))
		}
		spec.Data = &job.Data{File: filepath.Join(t.TempDir(), "points.txt"), Share: 1}
		if err := os.WriteFile(spec.Data.File, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 3e-3, To: 1e-4, Over: 800}
		u := trainAny(t, spec, 800)
		if u.Trajectories() != 0 {
			t.Errorf("%s: %d trajectories were sampled", what, u.Trajectories())
		}
		want, logZ := columns()
		if got := u.LogZ(); math.Abs(got-logZ) > 0.1 {
			t.Errorf("%s: log Z %v, want %v", what, got, logZ)
		}
		got := shares(t, u, 4000)
		for k := range want {
			if math.Abs(got[k]-want[k]) > 0.03 {
				t.Errorf("%s: column %d has a share of %v, want %v", what, k, got[k], want[k])
			}
		}
	}
}

// TestTuningAGridFromDataAlone, exactly measured: a sampler of one reward on a grid,
// which need not be a good one, tilted by another reward. The target is the prior's
// distribution of objects times the reward, whatever the ways to them.
func TestTuningAGridFromDataAlone(t *testing.T) {
	const height, updates = 6, 1200
	first := gridSpec(2, height)
	first.Policy.Hidden, first.Policy.Backward = []int{48, 48}, "uniform"
	first.Loss.Divergence = "hellinger"
	base := trainAny(t, first, 100)
	target := distribution(t, base)

	spec := gridSpec(2, height)
	spec.Env.Params["reward"], spec.Env.Params["r0"] = "cosine", 0.1
	spec.RewardExponent = schedule.Const(2)
	spec.Policy, spec.Loss.Divergence = first.Policy, "hellinger"
	rewards := newUpdater(t, spec).Exact(t.Context())
	var text strings.Builder
	for x := range height {
		for y := range height {
			fmt.Fprintf(&text, "(%d,%d)\n", x, y)
		}
	}
	spec.Data = &job.Data{File: filepath.Join(t.TempDir(), "cells.txt"), Share: 1}
	if err := os.WriteFile(spec.Data.File, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Loss.Prior, spec.Loss.LogZInit = saved(t, base), 0
	spec.Train.Batch = 32
	spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 5e-3, To: 1e-4, Over: updates}
	spec.Optimiser.LogZRate = schedule.Const(0.05)

	for i, lp := range rewards.LogTarget() {
		target[i] += lp + rewards.LogZ()
	}
	logZ := envs.Normalise(target)
	before := distance(t, target, distribution(t, newUpdater(t, spec)))
	u := trainAny(t, spec, updates)
	after := distance(t, target, distribution(t, u))
	t.Logf("TV %.4f, as the prior %.4f; log Z off by %+.4f", after, before, u.LogZ()-logZ)
	if u.Exact(t.Context()) != nil {
		t.Error("an exact evaluation against the reward alone")
	}
	if after > 0.03 || before < 5*after || math.Abs(u.LogZ()-logZ) > 0.03 {
		t.Errorf("TV %v, as the prior %v; log Z %v, want %v", after, before, u.LogZ(), logZ)
	}
}

// distribution holds the log-probability of each object under a job's policy.
func distribution(t *testing.T, u *paramserver.Updater) []float64 {
	t.Helper()
	e, err := metrics.NewEvaluator(u.Env, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := u.Params()
	logP, err := e.Distribution(u.Model.NewTape(), p[:len(p)-1])
	if err != nil {
		t.Fatal(err)
	}
	return logP
}

// distance is the total variation of two distributions.
func distance(t *testing.T, target, model []float64) float64 {
	t.Helper()
	d, err := metrics.Compare(target, model)
	if err != nil {
		t.Fatal(err)
	}
	return d.TV
}
