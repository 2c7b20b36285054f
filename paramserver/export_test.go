package paramserver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// NewRaftLog is the log of a learner on the leader; stop ends it.
func NewRaftLog(r *replica.Replica, logger *slog.Logger) (_ Log, stop func()) {
	return NewUplink(r, nil, nil, logger)
}

// Greeting is what a node that is nothing but an uplink says of itself.
type Greeting func() *wire.LearnerHello

func (g Greeting) hello() *wire.LearnerHello { return g() }
func (Greeting) permitted(wire.Lease)        {}
func (Greeting) asked(wire.Lease)            {}

// NewUplink is the log of a learner on any node; stop ends it.
func NewUplink(r *replica.Replica, peers *Peers, node Greeting, logger *slog.Logger) (_ Log, stop func()) {
	u := newUplink(r, peers, node, logger)
	ctx, cancel := context.WithCancel(context.Background())
	var carrying sync.WaitGroup
	carrying.Go(func() { u.run(ctx) })
	return u, func() {
		cancel()
		carrying.Wait()
	}
}

// Archive makes a learner list what it trains on in an archive; wait returns once
// no answer is waited for. merge keeps the manifest small until its context ends.
func Archive(l *Learner, node *archive.Node, state archive.State, propose func(context.Context, any) (fsm.Result, error)) (merge func(context.Context), wait func(), err error) {
	k, err := NewCollector(l.Updater, func(session string) string { return "worker of " + session }, l.Clock)
	if k == nil || err != nil {
		return nil, nil, err
	}
	never := make(chan struct{})
	a := &archiving{
		Collector: k, lease: l.Lease, node: node, state: state, changed: func() <-chan struct{} { return never }, propose: propose,
		logger: l.Logger,
	}
	l.OnUpdate, l.Log = a.updates(l.OnUpdate), a.log(l.Log)
	return a.merge, a.wait, nil
}

// ExpireSessions is what a leader does twice a second.
func (s *Server) ExpireSessions(ctx context.Context) { s.expireSessions(ctx) }

// Watched makes a learner count where its time goes.
func Watched(l *Learner) (update, batch, commit func() time.Duration) {
	l.effort = &effort{}
	read := func(n *atomic.Int64) func() time.Duration {
		return func() time.Duration { return time.Duration(n.Load()) }
	}
	return read(l.effort.inUpdate()), read(l.effort.inBatch()), read(l.effort.inCommit())
}

// DrawTarget draws n objects of the target, each with a trajectory sampled backward.
func (u *Updater) DrawTarget(r *rand.Rand, update uint64, n int) ([]wire.Trajectory, error) {
	tape, params := u.backwardPolicy()
	load := func(s envs.States, row int) error {
		u.Env.(envs.Drawn).Draw(r, s, []int32{int32(row)})
		return nil
	}
	return newResampler(u.Env, u.Spec.Seed, rng.Evaluate).from(tape, params, update, 0, n, load, nil)
}

// Scores are a batch's, as the loss sees them, until the next step.
func (u *Updater) Scores(batch []wire.Trajectory) (*losses.Input, error) {
	if err := u.replay(batch); err != nil {
		return nil, err
	}
	return &u.in, u.score(batch, false)
}
