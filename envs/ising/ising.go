// Package ising is the nearest-neighbour Ising model on a torus: every site of an
// L1 × L2 lattice, periodic both ways, gets a spin up or down, and
//
//	log R(x) = xᵀ J x = 2σ · Σ over the 2·L1·L2 bonds of x_i x_j,   x_i ∈ {−1, +1},
//
// with J = σ × the adjacency matrix of the torus, so every bond counts twice. That is
// the definition of gfnx (`IsingRewardModule` with the true J) and of torchgfn
// (`IsingModel`, energy −xᵀJx); in the physics of Onsager it is a coupling K = 2σ,
// critical at σ = ln(1 + √2)/4 ≈ 0.2203. Positive σ is a ferromagnet.
package ising

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Config is one lattice.
type Config struct {
	L1, L2 int     // rows and columns, at least 3 each
	Sigma  float64 // σ
	Order  string  // places.Any: sites in any order; places.Left: row by row
}

// maxSigma keeps log-rewards meaningful in a float64.
const maxSigma = 1000

// Default is the lattice of published baselines, but smaller.
func Default() Config { return Config{L1: 6, L2: 6, Sigma: 0.1, Order: places.Any} }

// Bind names the fields of c as parameters.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.Int("l1", &c.L1, "rows of the torus"),
		params.Int("l2", &c.L2, "columns of the torus"),
		params.Float("sigma", &c.Sigma, "coupling: log R = 2 sigma times the sum over bonds; above 0.2203 it is ordered"),
		params.Text("order", &c.Order, "any: sites in any order; left: row by row, from left to right"),
	}
}

// New returns the lattice. It is an envs.Described, and an envs.Enumerable when it
// is small; its States are an envs.Potential. Faults in c are *fielderr.Error,
// joined when there are several.
func New(c Config) (envs.Env, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	shape := places.Shape{Name: "ising", Places: c.L1 * c.L2, Vocabulary: 2, Order: c.Order}
	if err := shape.Check("l1", "l2"); err != nil {
		return nil, err
	}
	l := &Lattice{Env: places.New(shape, torus{l1: c.L1, l2: c.L2, sigma: c.Sigma}), c: c}
	if listing, ok := places.List(l.Env); ok {
		return &Listed{Lattice: l, Listing: listing}, nil
	}
	return l, nil
}

func (c Config) validate() error {
	var faults []error
	fault := func(path string, value any, want string) {
		faults = append(faults, fielderr.New(path, value, want))
	}
	// On a torus of one or two rows a site is its own neighbour, or the same one twice.
	const sides = "an integer from 3 to 1000"
	if c.L1 < 3 || c.L1 > 1000 {
		fault("l1", c.L1, sides)
	}
	if c.L2 < 3 || c.L2 > 1000 {
		fault("l2", c.L2, sides)
	}
	if !(math.Abs(c.Sigma) <= maxSigma) {
		fault("sigma", c.Sigma, fmt.Sprintf("a number from -%d to %d", maxSigma, maxSigma))
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// Lattice is a lattice of any size. Token 0 is a spin of −1, token 1 of +1; the
// place of a site is row × L2 + column.
type Lattice struct {
	*places.Env
	c Config
}

// Listed is a Lattice that is small enough to enumerate.
type Listed struct {
	*Lattice
	places.Listing
}

// Facts are exact. LogZ comes from the transfer matrix (see logZ), whatever the
// number of objects, and is nil when both sides are longer than 12, and for a very
// strong antiferromagnet with an odd side. Modes are the two aligned states of a
// ferromagnet.
func (l *Lattice) Facts() envs.Facts {
	f := envs.Facts{MaxSteps: l.Spec().MaxSteps}
	if cells := math.Exp2(float64(l.c.L1 * l.c.L2)); !math.IsInf(cells, 0) {
		f.Cells = &cells
	}
	if z, ok := logZ(l.c.L1, l.c.L2, l.c.Sigma); ok {
		f.LogZ = &z
	}
	if l.c.Sigma >= 0 {
		if best := math.Exp(4 * l.c.Sigma * float64(l.c.L1*l.c.L2)); !math.IsInf(best, 0) {
			f.MaxReward = &best
		}
	}
	if l.c.Sigma > 0 {
		two := 2.0
		f.Modes = &two
	}
	return f
}

// torus is the Task.
type torus struct {
	l1, l2 int
	sigma  float64
}

func (t torus) LogReward(tokens []int32) float64 { return t.LogPotential(tokens) }

// LogPotential is the part of log R that the bonds between set spins have.
func (t torus) LogPotential(tokens []int32) float64 {
	sum := 0
	for i := range t.l1 {
		row := tokens[i*t.l2 : (i+1)*t.l2]
		below := tokens[(i+1)%t.l1*t.l2:][:t.l2]
		for j, s := range row {
			sum += bond(s, below[j])
			if j++; j == t.l2 {
				j = 0
			}
			sum += bond(s, row[j])
		}
	}
	return 2 * t.sigma * float64(sum)
}

// bond is x_i x_j, 0 where one of the spins is not set.
func bond(a, b int32) int {
	switch {
	case a == places.Empty || b == places.Empty:
		return 0
	case a == b:
		return 1
	}
	return -1
}

// AppendText appends the rows of spins, such as "+-+/--+/+++"; "." is not set.
func (t torus) AppendText(dst []byte, tokens []int32) []byte {
	for i, s := range tokens {
		if i > 0 && i%t.l2 == 0 {
			dst = append(dst, '/')
		}
		dst = append(dst, ".-+"[s+1])
	}
	return dst
}

func (t torus) ReadText(tokens []int32, text string) error {
	rows := strings.Split(strings.TrimSpace(text), "/")
	if len(rows) != t.l1 {
		return fmt.Errorf("%w: %.80q has %d rows; want %d rows of %d spins, + or -, with / between the rows", places.ErrText, text, len(rows), t.l1, t.l2)
	}
	for i, row := range rows {
		if len(row) != t.l2 {
			return fmt.Errorf("%w: row %d of %.80q is %.40q; want %d spins, + or -", places.ErrText, i, text, row, t.l2)
		}
		for j := range row {
			switch row[j] {
			case '-':
				tokens[i*t.l2+j] = 0
			case '+':
				tokens[i*t.l2+j] = 1
			default:
				return fmt.Errorf("%w: spin %d of row %d of %.80q is %q; want + or -", places.ErrText, j, i, text, row[j])
			}
		}
	}
	return nil
}
