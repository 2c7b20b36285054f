package paramserver_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// flowing are the objectives with flows of states.
var flowing = []string{job.SubTB, job.DB, job.FLDB, job.FM}

// withObjective sets an objective, and a P_B that it allows.
func withObjective(spec *job.Spec, objective string) *job.Spec {
	spec.Loss.Objective = objective
	if objective == job.FM || objective == job.ML {
		spec.Policy.Backward = "uniform"
	}
	return spec
}

// TestStepFollowsTheSlopeOfEveryObjective with every smooth member, through the
// real network, flows of states included.
func TestStepFollowsTheSlopeOfEveryObjective(t *testing.T) {
	var members []string
	for _, row := range losses.Table() {
		if d, err := losses.Parse(row.Example); err == nil && d.Smooth() && !strings.HasPrefix(row.Name, "huber") {
			members = append(members, row.Example)
		}
	}
	for _, objective := range flowing {
		for i, text := range members {
			spec := withObjective(plainDescent(smallSpec()), objective)
			spec.Loss.Divergence, spec.Loss.LogZInit = text+",tail:3", 0.5
			spec.Optimiser.FlowRate = new(schedule.Const(1))
			if objective != job.FM {
				spec.Policy.Backward = []string{"joint", "uniform", "frozen"}[i%3]
			}
			u := newUpdater(t, spec)
			if p, ok := u.Layout().Find("flow.bias"); !ok || p.Group != "flow" {
				t.Fatalf("%s: no flow head in %v", objective, u.Layout())
			}
			checkSlope(t, objective+", "+text, spec, u)
		}
	}
}

// checkSlope compares what a step subtracts with differences of the loss.
func checkSlope(t *testing.T, what string, spec *job.Spec, u *paramserver.Updater) {
	t.Helper()
	batch := sampled(t, u, 8)
	before := slices.Clone(u.Params())
	_, private, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	update := mustStep(t, u, batch)
	norm := update.GradNorm
	grad := make([]float64, len(before))
	for i, p := range u.Params() {
		grad[i] = float64(before[i]) - float64(p)
	}
	lossAt := func(direction []float64, h float64) float64 {
		moved := slices.Clone(before)
		for i, d := range direction {
			moved[i] += float32(h * d)
		}
		v := newUpdater(t, spec)
		if err := v.RestoreFloats(0, moved, private); err != nil {
			t.Fatal(err)
		}
		return mustStep(t, v, batch).Loss.Loss
	}
	r := rand.New(rand.NewPCG(1, 2))
	for try := range 2 {
		direction, projection := make([]float64, len(grad)), 0.0
		for i, g := range grad {
			direction[i] = g / norm
			if try > 0 {
				direction[i] += r.NormFloat64() / math.Sqrt(float64(len(grad)))
			}
			projection += direction[i] * g
		}
		const h = 2e-3
		if got := (lossAt(direction, h) - lossAt(direction, -h)) / (2 * h); !(math.Abs(got-projection) <= 4e-3*norm) {
			t.Errorf("%s, direction %d: slope %v, the step says %v (gradient of length %v)", what, try, got, projection, norm)
		}
	}
}

// targetFile is a data set of all objects of a grid, weighted by their rewards.
func targetFile(t *testing.T, u *paramserver.Updater) string {
	t.Helper()
	grid := u.Env.(envs.Enumerable)
	rewards := make([]float64, grid.NumObjects())
	grid.LogRewards(rewards)
	var text strings.Builder
	text.WriteString("object,weight\n")
	one, stop := grid.NewStates(1), int32(u.Env.Spec().Actions-1)
	for cell := range grid.NumStates() {
		grid.Load(one, 0, cell)
		if err := one.Forward([]int32{0}, []int32{stop}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "%q,%v\n", one.Text(0), math.Exp(rewards[grid.Object(one, 0)]))
	}
	path := filepath.Join(t.TempDir(), "target.csv")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// trainAny makes n updates, on-policy as far as the job samples, and rehearsed.
func trainAny(t *testing.T, spec *job.Spec, n int) *paramserver.Updater {
	t.Helper()
	u := newUpdater(t, spec)
	if err := u.OpenData(); err != nil {
		t.Fatal(err)
	}
	roller := newRoller(t, spec)
	roller.Rehearse(u.Tape())
	for range n {
		if fresh := u.Fresh(); fresh > 0 {
			batch, err := roller.SampleN(fresh, u.Params(), u.Version(), u.Trajectories()+1, nil)
			if err != nil {
				t.Fatal(err)
			}
			u.Rehearsed(roller.Pass())
			mustStep(t, u, batch)
			continue
		}
		mustStep(t, u, nil)
	}
	return u
}

func exactTV(t *testing.T, u *paramserver.Updater) float64 {
	t.Helper()
	return exactReport(t, u).Distances.TV
}

func exactReport(t *testing.T, u *paramserver.Updater) *metrics.Report {
	t.Helper()
	p := u.Params()
	rep, err := u.Exact(t.Context()).Model(u.Model.NewTape(), p[:len(p)-1])
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// TestEveryObjectiveReachesTheTarget, exactly measured.
func TestEveryObjectiveReachesTheTarget(t *testing.T) {
	const updates = 1500
	for _, objective := range append([]string{job.TB, job.ML}, flowing...) {
		for _, text := range []string{"reverse_kl", "hellinger"} {
			spec := withObjective(gridSpec(2, 6), objective)
			spec.Policy.Hidden, spec.Loss.Divergence = []int{48, 48}, text
			spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 5e-3, To: 1e-4, Over: updates}
			spec.Optimiser.LogZRate = schedule.Const(0.05)
			spec.Sampling.Epsilon = schedule.Const(0.1)
			if objective == job.ML {
				if text != "hellinger" {
					continue // it has no divergence
				}
				spec.Data = &job.Data{File: targetFile(t, newUpdater(t, gridSpec(2, 6))), Share: 1}
				spec.Train.Batch = 64
			}
			u := trainAny(t, spec, updates)
			tv := exactTV(t, u)
			t.Logf("%s, %s: TV %.4f, log Z off by %+.4f", objective, text, tv, u.LogZ()-u.Exact(t.Context()).LogZ())
			if tv > 0.03 {
				t.Errorf("%s, %s: total variation %v after %d updates", objective, text, tv, u.Version())
			}
			if z := u.LogZ() - u.Exact(t.Context()).LogZ(); objective != job.ML && math.Abs(z) > 0.1 {
				t.Errorf("%s, %s: log Z is off by %v", objective, text, z)
			}
		}
	}
}

// TestEveryBackwardModeReachesTheTarget with flows of states.
func TestEveryBackwardModeReachesTheTarget(t *testing.T) {
	for _, objective := range []string{job.SubTB, job.DB, job.FM} {
		for _, mode := range []string{"uniform", "frozen", "max_likelihood"} {
			spec := withObjective(gridSpec(2, 5), objective)
			spec.Policy.Hidden, spec.Policy.Backward = []int{48, 48}, mode
			spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 5e-3, To: 1e-4, Over: 1000}
			spec.Sampling.Epsilon = schedule.Const(0.1)
			if tv := exactTV(t, trainAny(t, spec, 1000)); tv > 0.03 {
				t.Errorf("%s, %s: total variation %v", objective, mode, tv)
			}
		}
	}
}

// TestObjectivesHaveEqualBits at any GOMAXPROCS, and rehearsed or not.
func TestObjectivesHaveEqualBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, objective := range flowing {
		spec := withObjective(gridSpec(3, 6), objective)
		spec.Policy.Hidden, spec.Train.Batch = []int{48, 40}, 48
		plain := trained(t, spec, func(*paramserver.Updater, *sampler.Roller) {}, false)
		runtime.GOMAXPROCS(8)
		rehearsed := trained(t, spec, func(u *paramserver.Updater, r *sampler.Roller) { r.Rehearse(u.Tape()) }, true)
		if !slices.Equal(plain, rehearsed) {
			t.Errorf("%s: other parameters after 20 updates", objective)
		}
		runtime.GOMAXPROCS(1)
	}
}

// TestObjectivesResume: a successor goes on with the same bits.
func TestObjectivesResume(t *testing.T) {
	for _, objective := range flowing {
		spec := withObjective(smallSpec(), objective)
		u := newUpdater(t, spec)
		first, second := sampled(t, u, 16), sampled(t, u, 12)
		mustStep(t, u, first)
		params, private, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		v := newUpdater(t, spec)
		if err := v.Restore(u.Version(), params, private); err != nil {
			t.Fatal(err)
		}
		mustStep(t, u, second)
		mustStep(t, v, second)
		if !slices.Equal(u.Params(), v.Params()) {
			t.Errorf("%s: a successor has other parameters", objective)
		}
	}
}

// TestObjectiveStepsAllocateNothing in the steady state.
func TestObjectiveStepsAllocateNothing(t *testing.T) {
	for _, objective := range flowing {
		spec := withObjective(smallSpec(), objective)
		u := newUpdater(t, spec)
		batch := sampled(t, u, 16)
		for range 30 {
			mustStep(t, u, batch)
		}
		if n := testing.AllocsPerRun(30, func() { mustStep(t, u, batch) }); n > 1 {
			t.Errorf("%s: %v allocations a step", objective, n)
		}
	}
}

// TestObjectiveFaultsNameTheirField.
func TestObjectiveFaultsNameTheirField(t *testing.T) {
	for path, spoil := range map[string]func(*job.Spec){
		"loss.normaliser": func(s *job.Spec) { s.Loss.Objective, s.Loss.Normaliser = job.DB, "batch_mean" },
		"data.file":       func(s *job.Spec) { s.Data = &job.Data{File: "x.csv", Share: 0.5} },
	} {
		spec := smallSpec()
		spoil(spec)
		_, _, err := paramserver.Check(spec)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != path {
			t.Errorf("%s: %v", path, err)
		}
	}
}
