package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replica"
	"github.com/driftmesh/driftmesh/sampler"
)

// stretch is what a learner did in a while.
type stretch struct {
	Rate    float64 `json:"updates_per_second"`
	CPU     float64 `json:"cpu_ms_per_update"` // of the learner's process
	Commits float64 `json:"commits_per_second"`
	Window  float64 `json:"window_ms_p50"`
	Took    float64 `json:"commit_ms_p50"`
}

// schooling trains a real job in a process that leads a replicated log: with
// commits, and without any, each time from the state that was committed last.
type schooling struct {
	replica *replica.Replica
	spec    *job.Spec
	updater *paramserver.Updater
	roller  *sampler.Roller
	version uint64
}

func newSchooling(ctx context.Context, r *replica.Replica, spec *job.Spec) (*schooling, error) {
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, err
	}
	roller, err := sampler.NewRoller(spec, 0)
	if err != nil {
		return nil, err
	}
	params, private, err := u.Marshal()
	if err != nil {
		return nil, err
	}
	res, err := r.Apply(ctx, fsm.Commit{Job: benchJob, Epoch: 1, Params: params, Private: private})
	if err == nil && res.Outcome != fsm.Applied {
		err = fmt.Errorf("version 0: %s: %s", res.Outcome, res.Reason)
	}
	return &schooling{replica: r, spec: spec, updater: u, roller: roller}, err
}

// train runs a learner for d; without commits, unless commit.
func (s *schooling) train(ctx context.Context, d time.Duration, commit bool) (out *stretch, err error) {
	var j *fsm.Job
	s.replica.Read(func(st *fsm.State) { j, _ = st.Job(benchJob) })
	if err := s.updater.Restore(j.Version, j.Params, j.Private); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	feed := newAheadFeed(ctx, s.roller, s.updater.Fresh)
	defer func() {
		cancel()
		err = errors.Join(err, feed.wait())
	}()
	var proposed []time.Time
	var took, windows []float64
	l := &paramserver.Learner{
		Lease: paramserver.Lease{Job: benchJob, Epoch: 1}, Updater: s.updater, Feed: feed, Log: atOnce{}, Committed: true,
		Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler), Updates: s.spec.Train.Updates, MinWindow: time.Hour,
	}
	if commit {
		l.Log, l.MinWindow = inLog{s.replica}, time.Duration(s.spec.Mesh.WindowMS)*time.Millisecond
		l.OnPropose = func(*fsm.Commit) { proposed = append(proposed, time.Now()) }
		l.OnCommit = func(_ *fsm.Commit, d time.Duration) { took = append(took, 1e3*d.Seconds()) }
	}
	began, cpu := time.Now(), parts.OwnCPU()
	var seconds float64
	var used time.Duration
	var updates int
	ended := errors.New("the time is over")
	l.OnUpdate = func(*paramserver.Update) error {
		updates++
		if at := time.Since(began); at >= d && seconds == 0 {
			seconds, used = at.Seconds(), parts.OwnCPU()-cpu
			cancel() // what is open is committed, which is not counted
		}
		return nil
	}
	if err := l.Run(ctx); err == nil || seconds == 0 {
		return nil, fmt.Errorf("%w before: %w", ended, err)
	} else if !errors.Is(err, context.Canceled) {
		return nil, err
	}
	for i := range max(0, len(proposed)-2) { // the last one was not due
		windows = append(windows, 1e3*proposed[i+1].Sub(proposed[i]).Seconds())
	}
	return &stretch{
		Rate: float64(updates) / seconds, CPU: 1e3 * used.Seconds() / float64(updates), Commits: float64(len(windows)) / seconds,
		Window: median(windows), Took: median(took),
	}, nil
}

// inLog proposes a learner's commits to the log of this process.
type inLog struct{ replica *replica.Replica }

// Commit implements paramserver.Log.
func (l inLog) Commit(_ context.Context, c *fsm.Commit) (<-chan paramserver.Answer, error) {
	future := l.replica.ApplyAsync(c)
	out := make(chan paramserver.Answer, 1)
	go func() { // ends with the answer
		res, err := future.Wait(context.Background())
		out <- paramserver.Answer{Result: res, Err: err}
	}()
	return out, nil
}

// atOnce is a log that keeps nothing.
type atOnce struct{}

// Commit implements paramserver.Log.
func (atOnce) Commit(context.Context, *fsm.Commit) (<-chan paramserver.Answer, error) {
	out := make(chan paramserver.Answer, 1)
	out <- paramserver.Answer{Result: fsm.Result{Outcome: fsm.Applied}}
	return out, nil
}

// aheadFeed samples the next batch on another core while the learner trains on this
// one, as workers do: both cores are busy with or without commits.
type aheadFeed struct {
	fresh   func() int
	wanted  chan order
	sampled chan []wire.Trajectory
	params  [2][]float32
	turn    int
	started bool
	loop    sync.WaitGroup
	err     error
}

type order struct {
	params  []float32
	version uint64
}

func newAheadFeed(ctx context.Context, roller *sampler.Roller, fresh func() int) *aheadFeed {
	f := &aheadFeed{fresh: fresh, wanted: make(chan order, 1), sampled: make(chan []wire.Trajectory, 1)}
	f.loop.Go(func() { f.err = f.sample(ctx, roller) })
	return f
}

// sample fills orders, into two buffers in turn: one is trained on meanwhile.
func (f *aheadFeed) sample(ctx context.Context, roller *sampler.Roller) error {
	var dst [2][]wire.Trajectory
	for i, seq := 0, uint64(1); ; i++ {
		select {
		case o := <-f.wanted:
			batch, err := roller.SampleN(f.fresh(), o.params, o.version, seq, dst[i%2])
			if err != nil {
				return err
			}
			dst[i%2], seq = batch, seq+uint64(len(batch))
			select {
			case f.sampled <- batch:
			case <-ctx.Done():
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// Next implements paramserver.Feed.
func (f *aheadFeed) Next(ctx context.Context, version uint64, params []float32) ([]wire.Trajectory, error) {
	for {
		if f.started {
			select {
			case batch := <-f.sampled:
				f.order(version, params)
				return batch, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		f.started = true
		f.order(version, params)
	}
}

// order asks for the batch after the one that is trained on now.
func (f *aheadFeed) order(version uint64, params []float32) {
	f.turn++
	p := append(f.params[f.turn%2][:0], params...)
	f.params[f.turn%2] = p
	f.wanted <- order{p, version} // there is room: the last order was filled
}

func (f *aheadFeed) wait() error {
	f.loop.Wait()
	return f.err
}

// Refuse implements paramserver.Feed.
func (f *aheadFeed) Refuse(*wire.Trajectory, error) {}

// Marks implements paramserver.Feed.
func (f *aheadFeed) Marks() []fsm.Mark { return nil }
