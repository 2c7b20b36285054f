package paramserver

import (
	"errors"
	"fmt"
	"slices"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver/optim"
	"github.com/driftmesh/driftmesh/policy"
)

// Step applies one f-TB update to fresh trajectories, Fresh of them, and as many
// replayed ones and ones of data as complete the job's batch. A trajectory whose actions cannot be
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
	if u.Spec.Data != nil {
		err := u.OpenData()
		if err == nil {
			batch, err = u.data.complete(u, batch)
		}
		if err != nil {
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
		return nil, fmt.Errorf("update %d: %w", u.version+1, errors.Join(u.hintLogZ(err), u.loss.Restore(normaliser)))
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
func (u *Updater) Share(c policy.Cores) {
	u.tape.Share(c)
	u.opt.Share(c)
}

// Rehearsed says that the trajectories of the next Step were sampled with the
// present parameters and are on the tape. Step looks whether they are the same,
// and does not score them again.
func (u *Updater) Rehearsed(p policy.Pass) { u.pass = p }

// rehearsed says whether the pass is that of exactly this batch.
func (u *Updater) rehearsed(pass policy.Pass, batch []wire.Trajectory) bool {
	if l := u.Spec.Loss; l.NeedsPotential() || l.NeedsParents() {
		return false // a rollout does not note them
	}
	if pass.Batch == nil || u.mix != nil || u.Spec.Data != nil || len(pass.Batch.FOffset) != len(batch)+1 {
		return false
	}
	for i := range batch {
		lo, hi := int(pass.Batch.FOffset[i])*u.words, int(pass.Batch.FOffset[i+1])*u.words
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
	for {
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
		if fresh--; fresh == 0 {
			break
		}
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
	if u.prior != nil {
		if err := u.prior.score(u.scored); err != nil {
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
	if err := u.tape.Backprop(u.coefficients(), u.grad[:len(u.grad)-1]); err != nil {
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
		if u.prior != nil {
			in.LogPB = append(in.LogPB, sum(u.prior.scores.LogPF[u.scored.FOffset[i]:u.scored.FOffset[i+1]]))
		} else {
			in.LogPB = append(in.LogPB, sum(u.scores.LogPB[u.scored.BOffset[i]:u.scored.BOffset[i+1]]))
		}
		in.LogReward = append(in.LogReward, beta*batch[i].LogReward)
		in.LogBehaviour = append(in.LogBehaviour, batch[i].LogBehaviour)
		in.Lag = append(in.Lag, int64(u.version)-int64(batch[i].Version))
	}
	in.LogZ = u.LogZ()
	if u.known != nil {
		in.LogZ = u.known.at(beta)
	}
	u.weigh(batch)
	if u.Spec.Loss.NeedsFlow() {
		u.transitions(beta)
	}
}

// transitions hands the loss the scores of single transitions and states.
func (u *Updater) transitions(beta float64) {
	b := u.scored
	u.steps = losses.Steps{
		Offset: b.FOffset, State: b.FState, Undo: b.Undo,
		LogPF: u.scores.LogPF, LogPB: u.scores.LogPB, LogF: u.scores.LogF,
		Potential: b.Potential, PotentialScale: beta,
		Into: b.Into, EdgeOffset: b.EdgeOffset,
	}
	u.in.Steps = &u.steps
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

// coefficients are those of every transition: its own, or its trajectory's.
func (u *Updater) coefficients() *policy.Weights {
	if len(u.out.PF) > 0 {
		u.weights = policy.Weights{PF: u.out.PF, PB: u.out.PB, F: u.out.F}
		return &u.weights
	}
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
