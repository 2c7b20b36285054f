package paramserver

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/optim"
	"github.com/driftmesh/driftmesh/policy"
)

// Updater is the learner's arithmetic: it turns a batch of trajectories and the
// state S_v into S_v+1. It is pure: no goroutine, clock or socket, and equal
// batches give equal bits.
type Updater struct {
	Spec  *job.Spec
	Env   envs.Env
	Model policy.Model
	// Warnings are about settings that are legal but known to mislead.
	Warnings []string
	// Inexact is why Exact gave nothing where another program had to be asked.
	Inexact error

	ctx    context.Context // of what is asked of other programs; nil: none
	listed envs.Enumerable // what Exact has made of an envs.Lister

	words  int           // of an action
	layout policy.Layout // the model's, and log_z
	tape   policy.Tape
	frozen *frozenBackward // P_B as it was at version 0; nil unless the spec freezes it
	prior  *prior          // a sampler in the place of P_B; nil: there is none
	asm    *policy.Assembler
	loss   losses.Objective
	known  *knownLogZ // nil unless the normaliser is exact
	opt    *optim.Optimiser

	params       []float32
	grad         []float32
	version      uint64
	trajectories uint64
	moded        envs.Moded     // nil when the environment has no modes
	modes        *metrics.Modes // found by training trajectories; nil with moded
	best         *bestKeeper
	key          []byte
	mix          *mixture    // nil without replay
	data         *dataSource // nil until OpenData
	replayed     uint64
	bias         *runs.Bias   // nil: nothing is counted
	track        *biasTracker // nil: this Updater does not count
	recorder     *Recorder    // whose open stretch is part of the state; nil: none is
	carried      []byte       // the stretch of the state that was restored

	batch   policy.Batch  // what was assembled
	pass    policy.Pass   // a rollout that the next Step may find on the tape
	scored  *policy.Batch // what the update is made of: batch, or that of a pass,
	objects envs.States   // and its objects
	actions [][]int32
	scores  policy.Scores
	weights policy.Weights
	factors []float64 // weights of the trajectories
	in      losses.Input
	steps   losses.Steps
	out     losses.Output
	update  Update
}

// Update tells what one optimiser step did. It is valid until the next step.
type Update struct {
	Version      uint64 // after the step
	Trajectories uint64 // fresh ones trained on since the job began
	Batch        []wire.Trajectory
	Fresh        int // of the batch, the first ones; the others were replayed
	Refused      int
	GradNorm     float64 // before clipping
	LogZ         float64 // learned scalar after the step
	In           *losses.Input
	Loss         *losses.Output
	LearningRate float64
	LogZRate     float64
}

// ErrNoBatch says that nothing was left of a batch once what cannot be trained
// on had been refused. The state is as it was; the next batch may be better.
var ErrNoBatch = errors.New("no trajectory of the batch can be trained on")

// LogZName is the name of the learned log Z in the parameter layout.
const LogZName = "log_z"

// Check finds the faults of a spec in a mesh: those of CheckLocal, and what only a
// single process can do.
func Check(spec *job.Spec) (warnings []string, size int64, err error) {
	if err := dataInMesh(spec); err != nil {
		return nil, 0, err
	}
	return CheckLocal(spec)
}

// CheckLocal finds the faults of a spec that NewUpdater and CheckEval would, without
// the memory that a learner takes. size is what the parameters and the optimiser's moments
// take in every Commit, in bytes.
func CheckLocal(spec *job.Spec) (warnings []string, size int64, err error) {
	u, err := describe(spec, openPrior)
	if err != nil {
		return nil, 0, err
	}
	if err := u.CheckEval(); err != nil {
		return nil, 0, err
	}
	return u.Warnings, vectorBytes(spec, u.layout), nil
}

// NewUpdater builds everything a spec names, at version 0. Faults of the spec
// come back as fielderr.Errors with their paths.
func NewUpdater(spec *job.Spec) (*Updater, error) { return build(spec, openPrior) }

// NewSampler is NewUpdater for a run that is only sampled from: its prior, which is needed
// to train and to measure, may be gone.
func NewSampler(spec *job.Spec) (*Updater, error) {
	return build(spec, func(*Updater) (*prior, error) { return nil, nil })
}

func build(spec *job.Spec, prior func(*Updater) (*prior, error)) (*Updater, error) {
	u, err := describe(spec, prior)
	if err != nil {
		return nil, err
	}
	model := u.Model
	u.tape = model.NewTape()
	if u.opt, err = optim.New(optim.FromSpec(spec.Optimiser), u.layout); err != nil {
		return nil, fielderr.Prefix("optimiser", err)
	}
	u.params = make([]float32, u.layout.Size())
	u.grad = make([]float32, u.layout.Size())
	model.Init(u.params[:model.Layout().Size()], spec.Seed)
	u.params[len(u.params)-1] = float32(spec.Loss.LogZInit)
	if u.prior != nil {
		u.prior.begin(model.Layout(), u.params)
	}
	if spec.Policy.Backward == string(losses.Frozen) {
		u.frozen = &frozenBackward{tape: model.NewTape(), params: append([]float32(nil), u.params[:len(u.params)-1]...)}
	}
	return u, nil
}

// describe builds an Updater without the vectors of its parameters' length.
func describe(spec *job.Spec, prior func(*Updater) (*prior, error)) (*Updater, error) {
	env, envErr := registry.OfJob(spec)
	loss, warnings, lossErr := losses.FromSpec(spec.Loss, spec.Policy.Backward, spec.Train.Batch)
	if err := errors.Join(envErr, fielderr.Prefix("loss", lossErr)); err != nil {
		return nil, err
	}
	model, err := policy.ForJob(spec, env.Spec())
	if err != nil {
		return nil, err
	}
	if _, ok := env.NewStates(1).(envs.Potential); spec.Loss.NeedsPotential() && !ok {
		return nil, fielderr.New("loss.objective", spec.Loss.Objective, fmt.Sprintf(
			"another objective, such as db: %s has no rewards of unfinished states", env.Spec().Name))
	}
	shape := env.Spec()
	if spec.Loss.NeedsParents() && shape.Continuous() {
		return nil, fielderr.New("loss.objective", spec.Loss.Objective, fmt.Sprintf(
			"tb, subtb or db: the parents of a state of %s, all points of a space, cannot be listed", shape.Name))
	}
	u := &Updater{
		Spec: spec, Env: env, Model: model, Warnings: warnings, words: shape.Words(),
		layout: model.Layout().Append(LogZName, "log_z", 1),
		asm:    policy.NewAssembler(env),
		loss:   loss,
	}
	u.asm.Potentials(spec.Loss.NeedsPotential())
	u.asm.Parents(spec.Loss.NeedsParents())
	if err := optim.FromSpec(spec.Optimiser).Check(); err != nil {
		return nil, fielderr.Prefix("optimiser", err)
	}
	if err := checkSize(spec, u.layout); err != nil {
		return nil, err
	}
	if spec.Loss.Normaliser == string(losses.Exact) {
		if u.known, err = newKnownLogZ(env, spec); err != nil {
			return nil, fielderr.Prefix("loss", err)
		}
	}
	if err := checkRollout(spec, &shape); err != nil {
		return nil, err
	}
	if m, ok := env.(envs.Moded); ok && m.NumModes() > 0 {
		u.moded, u.modes = m, metrics.NewModes(m.NumModes())
	}
	if u.prior, err = prior(u); err != nil {
		return nil, err
	}
	u.best = newBestKeeper(maxBest)
	if u.mix, err = newMixture(u); err != nil {
		return nil, err
	}
	return u, nil
}

// Version is the number of optimiser steps taken.
func (u *Updater) Version() uint64 { return u.version }

// Params is the live vector: the model's parameters, then log Z. It changes in
// place at every Step.
func (u *Updater) Params() []float32 { return u.params }

// Layout names the tensors of Params.
func (u *Updater) Layout() policy.Layout { return u.layout }

// LogZ is the learned log-partition.
func (u *Updater) LogZ() float64 { return float64(u.params[len(u.params)-1]) }

// Trajectories is the number trained on since the job began, replayed ones not
// counted.
func (u *Updater) Trajectories() uint64 { return u.trajectories }

// ModesFound returns how many modes training trajectories have hit, and how
// many there are (0 where the environment names none).
func (u *Updater) ModesFound() (found, total int) {
	if u.modes == nil {
		return 0, 0
	}
	return u.modes.Found(), u.modes.Len()
}

// frozenBackward gives log P_B of the initial parameters. The trunk is shared
// with P_F, so leaving the head alone would not keep P_B where it is. The
// parameters follow from the seed and need not be replicated.
type frozenBackward struct {
	tape   policy.Tape
	params []float32
	scores policy.Scores
}

func (f *frozenBackward) score(b *policy.Batch, out *policy.Scores) error {
	if err := f.tape.Score(f.params, b, &f.scores); err != nil {
		return err
	}
	copy(out.LogPB, f.scores.LogPB)
	return nil
}

func (u *Updater) rates(step int64) optim.Rates {
	o := &u.Spec.Optimiser
	r := optim.Rates{Forward: o.LearningRate.At(step), LogZ: o.LogZRate.At(step)}
	r.Backward = r.Forward
	if o.BackwardRate != nil {
		r.Backward = o.BackwardRate.At(step)
	}
	r.Flow = r.Forward
	if o.FlowRate != nil {
		r.Flow = o.FlowRate.At(step)
	}
	return r
}

// observe records modes and best objects of fresh trajectories, and remembers
// them for replay.
func (u *Updater) observe(batch []wire.Trajectory) {
	states := u.objects
	if u.track != nil {
		u.track.trained(u.bias, batch, states)
	}
	if u.mix != nil {
		u.mix.remember(batch, u.asm, u.trajectories)
	}
	for i := range batch {
		if u.modes != nil {
			u.modes.AddObject(u.moded, states, i)
		}
		if !u.best.wants(batch[i].LogReward) {
			continue
		}
		if u.key = states.AppendKey(u.key[:0], i); u.best.fresh(u.key, batch[i].LogReward) {
			u.best.add(u.key, fsm.Object{Text: states.Text(i), LogReward: batch[i].LogReward, Version: batch[i].Version})
		}
	}
}

// Within makes what training asks of other programs end with ctx.
func (u *Updater) Within(ctx context.Context) {
	u.ctx = ctx
	u.asm.Within(ctx)
	if u.mix != nil {
		u.mix.resample.within(ctx)
	}
	if u.data != nil {
		u.data.resample.within(ctx)
	}
}

// resampler is one of training.
func (u *Updater) resampler(use rng.Purpose) *resampler {
	r := newResampler(u.Env, u.Spec.Seed, use)
	if u.ctx != nil {
		r.within(u.ctx)
	}
	return r
}

// Exact returns the exact evaluator of the job's final target, or nil where the
// environment is too large to enumerate, or the target is a prior times R. An
// environment that asks another program is listed once; if ctx ends before that, it
// is as if it could not be.
func (u *Updater) Exact(ctx context.Context) *metrics.Evaluator {
	if u.prior != nil {
		return nil
	}
	env := u.Env
	if l, ok := env.(envs.Lister); ok {
		if u.listed == nil {
			listed, err := l.List(ctx, u.Spec.Eval.MaxStates)
			if u.Inexact = err; err != nil {
				return nil
			}
			u.listed = listed
		}
		env = u.listed
	}
	e, ok := env.(envs.Enumerable)
	if !ok || e.NumStates() > u.Spec.Eval.MaxStates {
		return nil
	}
	v, err := metrics.NewEvaluator(env, u.Spec.RewardExponent.At(u.Spec.Train.Updates))
	if err != nil {
		return nil // ErrNotEnumerable: exact metrics are absent, not wrong
	}
	return v
}

// Divergence is the member of the f-TB family in force now.
func (u *Updater) Divergence() losses.Divergence { return u.loss.Member(int64(u.version)) }

// Best are the best distinct objects trained on since the job began, best first,
// valid until the next Step or Restore.
func (u *Updater) Best() []fsm.Object { return u.best.list }

// TakeBest returns the candidates for the best objects since the last call.
func (u *Updater) TakeBest() []fsm.Object { return u.best.take() }

// finite says whether a vector holds neither NaN nor infinity.
func finite(x []float32) bool {
	for _, v := range x {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return false
		}
	}
	return true
}
