package study_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
	"github.com/driftmesh/driftmesh/study"
)

// train is a plain on-policy, or lagging, loop over the real updater and roller:
// what `driftmesh train` does, without its files.
func train(ctx context.Context, spec *job.Spec) ([]float64, error) {
	u, err := paramserver.NewUpdater(spec)
	if err != nil {
		return nil, err
	}
	r, err := sampler.NewRoller(spec, 0)
	if err != nil {
		return nil, err
	}
	var past [][]float32
	for u.Version() < uint64(spec.Train.Updates) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		past = append(past, append([]float32(nil), u.Params()...))
		from := max(0, len(past)-1-spec.Train.Lag)
		batch, err := r.SampleN(u.Fresh(), past[from], uint64(from), u.Trajectories()+1, nil)
		if err != nil {
			return nil, err
		}
		if _, err := u.Step(batch, nil); err != nil {
			return nil, fmt.Errorf("%w: %w", experiment.ErrDiverged, err)
		}
	}
	p := u.Params()
	return u.Exact(ctx).Distribution(u.Model.NewTape(), p[:len(p)-1])
}

func cell(t *testing.T, table *experiment.Table, row int, column string) float64 {
	t.Helper()
	for i, c := range table.Columns {
		if c == column {
			v, ok := table.Rows[row][i].(float64)
			if !ok {
				t.Fatalf("row %d has %v for %s", row, table.Rows[row][i], column)
			}
			return v
		}
	}
	t.Fatalf("no column %s in %v", column, table.Columns)
	return 0
}

// TestOnPolicyTrainingFindsTheMinimiser: what the real system learns on-policy is
// what quadrature says, and the order of the family shows.
func TestOnPolicyTrainingFindsTheMinimiser(t *testing.T) {
	c := study.OnPolicy(train)
	table, err := c.Run(context.Background(), map[string]any{
		"separations": []any{4}, "alphas": []any{0, 1, 1.5}, "seeds": 3, "updates": 2000, "picture": 4,
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	last := 1.0
	for row := range table.Rows {
		want, got := cell(t, table, row, "fit_mass"), cell(t, table, row, "trained_mass")
		if math.Abs(got-want) > 0.01 {
			t.Errorf("alpha %v: trained %v, the minimiser has %v", cell(t, table, row, "alpha"), got, want)
		}
		if want > last {
			t.Errorf("alpha %v: the minimiser's mass grows to %v", cell(t, table, row, "alpha"), want)
		}
		if low, high := cell(t, table, row, "low"), cell(t, table, row, "high"); !(low <= got && got <= high) {
			t.Errorf("the interval from %v to %v misses its mean %v", low, high, got)
		}
		last = want
	}
	if table.Values["order_holds"] != 1 || len(table.Figures) != 2 || !strings.Contains(strings.Join(table.Notes, "\n"), "the order holds") {
		t.Errorf("%v, %d figures, notes %q", table.Values, len(table.Figures), table.Notes)
	}
}

// TestOffPolicyTrainingFindsTheMinimiser: uniform, replayed and stale data lead
// to the minimisers of E_μ[g], for every normaliser; with uniform data and a
// fitted c the order is reversed.
func TestOffPolicyTrainingFindsTheMinimiser(t *testing.T) {
	c := study.Behaviours(train)
	table, err := c.Run(context.Background(), map[string]any{
		"separations": []any{4}, "alphas": []any{0, 1}, "seeds": 2, "updates": 800, "batch": 128,
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 3*3*2 {
		t.Fatalf("%d rows", len(table.Rows))
	}
	for i, row := range table.Rows {
		if want, got := cell(t, table, i, "fit_mass"), cell(t, table, i, "trained_mass"); math.Abs(got-want) > 0.015 {
			t.Errorf("%v: trained %v, by quadrature %v", row, got, want)
		}
	}
	reversed := 0
	for _, note := range table.Notes {
		if strings.HasPrefix(note, "uniform, learned") && strings.Contains(note, "deterministic") && strings.Contains(note, "reversed") {
			reversed++
		}
	}
	if reversed != 1 {
		t.Errorf("notes %q", table.Notes)
	}
}

func TestParametersAreChecked(t *testing.T) {
	all := study.Computations(train)
	for name, bad := range map[string]map[string]any{
		"restricted_on_policy":  {"alphas": []any{1, 0}},
		"restricted_behaviours": {"weights": []any{1}},
		"gradients":             {"networks": 0},
	} {
		c := all[name]
		if err := c.Check(nil); err != nil {
			t.Errorf("%s with its defaults: %v", name, err)
		}
		var fault *fielderr.Error
		if err := c.Check(bad); !errors.As(err, &fault) {
			t.Errorf("%s with %v: %v", name, bad, err)
		}
	}
	var fault *fielderr.Error
	if err := all["restricted_on_policy"].Check(map[string]any{"separations": []any{40}}); !errors.As(err, &fault) {
		t.Errorf("humps outside the range: %v", err)
	}
}

// TestDivergedTrainingsAreCounted, and other errors end the table.
func TestDivergedTrainingsAreCounted(t *testing.T) {
	given := map[string]any{"separations": []any{4}, "alphas": []any{0, 1}, "seeds": 2}
	fails := func(err error) study.Trainer {
		return func(context.Context, *job.Spec) ([]float64, error) { return nil, err }
	}
	table, err := study.OnPolicy(fails(experiment.ErrDiverged)).Run(context.Background(), given, 1)
	if err != nil {
		t.Fatal(err)
	}
	if cell(t, table, 0, "diverged") != 2 || cell(t, table, 0, "seeds") != 0 {
		t.Errorf("row %v", table.Rows[0])
	}
	broken := errors.New("disk full")
	if _, err := study.OnPolicy(fails(broken)).Run(context.Background(), given, 1); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestEstimate(t *testing.T) {
	e := study.NewEstimate([]float64{1, 2, math.NaN(), 3})
	// t(0.975, 2) = 4.302653, standard error 1/√3.
	if e.Mean != 2 || e.N != 3 || math.Abs(e.High-(2+4.302653/math.Sqrt(3))) > 1e-5 || math.Abs(e.Low+e.High-4) > 1e-12 {
		t.Errorf("%+v", e)
	}
	if e = study.NewEstimate([]float64{1}); e.Mean != 1 || !math.IsInf(e.High, 1) {
		t.Errorf("of one: %+v", e)
	}
	if e = study.NewEstimate(nil); e.Mean == e.Mean || e.N != 0 {
		t.Errorf("of none: %+v", e)
	}
}
