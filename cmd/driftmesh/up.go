package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/local"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

type upFlags struct {
	jobFlags
	servers, learners, workers, slots int
}

func newUpCmd() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up JOB.yaml",
		Short: "Train on a local mesh of real processes",
		Long: `Start a local mesh of real processes on loopback, submit the job, show its
progress and write the run folder. Processes that die are restarted. Ctrl-C
checkpoints and ends the mesh; the same command resumes at the last committed
version.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.allow = besideJob(f.allow, args[0])
			return permitted(cmd, f.allow, func() error { return up(cmd, &f, args[0]) })
		},
	}
	f.jobFlags.add(cmd)
	cmd.Flags().IntVar(&f.servers, "servers", 1, "parameter servers: 1, 3 or 5 voters")
	cmd.Flags().IntVar(&f.learners, "learners", 0, "processes that only train; without any the servers train")
	cmd.Flags().IntVar(&f.workers, "workers", 2, "worker processes")
	cmd.Flags().IntVar(&f.slots, "slots", 1, "sampler loops per worker process")
	return cmd
}

// checkpointEvery is how often `up` copies the committed state into the run
// folder; the servers' own log is what resumes.
const checkpointEvery = 5 * time.Second

// lookEvery is how often `up` asks how far the job is.
const lookEvery = 250 * time.Millisecond

func up(cmd *cobra.Command, f *upFlags, path string) (err error) {
	spec, u, err := f.load(path)
	if err != nil {
		return err
	}
	if _, _, err := paramserver.Check(spec); err != nil { // what only train can do
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := local.Config{
		Binary:  binary,
		Servers: f.servers, Learners: f.learners, Workers: f.workers, Slots: f.slots, Plugins: f.allow,
	}
	if err := cfg.Check(); err != nil { // before there is a folder
		return err
	}
	s, err := openSession(cmd, &f.jobFlags, spec, u, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.resumed != nil && u.Version() >= uint64(spec.Train.Updates) {
		return s.finish(cmd.Context(), u, alreadyFinished(u))
	}
	for _, w := range u.Warnings {
		s.note("warning: %s", w)
	}
	cfg.Dir = filepath.Join(s.run.Dir(), meshDir)
	s.begin(&f.jobFlags, f.servers, f.workers)
	cfg.Event = func(text string) { s.note("%s", text) }
	mesh, err := local.Start(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mesh.Stop()) }()

	m := &follower{s: s, u: u, cluster: mesh.ClusterID(), servers: mesh.Servers()}
	m.leader = cluster.NewLeader(mesh.ClusterID(), mesh.Servers, cluster.DialOptions{})
	defer func() { err = errors.Join(err, m.leader.Close()) }()
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	go func() {
		select {
		case err := <-mesh.Failed():
			cancel(err)
		case <-ctx.Done():
		}
	}()
	switch err = m.follow(ctx); {
	case err == nil:
		return s.finish(cmd.Context(), u, fmt.Sprintf("%s after %d updates", m.status, u.Version()))
	case cmd.Context().Err() != nil && !m.submitted:
		s.note("%s: interrupted before the servers had the job", spec.Name)
		return errInterrupted
	case cmd.Context().Err() != nil:
		last, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second+2*u.CommitTime())
		defer cancel()
		err = m.pause(last)
		if err == nil && u.Version() >= uint64(spec.Train.Updates) {
			return s.finish(last, u, fmt.Sprintf("finished after %d updates", u.Version()))
		}
		outcome := fmt.Sprintf("interrupted at version %d; the same command resumes", u.Version())
		if err != nil {
			outcome = fmt.Sprintf("interrupted, and no server answered; the last copy is of version %d, the same command resumes at the last commit", u.Version())
		}
		return errors.Join(errInterrupted, err, s.finish(last, u, outcome))
	case context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), context.Canceled):
		return context.Cause(ctx)
	}
	return err
}

// follower submits a job to a mesh and follows it to its end, whichever of the
// servers leads.
type follower struct {
	s       *session
	u       *paramserver.Updater
	leader  *cluster.Leader
	cluster string
	servers []string // gRPC addresses

	submitted bool          // the servers know the job
	status    string        // how it ended
	pulled    time.Time     // when the committed state was last copied
	pulling   time.Duration // how long that took: a large state is copied less often
}

func (m *follower) follow(ctx context.Context) error {
	data, err := m.s.spec.JSON()
	if err != nil {
		return err
	}
	reply, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).Submit, &wire.SubmitRequest{ClusterID: m.cluster, Spec: data})
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	m.submitted = true
	m.s.note("%s: the mesh answers at %s", m.s.spec.Name, strings.Join(m.servers, ", ")) // whom status and the client of Python ask
	if reply.Existed {
		if err := m.resume(ctx); err != nil {
			return err
		}
	}
	var looks sync.WaitGroup
	defer looks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looks.Go(func() { m.look(ctx) })
	for {
		err := m.watch(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, serr := m.info(ctx)
		if serr != nil {
			return serr
		}
		switch status := fsm.Status(info.Status); status {
		case fsm.Finished, fsm.Stopped:
			m.status = string(status)
			return errors.Join(m.rest(ctx, err), m.pull(ctx))
		case fsm.Failed, fsm.Paused:
			return fmt.Errorf("job %s is %s: %s", m.s.spec.Name, status, info.Reason)
		}
		var local localFault
		if errors.As(err, &local) {
			return err
		}
		// Otherwise the stream broke or moved: watch again.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(again):
		}
	}
}

// resume says where a job that the servers know goes on.
func (m *follower) resume(ctx context.Context) error {
	info, err := m.info(ctx)
	if err != nil {
		return err
	}
	switch fsm.Status(info.Status) {
	case fsm.Stopped, fsm.Paused, fsm.Failed:
		if _, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: m.cluster, Job: m.s.spec.Name, Verb: wire.VerbResume}); err != nil {
			return err
		}
	}
	m.s.note("%s: resuming at committed version %d of %d (%d trajectories)", m.s.spec.Name, info.Version, info.Updates, info.Trajectories)
	return m.s.run.TruncateAfter(int64(info.Version))
}

// pause lets the learner commit what it has and end, and copies that state: the
// version that is reported is the one that the next command goes on from.
func (m *follower) pause(ctx context.Context) error {
	_, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).Control, &wire.ControlRequest{ClusterID: m.cluster, Job: m.s.spec.Name, Verb: wire.VerbPause})
	if errors.Is(err, cluster.ErrConflict) {
		err = nil // it is over already
	}
	if err == nil {
		err = m.rest(ctx, nil)
	}
	return errors.Join(err, m.pull(ctx))
}

// again is the pause before a watch that broke off is taken up once more.
const again = 100 * time.Millisecond

// restTimeout bounds the wait for the last reports; whose learner's node was
// restarted has lost them.
const restTimeout = 2 * time.Second

// rest brings the reports that a watch which broke off, with err, has not: a job
// whose learner has ended ends the stream once all are sent.
func (m *follower) rest(ctx context.Context, err error) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	var local localFault
	for !errors.Is(err, io.EOF) {
		if err = m.watch(ctx); errors.As(err, &local) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again / 10):
		}
	}
	return nil
}

func (m *follower) info(ctx context.Context) (wire.JobInfo, error) {
	reply, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).Status, &wire.StatusRequest{ClusterID: m.cluster, Job: m.s.spec.Name, Linearizable: true})
	if err != nil {
		return wire.JobInfo{}, err
	}
	if len(reply.Jobs) == 0 {
		return wire.JobInfo{}, fmt.Errorf("job %q: %w", m.s.spec.Name, cluster.ErrNotFound)
	}
	return reply.Jobs[0], nil
}

// quietAfter is how long `up` waits for the first update before it says where to
// look: a reward that fails in every worker is told in their logs only.
const quietAfter = 8 * time.Second

// look keeps the display moving between reports.
func (m *follower) look(ctx context.Context) {
	began, first, moved := time.Now(), uint64(0), false
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		client, err := m.leader.Find(ctx)
		if err != nil {
			continue
		}
		reply, err := client.Status(ctx, &wire.StatusRequest{ClusterID: m.cluster, Job: m.s.spec.Name})
		if err != nil || len(reply.Jobs) == 0 {
			continue // a server is down; watch says so and finds another
		}
		switch version := reply.Jobs[0].Version; {
		case first == 0:
			first = version + 1
		case version >= first:
			moved = true
		case !moved && time.Since(began) > quietAfter:
			moved = true // told once
			m.s.note("%s: no update for %v; the nodes' logs are %s", m.s.spec.Name, quietAfter, filepath.Join(m.s.run.Dir(), meshDir, "*.log"))
		}
		m.s.show.Progress(int64(reply.Jobs[0].Version), reply.Jobs[0].Trajectories)
		m.s.show.Alive(alive(reply.Servers), alive(reply.Workers))
	}
}

func alive(members []wire.MemberInfo) int {
	n := 0
	for _, m := range members {
		if m.Alive {
			n++
		}
	}
	return n
}

// localFault is a fault of this process or its run folder, such as a full disk:
// watching again would not cure it.
type localFault struct{ error }

func (f localFault) Unwrap() error { return f.error }

// watch follows the reports of the present learner until the stream ends.
func (m *follower) watch(ctx context.Context) error {
	client, err := m.leader.Find(ctx)
	if err != nil {
		return err
	}
	stream, err := client.Watch(ctx, &wire.WatchRequest{ClusterID: m.cluster, Job: m.s.spec.Name, After: uint64(max(0, m.s.run.Last()))})
	for err == nil {
		var reply *wire.WatchReply
		if reply, err = stream.Recv(); err != nil {
			break
		}
		var r paramserver.Report
		if err := json.Unmarshal(reply.Row, &r); err != nil {
			return localFault{fmt.Errorf("metrics row: %w", err)}
		}
		// The server's times are the stretch's.
		m.s.seconds += float64(r.Timing.Seconds)
		m.s.evalSeconds += float64(r.Timing.EvalSeconds)
		r.Timing.Seconds, r.Timing.EvalSeconds = runs.Float(m.s.seconds), runs.Float(m.s.evalSeconds)
		if err := m.s.row(r.Row, r.Timing); err != nil {
			return localFault{err}
		}
		if time.Since(m.pulled) >= max(checkpointEvery, 10*m.pulling) {
			if err := m.pull(ctx); err != nil {
				return err
			}
		}
	}
	var elsewhere cluster.ErrNotLeader
	if errors.As(err, &elsewhere) && elsewhere.Addr != "" {
		m.leader.Learn(elsewhere.Addr)
	} else {
		m.leader.Forget(client.Addr())
	}
	return err
}

// pull copies the committed state into the Updater and the run folder.
func (m *follower) pull(ctx context.Context) error {
	began := time.Now()
	reply, err := cluster.CallIdempotent(ctx, m.leader, (*cluster.Client).State, &wire.StateRequest{ClusterID: m.cluster, Job: m.s.spec.Name})
	if err != nil {
		return fmt.Errorf("committed state: %w", err)
	}
	if len(reply.Params) == 0 {
		return nil // nothing is committed yet
	}
	if err := m.u.Restore(reply.Info.Version, reply.Params, reply.Private); err != nil {
		return localFault{err}
	}
	if b := m.u.Bias(); b != nil {
		if err := m.s.run.WriteBias(b); err != nil {
			return localFault{err}
		}
	}
	err = m.s.checkpoint(m.u, m.u.Params(), reply.Private, int64(reply.Info.Version), m.u.Trajectories(), reply.Info.Generation)
	if err != nil {
		return localFault{err}
	}
	m.pulled = time.Now()
	m.pulling = m.pulled.Sub(began)
	return nil
}
