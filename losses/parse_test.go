package losses

import (
	"errors"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
)

func TestNamesRoundTrip(t *testing.T) {
	for _, text := range someSpecs() {
		d := mustParse(t, text)
		again := mustParse(t, d.Name())
		if again.Name() != d.Name() || again.G(-1.234) != d.G(-1.234) {
			t.Errorf("%s → %s → %s", text, d.Name(), again.Name())
		}
	}
	if got := mustParse(t, " forward_kl , tail:5 , temper:0.5 ").Name(); got != "forward_kl,temper:0.5,tail:5" {
		t.Errorf("the order is not canonical: %s", got)
	}
}

func TestParseFaults(t *testing.T) {
	cases := []struct{ text, says string }{
		{"helinger", `did you mean "hellinger"`},
		{"jensen-shannon", `did you mean "jensen_shannon"`},
		{"", "a member of the family"},
		{"alpha", "alpha:0.75"},
		{"alpha:x", "finite number"},
		{"alpha:inf", "finite number"},
		{"huber:0", "k > 0"},
		{"hellinger:2", "without a parameter"},
		{"hellinger,tial:5", `did you mean "tail"`},
		{"hellinger,tail:0", "k > 0"},
		{"hellinger,tail", "k > 0"},
		{"hellinger,temper:-1", "β > 0"},
		{"hellinger,tail:1,tail:2", "one tail"},
		{"hellinger,temper:1,temper_linear:2", "one temper"},
		{"custom", "custom:g1="},
		{"custom:g2=u", "custom:g1="},
		{"custom:g1=1-exp(", "expression"},
		{"custom:g1=sin(delta)", "no function sin"},
		{"custom:g1=tanh(u)", "variable is delta"},
		{"custom:g1=delta+1", "g'(0) = 1"},
		{"custom:g1=2*delta", "here it is 2"},
		{"custom:g1=max(delta, 0)", "at delta"},
		{"custom:g1=delta*exp(-delta^2)", "a convex g; here g' falls from"},
		{"custom:g1=delta-(delta < -3 ? -1 : 0)", "falls from -2.00"},
		{"custom:g1=delta-(delta > 3 ? 1 : 0)", "a convex g"},
		{"custom:f2=3-2*u", "a convex g"},
		{"custom:f2=2/u", "here it is 2"},
		{"custom:g1=log1p(delta)", "undefined at delta = -1"},
		{"custom:g1=sinh(3000*delta)/3000", "overflows"},
		{"custom:g1='a'", "not a number"},
		{"custom:g1=delta ? 1 : 2", "not a condition"},
		{"custom:g1=-(1 ? 2 : 3)", "not a condition"},
		{"custom:g1=delta + nothing", "unknown name"},
		{"custom:g1=nothing + delta", "unknown name"},
		{"custom:g1=delta.x", "not a number"},
		{"custom:g1=!delta", "does not give a number"},
		{"custom:g1=delta % 2", "does not give a number"},
		{"custom:g1=delta > 1", "does not give a number"},
		{"custom:g1=(delta + 1 ? 1 : 2)", "not a condition"},
		{"custom:g1=tanh(delta, 1)", "of 2 arguments"},
		{"custom:g1=" + strings.Repeat("(", 3000), "at most"},
	}
	for _, c := range cases {
		d, err := Parse(c.text)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != "divergence" || !strings.Contains(err.Error(), c.says) || d != nil {
			t.Errorf("%q: error %v does not say %q", c.text, err, c.says)
		}
	}
}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]float64{ // at x = 0.7
		"x": 0.7, "-x + 2*3": 5.3, "+x": 0.7, "x^2": 0.48999999999999994, "2**x": 1.624504792712471,
		"abs(-x)": 0.7, "sign(x)": 1, "sqrt(x*x)": 0.7, "exp(log(x))": 0.7, "log1p(expm1(x))": 0.7,
		"atan(x)": 0.6107259643892086, "sigmoid(x)": 0.6681877721681662, "cosh(x)": 1.255169005630943,
		"pi - pi + e - e": 0, "pow(x, 2)": 0.48999999999999994, "min(x, 1) + max(x, 1)": 1.7, "max(2, x)": 2, "min(2, x)": 0.7,
		"x >= 0.7 && x <= 0.7 ? 1 : 2": 1, "x != 0.7 || x == 1 ? 1 : 2": 2, "not (x < 1) ? 1 : 2": 2, "!(x > 1) and true1(x) ? 1 : 2": -1,
	} {
		n, err := compileExpression(text, "x")
		if want == -1 {
			if err == nil {
				t.Errorf("%s compiles", text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := n(dual{0.7, 1})
		near(t, text, got.v, want, 1e-15)
		if slope := derivative(func(x float64) float64 { return n(dual{v: x}).v }, 0.7); !strings.Contains(text, "?") && abs(slope-got.d) > 1e-8 {
			t.Errorf("%s: derivative %v, by differences %v", text, got.d, slope)
		}
	}
}

func abs(x float64) float64 { return max(x, -x) }

func TestTable(t *testing.T) {
	rows := Table()
	if len(rows) != len(families) {
		t.Fatalf("%d rows of %d: an example does not parse", len(rows), len(families))
	}
	for _, r := range rows {
		if r.Slope == "" || r.Behaviour == "" {
			t.Errorf("incomplete row %+v", r)
		}
	}
}

func TestMemberSchedules(t *testing.T) {
	parse := func(text string) *schedule.Value {
		v, err := schedule.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return &v
	}
	m, err := NewMember("alpha,temper_linear:0.5", Overrides{Parameter: parse("cosine:0.75:1.2:3000"), Tail: parse("linear:5:10:100")})
	if err != nil {
		t.Fatal(err)
	}
	for update, want := range map[int64]string{
		0: "alpha:0.75,temper_linear:0.5,tail:5", 50: "", 3000: "alpha:1.2,temper_linear:0.5,tail:10", 1 << 40: "alpha:1.2,temper_linear:0.5,tail:10",
	} {
		if got := m.At(update).Name(); want != "" && got != want {
			t.Errorf("update %d: %s, want %s", update, got, want)
		}
	}
	if m.At(4000) != m.At(5000) {
		t.Error("an unchanged member is built anew")
	}
	custom, err := NewMember("custom:g1=tanh(delta)", Overrides{Temper: parse("linear:1:2:10")})
	if err != nil || custom.At(5).Name() != "custom:g1=tanh(delta),temper:1.5" {
		t.Errorf("custom with a schedule: %v, %v", custom, err)
	}
	unset, err := NewMember("huber:2", Overrides{Parameter: new(schedule.Value)})
	if err != nil || unset.At(0).Name() != "huber:2" {
		t.Errorf("an unset override: %v", err)
	}
	if d := mustParse(t, "hellinger"); Fixed(d).At(7) != d {
		t.Error("Fixed changes its member")
	}
}

// TestModifiersInForce at an update, in whatever order they were written.
func TestModifiersInForce(t *testing.T) {
	for text, want := range map[string][2]float64{
		"hellinger": {0, 0}, "huber:2": {0, 0}, "forward_kl,tail:5": {5, 0}, "jeffreys,temper:0.5": {0, 0.5},
		"forward_kl,tail:3,temper:0.25": {3, 0.25}, "log_cosh,temper_linear:2": {0, 2},
	} {
		if tail, temper := Modifiers(mustParse(t, text)); tail != want[0] || temper != want[1] {
			t.Errorf("%s: tail %v and temper %v, want %v", text, tail, temper, want)
		}
	}
	ramp := schedule.Value{Kind: schedule.Linear, From: 5, To: 10, Over: 100}
	m, err := NewMember("hellinger", Overrides{Tail: &ramp})
	if err != nil {
		t.Fatal(err)
	}
	if tail, temper := Modifiers(m.At(50)); tail != 7.5 || temper != 0 {
		t.Errorf("half-way: tail %v and temper %v", tail, temper)
	}
}

func TestMemberFaults(t *testing.T) {
	bad := func(v schedule.Value) *schedule.Value { return &v }
	ramp := schedule.Value{Kind: schedule.Linear, From: 1, To: -1, Over: 10}
	cases := []struct {
		text, path string
		over       Overrides
	}{
		{"nothing", "divergence", Overrides{}},
		{"alpha", "divergence", Overrides{}},
		{"hellinger", "parameter", Overrides{Parameter: bad(schedule.Const(1))}},
		{"custom:g1=tanh(delta)", "parameter", Overrides{Parameter: bad(schedule.Const(1))}},
		{"huber", "parameter", Overrides{Parameter: &ramp}},
		{"hellinger", "tail", Overrides{Tail: &ramp}},
		{"hellinger", "temper", Overrides{Temper: bad(schedule.Const(0))}},
		{"alpha", "parameter.over", Overrides{Parameter: &schedule.Value{Kind: schedule.Linear, From: 1, To: 2}}},
	}
	for _, c := range cases {
		_, err := NewMember(c.text, c.over)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != c.path {
			t.Errorf("%s with %+v: %v, want a fault in %s", c.text, c.over, err, c.path)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range someSpecs() {
		f.Add(text)
	}
	f.Add("custom:g1=delta^")
	f.Add("custom:f2=(((u")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		for _, x := range []float64{-1e9, -700, -1, 0, 0.5, 1e9} {
			if g, w := d.G(x), d.G1(x); !isFinite(g) || !isFinite(w) || g < -1e-6 {
				t.Fatalf("%q at %v: g = %v, g' = %v", text, x, g, w)
			}
		}
		if again, err := Parse(d.Name()); err != nil || again.Name() != d.Name() {
			t.Fatalf("%q → %q: %v", text, d.Name(), err)
		}
	})
}
