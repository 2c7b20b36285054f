package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/kernels"
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
	head     heads
}

// NewMLP returns the model for an environment with so many features, forward
// and backward actions. Faults are *fielderr.Error, named like job.Policy's.
func NewMLP(c MLPConfig, features, actions, backwardActions int) (*MLP, error) {
	if features < 1 || actions < 1 || backwardActions < 0 {
		return nil, fmt.Errorf("%w: %d features, %d forward and %d backward actions",
			ErrShape, features, actions, backwardActions)
	}
	m := &MLP{features: features}
	var err error
	if m.act, err = activation(c.Activation); err != nil {
		return nil, err
	}
	last := 0
	if n := len(c.Hidden); n > 0 {
		last = c.Hidden[n-1]
	}
	m.head = newHeads(last, actions, backwardActions, c.UniformBackward, c.Flow)
	if err := checkWidths(features, c.Hidden, m.head.outs()...); err != nil {
		return nil, err
	}
	in := features
	for i, width := range c.Hidden {
		m.trunk = append(m.trunk, m.layout.add(fmt.Sprintf("trunk.%d", i), GroupForward, in, width))
		in = width
	}
	m.head.append(&m.layout)
	return m, nil
}

// Layout implements Model.
func (m *MLP) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model: weights and biases uniform in ±1/√(fan in). The fan-in of
// the first layer is the number of features, active or not. Every layer has a
// stream of its own, so a model with a P_B head starts from the same trunk and P_F
// as the one without.
func (m *MLP) Init(params []float32, seed uint64) {
	for i, l := range append(m.trunk[:len(m.trunk):len(m.trunk)], m.head.learned()...) {
		l.draw(params, seed, uint64(i), 1)
	}
}

// NewTape implements Model.
func (m *MLP) NewTape() Tape {
	return newTape(m)
}
