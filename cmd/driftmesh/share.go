package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

func newShareCmd() *cobra.Command {
	var f clientFlags
	var weight float64
	var priority int
	cmd := &cobra.Command{
		Use:   "share JOB [--weight W] [--priority P]",
		Short: "Change a job's share of the workers' slots",
		Long: `Change a job's share of the workers' slots; what is not given stays as it is. Of
the running jobs each has at least one slot, as long as there are enough. What is
left goes to the jobs of the highest priority, in proportion to their weights.
With fewer slots than jobs, jobs of higher priority come first, and jobs of equal
priority take turns.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &wire.ControlRequest{Job: args[0], Verb: wire.VerbShare}
			if cmd.Flags().Changed("weight") {
				req.Weight = &weight
			}
			if cmd.Flags().Changed("priority") {
				req.Priority = &priority
			}
			if err := checkShare(req); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerTimeout)
			defer cancel()
			leader, known, err := f.connect(ctx)
			if err != nil {
				return err
			}
			defer leader.Close()
			req.ClusterID = known.ClusterID
			// Twice is as good as once.
			if _, err := cluster.CallIdempotent(ctx, leader, (*cluster.Client).Control, req); err != nil {
				return err
			}
			status, err := cluster.CallIdempotent(ctx, leader, (*cluster.Client).Status, &wire.StatusRequest{ClusterID: known.ClusterID, Job: args[0], Linearizable: true})
			if err != nil {
				return err
			}
			if len(status.Jobs) != 1 {
				return fmt.Errorf("job %q: %w", args[0], cluster.ErrNotFound)
			}
			j := status.Jobs[0]
			if f.json {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"job": j.ID, "weight": j.Weight, "priority": j.Priority})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "job %s has weight %v and priority %d; driftmesh status shows its slots\n", j.ID, j.Weight, j.Priority)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().Float64Var(&weight, "weight", 1, "share among jobs of equal priority, above 0")
	cmd.Flags().IntVar(&priority, "priority", 0, "jobs of the highest one take what is left, -1000 to 1000")
	return cmd
}

func checkShare(req *wire.ControlRequest) error {
	if req.Weight == nil && req.Priority == nil {
		return userFault{errors.New("nothing to change: give --weight, --priority, or both")}
	}
	var errs []error
	if w := req.Weight; w != nil && !(*w > 0 && *w <= fsm.MaxWeight) { // also NaN
		errs = append(errs, fielderr.New("--weight", *w, "a number above 0 and at most 1000000"))
	}
	if p := req.Priority; p != nil && (*p < -fsm.MaxPriority || *p > fsm.MaxPriority) {
		errs = append(errs, fielderr.New("--priority", *p, "an integer from -1000 to 1000"))
	}
	return errors.Join(errs...)
}
