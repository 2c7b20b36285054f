package main

import (
	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/job"
)

// newSchemaCmd returns `driftmesh schema`, which prints the JSON Schema of job
// files for editors.
func newSchemaCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of job files, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of job files.

Editors with a YAML language server complete and check a job whose first line
names the schema:

    # yaml-language-server: $schema=driftmesh.schema.json`,
		Example: "  driftmesh schema > driftmesh.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			schema, err := job.Schema()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(schema)
			return err
		},
	}
}
