package paramserver

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/policy"
)

// evaluator measures committed versions on a schedule without stopping the
// learner: the learner's goroutine hands it a row and the committed bytes, and
// goes on; a row that falls due while an evaluation runs waits for the next.
type evaluator struct {
	spec    *job.Spec
	updater *Updater
	rec     *Recorder
	hub     *hub
	clock   clock.Clock
	members func() (servers, workers int)
	logger  *slog.Logger
	exact   *metrics.Evaluator // nil where the environment cannot be enumerated
	samples *Estimator         // nil unless the job asks for estimates

	ages *ages
	next uint64       // version at which the next row is due
	cuts []runs.Row   // rows whose Commits are in flight, oldest first
	work chan evalJob // room for one

	// Since the last row was cut: what the marks say of trajectories that were
	// not trained on.
	stale, refused uint64
	// Since the last row was committed.
	began   time.Time
	updates int
	trained int
}

type evalJob struct {
	row    runs.Row
	timing runs.Timing
	params []byte
}

func newEvaluator(ctx context.Context, spec *job.Spec, u *Updater, h *hub, c clock.Clock, members func() (int, int), logger *slog.Logger) *evaluator {
	e := &evaluator{
		spec: spec, updater: u, rec: NewRecorder(spec), hub: h, clock: c, members: members, logger: logger,
		exact: u.Exact(ctx), ages: newAges(), work: make(chan evalJob, 1), began: c.Now(),
	}
	e.next = e.due(u.Version())
	return e
}

// due is when the row after the one of version v is due. With eval.every 0 only
// the last version has one.
func (e *evaluator) due(v uint64) uint64 {
	if e.spec.Eval.Every == 0 {
		return math.MaxUint64
	}
	return v + uint64(e.spec.Eval.Every)
}

// updated is the learner's OnUpdate.
func (e *evaluator) updated(u *Update) error {
	e.rec.Add(u)
	e.updates++
	e.trained += len(u.Batch)
	now := e.clock.Now()
	for i := range u.Batch[:u.Fresh] {
		e.ages.used(u.Batch[i].Version, now)
	}
	return nil
}

// proposed is the learner's OnPropose: it cuts the stretch at this version. The
// last version always gets a row.
func (e *evaluator) proposed(c *fsm.Commit) {
	e.ages.committed(c.Version, c.Stamp)
	for _, m := range c.Marks {
		e.stale += m.Stale
		e.refused += m.Refused
	}
	busy := len(e.cuts) > 0 || len(e.work) > 0
	if e.rec.Empty() || !c.Done && (busy || c.Version < e.next) {
		return
	}
	row := e.rec.Row(e.updater)
	row.Generation = c.Generation
	row.Stale, row.Refused = e.stale, e.refused // the updates know nothing of what admission refused
	e.stale, e.refused = 0, 0
	e.cuts = append(e.cuts, row)
}

// committed is the learner's OnCommit.
func (e *evaluator) committed(c *fsm.Commit, _ time.Duration) {
	if len(e.cuts) == 0 || uint64(e.cuts[0].Version) != c.Version {
		return
	}
	row := e.cuts[0]
	e.cuts = e.cuts[1:]
	now := e.clock.Now()
	seconds := now.Sub(e.began).Seconds()
	t := runs.Timing{
		Version: row.Version, Seconds: runs.Float(seconds),
		UpdatesPerS: runs.Float(float64(e.updates) / seconds), TrajectoriesPerS: runs.Float(float64(e.trained) / seconds),
	}
	t.LagSeconds = e.ages.stats()
	t.Servers, t.Workers = e.members()
	e.work <- evalJob{row, t, c.Params} // waits for a running evaluation only at the end
	e.updates, e.trained, e.began = 0, 0, now
	e.next = e.due(c.Version)
}

// run evaluates until ctx ends, and then what is still waiting. When learning ends
// early, which is before ctx does, estimates are cut short: nobody should wait for
// them to take the job over.
func (e *evaluator) run(ctx, learning context.Context) {
	tape := e.updater.Model.NewTape()
	for {
		select {
		case w := <-e.work:
			e.evaluate(learning, tape, w)
		case <-ctx.Done():
			select {
			case w := <-e.work:
				e.evaluate(learning, tape, w)
			default:
			}
			return
		}
	}
}

// evaluate fills in the exact metrics, where the environment allows them, and the
// estimates that the job asks for.
func (e *evaluator) evaluate(learning context.Context, tape policy.Tape, w evalJob) {
	began := e.clock.Now()
	if e.exact != nil || e.samples != nil {
		err := e.measure(learning, tape, &w)
		if errors.Is(err, context.Canceled) {
			e.logger.Info("estimates cut short", "version", w.row.Version)
		} else if err != nil {
			e.logger.Error("evaluation failed", "version", w.row.Version, "error", err)
		}
	}
	w.timing.EvalSeconds = runs.Float(e.clock.Now().Sub(began).Seconds())
	e.hub.publish(Report{w.row, w.timing})
}

func (e *evaluator) measure(learning context.Context, tape policy.Tape, w *evalJob) error {
	params, err := wire.DecodeFloats(w.params)
	if err != nil {
		return err
	}
	if e.exact != nil {
		rep, err := e.exact.Model(tape, params[:len(params)-1])
		if err != nil {
			return err
		}
		AddExact(&w.row, rep)
	}
	if e.samples == nil {
		return nil
	}
	est, err := e.samples.Estimate(learning, params, uint64(w.row.Version))
	if err != nil {
		return err
	}
	est.AddTo(&w.row)
	return nil
}
