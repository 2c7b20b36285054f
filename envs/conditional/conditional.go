// Package conditional makes one environment of a family of targets: those of a given
// environment at several temperatures, R(x)^β for each β of a list.
//
// The condition is the first action of a trajectory, so that it travels, is replayed
// and is archived as every action is; after it the given environment goes on as it
// would alone. The objects are pairs (c, x), and the features of a state are those of
// the given environment followed by a thermometer of the condition: feature i is
// active from condition i upwards, and none before the choice.
//
// That is one GFlowNet over pairs, not one whose conditions are drawn from outside.
// With rewards R(c, x) = w_c·R(x)^β_c the model's P(x | c) is R(x)^β_c / Z_c whatever
// the weights are, and P_F(c | s0) is w_c·Z_c / Σ w·Z. So log Z + log P_F(c | s0) is
// the learned log(w_c·Z_c), a log Z for each condition. Weights are a choice:
//
//   - Equal: w_c = 1/Z_c, with the exact Z_c: every condition has the same share.
//   - Natural: w_c = 1: a condition has a share in proportion to its Z_c.
package conditional

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Shares of the conditions.
const (
	Equal   = "equal"
	Natural = "natural"
)

// maxConditions is the most conditions.
const maxConditions = 256

// Config is a hypergrid at several temperatures.
type Config struct {
	Grid   hypergrid.Config
	Betas  []float64 // ascending, above 0
	Shares string    // Equal or Natural
}

// Default is a small grid at three temperatures.
func Default() Config {
	c := Config{Grid: hypergrid.Default(), Betas: []float64{0.25, 0.5, 1}, Shares: Equal}
	c.Grid.Dim = 2
	return c
}

// Bind names the fields of c as parameters: a hypergrid's, and two more.
func Bind(c *Config) []params.Binding {
	return append(hypergrid.Bind(&c.Grid),
		params.Floats("betas", &c.Betas, "the conditions, ascending: under each the target is R^(exponent beta)"),
		params.Text("shares", &c.Shares, "equal: every condition has the same share; natural: in proportion to its Z"))
}

// New returns the environment. It is an envs.Described, envs.Moded and
// envs.Conditional, and an envs.Enumerable when it is small. Faults in c are
// *fielderr.Error.
func New(c Config) (envs.Env, error) {
	grid, err := hypergrid.New(c.Grid)
	if err != nil {
		return nil, err
	}
	if n := len(c.Betas); n < 1 || n > maxConditions || !slices.IsSorted(c.Betas) || len(slices.Compact(slices.Clone(c.Betas))) < n {
		return nil, fielderr.New("betas", c.Betas, fmt.Sprintf("1 to %d different numbers, ascending", maxConditions))
	}
	if c.Shares != Equal && c.Shares != Natural {
		return nil, fielderr.New("shares", c.Shares, params.OneOf(c.Shares, []string{Equal, Natural}))
	}
	e := &Env{inner: grid, betas: c.Betas, offset: make([]float64, len(c.Betas))}
	e.facts.MaxSteps = 1 + grid.Spec().MaxSteps
	logZ, best := math.Inf(-1), math.Inf(-1)
	for i, beta := range c.Betas {
		at := c.Grid
		at.Exponent *= beta
		hot, err := hypergrid.New(at)
		if err != nil || !(beta > 0) {
			return nil, fielderr.New("betas", beta, "numbers above 0 that leave rewards finite")
		}
		f := envs.FactsOf(hot)
		if f.LogZ == nil || f.MaxReward == nil {
			return nil, fielderr.New("betas", beta, "numbers for which log Z is known: this grid's is not at that one")
		}
		if c.Shares == Equal {
			e.offset[i] = -*f.LogZ
		}
		e.logZ = append(e.logZ, *f.LogZ)
		logZ = envs.LogAdd(logZ, *f.LogZ+e.offset[i])
		best = max(best, math.Log(*f.MaxReward)+e.offset[i])
	}
	e.describe(envs.FactsOf(grid), logZ, best)
	if l, ok := grid.(envs.Enumerable); ok && (len(c.Betas)*max(l.NumStates(), l.NumObjects()))+1 <= envs.MaxStates {
		return &listed{e, l}, nil
	}
	return e, nil
}

// Env is the environment of pairs.
type Env struct {
	inner  envs.Env
	betas  []float64
	offset []float64 // log of the weights
	logZ   []float64 // of each condition, without its weight
	facts  envs.Facts
}

func (e *Env) describe(inner envs.Facts, logZ, best float64) {
	n := float64(len(e.betas))
	e.facts.LogZ = &logZ
	if r := math.Exp(best); !math.IsInf(r, 0) {
		e.facts.MaxReward = &r
	}
	times := func(v *float64) *float64 {
		if v == nil || math.IsInf(*v*n, 0) {
			return nil
		}
		product := *v * n
		return &product
	}
	e.facts.Cells, e.facts.Modes = times(inner.Cells), times(inner.Modes)
}

// Spec is the fixed shape of the environment.
func (e *Env) Spec() envs.Spec {
	s, n := e.inner.Spec(), len(e.betas)
	s.Name = "hypergrid_conditional"
	s.Actions += n
	s.Features += n
	s.MaxActive += n
	s.MaxSteps++
	return s
}

// Facts are exact; modes are counted once for each condition.
func (e *Env) Facts() envs.Facts { return e.facts }

// NumModes is that of the grid times the number of conditions; 0 when those are too
// many to number.
func (e *Env) NumModes() int {
	if m, ok := e.inner.(envs.Moded); ok && e.facts.Modes != nil {
		return m.NumModes() * len(e.betas)
	}
	return 0
}

// Mode is the grid's, numbered condition by condition.
func (e *Env) Mode(s envs.States, row int) int {
	st, n := s.(*states), e.NumModes()/len(e.betas)
	if n == 0 || !st.Terminal(row) {
		return -1
	}
	mode := e.inner.(envs.Moded).Mode(st.inner, row)
	if mode >= 0 {
		mode += n * int(st.chosen[row])
	}
	return mode
}

// Conditions are named by their β.
func (e *Env) Conditions() []string {
	out := make([]string, len(e.betas))
	for i := range out {
		out[i] = "beta=" + strconv.FormatFloat(e.betas[i], 'g', -1, 64)
	}
	return out
}

// Condition is that of a row, -1 before the choice.
func (e *Env) Condition(s envs.States, row int) int { return int(s.(*states).chosen[row]) }

// LogZ is the exact log Z_c of every condition, without its weight.
func (e *Env) LogZ() []float64 { return slices.Clone(e.logZ) }

// listed is an Env that is small enough to enumerate: s0, then the states of the
// grid once for each condition.
type listed struct {
	*Env
	list envs.Enumerable
}

func (l *listed) NumStates() int  { return 1 + len(l.betas)*l.list.NumStates() }
func (l *listed) NumObjects() int { return len(l.betas) * l.list.NumObjects() }

func (l *listed) Load(s envs.States, row int, state int) {
	st := s.(*states)
	if state == 0 {
		l.list.Load(st.inner, row, 0)
		st.chosen[row] = unset
		return
	}
	state--
	l.list.Load(st.inner, row, state%l.list.NumStates())
	st.chosen[row] = int32(state / l.list.NumStates())
}

func (l *listed) Child(state int, action int) (to int, terminal bool) {
	n := l.list.NumStates()
	if state == 0 {
		return 1 + (action-l.inner.Spec().Actions)*n, false
	}
	c, at := (state-1)/n, (state-1)%n
	if to, terminal = l.list.Child(at, action); terminal {
		return c*l.list.NumObjects() + to, true
	}
	return 1 + c*n + to, false
}

func (l *listed) Object(s envs.States, row int) int {
	st := s.(*states)
	return int(st.chosen[row])*l.list.NumObjects() + l.list.Object(st.inner, row)
}

func (l *listed) LogRewards(out []float64) {
	n := l.list.NumObjects()
	l.list.LogRewards(out[:n])
	for c := len(l.betas) - 1; c >= 0; c-- { // the first is where the rewards are
		for i, r := range out[:n] {
			out[c*n+i] = l.betas[c]*r + l.offset[c]
		}
	}
}
