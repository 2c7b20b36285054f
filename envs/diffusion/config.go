// Package diffusion has the targets that diffusion samplers are compared on:
// densities on R^d, reached from the origin by T steps of a discretised
// stochastic process.
//
// The reference process is Brownian motion of variance σ² per unit of time from
// x_0 = 0, and T steps take one unit: Δ = 1/T. A forward action is the next point,
// x_{t+1}; the point after the last step is the object. The way back from x_t is
// the reference pinned at the origin, a Brownian bridge (a model's P_B), and its
// last step, to x_0, is forced. This is the setting of path integral samplers
// (Zhang & Chen, ICLR 2022), in discrete time as a GFlowNet (Lahlou et al., ICML
// 2023; Sendera et al., NeurIPS 2024).
package diffusion

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Name is the environment's in the registry.
const Name = "diffusion"

const (
	maxSteps = 1000
	maxDim   = 256
	maxSigma = 1e3
	maxTilt  = 100
)

// Config is one target with its process.
type Config struct {
	Target string  // one of Targets
	Dim    int     // coordinates; 0: the target's own
	Steps  int     // T
	Sigma  float64 // σ
	Tilt   float64 // tilt25 only
}

// Default is the grid of 25 Gaussians.
func Default() Config { return Config{Target: "gauss25", Steps: 50, Sigma: 2.5, Tilt: 0.5} }

// Bind names the fields of c as parameters.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.Text("target", &c.Target, "gauss25, funnel, manywell, or tilt25, a reward to tune a prior with (loss.prior)"),
		params.Int("dim", &c.Dim, "coordinates of a point; 0 for the target's own (gauss25 2, funnel 10, manywell 32)"),
		params.Int("steps", &c.Steps, "steps from the origin to the object"),
		params.Float("sigma", &c.Sigma, "noise of the reference process per unit of time, which all steps together take"),
		params.Float("tilt", &c.Tilt, "tilt25 only: log R is tilt times the column of the nearest of the 25 centres, -2 to 2"),
	}
}

// Env is a target on R^d. It implements envs.Env, Described, Moded and Drawn.
type Env struct {
	spec   envs.Spec
	target target
}

// New checks c. Faults are *fielderr.Error, joined when there are several.
func New(c Config) (envs.Env, error) {
	var faults []error
	build, known := targets[c.Target]
	if !known {
		faults = append(faults, fielderr.New("target", c.Target, params.OneOf(c.Target, Targets())))
	}
	if c.Steps < 2 || c.Steps > maxSteps {
		faults = append(faults, fielderr.New("steps", c.Steps, fmt.Sprintf("from 2 to %d", maxSteps)))
	}
	if !(c.Sigma > 0 && c.Sigma <= maxSigma) {
		faults = append(faults, fielderr.New("sigma", c.Sigma, fmt.Sprintf("a number above 0, at most %g", float64(maxSigma))))
	}
	if !(math.Abs(c.Tilt) <= maxTilt) {
		faults = append(faults, fielderr.New("tilt", c.Tilt, fmt.Sprintf("from -%g to %g", float64(maxTilt), float64(maxTilt))))
	}
	var t target
	if known {
		var err error
		if t, err = build(c); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) == 1 {
		return nil, faults[0]
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	dim := t.dim()
	return &Env{target: t, spec: envs.Spec{
		Name: Name, MaxSteps: c.Steps, ActionDim: dim, Dense: 1 + 2*dim, Sigma: c.Sigma,
	}}, nil
}

// Targets are the names of the densities.
func Targets() []string {
	var names []string
	for name := range targets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Spec is the fixed shape of the environment.
func (e *Env) Spec() envs.Spec { return e.spec }

// Facts are exact; log Z of the many-well by quadrature.
func (e *Env) Facts() envs.Facts {
	logZ, f := e.target.logZ(), envs.Facts{MaxSteps: e.spec.MaxSteps}
	f.LogZ = &logZ
	if n := float64(e.target.modes()); n > 0 {
		f.Modes = &n
	}
	if m := math.Exp(e.target.peak()); !math.IsInf(m, 0) {
		f.MaxReward = &m
	}
	return f
}

// NumModes is 25 for gauss25 and 0 for the other targets: the funnel has one mode,
// and the many-well more than are worth numbering.
func (e *Env) NumModes() int { return e.target.modes() }

// Mode is the mode that a terminal row belongs to, -1 for none.
func (e *Env) Mode(s envs.States, row int) int {
	st := s.(*states)
	if !st.Terminal(row) {
		return -1
	}
	return e.target.mode(st.point(row))
}

// Improper says that the rewards alone are no density, which are those of tilt25.
func (e *Env) Improper() bool {
	_, tilts := e.target.(tilted)
	return tilts
}
