package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/local"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/scaling"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// benchMesh is the cluster that a benchmark runs on.
type benchMesh struct {
	leader  *cluster.Leader
	cluster string
	local   *local.Mesh // nil: it was there before
	dir     string      // of the local one
}

// joinBench finds a cluster that is there and has the slots that are wanted. It
// names the jobs that will share them.
func joinBench(ctx context.Context, f *clientFlags, slots int) (m *benchMesh, others []string, err error) {
	leader, known, err := f.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	has := 0
	for _, w := range known.Workers {
		if w.Alive {
			has += w.Slots
		}
	}
	if has < slots {
		return nil, nil, errors.Join(fielderr.New("--workers", slots, fmt.Sprintf("at most %d, the slots of the cluster", has)), leader.Close())
	}
	for _, j := range known.Jobs {
		if fsm.Status(j.Status) == fsm.Running {
			others = append(others, j.ID)
		}
	}
	return &benchMesh{leader: leader, cluster: known.ClusterID}, others, nil
}

// startBench starts a local mesh of one server and so many slots.
func startBench(dir string, slots int) (*benchMesh, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	processes := (slots + slotsAProcess - 1) / slotsAProcess
	m := &benchMesh{dir: filepath.Join(dir, meshDir)}
	m.local, err = local.Start(local.Config{
		Binary: binary, Dir: m.dir,
		Servers: 1, Workers: processes, Slots: (slots + processes - 1) / processes,
	})
	if err != nil {
		return nil, err
	}
	m.cluster = m.local.ClusterID()
	m.leader = cluster.NewLeader(m.cluster, m.local.Servers, cluster.DialOptions{})
	return m, nil
}

// close leaves the cluster; of a local one only the logs stay.
func (m *benchMesh) close() error {
	err := m.leader.Close()
	if m.local == nil {
		return err
	}
	err = errors.Join(err, m.local.Stop())
	entries, rerr := os.ReadDir(m.dir)
	err = errors.Join(err, rerr)
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, os.RemoveAll(filepath.Join(m.dir, e.Name())))
		}
	}
	return err
}

// orFailure is a context that also ends, for that cause, when the local mesh
// cannot be kept alive.
func (m *benchMesh) orFailure(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	if m.local != nil {
		go func() { // ends with the context
			select {
			case err := <-m.local.Failed():
				cancel(err)
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

const (
	// assignedWithin is how long the slots of a cluster may take to work for a
	// job: those of a local mesh have to start, and a job's learner too.
	assignedWithin = 30 * time.Second
	// lookAtRate is how often a job's counters are read.
	lookAtRate = 20 * time.Millisecond
)

// measure submits a job, lets it warm up, and measures it over all intervals.
func (m *benchMesh) measure(ctx context.Context, f *scaleFlags, spec *job.Spec, r *scaleRun) (p *scalePoint, err error) {
	one := *spec
	id := strings.ReplaceAll(uuid.NewString(), "-", "")[:8]
	one.Name = fmt.Sprintf("bench-%d-%s", spec.Mesh.MaxSlots, id)
	data, err := one.JSON()
	if err != nil {
		return nil, err
	}
	if _, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: m.cluster, Spec: data}); err != nil {
		return nil, fmt.Errorf("submit: %w", err)
	}
	defer func() {
		// Also when interrupted: nobody else would end this job.
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		_, serr := cluster.CallIdempotent(last, m.leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: m.cluster, Job: one.Name, Verb: wire.VerbStop})
		if serr != nil && !errors.Is(serr, cluster.ErrConflict) {
			err = errors.Join(err, fmt.Errorf("stop %s: %w", one.Name, serr))
		}
	}()
	if err := m.assigned(ctx, &one); err != nil {
		return nil, err
	}
	w := &watch{mesh: m, job: one.Name, origin: time.Now()}
	if err := w.until(ctx, func() bool { return time.Since(w.origin) >= f.warmup && len(w.steps) >= 2 }); err != nil {
		return nil, err
	}
	begin, length, before := time.Since(w.origin), f.length(spec), w.last
	for i := range f.intervals {
		end := begin + time.Duration(i+1)*length
		if err := w.until(ctx, func() bool { return time.Since(w.origin) >= end }); err != nil {
			return nil, err
		}
		rates := scaling.Rates(w.steps, begin, length, i+1)
		if err := r.interval(spec, i, length, rates[i], w.last); err != nil {
			return nil, err
		}
	}
	if err := m.assigned(ctx, &one); err != nil { // still
		return nil, err
	}
	p = &scalePoint{
		Workers: spec.Mesh.MaxSlots, Batch: spec.Train.Batch,
		Rates: scaling.Rates(w.steps, begin, length, f.intervals), Interval: length.Seconds(),
	}
	if slices.Contains(p.Rates, 0) {
		r.warn("with %d workers nothing was trained on in an interval of %v; --interval makes it longer", p.Workers, length)
	}
	p.Load, p.WindowMS, p.CommitMS = load(before, w.last)
	p.Bottleneck = p.Load.Name()
	return p, nil
}

// load compares two readings; it knows nothing if another learner has taken over.
func load(a, b wire.JobInfo) (l scaling.Load, windowMS, commitMS float64) {
	if a.Effort == nil || b.Effort == nil || a.Epoch != b.Epoch {
		return scaling.Load{}, 0, 0
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return scaling.LoadBetween(*a.Effort, *b.Effort), ms(b.Effort.Window), ms(b.Effort.Answer)
}

// assigned waits until exactly the slots that a job may have work for it.
func (m *benchMesh) assigned(ctx context.Context, spec *job.Spec) error {
	var slots, sessions int
	var reason string
	for began := time.Now(); ; {
		reply, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).Status, &wire.StatusRequest{ClusterID: m.cluster, Job: spec.Name, Linearizable: true})
		if err != nil {
			return err
		}
		if len(reply.Jobs) == 1 {
			j := &reply.Jobs[0]
			if s := fsm.Status(j.Status); s != fsm.Running {
				return fmt.Errorf("job %s is %s: %s", j.ID, s, j.Reason)
			}
			if j.Slots != nil {
				slots = *j.Slots
			}
			sessions, reason = j.Sessions, j.Reason
			if slots == spec.Mesh.MaxSlots && sessions == slots {
				return nil
			}
		}
		if time.Since(began) > assignedWithin {
			err := fmt.Errorf("job %s has %d slots and %d sessions after %v, wants %d of each; does the cluster have so many slots, and no other job?",
				spec.Name, slots, sessions, assignedWithin, spec.Mesh.MaxSlots)
			if reason != "" {
				err = fmt.Errorf("%w (%s)", err, reason)
			}
			return userFault{err}
		}
		if err := clock.Rest(ctx, lookAtRate); err != nil {
			return err
		}
	}
}

// watch reads a job's counters where its learner is.
type watch struct {
	mesh   *benchMesh
	job    string
	origin time.Time
	steps  []scaling.Step
	last   wire.JobInfo
	before float64 // trajectories of learners that were replaced
	addr   string  // of the present one; "" while unknown
}

// silence is how long nobody may answer.
const silence = 10 * time.Second

// until reads again and again until what is so.
func (w *watch) until(ctx context.Context, so func() bool) error {
	heard := time.Now()
	for {
		err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			heard = time.Now()
		case time.Since(heard) > silence:
			return err
		}
		if so() {
			return nil
		}
		if time.Since(w.origin) > longest && len(w.steps) < 2 {
			return fmt.Errorf("job %s trains on nothing", w.job)
		}
		if err := clock.Rest(ctx, lookAtRate); err != nil {
			return err
		}
	}
}

// look takes one reading: of what the learner has trained on, which moves with
// every update; what is committed moves with windows.
func (w *watch) look(ctx context.Context) error {
	if w.addr == "" {
		reply, err := cluster.CallIdempotent(ctx, w.mesh.leader, (*cluster.Client).Status, &wire.StatusRequest{ClusterID: w.mesh.cluster, Job: w.job, Linearizable: true})
		if err != nil {
			return err
		}
		if len(reply.Jobs) != 1 || reply.Jobs[0].LearnerAddr == "" {
			return fmt.Errorf("job %s: %w: it has no learner", w.job, cluster.ErrUnavailable)
		}
		w.addr = reply.Jobs[0].LearnerAddr
	}
	client, err := w.mesh.leader.Client(w.addr)
	if err != nil {
		return err
	}
	brief, cancel := context.WithTimeout(ctx, answerTimeout/5)
	defer cancel()
	reply, err := client.Status(brief, &wire.StatusRequest{ClusterID: w.mesh.cluster, Job: w.job})
	if err != nil || len(reply.Jobs) != 1 || reply.Jobs[0].LearnerAddr != w.addr {
		w.addr = ""
		return err
	}
	j := reply.Jobs[0]
	if j.Effort == nil {
		return nil // it has just begun, or ended
	}
	if w.last.Effort != nil && w.last.Epoch != j.Epoch {
		w.before += float64(w.last.Effort.Trained)
	}
	w.last = j
	if n := w.before + float64(j.Effort.Trained); n > 0 && (len(w.steps) == 0 || n > w.steps[len(w.steps)-1].Count) {
		w.steps = append(w.steps, scaling.Step{At: time.Since(w.origin), Count: n})
	}
	return nil
}
