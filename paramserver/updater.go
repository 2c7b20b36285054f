package paramserver

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
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

	layout policy.Layout // the model's, and log_z
	tape   policy.Tape
	frozen *frozenBackward // P_B as it was at version 0; nil unless the spec freezes it
	asm    *policy.Assembler
	loss   *losses.TB
	opt    *optim.Optimiser

	params       []float32
	grad         []float32
	version      uint64
	trajectories uint64
	moded        envs.Moded     // nil when the environment has no modes
	modes        *metrics.Modes // found by training trajectories; nil with moded
	best         *bestKeeper
	key          []byte
	mix          *mixture // nil without replay
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

// Check finds the faults of a spec that NewUpdater would, without the memory
// that a learner takes. size is what the parameters and the optimiser's moments
// take in every Commit, in bytes.
func Check(spec *job.Spec) (warnings []string, size int64, err error) {
	u, err := describe(spec)
	if err != nil {
		return nil, 0, err
	}
	return u.Warnings, vectorBytes(spec, u.layout), nil
}

// NewUpdater builds everything a spec names, at version 0. Faults of the spec
// come back as fielderr.Errors with their paths.
func NewUpdater(spec *job.Spec) (*Updater, error) {
	u, err := describe(spec)
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
	if spec.Policy.Backward == string(losses.Frozen) {
		u.frozen = &frozenBackward{tape: model.NewTape(), params: append([]float32(nil), u.params[:len(u.params)-1]...)}
	}
	return u, nil
}

// describe builds an Updater without the vectors of its parameters' length.
func describe(spec *job.Spec) (*Updater, error) {
	env, envErr := registry.New(spec.Env.Name, spec.Env.Params)
	loss, warnings, lossErr := losses.FromSpec(spec.Loss, spec.Policy.Backward, spec.Train.Batch)
	if err := errors.Join(fielderr.Prefix("env", envErr), fielderr.Prefix("loss", lossErr)); err != nil {
		return nil, err
	}
	model, err := policy.FromSpec(spec.Policy, env.Spec())
	if err != nil {
		return nil, fielderr.Prefix("policy", err)
	}
	u := &Updater{
		Spec: spec, Env: env, Model: model, Warnings: warnings,
		layout: model.Layout().Append(LogZName, "log_z", 1),
		asm:    policy.NewAssembler(env),
		loss:   loss,
	}
	if err := optim.FromSpec(spec.Optimiser).Check(); err != nil {
		return nil, fielderr.Prefix("optimiser", err)
	}
	if err := checkSize(spec, u.layout); err != nil {
		return nil, err
	}
	if m, ok := env.(envs.Moded); ok && m.NumModes() > 0 {
		u.moded, u.modes = m, metrics.NewModes(m.NumModes())
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

// Step applies one f-TB update to fresh trajectories, Fresh of them, and as many
// replayed ones as complete the job's batch. A trajectory whose actions cannot be
// replayed is withdrawn through refuse and the step goes on without it; when too few are
// left the rest is withdrawn as well, and the error is ErrNoBatch. Non-finite
// scores or gradients are an error. After any error the state is as it was.
// The order of batch may change.
func (u *Updater) Step(batch []wire.Trajectory, refuse func(*wire.Trajectory, error)) (*Update, error) {
	offered := len(batch)
	pass := u.pass
	u.pass = policy.Pass{}
	rehearsed := u.rehearsed(pass, batch)
	if u.mix != nil {
		var err error
		if batch, err = u.mix.complete(u, batch); err != nil {
			return nil, fmt.Errorf("update %d: %w", u.version+1, err)
		}
	}
	fresh := offered
	if rehearsed {
		u.scored, u.objects = pass.Batch, pass.States
	} else {
		var err error
		if batch, fresh, err = u.assemble(batch, offered, refuse); err != nil {
			return nil, fmt.Errorf("update %d: %w", u.version+1, err)
		}
	}
	normaliser := u.loss.State() // the only state that moves before the optimiser's
	rates := u.rates(int64(u.version))
	norm, err := u.descend(batch, rehearsed, rates)
	if err != nil {
		return nil, fmt.Errorf("update %d: %w", u.version+1, errors.Join(err, u.loss.Restore(normaliser)))
	}
	u.version++
	u.trajectories += uint64(fresh)
	u.replayed += uint64(len(batch) - fresh)
	u.observe(batch[:fresh])
	u.update = Update{
		Version: u.version, Trajectories: u.trajectories, Batch: batch, Fresh: fresh, Refused: offered - fresh,
		GradNorm: norm, LogZ: u.LogZ(), In: &u.in, Loss: &u.out,
		LearningRate: rates.Forward, LogZRate: rates.LogZ,
	}
	return &u.update, nil
}

// Tape is the learner's workspace, for a sampler in the same goroutine that
// leaves its forward pass there (sampler.Roller.Rehearse).
func (u *Updater) Tape() policy.Tape { return u.tape }

// Share lets the Updater spread its work over cores; nil takes that back. The
// bits of a step do not depend on it.
func (u *Updater) Share(c policy.Cores) { u.tape.Share(c) }

// Rehearsed says that the trajectories of the next Step were sampled with the
// present parameters and are on the tape. Step looks whether they are the same,
// and does not score them again.
func (u *Updater) Rehearsed(p policy.Pass) { u.pass = p }

// rehearsed says whether the pass is that of exactly this batch.
func (u *Updater) rehearsed(pass policy.Pass, batch []wire.Trajectory) bool {
	if pass.Batch == nil || u.mix != nil || len(pass.Batch.FOffset) != len(batch)+1 {
		return false
	}
	for i := range batch {
		lo, hi := pass.Batch.FOffset[i], pass.Batch.FOffset[i+1]
		if batch[i].Version != u.version || !slices.Equal(pass.Batch.FAction[lo:hi], batch[i].Actions) {
			return false
		}
	}
	return true
}

// assemble replays the batch, of which the first ones are fresh, and returns
// what of it can be trained on. What was refused stays behind that in the slice:
// its owner reuses the rows' buffers.
func (u *Updater) assemble(batch []wire.Trajectory, fresh int, refuse func(*wire.Trajectory, error)) ([]wire.Trajectory, int, error) {
	offered := len(batch)
	for fresh > 0 {
		err := u.replay(batch)
		if err == nil {
			break
		}
		var bad *policy.TrajectoryError
		if !errors.As(err, &bad) {
			return nil, 0, err
		}
		if bad.Trajectory >= fresh {
			return nil, 0, fmt.Errorf("%w: %w", errReplayed, err)
		}
		refuse(&batch[bad.Trajectory], err)
		withdrawn, last := batch[bad.Trajectory], len(batch)-1
		copy(batch[bad.Trajectory:], batch[bad.Trajectory+1:])
		batch[last] = withdrawn
		batch = batch[:last]
		fresh--
	}
	if len(batch) == offered {
		return batch, fresh, nil
	}
	if fresh == 0 {
		return nil, 0, ErrNoBatch // replay alone would change the ratio
	}
	// The spec was checked for whole batches; the normaliser may not do with less.
	if _, err := losses.Normaliser(u.Spec.Loss.Normaliser).CheckGroup(u.Divergence(), len(batch)); err != nil {
		for i := range batch[:fresh] {
			refuse(&batch[i], fmt.Errorf("the rest of its batch was refused: %w", err))
		}
		return nil, 0, ErrNoBatch
	}
	return batch, fresh, nil
}

// replay assembles the trajectories as they are.
func (u *Updater) replay(batch []wire.Trajectory) error {
	u.actions = u.actions[:0]
	for i := range batch {
		u.actions = append(u.actions, batch[i].Actions)
	}
	if err := u.asm.Assemble(u.actions, &u.batch); err != nil {
		return err
	}
	u.scored, u.objects = &u.batch, u.asm.States()
	return nil
}

// score fills the loss's input from the batch, whose forward pass may be on the
// tape.
func (u *Updater) score(batch []wire.Trajectory, rehearsed bool) (err error) {
	if rehearsed {
		err = u.tape.Finish(u.scored, &u.scores)
	} else {
		err = u.tape.Score(u.params[:len(u.params)-1], u.scored, &u.scores)
	}
	if err != nil {
		return err
	}
	if u.frozen != nil {
		if err := u.frozen.score(u.scored, &u.scores); err != nil {
			return err
		}
	}
	u.residuals(batch)
	return nil
}

// descend turns the assembled batch into one move of the parameters and returns
// the norm of the gradient.
func (u *Updater) descend(batch []wire.Trajectory, rehearsed bool, rates optim.Rates) (norm float64, err error) {
	if err := u.score(batch, rehearsed); err != nil {
		return 0, err
	}
	if err := u.loss.Evaluate(int64(u.version), &u.in, &u.out); err != nil {
		return 0, err
	}
	clear(u.grad)
	if err := u.tape.Backprop(u.spread(), u.grad[:len(u.grad)-1]); err != nil {
		return 0, err
	}
	u.grad[len(u.grad)-1] = float32(u.out.GradLogZ)
	return u.opt.Step(u.params, u.grad, rates)
}

// residuals sums the transitions of each trajectory into the loss's input.
func (u *Updater) residuals(batch []wire.Trajectory) {
	in := &u.in
	in.LogPF, in.LogPB = in.LogPF[:0], in.LogPB[:0]
	in.LogReward, in.LogBehaviour, in.Lag = in.LogReward[:0], in.LogBehaviour[:0], in.Lag[:0]
	beta := u.Spec.RewardExponent.At(int64(u.version))
	for i := range batch {
		in.LogPF = append(in.LogPF, sum(u.scores.LogPF[u.scored.FOffset[i]:u.scored.FOffset[i+1]]))
		in.LogPB = append(in.LogPB, sum(u.scores.LogPB[u.scored.BOffset[i]:u.scored.BOffset[i+1]]))
		in.LogReward = append(in.LogReward, beta*batch[i].LogReward)
		in.LogBehaviour = append(in.LogBehaviour, batch[i].LogBehaviour)
		in.Lag = append(in.Lag, int64(u.version)-int64(batch[i].Version))
	}
	in.LogZ = u.LogZ()
	u.weigh(batch)
}

// weigh hands the loss the weights of the trajectories, unless all are 1.
func (u *Updater) weigh(batch []wire.Trajectory) {
	u.factors = u.factors[:0]
	alike := true
	for i := range batch {
		w := batch[i].Weight
		if w == 0 {
			w = 1
		}
		u.factors = append(u.factors, w)
		alike = alike && w == 1
	}
	u.in.Weights = u.factors
	if alike {
		u.in.Weights = nil
	}
}

// spread gives every transition its trajectory's weight.
func (u *Updater) spread() *policy.Weights {
	u.weights.PF = spread(u.weights.PF, u.out.W, u.scored.FOffset)
	u.weights.PB = spread(u.weights.PB, u.out.WB, u.scored.BOffset)
	return &u.weights
}

func spread(dst, w []float64, offset []int32) []float64 {
	dst = dst[:0]
	for i := range w {
		for range offset[i+1] - offset[i] {
			dst = append(dst, w[i])
		}
	}
	return dst
}

func sum(x []float64) float64 {
	s := 0.0
	for _, v := range x {
		s += v
	}
	return s
}

func (u *Updater) rates(step int64) optim.Rates {
	o := &u.Spec.Optimiser
	r := optim.Rates{Forward: o.LearningRate.At(step), LogZ: o.LogZRate.At(step)}
	r.Backward = r.Forward
	if o.BackwardRate != nil {
		r.Backward = o.BackwardRate.At(step)
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
			u.modes.Add(u.moded.Mode(states, i))
		}
		if !u.best.wants(batch[i].LogReward) {
			continue
		}
		if u.key = states.AppendKey(u.key[:0], i); u.best.fresh(u.key, batch[i].LogReward) {
			u.best.add(u.key, fsm.Object{Text: states.Text(i), LogReward: batch[i].LogReward, Version: batch[i].Version})
		}
	}
}

// Exact returns the exact evaluator of the job's final target, or nil where the
// environment is too large to enumerate.
func (u *Updater) Exact() *metrics.Evaluator {
	e, ok := u.Env.(envs.Enumerable)
	if !ok || e.NumStates() > u.Spec.Eval.MaxStates {
		return nil
	}
	v, err := metrics.NewEvaluator(u.Env, u.Spec.RewardExponent.At(u.Spec.Train.Updates))
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

// ImportanceLogZ estimates log Z from trajectories of a known behaviour.
func (u *Updater) ImportanceLogZ(batch []wire.Trajectory) (losses.LogZ, error) {
	if err := u.replay(batch); err != nil {
		return losses.LogZ{}, err
	}
	if err := u.score(batch, false); err != nil {
		return losses.LogZ{}, err
	}
	return losses.ImportanceLogZ(u.in.LogReward, u.in.LogPB, u.in.LogBehaviour)
}
