package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Observation is what one client saw of a job at one moment.
type Observation struct {
	Epoch        uint64
	Position     wire.Position
	Trajectories uint64
	Status       string
}

// Watcher is a client that looks at a job again and again, through whatever
// happens to the servers, and keeps the history of what it saw.
type Watcher struct {
	Leader    *cluster.Leader
	ClusterID string
	Job       string
	History   []Observation
}

// lookEvery is the pause between two looks.
const lookEvery = 20 * time.Millisecond

// Until looks until ready answers true for an observation, and returns it. A
// look that fails, because a server is down, is no observation.
func (w *Watcher) Until(ctx context.Context, ready func(Observation) bool) (Observation, error) {
	var last error
	for {
		o, err := w.look(ctx)
		if err == nil {
			w.History = append(w.History, o)
			if ready(o) {
				return o, nil
			}
		} else {
			last = err
		}
		select {
		case <-ctx.Done():
			return Observation{}, fmt.Errorf("%w (%d observations, last %+v, last failure %v)", ctx.Err(), len(w.History), o, last)
		case <-time.After(lookEvery):
		}
	}
}

func (w *Watcher) look(ctx context.Context) (Observation, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	reply, err := cluster.CallIdempotent(ctx, w.Leader, (*cluster.Client).Status, &wire.StatusRequest{ClusterID: w.ClusterID, Job: w.Job, Linearizable: true})
	if err != nil {
		return Observation{}, err
	}
	if len(reply.Jobs) != 1 {
		return Observation{}, errors.New("the job is not known there")
	}
	j := reply.Jobs[0]
	return Observation{
		Epoch: j.Epoch, Position: wire.Position{Generation: j.Generation, Version: j.Version},
		Trajectories: j.Trajectories, Status: j.Status,
	}, nil
}

// ErrRegression says that something went back that never may.
var ErrRegression = errors.New("regression")

// Monotone checks that neither version, nor epoch, nor the count of
// trajectories ever went back.
func Monotone(history []Observation) error {
	for i := 1; i < len(history); i++ {
		a, b := history[i-1], history[i]
		switch {
		case b.Position.Before(a.Position):
			return fmt.Errorf("%w: version %+v after %+v (observation %d)", ErrRegression, b.Position, a.Position, i)
		case b.Epoch < a.Epoch:
			return fmt.Errorf("%w: epoch %d after %d (observation %d)", ErrRegression, b.Epoch, a.Epoch, i)
		case b.Trajectories < a.Trajectories:
			return fmt.Errorf("%w: %d trajectories after %d (observation %d)", ErrRegression, b.Trajectories, a.Trajectories, i)
		}
	}
	return nil
}
