package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// loadRun builds what a run folder's checkpoint describes.
func loadRun(path string) (*job.Spec, *paramserver.Updater, error) {
	return loadRunAs(path, paramserver.NewUpdater)
}

// loadSampler is loadRun for who only looks at objects.
func loadSampler(path string) (*job.Spec, *paramserver.Updater, error) {
	return loadRunAs(path, paramserver.NewSampler)
}

// errCellGone is the fault of a study's run that is done.
var errCellGone = errors.New("the run of a study, whose checkpoint is deleted when it is done unless experiment run has --keep-checkpoints")

func loadRunAs(path string, build func(*job.Spec) (*paramserver.Updater, error)) (*job.Spec, *paramserver.Updater, error) {
	c, err := runs.LoadCheckpoint(path)
	if err != nil && !holdsRun(path) {
		return nil, nil, fmt.Errorf("%s: %w; want the folder of one, such as runs/hypergrid-2d", path, runs.ErrNoRun)
	}
	if errors.Is(err, fs.ErrNotExist) && experiment.IsDone(path) {
		return nil, nil, userFault{fmt.Errorf("%s: %w; driftmesh train %s trains it again", path, errCellGone, filepath.Join(path, runs.ConfigFile))}
	}
	if err != nil {
		return nil, nil, err
	}
	spec, err := job.FromJSON(c.Spec)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", path, runs.ErrForeign, err)
	}
	u, err := build(spec)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := restore(u, c); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return spec, u, nil
}

// holdsRun says whether a path is the folder of a run or of a checkpoint, or is
// a file, whose own error says more.
func holdsRun(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return err == nil
	}
	_, err = os.Stat(filepath.Join(path, runs.StateFile))
	return err == nil || runs.Exists(path)
}

// evaluation is what `eval` prints.
type evaluation struct {
	Name         string          `json:"name"`
	Version      uint64          `json:"version"`
	Trajectories uint64          `json:"trajectories"`
	Exact        *metrics.Report `json:"exact"`           // null where the environment cannot be enumerated
	LogZ         *float64        `json:"log_z,omitempty"` // learned scalar, where the objective learns one
	// ImportanceLogZ is that of Estimates.
	ImportanceLogZ *paramserver.Estimate `json:"importance_log_z"`
	ModesFound     int                   `json:"modes_found"` // by training
	ModesTotal     int                   `json:"modes_total"`
	// Estimates are from fresh samples of P_F.
	Estimates *paramserver.Estimates `json:"estimates"`
}

func newEvalCmd() *cobra.Command {
	var asJSON bool
	var ask job.Eval
	var allow []string
	cmd := &cobra.Command{
		Use:   "eval RUN",
		Short: "Evaluate a run's checkpoint: exact distances, modes, log Z, estimates from samples",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case ask.Samples < 1 || ask.Samples > 1<<20:
				return fielderr.New("--samples", ask.Samples, "1 to 1048576")
			case ask.TestSet < 0 || ask.TestSet > 1<<16:
				return fielderr.New("--test-set", ask.TestSet, "0 to 65536")
			case ask.TopK < 0 || ask.TopK > 4096:
				return fielderr.New("--top-k", ask.TopK, "0 to 4096")
			}
			var e *evaluation
			err := permitted(cmd, allow, func() error {
				spec, u, err := loadRun(args[0])
				if err != nil {
					return err
				}
				if !cmd.Flags().Changed("test-set") {
					ask.TestSet = spec.Eval.TestSet
				}
				spec.Eval.Samples, spec.Eval.TestSet, spec.Eval.TopK = ask.Samples, ask.TestSet, ask.TopK
				if cmd.Flags().Changed("test-set") {
					if err := u.CheckEval(); err != nil {
						return err
					}
				}
				e, err = evaluate(cmd.Context(), spec, u)
				return err
			})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(e)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s at version %d (%d trajectories)\n", e.Name, e.Version, e.Trajectories)
			if r := e.Exact; r != nil {
				d := r.Distances
				fmt.Fprintf(w, "  TV      %.4f    KL(p‖q) %.4f    KL(q‖p) %.4f    JSD %.4f (exact, %d objects)\n", d.TV, d.ForwardKL, d.ReverseKL, d.JSD, r.Objects)
				printCorrelation(w, r.Correlation)
				fmt.Fprintf(w, "  E[R]    %.4f, target %.4f\n", r.ExpectedReward, r.TargetReward)
				if e.ModesTotal > 0 {
					fmt.Fprintf(w, "  modes   %d of %d found by training, %d held\n", e.ModesFound, e.ModesTotal, r.ModesHeld)
				}
				fmt.Fprintf(w, "  log Z   %.4f exact\n", r.LogZ)
			} else if z := e.Estimates.TrueLogZ; z != nil {
				fmt.Fprintf(w, "  log Z   %.4f exact\n", *z)
			}
			if z := e.LogZ; z != nil {
				fmt.Fprintf(w, "  log Z   %.4f learned\n", *z)
			}
			printEstimates(w, e.Estimates)
			return nil
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	addAllowPlugins(fl, &allow, noPlugins)
	fl.IntVar(&ask.Samples, "samples", 4096, "trajectories of P_F to estimate from")
	fl.IntVar(&ask.TestSet, "test-set", 0, "backward trajectories for each test object (default: the job's eval.test_set)")
	fl.IntVar(&ask.TopK, "top-k", 100, "best distinct samples to describe")
	return cmd
}

// printCorrelation writes how log-probabilities follow log-rewards over all objects.
func printCorrelation(w io.Writer, c metrics.Correlation) {
	fmt.Fprintf(w, "  follows Spearman %s, Pearson %s of log-probability and log-reward (exact, all %d objects)", defined(c.Spearman), defined(c.Pearson), c.Objects)
	if c.Undefined != "" {
		fmt.Fprintf(w, ": %s", c.Undefined)
	}
	fmt.Fprintln(w)
}

// defined is a number to four digits, or says that there is none.
func defined(v float64) string {
	if math.IsNaN(v) {
		return "undefined"
	}
	return fmt.Sprintf("%.4f", v)
}

// bounded is a number with its 95 % interval, where there is one.
func bounded(v, low, high runs.Float) string {
	if math.IsNaN(float64(low)) || math.IsNaN(float64(high)) {
		return defined(float64(v))
	}
	return fmt.Sprintf("%.4f (95 %% in %.4f to %.4f)", v, low, high)
}

// printEstimates writes what samples say, in a few lines.
func printEstimates(w io.Writer, e *paramserver.Estimates) {
	if is := e.LogZ; is != nil {
		fmt.Fprintf(w, "  log Z   %.4f ± %.4f by importance sampling (%d samples, ESS %.0f)\n", is.Value, is.StdErr, is.Samples, is.ESS)
	}
	if e.ELBO != nil {
		fmt.Fprintf(w, "  ELBO    %.4f ± %.4f", e.ELBO.Value, e.ELBO.StdErr)
		if e.EUBO != nil {
			fmt.Fprintf(w, "    EUBO %.4f ± %.4f", e.EUBO.Value, e.EUBO.StdErr)
		}
		fmt.Fprintln(w)
	}
	if c := e.Counted; c != nil {
		fmt.Fprintf(w, "  TV      %.4f of the samples, 95 %% in %.4f to %.4f (the target's own would show %.4f)\n", c.TV.Value, c.TV.Low, c.TV.High, c.Floor)
	}
	if m := e.Modes; m != nil {
		fmt.Fprintf(w, "  modes   %d of %d hit by the samples", m.Hit, m.Total)
		if len(m.Shares) > 0 {
			fmt.Fprintf(w, ", %.1f to %.1f %% in each", 100*slices.Min(m.Shares), 100*slices.Max(m.Shares))
		}
		fmt.Fprintln(w)
	}
	if k := e.TopK; k != nil && k.K > 0 {
		fmt.Fprintf(w, "  top %-3d mean R %.4g, log R %.4f", k.K, k.Reward, k.LogReward)
		if !math.IsNaN(k.Diversity) {
			fmt.Fprintf(w, ", diversity %.4f", k.Diversity)
		}
		fmt.Fprintf(w, " (%d distinct samples)\n", k.Distinct)
	}
	if t := e.TestSet; t != nil {
		fmt.Fprintf(w, "  test    Spearman %s, Pearson %s of log-probability and log-reward (test set of %d objects, %d trajectories each)\n",
			bounded(t.Spearman, t.SpearmanLow, t.SpearmanHigh), bounded(t.Pearson, t.PearsonLow, t.PearsonHigh), t.Objects, t.PerObject)
	}
	if s := e.Sinkhorn; s != nil {
		fmt.Fprintf(w, "  transport to the target's own samples costs %.4f, between two sets of those %.4f (Sinkhorn, squared distance, ε %.3g)\n", s.Cost, s.Floor, s.Epsilon)
	}
}

func evaluate(ctx context.Context, spec *job.Spec, u *paramserver.Updater) (*evaluation, error) {
	e := &evaluation{Name: spec.Name, Version: u.Version(), Trajectories: u.Trajectories()}
	if spec.Loss.LearnsLogZ() {
		z := u.LogZ()
		e.LogZ = &z
	}
	e.ModesFound, e.ModesTotal = u.ModesFound()
	params := u.Params()
	var err error
	exact := u.Exact(ctx)
	if v := exact; v != nil {
		if e.Exact, err = v.Model(u.Model.NewTape(), params[:len(params)-1]); err != nil {
			return nil, err
		}
	}
	samples, err := paramserver.NewEstimator(u, exact, newEvalDrawer)
	if err != nil {
		return nil, err
	}
	if e.Estimates, err = samples.Estimate(ctx, params, u.Version()); err != nil {
		return nil, err
	}
	e.ImportanceLogZ = e.Estimates.LogZ
	return e, nil
}

// newEvalDrawer makes the sampler of evaluations.
func newEvalDrawer(spec *job.Spec) (paramserver.Drawer, error) {
	r, err := sampler.NewRoller(spec, 0)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// newDrawer is a sampler without exploration, on random streams that training
// does not use.
func newDrawer(spec *job.Spec) (*sampler.Roller, error) {
	pure := *spec
	pure.Sampling = job.Default().Sampling
	return sampler.NewRoller(&pure, drawStream)
}

// drawStream names the random streams of evaluation.
const drawStream = 1<<64 - 1
