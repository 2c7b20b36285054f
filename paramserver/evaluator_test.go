package paramserver

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/sampler"
)

// script drives an evaluator as a learner would: updates, and Commits that are
// proposed and answered when the test says so.
type script struct {
	t      *testing.T
	u      *Updater
	ev     *evaluator
	hub    *hub
	roller *sampler.Roller
	lag    uint64
	log    bytes.Buffer
	stop   context.CancelFunc
}

const updateTime = 10 * time.Millisecond

// newScript makes an evaluator that wants a row every so many updates, on a
// grid small enough to evaluate exactly. Its goroutine is not running yet.
func newScript(t *testing.T, every int64) *script {
	spec := job.Default()
	spec.Name, spec.Seed = "grid", 3
	spec.Env = job.Env{Name: "hypergrid", Params: map[string]any{"dim": 2, "height": 4, "r0": 0.001}}
	spec.Policy.Hidden = []int{8}
	spec.Eval.Every = every
	u, err := NewUpdater(spec)
	if err != nil {
		t.Fatal(err)
	}
	roller, err := sampler.NewRoller(spec, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, u: u, hub: newHub(), roller: roller}
	members := func() (int, int) { return 3, 5 }
	s.ev = newEvaluator(context.Background(), spec, u, s.hub, clock.Real{}, members, slog.New(slog.NewTextHandler(&s.log, nil)))
	s.ev.ages.committed(0, time.Now().UnixNano())
	return s
}

// start runs the evaluator's goroutine until the test or end ends it.
func (s *script) start() {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() { s.ev.run(ctx, ctx); close(done) }()
	s.stop = func() { cancel(); <-done }
}

// update trains n times, each after some time.
func (s *script) update(n int) {
	s.t.Helper()
	for range n {
		time.Sleep(updateTime)
		from := s.u.Version() - min(s.lag, s.u.Version())
		batch, err := s.roller.SampleN(16, s.u.Params(), from, s.u.Trajectories()+1, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		up, err := s.u.Step(batch, func(*wire.Trajectory, error) {})
		if err == nil {
			err = s.ev.updated(up)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// propose makes a Commit of the present version.
func (s *script) propose(marks ...fsm.Mark) *fsm.Commit {
	s.t.Helper()
	params, private, err := s.u.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	c := &fsm.Commit{Job: "grid", Generation: 2, Version: s.u.Version(), Params: params, Private: private, Marks: marks, Stamp: time.Now().UnixNano()}
	s.ev.proposed(c)
	return c
}

// commit proposes and answers at once, and waits for the evaluation.
func (s *script) commit(marks ...fsm.Mark) {
	s.t.Helper()
	s.ev.committed(s.propose(marks...), time.Millisecond)
	synctest.Wait()
}

// finish is the Commit of the last version.
func (s *script) finish() {
	s.t.Helper()
	params, private, err := s.u.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	c := &fsm.Commit{Job: "grid", Version: s.u.Version(), Params: params, Private: private, Done: true, Stamp: time.Now().UnixNano()}
	s.ev.proposed(c)
	s.ev.committed(c, time.Millisecond)
	synctest.Wait()
}

// reports checks the versions of all that was published.
func (s *script) reports(versions ...int64) []Report {
	s.t.Helper()
	all, _ := s.hub.after(-1)
	var got []int64
	for _, r := range all {
		got = append(got, r.Row.Version)
	}
	if len(got) != len(versions) {
		s.t.Fatalf("rows of versions %v, want %v", got, versions)
	}
	for i := range got {
		if got[i] != versions[i] {
			s.t.Fatalf("rows of versions %v, want %v", got, versions)
		}
	}
	return all
}

// TestRowsCountWhatAllCommitsSay of stale and refused trajectories, whichever
// Commit cut the row.
func TestRowsCountWhatAllCommitsSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, 4)
		s.start()
		defer s.stop()
		s.update(2)
		s.commit(fsm.Mark{Session: "a", Stale: 3, Refused: 1}, fsm.Mark{Session: "b", Refused: 7}) // no row is due
		s.update(2)
		s.commit(fsm.Mark{Session: "a", Stale: 2})
		s.commit(fsm.Mark{Session: "a", Refused: 10}) // while a batch does not come
		s.update(3)
		cut := s.propose(fsm.Mark{Session: "b", Stale: 40}) // at 7: the row is due at 8
		s.ev.committed(cut, 0)
		s.update(1)
		cut = s.propose(fsm.Mark{Session: "b", Stale: 400})
		s.update(1)
		behind := s.propose(fsm.Mark{Session: "b", Stale: 4000}) // the cut is in flight
		s.ev.committed(cut, 0)
		s.ev.committed(behind, 0)
		synctest.Wait()
		s.update(1)
		s.finish()
		var got [][2]uint64
		for _, r := range s.reports(4, 8, 10) {
			got = append(got, [2]uint64{r.Row.Stale, r.Row.Refused})
		}
		for i, want := range [][2]uint64{{5, 8}, {440, 10}, {4000, 0}} {
			if got[i] != want {
				t.Errorf("row %d counts %d stale and %d refused, want %v", i, got[i][0], got[i][1], want)
			}
		}
	})
}

// TestNoRowsBeforeTheEnd with eval.every 0.
func TestNoRowsBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, 0)
		s.start()
		defer s.stop()
		for range 5 {
			s.update(2)
			s.commit(fsm.Mark{Stale: 1})
		}
		s.reports()
		s.update(1)
		s.finish()
		r := s.reports(11)[0]
		if r.Row.Stale != 5 || r.Row.LagCounts.Total() != 11*16 || r.Row.TV == nil || r.Row.Hellinger == nil {
			t.Errorf("the only row counts %d stale of %d trajectories, TV %v", r.Row.Stale, r.Row.LagCounts.Total(), r.Row.TV)
		}
	})
}

// TestRowsAreMeasured: exact metrics of the committed version, and the stretch
// by the clock.
func TestRowsAreMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, 10)
		s.lag = 1000 // everything was sampled with version 0
		s.start()
		defer s.stop()
		s.update(10)
		c := s.propose()
		rep, err := s.u.Exact(t.Context()).Model(s.u.Model.NewTape(), s.u.Params()[:len(s.u.Params())-1])
		if err != nil {
			t.Fatal(err)
		}
		s.update(5) // while the Commit is in flight
		s.ev.committed(c, 0)
		synctest.Wait()
		r := s.reports(10)[0]
		if row := r.Row; float64(*row.TV) != rep.Distances.TV || float64(*row.LogZExact) != rep.LogZ || row.Generation != 2 || row.Trajectories != 160 {
			t.Errorf("the row of version 10 says %+v, its exact distances are %+v", row, rep.Distances)
		}
		near := func(what string, got, want float64) {
			if math.Abs(got-want) > 1e-9*math.Abs(want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		tm := r.Timing
		near("seconds", float64(tm.Seconds), 0.15) // 15 updates until the answer
		near("updates a second", float64(tm.UpdatesPerS), 100)
		near("trajectories a second", float64(tm.TrajectoriesPerS), 1600)
		near("least age", float64(tm.LagSeconds.Min), 0.01)
		near("median age", float64(tm.LagSeconds.Median), 0.08)
		near("greatest age", float64(tm.LagSeconds.Max), 0.15)
		if tm.Servers != 3 || tm.Workers != 5 || tm.Version != 10 || tm.EvalSeconds != 0 {
			t.Errorf("%+v", tm)
		}
		// The next stretch begins where this one was answered.
		s.update(5)
		s.commit()
		if r := s.reports(10, 20)[1]; r.Row.LagCounts.Total() != 160 {
			t.Errorf("the second row is of %d trajectories", r.Row.LagCounts.Total())
		} else {
			near("seconds", float64(r.Timing.Seconds), 0.05)
		}
	})
}

// TestRowsHaveEstimates of the committed version, not of the one that training is at
// by then; where learning has ended early they are left out.
func TestRowsHaveEstimates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, 5)
		s.u.Spec.Eval.Samples, s.u.Spec.Eval.TopK = 200, 3
		draw := func(spec *job.Spec) (Drawer, error) { return sampler.NewRoller(spec, 0) }
		estimator := func() *Estimator {
			e, err := NewEstimator(s.u, s.u.Exact(t.Context()), draw)
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		s.ev.samples = estimator()
		s.start()
		s.update(5)
		c := s.propose()
		want, err := estimator().Estimate(t.Context(), s.u.Params(), 5)
		if err != nil {
			t.Fatal(err)
		}
		s.update(3)
		s.ev.committed(c, 0)
		synctest.Wait()
		row := s.reports(5)[0].Row
		if row.EvalELBO == nil || *row.EvalELBO != want.ELBO.Value || *row.EvalEUBO != want.EUBO.Value || *row.TopKReward != runs.Float(want.TopK.Reward) {
			t.Errorf("the row says %+v, want %+v", row.Estimates, want)
		}
		s.update(2)
		s.stop()
		s.commit()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		s.ev.run(over, over)
		if row := s.reports(5, 10)[1].Row; row.TV == nil || row.Hellinger == nil || row.Chi2 == nil || row.Chi2Reverse == nil || row.EvalELBO != nil {
			t.Errorf("%+v", row)
		}
		if log := s.log.String(); !strings.Contains(log, "cut short") || strings.Contains(log, "failed") {
			t.Errorf("the log says:\n%s", log)
		}
	})
}

// TestLearnerDoesNotWaitForEvaluations: a row that falls due while one waits is
// put off, and nothing of its stretch is lost.
func TestLearnerDoesNotWaitForEvaluations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, 2)
		s.update(2)
		s.commit() // nobody evaluates
		for range 5 {
			s.update(2)
			s.commit()
		}
		s.reports()
		s.start()
		synctest.Wait()
		s.reports(2)
		s.update(1)
		s.commit()
		if r := s.reports(2, 13)[1]; r.Row.LagCounts.Total() != 11*16 {
			t.Errorf("the second row is of %d trajectories", r.Row.LagCounts.Total())
		}
		// What waits at the end is evaluated.
		s.stop()
		s.update(2)
		s.commit()
		s.start()
		s.stop()
		s.reports(2, 13, 15)
	})
}

// TestEvaluationFaultsAreTold, and the row is published without exact metrics.
func TestEvaluationFaultsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript(t, 1)
		s.start()
		s.update(1)
		c := s.propose()
		c.Params = c.Params[:len(c.Params)-1]
		s.ev.committed(c, 0)
		synctest.Wait()
		s.update(1)
		c = s.propose()
		c.Params = wire.EncodeFloats(nil, []float32{1, 2, 3})
		s.ev.committed(c, 0)
		s.stop()
		for _, r := range s.reports(1, 2) {
			if r.Row.TV != nil || r.Row.Loss == 0 {
				t.Errorf("row %d: TV %v, loss %v", r.Row.Version, r.Row.TV, r.Row.Loss)
			}
		}
		if n := strings.Count(s.log.String(), "evaluation failed"); n != 2 {
			t.Errorf("the log says:\n%s", &s.log)
		}
	})
}
