package paramserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/telemetry"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// meters hold the numbers of the learners of this process that no replica knows.
type meters struct {
	mu   sync.Mutex
	jobs map[string]*meter
}

// meter is what a scrape reads of one learner.
type meter struct {
	intake   *Intake
	effort   *effort
	window   atomic.Int64 // length, nanoseconds
	inFlight atomic.Int64 // windows
}

// measure makes a learner report to the registry, until the function that it
// returns is called.
func (s *Server) measure(l *Learner, intake *Intake, a *ages) (stop func()) {
	r, id := s.Telemetry, l.Lease.Job
	if r == nil {
		return func() {}
	}
	m := &meter{intake: intake, effort: l.effort}
	updates, trained := r.Series(telemetry.Updates, id), r.Series(telemetry.Trained, id)
	lag, seconds := r.Series(telemetry.LagUpdates, id), r.Series(telemetry.LagSeconds, id)
	latency := r.Series(telemetry.CommitLatency, id)
	a.observe = seconds.Observe

	onUpdate, onCommit := l.OnUpdate, l.OnCommit
	l.OnUpdate = func(u *Update) error {
		updates.Add(1)
		trained.Add(float64(len(u.Batch)))
		version := l.Updater.Version() - 1 // that the batch was used at
		for i := range u.Batch[:u.Fresh] {
			lag.Observe(float64(version - min(version, u.Batch[i].Version)))
		}
		m.window.Store(int64(l.window.Length()))
		m.inFlight.Store(int64(l.window.InFlight()))
		return onUpdate(u)
	}
	l.OnCommit = func(c *fsm.Commit, took time.Duration) {
		latency.Observe(took.Seconds())
		r.Add(telemetry.Commits, 1, id, string(fsm.Applied))
		m.inFlight.Store(int64(l.window.InFlight()))
		onCommit(c, took)
	}
	s.meters.mu.Lock()
	defer s.meters.mu.Unlock()
	if s.meters.jobs == nil {
		s.meters.jobs = map[string]*meter{}
	}
	s.meters.jobs[id] = m
	return func() {
		s.meters.mu.Lock()
		defer s.meters.mu.Unlock()
		if s.meters.jobs[id] == m {
			delete(s.meters.jobs, id)
		}
	}
}

// collect is the telemetry.Source of a server: what its replica, its gossip and
// its learners know at this moment.
func (s *Server) collect(emit telemetry.Emit) {
	stats := s.Replica.Stats()
	leader, _ := s.Replica.Leader()
	emit(telemetry.RaftTerm, float64(stats.Term))
	emit(telemetry.RaftLeader, truth(s.Replica.IsLeader()))
	emit(telemetry.RaftHasLeader, truth(leader != ""))
	emit(telemetry.RaftAppliedIndex, float64(stats.Applied))
	emit(telemetry.RaftCommitIndex, float64(stats.Commit))
	emit(telemetry.RaftLogBytes, float64(stats.LogBytes))
	emit(telemetry.RaftSnapshotBytes, float64(stats.SnapshotBytes))
	age := 0.0
	if !stats.SnapshotTime.IsZero() {
		age = s.Clock.Now().Sub(stats.SnapshotTime).Seconds()
	}
	emit(telemetry.RaftSnapshotAge, age)
	if servers, err := s.Replica.Servers(); err == nil {
		voters := 0
		for _, m := range servers {
			if m.Voter {
				voters++
			}
		}
		emit(telemetry.RaftServers, float64(voters), "voter")
		emit(telemetry.RaftServers, float64(len(servers)-voters), "nonvoter")
	}
	s.Replica.Read(func(st *fsm.State) { collectState(st, emit) })
	CollectMembers(s.Mesh, emit)
	s.meters.collect(emit)
	for to, sent := range s.Egress().Counts() {
		emit(telemetry.EgressBytes, float64(sent.Bytes), to)
	}
}

// collectState tells of the replicated state. Running jobs come first: they
// count where there are more than a metric may have.
func collectState(st *fsm.State, emit telemetry.Emit) {
	chain := st.Chain()
	emit(telemetry.Chain, float64(binary.BigEndian.Uint32(chain[:])))
	emit(telemetry.FeatureLevel, float64(st.FeatureLevel()))
	emit(telemetry.Generation, float64(st.Generation()))
	byStatus := map[fsm.Status]int{fsm.Running: 0, fsm.Paused: 0, fsm.Stopped: 0, fsm.Finished: 0, fsm.Failed: 0}
	jobs := st.Jobs()
	for _, running := range []bool{true, false} {
		for _, j := range jobs {
			if (j.Status == fsm.Running) != running {
				continue
			}
			byStatus[j.Status]++
			for _, v := range []struct {
				metric *telemetry.Metric
				value  float64
			}{
				{telemetry.JobVersion, float64(j.Version)}, {telemetry.JobGeneration, float64(j.Generation)},
				{telemetry.JobEpoch, float64(j.Epoch)}, {telemetry.JobSessions, float64(j.Sessions)},
				{telemetry.JobAdmitted, float64(j.Admitted)}, {telemetry.JobStale, float64(j.Stale)}, {telemetry.JobRefused, float64(j.Refused)},
				{telemetry.JobParamsBytes, float64(len(j.Params))}, {telemetry.JobPrivateBytes, float64(len(j.Private))},
				{telemetry.ArchiveSegs, float64(j.Segments)}, {telemetry.ArchiveRows, float64(j.ArchivedRows)},
			} {
				emit(v.metric, v.value, j.ID)
			}
		}
	}
	for status, n := range byStatus {
		emit(telemetry.Jobs, float64(n), string(status))
	}
}

// CollectMembers tells of a node's view of the gossip.
func CollectMembers(mesh *cluster.Mesh, emit telemetry.Emit) {
	type key struct{ role, state string }
	count := map[key]int{}
	for _, m := range mesh.Members() {
		count[key{string(m.Role), string(m.State)}]++
	}
	for k, n := range count {
		emit(telemetry.Members, float64(n), k.role, k.state)
	}
}

func (m *meters) collect(emit telemetry.Emit) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, job := range m.jobs {
		emit(telemetry.WindowLength, time.Duration(job.window.Load()).Seconds(), id)
		emit(telemetry.WindowsInFlight, float64(job.inFlight.Load()), id)
		q := job.intake.Queue()
		emit(telemetry.QueueLength, float64(q.Waiting), id)
		emit(telemetry.QueueBytes, float64(q.Bytes), id)
		emit(telemetry.QueueSessions, float64(q.Sessions), id)
		emit(telemetry.Credits, float64(q.Credits), id)
		if e := job.effort; e != nil {
			for doing, spent := range map[string]*atomic.Int64{"update": &e.update, "batch": &e.batch, "commit": &e.commit} {
				emit(telemetry.LearnerSeconds, time.Duration(spent.Load()).Seconds(), id, doing)
			}
		}
	}
}

func truth(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// Healthy says why this server does not do its work; nil if it does.
func (s *Server) Healthy() error {
	if err := s.Replica.Err(); err != nil {
		return fmt.Errorf("the replica has stopped: %w", err)
	}
	return nil
}

// maxBehind is how many log entries a server that is ready may be behind what
// it knows to be committed.
const maxBehind = 64

// Ready says why this server is of no use to clients now; nil if it is.
func (s *Server) Ready() error {
	if err := s.Healthy(); err != nil {
		return err
	}
	if id, _ := s.Replica.Leader(); id == "" {
		return errors.New("no leader is known")
	}
	if !s.founded() {
		return errors.New("the replicated state has not begun")
	}
	if stats := s.Replica.Stats(); stats.Applied+maxBehind < stats.Commit {
		return fmt.Errorf("applied through log index %d, committed through %d", stats.Applied, stats.Commit)
	}
	return nil
}
