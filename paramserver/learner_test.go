package paramserver_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/sampler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	session   = "session-1"
	batchSize = 16
	stepTime  = time.Millisecond // of one update, on the bubble's clock
)

// scriptedLog puts every Commit into a real state machine as it is proposed, as
// raft would, and answers by script.
type scriptedLog struct {
	t       *testing.T
	state   *fsm.State
	index   uint64
	commits []*fsm.Commit
	open    atomic.Int64 // proposed and not answered
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
	l.index++
	res, err := l.state.Apply(l.index, data)
	if err != nil {
		l.t.Error(err)
	}
	return res
}

// Commit implements paramserver.Log.
func (l *scriptedLog) Commit(ctx context.Context, c *fsm.Commit) (<-chan paramserver.Answer, error) {
	n := len(l.commits)
	l.commits = append(l.commits, c)
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

func (l *scriptedLog) job() *fsm.Job {
	j, _ := l.state.Job("grid")
	return j
}

// scriptedFeed is one worker session with a real roller and a real queue.
type scriptedFeed struct {
	roller *sampler.Roller
	replay *paramserver.Replay
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
	if err := f.replay.Offer(session, fresh, version); err != nil {
		return nil, err
	}
	f.batch = f.replay.Take(batchSize, version, f.batch)
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
		roller: newRoller(t, spec), replay: paramserver.NewReplay(64, batchSize, 0, false), next: 1,
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

func TestLearnerCommitsWindowsToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 45, 10*stepTime)
		var proposed, committed []uint64
		b.OnPropose = func(c *fsm.Commit) { proposed = append(proposed, c.Version) }
		b.OnCommit = func(c *fsm.Commit, took time.Duration) {
			committed = append(committed, c.Version)
			if took != 0 || len(proposed) < len(committed) {
				t.Errorf("version %d was committed in %v, before it was proposed: %v", c.Version, took, proposed)
			}
		}
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		base := uint64(0)
		for i, c := range b.log.commits {
			if c.Base != base || c.Done != (i == len(b.log.commits)-1) || c.Epoch != 1 {
				t.Errorf("commit %d is %d → %d in epoch %d, done %v; want base %d", i, c.Base, c.Version, c.Epoch, c.Done, base)
			}
			// A mark travels with the updates that used what it covers.
			if c.Version > c.Base {
				if m := c.Marks; len(m) != 1 || m[0].Seq != c.Version*batchSize || m[0].Admitted != (c.Version-c.Base)*batchSize {
					t.Errorf("commit %d → %d carries %+v", c.Base, c.Version, m)
				}
			}
			base = c.Version
		}
		if n := len(b.log.commits); n != 6 || len(committed) != n {
			t.Errorf("%d commits of 45 updates in windows of ten, %d of them answered: %v", n, len(committed), proposed)
		}
		if j := b.log.job(); j.Status != fsm.Finished || j.Version != 45 || j.Admitted != 45*batchSize || j.Refused+j.Stale != 0 {
			t.Errorf("the job ended as %s at version %d with %d admitted", j.Status, j.Version, j.Admitted)
		}
		// What was committed is what the learner has.
		params, private, err := b.Updater.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if j := b.log.job(); string(j.Params) != string(params) || string(j.Private) != string(private) {
			t.Error("the committed state is not the learner's")
		}
	})
}

// TestLearnerRunsTwoWindowsAhead, lets the third grow, and stops.
func TestLearnerRunsTwoWindowsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1000, 5*stepTime)
		gates := []chan struct{}{make(chan struct{}), make(chan struct{})}
		b.log.hold = func(n int) <-chan struct{} {
			if n < len(gates) {
				return gates[n]
			}
			return nil
		}
		done := b.start(t.Context())
		elapse(90 * stepTime) // version 0, a window of five, and most of the growth
		if n := b.updates.Load(); len(b.log.commits) != 2 || n < 80 {
			t.Errorf("%d commits proposed, %d updates", len(b.log.commits), n)
		}
		elapse(time.Second)
		stopped := b.updates.Load()
		elapse(time.Minute)
		if now := b.updates.Load(); now != stopped || now > 5+20*5+1 {
			t.Errorf("the learner went from %d to %d updates without an answer", stopped, now)
		}
		close(gates[0])
		elapse(10 * stepTime)
		if now := b.updates.Load(); now <= stopped {
			t.Errorf("%d updates still, with room in flight", now)
		}
		close(gates[1])
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if j := b.log.job(); j.Status != fsm.Finished || j.Version != 1000 {
			t.Errorf("the job ended as %s at version %d", j.Status, j.Version)
		}
	})
}

// TestLastCommitWaitsForRoom: the last of a job is no third in flight.
func TestLastCommitWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 5, stepTime)
		gate := make(chan struct{})
		b.log.hold = func(int) <-chan struct{} { return gate }
		done := b.start(t.Context())
		elapse(time.Second)
		if len(b.log.commits) != 2 || b.updates.Load() != 5 {
			t.Errorf("%d commits proposed after %d of 5 updates", len(b.log.commits), b.updates.Load())
		}
		close(gate)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if j := b.log.job(); j.Status != fsm.Finished || j.Version != 5 {
			t.Errorf("the job ended as %s at version %d", j.Status, j.Version)
		}
	})
}

// TestLearnerObeysTheAnswer to its third commit.
func TestLearnerObeysTheAnswer(t *testing.T) {
	gone := errors.New("the log is gone")
	for name, c := range map[string]struct {
		answer paramserver.Answer
		is     error
		text   string
	}{
		"already applied": {paramserver.Answer{Result: fsm.Result{Outcome: fsm.AlreadyApplied}}, nil, ""},
		"fenced":          {paramserver.Answer{Result: fsm.Result{Outcome: fsm.Fenced}}, paramserver.ErrFenced, "version 10"},
		"wrong base":      {paramserver.Answer{Result: fsm.Result{Outcome: fsm.WrongBase}}, paramserver.ErrFenced, "wrong-base"},
		"rejected":        {paramserver.Answer{Result: fsm.Result{Outcome: fsm.Rejected, Reason: "too blue"}}, nil, "too blue"},
		"gone":            {paramserver.Answer{Err: gone}, gone, "version 10"},
	} {
		for _, late := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 30, 5*stepTime)
				b.log.script = func(n int, _ *fsm.Commit) *paramserver.Answer {
					if n == 2 {
						return &c.answer
					}
					return nil
				}
				gate := make(chan struct{})
				if late {
					b.log.hold = func(n int) <-chan struct{} {
						if n == 2 {
							return gate
						}
						return nil
					}
				}
				done := b.start(t.Context())
				elapse(18 * stepTime)
				close(gate)
				err := <-done
				switch {
				case c.text == "":
					if err != nil || b.log.job().Status != fsm.Finished {
						t.Errorf("%s, late %v: %v", name, late, err)
					}
				case err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text):
					t.Errorf("%s, late %v: got %v", name, late, err)
				case b.updates.Load() > 20:
					t.Errorf("%s, late %v: %d updates", name, late, b.updates.Load())
				}
			})
		}
	}
}

// TestLearnerToldToEndCommitsWhatItHas, wherever the word reaches it.
func TestLearnerToldToEndCommitsWhatItHas(t *testing.T) {
	for name, prepare := range map[string]func(b *bench, end context.CancelFunc, gate chan struct{}){
		"waiting for a batch": func(b *bench, end context.CancelFunc, gate chan struct{}) {
			b.feed.last = 13
			time.AfterFunc(time.Second, end)
			close(gate)
		},
		"waiting for an answer": func(_ *bench, end context.CancelFunc, gate chan struct{}) {
			time.AfterFunc(time.Second, end)
			time.AfterFunc(2*time.Second, func() { close(gate) })
		},
		"in an update, an answer on its way": func(b *bench, end context.CancelFunc, gate chan struct{}) {
			b.OnUpdate = func(u *paramserver.Update) error {
				if b.updates.Store(u.Version); u.Version == 10 { // a window is due right now
					end()
					time.AfterFunc(time.Second, func() { close(gate) })
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 1000, 5*stepTime)
				gate := make(chan struct{})
				b.log.hold = func(n int) <-chan struct{} {
					if n == 0 {
						return nil
					}
					return gate
				}
				ctx, end := context.WithCancel(t.Context())
				defer end()
				prepare(b, end, gate)
				var committed uint64
				b.OnCommit = func(c *fsm.Commit, _ time.Duration) { committed = c.Version }
				if err := b.Run(ctx); !errors.Is(err, context.Canceled) || err.Error() != context.Canceled.Error() {
					t.Errorf("got %v, want that the context ended and nothing else", err)
				}
				j := b.log.job()
				if n := b.updates.Load(); n < 10 || j.Version != n || committed != n {
					t.Errorf("%d updates made, %d committed, %d known to be", n, j.Version, committed)
				}
				if j.Status != fsm.Running {
					t.Errorf("the job is %s", j.Status)
				}
			})
		})
	}
}

// TestLearnerEndsWithoutAnswers when told to, if late.
func TestLearnerEndsWithoutAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1000, 5*stepTime)
		b.log.hold = func(int) <-chan struct{} { return make(chan struct{}) }
		ctx, end := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, end)
		began := time.Now()
		if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// TestLearnerOutlivesNonsense: trajectories that cannot be replayed, single or a
// whole batch of them, are counted as refused and training goes on.
func TestLearnerOutlivesNonsense(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 20, 5*stepTime)
		spoilt := 0
		b.feed.spoil = func(version uint64, batch []wire.Trajectory) {
			switch {
			case version == 3:
				batch[2].Actions, batch[9].Actions = []int32{9}, []int32{0}
			case version == 7 && spoilt < 3:
				spoilt++
				for i := range batch {
					batch[i].Actions = []int32{}
				}
			}
		}
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		j := b.log.job()
		if j.Status != fsm.Finished || j.Admitted != 20*batchSize-2 || j.Refused != 2+3*batchSize {
			t.Errorf("the job is %s with %d admitted and %d refused", j.Status, j.Admitted, j.Refused)
		}
	})
}

// TestLearnerFaultsEndIt, and what they spoilt is not committed.
func TestLearnerFaultsEndIt(t *testing.T) {
	fault := errors.New("fault")
	for name, spoil := range map[string]func(*bench){
		"feed": func(b *bench) {
			b.feed.spoil = func(v uint64, batch []wire.Trajectory) {
				if v == 7 {
					batch[0].Seq += 100 // a gap
				}
			}
		},
		"observer": func(b *bench) {
			b.OnUpdate = func(u *paramserver.Update) error {
				if u.Version == 7 {
					return fault
				}
				return nil
			}
		},
		"update": func(b *bench) {
			b.feed.spoil = func(v uint64, batch []wire.Trajectory) {
				if v == 7 {
					batch[0].LogReward = 1e300 // finite, but no gradient of it is
				}
			}
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 20, 5*stepTime)
			spoil(b)
			if err := b.Run(t.Context()); err == nil {
				t.Errorf("%s: the learner went on", name)
			}
			if v := b.log.job().Version; v > 7 {
				t.Errorf("%s: version %d was committed", name, v)
			}
		})
	}
}
