package paramserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// ErrFenced means that the job was granted to somebody else, stopped, or
// restored: this learner's uncommitted updates are void and it must end.
var ErrFenced = errors.New("learner is fenced")

// Feed supplies the batches of a learner: a replay queue filled by the mesh,
// or a sampler in the same process.
type Feed interface {
	// Next blocks until the batch of the update from version to version+1 is
	// there. params are the live parameters, valid until the next call. The
	// trajectories are valid until the next call.
	Next(ctx context.Context, version uint64, params []float32) ([]wire.Trajectory, error)
	// Refuse withdraws a trajectory of the last batch that could not be replayed.
	Refuse(t *wire.Trajectory, why error)
	// Marks returns what the next Commit says about the sessions.
	Marks() []fsm.Mark
}

// Log takes commits in order. The answer arrives once on the channel; after a
// leadership change or a timeout the Log finds out what became of the very
// same bytes before it answers, so an answer is always definite.
type Log interface {
	Commit(ctx context.Context, c *fsm.Commit) (<-chan Answer, error)
}

// Answer is what became of a Commit.
type Answer struct {
	Result fsm.Result
	Err    error // the log is gone (shutdown, context ended)
}

// Lease is the fenced right to write a job: the epoch of the Grant.
type Lease struct {
	Job        string
	Generation uint64
	Epoch      uint64
}

// Learner applies f-TB updates and commits windows of them.
type Learner struct {
	Lease   Lease
	Updater *Updater
	Feed    Feed
	Log     Log
	Clock   clock.Clock
	Logger  *slog.Logger

	// Committed says that the log holds the state that the learner begins with.
	// The first learner of a job begins with one that it has to commit.
	Committed bool
	Updates   int64         // budget: the job is done at this version
	MinWindow time.Duration // shortest time between commits
	// OnUpdate, when set, sees every update before the next one begins.
	OnUpdate func(*Update) error
	// OnPropose and OnCommit, when set, see every Commit as it is proposed and
	// once it is applied.
	OnPropose func(*fsm.Commit)
	OnCommit  func(c *fsm.Commit, took time.Duration)

	effort   *effort // nil: nobody asks
	window   *Window
	inFlight []proposal
	base     uint64 // version of the last proposed Commit
}

type proposal struct {
	answer <-chan Answer
	commit *fsm.Commit
	sent   time.Time
}

// Run trains until the budget is reached (nil), the lease is lost (ErrFenced),
// or ctx ends. When ctx ends, what is complete is committed before Run returns
// ctx's error, so that nothing trained is thrown away.
//
//	take a batch → weights from losses → gradient → S_v+1 → window full? commit
func (l *Learner) Run(ctx context.Context) error {
	commits, stop := outlive(ctx, lastCommit+l.Updater.CommitTime())
	defer stop()
	err := l.train(ctx, commits)
	switch {
	case err == nil:
		return l.finish(commits, true, nil)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return l.finish(commits, false, ctx.Err())
	}
	return err
}

// train makes updates and commits windows of them until the budget is reached.
// commits is the context of what is proposed: its answers are wanted even when
// ctx has ended.
func (l *Learner) train(ctx, commits context.Context) error {
	l.window = NewWindow(l.MinWindow, l.Clock.Now())
	l.base = l.Updater.Version()
	if l.base == 0 && !l.Committed {
		if err := l.propose(commits, false); err != nil { // version 0: workers need something to sample with
			return err
		}
	}
	for l.Updater.Version() < uint64(l.Updates) {
		if err := l.collect(ctx, l.window.MustWait(l.Clock.Now())); err != nil {
			return err
		}
		batch, err := l.next(ctx, commits)
		if err != nil {
			return err
		}
		began := l.Clock.Now()
		update, err := l.Updater.Step(batch, l.Feed.Refuse)
		l.lap((*effort).inUpdate, began)
		if errors.Is(err, ErrNoBatch) {
			continue // one sender of nonsense does not end the job
		}
		if err != nil {
			return err
		}
		l.window.Stepped()
		l.effort.used(update)
		if l.OnUpdate != nil {
			if err := l.OnUpdate(update); err != nil {
				return err
			}
		}
		if l.window.Due(l.Clock.Now()) && l.Updater.Version() < uint64(l.Updates) {
			if err := l.propose(commits, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookEvery is how often a learner without a batch looks for the answers to its
// commits: what it measures as a commit's time is longer by half of that.
const lookEvery = 2 * time.Millisecond

// next waits for a batch, but not idly beyond the end of an open window: workers
// whose outbox is full send nothing until a mark covers what they sent, and
// that mark is in the Commit of the window. Nor do answers wait for a batch: a
// commit would seem to take as long as a slow sampler, and its window grow with it.
func (l *Learner) next(ctx, commits context.Context) ([]wire.Trajectory, error) {
	for {
		wait, cancel := ctx, context.CancelFunc(func() {})
		switch {
		case len(l.inFlight) > 0:
			wait, cancel = context.WithTimeout(ctx, lookEvery)
		case l.window.Open():
			wait, cancel = context.WithTimeout(ctx, l.window.Left(l.Clock.Now()))
		}
		began := l.Clock.Now()
		batch, err := l.Feed.Next(wait, l.Updater.Version(), l.Updater.Params())
		l.lap((*effort).inBatch, began)
		cancel()
		switch {
		case err == nil:
			return batch, nil
		case ctx.Err() != nil || wait.Err() == nil:
			return nil, fmt.Errorf("feed: %w", cmp.Or(ctx.Err(), err))
		}
		if err := l.collect(ctx, false); err != nil {
			return nil, err
		}
		if l.window.Due(l.Clock.Now()) {
			if err := l.propose(commits, false); err != nil {
				return nil, err
			}
		}
	}
}

// propose sends the state since base as one Commit.
func (l *Learner) propose(ctx context.Context, done bool) error {
	defer l.lap((*effort).inCommit, l.Clock.Now())
	params, private, err := l.Updater.Marshal()
	if err != nil {
		return err
	}
	now := l.Clock.Now()
	c := &fsm.Commit{
		Job: l.Lease.Job, Generation: l.Lease.Generation, Epoch: l.Lease.Epoch,
		Base: l.base, Version: l.Updater.Version(),
		Params: params, Private: private,
		Marks: l.Feed.Marks(), Best: l.Updater.TakeBest(),
		Done: done, Stamp: now.UnixNano(),
	}
	if l.OnPropose != nil {
		l.OnPropose(c)
	}
	answer, err := l.Log.Commit(ctx, c)
	if err != nil {
		return fmt.Errorf("commit of version %d: %w", c.Version, err)
	}
	l.inFlight = append(l.inFlight, proposal{answer, c, now})
	l.base = c.Version
	l.window.Committed(now)
	return nil
}

// collect takes the answers that are there; with wait it blocks for the oldest.
func (l *Learner) collect(ctx context.Context, wait bool) error {
	for len(l.inFlight) > 0 {
		p := l.inFlight[0]
		var a Answer
		if wait {
			began := l.Clock.Now()
			select {
			case a = <-p.answer:
			case <-ctx.Done():
				return ctx.Err()
			}
			wait = false
			l.lap((*effort).inCommit, began)
		} else {
			select {
			case a = <-p.answer:
			default:
				return nil
			}
		}
		l.inFlight = l.inFlight[1:]
		took := l.Clock.Now().Sub(p.sent)
		l.window.Answered(took)
		l.effort.windowed(l.window)
		switch {
		case a.Err != nil:
			return fmt.Errorf("commit of version %d: %w", p.commit.Version, a.Err)
		case a.Result.Outcome == fsm.Applied, a.Result.Outcome == fsm.AlreadyApplied:
			if l.OnCommit != nil {
				l.OnCommit(p.commit, took)
			}
		case a.Result.Outcome == fsm.Rejected:
			return fmt.Errorf("commit of version %d rejected: %s", p.commit.Version, a.Result.Reason)
		default:
			l.Logger.Info("lease lost", "job", l.Lease.Job, "epoch", l.Lease.Epoch, "version", p.commit.Version, "outcome", a.Result.Outcome)
			return fmt.Errorf("%w: commit of version %d answered %s", ErrFenced, p.commit.Version, a.Result.Outcome)
		}
	}
	return nil
}

// lastCommit is how long a learner that was told to end waits for its last
// answers, besides what its state takes on the way.
const lastCommit = 5 * time.Second

// outlive returns a context that ends d after ctx does, or with stop.
func outlive(ctx context.Context, d time.Duration) (_ context.Context, stop context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(ctx, func() {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { unhook(); cancel() }
}

// finish commits the open window, waits for every answer and returns cause.
func (l *Learner) finish(ctx context.Context, done bool, cause error) error {
	for len(l.inFlight) >= MaxInFlight { // the last commit, too, needs room
		if err := l.collect(ctx, true); err != nil {
			return errors.Join(cause, err)
		}
	}
	if done || l.window.Open() {
		if err := l.propose(ctx, done); err != nil {
			return errors.Join(cause, err)
		}
	}
	for len(l.inFlight) > 0 {
		if err := l.collect(ctx, true); err != nil {
			return errors.Join(cause, err)
		}
	}
	return cause
}
