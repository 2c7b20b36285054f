package paramserver

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/policy"
)

// prior is a trained sampler that a job tilts by its reward: relative trajectory
// balance (Venkatraman et al., NeurIPS 2024). In the residual log p_prior(τ), the
// forward policy of the prior, stands where log P_B(τ|x) does,
//
//	δ = log Z + log P_F(τ) − log R(x) − log p_prior(τ),
//
// so that P_F(τ) becomes p_prior(τ)·R(x)/Z, and of objects p_prior(x)·R(x)/Z.
type prior struct {
	layout policy.Layout // of params
	tape   policy.Tape
	params []float32
	scores policy.Scores
}

// openPrior reads the sampler that loss.prior names; nil where it names none. It has
// to walk the same states as the job.
func openPrior(u *Updater) (*prior, error) {
	path := u.Spec.Loss.Prior
	fault := func(want string) error { return fielderr.New("loss.prior", path, want) }
	if path == "" {
		if i, ok := u.Env.(envs.Improper); ok && i.Improper() {
			return nil, fault("the folder of a trained run: this reward has no finite sum, and no target of its own: it tilts a prior")
		}
		return nil, nil
	}
	if b := u.Spec.Policy.Backward; b != string(losses.Uniform) {
		return nil, fielderr.New("policy.backward", b, "uniform: with loss.prior, P_B is not in the loss")
	}
	if o := u.Spec.Loss.Objective; o != "" && o != job.TB {
		return nil, fielderr.New("loss.objective", o, "tb: loss.prior stands where the log P_B of whole trajectories does")
	}
	if n := u.Spec.Loss.Normaliser; n == string(losses.Exact) {
		return nil, fielderr.New("loss.normaliser", n, "another: with loss.prior, log Z is the environment's no more")
	}
	c, err := runs.LoadCheckpoint(path)
	if err != nil {
		return nil, fault("the folder of a finished run: " + err.Error())
	}
	spec, err := job.FromJSON(c.Spec)
	if err != nil {
		return nil, fault("a run of this program: " + err.Error())
	}
	env, err := registry.New(spec.Env.Name, spec.Env.Params)
	if err != nil {
		return nil, fault("a run whose environment there is: " + err.Error())
	}
	if !reflect.DeepEqual(env.Spec(), u.Env.Spec()) {
		return nil, fault(fmt.Sprintf("a run on states like those of the job, %+v; it has %+v", u.Env.Spec(), env.Spec()))
	}
	if spec.Policy.Drift == "langevin" && !alike(env, u.Env) {
		return nil, fault("a run with policy.drift plain, or on states that show the same gradient: a langevin drift depends on that of its own target")
	}
	model, err := policy.ForJob(spec, env.Spec()) // its objective may have given it flows
	if err != nil {
		return nil, fault("a run with a policy: " + err.Error())
	}
	layout := model.Layout().Append(LogZName, policy.GroupLogZ, 1)
	var want []runs.Param
	for _, p := range layout {
		want = append(want, runs.Param{Name: p.Name, Shape: p.Shape, Group: p.Group})
	}
	if err := c.Match(want); err != nil {
		return nil, fault("a checkpoint that fits its own job: " + err.Error())
	}
	return &prior{layout: model.Layout(), tape: model.NewTape(), params: c.Params[:model.Layout().Size()]}, nil
}

// alike says whether two environments of points, of equal shape, show a model the
// same of the same points: some are looked at, apart by the noise of a step and more.
func alike(a, b envs.Env) bool {
	shape, row := a.Spec(), []int32{0}
	x, y := a.NewStates(1), b.NewStates(1)
	point := make([]int32, shape.ActionDim)
	for step := range min(shape.MaxSteps, 8) {
		for j := range point {
			point[j] = envs.Word(float32(shape.Sigma * math.Sin(float64(1+j+3*step))))
		}
		if x.Forward(row, point) != nil || y.Forward(row, point) != nil {
			return false
		}
		if !slices.Equal(x.(envs.Points).AppendDense(nil, 0), y.(envs.Points).AppendDense(nil, 0)) {
			return false
		}
	}
	return true
}

// begin makes the prior the job's initial model, where the two are alike.
func (p *prior) begin(layout policy.Layout, params []float32) {
	if reflect.DeepEqual(p.layout, layout) {
		copy(params, p.params)
	}
}

// score evaluates the prior on the forward transitions of a batch.
func (p *prior) score(b *policy.Batch) error {
	if err := p.tape.Score(p.params, b, &p.scores); err != nil {
		return fmt.Errorf("prior: %w", err)
	}
	return nil
}
