package paramserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
)

// TestResumeEquivalence: a run whose learner is killed three times ends with the
// parameters, the private state and the metrics rows of the run that was left
// alone, bit for bit. Promised for batches that are a function of (seed, step),
// on the same kernels, for every kind of replay whose buffer travels in the
// Commit (replay.bytes up to 256 KiB), and without replay. The state goes through
// a real replica with its log on disk.
func TestResumeEquivalence(t *testing.T) {
	for _, kind := range append([]string{"none"}, replayKinds...) {
		t.Run(kind, func(t *testing.T) {
			spec := replaySpec(kind, 4)
			spec.Train.Updates, spec.Eval.Every = 240, 40
			spec.Sampling.Epsilon = schedule.Value{Kind: schedule.Linear, From: 0.3, To: 0, Over: 200}
			spec.Loss.Divergence, spec.Loss.Normaliser = "hellinger", "running"
			want := newResumed(t, spec)
			want.run(t)
			got := newResumed(t, spec)
			got.run(t, 33, 101, 179)
			if want.learners != 1 || got.learners != 4 {
				t.Fatalf("%d and %d learners", want.learners, got.learners)
			}
			a, b := want.job(), got.job()
			if !bytes.Equal(a.Params, b.Params) {
				t.Error("the parameters differ")
			}
			if !bytes.Equal(a.Private, b.Private) {
				t.Error("the private states differ")
			}
			if len(want.rows) != 6 {
				t.Errorf("%d rows", len(want.rows))
			}
			for v, row := range want.rows {
				if !bytes.Equal(row, got.rows[v]) {
					t.Errorf("version %d: row\n%s\nfrom\n%s", v, got.rows[v], row)
				}
			}
		})
	}
}

// resumed is a job on a cluster of one server, with one learner after the other.
type resumed struct {
	spec     *job.Spec
	replica  *replica.Replica
	rows     map[uint64][]byte
	learners int
}

func newResumed(t *testing.T, spec *job.Spec) *resumed {
	r, err := replica.Open(replica.Config{Dir: t.TempDir(), ID: "n", Listen: "127.0.0.1:0", Single: true, Bootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	for !r.IsLeader() {
		wait, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		<-wait.Done()
		cancel()
		if t.Context().Err() != nil {
			t.Fatal("no leader")
		}
	}
	s := &resumed{spec: spec, replica: r, rows: map[uint64][]byte{}}
	raw, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	s.apply(t, &fsm.Init{ClusterID: "c"})
	s.apply(t, &fsm.CreateJob{Job: spec.Name, Spec: raw, Updates: spec.Train.Updates})
	s.grant(t, 1)
	return s
}

func (s *resumed) apply(t *testing.T, cmd any) {
	t.Helper()
	if res, err := s.replica.Apply(t.Context(), cmd); err != nil || res.Outcome != fsm.Applied {
		t.Fatalf("%T: %+v, %v", cmd, res, err)
	}
}

func (s *resumed) grant(t *testing.T, epoch uint64) {
	t.Helper()
	s.apply(t, &fsm.Grant{Job: s.spec.Name, Epoch: epoch, Node: "n", Addr: "a"})
}

func (s *resumed) job() (out *fsm.Job) {
	s.replica.Read(func(st *fsm.State) { out, _ = st.Job(s.spec.Name) })
	return out
}

// run trains to the end. Before its update from version kills[i], learner i is
// superseded: what it has not committed then is lost.
func (s *resumed) run(t *testing.T, kills ...uint64) {
	t.Helper()
	for {
		s.learners++
		kill := ^uint64(0)
		if s.learners <= len(kills) {
			kill = kills[s.learners-1]
		}
		err := s.learn(t, kill)
		if err == nil {
			return
		}
		if !errors.Is(err, paramserver.ErrFenced) || kill == ^uint64(0) {
			t.Fatal(err)
		}
	}
}

// learn is one learner, from the committed state to its end.
func (s *resumed) learn(t *testing.T, kill uint64) error {
	t.Helper()
	j := s.job()
	u := newUpdater(t, s.spec)
	if j.HasState {
		if err := u.Restore(j.Version, j.Params, j.Private); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := u.Refill(t.Context(), nil); err != nil || got.Needed {
		t.Fatalf("the buffer did not travel: %+v, %v", got, err)
	}
	rec := paramserver.NewRecorder(s.spec)
	if err := u.Carry(rec); err != nil {
		t.Fatal(err)
	}
	feed := newByStep(t, s.spec)
	feed.fresh, feed.trained = u.Fresh, u.Trajectories
	killed := false
	feed.before = func(version uint64) {
		if version >= kill && !killed {
			killed = true
			s.grant(t, j.Epoch+1)
		}
	}
	log, wait := paramserver.NewRaftLog(s.replica, slog.New(slog.DiscardHandler))
	defer wait()
	l := &paramserver.Learner{
		Lease: paramserver.Lease{Job: s.spec.Name, Epoch: j.Epoch}, Updater: u, Feed: feed, Log: log,
		Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler),
		Committed: j.HasState, Updates: s.spec.Train.Updates, MinWindow: time.Millisecond,
		OnUpdate: func(up *paramserver.Update) error {
			rec.Add(up)
			if up.Version%uint64(s.spec.Eval.Every) != 0 {
				return nil
			}
			row, err := json.Marshal(rec.Row(u))
			if before := s.rows[up.Version]; before != nil && !bytes.Equal(before, row) {
				t.Errorf("version %d has two rows:\n%s\n%s", up.Version, before, row)
			}
			s.rows[up.Version] = row
			return err
		},
	}
	return l.Run(t.Context())
}
