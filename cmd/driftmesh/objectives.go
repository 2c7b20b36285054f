package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/losses"
)

// newObjectivesCmd returns `driftmesh objectives`: what residuals are made of.
func newObjectivesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "objectives",
		Short: "List the objectives: what the residuals of a loss are made of",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newObjectivesListCmd())
	return cmd
}

func newObjectivesListCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Print the objectives with their residuals, needs, and what is claimed of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), losses.Objectives())
			}
			return printObjectives(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printObjectives(w io.Writer) error {
	for _, o := range losses.Objectives() {
		members := "every member of `driftmesh losses list`"
		if !o.Divergences {
			members = "none: a job that names another than the default is refused"
		}
		_, err := fmt.Fprintf(w, "%s\n  residual  %s\n  counts    %s\n  needs     %s\n  members   %s\n  claims    %s\n  source    %s\n\n",
			o.Name, o.Residual, o.Weights, o.Needs, members, o.Claims, o.Source)
		if err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w, "loss.objective chooses one; docs/OBJECTIVES.md has the details.")
	return err
}
