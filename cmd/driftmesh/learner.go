package main

import (
	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/cluster"
)

func newLearnerCmd() *cobra.Command {
	f := serverFlags{role: cluster.RoleLearner}
	cmd := &cobra.Command{
		Use:   "learner --data DIR --join ADDR",
		Short: "Run a node that only trains",
		Long: `Run a node that only trains. It has the replicated log, and so the committed
state of every job, but never votes: it may come and go. The leader grants jobs to
such nodes before it grants them to servers, by the processors, memory and GPUs
that the node finds on its machine and by what a job asks for (mesh.learner).
Ctrl-C commits what is trained and hands its jobs on.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := f.onLeash(cmd.Context())
			defer cancel()
			return serve(ctx, &f, f.logger())
		},
	}
	f.add(cmd)
	return cmd
}
