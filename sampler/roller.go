package sampler

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/policy"
)

// Roller samples trajectories, n at a time, one step of all of them after the
// other. A state is scored once, however many trajectories come to it. Each
// trajectory draws from a random stream of its own, named by its sequence
// number, so its actions do not depend on what else is in the batch.
type Roller struct {
	env      envs.Env
	spec     envs.Spec
	words    int // of an action
	sampling job.Sampling
	rollout  int
	seed     uint64
	worker   uint64
	ctx      context.Context          // of calls to other programs; nil: none
	refuse   func(*envs.RewardFaults) // nil: faults are errors

	tape    policy.Tape
	keep    bool // the tape remembers the forward pass
	nparams int
	trace   *policy.Trace
	batch   policy.Batch // of the rollout under way
	states  envs.States
	pcg     []rand.PCG
	active  []int32   // rows under way
	actions []int32   // chosen, by active row
	q       []float64 // behaviour probabilities, states × Actions; moments where actions are points
	cum     []float64 // and their cumulative sums
	rows    []int32
	reward  []float64
}

// NewRoller builds what the spec describes; worker tells its random streams
// from those of other workers of the job.
func NewRoller(spec *job.Spec, worker uint64) (*Roller, error) {
	env, err := registry.OfJob(spec)
	if err != nil {
		return nil, err
	}
	if remote, ok := env.(envs.Remote); ok {
		if err := remote.Ready(); err != nil {
			return nil, fielderr.Prefix("reward", err)
		}
	}
	model, err := policy.ForJob(spec, env.Spec())
	if err != nil {
		return nil, err
	}
	shape := env.Spec()
	r := &Roller{
		env: env, spec: shape, words: shape.Words(), sampling: spec.Sampling, rollout: spec.Mesh.Rollout,
		seed: spec.Seed, worker: worker,
		tape: model.NewTape(), nparams: model.Layout().Size(), trace: policy.NewTrace(env),
	}
	return r, nil
}

// Rehearse makes the Roller sample with a learner's tape and leave its forward
// pass there, so that an update of the very same parameters need not repeat it.
func (r *Roller) Rehearse(tape policy.Tape) { r.tape, r.keep = tape, true }

// Share lets the Roller spread its work over cores; nil takes that back. What is
// sampled does not depend on it.
func (r *Roller) Share(c policy.Cores) { r.tape.Share(c) }

// Pass is the last Sample as its tape holds it, until the next one. Without
// Rehearse it has the states of the batch, and no transitions.
func (r *Roller) Pass() policy.Pass { return policy.Pass{Batch: &r.batch, States: r.states} }

// Env is the environment that is sampled.
func (r *Roller) Env() envs.Env { return r.env }

// States holds the terminal states of the last Sample, row i for trajectory i.
func (r *Roller) States() envs.States { return r.states }

// Sample rolls out as many trajectories as the spec's rollout; see SampleN.
func (r *Roller) Sample(params []float32, version, first uint64, dst []wire.Trajectory) ([]wire.Trajectory, error) {
	return r.SampleN(r.rollout, params, version, first, dst)
}

// SampleN rolls out n trajectories with the parameters of a version (the
// model's tensors come first in params), numbered from first. The behaviour is
// the scheduled mixture at that version: P_F at a temperature, mixed with
// uniform legal actions. dst and the actions in it are reused.
func (r *Roller) SampleN(n int, params []float32, version, first uint64, dst []wire.Trajectory) ([]wire.Trajectory, error) {
	if n < 1 {
		return nil, fmt.Errorf("a rollout of %d trajectories; want at least 1", n)
	}
	if len(params) < r.nparams {
		return nil, fmt.Errorf("%d parameters; the policy has %d", len(params), r.nparams)
	}
	eps := r.sampling.Epsilon.At(int64(version))
	temp := r.sampling.Temperature.At(int64(version))
	dst = r.start(n, version, first, dst)
	if err := r.tape.Begin(params[:r.nparams], &r.batch.States, r.keep); err != nil {
		return nil, err
	}
	r.trace.Start(r.states, n, &r.batch)
	for scored := 0; len(r.active) > 0; {
		known := r.batch.States.N
		var err error
		if r.spec.Continuous() {
			err = r.draw(scored, eps, temp, dst)
		} else {
			err = r.choose(scored, eps, temp, dst)
		}
		if err != nil {
			return nil, err
		}
		scored = known
		actions := r.actions[:len(r.active)*r.words]
		r.trace.Leave(r.states, r.active, actions)
		if err := r.states.Forward(r.active, actions); err != nil {
			return nil, err
		}
		r.trace.Arrive(r.states, r.active)
		live := r.active[:0]
		for _, row := range r.active {
			if !r.states.Terminal(int(row)) {
				live = append(live, row)
			}
		}
		r.active = live
	}
	if r.keep {
		r.trace.Finish()
	}
	refused, err := r.judge(r.states.LogReward(r.rows[:n], r.reward[:n]))
	if err != nil {
		return nil, err
	}
	for i := range dst {
		lr := r.reward[i]
		if !refused && (math.IsNaN(lr) || math.IsInf(lr, 0)) {
			return nil, fmt.Errorf("%s: log-reward of %s is %v; want a finite number", r.spec.Name, r.states.Text(i), lr)
		}
		dst[i].LogReward = lr
	}
	return dst, nil
}

// choose picks an action for every active row; the states from scored on are new.
func (r *Roller) choose(scored int, eps, temp float64, dst []wire.Trajectory) error {
	if err := r.score(scored, eps, temp); err != nil {
		return err
	}
	width := r.spec.Actions
	for k, row := range r.active {
		s := int(r.trace.At(row)) * width
		a := pick(r.cum[s:s+width], uniform(&r.pcg[row]))
		r.actions[k] = int32(a)
		dst[row].Actions = append(dst[row].Actions, int32(a))
		dst[row].LogBehaviour += math.Log(r.q[s+a])
	}
	return nil
}

// score gives the states from scored on their distributions.
func (r *Roller) score(scored int, eps, temp float64) error {
	n, width := r.batch.States.N, r.spec.Actions
	known, more := scored*width, (n-scored)*width
	r.q = slices.Grow(r.q[:known], more)[:known+more]
	r.cum = slices.Grow(r.cum[:known], more)[:known+more]
	prob, err := r.tape.Extend()
	if err != nil {
		return err
	}
	for s := scored; s < n; s++ {
		r.behave(s, prob[(s-scored)*width:][:width], eps, temp)
	}
	return nil
}

// start puts n rows at s0 with a random stream each.
func (r *Roller) start(n int, version, first uint64, dst []wire.Trajectory) []wire.Trajectory {
	if len(r.rows) < n {
		r.states = r.env.NewStates(n)
		r.rows = make([]int32, n)
		r.pcg = make([]rand.PCG, n)
		r.actions = make([]int32, n*r.words)
		r.reward = make([]float64, n)
		for i := range r.rows {
			r.rows[i] = int32(i)
		}
	}
	if r.ctx != nil {
		envs.Within(r.ctx, r.states)
	}
	r.states.Reset(r.rows)
	r.active = append(r.active[:0], r.rows[:n]...)
	for len(dst) < n {
		dst = append(dst, wire.Trajectory{})
	}
	dst = dst[:n]
	for i := range dst {
		seq := first + uint64(i)
		rng.Reseed(&r.pcg[i], r.seed, rng.Rollout, r.worker, seq)
		dst[i] = wire.Trajectory{Seq: seq, Version: version, Actions: dst[i].Actions[:0]}
	}
	return dst
}

// behave fills row s of q and cum: q = (1−ε)·π^(1/T)/Σ + ε/legal, where π is P_F.
func (r *Roller) behave(s int, pi []float64, eps, temp float64) {
	a := len(pi)
	q, cum := r.q[s*a:(s+1)*a], r.cum[s*a:(s+1)*a]
	copy(q, pi)
	if temp != 1 {
		temper(q, temp)
	}
	if eps > 0 {
		mask := r.batch.States.ForwardMask[s*a : (s+1)*a]
		legal := 0
		for _, ok := range mask {
			if ok {
				legal++
			}
		}
		for i, ok := range mask {
			if ok {
				q[i] = float64((1-eps)*q[i]) + eps/float64(legal)
			}
		}
	}
	total := 0.0
	for i, p := range q {
		total += p
		cum[i] = total
	}
}

// temper raises probabilities to the power 1/T, relative to the largest, so that a
// small T leaves something of the sum.
func temper(q []float64, temp float64) {
	top, sum := 0.0, 0.0
	for _, p := range q {
		top = max(top, p)
	}
	for i, p := range q {
		if p > 0 {
			q[i] = math.Pow(p/top, 1/temp)
			sum += q[i]
		}
	}
	for i := range q {
		q[i] /= sum
	}
}

// pick returns the first action whose cumulative probability exceeds u·total;
// an action of probability 0 is never picked.
func pick(cum []float64, u float64) int {
	last := len(cum) - 1
	if u *= cum[last]; len(cum) > 32 {
		return min(sort.Search(last, func(i int) bool { return cum[i] > u }), support(cum))
	}
	for i, c := range cum {
		if c > u {
			return i
		}
	}
	return support(cum)
}

// support is the last action that has any probability: what is picked when u·total
// is rounded up to total.
func support(cum []float64) int {
	i := len(cum) - 1
	for i > 0 && cum[i] == cum[i-1] {
		i--
	}
	return i
}

// uniform draws from [0, 1) with 53 bits.
func uniform(p *rand.PCG) float64 { return float64(p.Uint64()>>11) / (1 << 53) }
