package losses

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// someSpecs covers every member, every modifier on several of them, and both
// kinds of custom member.
func someSpecs() []string {
	out := []string{
		"alpha:0", "alpha:1", "alpha:1.0000001", "alpha:-3", "alpha:4", "linex:0", "linex:-1", "huber:0.3",
		"forward_kl,tail:5", "forward_kl,temper:0.05", "forward_kl,temper:0.5,tail:5", "neyman_chi2,tail:0.5",
		"huber:1,temper:2", "jeffreys,tail:3", "triangular,temper:0.5,tail:2", "jensen_shannon,temper:3",
		"total_variation,tail:1", "total_variation,temper:0.5", "shifted_cosh,temper:0.25,tail:4",
		"forward_kl,temper_linear:0.5", "log_cosh,temper_linear:2,tail:3",
		"custom:g1=tanh(delta)", "custom:g1=1-exp(-delta),tail:5", "custom:g1=max(-1.3, min(delta, 1.3))",
		"custom:f2=4/(1+u^2)^2", "custom:f2=1/u,temper:0.5", "custom:f2=pow(u, -2)", "custom:g1=sinh(8*delta)/8",
	}
	for _, row := range Table() {
		out = append(out, row.Example)
	}
	return out
}

// scaleOf is g″(0): 1 but for a linear temper.
func scaleOf(d Divergence) float64 {
	switch m := d.(type) {
	case tailed:
		return scaleOf(m.base)
	case tempered:
		if m.linear {
			return m.beta
		}
	}
	return 1
}

func TestOrigin(t *testing.T) {
	for _, text := range someSpecs() {
		d := mustParse(t, text)
		if d.G(0) != 0 || d.G1(0) != 0 {
			t.Errorf("%s: g(0) = %v, g'(0) = %v", text, d.G(0), d.G1(0))
		}
		if d.Smooth() {
			near(t, "g''(0) of "+text, d.G2(0), scaleOf(d), 1e-9)
		}
		if f := d.F(1); f != 0 {
			t.Errorf("%s: f(1) = %v", text, f)
		}
		if d.Behaviour() == "" {
			t.Errorf("%s: no behaviour", text)
		}
	}
}

func TestConvexAndFinite(t *testing.T) {
	specs := someSpecs()
	rapid.Check(t, func(t *rapid.T) {
		d, err := Parse(rapid.SampledFrom(specs).Draw(t, "spec"))
		if err != nil {
			t.Fatal(err)
		}
		a := rapid.Float64Range(-60, 60).Draw(t, "a")
		b := rapid.Float64Range(-60, 60).Draw(t, "b")
		a, b = min(a, b), max(a, b)
		ga, gb, sa, sb := d.G(a), d.G(b), d.G1(a), d.G1(b)
		if ga < 0 || gb < 0 || d.G2(a) < 0 {
			t.Fatalf("negative: g = %v, %v, g'' = %v", ga, gb, d.G2(a))
		}
		if sa > sb+1e-12*math.Abs(sb) {
			t.Fatalf("g'(%v) = %v > g'(%v) = %v", a, sa, b, sb)
		}
		// The tangent lies below: g(b) ≥ g(a) + g'(a)(b − a).
		size := math.Abs(ga) + math.Abs(gb) + math.Abs(sa*(b-a))
		if gb < ga+sa*(b-a)-1e-11*size {
			t.Fatalf("the tangent at %v lies above g at %v", a, b)
		}
	})
}

// TestFarOut: nothing is NaN or infinite for any finite δ, and the order stays.
func TestFarOut(t *testing.T) {
	far := []float64{1e-300, 1e-12, 99, 101, 650, 689, 691, 1e3, 1e6, 1e18, 1e154, 1e300, math.MaxFloat64}
	for _, text := range someSpecs() {
		d := mustParse(t, text)
		for _, side := range []float64{-1, 1} {
			lastG, lastW := 0.0, 0.0
			for _, x := range far {
				x *= side
				g, w, c := d.G(x), d.G1(x), d.G2(x)
				if !isFinite(g) || !isFinite(w) || !isFinite(c) || c < 0 {
					t.Fatalf("%s at %g: g = %v, g' = %v, g'' = %v", text, x, g, w, c)
				}
				if g < lastG*(1-1e-12) || side*w < lastW-1e-12*math.Abs(lastW) {
					t.Errorf("%s at %g: g %v after %v, |g'| %v after %v", text, x, g, lastG, side*w, lastW)
				}
				lastG, lastW = g, side*w
			}
		}
	}
}

func TestDerivatives(t *testing.T) {
	specs := someSpecs()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(specs).Draw(t, "spec")
		d, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		x := rapid.Float64Range(-12, 12).Draw(t, "delta")
		for _, kink := range []float64{0, 0.15, 0.3, 0.5, 1, 1.3, 2, 3, 4, 5, 0.25} {
			if math.Abs(math.Abs(x)-kink) < 1e-3 {
				return // a tail, a clip, or a knot begins here
			}
		}
		if got, want := derivative(d.G, x), d.G1(x); math.Abs(got-want) > 1e-7*(math.Abs(want)+d.G2(x)+1e-3)+1e-9*d.G(x) {
			t.Fatalf("dg/dδ at %v = %v, g' = %v", x, got, want)
		}
		if got, want := derivative(d.G1, x), d.G2(x); math.Abs(got-want) > 1e-7*(math.Abs(want)+math.Abs(d.G1(x))+1e-2) {
			t.Fatalf("dg'/dδ at %v = %v, g'' = %v", x, got, want)
		}
	})
}

// TestF ties f to g: g'(δ) = f(u) − u f'(u) by differences, and f by quadrature.
func TestF(t *testing.T) {
	for _, text := range someSpecs() {
		d := mustParse(t, text)
		for _, delta := range []float64{-4.2, -1.7, -0.6, -0.1, -1e-3, 1e-3, 0.1, 0.6, 1.7, 4.2} {
			u := math.Exp(-delta)
			f := d.F(u)
			near(t, text+": f at u = "+formatNumber(u), f, fFromG1(d.G1, u), 1e-11)
			slope := derivative(func(s float64) float64 { return d.F(u * (1 + s)) }, 0) // u f'(u)
			if got, want := f-slope, d.G1(delta); math.Abs(got-want) > 1e-6*(1+math.Abs(want)) {
				t.Errorf("%s at δ = %v: f − u f' = %v, g' = %v", text, delta, got, want)
			}
		}
		if f := d.F(0); math.IsNaN(f) || f < 0 {
			t.Errorf("%s: f(0) = %v", text, f)
		} else if far := d.F(1e-30); !math.IsInf(f, 1) && far > f*(1+1e-12) {
			t.Errorf("%s: f(1e-30) = %v exceeds f(0) = %v", text, far, f)
		}
	}
}

func TestLimitsOfFAtZero(t *testing.T) {
	for text, want := range map[string]float64{
		"forward_kl": 1, "hellinger": 2, "reverse_kl": math.Inf(1), "neyman_chi2": math.Inf(1), "jeffreys": math.Inf(1),
		"jensen_shannon": 2 * math.Ln2, "triangular": 1, "total_variation": 0.5, "log_cosh": 1, "huber:2": 2,
		"forward_kl,temper:0.5": 2, "custom:g1=tanh(delta)": 1, "shifted_cosh,temper:0.5": math.Inf(1), "reverse_kl,tail:3": 3,
	} {
		if got := mustParse(t, text).F(0); got != want && math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: f(0) = %v, want %v", text, got, want)
		}
	}
}

// TestEquivalences: different spellings of one function agree everywhere.
func TestEquivalences(t *testing.T) {
	pairs := [][2]string{
		{"alpha:0", "forward_kl"}, {"alpha:1", "reverse_kl"}, {"alpha:0.5", "hellinger"}, {"alpha:-1", "pearson_chi2"},
		{"linex:1", "neyman_chi2"}, {"linex:-0.25", "alpha:0.75"}, {"alpha:1.00000000000001", "reverse_kl"},
		{"forward_kl,temper:0.05", "alpha:0.95"}, {"neyman_chi2,temper:0.5", "alpha:1.5"},
		{"reverse_kl,tail:2.5", "huber:2.5"}, {"huber:1,temper:2", "huber:0.5"},
		{"custom:g1=tanh(delta)", "log_cosh"}, {"custom:f2=4/(1+u^2)^2", "log_cosh"},
		{"custom:g1=2*(log(2)-softplus(-delta))", "jensen_shannon"}, {"custom:f2=8/(1+u)^3", "triangular"},
		{"custom:f2=1/u", "forward_kl"}, {"custom:f2=(1/u+1/u**2)/2", "jeffreys"}, {"custom:f2=(1/u+1/u^3)/2", "shifted_cosh"},
		{"custom:g1=delta > 1 ? 1 : delta < -1 ? -1 : delta", "huber:1"}, {"total_variation,tail:2", "total_variation"},
	}
	for _, p := range pairs {
		a, b := mustParse(t, p[0]), mustParse(t, p[1])
		for _, x := range []float64{-40, -5.3, -1.7, -0.31, -1e-3, 1e-3, 0.31, 1.7, 5.3, 40} {
			near(t, p[0]+": g", a.G(x), b.G(x), 1e-11)
			near(t, p[0]+": g'", a.G1(x), b.G1(x), 1e-11)
			near(t, p[0]+": g''", a.G2(x)+1e-25, b.G2(x)+1e-25, 1e-10)
		}
	}
}

func TestTailAndTemper(t *testing.T) {
	base, d := mustParse(t, "forward_kl"), mustParse(t, "forward_kl,temper:0.5,tail:5")
	near(t, "inside", d.G(-3), base.G(-1.5)*4, 1e-14)
	near(t, "weight at the tail", d.G1(-5), base.G1(-2.5)*2, 1e-14)
	if d.G1(-5) != d.G1(-50) || d.G2(-50) != 0 {
		t.Error("weights go on growing beyond the tail")
	}
	near(t, "beyond", d.G(-50), d.G(-5)+45*-d.G1(-5), 1e-14)
	if a, ok := d.EffectiveAlpha(); !ok || a != 0.5 {
		t.Errorf("effective alpha %v, %v", a, ok)
	}
	if a, _ := mustParse(t, "forward_kl,temper:0.05").EffectiveAlpha(); math.Abs(a-0.95) > 1e-15 {
		t.Errorf("nearly TB has effective alpha %v", a)
	}
	if _, ok := mustParse(t, "jeffreys,temper:2").EffectiveAlpha(); ok {
		t.Error("Jeffreys has an effective alpha")
	}
	linear := mustParse(t, "forward_kl,temper_linear:0.5")
	near(t, "linear temper", linear.G(-3), base.G(-1.5)*2, 1e-14)
	for text, want := range map[string]float64{"huber:2,temper:0.5": 4, "huber:2": 2, "jeffreys,tail:3": 3, "hellinger,temper:0.5,tail:3": 3} {
		if k, ok := TailStart(mustParse(t, text)); !ok || k != want {
			t.Errorf("%s: the tail starts at %v, %v", text, k, ok)
		}
	}
	if _, ok := TailStart(mustParse(t, "hellinger,temper:2")); ok {
		t.Error("Hellinger has a tail")
	}
}
