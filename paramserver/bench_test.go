package paramserver_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/sampler"
)

const (
	session   = "session-1"
	batchSize = 16
	stepTime  = time.Millisecond // of one update, on the bubble's clock
)

// scriptedLog puts every Commit into a real state machine as it is proposed, as
// raft would, and answers by script.
type scriptedLog struct {
	t    *testing.T
	open atomic.Int64 // proposed and not answered

	mu      sync.Mutex // tests look while the learner runs
	state   *fsm.State
	index   uint64
	commits []*fsm.Commit

	// hold keeps answer n back until the channel is closed; nil for none.
	hold func(n int) <-chan struct{}
	// script replaces answer n; nil leaves what the state machine says.
	script func(n int, c *fsm.Commit) *paramserver.Answer
}

func newScriptedLog(t *testing.T, spec *job.Spec) *scriptedLog {
	raw, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	l := &scriptedLog{t: t, state: fsm.New()}
	for _, cmd := range []any{
		&fsm.Init{ClusterID: "c"},
		&fsm.CreateJob{Job: spec.Name, Spec: raw, Updates: spec.Train.Updates},
		&fsm.Grant{Job: spec.Name, Epoch: 1, Node: "n", Addr: "a"},
		&fsm.OpenSession{Job: spec.Name, Session: session, Worker: "w"},
	} {
		if res := l.apply(cmd); res.Outcome != fsm.Applied {
			t.Fatalf("%T: %+v", cmd, res)
		}
	}
	return l
}

func (l *scriptedLog) apply(cmd any) fsm.Result {
	data, err := fsm.Encode(cmd)
	if err != nil {
		l.t.Error(err)
		return fsm.Result{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index++
	res, err := l.state.Apply(l.index, 1, data)
	if err != nil {
		l.t.Error(err)
	}
	return res
}

// Commit implements paramserver.Log.
func (l *scriptedLog) Commit(ctx context.Context, c *fsm.Commit) (<-chan paramserver.Answer, error) {
	l.mu.Lock()
	n := len(l.commits)
	l.commits = append(l.commits, c)
	l.mu.Unlock()
	if open := l.open.Add(1); open > paramserver.MaxInFlight {
		l.t.Errorf("commit of version %d is number %d in flight", c.Version, open)
	}
	answer := paramserver.Answer{Result: l.apply(c)}
	if l.script != nil {
		if a := l.script(n, c); a != nil {
			answer = *a
		}
	}
	var held <-chan struct{}
	if l.hold != nil {
		held = l.hold(n)
	}
	out := make(chan paramserver.Answer, 1)
	settle := func(a paramserver.Answer) {
		l.open.Add(-1)
		out <- a
	}
	if held == nil {
		settle(answer)
		return out, nil
	}
	go func() { // ends with held or ctx, as a live log's does
		select {
		case <-held:
			settle(answer)
		case <-ctx.Done():
			settle(paramserver.Answer{Err: context.Cause(ctx)})
		}
	}()
	return out, nil
}

// proposed is the number of commits so far.
func (l *scriptedLog) proposed() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.commits)
}

func (l *scriptedLog) job() *fsm.Job {
	l.mu.Lock()
	defer l.mu.Unlock()
	j, _ := l.state.Job("grid")
	return j
}

// scriptedFeed is one worker session with a real roller and a real queue.
type scriptedFeed struct {
	roller *sampler.Roller
	replay *paramserver.Admission
	next   uint64
	batch  []wire.Trajectory
	// last is the version after which no batch comes; 0: they always come.
	last  uint64
	spoil func(version uint64, batch []wire.Trajectory)
}

// Next implements paramserver.Feed.
func (f *scriptedFeed) Next(ctx context.Context, version uint64, params []float32) ([]wire.Trajectory, error) {
	ready := time.After(stepTime)
	if f.last > 0 && version >= f.last {
		ready = nil
	}
	select {
	case <-ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	fresh, err := f.roller.SampleN(batchSize, params, version, f.next, nil)
	if err != nil {
		return nil, err
	}
	f.next += batchSize
	if f.spoil != nil {
		f.spoil(version, fresh)
	}
	if err := f.replay.Offer(session, fresh); err != nil {
		return nil, err
	}
	f.batch = f.replay.Take(batchSize, version, time.Time{}, f.batch)
	return f.batch, nil
}

// Refuse implements paramserver.Feed.
func (f *scriptedFeed) Refuse(tr *wire.Trajectory, _ error) { f.replay.Refuse(tr) }

// Marks implements paramserver.Feed.
func (f *scriptedFeed) Marks() []fsm.Mark { return f.replay.Marks() }

// bench is a learner between a scripted feed and a scripted log.
type bench struct {
	*paramserver.Learner
	log     *scriptedLog
	feed    *scriptedFeed
	updates atomic.Uint64 // version after the last update
}

func newBench(t *testing.T, updates int64, window time.Duration) *bench {
	spec := smallSpec()
	spec.Train.Updates = updates
	b := &bench{log: newScriptedLog(t, spec), feed: &scriptedFeed{
		roller: newRoller(t, spec), replay: paramserver.NewAdmission(64, batchSize, paramserver.Bounds{}), next: 1,
	}}
	b.feed.replay.Open(session, 0)
	b.Learner = &paramserver.Learner{
		Lease: paramserver.Lease{Job: spec.Name, Epoch: 1}, Updater: newUpdater(t, spec), Feed: b.feed, Log: b.log,
		Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler), Updates: updates, MinWindow: window,
		OnUpdate: func(u *paramserver.Update) error { b.updates.Store(u.Version); return nil },
	}
	return b
}

// start runs the learner; the error comes once.
func (b *bench) start(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return done
}

// elapse lets the bubble's clock go on, and then everything come to rest.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
