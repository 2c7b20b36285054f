package fit_test

import (
	"math"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/study/fit"
)

// mixture is a fit's problem, with the hump of every cell.
type mixture struct {
	*fit.Problem
	points [][]float64
	hump   []int
}

func open(t *testing.T, params map[string]any) mixture {
	t.Helper()
	env, err := registry.New("mixture", params)
	if err != nil {
		t.Fatal(err)
	}
	e := env.(envs.Enumerable)
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	p, err := fit.New(env.Spec().Points, logR)
	if err != nil {
		t.Fatal(err)
	}
	m := mixture{Problem: p, points: env.Spec().Points}
	s := env.NewStates(1)
	for a := range logR {
		s.Reset([]int32{0})
		if err := s.Forward([]int32{0}, []int32{int32(a)}); err != nil {
			t.Fatal(err)
		}
		m.hump = append(m.hump, env.(envs.Moded).Mode(s, 0))
	}
	return m
}

func member(t *testing.T, text string) losses.Divergence {
	t.Helper()
	d, err := losses.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (m mixture) logProb(theta []float64) []float64 {
	out := make([]float64, len(m.points))
	m.LogProb(theta, out)
	return out
}

// smaller is the mass of the hump that has less of it.
func (m mixture) smaller(theta []float64) float64 {
	mass := fit.Masses(m.logProb(theta), m.hump, 2)
	return min(mass[0], mass[1])
}

func uniform(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = 1 / float64(n)
	}
	return out
}

// TestForwardKLMatchesMoments: a Gaussian over cells is an exponential family,
// so the forward KL is least where mean and variance are the target's.
func TestForwardKLMatchesMoments(t *testing.T) {
	for _, params := range []map[string]any{
		{"cells": 200, "separation": 5},
		{"dim": 2, "cells": 14, "separation": 5},
	} {
		m := open(t, params)
		f, err := m.MinDivergence(member(t, "forward_kl"))
		if err != nil {
			t.Fatal(err)
		}
		logQ := m.logProb(f.Theta)
		for d := range m.Dim() {
			var p1, p2, q1, q2 float64
			for i, x := range m.points {
				p, q := math.Exp(m.LogTarget()[i]), math.Exp(logQ[i])
				p1, p2, q1, q2 = p1+p*x[d], p2+p*x[d]*x[d], q1+q*x[d], q2+q*x[d]*x[d]
			}
			if math.Abs(p1-q1) > 1e-5 || math.Abs(p2-q2) > 1e-4 {
				t.Errorf("%v, dimension %d: moments %v and %v, the target's are %v and %v", params, d, q1, q2, p1, p2)
			}
		}
	}
}

// TestOneHumpIsFittedByAll: a target inside the family is everybody's minimum,
// under any behaviour and with any normaliser.
func TestOneHumpIsFittedByAll(t *testing.T) {
	m := open(t, map[string]any{"cells": 40, "weights": []any{2.0}, "means": []any{1.5}, "widths": []any{1.2}})
	mu := uniform(40)
	near := func(what string, f fit.Fit, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if math.Abs(f.Mean()[0]-1.5) > 1e-4 || math.Abs(f.Std()[0]-1.2) > 1e-4 || math.Abs(f.C-m.LogZ()) > 1e-4 {
			t.Errorf("%s: mean %v, std %v, c %v; want 1.5, 1.2 and %v", what, f.Mean(), f.Std(), f.C, m.LogZ())
		}
	}
	for _, row := range losses.Table() {
		d := member(t, row.Example)
		f, err := m.MinDivergence(d)
		near("D of "+row.Example, f, err)
		for _, n := range []fit.Normaliser{fit.Exact, fit.Free} {
			if !d.Smooth() { // total variation: the median c is not unique on cells
				continue
			}
			f, err = m.MinLoss(d, mu, n)
			near("loss of "+row.Example, f, err)
			f, err = m.Rest(d, fit.Behaviour{Given: 0.5, Mu: mu}, n, []float64{1, 0.5})
			near("rest of "+row.Example, f, err)
		}
	}
}

// TestNothingIsLower compares with a fine grid of parameters.
func TestNothingIsLower(t *testing.T) {
	m := open(t, map[string]any{"cells": 32, "separation": 6})
	mu := uniform(32)
	logQ := make([]float64, 32)
	for _, text := range []string{"reverse_kl", "forward_kl", "alpha:0.75", "pearson_chi2", "neyman_chi2", "huber:1", "triangular", "jensen_shannon", "forward_kl,tail:2"} {
		d := member(t, text)
		best, err := m.MinDivergence(d)
		if err != nil {
			t.Fatal(err)
		}
		lost, err := m.MinLoss(d, mu, fit.Exact)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 161 {
			for j := range 61 {
				theta := []float64{-8 + 0.1*float64(i), math.Log(0.3) + 0.055*float64(j)}
				if v := m.Divergence(d, theta); v < best.Value-1e-12 {
					t.Errorf("%s: D is %v at %v, the fit has %v at %v", text, v, theta, best.Value, best.Theta)
				}
				m.LogProb(theta, logQ)
				loss := 0.0
				for k, lq := range logQ {
					loss += mu[k] * d.G(lq-m.LogTarget()[k])
				}
				if loss < lost.Value-1e-12 {
					t.Errorf("%s: the loss is %v at %v, the fit has %v at %v", text, loss, theta, lost.Value, lost.Theta)
				}
			}
		}
	}
}

// TestRestIsTheMinimum: where μ does not depend on the model, the flow of the
// gradient ends in the loss's minimum; on-policy in that of D_f, for the alpha
// family with a fitted c as well.
func TestRestIsTheMinimum(t *testing.T) {
	m := open(t, map[string]any{"cells": 32, "separation": 4})
	mu := uniform(32)
	same := func(what string, got fit.Fit, err error, want fit.Fit) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		for k := range want.Theta {
			if math.Abs(got.Theta[k]-want.Theta[k]) > 1e-4 {
				t.Errorf("%s: rests at %v, the minimum is at %v", what, got.Theta, want.Theta)
			}
		}
	}
	for _, text := range []string{"forward_kl", "hellinger", "alpha:0.75", "reverse_kl", "log_cosh"} {
		d := member(t, text)
		start := []float64{0.1, 1.3}
		want, err := m.MinDivergence(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.Rest(d, fit.Behaviour{}, fit.Exact, start)
		same("on-policy, "+text, got, err, want)
		if _, alpha := d.EffectiveAlpha(); alpha {
			got, err = m.Rest(d, fit.Behaviour{}, fit.Free, start)
			same("on-policy with a fitted c, "+text, got, err, want)
		}
		for _, n := range []fit.Normaliser{fit.Exact, fit.Free} {
			if want, err = m.MinLoss(d, mu, n); err != nil {
				t.Fatal(err)
			}
			got, err = m.Rest(d, fit.Behaviour{Given: 1, Mu: mu}, n, start)
			same("uniform, "+text, got, err, want)
		}
	}
}

// TestCoveringAndSeeking is the textbook picture: of one Gaussian on two humps,
// the less mass the smaller hump is left with the larger alpha is. With a uniform
// behaviour and a fitted c it is the other way.
func TestCoveringAndSeeking(t *testing.T) {
	for _, separation := range []float64{4, 6} {
		m := open(t, map[string]any{"cells": 64, "separation": separation})
		last, lastLoss := 1.0, 0.0
		for _, text := range []string{"pearson_chi2", "forward_kl", "hellinger", "alpha:0.75", "reverse_kl", "neyman_chi2"} {
			d := member(t, text)
			f, err := m.MinDivergence(d)
			if err != nil {
				t.Fatal(err)
			}
			if mass := m.smaller(f.Theta); mass > last+1e-6 {
				t.Errorf("separation %v, %s: the smaller hump has %v, after %v", separation, text, mass, last)
			} else {
				last = mass
			}
			if f, err = m.MinLoss(d, uniform(64), fit.Free); err != nil {
				t.Fatal(err)
			}
			if mass := m.smaller(f.Theta); separation == 4 && mass < lastLoss-1e-6 {
				t.Errorf("uniform, %s: the smaller hump has %v, after %v", text, mass, lastLoss)
			} else {
				lastLoss = mass
			}
		}
		if separation == 6 && last > 0.01 {
			t.Errorf("Neyman χ² leaves %v to the smaller hump, want next to nothing", last)
		}
	}
}

func TestFaults(t *testing.T) {
	if _, err := fit.New([][]float64{{1}}, []float64{0}); err == nil {
		t.Error("one cell is no problem")
	}
	if _, err := fit.New([][]float64{{1}, {2}}, []float64{0}); err == nil {
		t.Error("lengths that differ are accepted")
	}
}
