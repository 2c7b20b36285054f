package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// Normal is a restricted family: one Gaussian with a diagonal covariance over
// the points that actions lead to (Spec.Points), whatever the state:
//
//	log P_F(a) = −½ Σ_d ((x_{a,d} − mean_d) e^{−log_std_d})² − log Σ
//
// summed up over the legal actions. It has two parameters a dimension, so it
// can cover two humps or seek one, and not fit both. It implements Model.
type Normal struct {
	points   [][]float64
	dim      int
	features int
	layout   Layout
	// Where the points lie, for initial parameters.
	middle, spread []float64
}

// NewNormal returns the model for an environment whose actions are points and
// whose ways back are forced. Faults are *fielderr.Error with path "kind".
func NewNormal(env envs.Spec) (*Normal, error) {
	if len(env.Points) == 0 || len(env.Points) != env.Actions || env.BackwardActions != 0 {
		return nil, fielderr.New("kind", "normal", fmt.Sprintf(
			"mlp or tabular for %s; normal is for environments whose actions are points and whose way back is forced, such as mixture", env.Name))
	}
	m := &Normal{points: env.Points, dim: len(env.Points[0]), features: env.Features}
	m.layout = Layout{}.Append("mean", GroupForward, m.dim).Append("log_std", GroupForward, m.dim)
	for d := range m.dim {
		low, high := math.Inf(1), math.Inf(-1)
		for a, x := range m.points {
			if len(x) != m.dim || x[d]-x[d] != 0 {
				return nil, fmt.Errorf("%w: point %d is %v", ErrShape, a, x)
			}
			low, high = min(low, x[d]), max(high, x[d])
		}
		m.middle, m.spread = append(m.middle, (low+high)/2), append(m.spread, max((high-low)/4, 1e-3))
	}
	return m, nil
}

// normalFromSpec builds the kind "normal"; the widths and activation of the job
// do not concern it, nor does P_B, which has no choice.
func normalFromSpec(p job.Policy, env envs.Spec, flow bool) (Model, error) {
	if flow {
		return nil, fmt.Errorf("%w: kind %s", ErrNoFlow, p.Kind)
	}
	if _, err := uniformBackward(p.Backward); err != nil {
		return nil, err
	}
	m, err := NewNormal(env)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Layout implements Model: "mean" and "log_std", one number a dimension each.
func (m *Normal) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model: a wide Gaussian near the middle of the points, with a
// standard deviation of a quarter of their range. Its mean is off by up to a
// tenth of that, so that seeds differ and none starts on a symmetric saddle.
func (m *Normal) Init(params []float32, seed uint64) {
	r := rng.New(seed, rng.Init, 0)
	for d := range m.dim {
		params[d] = float32(m.middle[d] + (2*r.Float64()-1)*0.1*m.spread[d])
		params[m.dim+d] = float32(math.Log(m.spread[d]))
	}
}

// NewTape implements Model.
func (m *Normal) NewTape() Tape { return newShallowTape(m) }

func (m *Normal) size() int                  { return m.layout.Size() }
func (m *Normal) uniform(dir Direction) bool { return dir == Backward }

func (m *Normal) width(dir Direction) int {
	if dir == Backward {
		return 0
	}
	return len(m.points)
}

// flow is none: an environment of one step has no state between s0 and an object.
func (m *Normal) flow() (Param, bool) { return Param{}, false }

// place is 0: the Gaussian is the same in every state.
func (m *Normal) place(features []int32) (int, error) {
	for _, f := range features {
		if f < 0 || int(f) >= m.features {
			return 0, fmt.Errorf("%w: feature %d, the environment has %d", ErrShape, f, m.features)
		}
	}
	return 0, nil
}

func (m *Normal) logits(params []float32, _ Direction, _ int, out []float64) {
	clear(out)
	for d := range m.dim {
		mean, precision := float64(params[d]), math.Exp(-2*float64(params[m.dim+d]))
		for a, x := range m.points {
			z := x[d] - mean
			out[a] -= z * z * precision / 2
		}
	}
}

// descend uses ∂logit/∂mean = z/σ² and ∂logit/∂log σ = z²/σ², z = x − mean.
func (m *Normal) descend(params []float32, _ Direction, _ int, d []float64, grad []float32) {
	for k := range m.dim {
		mean, precision := float64(params[k]), math.Exp(-2*float64(params[m.dim+k]))
		first, second := 0.0, 0.0
		for a, x := range m.points {
			z := x[k] - mean
			first += float64(d[a] * z)
			second += float64(d[a] * z * z)
		}
		grad[k] += float32(first * precision)
		grad[m.dim+k] += float32(second * precision)
	}
}
