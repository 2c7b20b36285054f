package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// loadRun builds what a run folder's checkpoint describes.
func loadRun(path string) (*job.Spec, *paramserver.Updater, error) {
	c, err := runs.LoadCheckpoint(path)
	if err != nil && !holdsRun(path) {
		return nil, nil, fmt.Errorf("%s: %w; want the folder of one, such as runs/hypergrid-2d", path, runs.ErrNoRun)
	}
	if err != nil {
		return nil, nil, err
	}
	spec, err := job.FromJSON(c.Spec)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w: %w", path, runs.ErrForeign, err)
	}
	u, err := paramserver.NewUpdater(spec)
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
	Exact        *metrics.Report `json:"exact"` // null where the environment cannot be enumerated
	LogZ         float64         `json:"log_z"` // learned scalar
	// ImportanceLogZ is estimated from fresh on-policy samples.
	ImportanceLogZ estimate `json:"importance_log_z"`
	ModesFound     int      `json:"modes_found"` // by training
	ModesTotal     int      `json:"modes_total"`
}

// estimate is a number with what is known of its error.
type estimate struct {
	Value   float64 `json:"value"`
	StdErr  float64 `json:"std_err"`
	Samples int     `json:"samples"`
	ESS     float64 `json:"ess"` // effective sample size, in samples
}

func newEvalCmd() *cobra.Command {
	var asJSON bool
	var samples int
	var allow []string
	cmd := &cobra.Command{
		Use:   "eval RUN",
		Short: "Evaluate a run's checkpoint: exact distances, modes, log Z",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if samples < 1 || samples > 1<<20 {
				return fielderr.New("--samples", samples, "1 to 1048576")
			}
			var e *evaluation
			err := permitted(cmd, allow, func() error {
				spec, u, err := loadRun(args[0])
				if err == nil {
					e, err = evaluate(spec, u, samples)
				}
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
				fmt.Fprintf(w, "  E[R]    %.4f, target %.4f\n", r.ExpectedReward, r.TargetReward)
				fmt.Fprintf(w, "  modes   %d of %d found by training, %d held\n", e.ModesFound, e.ModesTotal, r.ModesHeld)
				fmt.Fprintf(w, "  log Z   %.4f exact\n", r.LogZ)
			}
			fmt.Fprintf(w, "  log Z   %.4f learned\n", e.LogZ)
			is := e.ImportanceLogZ
			fmt.Fprintf(w, "  log Z   %.4f ± %.4f by importance sampling (%d samples, ESS %.0f)\n", is.Value, is.StdErr, is.Samples, is.ESS)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	addAllowPlugins(cmd.Flags(), &allow, noPlugins)
	cmd.Flags().IntVar(&samples, "samples", 4096, "trajectories for the importance-sampled log Z")
	return cmd
}

func evaluate(spec *job.Spec, u *paramserver.Updater, samples int) (*evaluation, error) {
	e := &evaluation{Name: spec.Name, Version: u.Version(), Trajectories: u.Trajectories(), LogZ: u.LogZ()}
	e.ModesFound, e.ModesTotal = u.ModesFound()
	params := u.Params()
	var err error
	if v := u.Exact(); v != nil {
		if e.Exact, err = v.Model(u.Model.NewTape(), params[:len(params)-1]); err != nil {
			return nil, err
		}
	}
	batch, err := drawSamples(spec, u, samples)
	if err != nil {
		return nil, err
	}
	z, err := u.ImportanceLogZ(batch)
	e.ImportanceLogZ = estimate{Value: z.Value, StdErr: z.StdErr, Samples: z.N, ESS: z.ESS}
	return e, err
}

// drawSamples samples the learned policy itself: no exploration.
func drawSamples(spec *job.Spec, u *paramserver.Updater, n int) ([]wire.Trajectory, error) {
	r, err := newDrawer(spec)
	if err != nil {
		return nil, err
	}
	return r.SampleN(n, u.Params(), u.Version(), 1, nil)
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
