package paramserver

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/policy"
)

// Drawer samples trajectories of a policy, numbered from first, each from a
// random stream of its own: a sampler.Roller.
type Drawer interface {
	// Within makes what is asked of other programs end with ctx.
	Within(ctx context.Context)
	SampleN(n int, params []float32, version, first uint64, dst []wire.Trajectory) ([]wire.Trajectory, error)
}

// Estimator estimates from samples how good a version is, as the eval section of
// its job asks: the part of an evaluation that needs no enumeration. The target
// is that of the final reward exponent. Estimates depend on the seed, the version
// and the parameters only. An Estimator is for one goroutine, and shares no
// workspace with the Updater.
type Estimator struct {
	spec  *job.Spec
	env   envs.Env
	shape envs.Spec
	beta  float64 // final reward exponent
	size  int     // of the model's parameters
	chunk int     // trajectories scored at once

	tape   policy.Tape
	frozen *frozenBackward // nil unless the spec freezes P_B
	prior  *prior          // in the place of P_B; nil: there is none
	asm    *policy.Assembler
	batch  policy.Batch
	scores policy.Scores
	drawer Drawer // nil: nothing is sampled forward
	back   *resampler
	exact  *metrics.Evaluator  // nil where the environment cannot be enumerated
	draws  *metrics.ExactDraws // of its target
	logZ   *runs.Float         // that of the target, if the environment knows it

	trajectories []wire.Trajectory
	actions      [][]int32
	rows         []int32
	scored       // of the last chunk
}

// scored are sums over the transitions of each trajectory; the log-reward is the
// target's, β·log R.
type scored struct{ logPF, logPB, logReward []float64 }

const (
	// scoredCells bounds what a chunk of trajectories takes: states × actions.
	scoredCells = 1 << 22
	// maxScored is the most trajectories of a chunk.
	maxScored = 1024
	// maxShares is the most modes whose shares are listed.
	maxShares = 1 << 16
	// replicates of the samples give the intervals of counts.
	replicates = 200
	// transported samples are compared with as many of the target.
	transported = 512
)

// Random streams of evaluations, by version.
const (
	testStream = iota
	targetPathStream
	targetStream
	transportStream
	streams
)

// NewEstimator returns the Estimator of u's job, or nil if that asks for no
// estimates. draw makes a Drawer of a spec without exploration; exact is u's, or nil.
func NewEstimator(u *Updater, exact *metrics.Evaluator, draw func(*job.Spec) (Drawer, error)) (*Estimator, error) {
	spec := u.Spec
	if !spec.Eval.Estimates() {
		return nil, nil
	}
	shape := u.Env.Spec()
	cells := max(1, shape.MaxSteps*(shape.Actions+shape.BackwardActions+shape.Dense))
	e := &Estimator{
		spec: spec, env: u.Env, shape: shape, beta: spec.RewardExponent.At(spec.Train.Updates),
		size: u.Model.Layout().Size(), chunk: min(max(scoredCells/cells, 1), maxScored),
		tape: u.Model.NewTape(), asm: policy.NewAssembler(u.Env), back: newResampler(u.Env, spec.Seed, rng.Evaluate), exact: exact,
	}
	var err error
	if e.prior, err = openPrior(u); err != nil {
		return nil, err
	}
	if known, ok := u.Env.(envs.Described); ok && e.prior == nil && e.beta == 1 {
		if z := known.Facts().LogZ; z != nil {
			e.logZ = runs.Some(*z)
		}
	}
	if spec.Policy.Backward == string(losses.Frozen) {
		first := make([]float32, e.size)
		u.Model.Init(first, spec.Seed)
		e.frozen = &frozenBackward{tape: u.Model.NewTape(), params: first}
	}
	if spec.Eval.Samples > 0 && draw != nil {
		pure := *spec
		pure.Sampling = job.Default().Sampling // P_F itself
		pure.Seed = rng.New(spec.Seed, rng.Evaluate).Uint64()
		if e.drawer, err = draw(&pure); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Estimate measures a version, whose parameters may be longer than the model's.
// It looks between chunks whether ctx has ended, and what it asks of other programs
// ends with ctx.
func (e *Estimator) Estimate(ctx context.Context, params []float32, version uint64) (*Estimates, error) {
	if len(params) < e.size {
		return nil, fmt.Errorf("estimates: %d parameters; the policy has %d", len(params), e.size)
	}
	params, out := params[:e.size], &Estimates{TrueLogZ: e.logZ}
	e.asm.Within(ctx)
	e.back.within(ctx)
	if e.drawer != nil {
		e.drawer.Within(ctx)
		if err := e.forward(ctx, params, version, out); err != nil {
			return nil, fmt.Errorf("estimates from P_F: %w", err)
		}
	}
	if e.prior != nil { // the target is the prior times R: it has no draws, nor P_B ways to its objects
		return out, nil
	}
	if e.drawer != nil {
		if err := e.upper(ctx, params, version, out); err != nil {
			return nil, fmt.Errorf("upper bound of log Z: %w", err)
		}
	}
	if err := e.test(ctx, params, version, out); err != nil {
		return nil, fmt.Errorf("test set: %w", err)
	}
	return out, nil
}

// forward samples P_F.
func (e *Estimator) forward(ctx context.Context, params []float32, version uint64, out *Estimates) error {
	n := e.spec.Eval.Samples
	seen := e.newTally(n)
	var deltas []float64
	var sums losses.ImportanceSums
	for first := 0; first < n; first += e.chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		// Versions have streams of their own: 2²⁰ is the most that eval.samples may be.
		batch, err := e.drawer.SampleN(min(e.chunk, n-first), params, version, version<<20+uint64(first), e.trajectories)
		if err != nil {
			return err
		}
		e.trajectories = batch
		if err := e.score(params, batch); err != nil {
			return err
		}
		for i := range batch {
			deltas = append(deltas, e.logPF[i]-e.logReward[i]-e.logPB[i])
			sums.Add(e.logReward[i], e.logPB[i], e.logPF[i])
			seen.add(e.asm.States(), i, batch[i].LogReward)
		}
	}
	out.Samples = n
	var err error
	if out.ELBO, err = estimated(losses.ELBO(deltas)); err != nil {
		return err
	}
	if out.LogZ, err = estimated(sums.LogZ()); err != nil {
		return err
	}
	return seen.report(version, out)
}

// upper bounds log Z from above with objects of the target, where those can be had.
func (e *Estimator) upper(ctx context.Context, params []float32, version uint64, out *Estimates) error {
	rnd := rng.New(e.spec.Seed, rng.Evaluate, version*streams+targetStream)
	var load func(s envs.States, row int) error
	if drawn, ok := e.env.(envs.Drawn); ok && e.beta == 1 {
		load = func(s envs.States, row int) error {
			drawn.Draw(rnd, s, []int32{int32(row)})
			return nil
		}
	} else if e.exact != nil {
		if e.draws == nil {
			e.draws = e.exact.Draws()
		}
		load = func(s envs.States, row int) error {
			_, err := e.draws.Draw(rnd, s, row)
			return err
		}
	} else {
		return nil
	}
	var deltas []float64
	err := e.backward(ctx, params, version*streams+targetPathStream, e.spec.Eval.Samples,
		func(s envs.States, row, _ int) error { return load(s, row) },
		func(i int) { deltas = append(deltas, e.logPF[i]-e.logReward[i]-e.logPB[i]) })
	if err != nil {
		return err
	}
	out.EUBO, err = estimated(losses.EUBO(deltas))
	return err
}

// backward samples one trajectory of each of n objects with P_B and shows what it
// scored, object by object. load makes a row object i.
func (e *Estimator) backward(ctx context.Context, params []float32, stream uint64, n int, load func(s envs.States, row, i int) error, each func(i int)) error {
	tape, way := e.tape, params
	if e.frozen != nil {
		tape, way = e.frozen.tape, e.frozen.params
	}
	for first := 0; first < n; first += e.chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch, err := e.back.from(tape, way, stream, uint64(first), min(e.chunk, n-first),
			func(s envs.States, row int) error { return load(s, row, first+row) }, e.trajectories)
		if err != nil {
			return err
		}
		e.trajectories = batch
		if err := e.score(params, batch); err != nil {
			return err
		}
		for i := range batch {
			each(i)
		}
	}
	return nil
}

// score fills in the sums of trajectories, and log-rewards that they lack.
func (e *Estimator) score(params []float32, batch []wire.Trajectory) error {
	n := len(batch)
	e.actions = e.actions[:0]
	for i := range batch {
		e.actions = append(e.actions, batch[i].Actions)
	}
	if err := e.asm.Assemble(e.actions, &e.batch); err != nil {
		return err
	}
	if err := e.tape.Score(params, &e.batch, &e.scores); err != nil {
		return err
	}
	if e.frozen != nil {
		if err := e.frozen.score(&e.batch, &e.scores); err != nil {
			return err
		}
	}
	logPB, at := e.scores.LogPB, e.batch.BOffset
	if e.prior != nil {
		if err := e.prior.score(&e.batch); err != nil {
			return err
		}
		logPB, at = e.prior.scores.LogPF, e.batch.FOffset
	}
	for len(e.rows) < n {
		e.rows = append(e.rows, int32(len(e.rows)))
	}
	e.logReward = slices.Grow(e.logReward[:0], n)[:n]
	if math.IsNaN(batch[0].LogReward) {
		if err := e.asm.States().LogReward(e.rows[:n], e.logReward); err != nil {
			return err
		}
	} else {
		for i := range batch {
			e.logReward[i] = batch[i].LogReward
		}
	}
	e.logPF, e.logPB = e.logPF[:0], e.logPB[:0]
	for i := range batch {
		e.logReward[i] *= e.beta
		e.logPF = append(e.logPF, sum(e.scores.LogPF[e.batch.FOffset[i]:e.batch.FOffset[i+1]]))
		e.logPB = append(e.logPB, sum(logPB[at[i]:at[i+1]]))
	}
	return nil
}
