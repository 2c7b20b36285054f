package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// TabularConfig describes a table.
type TabularConfig struct {
	UniformBackward bool // as in MLPConfig
	Flow            bool // log F(s) of every state, as a number of its own
}

// maxTable is the most numbers of a Tabular: beyond that most of them would
// belong to states that are never seen.
const maxTable = 1 << 24

// Tabular has a logit of its own for every state and action, and if asked for log F
// of every state, so it represents every policy and every flow of an environment that
// is small enough. It implements Model.
//
// States are told apart by their features. Where a state is a row of places
// that each hold a token or are empty (Spec.Positions), its number has one digit
// in base Vocabulary + 1 for each place, 0 where it is empty; features that come
// after those, and all features of other environments, are digits in base 2,
// unless at most one of them is active. So the table also has rows for
// combinations that no state has.
type Tabular struct {
	spec         envs.Spec
	single       bool // at most one feature is active
	rows         int
	uniformB     bool
	flows        bool
	layout       Layout
	table        [3]Param // by Direction, and flow
	actions      [2]int
	first, extra int // features of the places, and after them
}

// NewTabular returns the model for an environment. The fault of one with too
// many states is a *fielderr.Error with path "kind".
func NewTabular(c TabularConfig, env envs.Spec) (*Tabular, error) {
	if env.Features < 1 || env.Actions < 1 || env.BackwardActions < 0 {
		return nil, fielderr.New("kind", "tabular", fmt.Sprintf("an environment with discrete actions and features; %s has %d actions and %d features",
			env.Name, env.Actions, env.Features))
	}
	m := &Tabular{
		spec: env, single: env.Positions == 0 && env.MaxActive == 1, uniformB: c.UniformBackward || env.BackwardActions == 0, flows: c.Flow,
		actions: [2]int{Forward: env.Actions, Backward: env.BackwardActions},
		first:   env.Positions * env.Vocabulary,
	}
	m.extra = env.Features - m.first
	perRow := float64(env.Actions)
	if !m.uniformB {
		perRow += float64(env.BackwardActions)
	}
	if m.flows {
		perRow++
	}
	rows := float64(env.Features + 1)
	if !m.single {
		rows = math.Pow(float64(env.Vocabulary+1), float64(env.Positions)) * math.Pow(2, float64(m.extra))
	}
	if m.extra < 0 || rows*perRow > maxTable {
		return nil, fielderr.New("kind", "tabular", fmt.Sprintf(
			"mlp, or a smaller environment: a table for %s would have %.3g rows × %.0f numbers; at most %d are allowed", env.Name, rows, perRow, maxTable))
	}
	m.rows = int(rows)
	m.layout = Layout{}.Append("table.forward", GroupForward, m.rows, env.Actions)
	m.table[Forward] = m.layout[0]
	if !m.uniformB {
		m.layout = m.layout.Append("table.backward", GroupBackward, m.rows, env.BackwardActions)
		m.table[Backward] = m.layout[1]
	}
	if m.flows {
		m.layout = m.layout.Append("table.flow", GroupFlow, m.rows)
		m.table[flow] = m.layout[len(m.layout)-1]
	}
	return m, nil
}

// tabularFromSpec builds the kind "tabular"; the widths and activation of the
// job do not concern it.
func tabularFromSpec(p job.Policy, env envs.Spec, flow bool) (Model, error) {
	uniform, err := uniformBackward(p.Backward)
	if err != nil {
		return nil, err
	}
	m, err := NewTabular(TabularConfig{UniformBackward: uniform, Flow: flow}, env)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// uniformBackward says whether a job's P_B has no parameters.
func uniformBackward(mode string) (bool, error) {
	switch mode {
	case "joint", "frozen", "max_likelihood":
		return false, nil
	case "uniform":
		return true, nil
	}
	return false, fielderr.New("backward", mode, "joint, frozen, uniform or max_likelihood")
}

// Layout implements Model.
func (m *Tabular) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model: logits and log F uniform in ±0.01, so the policies are
// nearly uniform over the legal actions.
func (m *Tabular) Init(params []float32, seed uint64) {
	for i, p := range m.layout {
		r := rng.New(seed, rng.Init, uint64(i))
		values := p.of(params)
		for j := range values {
			values[j] = float32((2*r.Float64() - 1) * 0.01)
		}
	}
}

// NewTape implements Model.
func (m *Tabular) NewTape() Tape { return newShallowTape(m) }

func (m *Tabular) size() int                  { return m.layout.Size() }
func (m *Tabular) width(dir Direction) int    { return m.actions[dir] }
func (m *Tabular) uniform(dir Direction) bool { return dir == Backward && m.uniformB }
func (m *Tabular) flow() (Param, bool)        { return m.table[flow], m.flows }

// place is the number of the state.
func (m *Tabular) place(features []int32) (int, error) {
	n, unit, last := 0, 1, -1
	base, position := m.spec.Vocabulary+1, 0
	for _, f := range features {
		if f < 0 || int(f) >= m.spec.Features || int(f) <= last {
			return 0, fmt.Errorf("%w: features %v are not ascending below %d", ErrShape, features, m.spec.Features)
		}
		last = int(f)
		switch {
		case m.single:
			if n > 0 {
				return 0, fmt.Errorf("%w: features %v, of which at most one is active", ErrShape, features)
			}
			n = int(f) + 1
		case int(f) < m.first:
			at, token := int(f)/m.spec.Vocabulary, int(f)%m.spec.Vocabulary
			if at < position {
				return 0, fmt.Errorf("%w: features %v give place %d two tokens", ErrShape, features, at)
			}
			for ; position < at; position++ {
				unit *= base
			}
			n += unit * (token + 1)
			unit *= base
			position++
		default:
			for ; position < m.spec.Positions; position++ {
				unit *= base
			}
			n += unit << (int(f) - m.first)
		}
	}
	return n, nil
}

func (m *Tabular) row(flat []float32, dir Direction, place int) []float32 {
	width := m.actions[dir]
	return flat[m.table[dir].Offset+place*width:][:width]
}

func (m *Tabular) logits(params []float32, dir Direction, place int, out []float64) {
	for a, v := range m.row(params, dir, place) {
		out[a] = float64(v)
	}
}

func (m *Tabular) descend(_ []float32, dir Direction, place int, d []float64, grad []float32) {
	row := m.row(grad, dir, place)
	for a, v := range d {
		row[a] += float32(v)
	}
}
