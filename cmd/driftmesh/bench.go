package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver"
)

func newBenchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how a cluster performs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchScaleCmd())
	return cmd
}

type scaleFlags struct {
	clientFlags
	sets      []string
	runs      string
	workers   []int
	weak      bool
	strong    bool
	intervals int
	interval  time.Duration
	warmup    time.Duration
}

func newBenchScaleCmd() *cobra.Command {
	var f scaleFlags
	cmd := &cobra.Command{
		Use:   "scale [JOB.yaml] --workers 1,2,4,...",
		Short: "Measure how training scales with the number of worker slots",
		Long: `Measure how many trajectories a second a job trains on with each number of worker
slots, and report efficiency: rate(W)/W over rate(1)/1 (over the smallest W that
is measured), with 95 % confidence intervals, and what bounds the rate: reward,
sampling, ingest, learner, commit or fan-out.

With --server it runs on a cluster that is there, which should have no other job:
for each W it submits the job with mesh.max_slots=W and stops it again. Without,
it starts a local mesh of one server and as many slots as the largest W.

--strong keeps the job as it is; --weak makes train.batch, the trajectories of an
update, grow with W. Evaluation is switched off. Without JOB.yaml the job is a
small hypergrid. --set sampling.reward_delay_ms=10 makes rewards take time.

Numbers and a plot go to a folder of their own in --runs.`,
		Example: `  driftmesh bench scale --workers 1,2,4,8 --set sampling.reward_delay_ms=10
  driftmesh bench scale my-job.yaml --workers 1,16,64 --weak --server 10.0.0.1:7400`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 0 {
				path = args[0]
			}
			return benchScale(cmd, &f, path)
		},
	}
	fl := cmd.Flags()
	f.clientFlags.add(cmd)
	fl.Lookup("server").DefValue = "a local mesh"
	fl.IntSliceVar(&f.workers, "workers", []int{1, 2, 4, 8}, "numbers of worker slots to measure")
	fl.BoolVar(&f.strong, "strong", false, "the same job at every W (default)")
	fl.BoolVar(&f.weak, "weak", false, "train.batch and mesh.replay_max grow with W")
	fl.IntVar(&f.intervals, "intervals", 5, "intervals measured at each W")
	fl.DurationVar(&f.interval, "interval", 0, "length of an interval (default 1.5s, or eight rounds of rewards)")
	fl.DurationVar(&f.warmup, "warmup", 2*time.Second, "time at each W before the first interval")
	fl.StringArrayVar(&f.sets, "set", nil, "override a field of the job by `path=value` (repeatable)")
	fl.StringVar(&f.runs, "runs", "runs", "`folder` that the benchmark's folder goes to")
	return cmd
}

// benchJob is measured where no job is named: small enough that rewards, and not
// the network, take the time.
const benchJob = `
name: hypergrid
env: {name: hypergrid, params: {dim: 2, height: 8}}
policy: {hidden: [64, 64]}
`

const (
	mostSlots     = 4096 // of a local mesh: 64 processes
	slotsAProcess = 64
	mostIntervals = 1000
	longest       = time.Hour // interval or warm-up
)

// check refuses what cannot be measured, before anything starts.
func (f *scaleFlags) check() error {
	var errs []error
	if len(f.workers) == 0 {
		errs = append(errs, fielderr.New("--workers", nil, "numbers of slots with commas between them, such as 1,2,4"))
	}
	for _, w := range f.workers {
		if w < 1 || w > mostSlots {
			errs = append(errs, fielderr.New("--workers", w, fmt.Sprintf("1 to %d slots", mostSlots)))
		}
	}
	if f.weak && f.strong {
		errs = append(errs, userFault{errors.New("--weak and --strong exclude each other")})
	}
	if f.intervals < 2 || f.intervals > mostIntervals {
		errs = append(errs, fielderr.New("--intervals", f.intervals, fmt.Sprintf("2 to %d", mostIntervals)))
	}
	if f.interval != 0 && (f.interval < lookAtRate || f.interval > longest) {
		errs = append(errs, fielderr.New("--interval", f.interval, fmt.Sprintf("%v to %v", lookAtRate, longest)))
	}
	if f.warmup < 0 || f.warmup > longest {
		errs = append(errs, fielderr.New("--warmup", f.warmup, fmt.Sprintf("0s to %v", longest)))
	}
	slices.Sort(f.workers)
	f.workers = slices.Compact(f.workers)
	return errors.Join(errs...)
}

// jobs returns the job at every number of slots; each has passed every check.
func (f *scaleFlags) jobs(path string) (base *job.Spec, at []*job.Spec, warnings []string, err error) {
	var src *job.Source
	if path == "" {
		base, src, err = job.Parse("the benchmark's own job", []byte(benchJob), f.sets)
	} else {
		base, src, err = job.Load(path, f.sets)
	}
	if err != nil {
		return nil, nil, nil, userFault{err}
	}
	base.Eval.Every = 0
	base.Train.Updates = 1_000_000_000_000 // the benchmark ends it
	for _, w := range f.workers {
		spec := *base
		spec.Mesh.MaxSlots = w
		if f.weak {
			spec.Train.Batch *= w
			spec.Mesh.ReplayMax *= w
		}
		if err = spec.Validate(); err == nil {
			warnings, _, err = paramserver.Check(&spec)
		}
		if err != nil {
			return nil, nil, nil, fmt.Errorf("with %d workers: %w", w, src.Locate(err))
		}
		at = append(at, &spec)
	}
	return base, at, warnings, nil
}

// length is that of an interval: several rounds of rewards, which arrive together.
func (f *scaleFlags) length(spec *job.Spec) time.Duration {
	if f.interval > 0 {
		return f.interval
	}
	round := time.Duration(spec.Mesh.Rollout) * spec.Sampling.RewardDelay()
	return max(3*time.Second/2, 8*round)
}

func benchScale(cmd *cobra.Command, f *scaleFlags, path string) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	base, specs, warnings, err := f.jobs(path)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
	}
	remote := cmd.Flags().Changed("server")
	var mesh *benchMesh
	if remote {
		ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
		defer cancel()
		var others []string
		if mesh, others, err = joinBench(ctx, &f.clientFlags, slices.Max(f.workers)); err != nil { // before there is a folder
			return err
		}
		defer func() { err = errors.Join(err, mesh.close()) }()
		if len(others) > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: jobs that run already take slots and time: %s\n", strings.Join(others, ", "))
		}
	}
	r, err := newScaleRun(cmd, f, base)
	if err != nil {
		return err
	}
	if !remote {
		if mesh, err = startBench(r.dir, slices.Max(f.workers)); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, mesh.close()) }()
	}
	table := cmd.OutOrStdout()
	if f.json {
		table = io.Discard
	}
	r.head(table)
	ctx, cancel := mesh.orFailure(cmd.Context())
	defer cancel(nil)
	for _, spec := range specs {
		var p *scalePoint
		if p, err = mesh.measure(ctx, f, spec, r); err != nil {
			if cmd.Context().Err() == nil {
				err = errors.Join(fmt.Errorf("with %d workers: %w", spec.Mesh.MaxSlots, err))
				if cause := context.Cause(ctx); cause != nil {
					err = cause
				}
			} else {
				err = errInterrupted
			}
			break
		}
		r.add(p)
		r.row(table, p)
	}
	r.Interrupted = errors.Is(err, errInterrupted)
	err = errors.Join(err, r.write())
	if f.json {
		return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(r))
	}
	r.foot(table)
	return err
}
