package main

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/plots"
)

// maxDrawn is the most points of a curve that are drawn.
const maxDrawn = 2000

func newEnvsDrawCmd() *cobra.Command {
	var (
		settings []string
		allow    []string
		out      string
	)
	cmd := &cobra.Command{
		Use:   "draw NAME",
		Short: "Draw the target of an environment that can be listed, or of points of a plane",
		Long: `Draw the target of an environment that can be listed, as PNG: log R over the two
coordinates where there are two, and otherwise log R of all objects, the best first.
Of a target on a plane, log R around where nearly all of its mass is.`,
		Example: `  driftmesh envs draw hypergrid --set dim=2 --set height=16 --set reward=deceptive --out deceptive.png
  driftmesh envs draw diffusion --set target=manywell --set dim=2 --out manywell.png`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return fielderr.New("--out", nil, "the file to write, such as target.png")
			}
			return openEnv(cmd, args[0], settings, allow, func(env envs.Env, params map[string]any) (err error) {
				var figure plots.Figure
				if shape := env.Spec(); shape.Continuous() {
					figure, err = planeFigure(args[0], env)
				} else {
					figure, err = listedFigure(args[0], params, env)
				}
				if err != nil {
					return err
				}
				png, err := plots.PNG(figure)
				if err != nil {
					return err
				}
				return atomicfile.WriteBytes(out, 0o644, png)
			})
		},
	}
	addEnvFlags(cmd, &settings, &allow)
	cmd.Flags().StringVar(&out, "out", "", "`file` to write")
	return cmd
}

// listedFigure draws an environment that can be listed.
func listedFigure(name string, params map[string]any, env envs.Env) (plots.Figure, error) {
	e, err := envs.Enumerate(env)
	if err != nil {
		return nil, fielderr.New("NAME", name, fmt.Sprintf("an environment that can be listed: %v", err))
	}
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	return targetFigure(name, params, logR), nil
}

// Of a plane: points of a side, draws that say where the mass is, and nats below the
// best point that have a colour.
const (
	planeSide  = 96
	planeDraws = 4000
	planeDepth = 15
)

// planeFigure is a map of log R over a plane.
func planeFigure(name string, env envs.Env) (plots.Figure, error) {
	drawn, ok := env.(interface {
		envs.Drawn
		envs.Located
	})
	if !ok || drawn.PointDim() != 2 {
		return nil, fielderr.New("params.dim", env.Spec().ActionDim, "2: a picture has two coordinates")
	}
	ends := massOf(drawn)
	s := env.NewStates(planeSide)
	rows, logR := make([]int32, planeSide), make([]float64, planeSide*planeSide)
	at := func(axis, i int) float64 {
		return ends[axis][0] + (ends[axis][1]-ends[axis][0])*(float64(i)+0.5)/planeSide
	}
	for y := range planeSide {
		for x := range planeSide {
			rows[x] = int32(x)
			if err := s.Parse(x, fmt.Sprintf("(%g,%g)", at(0, x), at(1, y))); err != nil {
				return nil, err
			}
		}
		if err := s.LogReward(rows, logR[y*planeSide:(y+1)*planeSide]); err != nil {
			return nil, err
		}
	}
	hi := slices.Max(logR)
	return plots.Heat{
		Title: name, XLabel: "first coordinate", YLabel: "second coordinate", Rows: planeSide, Cols: planeSide, X: ends[0], Y: ends[1],
		Panels: []plots.Panel{{Title: "log R", Values: logR, Lo: hi - planeDepth, Hi: hi}},
	}, nil
}

// massOf is where nearly all draws of a target lie, with a margin, by coordinate.
func massOf(env interface {
	envs.Drawn
	envs.Located
}) (ends [2][2]float64) {
	s, rows := env.NewStates(planeDraws), make([]int32, planeDraws)
	for i := range rows {
		rows[i] = int32(i)
	}
	env.Draw(rand.New(rand.NewPCG(1, 1)), s, rows)
	var values [2][]float64
	point := make([]float64, 2)
	for i := range rows {
		env.Point(s, i, point)
		values[0], values[1] = append(values[0], point[0]), append(values[1], point[1])
	}
	for axis, v := range values {
		slices.Sort(v)
		lo, hi := v[planeDraws/100], v[planeDraws-1-planeDraws/100]
		ends[axis] = [2]float64{lo - (hi-lo)/6, hi + (hi-lo)/6}
	}
	return ends
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
