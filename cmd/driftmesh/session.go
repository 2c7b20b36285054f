package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/display"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/safetensors"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/policy"
)

// jobFlags are what every verb that takes a job file has.
type jobFlags struct {
	sets  []string
	runs  string
	fresh bool
	plain bool
	allow []string // folders of plugins
}

func (f *jobFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&f.sets, "set", nil, "override a field by `path=value`, such as optimiser.learning_rate=1e-4 (repeatable)")
	fl.StringVar(&f.runs, "runs", "runs", "`folder` that run folders go to")
	fl.BoolVar(&f.fresh, "fresh", false, "delete what the run folder holds and start over")
	fl.BoolVar(&f.plain, "plain", false, "plain lines even on a terminal")
	addAllowPlugins(fl, &f.allow, "otherwise its folder")
}

// loadJob reads a job file and builds everything it names once, so that every
// fault is found, with its line, before anything starts.
func (f *jobFlags) load(path string) (*job.Spec, *paramserver.Updater, error) {
	spec, src, err := job.Load(path, f.sets)
	if err != nil {
		return nil, nil, userFault{err}
	}
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, nil, src.Locate(err)
	}
	if err := errors.Join(ready(u.Env), u.CheckEval()); err != nil {
		return nil, nil, src.Locate(err)
	}
	return spec, u, nil
}

// ready says why the rewards of a job cannot be had in this process.
func ready(env envs.Env) error {
	if remote, ok := env.(envs.Remote); ok {
		return fielderr.Prefix("reward", remote.Ready())
	}
	return nil
}

// session is one process's work on a run: the folder, the display, and how it ends.
type session struct {
	spec *job.Spec
	run  *runs.Run
	out  io.Writer
	show *display.Display
	// resumed is the checkpoint to go on from; nil at the beginning.
	resumed *runs.Checkpoint
	// Training and evaluation time so far, over all processes of the run.
	seconds, evalSeconds float64
	// programs are the plugins of the job, as they are now.
	programs map[string]string
}

// meshDir is the folder inside a run's that holds the nodes of `up`. Where it
// is, the servers' log is the truth about the run.
const meshDir = "mesh"

// openSession creates or resumes a run, for a mesh or for this process. Its
// folder is runs/<name>, or one beside it that place finds.
func openSession(cmd *cobra.Command, f *jobFlags, spec *job.Spec, u *paramserver.Updater, mesh bool) (*session, error) {
	s := &session{spec: spec, out: cmd.OutOrStdout()}
	var err error
	if s.programs, err = programsOf(cmd.Context(), u.Env); err != nil {
		return nil, err
	}
	dir, err := s.place(f, mesh)
	if err != nil {
		return nil, err
	}
	here := runs.Session{Started: time.Now(), Command: os.Args, Machine: runs.ThisMachine()}
	if !runs.Exists(dir) {
		config, err := spec.YAML()
		if err != nil {
			return nil, err
		}
		s.run, err = runs.Create(dir, runs.Info{Name: spec.Name, Seed: spec.Seed, Version: version, Sessions: []runs.Session{here}}, config)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	s.resumed, err = runs.LoadCheckpoint(dir)
	if errors.Is(err, fs.ErrNotExist) {
		s.resumed, err = nil, nil
	}
	if err == nil && s.resumed != nil {
		here.From = s.resumed.Version
		if err = errors.Join(s.samePrograms(), restore(u, s.resumed)); err != nil {
			err = fmt.Errorf("%s: %w", dir, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if s.run, err = runs.Open(dir, here); err != nil {
		return nil, err
	}
	timings, err := runs.ReadTimings(dir)
	if err != nil {
		return nil, errors.Join(err, s.run.Close())
	}
	if n := len(timings); n > 0 {
		s.seconds, s.evalSeconds = float64(timings[n-1].Seconds), float64(timings[n-1].EvalSeconds)
	}
	return s, nil
}

// removeRun deletes a run's folder unless another process has it open. A folder
// that is damaged is deleted all the same.
func removeRun(dir string) error {
	r, err := runs.Open(dir, runs.Session{Started: time.Now()})
	if errors.Is(err, runs.ErrLocked) {
		return err
	}
	err = os.RemoveAll(dir)
	if r != nil {
		err = errors.Join(err, r.Close()) // the lock is held until all is gone
	}
	return err
}

// privateTensor is the name of the learner's own state in a checkpoint.
const privateTensor = "learner_state"

func layoutOf(l policy.Layout) []runs.Param {
	out := make([]runs.Param, len(l))
	for i, p := range l {
		out[i] = runs.Param{Name: p.Name, Shape: p.Shape, Group: p.Group}
	}
	return out
}

// checkpoint writes a committed state to the run folder.
func (s *session) checkpoint(u *paramserver.Updater, params []float32, private []byte, version int64, trajectories, generation uint64) error {
	spec, err := s.spec.JSON()
	if err != nil {
		return err
	}
	return s.run.SaveCheckpoint(&runs.Checkpoint{
		Generation: generation, Version: version, Trajectories: trajectories,
		Spec: spec, Programs: s.programs, Layout: layoutOf(u.Layout()), Params: params,
		Optimiser: []safetensors.Tensor{safetensors.FromBytes(privateTensor, private)},
	})
}

// restore puts a checkpoint into an Updater of the same job.
func restore(u *paramserver.Updater, c *runs.Checkpoint) error {
	if err := c.Match(layoutOf(u.Layout())); err != nil {
		return err
	}
	i := slices.IndexFunc(c.Optimiser, func(t safetensors.Tensor) bool { return t.Name == privateTensor })
	if i < 0 {
		return fmt.Errorf("%w: it lacks the tensor %q", runs.ErrForeign, privateTensor)
	}
	private, err := c.Optimiser[i].Bytes()
	if err != nil {
		return fmt.Errorf("%w: %w", runs.ErrForeign, err)
	}
	if err := u.RestoreFloats(uint64(c.Version), c.Params, private); err != nil {
		return fmt.Errorf("%w: %w", runs.ErrForeign, err)
	}
	return nil
}

// begin starts the display.
func (s *session) begin(f *jobFlags, servers, workers int) {
	s.show = display.New(s.out, display.Options{
		Name: s.spec.Name, Total: s.spec.Train.Updates, Plain: f.plain, Servers: servers, Workers: workers,
	})
}

// row records a finished stretch and shows it.
func (s *session) row(row runs.Row, t runs.Timing) error {
	if row.Version <= s.run.Last() {
		return nil // seen before a restart
	}
	if err := errors.Join(s.run.Append(row), s.run.AppendTiming(t)); err != nil {
		return err
	}
	s.show.Row(row, t)
	return nil
}

// note shows one line of news.
func (s *session) note(format string, args ...any) {
	if s.show == nil {
		fmt.Fprintf(s.out, format+"\n", args...)
		return
	}
	s.show.Note(fmt.Sprintf(format, args...))
}

// close ends the display and releases the run folder.
func (s *session) close() error {
	if s.show != nil {
		s.show.Close()
	}
	return s.run.Close()
}

// describeRow is the run's state in a few lines.
func describeRow(w io.Writer, row runs.Row) {
	var b bytes.Buffer
	if tv, ok := runs.Known(row.TV); ok {
		fmt.Fprintf(&b, "  TV      %.4f (exact)\n", tv)
	}
	if row.ModesTotal != nil && row.ModesFound != nil {
		fmt.Fprintf(&b, "  modes   %d of %d found", *row.ModesFound, *row.ModesTotal)
		if row.ModesHeld != nil {
			fmt.Fprintf(&b, ", %d held", *row.ModesHeld)
		}
		b.WriteByte('\n')
	}
	if logZ, ok := runs.Known(&row.LogZ); ok {
		fmt.Fprintf(&b, "  log Z   %.4f (%s)", logZ, row.LogZEstimator)
		if exact, ok := runs.Known(row.LogZExact); ok {
			fmt.Fprintf(&b, ", %.4f exact, error %+.4f", exact, logZ-exact)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "  lag     median %d, p95 %d, max %d updates\n", row.Lag.Median, row.Lag.P95, row.Lag.Max)
	w.Write(b.Bytes())
}
