package paramserver

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/replay"
	"github.com/driftmesh/driftmesh/policy"
)

// resampler gives objects new trajectories by sampling backward with P_B, one
// step of all of them after the other. States that coincide are scored once.
// Trajectory i of an update draws from a random stream of its own.
type resampler struct {
	env    envs.Env
	spec   envs.Spec
	words  int // of an action
	seed   uint64
	use    rng.Purpose     // names the random streams
	source []byte          // key of s0
	ctx    context.Context // of what the environment asks; nil: none

	states   envs.States
	dedupe   *policy.Deduper
	distinct policy.States
	pcg      []rand.PCG
	logPB    []float32 // distinct × backward actions
	normal   []float64 // moments of P_B where actions are points
	legal    []bool    // of one row
	key      []byte
	active   []int32 // rows that are not at s0 yet
	at       []int32 // by active row: index of its distinct state; −1 where the step is forced
	undo     []int32 // by active row: the backward action,
	redo     []int32 // and the forward action that takes it back
}

func newResampler(env envs.Env, seed uint64, use rng.Purpose) *resampler {
	spec := env.Spec()
	return &resampler{
		env: env, spec: spec, words: spec.Words(), seed: seed, use: use, source: env.NewStates(1).AppendKey(nil, 0),
		dedupe: policy.NewDeduper(env), legal: make([]bool, spec.BackwardActions),
	}
}

// within makes what the environment asks of other programs end with ctx.
func (r *resampler) within(ctx context.Context) {
	if r.ctx = ctx; r.states != nil {
		envs.Within(ctx, r.states)
	}
}

// sample writes one trajectory for each object to dst, whose actions are
// reused, with the P_B that tape and params give. The behaviour of what comes
// is not known: LogBehaviour is NaN.
func (r *resampler) sample(tape policy.Tape, params []float32, update uint64, objects []replay.Item, dst []wire.Trajectory) ([]wire.Trajectory, error) {
	dst = r.room(len(objects), dst)
	for i, o := range objects {
		if err := r.states.Parse(i, o.Text); err != nil {
			return nil, fmt.Errorf("object: %w", err)
		}
		rng.Reseed(&r.pcg[i], r.seed, r.use, update, uint64(i))
		dst[i] = wire.Trajectory{Version: o.Version, LogReward: o.LogReward, LogBehaviour: math.NaN(), Actions: dst[i].Actions[:0]}
	}
	return r.walk(tape, params, dst)
}

// from is sample for n objects that load makes rows of states; their streams are
// those of (stream, first), (stream, first+1), … and log-rewards are not known.
func (r *resampler) from(tape policy.Tape, params []float32, stream, first uint64, n int, load func(s envs.States, row int) error, dst []wire.Trajectory) ([]wire.Trajectory, error) {
	dst = r.room(n, dst)
	for i := range dst {
		if err := load(r.states, i); err != nil {
			return nil, err
		}
		rng.Reseed(&r.pcg[i], r.seed, r.use, stream, first+uint64(i))
		dst[i] = wire.Trajectory{LogReward: math.NaN(), LogBehaviour: math.NaN(), Actions: dst[i].Actions[:0]}
	}
	return r.walk(tape, params, dst)
}

// room makes n rows active.
func (r *resampler) room(n int, dst []wire.Trajectory) []wire.Trajectory {
	if r.states == nil || r.states.Len() < n {
		r.states, r.pcg = r.env.NewStates(n), make([]rand.PCG, n)
		if r.ctx != nil {
			envs.Within(r.ctx, r.states)
		}
	}
	for len(dst) < n {
		dst = append(dst, wire.Trajectory{})
	}
	r.active = r.active[:0]
	for i := range n {
		r.active = append(r.active, int32(i))
	}
	return dst[:n]
}

// walk leads every active row back to s0.
func (r *resampler) walk(tape policy.Tape, params []float32, dst []wire.Trajectory) ([]wire.Trajectory, error) {
	for range r.spec.MaxSteps {
		if err := r.back(tape, params, dst); err != nil {
			return nil, err
		}
		if len(r.active) == 0 {
			break
		}
	}
	if len(r.active) > 0 {
		return nil, fmt.Errorf("%s: trajectory %d is at %s after %d steps back, not at the source", r.spec.Name, r.active[0], r.states.Text(int(r.active[0])), r.spec.MaxSteps)
	}
	for i := range dst {
		slices.Reverse(dst[i].Actions)
		for at := 0; r.words > 1 && at < len(dst[i].Actions); at += r.words {
			slices.Reverse(dst[i].Actions[at : at+r.words])
		}
	}
	return dst, nil
}

// back takes one step back from every active row, and keeps those active that
// are not at s0 then.
func (r *resampler) back(tape policy.Tape, params []float32, dst []wire.Trajectory) error {
	r.dedupe.Start(&r.distinct)
	r.at = r.at[:0]
	points := r.spec.Continuous()
	for _, row := range r.active {
		r.states.BackwardMask(int(row), r.legal)
		at := int32(-1)
		if points || slices.Contains(r.legal, true) {
			at = r.dedupe.Add(r.states, int(row))
		}
		r.at = append(r.at, at)
	}
	width := r.spec.BackwardActions
	if points {
		if err := r.moments(tape, params); err != nil {
			return fmt.Errorf("P_B of replayed objects: %w", err)
		}
	} else if r.distinct.N > 0 {
		r.logPB = slices.Grow(r.logPB[:0], r.distinct.N*width)[:r.distinct.N*width]
		if err := tape.LogProbs(params, &r.distinct, policy.Backward, r.logPB); err != nil {
			return fmt.Errorf("P_B of objects: %w", err)
		}
	}
	r.undo = r.undo[:0]
	for k, row := range r.active {
		if points {
			r.undo = r.draw(r.undo, int(r.at[k]), &r.pcg[row])
			continue
		}
		b := envs.Only
		if at := int(r.at[k]); at >= 0 {
			b = choose(r.logPB[at*width:(at+1)*width], &r.pcg[row])
		}
		r.undo = append(r.undo, b)
	}
	r.redo = slices.Grow(r.redo[:0], len(r.undo))[:len(r.undo)]
	r.states.ForwardOf(r.active, r.undo, r.redo)
	if err := r.states.Backward(r.active, r.undo); err != nil {
		return fmt.Errorf("%s refuses what its own masks allow: %w", r.spec.Name, err)
	}
	under := r.active[:0]
	for k, row := range r.active {
		dst[row].Actions = append(dst[row].Actions, r.redo[k*r.words:(k+1)*r.words]...)
		if r.key = r.states.AppendKey(r.key[:0], int(row)); string(r.key) != string(r.source) {
			under = append(under, row)
		}
	}
	r.active = under
	return nil
}

// choose draws an action in proportion to its probability; −Inf is none.
func choose(logp []float32, pcg *rand.PCG) int32 {
	total := 0.0
	for _, l := range logp {
		total += math.Exp(float64(l))
	}
	left := float64(pcg.Uint64()>>11) / (1 << 53) * total
	last := int32(0)
	for a, l := range logp {
		if math.IsInf(float64(l), -1) {
			continue
		}
		last = int32(a)
		if left -= math.Exp(float64(l)); left < 0 {
			break
		}
	}
	return last
}
