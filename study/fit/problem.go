// Package fit finds, without any sampling, what a restricted family can do
// about a target: the one Gaussian over the cells of a grid that minimises a
// divergence D_f(p‖q), the one that minimises a loss E_μ[g(δ)] under a given
// behaviour μ, and the one where on-policy training comes to rest. Expectations
// are sums over the cells in float64. Studies stand beside these what the real
// system learns.
package fit

import (
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/losses"
)

// ErrNoFit says that no start led to a finite result.
var ErrNoFit = errors.New("no fit was found")

// Problem is a target over cells at points of a space. Fits are Gaussians with
// a diagonal covariance over the same points, log q(i) = −½ Σ_d z² − log Σ, as
// policy kind normal has them; their parameters θ are the means of all
// dimensions, then the logarithms of the standard deviations.
type Problem struct {
	points [][]float64
	dim    int
	logR   []float64
	logZ   float64
	logP   []float64 // the target

	low, high, step []float64 // range of the points and distance between neighbours
}

// New takes the coordinates and the log-reward of every cell, which it keeps.
func New(points [][]float64, logR []float64) (*Problem, error) {
	if len(points) < 2 || len(points) != len(logR) {
		return nil, fmt.Errorf("fit: %d points and %d log-rewards; want as many, at least 2", len(points), len(logR))
	}
	p := &Problem{points: points, dim: len(points[0]), logR: logR, logP: make([]float64, len(logR))}
	for d := range p.dim {
		low, high := math.Inf(1), math.Inf(-1)
		for _, x := range points {
			low, high = min(low, x[d]), max(high, x[d])
		}
		p.low, p.high = append(p.low, low), append(p.high, high)
		side := math.Pow(float64(len(points)), 1/float64(p.dim)) // cells a side of a square grid
		p.step = append(p.step, (high-low)/max(side-1, 1))
	}
	top, sum := math.Inf(-1), 0.0
	for _, r := range logR {
		top = max(top, r)
	}
	for _, r := range logR {
		sum += math.Exp(r - top)
	}
	p.logZ = top + math.Log(sum)
	for i, r := range logR {
		p.logP[i] = r - p.logZ
	}
	return p, nil
}

// Dim is the number of dimensions; θ has twice as many numbers.
func (p *Problem) Dim() int { return p.dim }

// LogZ is the exact log normaliser.
func (p *Problem) LogZ() float64 { return p.logZ }

// LogTarget is log p of every cell. It must not be changed.
func (p *Problem) LogTarget() []float64 { return p.logP }

// LogProb writes log q of every cell.
func (p *Problem) LogProb(theta, out []float64) {
	clear(out)
	for d := range p.dim {
		precision := math.Exp(-2 * theta[p.dim+d])
		for i, x := range p.points {
			z := x[d] - theta[d]
			out[i] -= z * z * precision / 2
		}
	}
	top, sum := math.Inf(-1), 0.0
	for _, v := range out {
		top = max(top, v)
	}
	for _, v := range out {
		sum += math.Exp(v - top)
	}
	lse := top + math.Log(sum)
	for i := range out {
		out[i] -= lse
	}
}

// Divergence is D_f(p‖q_θ); +Inf where it has no finite value.
func (p *Problem) Divergence(d losses.Divergence, theta []float64) float64 {
	logQ := make([]float64, len(p.logP))
	p.LogProb(theta, logQ)
	v, err := losses.Between(d, p.logP, logQ)
	if err != nil || math.IsNaN(v) {
		return math.Inf(1)
	}
	return v
}

// score adds up Σ_i weight_i ∇ log q_i over θ: ∂logit/∂mean = z/σ², and
// ∂logit/∂log σ = z²/σ².
func (p *Problem) score(theta, logQ, weight, out []float64) {
	clear(out)
	total := 0.0
	for _, w := range weight {
		total += w
	}
	for d := range p.dim {
		precision := math.Exp(-2 * theta[p.dim+d])
		for i, x := range p.points {
			w := weight[i] - total*math.Exp(logQ[i])
			z := x[d] - theta[d]
			out[d] += w * z * precision
			out[p.dim+d] += w * z * z * precision
		}
	}
}

// fisher is the diagonal of the Fisher matrix of q_θ, the variances of the
// scores: the natural unit of each parameter.
func (p *Problem) fisher(theta, logQ, out []float64) {
	for d := range p.dim {
		precision := math.Exp(-2 * theta[p.dim+d])
		var m1, m2, m4 float64
		for i, x := range p.points {
			q, z := math.Exp(logQ[i]), x[d]-theta[d]
			m1, m2, m4 = m1+q*z, m2+q*z*z, m4+q*z*z*z*z
		}
		out[d] = (m2 - m1*m1) * precision * precision
		out[p.dim+d] = (m4 - m2*m2) * precision * precision
	}
}

// Masses adds up the probabilities of the cells of each class; class −1 is left out.
func Masses(logQ []float64, class []int, classes int) []float64 {
	out := make([]float64, classes)
	for i, lq := range logQ {
		if class[i] >= 0 {
			out[class[i]] += math.Exp(lq)
		}
	}
	return out
}
