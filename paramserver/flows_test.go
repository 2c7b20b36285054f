package paramserver_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// flowKinds are small jobs of the kinds of policy whose flows objectives_test.go, which
// is about the MLP's, leaves out. Each call makes its own.
func flowKinds() map[string]*job.Spec {
	tabular := gridSpec(2, 4)
	tabular.Policy = job.Policy{Kind: "tabular", Backward: "joint"}
	words := gridSpec(2, 4)
	words.Env = job.Env{Name: "bitseq", Params: map[string]any{"n": 8, "k": 4, "modes": 2}}
	words.Policy = job.Policy{Kind: job.Transformer, Layers: 1, Heads: 2, Width: 24, Feedforward: 48, Activation: "tanh", Backward: "joint"}
	points := pointSpec()
	points.Policy.Hidden = []int{16, 12}
	points.Train.Batch = 24
	return map[string]*job.Spec{"tabular": tabular, "transformer": words, "gaussian": points}
}

// flowObjectives are those that a kind of policy can have.
func flowObjectives(spec *job.Spec) []string {
	switch spec.Policy.Kind {
	case "gaussian":
		return []string{job.SubTB, job.DB}
	case "tabular":
		return flowing
	}
	return []string{job.SubTB, job.DB, job.FM} // of bitseq no potential is known
}

// eachFlow runs a test for every such kind and objective.
func eachFlow(t *testing.T, run func(t *testing.T, spec *job.Spec)) {
	for kind, of := range flowKinds() {
		for _, objective := range flowObjectives(of) {
			t.Run(kind+" "+objective, func(t *testing.T) { run(t, withObjective(flowKinds()[kind], objective)) })
		}
	}
}

// shake moves all parameters but log Z a little: some heads begin at zero, which hides
// what is below them.
func shake(t *testing.T, u *paramserver.Updater) {
	t.Helper()
	params, r := slices.Clone(u.Params()), rand.New(rand.NewPCG(1, 7))
	for i := range params[:len(params)-1] {
		params[i] += float32(r.NormFloat64() / 8)
	}
	_, private, err := u.Marshal()
	if err == nil {
		err = u.RestoreFloats(0, params, private)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestStepFollowsTheSlopeOfFlows of every kind of policy, from assembly to optimiser.
func TestStepFollowsTheSlopeOfFlows(t *testing.T) {
	eachFlow(t, func(t *testing.T, spec *job.Spec) {
		spec = plainDescent(spec)
		spec.Loss.Divergence = "hellinger,tail:3"
		spec.Optimiser.FlowRate = new(schedule.Const(1))
		u := newUpdater(t, spec)
		shake(t, u)
		checkSlope(t, spec.Policy.Kind, spec, u)
	})
}

// TestEveryKindReachesTheTarget with flows, exactly measured.
func TestEveryKindReachesTheTarget(t *testing.T) {
	eachFlow(t, func(t *testing.T, spec *job.Spec) {
		rate, updates := 0.1, 1000
		switch {
		case spec.Policy.Kind == "gaussian":
			t.Skip("points cannot be listed: see TestFlowsOfPoints")
		case spec.Policy.Kind == job.Transformer:
			rate, updates, spec.Train.Batch = 1e-2, 1500, 32
		case spec.Loss.Objective == job.FLDB: // the potential jumps, and a table has to follow cell by cell
			updates = 4000
		}
		spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: rate, To: rate / 100, Over: int64(updates)}
		spec.Optimiser.LogZRate = schedule.Const(0.05)
		spec.Sampling.Epsilon = schedule.Const(0.1)
		u := trainAny(t, spec, updates)
		tv, z := exactTV(t, u), u.LogZ()-u.Exact(t.Context()).LogZ()
		t.Logf("TV %.4f, log Z off by %+.4f", tv, z)
		if tv > 0.01 || math.Abs(z) > 0.02 {
			t.Errorf("total variation %v after %d updates, log Z is off by %v", tv, updates, z)
		}
	})
}

// TestForwardLookingConditions: a grid at two temperatures reaches its target with flows
// relative to a potential of each.
func TestForwardLookingConditions(t *testing.T) {
	const updates = 4000
	spec := withObjective(gridSpec(2, 4), job.FLDB)
	spec.Env = job.Env{Name: "hypergrid_conditional", Params: map[string]any{"dim": 2, "height": 4, "r0": 0.01, "betas": []any{0.5, 1.0}}}
	spec.Policy = job.Policy{Kind: "tabular", Backward: "uniform"}
	spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 0.1, To: 1e-3, Over: updates}
	spec.Optimiser.LogZRate = schedule.Const(0.05)
	spec.Sampling.Epsilon = schedule.Const(0.1)
	u := trainAny(t, spec, updates)
	report := exactReport(t, u)
	for _, c := range report.Conditions {
		if c.TV > 0.01 {
			t.Errorf("%+v", c)
		}
	}
	if z := u.LogZ() - report.LogZ; math.Abs(z) > 0.02 || report.Distances.TV > 0.01 {
		t.Errorf("total variation %v after %d updates, log Z is off by %v", report.Distances.TV, updates, z)
	}
}

// TestFlowsOfPoints: a diffusion sampler of the double well in the plane learns log Z,
// which is known, and comes nearer to the target, by flows of states too.
func TestFlowsOfPoints(t *testing.T) {
	for objective, tolerance := range map[string]float64{job.SubTB: 0.15, job.DB: 0.3} {
		t.Run(objective, func(t *testing.T) {
			const updates = 500
			spec := withObjective(pointSpec(), objective)
			spec.Loss.Divergence = "forward_kl,tail:5"
			spec.Policy.Hidden, spec.Train.Batch = []int{32, 32}, 40
			spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 8e-3, To: 1e-4, Over: updates}
			spec.Optimiser.LogZRate = schedule.Value{Kind: schedule.Cosine, From: 0.05, To: 1e-3, Over: updates}
			spec.Eval.Samples = 2000
			u := newUpdater(t, spec)
			truth := *envs.FactsOf(u.Env).LogZ
			before := float64(estimate(t, u).EUBO.Value) - truth
			u = trainAny(t, spec, updates)
			found := estimate(t, u)
			after, z, is := float64(found.EUBO.Value)-truth, u.LogZ()-truth, float64(found.LogZ.Value)-truth
			t.Logf("the upper bound is %.3f too high, %.3f before; log Z is off by %+.3f, by importance %+.3f", after, before, z, is)
			if after > before/2 || math.Abs(z) > tolerance || math.Abs(is) > 0.15 {
				t.Errorf("the upper bound is %v too high, %v before; log Z is off by %v, by importance %v", after, before, z, is)
			}
		})
	}
}

// TestFlowsOfPointsBegin at the first log Z: so only the last step of an untrained
// sampler, which meets the reward, is out of balance.
func TestFlowsOfPointsBegin(t *testing.T) {
	spec := withObjective(pointSpec(), job.DB)
	spec.Loss.LogZInit, spec.Loss.Divergence = -3.25, "reverse_kl"
	u := newUpdater(t, spec)
	p, ok := u.Layout().Find("flow.bias")
	if !ok || u.Params()[p.Offset] != -3.25 || u.LogZ() != -3.25 {
		t.Errorf("the flow begins at %v, log Z at %v", u.Params()[p.Offset], u.LogZ())
	}
	batch := sampled(t, u, 8)
	residuals := 0.0
	for i := range batch {
		batch[i].LogReward = 0 // and the reference ends in N(0, σ²I)
		x, y := envs.Coordinate(batch[i].Actions[18]), envs.Coordinate(batch[i].Actions[19])
		d := spec.Loss.LogZInit - float64(x*x+y*y)/2 - math.Log(2*math.Pi)
		residuals += d * d / 2 / 10 / 8 // one of ten transitions, of eight trajectories
	}
	if loss := mustStep(t, u, batch).Loss.Loss; math.Abs(loss-residuals) > 1e-4*residuals {
		t.Errorf("loss %v, that of the last steps is %v", loss, residuals)
	}
}

// TestFlowsHaveEqualBits at any GOMAXPROCS, rehearsed or not, and after a restart.
func TestFlowsHaveEqualBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	eachFlow(t, func(t *testing.T, spec *job.Spec) {
		runtime.GOMAXPROCS(1)
		plain := trained(t, spec, func(*paramserver.Updater, *sampler.Roller) {}, false)
		runtime.GOMAXPROCS(8)
		rehearsed := trained(t, spec, func(u *paramserver.Updater, r *sampler.Roller) { r.Rehearse(u.Tape()) }, true)
		if !slices.Equal(plain, rehearsed) {
			t.Error("other parameters after 20 updates")
		}
		u, v := newUpdater(t, spec), newUpdater(t, spec)
		first, second := sampled(t, u, 16), sampled(t, u, 12)
		mustStep(t, u, first)
		params, private, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Restore(u.Version(), params, private); err != nil {
			t.Fatal(err)
		}
		mustStep(t, u, second)
		mustStep(t, v, second)
		if !slices.Equal(u.Params(), v.Params()) {
			t.Error("a successor has other parameters")
		}
	})
}

// TestFlowStepsAllocateNothing in the steady state.
func TestFlowStepsAllocateNothing(t *testing.T) {
	eachFlow(t, func(t *testing.T, spec *job.Spec) {
		u := newUpdater(t, spec)
		batch := sampled(t, u, 16)
		for range 30 {
			mustStep(t, u, batch)
		}
		if n := testing.AllocsPerRun(30, func() { mustStep(t, u, batch) }); n > 1 {
			t.Errorf("%v allocations a step", n)
		}
	})
}

// TestFlowsThatCannotBe are refused when the job is read, by name.
func TestFlowsThatCannotBe(t *testing.T) {
	restricted := job.Default()
	restricted.Name, restricted.Env = "one-step", job.Env{Name: "mixture", Params: map[string]any{"cells": 9}}
	restricted.Policy = job.Policy{Kind: "normal", Backward: "uniform"}
	for _, c := range []struct {
		spec      *job.Spec
		objective string
		want      []string
	}{
		{pointSpec(), job.FM, []string{"subtb", "diffusion", "cannot be listed"}},
		{pointSpec(), job.FLDB, []string{"db", "diffusion", "unfinished states"}},
		{restricted, job.SubTB, []string{"tb or ml", "policy.kind", "normal", "mlp, transformer, tabular and gaussian"}},
		{restricted, job.FM, []string{"tb or ml", "policy.kind", "normal", "mlp, transformer, tabular and gaussian"}},
	} {
		c.spec.Loss.Objective = c.objective
		_, _, err := paramserver.Check(c.spec)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != "loss.objective" {
			t.Errorf("%s with %s: %v", c.spec.Policy.Kind, c.objective, err)
			continue
		}
		for _, word := range c.want {
			if !strings.Contains(fault.Want, word) {
				t.Errorf("%s with %s: %q says nothing of %q", c.spec.Policy.Kind, c.objective, fault.Want, word)
			}
		}
	}
}
