package study

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/policy"
)

// maxTrajectories bounds the enumeration: numeric gradients score all of them
// twice for every parameter.
const maxTrajectories = 200_000

// Gradients compares, for each member in each enumerable environment, the
// expected on-policy gradient of trajectory balance with exact log Z and uniform
// P_B, through the real network, with the numeric gradient of D_f between
// distributions over trajectories.
func Gradients() experiment.Computation {
	type config struct {
		networks int
		env      string
		table    string
	}
	decode := func(given map[string]any) (config, error) {
		c := config{networks: 3}
		err := params.Decode([]params.Binding{
			params.Int("networks", &c.networks, "networks with other parameters, over which intervals are"),
			params.Text("env", &c.env, "one environment; empty: all"),
			params.Text("table", &c.table, "a small CSV of sequences and values, in place of the words of the environment sequence"),
		}, given)
		if err == nil && (c.networks < 1 || c.networks > 100) {
			err = fielderr.New("networks", c.networks, "an integer from 1 to 100")
		}
		if err == nil && c.env != "" {
			var names []string
			known := false
			for _, k := range casesWith(c.table) {
				names, known = append(names, k.Env), known || k.Env == c.env
			}
			if !known {
				err = fielderr.New("env", c.env, params.OneOf(c.env, slices.Compact(names)))
			}
		}
		return c, err
	}
	return experiment.Computation{
		About:   "expected on-policy gradients through the real network against numeric gradients of D_f, per member and enumerable environment",
		Version: 1, // more environments
		Check:   func(given map[string]any) error { _, err := decode(given); return err },
		Run: func(ctx context.Context, given map[string]any, seed uint64) (*experiment.Table, error) {
			c, err := decode(given)
			if err != nil {
				return nil, err
			}
			var cases []Case
			for _, k := range casesWith(c.table) {
				if c.env == "" || c.env == k.Env {
					cases = append(cases, k)
				}
			}
			return GradientTable(ctx, cases, c.networks, seed)
		},
	}
}

// GradientTable is the table of Gradients for given environments.
func GradientTable(ctx context.Context, cases []Case, networks int, seed uint64) (*experiment.Table, error) {
	t := &experiment.Table{
		Columns: []string{"environment", "trajectories", "parameters", "member", "gradient_length", "relative_error", "low", "high", "worst", "cosine"},
		Values:  map[string]float64{},
	}
	var members []losses.Divergence
	for _, row := range losses.Table() {
		d, err := losses.Parse(row.Example)
		if err != nil {
			return nil, err
		}
		members = append(members, d)
	}
	worst := 0.0
	for _, c := range cases {
		errs, lengths, cosines := make([][]float64, len(members)), make([][]float64, len(members)), make([][]float64, len(members)) // by member, then network
		var e *enumerated
		for n := range networks {
			var err error
			if e, err = enumerate(c, seed+uint64(n)); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name(), err)
			}
			numeric, err := e.numeric(ctx, members)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name(), err)
			}
			for i, d := range members {
				got, err := e.expected(d)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", c.name(), d.Name(), err)
				}
				off, length, cosine := compare(got, numeric[i])
				errs[i], lengths[i], cosines[i] = append(errs[i], off), append(lengths[i], length), append(cosines[i], cosine)
			}
		}
		top, least := 0.0, 1.0
		for i, d := range members {
			est, high, low := NewEstimate(errs[i]), 0.0, 1.0
			for k, v := range errs[i] {
				high, low = max(high, v), min(low, cosines[i][k])
			}
			top, least = max(top, high), min(least, low)
			t.Rows = append(t.Rows, []any{c.name(), float64(len(e.logR)), float64(len(e.params)), d.Name(),
				number(NewEstimate(lengths[i]).Mean), number(est.Mean), number(max(est.Low, 0)), number(est.High), number(high), number(low)})
		}
		worst = max(worst, top)
		t.Notes = append(t.Notes, fmt.Sprintf("%s: %d trajectories, %d members: the expected gradient is off by at most %.1e of its length, cosine at least %.9f",
			c.describe(), len(e.logR), len(members), top, least))
	}
	t.Values["worst_relative_error"] = worst
	return t, nil
}

// enumerated is an environment with all its trajectories, and a network for it.
type enumerated struct {
	tape   policy.Tape
	twin   *twin
	params []float32
	batch  policy.Batch
	logR   []float64 // by trajectory
	logPF  []float64 // of the real network
	logPB  []float64
	logZ   float64
}

// ErrTooMany says that an environment has more trajectories than are listed.
var ErrTooMany = errors.New("too many trajectories to list")

func enumerate(c Case, seed uint64) (*enumerated, error) {
	env, err := c.open()
	if err != nil {
		return nil, err
	}
	g, err := envs.Enumerate(env)
	if err != nil {
		return nil, err
	}
	spec := env.Spec()
	model, err := policy.FromSpec(job.Policy{Kind: "mlp", Hidden: []int{6, 5}, Activation: "tanh", Backward: "uniform"}, spec)
	if err != nil {
		return nil, err
	}
	e := &enumerated{tape: model.NewTape()}
	if e.twin, err = newTwin(model, spec.Features, spec.Actions); err != nil {
		return nil, err
	}
	e.params = make([]float32, model.Layout().Size())
	model.Init(e.params, seed)
	for i := range e.params {
		e.params[i] *= 3 // away from the uniform policy that small weights are
	}
	rewards := make([]float64, g.NumObjects())
	g.LogRewards(rewards)
	var paths [][]int32
	complete := true
	envs.Trajectories(g, func(p envs.Path) bool {
		if complete = len(paths) < maxTrajectories; complete {
			paths = append(paths, append([]int32(nil), p.Actions...))
			e.logR = append(e.logR, rewards[p.Object])
		}
		return complete
	})
	if !complete {
		return nil, fmt.Errorf("%w: more than %d", ErrTooMany, maxTrajectories)
	}
	_, e.logZ = envs.Target(g)
	if err := policy.NewAssembler(env).Assemble(paths, &e.batch); err != nil {
		return nil, err
	}
	return e, e.score()
}

// score runs the real network over all trajectories.
func (e *enumerated) score() error {
	var s policy.Scores
	if err := e.tape.Score(e.params, &e.batch, &s); err != nil {
		return err
	}
	e.logPF, e.logPB = make([]float64, len(e.logR)), make([]float64, len(e.logR))
	for i := range e.logR {
		for k := e.batch.FOffset[i]; k < e.batch.FOffset[i+1]; k++ {
			e.logPF[i] += s.LogPF[k]
		}
		for k := e.batch.BOffset[i]; k < e.batch.BOffset[i+1]; k++ {
			e.logPB[i] += s.LogPB[k]
		}
	}
	return nil
}

// compare returns the largest difference of any component between two
// gradients, relative to the length of the second, that length, and the cosine
// between them.
func compare(got []float32, want []float64) (off, length, cosine float64) {
	var dot, gg, ww, worst float64
	for i, w := range want {
		g := float64(got[i])
		dot, gg, ww = dot+g*w, gg+g*g, ww+w*w
		worst = max(worst, math.Abs(g-w))
	}
	length = math.Sqrt(ww)
	return worst / length, length, dot / math.Sqrt(gg*ww)
}

// expected is E_q[g'(δ) ∇ log q]: the production objective on every trajectory,
// weighted with its probability, and the production backward pass.
func (e *enumerated) expected(d losses.Divergence) ([]float32, error) {
	tb, err := losses.NewTB(losses.Config{Member: losses.Fixed(d), Normaliser: losses.Exact, Backward: losses.Uniform})
	if err != nil {
		return nil, err
	}
	in := losses.Input{LogPF: e.logPF, LogPB: e.logPB, LogReward: e.logR, LogZ: e.logZ}
	for _, lp := range e.logPF {
		in.Weights = append(in.Weights, math.Exp(lp))
	}
	var out losses.Output
	if err := tb.Evaluate(0, &in, &out); err != nil {
		return nil, err
	}
	var w policy.Weights
	for i, v := range out.W {
		for range e.batch.FOffset[i+1] - e.batch.FOffset[i] {
			w.PF = append(w.PF, v)
		}
	}
	if err := e.tape.Score(e.params, &e.batch, &policy.Scores{}); err != nil {
		return nil, err
	}
	grad := make([]float32, len(e.params))
	return grad, e.tape.Backprop(&w, grad)
}

// numeric is ∇ D_f(p‖q) of each member, by central differences of the float64
// network.
func (e *enumerated) numeric(ctx context.Context, members []losses.Divergence) ([][]float64, error) {
	const h = 1e-5
	target := make([]float64, len(e.logR))
	for i, r := range e.logR {
		target[i] = r + e.logPB[i] - e.logZ
	}
	params := make([]float64, len(e.params))
	for i, v := range e.params {
		params[i] = float64(v)
	}
	out := make([][]float64, len(members))
	for k := range out {
		out[k] = make([]float64, len(params))
	}
	logPF := make([]float64, len(e.logR))
	for i, p := range params {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, step := range []float64{h, -h} {
			params[i] = p + step
			e.twin.logPF(params, &e.batch, logPF)
			for k, d := range members {
				v, err := losses.Between(d, target, logPF)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", d.Name(), err)
				}
				out[k][i] += v / (2 * step)
			}
		}
		params[i] = p
	}
	return out, nil
}
