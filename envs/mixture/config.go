// Package mixture holds the smallest environments there are: one step from s0
// to one of n objects. A mixture's objects are the cells of a 1-D or 2-D grid,
// and its reward a sum of Gaussian humps: the target of the textbook picture in
// which one Gaussian is fitted to two humps. A categorical has any rewards.
//
// One trajectory leads to each object, so distributions over trajectories and
// over objects are the same, P_B is 1 everywhere, and the f-TB theorem needs
// nothing but the exact log Z.
package mixture

import (
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// maxCells bounds the number of actions, and with it a row of logits.
const maxCells = 1 << 16

// Config is one mixture: R(x) = Σ_k w_k N(x; m_k, s_k² I) at the centres x of
// the cells.
type Config struct {
	Dim       int     // coordinates of a cell: 1 or 2
	Cells     int     // cells a side
	Low, High float64 // range of every coordinate, from edge to edge
	// Weights are the masses w_k of the humps; their number is that of humps.
	Weights []float64
	// Separation is the distance between neighbouring humps, which lie along the
	// first coordinate around the middle of the range, when there are no Means.
	Separation float64
	// Widths are the standard deviations s_k: one for each hump, or one for all.
	Widths []float64
	// Means are the coordinates of the humps, Dim numbers for each; empty: by Separation.
	Means []float64
}

// Default is two humps of unequal mass that no single Gaussian fits.
func Default() Config {
	return Config{Dim: 1, Cells: 64, Low: -8, High: 8, Weights: []float64{0.7, 0.3}, Separation: 6, Widths: []float64{1}}
}

// Bind names the fields of c as parameters.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.Int("dim", &c.Dim, "coordinates of a cell, 1 or 2"),
		params.Int("cells", &c.Cells, "cells a side"),
		params.Float("low", &c.Low, "lower edge of every coordinate"),
		params.Float("high", &c.High, "upper edge of every coordinate"),
		params.Floats("weights", &c.Weights, "masses of the humps, one for each"),
		params.Float("separation", &c.Separation, "distance between neighbouring humps, along the first coordinate around the middle"),
		params.Floats("widths", &c.Widths, "standard deviations of the humps, one for each or one for all"),
		params.Floats("means", &c.Means, "coordinates of the humps, dim numbers for each, in place of separation"),
	}
}

// New returns the mixture: an envs.Enumerable, envs.Moded and envs.Described.
// Faults in c are *fielderr.Error, joined when there are several.
func New(c Config) (envs.Env, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	m := &Mixture{table: newTable("mixture", c.Cells, c.Dim)}
	m.spec.Points = c.centres()
	m.logR = make([]float64, len(m.spec.Points))
	m.hump = make([]int32, len(m.spec.Points))
	humps := c.humps()
	m.humps = len(humps)
	share := make([]float64, len(humps))
	for cell, x := range m.spec.Points {
		best := 0
		for k, h := range humps {
			if share[k] = h.logDensity(x); share[k] > share[best] {
				best = k
			}
		}
		m.hump[cell] = int32(best)
		m.logR[cell] = logSum(share)
	}
	found := make([]bool, len(humps))
	for _, k := range m.hump {
		found[k] = true
	}
	for k, ok := range found {
		if !ok {
			return nil, fielderr.New("weights", c.Weights, fmt.Sprintf("humps that can be told apart: hump %d, at %v, is the largest one in no cell", k, humps[k].mean))
		}
	}
	return m, nil
}

func (c Config) validate() error {
	var faults []error
	fault := func(path string, value any, want string) {
		faults = append(faults, fielderr.New(path, value, want))
	}
	if c.Dim != 1 && c.Dim != 2 {
		fault("dim", c.Dim, "1 or 2")
	}
	limit := maxCells
	if c.Dim == 2 {
		limit = 1 << 8
	}
	if c.Cells < 2 || c.Cells > limit {
		fault("cells", c.Cells, fmt.Sprintf("an integer from 2 to %d (a mixture is limited to %d cells)", limit, maxCells))
	}
	if !finite(c.Low) || !finite(c.High) || !(c.Low < c.High) || !finite(c.High-c.Low) {
		fault("high", c.High, fmt.Sprintf("a finite number above low (%v)", c.Low))
	}
	if len(c.Weights) < 1 || len(c.Weights) > 64 {
		fault("weights", c.Weights, "1 to 64 humps")
	}
	positive := func(path string, list []float64) {
		for i, v := range list {
			if !(v > 0) || math.IsInf(v, 0) {
				fault(fmt.Sprintf("%s[%d]", path, i), v, "a finite number above 0")
			}
		}
	}
	positive("weights", c.Weights)
	positive("widths", c.Widths)
	if n := len(c.Widths); n != 1 && n != len(c.Weights) {
		fault("widths", c.Widths, fmt.Sprintf("one number, or %d, as many as weights", len(c.Weights)))
	}
	if n := len(c.Means); n != 0 && n != len(c.Weights)*c.Dim {
		fault("means", c.Means, fmt.Sprintf("no number, or %d: dim for each of the weights", len(c.Weights)*c.Dim))
	}
	for i, v := range c.Means {
		if !(v >= c.Low && v <= c.High) {
			fault(fmt.Sprintf("means[%d]", i), v, fmt.Sprintf("a number within the range, from %v to %v", c.Low, c.High))
		}
	}
	if span := c.Separation * float64(len(c.Weights)-1); len(c.Means) == 0 && !(c.Separation >= 0 && span <= c.High-c.Low) {
		fault("separation", c.Separation, fmt.Sprintf("a number of at least 0 with which all humps lie within the range of %v", c.High-c.Low))
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// centres are the coordinates of all cells by number, coordinate 0 the lowest digit.
func (c Config) centres() [][]float64 {
	step := (c.High - c.Low) / float64(c.Cells)
	at := func(i int) float64 { return c.Low + (float64(i)+0.5)*step }
	out := make([][]float64, 0, c.Cells)
	if c.Dim == 1 {
		for i := range c.Cells {
			out = append(out, []float64{at(i)})
		}
		return out
	}
	for j := range c.Cells {
		for i := range c.Cells {
			out = append(out, []float64{at(i), at(j)})
		}
	}
	return out
}

// hump is one weighted Gaussian.
type hump struct {
	logWeight, width float64
	mean             []float64
}

func (c Config) humps() []hump {
	out := make([]hump, len(c.Weights))
	middle := (c.Low + c.High) / 2
	for k, w := range c.Weights {
		h := hump{logWeight: math.Log(w), width: c.Widths[min(k, len(c.Widths)-1)], mean: make([]float64, c.Dim)}
		if len(c.Means) > 0 {
			copy(h.mean, c.Means[k*c.Dim:])
		} else {
			for i := range h.mean {
				h.mean[i] = middle
			}
			h.mean[0] += (float64(k) - float64(len(c.Weights)-1)/2) * c.Separation
		}
		out[k] = h
	}
	return out
}

// logDensity is log w N(x; m, s² I).
func (h hump) logDensity(x []float64) float64 {
	out := h.logWeight
	for i, v := range x {
		z := (v - h.mean[i]) / h.width
		out -= z*z/2 + math.Log(h.width*math.Sqrt(2*math.Pi))
	}
	return out
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// logSum is log Σ e^x of finite numbers.
func logSum(xs []float64) float64 {
	top := xs[0]
	for _, x := range xs {
		top = max(top, x)
	}
	sum := 0.0
	for _, x := range xs {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}
