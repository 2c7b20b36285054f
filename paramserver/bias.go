package paramserver

import (
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// biasTracker counts what the bounds on staleness do to the data of a job. Its
// counts are part of the state, so they agree with the committed marks.
type biasTracker struct {
	workerOf func(session string) string
	known    map[string]string // worker by session; may be forgotten
	regions  envs.Regioned     // nil where the environment has none
	one      envs.States       // one row, to find the object of a dropped trajectory
}

// maxKnown bounds the sessions whose workers are remembered.
const maxKnown = 4096

// TrackBias makes the Updater count, from now on, what it trains on and what
// Dropped tells it; workerOf names the worker of a session.
func (u *Updater) TrackBias(workerOf func(session string) string) {
	u.track = &biasTracker{workerOf: workerOf, known: map[string]string{}, one: u.Env.NewStates(1)}
	u.track.regions, _ = u.Env.(envs.Regioned)
	if u.bias == nil {
		u.bias = &runs.Bias{}
	}
}

// Bias is what was counted since the job began; nil when nothing was.
func (u *Updater) Bias() *runs.Bias { return u.bias }

// Dropped counts a trajectory that was dropped as stale.
func (u *Updater) Dropped(t *wire.Trajectory) {
	if u.track == nil {
		return
	}
	u.bias.Add(u.track.worker(t.Session), u.track.regionOf(t.Actions), t.LogReward, 0)
}

// trained counts fresh trajectories, whose objects are the rows of states.
func (k *biasTracker) trained(b *runs.Bias, fresh []wire.Trajectory, states envs.States) {
	for i := range fresh {
		region := ""
		if k.regions != nil {
			region = k.regions.Region(states, i)
		}
		weight := fresh[i].Weight
		if weight == 0 {
			weight = 1
		}
		b.Add(k.worker(fresh[i].Session), region, fresh[i].LogReward, weight)
	}
}

func (k *biasTracker) worker(session string) string {
	if w, ok := k.known[session]; ok {
		return w
	}
	if len(k.known) >= maxKnown {
		clear(k.known)
	}
	w := k.workerOf(session)
	if w == "" {
		w = "(unknown)"
	}
	k.known[session] = w
	return w
}

// regionOf replays a trajectory that nothing has checked yet.
func (k *biasTracker) regionOf(actions []int32) string {
	if k.regions == nil {
		return ""
	}
	spec, row := k.regions.Spec(), []int32{0}
	words := spec.Words()
	k.one.Reset(row)
	for at := 0; at+words <= len(actions); at += words {
		if at >= spec.MaxSteps*words || k.one.Terminal(0) || k.one.Forward(row, actions[at:at+words]) != nil {
			return "(invalid)"
		}
	}
	if !k.one.Terminal(0) || len(actions)%words != 0 {
		return "(invalid)"
	}
	return k.regions.Region(k.one, 0)
}

// ErrNoBias means that a job has no bounds on staleness that act.
var ErrNoBias = errors.New("the job neither drops nor downweights stale trajectories")

// BiasOf reads the counts from the private part of a committed state.
func BiasOf(priv []byte) (*runs.Bias, error) {
	var p struct {
		Bias *runs.Bias `msgpack:"z"`
	}
	if err := msgpack.Unmarshal(priv, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	if p.Bias == nil {
		return nil, ErrNoBias
	}
	if err := p.Bias.Check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	return p.Bias, nil
}
