// Package sampler rolls out trajectories: vectorised rollouts with whatever
// parameters are at hand, and the worker loop that joins a mesh, follows a
// job's published parameters and delivers what it sampled, each trajectory once.
package sampler

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// Worker is one slot: it samples for the job that the leader assigns to it.
type Worker struct {
	ClusterID string
	Node      string          // this node's UUID
	Slot      int             // number of this slot on the node
	Leader    *cluster.Leader // finds the present leader, again after each failover
	// Parameters brings the job's published versions to all slots of the process.
	Parameters *fanout.Node
	Logger     *slog.Logger
	// Journal keeps what this slot saw; nil keeps nothing.
	Journal *journal.Journal
	// Observe, when set, sees the position of every snapshot that is sampled with.
	Observe func(job string, p wire.Position)

	// Sampled counts the trajectories of this slot, over all jobs.
	Sampled atomic.Uint64
	// Kept counts those that no committed mark covers yet.
	Kept atomic.Int64

	job   atomic.Pointer[string] // assigned now
	spent spent
}

// Job is the job that the slot samples for now, "" for none.
func (w *Worker) Job() string {
	if job := w.job.Load(); job != nil {
		return *job
	}
	return ""
}

const (
	retryAfter = 100 * time.Millisecond // between attempts to reach a server again
	// A shift that ends at once will do so again, as where the job's reward may not
	// be run here: the pause doubles up to longestRetry.
	longestRetry = 10 * time.Second
	// leaderSilence is four times the interval at which a leader repeats what
	// it assigned.
	leaderSilence = 2 * time.Second

	// keepLimit bounds the outbox, in trajectories: sampling pauses while that
	// many wait for a committed mark.
	keepLimit = 1 << 14
	// readyBatches is how many sampled batches may wait for credit: one, so
	// that the learner never waits for a rollout and parameters stay fresh.
	readyBatches = 1
	// outageBatches may wait while there is no learner to take them, and from then
	// on another one after each outagePace: sampling goes on through a failover,
	// however fast it is, and what waits is not far behind when the next learner
	// takes it.
	outageBatches = 256
	outagePace    = 50 * time.Millisecond
)

// Run samples until ctx ends. Losing any server does not stop it: the leader is
// looked for again while sampling goes on, as far as the outbox allows.
//
//	assignment → session → parameters → sample → outbox → learner → mark
func (w *Worker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	assigned := make(chan *wire.Assignment)
	wg.Go(func() { w.assignments(ctx, assigned) })

	present := &wire.Assignment{}
	var current *shift
	retry, began := retryAfter/2, time.Now()
	for {
		select {
		case next := <-assigned:
			if current != nil && next.Job == present.Job && string(next.Spec) == string(present.Spec) {
				current.moved(next.LearnerAddr) // only the learner has changed
				continue
			}
			if current != nil {
				current.end()
				current = nil
			}
			present, retry = next, retryAfter/2
			w.job.Store(&present.Job)
		case <-current.ended():
			current.end()
			current = nil
			if retry = min(2*retry, longestRetry); time.Since(began) > longestRetry {
				retry = retryAfter
			}
			if err := pause(ctx, retry); err != nil {
				return nil
			}
		case <-ctx.Done():
			if current != nil {
				current.end()
			}
			return nil
		}
		if present.Job != "" && current == nil {
			began = time.Now()
			current = w.startShift(ctx, present)
		}
	}
}

// assignments follows the leader's stream of assignments, whoever leads.
func (w *Worker) assignments(ctx context.Context, out chan<- *wire.Assignment) {
	for ctx.Err() == nil {
		if err := w.follow(ctx, out); err != nil && ctx.Err() == nil {
			w.Logger.Debug("assignments interrupted", "slot", w.Slot, "error", err)
		}
		if pause(ctx, retryAfter) != nil {
			return
		}
	}
}

func (w *Worker) follow(ctx context.Context, out chan<- *wire.Assignment) error {
	leader, err := w.Leader.Find(ctx)
	if err != nil {
		return err
	}
	// The leader repeats itself; silence means that it hangs or is cut off.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(leaderSilence, cancel)
	defer silence.Stop()
	stream, err := leader.Assign(ctx, &wire.AssignRequest{ClusterID: w.ClusterID, Worker: w.Node, Slot: w.Slot})
	for err == nil {
		var a *wire.Assignment
		if a, err = stream.Recv(); err != nil {
			break
		}
		silence.Reset(leaderSilence)
		select {
		case out <- a:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var elsewhere cluster.ErrNotLeader
	if errors.As(err, &elsewhere) && elsewhere.Addr != "" {
		w.Leader.Learn(elsewhere.Addr)
	} else {
		w.Leader.Forget(leader.Addr())
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
