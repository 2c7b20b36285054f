package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver"
)

func newExperimentCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "experiment",
		Short: "Run a grid of jobs with seeds, resume it, and compare results",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newExperimentRunCmd(), newExperimentListCmd(), newExperimentReportCmd(), newExperimentCompareCmd(), newExperimentSchemaCmd())
	return cmd
}

type experimentFlags struct {
	use      string
	runs     string
	parallel int
	resume   bool // into a folder of other cells
	keep     bool
	allow    []string // folders of plugins
	mesh     studyMesh
}

func (f *experimentFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.use, "use", "", "the study's `set` to use; by default its first")
	fl.StringVar(&f.runs, "runs", "runs", "`folder` that the study's folder goes to")
	addAllowPlugins(fl, &f.allow, "otherwise the study's folder")
}

// permitted is a verb about a study, whose cells may need the programs beside it
// to be checked as well as to be trained.
func (f *experimentFlags) permitted(verb func(cmd *cobra.Command, path string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return permitted(cmd, besideJob(f.allow, args[0]), func() error { return verb(cmd, args[0]) })
	}
}

func newExperimentRunCmd() *cobra.Command {
	var f experimentFlags
	cmd := &cobra.Command{
		Use:   "run STUDY.yaml",
		Short: "Run the cells of a study that are not done yet, and write its report",
		Long: `Run every cell of a study once per seed, several at once, and write tables
(Parquet and CSV) and a report (HTML and PNG) to runs/<study>/<set>/. A cell gives
the bits that driftmesh train gives for its job and seed. Ctrl-C keeps everything;
the same command goes on, and finished cells are never run again. A cell whose
numbers stop being finite counts as diverged, which is a result.

With --server the cells are jobs of a running cluster, a few at once; their results
are then not bit-identical, and have folders of their own.`,
		Example: `  driftmesh experiment run examples/paper/synthetic.yaml --use test
  driftmesh experiment run my-study.yaml --parallel 8`,
		Args: cobra.ExactArgs(1),
		RunE: f.permitted(func(cmd *cobra.Command, path string) error { return runExperiment(cmd, &f, path) }),
	}
	f.add(cmd)
	fl := cmd.Flags()
	fl.IntVar(&f.parallel, "parallel", 0, "cells at once (default: as the study says, or one per core)")
	fl.BoolVar(&f.resume, "continue", false, "go on although the study's cells have changed: keep what is done, run what is new")
	fl.StringArrayVar(&f.mesh.client.servers, "server", nil, "gRPC `address` of any server of a cluster that runs the cells (repeatable)")
	addOpenNetwork(fl, &f.mesh.client.open)
	fl.BoolVar(&f.keep, "keep-checkpoints", false, "keep the checkpoint of every finished cell")
	return cmd
}

// openStudy reads a study and expands one of its sets.
func (f *experimentFlags) openStudy(path string) (*experiment.Runner, error) {
	study, err := experiment.Load(path)
	if err != nil {
		return nil, userFault{err}
	}
	computations := experimentComputations()
	onMesh := len(f.mesh.client.servers) > 0
	checks := experiment.Checks{Job: checkJob, Computations: computations, Mesh: onMesh}
	if onMesh {
		if len(study.Name) > maxMeshStudy {
			return nil, userFault{fielderr.New("name", study.Name, fmt.Sprintf("at most %d characters on a mesh, whose jobs are named by study and run", maxMeshStudy))}
		}
		checks.Job = checkMeshJob
	}
	plan, err := study.Plan(f.use, checks)
	if err != nil {
		return nil, userFault{err}
	}
	parallel := study.Parallel
	if f.parallel != 0 {
		parallel = f.parallel
	}
	if parallel == 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	return &experiment.Runner{
		Dir: filepath.Join(f.runs, study.Name), Plan: plan, Study: study, Computations: computations,
		Parallel: parallel, Continue: f.resume, Clock: clock.Real{},
		Train: func(ctx context.Context, dir string, spec *job.Spec, progress func(int64)) error {
			if onMesh {
				spec.Name = study.Name + "-" + filepath.Base(dir)
				return f.mesh.train(ctx, dir, spec, f.keep)
			}
			return trainTask(ctx, dir, spec, f.keep, progress)
		},
	}, nil
}

// checkJob finds the faults of a cell that this process trains.
func checkJob(spec *job.Spec) error {
	if _, _, err := paramserver.CheckLocal(spec); err != nil || spec.Reward == nil {
		return err
	}
	env, err := registry.OfJob(spec)
	if err != nil {
		return err
	}
	return ready(env)
}

func runExperiment(cmd *cobra.Command, f *experimentFlags, path string) error {
	if f.parallel < 0 || f.parallel > 256 {
		return fielderr.New("--parallel", f.parallel, "1 to 256")
	}
	r, err := f.openStudy(path)
	if err != nil {
		return err
	}
	if len(f.mesh.client.servers) > 0 {
		if err := f.mesh.join(cmd.Context()); err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	r.OnProgress = func(p experiment.Progress) { showProgress(out, r, p) }
	err = r.Run(cmd.Context())
	switch {
	case errors.Is(err, experiment.ErrChanged), errors.Is(err, experiment.ErrLocked):
		return userFault{err}
	case err != nil && cmd.Context().Err() == nil:
		return err
	}
	res, collectErr := r.Collect()
	if collectErr != nil {
		return errors.Join(err, collectErr)
	}
	report, writeErr := res.Write(r.SetDir())
	if writeErr != nil {
		return errors.Join(err, writeErr)
	}
	done, diverged, total := res.Count()
	if err != nil {
		fmt.Fprintf(out, "%s, %s: interrupted with %d of %d runs done; the same command goes on\n", r.Plan.Study, r.Plan.Set, done, total)
		return errInterrupted
	}
	if err := res.Print(out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s, %s: %d runs done, %d of them diverged\n  report  %s\n", r.Plan.Study, r.Plan.Set, done, diverged, report)
	return err
}

// showProgress prints a line per finished run.
func showProgress(out io.Writer, r *experiment.Runner, p experiment.Progress) {
	if p.Last == nil {
		more := ""
		if n := r.Plan.Results(); n > p.Total {
			more = fmt.Sprintf(" for %d results, for cells that are alike share theirs", n)
		}
		if p.Reused > 0 {
			more += fmt.Sprintf(", %d of them done before", p.Reused)
		}
		fmt.Fprintf(out, "%s, %s: %d runs%s; %d at once\n", r.Plan.Study, r.Plan.Set, p.Total, more, r.Parallel)
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%*d of %d", len(strconv.Itoa(p.Total)), p.Done, p.Total)
	if p.Diverged > 0 {
		fmt.Fprintf(&b, " (%d diverged)", p.Diverged)
	}
	if p.Left > 0 {
		fmt.Fprintf(&b, ", %s left", p.Left.Round(time.Second))
	}
	if per := float64(p.Done-p.Reused) / p.Elapsed.Minutes(); p.Elapsed > 10*time.Second {
		fmt.Fprintf(&b, ", %.3g a minute", per)
	}
	fmt.Fprintf(&b, ": %s: %s, seed %d: ", p.Last.Cell.Part, p.Last.Cell.Name, p.Last.Seed)
	if p.Status == experiment.Diverged {
		b.WriteString("diverged")
	} else {
		names := make([]string, 0, len(p.Values))
		for name := range p.Values {
			names = append(names, name)
		}
		slices.Sort(names)
		for i, name := range names {
			if i == 4 {
				break
			}
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%s %.4g", name, p.Values[name])
		}
	}
	fmt.Fprintln(out, b.String())
}

func newExperimentListCmd() *cobra.Command {
	var f experimentFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list STUDY.yaml",
		Short: "List the sets of a study, and the cells of one with what is done",
		Args:  cobra.ExactArgs(1),
		RunE: f.permitted(func(cmd *cobra.Command, path string) error {
			r, err := f.openStudy(path)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), r.Plan)
			}
			res, err := r.Collect()
			if err != nil {
				return err
			}
			return listStudy(cmd.OutOrStdout(), r, res)
		}),
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func listStudy(out io.Writer, r *experiment.Runner, res *experiment.Results) error {
	fmt.Fprintf(out, "%s: sets %s; this is %s\n\n", r.Plan.Study, strings.Join(r.Study.Sets(), ", "), r.Plan.Set)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PART\tCELL\tSEEDS\tDONE\tDIVERGED")
	var refused []string
	for _, p := range r.Plan.Parts {
		for _, c := range p.Cells {
			if c.Refused != "" {
				refused = append(refused, fmt.Sprintf("%s, %s: %s", p.Name, c.Name, c.Refused))
				continue
			}
			done, diverged := res.CountCell(p.Name, c.Name)
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\n", p.Name, c.Name, len(p.Seeds), done, diverged)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(refused) > 0 {
		fmt.Fprintln(out, "\nThe family has no such combinations:")
		for _, line := range refused {
			fmt.Fprintln(out, "  "+line)
		}
	}
	done, diverged, total := res.Count()
	_, err := fmt.Fprintf(out, "\n%d of %d runs done, %d of them diverged\n", done, total, diverged)
	return err
}

func newExperimentReportCmd() *cobra.Command {
	var f experimentFlags
	cmd := &cobra.Command{
		Use:   "report STUDY.yaml",
		Short: "Write tables and report again, of what is done so far",
		Args:  cobra.ExactArgs(1),
		RunE: f.permitted(func(cmd *cobra.Command, path string) error {
			r, err := f.openStudy(path)
			if err != nil {
				return err
			}
			res, err := r.Collect()
			if err != nil {
				return err
			}
			if done, _, _ := res.Count(); done == 0 {
				return userFault{fmt.Errorf("%s: nothing is done yet: %w", r.SetDir(), fs.ErrNotExist)}
			}
			report, err := res.Write(r.SetDir())
			if err != nil {
				return err
			}
			if err := res.Print(cmd.OutOrStdout()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), report)
			return err
		}),
	}
	f.add(cmd)
	return cmd
}

func newExperimentCompareCmd() *cobra.Command {
	var asJSON bool
	var margin float64
	cmd := &cobra.Command{
		Use:   "compare A B",
		Short: "Compare two results, paired by seed",
		Long: `Compare two results of experiments: each a set's folder such as
runs/synthetic/quick, or one cell of it, as FOLDER@CELL with the cell's name as
the report writes it, or PART/CELL where several parts have the name. Cells that
both have are compared pair by pair of equal seeds: the mean of A − B with its
95 % interval (Student's t), and whether A is not worse within --margin.`,
		Example: `  driftmesh experiment compare runs/before/all runs/after/all
  driftmesh experiment compare 'runs/s/all@divergence=hellinger' 'runs/s/all@divergence=reverse_kl' --json`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !(margin >= 0 && margin <= 1000) {
				return fielderr.New("--margin", margin, "0 to 1000 percent")
			}
			c, err := experiment.Compare(args[0], args[1], margin)
			if err != nil {
				return userFault{err}
			}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), c)
			}
			return c.Print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().Float64Var(&margin, "margin", 10, "percent of B's mean by which A may be worse")
	return cmd
}

func newExperimentSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of studies, for editors",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := experiment.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}
