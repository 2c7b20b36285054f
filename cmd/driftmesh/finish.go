package main

import (
	"context"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/report"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/paramserver"
)

// finish evaluates the final state, writes the report and prints the outcome. What only
// another program can say is left out once ctx has ended.
func (s *session) finish(ctx context.Context, u *paramserver.Updater, outcome string) error {
	if s.show != nil {
		s.show.Close()
	}
	if err := s.run.Sync(); err != nil {
		return err
	}
	data, err := report.FromRun(s.run.Dir())
	if err != nil {
		return err
	}
	data.Outcome = outcome
	data.Facts = s.facts(u)
	for _, o := range u.Best() {
		data.Best = append(data.Best, report.Object{Text: o.Text, LogReward: o.LogReward})
	}
	row := runs.Row{Version: int64(u.Version()), Trajectories: u.Trajectories(), LogZ: runs.Float(math.NaN())}
	if n := len(data.Rows); n > 0 {
		row = data.Rows[n-1]
	}
	if exact := u.Exact(ctx); exact != nil {
		params := u.Params()
		tape := u.Model.NewTape()
		logModel, err := exact.Distribution(tape, params[:len(params)-1])
		if err != nil {
			return fmt.Errorf("final evaluation: %w", err)
		}
		rep, err := exact.Report(logModel)
		if err != nil {
			return fmt.Errorf("final evaluation: %w", err)
		}
		paramserver.AddExact(&row, rep)
		data.Objects = &report.Distribution{Target: expAll(exact.LogTarget()), Model: expAll(logModel)}
		if _, params, err := registry.Open(s.spec.Env.Name, s.spec.Env.Params); err == nil && params["dim"] == 2 {
			h, ok := params["height"].(int)
			if !ok {
				h, _ = params["cells"].(int) // of a mixture
			}
			if h*h == len(logModel) { // and not pairs of a cell and a condition
				data.Objects.Rows, data.Objects.Cols = h, h
				data.Objects.RowLabel, data.Objects.ColLabel = "first coordinate", "second coordinate"
			}
		}
	}
	if s.spec.Loss.LearnsLogZ() {
		row.LogZ, row.LogZEstimator = runs.Float(u.LogZ()), "learned"
	}
	if found, total := u.ModesFound(); total > 0 {
		row.ModesFound, row.ModesTotal = &found, &total
	}
	path, err := report.Write(s.run.Dir(), data)
	if err != nil {
		return err
	}
	seconds := 0.0
	for _, t := range data.Timings {
		seconds = float64(t.Seconds)
	}
	fmt.Fprintf(s.out, "%s: %s (%d trajectories, %.1f s of training)\n", s.spec.Name, outcome, u.Trajectories(), seconds)
	describeRow(s.out, row)
	fmt.Fprintf(s.out, "  report  %s\n", path)
	return nil
}

// facts are what the report's headline says beyond the measured numbers.
func (s *session) facts(u *paramserver.Updater) []report.Fact {
	d := u.Divergence()
	member := report.Fact{Name: "loss", Value: d.Name(), Note: d.Behaviour()}
	if a, ok := d.EffectiveAlpha(); ok {
		member.Note = fmt.Sprintf("effective alpha %.3g: %s", a, d.Behaviour())
	}
	facts := []report.Fact{
		{Name: "environment", Value: u.Env.Spec().Name},
		member,
		{Name: "normaliser", Value: s.spec.Loss.Normaliser},
	}
	if name := s.spec.Loss.ObjectiveName(); name != job.TB {
		facts = append(facts, report.Fact{Name: "objective", Value: name})
	}
	return facts
}

func expAll(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.Exp(v)
	}
	return out
}
