package sampler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/policy"
)

// Roller samples trajectories, n at a time, one step of all of them after the
// other. Trajectories that stand in the same state are scored once. Each
// trajectory draws from a random stream of its own, named by its sequence
// number, so its actions do not depend on what else is in the batch.
type Roller struct {
	env      envs.Env
	spec     envs.Spec
	sampling job.Sampling
	rollout  int
	seed     uint64
	worker   uint64

	tape     policy.Tape
	nparams  int
	dedupe   *policy.Deduper
	distinct policy.States
	states   envs.States
	pcg      []rand.PCG
	active   []int32   // rows under way
	at       []int32   // by active row: index of its distinct state
	actions  []int32   // chosen, by active row
	logPF    []float32 // distinct × Actions
	cum      []float64 // cumulative behaviour probabilities, distinct × Actions
	logQ     []float64 // log of the behaviour probabilities, distinct × Actions
	rows     []int32
	reward   []float64
}

// NewRoller builds what the spec describes; worker tells its random streams
// from those of other workers of the job.
func NewRoller(spec *job.Spec, worker uint64) (*Roller, error) {
	env, err := registry.New(spec.Env.Name, spec.Env.Params)
	if err != nil {
		return nil, err
	}
	model, err := policy.FromSpec(spec.Policy, env.Spec())
	if err != nil {
		return nil, err
	}
	r := &Roller{
		env: env, spec: env.Spec(), sampling: spec.Sampling, rollout: spec.Mesh.Rollout,
		seed: spec.Seed, worker: worker,
		tape: model.NewTape(), nparams: model.Layout().Size(), dedupe: policy.NewDeduper(env),
	}
	return r, nil
}

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
	for len(r.active) > 0 {
		r.dedupe.Start(&r.distinct)
		for k, row := range r.active {
			r.at[k] = r.dedupe.Add(r.states, int(row))
		}
		width := r.distinct.N * r.spec.Actions
		grow(&r.logPF, width)
		grow(&r.cum, width)
		grow(&r.logQ, width)
		if err := r.tape.LogProbs(params[:r.nparams], &r.distinct, policy.Forward, r.logPF); err != nil {
			return nil, err
		}
		for s := range r.distinct.N {
			r.behave(s, eps, temp)
		}
		for k, row := range r.active {
			s := int(r.at[k]) * r.spec.Actions
			u := uniform(&r.pcg[row])
			a := pick(r.cum[s:s+r.spec.Actions], u)
			r.actions[k] = int32(a)
			dst[row].Actions = append(dst[row].Actions, int32(a))
			dst[row].LogBehaviour += r.logQ[s+a]
		}
		if err := r.states.Forward(r.active, r.actions[:len(r.active)]); err != nil {
			return nil, err
		}
		live := r.active[:0]
		for _, row := range r.active {
			if !r.states.Terminal(int(row)) {
				live = append(live, row)
			}
		}
		r.active = live
	}
	if err := r.states.LogReward(r.rows[:n], r.reward[:n]); err != nil {
		return nil, err
	}
	for i := range dst {
		lr := r.reward[i]
		if math.IsNaN(lr) || math.IsInf(lr, 0) {
			return nil, fmt.Errorf("%s: log-reward of %s is %v; want a finite number", r.spec.Name, r.states.Text(i), lr)
		}
		dst[i].LogReward = lr
	}
	return dst, nil
}

// start puts n rows at s0 with a random stream each.
func (r *Roller) start(n int, version, first uint64, dst []wire.Trajectory) []wire.Trajectory {
	if len(r.rows) < n {
		r.states = r.env.NewStates(n)
		r.rows = make([]int32, n)
		r.pcg = make([]rand.PCG, n)
		r.at, r.actions = make([]int32, n), make([]int32, n)
		r.reward = make([]float64, n)
		for i := range r.rows {
			r.rows[i] = int32(i)
		}
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

// behave fills row s of cum and logQ: q = (1−ε)·softmax(log P_F / T) + ε/legal.
func (r *Roller) behave(s int, eps, temp float64) {
	a := r.spec.Actions
	lp, cum, lq := r.logPF[s*a:(s+1)*a], r.cum[s*a:(s+1)*a], r.logQ[s*a:(s+1)*a]
	mask := r.distinct.ForwardMask[s*a : (s+1)*a]
	top, legal := math.Inf(-1), 0
	for i, ok := range mask {
		if ok {
			legal++
			top = max(top, float64(lp[i])/temp)
		}
	}
	norm := 0.0
	for i, ok := range mask {
		lq[i] = 0
		if ok {
			lq[i] = math.Exp(float64(lp[i])/temp - top)
			norm += lq[i]
		}
	}
	total := 0.0
	for i, ok := range mask {
		if !ok {
			lq[i] = math.Inf(-1)
			cum[i] = total
			continue
		}
		p := (1-eps)*(lq[i]/norm) + eps/float64(legal)
		total += p
		cum[i] = total
		lq[i] = math.Log(p)
	}
}

// pick returns the first action whose cumulative probability exceeds u·total;
// an action of probability 0 is never picked.
func pick(cum []float64, u float64) int {
	u *= cum[len(cum)-1]
	i := sort.SearchFloat64s(cum, u)
	for i < len(cum) && cum[i] <= u {
		i++
	}
	if i < len(cum) {
		return i
	}
	// u·total rounded up to total: the last action that has any probability.
	for i = len(cum) - 1; i > 0 && cum[i] == cum[i-1]; i-- {
	}
	return i
}

// uniform draws from [0, 1) with 53 bits.
func uniform(p *rand.PCG) float64 { return float64(p.Uint64()>>11) / (1 << 53) }

func grow[T any](b *[]T, n int) {
	if cap(*b) < n {
		*b = make([]T, n, 2*n)
	}
	*b = (*b)[:n]
}
