package paramserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/sampler"
)

func roll(spec *job.Spec) (paramserver.Drawer, error) { return sampler.NewRoller(spec, 0) }

func estimate(t *testing.T, u *paramserver.Updater) *paramserver.Estimates {
	t.Helper()
	e, err := paramserver.NewEstimator(u, u.Exact(t.Context()), roll)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Estimate(t.Context(), u.Params(), u.Version())
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// within asks for the exact value inside 4.5 standard errors.
func within(t *testing.T, what string, e *paramserver.Estimate, want float64) {
	t.Helper()
	if e == nil || math.Abs(float64(e.Value)-want) > 4.5*float64(e.StdErr)+1e-6 {
		t.Errorf("%s: %+v, want %v", what, e, want)
	}
}

// trueBounds are the expectations of ELBO and EUBO, over all trajectories.
func trueBounds(t *testing.T, u *paramserver.Updater, beta float64) (elbo, eubo float64) {
	t.Helper()
	e, err := envs.Enumerate(u.Env)
	if err != nil {
		t.Fatal(err)
	}
	var actions [][]int32
	var objects []int
	envs.Trajectories(e, func(p envs.Path) bool {
		actions, objects = append(actions, append([]int32(nil), p.Actions...)), append(objects, p.Object)
		return true
	})
	var b policy.Batch
	if err := policy.NewAssembler(u.Env).Assemble(actions, &b); err != nil {
		t.Fatal(err)
	}
	score := func(params []float32) (s policy.Scores) {
		if err := u.Model.NewTape().Score(params, &b, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	size := u.Model.Layout().Size()
	now := score(u.Params()[:size])
	if u.Spec.Policy.Backward == "frozen" {
		first := make([]float32, size)
		u.Model.Init(first, u.Spec.Seed)
		now.LogPB = score(first).LogPB
	}
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	total := func(x []float64) (sum float64) {
		for _, v := range x {
			sum += v
		}
		return sum
	}
	z := u.Exact(t.Context()).LogZ()
	for i, x := range objects {
		pf, pb := total(now.LogPF[b.FOffset[i]:b.FOffset[i+1]]), total(now.LogPB[b.BOffset[i]:b.BOffset[i+1]])
		lr := beta * logR[x]
		elbo += math.Exp(pf) * (lr + pb - pf)
		eubo += math.Exp(lr-z+pb) * (lr + pb - pf)
	}
	return elbo, eubo
}

// TestEstimatesAgreeWithEnumeration, for each way of learning P_B, off the
// target, with a reward exponent.
func TestEstimatesAgreeWithEnumeration(t *testing.T) {
	for _, mode := range []string{"joint", "frozen", "uniform"} {
		spec := smallSpec()
		spec.Env.Params["r0"] = 0.1
		spec.Policy.Backward = mode
		spec.RewardExponent = schedule.Const(1.5)
		spec.Sampling.Epsilon = schedule.Const(0.5) // not for evaluations
		spec.Eval.Samples, spec.Eval.TopK = 5000, 4
		u := newUpdater(t, spec)
		for range 20 {
			mustStep(t, u, sampled(t, u, 16))
		}
		got := estimate(t, u)
		elbo, eubo := trueBounds(t, u, 1.5)
		within(t, mode+" ELBO", got.ELBO, elbo)
		within(t, mode+" EUBO", got.EUBO, eubo)
		within(t, mode+" log Z", got.LogZ, u.Exact(t.Context()).LogZ())
		if z := u.Exact(t.Context()).LogZ(); elbo > z || eubo < z || got.ELBO.StdErr > 0.1 || got.EUBO.StdErr > 0.1 {
			t.Errorf("%s: bounds %v and %v of %v, estimated as %+v and %+v", mode, elbo, eubo, z, got.ELBO, got.EUBO)
		}
		rep, err := u.Exact(t.Context()).Model(u.Model.NewTape(), u.Params()[:len(u.Params())-1])
		if err != nil {
			t.Fatal(err)
		}
		if c := got.Counted; c == nil || rep.Distances.TV < c.TV.Low-0.01 || rep.Distances.TV > c.TV.High+0.01 || c.Samples != 5000 {
			t.Errorf("%s: TV is %v, counted %+v", mode, rep.Distances.TV, c)
		}
		if k := got.TopK; k == nil || k.K != 4 || k.Distinct != 16 || k.Reward < rep.ExpectedReward {
			t.Errorf("%s: top %+v", mode, k)
		}
		if again := estimate(t, u); asJSON(t, again) != asJSON(t, got) {
			t.Errorf("%s: once %s\nthen %s", mode, asJSON(t, got), asJSON(t, again))
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// knowing is a hypergrid with all that an environment may know for evaluation:
// every cell is a test object and a point, and a bonus cell is in mode 0 besides
// its own.
type knowing struct{ envs.Enumerable }

func (k knowing) NumTests() int { return k.NumObjects() }

func (k knowing) LoadTest(s envs.States, row, i int) {
	k.Load(s, row, i)
	stop := int32(k.Spec().Actions - 1)
	if err := s.Forward([]int32{int32(row)}, []int32{stop}); err != nil {
		panic(err)
	}
}

func (k knowing) Draw(r *rand.Rand, s envs.States, rows []int32) {
	v, err := metrics.NewEvaluator(k.Enumerable, 1)
	if err != nil {
		panic(err)
	}
	draws := v.Draws()
	for _, row := range rows {
		if _, err := draws.Draw(r, s, int(row)); err != nil {
			panic(err)
		}
	}
}

func (k knowing) PointDim() int { return 2 }

func (k knowing) Point(s envs.States, row int, out []float64) {
	n := k.Object(s, row)
	out[0], out[1] = float64(n%4), float64(n/4)
}

func (k knowing) NumModes() int                   { return k.Enumerable.(envs.Moded).NumModes() }
func (k knowing) Mode(s envs.States, row int) int { return k.Enumerable.(envs.Moded).Mode(s, row) }
func (k knowing) AppendModes(dst []int, s envs.States, row int) []int {
	m := k.Mode(s, row)
	if m >= 0 {
		dst = append(dst, 0)
	}
	if m > 0 {
		dst = append(dst, m)
	}
	return dst
}

var _ envs.Overlapping = knowing{}

// TestTestSet: with many backward trajectories the correlations are those of the
// exact distribution, even to ties.
func TestTestSet(t *testing.T) {
	spec := smallSpec()
	spec.Env.Params["r0"], spec.Env.Params["height"] = 0.1, 5 // 25 objects: fewer have no bounds
	spec.Eval.TestSet = 2000
	u := newUpdater(t, spec)
	for range 300 {
		mustStep(t, u, sampled(t, u, 16))
	}
	e := u.Env.(envs.Enumerable)
	u.Env = knowing{e}
	got := estimate(t, u)
	logP, err := u.Exact(t.Context()).Distribution(u.Model.NewTape(), u.Params()[:len(u.Params())-1])
	if err != nil {
		t.Fatal(err)
	}
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	pearson, err := metrics.Pearson(logP, logR)
	if err != nil {
		t.Fatal(err)
	}
	spearman, err := metrics.Spearman(logP, logR)
	if err != nil {
		t.Fatal(err)
	}
	ts := got.TestSet
	if ts == nil || ts.Objects != 25 || ts.PerObject != 2000 || math.Abs(float64(ts.Pearson)-pearson) > 0.01 || math.Abs(float64(ts.Spearman)-spearman) > 0.03 {
		t.Errorf("%+v, exactly %v and %v", ts, pearson, spearman)
	}
	if !(ts.PearsonLow < ts.Pearson && ts.Pearson < ts.PearsonHigh && ts.PearsonHigh <= 1) || !(ts.SpearmanLow < ts.Spearman && ts.Spearman < ts.SpearmanHigh && ts.SpearmanHigh <= 1) {
		t.Errorf("bounds of %+v", ts)
	}
	var row runs.Row
	got.AddTo(&row)
	if *row.TestPearsonLow != ts.PearsonLow || *row.TestPearsonHigh != ts.PearsonHigh || *row.TestSpearmanLow != ts.SpearmanLow || *row.TestSpearmanHigh != ts.SpearmanHigh {
		t.Errorf("%+v", row)
	}
	if got.Samples != 0 || got.ELBO != nil || got.Counted != nil {
		t.Errorf("samples that nobody asked for: %s", asJSON(t, got))
	}
	// Too few trajectories are noisy, and no error.
	spec.Eval.TestSet = 1
	if one := estimate(t, u).TestSet; one == nil || one.Pearson == ts.Pearson {
		t.Errorf("one trajectory each: %+v", one)
	}
}

// TestModesAndTransport of an environment that knows its target.
func TestModesAndTransport(t *testing.T) {
	spec := job.Default()
	spec.Name, spec.Env = "modes", job.Env{Name: "hypergrid", Params: map[string]any{"dim": 2, "height": 8, "r0": 0.1}}
	spec.Policy.Hidden = []int{8}
	spec.Eval.Samples = 2000
	u := newUpdater(t, spec)
	plain := estimate(t, u)
	u.Env = knowing{u.Env.(envs.Enumerable)}
	got := estimate(t, u)
	if got.Modes == nil || len(got.Modes.Shares) != 4 || got.Modes.Total != 4 {
		t.Fatalf("%s", asJSON(t, got.Modes))
	}
	sum := 0.0
	for m, share := range plain.Modes.Shares {
		sum += share
		if m > 0 && math.Abs(share-got.Modes.Shares[m]) > 1e-12 {
			t.Errorf("mode %d: %v and %v", m, share, got.Modes.Shares[m])
		}
	}
	if math.Abs(got.Modes.Shares[0]-sum) > 1e-9 || sum == 0 {
		t.Errorf("mode 0 has %v, all have %v", got.Modes.Shares[0], sum)
	}
	// The new policy stays near the origin; the target has mass in every corner.
	if s := got.Sinkhorn; s == nil || s.Cost < 1 || s.Cost > 50 || s.Error > 0.01 || !(s.Floor > 0 && float64(s.Floor) < s.Cost/2) || plain.Sinkhorn != nil {
		t.Errorf("transport %+v, %+v", s, plain.Sinkhorn)
	}
	var row runs.Row
	got.AddTo(&row)
	text := asJSON(t, row)
	for _, want := range []string{`"eval_samples":2000`, `"eval_elbo":`, `"eval_eubo":`, `"eval_log_z":`, `"eval_ess":`, `"sample_tv":`, `"sample_modes":`, `"mode_share_min":`, `"sinkhorn":`, `"sinkhorn_floor":`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, not := range []string{"top_k", "test_", "hellinger"} {
		if strings.Contains(text, not) {
			t.Errorf("%s in %s", not, text)
		}
	}
}

// halving is a one-dimensional grid whose reward is the uniform policy's own
// distribution, times e³: where P_F is uniform it is a perfect sampler.
type halving struct{ envs.Enumerable }

type halvingStates struct {
	envs.States
	e halving
}

func (h halving) reward(x int) float64 { return 3 - math.Ln2*float64(min(x+1, h.NumObjects()-1)) }

func (h halving) NewStates(n int) envs.States { return &halvingStates{h.Enumerable.NewStates(n), h} }
func (h halving) Load(s envs.States, row, state int) {
	h.Enumerable.Load(s.(*halvingStates).States, row, state)
}
func (h halving) Object(s envs.States, row int) int {
	return h.Enumerable.Object(s.(*halvingStates).States, row)
}
func (h halving) LogRewards(out []float64) {
	for x := range out {
		out[x] = h.reward(x)
	}
}
func (s *halvingStates) CopyRow(dst int, from envs.States, src int) {
	s.States.CopyRow(dst, from.(*halvingStates).States, src)
}
func (s *halvingStates) LogReward(rows []int32, out []float64) error {
	for i, row := range rows {
		out[i] = s.e.reward(s.e.Object(s, int(row)))
	}
	return nil
}

// rewarded is a Roller of the plain grid that gives out halving's rewards.
type rewarded struct {
	*sampler.Roller
	e halving
}

func (r rewarded) SampleN(n int, params []float32, version, first uint64, dst []wire.Trajectory) ([]wire.Trajectory, error) {
	dst, err := r.Roller.SampleN(n, params, version, first, dst)
	for i := range dst {
		dst[i].LogReward = r.e.reward(len(dst[i].Actions) - 1)
	}
	return dst, err
}

// TestPerfectSampler: every sample says log Z, and both bounds are tight.
func TestPerfectSampler(t *testing.T) {
	spec := gridSpec(1, 7)
	spec.Policy.Hidden = []int{4}
	spec.Eval.Samples = 3000
	u := newUpdater(t, spec)
	h := halving{u.Env.(envs.Enumerable)}
	u.Env = h
	clear(u.Params()) // uniform
	e, err := paramserver.NewEstimator(u, u.Exact(t.Context()), func(spec *job.Spec) (paramserver.Drawer, error) {
		r, err := sampler.NewRoller(spec, 0)
		return rewarded{r, h}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Estimate(t.Context(), u.Params(), 5)
	if err != nil {
		t.Fatal(err)
	}
	for what, z := range map[string]*paramserver.Estimate{"ELBO": got.ELBO, "EUBO": got.EUBO, "log Z": got.LogZ} {
		if math.Abs(float64(z.Value)-3) > 1e-5 || z.StdErr > 1e-5 {
			t.Errorf("%s: %+v, want 3 exactly", what, z)
		}
	}
	if ess := float64(got.LogZ.ESS); math.Abs(ess-3000) > 0.01 {
		t.Errorf("ESS %v of 3000", ess)
	}
	if c := got.Counted; c.TV.Low > 0.01 || c.TV.Plain > 2*c.Floor {
		t.Errorf("%+v", c)
	}
}

func TestEstimatorIsAsked(t *testing.T) {
	spec := smallSpec()
	u := newUpdater(t, spec)
	if e, err := paramserver.NewEstimator(u, u.Exact(t.Context()), roll); e != nil || err != nil {
		t.Errorf("an Estimator that nobody asked for: %v, %v", e, err)
	}
	spec.Eval.Samples = 10
	e, err := paramserver.NewEstimator(u, nil, roll)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Estimate(t.Context(), u.Params(), 0); err != nil || got.EUBO != nil || got.Counted != nil || got.ELBO == nil {
		t.Errorf("not enumerated: %s, %v", asJSON(t, got), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Estimate(ctx, u.Params(), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := e.Estimate(t.Context(), u.Params()[:3], 0); err == nil {
		t.Error("three parameters are accepted")
	}
}

// TestNoTestSet: a job that asks for what its environment does not have is refused.
func TestNoTestSet(t *testing.T) {
	bits := func() *job.Spec {
		s := smallSpec()
		s.Env = job.Env{Name: "bitseq", Params: map[string]any{"n": int64(8), "k": int64(4), "modes": int64(2)}}
		s.Eval.TestSet = 2
		return s
	}
	if _, _, err := paramserver.CheckLocal(bits()); err != nil {
		t.Errorf("bitseq: %v", err)
	}
	grid := smallSpec()
	grid.Eval.TestSet = 2
	rewarded := bits()
	rewarded.Reward = &job.Reward{Command: []string{"reward"}}
	for why, spec := range map[string]*job.Spec{"hypergrid has no test set": grid, "those of a program": rewarded} {
		_, _, err := paramserver.CheckLocal(spec)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != "eval.test_set" || !strings.Contains(fault.Want, why) {
			t.Errorf("%s: %v", why, err)
		}
		if _, err := paramserver.NewUpdater(spec); err != nil { // a run of before can be looked at
			t.Errorf("%s: %v", why, err)
		}
	}
}
