package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/plots"
)

// maxDrawn is the most points of a curve that are drawn.
const maxDrawn = 2000

func newEnvsDrawCmd() *cobra.Command {
	var (
		settings []string
		out      string
	)
	cmd := &cobra.Command{
		Use:   "draw NAME",
		Short: "Draw the target of an environment that can be listed",
		Long: `Draw the target of an environment that can be listed, as PNG: log R over the two
coordinates where there are two, and otherwise log R of all objects, the best first.`,
		Example: "  driftmesh envs draw hypergrid --set dim=2 --set height=16 --set reward=deceptive --out deceptive.png",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return fielderr.New("--out", nil, "the file to write, such as target.png")
			}
			given, err := parseEnvSettings(settings)
			if err != nil {
				return err
			}
			env, params, err := registry.Open(args[0], given)
			if err != nil {
				return err
			}
			e, err := envs.Enumerate(env)
			if err != nil {
				return fielderr.New("NAME", args[0], fmt.Sprintf("an environment that can be listed: %v", err))
			}
			logR := make([]float64, e.NumObjects())
			e.LogRewards(logR)
			png, err := plots.PNG(targetFigure(args[0], params, logR))
			if err != nil {
				return err
			}
			return atomicfile.WriteBytes(out, 0o644, png)
		},
	}
	// An array, not a slice: a value may contain commas.
	cmd.Flags().StringArrayVar(&settings, "set", nil, "set a parameter, as `name=value`; may be repeated")
	cmd.Flags().StringVar(&out, "out", "", "`file` to write")
	return cmd
}

// targetFigure is a map of log R where objects are cells of a square, numbered with
// the first coordinate as the lowest digit, and a curve otherwise.
func targetFigure(name string, params map[string]any, logR []float64) plots.Figure {
	side, ok := params["height"].(int)
	if !ok {
		side, _ = params["cells"].(int) // of a mixture
	}
	if params["dim"] == 2 && side*side == len(logR) {
		lo, hi := slices.Min(logR), slices.Max(logR)
		if lo == hi {
			hi = lo + 1
		}
		return plots.Heat{
			Title: name, XLabel: "first coordinate", YLabel: "second coordinate", Rows: side, Cols: side,
			Panels: []plots.Panel{{Title: "log R", Values: logR, Lo: lo, Hi: hi}},
		}
	}
	sorted := slices.Clone(logR)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	line := plots.Series{Name: "log R"}
	for i := 0; i < len(sorted); i += 1 + len(sorted)/maxDrawn {
		line.X, line.Y = append(line.X, float64(i+1)), append(line.Y, sorted[i])
	}
	return plots.Chart{
		Title: name, X: plots.Axis{Label: "objects, the best first", Log: true}, Y: plots.Axis{Label: "log R"},
		Series: []plots.Series{line},
	}
}
