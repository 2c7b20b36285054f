package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/kernels"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// Optimiser groups of the parameters.
const (
	GroupForward  = "forward"  // the trunk and the P_F head
	GroupBackward = "backward" // the P_B head
	GroupFlow     = "flow"     // the head of log F(s)
	GroupLogZ     = "log_z"    // a learned log Z, appended by the learner
)

const (
	maxLayers = 64
	maxWidth  = 1 << 16
)

// MaxParams is the largest number of parameters that a model may have: 4 bytes
// each fill a job's state of 256 MiB, with nothing left for an optimiser. What
// that leaves of them is for the learner to say.
const MaxParams = 256 << 20 / 4

// MLPConfig describes a multilayer perceptron.
type MLPConfig struct {
	Hidden     []int  // widths of the hidden layers, at least one
	Activation string // relu, leaky_relu (slope 0.01) or tanh
	// UniformBackward makes log P_B = −log(number of legal backward actions),
	// without a P_B head; otherwise P_B is learned.
	UniformBackward bool
	// Flow adds a head with one output, log F(s), the log of the flow through a
	// state, for objectives that balance more than whole trajectories.
	Flow bool
}

// MLP is a trunk of dense layers over sparse binary features, shared by a P_F
// head and, unless P_B is uniform, a P_B head; and by a head of log F(s), if
// there is one. It implements Model.
//
// The matrices of the trunk have shape [in, out], so that a state's first
// layer is a sum of rows; those of the heads have shape [out, in], because a
// head has few outputs.
type MLP struct {
	features int
	act      kernels.Activation
	layout   Layout
	trunk    []dense
	head     [3]head // by Direction, and flow
}

// flow is the place of the head of log F(s) behind those of the two directions.
const flow Direction = 2

// dense is one layer of the trunk.
type dense struct {
	weight, bias Param
	in, out      int
}

// head is one policy, or the flow, over the trunk's output.
type head struct {
	dense
	uniform bool // no parameters: a uniform policy, or no flow
}

// NewMLP returns the model for an environment with so many features, forward
// and backward actions. Faults are *fielderr.Error, named like job.Policy's.
func NewMLP(c MLPConfig, features, actions, backwardActions int) (*MLP, error) {
	if features < 1 || actions < 1 || backwardActions < 0 {
		return nil, fmt.Errorf("%w: %d features, %d forward and %d backward actions",
			ErrShape, features, actions, backwardActions)
	}
	m := &MLP{features: features}
	switch c.Activation {
	case "relu":
		m.act = kernels.ReLU
	case "leaky_relu":
		m.act = kernels.LeakyReLU
	case "tanh":
		m.act = kernels.Tanh
	default:
		return nil, fielderr.New("activation", c.Activation, "relu, leaky_relu or tanh")
	}
	if n := len(c.Hidden); n < 1 || n > maxLayers {
		return nil, fielderr.New("hidden", c.Hidden, fmt.Sprintf("1 to %d widths", maxLayers))
	}
	for i, width := range c.Hidden {
		if width < 1 || width > maxWidth {
			return nil, fielderr.New(fmt.Sprintf("hidden[%d]", i), width, fmt.Sprintf("a width from 1 to %d", maxWidth))
		}
	}
	heads := []int{actions}
	if !c.UniformBackward && backwardActions > 0 {
		heads = append(heads, backwardActions)
	}
	learned := len(heads) > 1
	if c.Flow {
		heads = append(heads, 1)
	}
	if n := parameters(features, c.Hidden, heads); n > MaxParams {
		return nil, fielderr.New("hidden", c.Hidden, fmt.Sprintf(
			"a smaller network: %.0f parameters × 4 bytes = %.0f MiB; a state may have %d MiB", n, math.Ceil(n*4/(1<<20)), MaxParams*4>>20))
	}
	in := features
	for i, width := range c.Hidden {
		m.trunk = append(m.trunk, m.add(fmt.Sprintf("trunk.%d", i), GroupForward, in, width, []int{in, width}))
		in = width
	}
	m.head[Forward].dense = m.add("forward", GroupForward, in, actions, []int{actions, in})
	m.head[Backward] = head{dense: dense{in: in, out: backwardActions}, uniform: !learned}
	if learned {
		m.head[Backward].dense = m.add("backward", GroupBackward, in, backwardActions, []int{backwardActions, in})
	}
	m.head[flow] = head{dense: dense{in: in, out: 1}, uniform: !c.Flow}
	if c.Flow {
		m.head[flow].dense = m.add("flow", GroupFlow, in, 1, []int{1, in})
	}
	return m, nil
}

// parameters counts those of layers of these widths. Widths come from a user's
// file: their products overflow integers, and float64 is exact up to 2⁵³.
func parameters(features int, hidden, heads []int) (n float64) {
	layer := func(in, out int) { n += (float64(in) + 1) * float64(out) } // in weights and a bias for each
	in := features
	for _, width := range hidden {
		layer(in, width)
		in = width
	}
	for _, out := range heads {
		layer(in, out)
	}
	return n
}

// add appends a layer's tensors to the layout.
func (m *MLP) add(name, group string, in, out int, shape []int) dense {
	m.layout = m.layout.Append(name+".weight", group, shape...).Append(name+".bias", group, out)
	n := len(m.layout)
	return dense{weight: m.layout[n-2], bias: m.layout[n-1], in: in, out: out}
}

// Layout implements Model.
func (m *MLP) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model: weights and biases uniform in ±1/√(fan in), the
// default of PyTorch's nn.Linear. The fan-in of the first layer is the number
// of features, active or not. Every layer has a stream of its own, so a model
// with a P_B head starts from the same trunk and P_F as the one without.
func (m *MLP) Init(params []float32, seed uint64) {
	for i, l := range m.layers() {
		r := rng.New(seed, rng.Init, uint64(i))
		bound := 1 / math.Sqrt(float64(l.in))
		for _, p := range []Param{l.weight, l.bias} {
			values := p.of(params)
			for j := range values {
				values[j] = float32((2*r.Float64() - 1) * bound)
			}
		}
	}
}

func (m *MLP) layers() []dense {
	all := append([]dense(nil), m.trunk...)
	for _, h := range m.head {
		if !h.uniform {
			all = append(all, h.dense)
		}
	}
	return all
}

// NewTape implements Model.
func (m *MLP) NewTape() Tape {
	return newTape(m)
}

// of is the tensor's part of a flat vector.
func (p Param) of(flat []float32) []float32 {
	return flat[p.Offset : p.Offset+p.Len()]
}

// matrix is a two-dimensional tensor's part of a flat vector.
func (p Param) matrix(flat []float32) kernels.Matrix {
	return kernels.Dense(p.Shape[0], p.Shape[1], p.of(flat))
}
