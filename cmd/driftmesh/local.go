package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/cores"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plugin"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/sampler"
)

// localFeed is a sampler in the learner's own process: on-policy, or with an
// exact staleness of lag updates. Trajectory n of a run draws from stream n, so
// a resumed on-policy run goes on with the very same bits.
type localFeed struct {
	roller   *sampler.Roller
	updater  *paramserver.Updater
	sampling job.Sampling
	batch    func() int // fresh trajectories of the next update
	trained  func() uint64
	lag      uint64
	past     [][]float32 // ring of the last lag+1 parameter vectors, by version
	oldest   uint64      // version of the oldest vector in the ring
	dst      []wire.Trajectory
}

func newLocalFeed(ctx context.Context, spec *job.Spec, u *paramserver.Updater) (*localFeed, error) {
	roller, err := sampler.NewRoller(spec, 0)
	if err != nil {
		return nil, err
	}
	roller.Within(ctx)
	if spec.Train.Lag == 0 {
		roller.Rehearse(u.Tape())
	}
	return &localFeed{
		roller: roller, updater: u, sampling: spec.Sampling, batch: u.Fresh, trained: u.Trajectories,
		lag: uint64(spec.Train.Lag), past: make([][]float32, spec.Train.Lag+1), oldest: u.Version(),
	}, nil
}

// Next implements paramserver.Feed.
func (f *localFeed) Next(ctx context.Context, version uint64, params []float32) (_ []wire.Trajectory, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	n := f.batch()
	if n == 0 { // the job learns from data alone
		return nil, nil
	}
	from := version
	if f.lag > 0 {
		slot := version % (f.lag + 1)
		f.past[slot] = append(f.past[slot][:0], params...)
		from = f.oldest
		if version > f.oldest+f.lag {
			from = version - f.lag
		}
		f.oldest = from
		params = f.past[from%(f.lag+1)]
	}
	if f.dst, err = f.roller.SampleN(n, params, from, f.trained()+1, f.dst); err != nil {
		return nil, err
	}
	if f.lag == 0 {
		f.updater.Rehearsed(f.roller.Pass())
	}
	return f.dst, sampler.AwaitReward(ctx, f.sampling, len(f.dst))
}

// Refuse implements paramserver.Feed; the sampler of this process makes no
// trajectory that cannot be replayed.
func (f *localFeed) Refuse(*wire.Trajectory, error) {}

// Marks implements paramserver.Feed: there are no sessions.
func (f *localFeed) Marks() []fsm.Mark { return nil }

// lastCommit is the log of a local run: it remembers the newest Commit, which
// save makes durable.
type lastCommit struct {
	commit *fsm.Commit
	save   func(*fsm.Commit) error
}

// Commit implements paramserver.Log.
func (l *lastCommit) Commit(_ context.Context, c *fsm.Commit) (<-chan paramserver.Answer, error) {
	l.commit = c
	out := make(chan paramserver.Answer, 1)
	if l.save != nil {
		if err := l.save(c); err != nil {
			return nil, err
		}
	}
	out <- paramserver.Answer{Result: fsm.Result{Outcome: fsm.Applied}}
	return out, nil
}

// localRun trains a job in this process.
type localRun struct {
	spec    *job.Spec
	updater *paramserver.Updater
	exact   *metrics.Evaluator     // nil where not enumerable
	samples *paramserver.Estimator // nil unless the job asks for estimates
	tape    policy.Tape
	rec     *paramserver.Recorder
	clock   clock.Clock
	threads int // cores that share each update; 0 is one

	// onRow sees every finished row with its timing.
	onRow func(runs.Row, runs.Timing) error
	// onUpdate, when set, sees how far training is after every update.
	onUpdate func(version int64, trajectories uint64)
	ctx      context.Context // of train
	// save makes a Commit durable; nil keeps nothing.
	save func(*fsm.Commit) error

	seconds     float64 // trained before this process
	evalSeconds float64
	stretch     time.Time // begin of the present stretch,
	from        uint64    // its version,
	fromTraj    uint64    // and its trajectories
}

func newLocalRun(ctx context.Context, spec *job.Spec, u *paramserver.Updater) (*localRun, error) {
	r := &localRun{
		spec: spec, updater: u, exact: u.Exact(ctx), tape: u.Model.NewTape(),
		rec: paramserver.NewRecorder(spec), clock: clock.Real{},
	}
	err := u.Inexact
	if errors.Is(err, plugin.ErrProtocol) && !errors.Is(err, plugin.ErrFailed) {
		return nil, err // the graph is not what its program says: what is learned would be wrong
	}
	r.samples, err = paramserver.NewEstimator(u, r.exact, newEvalDrawer)
	return r, err
}

// commitEvery is the window of a local run: how much a SIGKILL can lose.
const commitEvery = 2 * time.Second

// train runs the learner until the budget is reached or ctx ends.
func (r *localRun) train(ctx context.Context) error {
	r.ctx = ctx
	if err := r.updater.Carry(r.rec); err != nil {
		return err
	}
	feed, err := newLocalFeed(ctx, r.spec, r.updater)
	if err != nil {
		return err
	}
	team := cores.New(max(r.threads, 1))
	defer team.Close()
	r.updater.Share(team)
	defer r.updater.Share(nil)
	r.stretch = r.clock.Now()
	r.from, r.fromTraj = r.updater.Version(), r.updater.Trajectories()
	l := &paramserver.Learner{
		Lease:     paramserver.Lease{Job: r.spec.Name, Epoch: 1},
		Updater:   r.updater,
		Feed:      feed,
		Log:       &lastCommit{save: r.save},
		Clock:     r.clock,
		Logger:    slog.New(slog.DiscardHandler),
		Updates:   r.spec.Train.Updates,
		MinWindow: commitEvery,
		OnUpdate:  r.updated,
	}
	if err = l.Run(ctx); errors.Is(err, errCutShort) {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

// errCutShort says that another program was asked about a version when the command was
// told to end. The version is not committed, so that whoever goes on comes to it again
// and has its row: it is no error of a context, after which a Learner commits.
var errCutShort = errors.New("evaluation cut short")

// updated closes a stretch when one is due.
func (r *localRun) updated(u *paramserver.Update) error {
	r.rec.Add(u)
	if r.onUpdate != nil {
		r.onUpdate(int64(u.Version), u.Trajectories)
	}
	last := u.Version == uint64(r.spec.Train.Updates)
	if every := uint64(r.spec.Eval.Every); !last && (every == 0 || u.Version%every != 0) {
		return nil
	}
	row := r.rec.Row(r.updater)
	now := r.clock.Now()
	if err := r.evaluate(&row); err != nil && r.ctx.Err() != nil && errors.Is(err, r.ctx.Err()) {
		return fmt.Errorf("%w at version %d: %v", errCutShort, u.Version, err)
	} else if err != nil {
		return fmt.Errorf("evaluation at version %d: %w", u.Version, err)
	}
	t := r.timing(now)
	if r.onRow == nil {
		return nil
	}
	return r.onRow(row, t)
}

// evaluate measures the present version. It is not cut short, unless it waits for
// another program: a row of a resumed run is that of an undisturbed one.
func (r *localRun) evaluate(row *runs.Row) error {
	if r.exact != nil {
		rep, err := r.exact.Model(r.tape, r.modelParams())
		if err != nil {
			return err
		}
		paramserver.AddExact(row, rep)
	}
	if r.samples == nil {
		return nil
	}
	ctx := context.Background()
	if _, asks := r.updater.Env.NewStates(1).(envs.Contextual); asks {
		ctx = r.ctx
	}
	est, err := r.samples.Estimate(ctx, r.modelParams(), uint64(row.Version))
	if err != nil {
		return err
	}
	est.AddTo(row)
	return nil
}

// modelParams are the live parameters without log Z.
func (r *localRun) modelParams() []float32 {
	p := r.updater.Params()
	return p[:len(p)-1]
}

// timing ends a stretch at now, the moment before its evaluation.
func (r *localRun) timing(now time.Time) runs.Timing {
	trained := now.Sub(r.stretch).Seconds()
	r.seconds += trained
	after := r.clock.Now()
	r.evalSeconds += after.Sub(now).Seconds()
	v, n := r.updater.Version(), r.updater.Trajectories()
	t := runs.Timing{
		Version: int64(v), Seconds: runs.Float(r.seconds), EvalSeconds: runs.Float(r.evalSeconds),
		UpdatesPerS: runs.Float(float64(v-r.from) / trained), TrajectoriesPerS: runs.Float(float64(n-r.fromTraj) / trained),
	}
	r.stretch, r.from, r.fromTraj = after, v, n
	return t
}
