package main

import (
	"bufio"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// sampled is one line of `sample`.
type sampled struct {
	Object    string  `json:"object"`
	LogReward float64 `json:"log_reward"`
	LogPF     float64 `json:"log_pf"` // of the trajectory that led to it
	Steps     int     `json:"steps"`
}

func newSampleCmd() *cobra.Command {
	var n int
	var seed uint64
	var allow []string
	cmd := &cobra.Command{
		Use:   "sample RUN",
		Short: "Draw objects from a run's checkpoint, one JSON line each",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if n < 1 {
				return fielderr.New("--n", n, "at least 1")
			}
			return permitted(cmd, allow, func() error {
				spec, u, err := loadSampler(args[0])
				if err != nil {
					return err
				}
				if cmd.Flags().Changed("seed") {
					spec.Seed = seed
				}
				r, err := newDrawer(spec)
				if err != nil {
					return err
				}
				out := bufio.NewWriter(cmd.OutOrStdout())
				enc := json.NewEncoder(out)
				const chunk = 1024
				var batch []wire.Trajectory
				shape := r.Env().Spec()
				for first := 0; first < n; first += chunk {
					if err := cmd.Context().Err(); err != nil {
						return err
					}
					batch, err = r.SampleN(min(chunk, n-first), u.Params(), u.Version(), uint64(first)+1, batch)
					if err != nil {
						return err
					}
					for i, t := range batch {
						line := sampled{r.States().Text(i), t.LogReward, t.LogBehaviour, len(t.Actions) / shape.Words()}
						if err := enc.Encode(line); err != nil {
							return err
						}
					}
				}
				return out.Flush()
			})
		},
	}
	addAllowPlugins(cmd.Flags(), &allow, noPlugins)
	cmd.Flags().IntVarP(&n, "n", "n", 100, "objects to draw")
	cmd.Flags().Uint64Var(&seed, "seed", 0, "another seed than the job's")
	return cmd
}
