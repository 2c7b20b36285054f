package metrics_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/metrics"
)

func logs(ps ...float64) []float64 {
	out := make([]float64, len(ps))
	for i, p := range ps {
		out[i] = math.Log(p)
	}
	return out
}

func near(t testing.TB, what string, got, want, tol float64) {
	t.Helper()
	if got != want && !(math.Abs(got-want) <= tol) {
		t.Errorf("%s = %.17g, want %.17g", what, got, want)
	}
}

// TestHandComputed: p = (½, ¼, ¼), q = (¼, ¼, ½).
func TestHandComputed(t *testing.T) {
	d, err := metrics.Compare(logs(0.5, 0.25, 0.25), logs(0.25, 0.25, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	near(t, "TV", d.TV, 0.25, 1e-15)
	near(t, "L1", d.L1, 0.5, 1e-15)
	near(t, "forward KL", d.ForwardKL, math.Ln2/4, 1e-15) // ½ log 2 − ¼ log 2
	near(t, "reverse KL", d.ReverseKL, math.Ln2/4, 1e-15)
	near(t, "JSD", d.JSD, 0.5*math.Log(4./3)+0.25*math.Log(2./3), 1e-15) // m = (⅜, ¼, ⅜)
	near(t, "Hellinger", d.Hellinger, math.Sqrt(0.75-1/math.Sqrt2), 1e-15)
	near(t, "χ²", d.Chi2, 0.375, 1e-15)                // (¼)²/¼ + (¼)²/½
	near(t, "reverse χ²", d.Chi2Reverse, 0.375, 1e-15) // (¼)²/½ + (¼)²/¼
	back, err := metrics.Compare(logs(0.5, 0.5), logs(0.25, 0.75))
	if err != nil {
		t.Fatal(err)
	}
	near(t, "χ²(p‖q)", back.Chi2, 1./3, 1e-15)        // (1/16)/¼ + (1/16)/¾
	near(t, "χ²(q‖p)", back.Chi2Reverse, 0.25, 1e-15) // (1/16)/½ + (1/16)/½
}

func TestDisjoint(t *testing.T) {
	d, err := metrics.Compare(logs(1, 0), logs(0, 1))
	if err != nil {
		t.Fatal(err)
	}
	inf := math.Inf(1)
	if d != (metrics.Distances{TV: 1, L1: 2, ForwardKL: inf, ReverseKL: inf, JSD: d.JSD, Hellinger: 1, Chi2: inf, Chi2Reverse: inf}) {
		t.Errorf("%+v", d)
	}
	near(t, "JSD", d.JSD, math.Ln2, 1e-15)
	text, err := json.Marshal(d)
	if err != nil || !strings.Contains(string(text), `"forward_kl":null`) || !strings.Contains(string(text), `"tv":1,`) {
		t.Errorf("%s, %v", text, err)
	}
	// Nothing in common and nothing at all: objects that neither has.
	d, err = metrics.Compare(logs(1, 0), logs(1, 0))
	if err != nil || d != (metrics.Distances{}) {
		t.Errorf("equal: %+v, %v", d, err)
	}
	if _, err := metrics.Compare(logs(1), logs(0.5, 0.5)); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("lengths: %v", err)
	}
}

// TestFarTails: probabilities below the smallest float64 still have distances.
func TestFarTails(t *testing.T) {
	d, err := metrics.Compare(logs(0.5, 0.5), []float64{0, -1000})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "forward KL", d.ForwardKL, 500-math.Ln2, 1e-9)
	near(t, "TV", d.TV, 0.5, 0)
	if !math.IsInf(d.Chi2, 1) { // e^1000/4
		t.Errorf("χ² = %v", d.Chi2)
	}
}

// TestInequalities holds for any two distributions: Pinsker, Le Cam, and the
// definitions computed naively.
func TestInequalities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "objects")
		draw := func(name string) []float64 {
			v := rapid.SliceOfN(rapid.Float64Range(-12, 3), n, n).Draw(t, name)
			envs.Normalise(v)
			return v
		}
		p, q := draw("p"), draw("q")
		d, err := metrics.Compare(p, q)
		if err != nil {
			t.Fatal(err)
		}
		fkl, chi2, hellinger2 := 0.0, 0.0, 0.0
		for i := range p {
			a, b := math.Exp(p[i]), math.Exp(q[i])
			fkl += a * math.Log(a/b)
			chi2 += (a - b) * (a - b) / b
			hellinger2 += (math.Sqrt(a) - math.Sqrt(b)) * (math.Sqrt(a) - math.Sqrt(b)) / 2
		}
		const slack = 1e-12
		switch {
		case math.Abs(d.ForwardKL-fkl) > 1e-12*(1+fkl), math.Abs(d.Chi2-chi2) > 1e-11*(1+chi2), math.Abs(d.Hellinger*d.Hellinger-hellinger2) > slack:
			t.Errorf("%+v; naively %v, %v, %v", d, fkl, chi2, hellinger2)
		case d.TV < 0 || d.TV > 1+slack || d.ForwardKL < 0 || d.ReverseKL < 0 || d.JSD < 0 || d.JSD > math.Ln2+slack:
			t.Errorf("out of range: %+v", d)
		case 2*d.TV*d.TV > d.ForwardKL+slack, 2*d.TV*d.TV > d.ReverseKL+slack:
			t.Errorf("against Pinsker: %+v", d)
		case d.Hellinger*d.Hellinger > d.TV+slack, d.TV > math.Sqrt2*d.Hellinger+slack:
			t.Errorf("against Le Cam: %+v", d)
		case math.Log1p(d.Chi2) < d.ForwardKL-slack, math.Log1p(d.Chi2Reverse) < d.ReverseKL-slack:
			t.Errorf("KL above log(1 + χ²): %+v", d)
		}
	})
}

// TestRoundingDoesNotGoNegative: a model that adds up to one only in float32
// still has a KL of about zero and never below.
func TestRoundingDoesNotGoNegative(t *testing.T) {
	p := logs(0.5, 0.3, 0.2)
	for _, off := range []float64{1e-6, -1e-6, 1e-9} {
		q := []float64{p[0] + off, p[1] + off, p[2] + off}
		d, err := metrics.Compare(p, q)
		if err != nil {
			t.Fatal(err)
		}
		if d.ForwardKL < 0 || d.ReverseKL < 0 || d.ForwardKL > 1e-11 {
			t.Errorf("off by %v: %+v", off, d)
		}
	}
}

func TestEmpiricalTV(t *testing.T) {
	target := logs(0.5, 0.25, 0.25)
	e, err := metrics.EmpiricalTV(target, []int64{1, 0, 1})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "TV", e.TV, 0.25, 1e-15)
	if e.Samples != 2 || e.Floor <= 0 || e.Floor > 1 {
		t.Errorf("%+v", e)
	}
	if e, err = metrics.EmpiricalTV(target, make([]int64, 3)); err != nil || e.TV != 1 || e.Floor != 1 {
		t.Errorf("no samples: %+v, %v", e, err)
	}
	if _, err := metrics.EmpiricalTV(target, nil); !errors.Is(err, metrics.ErrLength) {
		t.Errorf("%v", err)
	}
}

func TestFirstBelow(t *testing.T) {
	values := []float64{0.9, 0.04, 0.2, 0.04, 0.03, math.NaN(), 0.01, 0.01, 0.01}
	for _, c := range []struct {
		threshold float64
		run, want int
	}{{0.05, 1, 1}, {0.05, 2, 3}, {0.05, 3, 6}, {0.05, 4, -1}, {0.001, 1, -1}, {0.05, 0, 1}} {
		if got := metrics.FirstBelow(values, c.threshold, c.run); got != c.want {
			t.Errorf("%d below %v: %d, want %d", c.run, c.threshold, got, c.want)
		}
		negative := make([]float64, len(values))
		for i, v := range values {
			negative[i] = -v
		}
		above := math.Nextafter(-c.threshold, 1) // −v ≥ above where v < threshold
		if got := metrics.FirstAtLeast(negative, above, c.run); got != c.want {
			t.Errorf("%d at least %v: %d, want %d", c.run, above, got, c.want)
		}
	}
}
