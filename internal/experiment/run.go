package experiment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/filelock"
	"github.com/driftmesh/driftmesh/internal/job"
)

// ErrDiverged is wrapped by the error of a training whose numbers stopped being
// finite. It is a result: the cell is published as diverged.
var ErrDiverged = errors.New("training diverged")

// ErrChanged says that a results folder was made from other cells.
var ErrChanged = errors.New("the study has changed")

// ErrLocked says that another process works on the study.
var ErrLocked = filelock.ErrHeld

// Names inside a study's folder, runs/<name>/.
const (
	cellsDir  = "cells"     // one folder per task, shared by all sets
	cellFile  = "cell.json" // in it, once the task is done
	tableFile = "table.json"
	planFile  = "plan.json" // in a set's folder
	studyFile = "study.yaml"
	lockFile  = ".lock"
)

// Status of a task.
const (
	Finished = "finished"
	Diverged = "diverged"
	Refused  = "refused"
	Pending  = "pending"
)

// Trainer trains a job to its end in a folder of its own, as a run of package
// runs, and goes on from what an earlier, interrupted call left there. It calls
// progress with the number of updates so far. A cancelled context comes back as
// its error, numbers that are not finite as ErrDiverged.
type Trainer func(ctx context.Context, dir string, spec *job.Spec, progress func(updates int64)) error

// Computation is a kind of part beside training: anything that turns a cell's
// parameters into a table, such as a fit by quadrature. It must give equal
// results for equal parameters and seeds.
type Computation struct {
	About string
	// Version is raised whenever equal parameters and seeds come to give another table:
	// those that were stored are then computed again. 0 for the first.
	Version int
	// Check finds the faults of parameters, as fielderr.Errors; may be nil.
	Check func(params map[string]any) error
	Run   func(ctx context.Context, params map[string]any, seed uint64) (*Table, error)
	// Conclude, which may be nil, writes the notes and values of a table from its rows.
	// Stored tables go through it whenever they are read, so that what is said of them
	// may be mended without computing them again.
	Conclude func(*Table)
}

// Runner does the tasks of a plan.
type Runner struct {
	Dir          string // the study's folder
	Plan         *Plan
	Study        *Study
	Train        Trainer
	Computations map[string]Computation
	Parallel     int
	// Continue accepts that the set's folder was made from other cells.
	Continue bool
	Clock    clock.Clock
	// OnProgress sees every change, one call at a time; may be nil.
	OnProgress func(Progress)
}

// Progress says how far a run is.
type Progress struct {
	Done, Diverged, Total int
	Reused                int // of Done: finished by an earlier command
	Elapsed, Left         time.Duration
	Last                  *Task // that was just done; nil for none
	Status                string
	Values                map[string]float64 // of Last
}

// outcome is cell.json.
type outcome struct {
	Part   string `json:"part"`
	Cell   string `json:"cell"`
	Seed   uint64 `json:"seed"`
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// IsDone says whether a folder is that of a study's run that is done.
func IsDone(dir string) bool {
	o, err := readOutcome(dir)
	return err == nil && o != nil
}

// SetDir is the folder of the set's results.
func (r *Runner) SetDir() string { return filepath.Join(r.Dir, r.Plan.Set) }

func (r *Runner) taskDir(t Task) string { return filepath.Join(r.Dir, cellsDir, t.ID) }

// Run does every task that is not done yet. When ctx ends, running trainings
// keep their checkpoints, and Run returns ctx's error; the next Run goes on.
// Any other error ends it too; what was done stays done.
func (r *Runner) Run(ctx context.Context) error {
	unlock, err := r.begin()
	if err != nil {
		return err
	}
	defer unlock()
	var todo []Task
	p := &tally{r: r, began: r.Clock.Now()}
	for _, t := range r.Plan.Tasks() {
		o, err := readOutcome(r.taskDir(t))
		if err != nil {
			return err
		}
		p.Total++
		p.work += weight(t)
		if o == nil {
			todo = append(todo, t)
			continue
		}
		p.Reused++
		p.work -= weight(t)
		p.count(o.Status)
	}
	p.show(nil, "")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	queue := make(chan Task)
	var wg sync.WaitGroup
	for range max(1, min(r.Parallel, len(todo))) {
		wg.Go(func() {
			for t := range queue {
				status, err := r.do(ctx, t, p)
				if err != nil {
					cancel(fmt.Errorf("%s, %s, seed %d: %w", t.Cell.Part, t.Cell.Name, t.Seed, err))
					continue
				}
				p.finish(t, status)
			}
		})
	}
feed:
	for _, t := range todo {
		select {
		case queue <- t:
		case <-ctx.Done():
			break feed
		}
	}
	close(queue)
	wg.Wait()
	return context.Cause(ctx)
}

// begin takes the study's folder and writes down what is to be done in it.
func (r *Runner) begin() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Join(r.Dir, cellsDir), 0o755); err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	lock, err := filelock.Acquire(filepath.Join(r.Dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Dir, err)
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	if err := r.compare(); err != nil {
		return nil, err
	}
	plan, err := json.MarshalIndent(r.Plan, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if err := os.MkdirAll(r.SetDir(), 0o755); err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	err = errors.Join(
		atomicfile.WriteBytes(filepath.Join(r.SetDir(), studyFile), 0o644, r.Study.Text),
		atomicfile.WriteBytes(filepath.Join(r.SetDir(), planFile), 0o644, append(plan, '\n')),
	)
	return func() { lock.Close() }, err
}

// compare refuses a folder that was made from other cells, unless told to go on.
func (r *Runner) compare() error {
	old, err := readPlan(r.SetDir())
	if errors.Is(err, fs.ErrNotExist) || r.Continue {
		return nil
	}
	if err != nil {
		return err
	}
	was, now := map[string]bool{}, map[string]bool{}
	for _, t := range old.Tasks() {
		was[t.ID] = true
	}
	fresh, gone := 0, 0
	for _, t := range r.Plan.Tasks() {
		now[t.ID] = true
		if !was[t.ID] {
			fresh++
		}
	}
	for id := range was {
		if !now[id] {
			gone++
		}
	}
	if fresh == 0 && gone == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w: %d runs are new, %d are no longer in it, %d stay; --continue keeps what was done and runs the new ones, --runs makes a folder elsewhere",
		r.SetDir(), ErrChanged, fresh, gone, len(was)-gone)
}

func readPlan(dir string) (*Plan, error) {
	path := filepath.Join(dir, planFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var p Plan
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("%s: damaged file: %w", path, err)
	}
	return &p, nil
}

// readOutcome returns what became of a task; nil while it is not done.
func readOutcome(dir string) (*outcome, error) {
	path := filepath.Join(dir, cellFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var o outcome
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("%s: damaged file: %w", path, err)
	}
	return &o, nil
}

// do runs one task and writes down, last of all, that it is done.
func (r *Runner) do(ctx context.Context, t Task, p *tally) (string, error) {
	dir := r.taskDir(t)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	o := outcome{Part: t.Cell.Part, Cell: t.Cell.Name, Seed: t.Seed, Status: Finished}
	var err error
	if t.Cell.Spec != nil {
		spec := *t.Cell.Spec
		spec.Seed = t.Seed
		err = r.Train(ctx, dir, &spec, func(int64) {})
	} else {
		err = r.compute(ctx, dir, t)
	}
	if ctx.Err() != nil && err != nil {
		return "", context.Cause(ctx)
	}
	if errors.Is(err, ErrDiverged) {
		o.Status, o.Error, err = Diverged, err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return "", err
	}
	return o.Status, atomicfile.WriteBytes(filepath.Join(dir, cellFile), 0o644, append(data, '\n'))
}

func (r *Runner) compute(ctx context.Context, dir string, t Task) error {
	kind := ""
	for _, p := range r.Plan.Parts {
		if p.Name == t.Cell.Part {
			kind = p.Kind
		}
	}
	began := r.Clock.Now()
	table, err := r.Computations[kind].Run(ctx, t.Cell.Params, t.Seed)
	if err != nil {
		return err
	}
	if err := table.check(); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	seconds, err := json.Marshal(map[string]float64{"seconds": r.Clock.Now().Sub(began).Seconds()})
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(table, "", " ")
	if err != nil {
		return err
	}
	return errors.Join(
		atomicfile.WriteBytes(filepath.Join(dir, secondsFile), 0o644, append(seconds, '\n')),
		atomicfile.WriteBytes(filepath.Join(dir, tableFile), 0o644, append(data, '\n')),
	)
}

const secondsFile = "seconds.json"

// weight is what a task is expected to cost beside others, for forecasts:
// updates times trajectories.
func weight(t Task) float64 {
	if t.Cell.Spec == nil {
		return 1
	}
	return t.Cell.Budget * float64(t.Cell.Spec.Train.Batch)
}

// tally counts what is done, for whoever watches.
type tally struct {
	mu sync.Mutex
	Progress
	r          *Runner
	began      time.Time
	work, made float64
}

func (p *tally) count(status string) {
	p.Done++
	if status == Diverged {
		p.Diverged++
	}
}

func (p *tally) finish(t Task, status string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(status)
	p.made += weight(t)
	p.show(&t, status)
}

// show tells the watcher; the caller holds the lock, or is alone.
func (p *tally) show(last *Task, status string) {
	if p.r.OnProgress == nil {
		return
	}
	p.Elapsed = p.r.Clock.Now().Sub(p.began)
	p.Left = 0
	if p.made > 0 {
		p.Left = time.Duration(float64(p.Elapsed) * (p.work - p.made) / p.made)
	}
	p.Last, p.Status, p.Values = last, status, nil
	if last != nil {
		if rec, err := p.r.record(*last); err == nil {
			p.Values = rec.Values
		}
	}
	p.r.OnProgress(p.Progress)
}
