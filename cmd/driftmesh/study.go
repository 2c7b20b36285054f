package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/study"
)

type studyFlags struct {
	sets []string
	seed uint64
	out  string
	json bool
}

func newStudyCmd() *cobra.Command {
	var f studyFlags
	cmd := &cobra.Command{
		Use:   "study [NAME]",
		Short: "Compute a table: restricted fits by quadrature beside trainings, gradients by enumeration",
		Long: `Compute one of the tables that say what f-TB does without the noise of sampling, and
beside it what training does; without a name, list them. Equal parameters and seeds
give equal tables.`,
		Example: "  driftmesh study restricted_on_policy --set separations=[4,6] --out runs/restricted",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all := study.Computations(trainOutcome)
			if len(args) == 0 {
				return listStudies(cmd.OutOrStdout(), all)
			}
			c, ok := all[args[0]]
			if !ok {
				return fielderr.New("NAME", args[0], params.OneOf(args[0], studyNames(all)))
			}
			given, err := f.params()
			if err != nil {
				return err
			}
			if err := c.Check(given); err != nil {
				return fielderr.Prefix("--set", err)
			}
			table, err := c.Run(cmd.Context(), given, f.seed)
			if err != nil {
				return err
			}
			return f.publish(cmd.OutOrStdout(), table)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.sets, "set", nil, "a parameter of the table as `name=value`, such as seeds=3 (repeatable)")
	fl.Uint64Var(&f.seed, "seed", 1, "first seed of the trainings, or of the networks")
	fl.StringVar(&f.out, "out", "", "`folder` for table.json, table.csv and the figures")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func studyNames(all map[string]study.Computation) []string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func listStudies(out io.Writer, all map[string]study.Computation) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, name := range studyNames(all) {
		fmt.Fprintf(w, "%s\t%s\n", name, all[name].About)
	}
	return w.Flush()
}

// params reads name=value pairs whose values are YAML.
func (f *studyFlags) params() (map[string]any, error) {
	out := map[string]any{}
	for _, set := range f.sets {
		name, text, ok := strings.Cut(set, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, fielderr.New("--set", set, "name=value, such as seeds=3")
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return nil, fielderr.New("--set "+name, text, "a value in YAML, such as 3 or [4, 6]")
		}
		out[name] = value
	}
	return out, nil
}

// trainOutcome trains a job in this process, keeping nothing on disk, and
// returns the exact distribution that it learned.
func trainOutcome(ctx context.Context, spec *job.Spec) ([]float64, error) {
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, err
	}
	exact := u.Exact()
	if exact == nil {
		return nil, fielderr.New("env", spec.Env.Name, "an environment small enough for exact evaluation")
	}
	r, err := newLocalRun(spec, u)
	if err != nil {
		return nil, err
	}
	if err := r.train(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", study.ErrDiverged, err)
	}
	p := u.Params()
	return exact.Distribution(u.Model.NewTape(), p[:len(p)-1])
}

// publish prints the table, and writes it and its figures to a folder if there
// is one.
func (f *studyFlags) publish(out io.Writer, t *study.Table) error {
	data, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if f.out != "" {
		if err := writeStudy(f.out, t, data); err != nil {
			return err
		}
	}
	if f.json {
		_, err := out.Write(data)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(t.Columns, "\t"))
	for _, row := range t.Rows {
		fmt.Fprintln(w, strings.Join(studyCells(row), "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, note := range t.Notes {
		fmt.Fprintln(out, note)
	}
	return nil
}

func studyCells(row []any) []string {
	out := make([]string, len(row))
	for i, v := range row {
		switch x := v.(type) {
		case nil:
			out[i] = "–"
		case float64:
			out[i] = fmt.Sprintf("%.4g", x)
		default:
			out[i] = fmt.Sprint(x)
		}
	}
	return out
}

func writeStudy(dir string, t *study.Table, data []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var lines bytes.Buffer
	w := csv.NewWriter(&lines)
	errs := []error{w.Write(t.Columns)}
	for _, row := range t.Rows {
		cells := make([]string, len(row))
		for i, v := range row {
			if v != nil {
				cells[i] = fmt.Sprint(v)
			}
		}
		errs = append(errs, w.Write(cells))
	}
	w.Flush()
	errs = append(errs, w.Error(),
		atomicfile.WriteBytes(filepath.Join(dir, "table.json"), 0o644, data),
		atomicfile.WriteBytes(filepath.Join(dir, "table.csv"), 0o644, lines.Bytes()))
	for i, f := range t.Figures {
		png, err := plots.PNG(studyChart(f))
		if err == nil {
			err = atomicfile.WriteBytes(filepath.Join(dir, fmt.Sprintf("figure-%d.png", i+1)), 0o644, png)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// studyChart draws a band and a line for every series; a reference that
// follows no line has no colour of its own.
func studyChart(f study.Figure) plots.Chart {
	c := plots.Chart{Title: f.Title, X: plots.Axis{Label: f.X}, Y: plots.Axis{Label: f.Y, Include: []float64{0}, Pad: true}}
	colour := 0
	for _, s := range f.Series {
		line := plots.Series{Name: s.Name, X: s.X, Y: s.Y, Reference: s.Reference}
		if !s.Reference {
			colour++
			line.Colour = colour
		}
		if s.Low != nil {
			c.Series = append(c.Series, plots.Series{X: s.X, Y: s.Low, Upper: s.High, Colour: line.Colour})
		}
		c.Series = append(c.Series, line)
	}
	return c
}
