package paramserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLearnerCommitsWindowsToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 45, 10*stepTime)
		var proposed, committed []uint64
		b.OnPropose = func(c *fsm.Commit) { proposed = append(proposed, c.Version) }
		b.OnCommit = func(c *fsm.Commit, took time.Duration) {
			committed = append(committed, c.Version)
			if took > stepTime || len(proposed) < len(committed) { // an answer may be seen one step late
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

// TestLearnerGoesOnFromVersionZero when the one before it died with no window
// but the first, of no update, committed.
func TestLearnerGoesOnFromVersionZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 20, 10*stepTime)
		params, private, err := b.Updater.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if res := b.log.apply(&fsm.Commit{Job: b.Lease.Job, Generation: b.Lease.Generation, Epoch: 1, Params: params, Private: private}); res.Outcome != fsm.Applied {
			t.Fatal(res)
		}
		if res := b.log.apply(&fsm.Grant{Job: b.Lease.Job, Epoch: 2, Node: "n", Addr: "a"}); res.Outcome != fsm.Applied {
			t.Fatal(res)
		}
		b.Lease.Epoch, b.Committed = 2, true
		if err := b.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := b.log.commits[0]; c.Base != 0 || c.Version == 0 {
			t.Errorf("the first commit is %d → %d", c.Base, c.Version)
		}
		if j := b.log.job(); j.Status != fsm.Finished || j.Version != 20 {
			t.Errorf("the job ended as %s at version %d", j.Status, j.Version)
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
		if n := b.updates.Load(); b.log.proposed() != 2 || n < 80 {
			t.Errorf("%d commits proposed, %d updates", b.log.proposed(), n)
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
		if b.log.proposed() != 2 || b.updates.Load() != 5 {
			t.Errorf("%d commits proposed after %d of 5 updates", b.log.proposed(), b.updates.Load())
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
		"fenced":          {paramserver.Answer{Result: fsm.Result{Outcome: fsm.Fenced}}, paramserver.ErrFenced, "commit of version"},
		"wrong base":      {paramserver.Answer{Result: fsm.Result{Outcome: fsm.WrongBase}}, paramserver.ErrFenced, "wrong-base"},
		"rejected":        {paramserver.Answer{Result: fsm.Result{Outcome: fsm.Rejected, Reason: "too blue"}}, nil, "too blue"},
		"gone":            {paramserver.Answer{Err: gone}, gone, "commit of version"},
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

// TestLearnerHearsAnswersWhileNoBatchComes: the commit time, which stretches the
// window, does not contain the time that a slow sampler takes.
func TestLearnerHearsAnswersWhileNoBatchComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const commit, idle = 10 * time.Millisecond, time.Second
		b := newBench(t, 1000, 2*stepTime)
		b.feed.last = 13
		b.log.hold = func(int) <-chan struct{} {
			answered := make(chan struct{})
			time.AfterFunc(commit, func() { close(answered) })
			return answered
		}
		ctx, end := context.WithTimeout(t.Context(), idle)
		defer end()
		var last uint64
		var heard time.Duration
		began := time.Now()
		b.OnCommit = func(c *fsm.Commit, took time.Duration) {
			if last, heard = c.Version, time.Since(began); took > 2*commit {
				t.Errorf("the commit of version %d took %v, it was answered after %v", c.Version, took, commit)
			}
		}
		if err := b.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if last != 13 || heard > idle/2 {
			t.Errorf("version %d was heard of last, after %v", last, heard)
		}
	})
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
