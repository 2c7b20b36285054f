package policy

import (
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/kernels"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// TransformerConfig describes a transformer.
type TransformerConfig struct {
	Layers      int    // encoder layers, at least one
	Heads       int    // of attention in each layer; a divisor of Width
	Width       int    // of a token between layers
	Feedforward int    // width of the hidden layer after attention; 0 for 4·Width
	Activation  string // of that layer: relu, leaky_relu (slope 0.01), tanh or gelu
	// UniformBackward makes log P_B = −log(number of legal backward actions),
	// without a P_B head; otherwise P_B is learned.
	UniformBackward bool
}

// Sequence is what a transformer must know of an environment; see envs.Spec.
type Sequence struct {
	Positions, Vocabulary int // feature position·Vocabulary + token: that token is there
	Conditions            int // further features: what the whole state is under
}

// Transformer is a pre-norm encoder (Vaswani et al., 2017; Xiong et al., 2020)
// over the set of the (position, token) pairs of a state and one token more, the
// readout, whose output the heads of P_F and P_B read. Every token attends to
// every other. It implements Model.
//
// A pair's token begins as the sum of the embeddings of its token and its
// position, the readout as the sum of its own and of those of the conditions that
// hold. An empty position is no token: a state has as many as it has pairs, and
// one. LayerNorm has no gain and no bias: a linear layer follows each, which has them.
type Transformer struct {
	seq                             Sequence
	width, heads, headWidth, upward int
	act                             kernels.Activation
	gelu                            bool
	layout                          Layout
	table                           Param // of all embeddings: tokens, positions, conditions, readout
	layers                          []encoderLayer
	head                            [2]head // by Direction
}

// encoderLayer is x ← x + out(attention(in(norm x))), x ← x + down(act(up(norm x))).
type encoderLayer struct {
	in       dense // to queries, keys and values
	out      dense
	up, down dense
}

// NewTransformer returns the model for an environment of such sequences with so
// many forward and backward actions. Faults are *fielderr.Error, named like
// job.Policy's.
func NewTransformer(c TransformerConfig, s Sequence, actions, backwardActions int) (*Transformer, error) {
	if s.Positions < 1 || s.Vocabulary < 1 || s.Conditions < 0 || actions < 1 || backwardActions < 0 {
		return nil, fmt.Errorf("%w: %d positions of %d tokens, %d conditions, %d forward and %d backward actions",
			ErrShape, s.Positions, s.Vocabulary, s.Conditions, actions, backwardActions)
	}
	m := &Transformer{seq: s, width: c.Width, heads: c.Heads, upward: c.Feedforward}
	switch c.Activation {
	case "relu":
		m.act = kernels.ReLU
	case "leaky_relu":
		m.act = kernels.LeakyReLU
	case "tanh":
		m.act = kernels.Tanh
	case "gelu":
		m.gelu = true
	default:
		return nil, fielderr.New("activation", c.Activation, "relu, leaky_relu, tanh or gelu")
	}
	if c.Layers < 1 || c.Layers > maxLayers {
		return nil, fielderr.New("layers", c.Layers, fmt.Sprintf("from 1 to %d layers", maxLayers))
	}
	if c.Width < 1 || c.Width > maxWidth {
		return nil, fielderr.New("width", c.Width, fmt.Sprintf("a width from 1 to %d", maxWidth))
	}
	if c.Heads < 1 || c.Heads > c.Width || c.Width%c.Heads != 0 {
		return nil, fielderr.New("heads", c.Heads, fmt.Sprintf("a divisor of the width (%d)", c.Width))
	}
	if c.Feedforward < 0 || c.Feedforward > 4*maxWidth {
		return nil, fielderr.New("feedforward", c.Feedforward, fmt.Sprintf("a width from 1 to %d, or 0 for four times the width", 4*maxWidth))
	}
	if m.upward == 0 {
		m.upward = 4 * c.Width
	}
	m.headWidth = c.Width / c.Heads
	heads := []int{actions}
	if !c.UniformBackward && backwardActions > 0 {
		heads = append(heads, backwardActions)
	}
	if n := m.parameters(c.Layers, heads); n > MaxParams {
		return nil, fielderr.New("width", c.Width, fmt.Sprintf(
			"a smaller network: %.0f parameters × 4 bytes = %.0f MiB; a state may have %d MiB", n, math.Ceil(n*4/(1<<20)), MaxParams*4>>20))
	}
	m.addEmbeddings()
	for i := range c.Layers {
		name := func(part string) string { return fmt.Sprintf("layer.%d.%s", i, part) }
		m.layers = append(m.layers, encoderLayer{
			in:   m.add(name("attention.in"), GroupForward, m.width, 3*m.width, false),
			out:  m.add(name("attention.out"), GroupForward, m.width, m.width, false),
			up:   m.add(name("feedforward.up"), GroupForward, m.width, m.upward, false),
			down: m.add(name("feedforward.down"), GroupForward, m.upward, m.width, false),
		})
	}
	m.head[Forward].dense = m.add("forward", GroupForward, m.width, actions, true)
	if len(heads) == 1 {
		m.head[Backward] = head{dense: dense{in: m.width, out: backwardActions}, uniform: true}
	} else {
		m.head[Backward].dense = m.add("backward", GroupBackward, m.width, backwardActions, true)
	}
	return m, nil
}

// parameters counts them; see that of the MLP.
func (m *Transformer) parameters(layers int, heads []int) (n float64) {
	w, up := float64(m.width), float64(m.upward)
	n = w * (float64(m.seq.Vocabulary) + float64(m.seq.Positions) + float64(m.seq.Conditions) + 1)
	n += float64(layers) * ((w+1)*3*w + (w+1)*w + (w+1)*up + (up+1)*w)
	for _, out := range heads {
		n += (w + 1) * float64(out)
	}
	return n
}

// addEmbeddings appends them to the layout, one after the other: together they
// are one table.
func (m *Transformer) addEmbeddings() {
	for _, e := range []struct {
		name string
		n    int
	}{{"token", m.seq.Vocabulary}, {"position", m.seq.Positions}, {"condition", m.seq.Conditions}, {"readout", 1}} {
		if e.n > 0 {
			m.layout = m.layout.Append("embedding."+e.name, GroupForward, e.n, m.width)
		}
	}
	size := m.layout.Size()
	m.table = Param{Shape: []int{size / m.width, m.width}}
}

// Rows of the table of embeddings.
func (m *Transformer) tokenRow(token int32) int32       { return token }
func (m *Transformer) positionRow(position int32) int32 { return int32(m.seq.Vocabulary) + position }
func (m *Transformer) conditionRow(condition int32) int32 {
	return int32(m.seq.Vocabulary+m.seq.Positions) + condition
}
func (m *Transformer) readoutRow() int32 { return m.conditionRow(int32(m.seq.Conditions)) }

// features is how many a state may have.
func (m *Transformer) features() int { return m.seq.Positions*m.seq.Vocabulary + m.seq.Conditions }

// add appends a layer's tensors to the layout: [in, out], those of heads [out, in]
// as in the MLP.
func (m *Transformer) add(name, group string, in, out int, head bool) dense {
	shape := []int{in, out}
	if head {
		slices.Reverse(shape)
	}
	m.layout = m.layout.Append(name+".weight", group, shape...).Append(name+".bias", group, out)
	n := len(m.layout)
	return dense{weight: m.layout[n-2], bias: m.layout[n-1], in: in, out: out}
}

// Layout implements Model.
func (m *Transformer) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model. Linear layers are uniform in ±1/√(fan in), as in the MLP,
// but those that write to the residual stream are divided by √(2·layers), so that
// its variance does not grow with the depth (GPT-2: Radford et al., 2019);
// embeddings are normal with variance 1 (PyTorch's nn.Embedding). Each tensor or
// layer has a stream of its own, P_B's the last.
func (m *Transformer) Init(params []float32, seed uint64) {
	stream := uint64(0)
	next := func() uint64 { stream++; return stream - 1 }
	table := m.table.of(params)
	r := rng.New(seed, rng.Init, next())
	for i := range table {
		table[i] = float32(r.NormFloat64())
	}
	uniform := func(l dense, scale float64) {
		r, bound := rng.New(seed, rng.Init, next()), scale/math.Sqrt(float64(l.in))
		for _, p := range []Param{l.weight, l.bias} {
			values := p.of(params)
			for j := range values {
				values[j] = float32((2*r.Float64() - 1) * bound)
			}
		}
	}
	residual := 1 / math.Sqrt(2*float64(len(m.layers)))
	for _, l := range m.layers {
		uniform(l.in, 1)
		uniform(l.out, residual)
		uniform(l.up, 1)
		uniform(l.down, residual)
	}
	for _, h := range m.head {
		if !h.uniform {
			uniform(h.dense, 1)
		}
	}
}

// NewTape implements Model.
func (m *Transformer) NewTape() Tape { return newTransformerTape(m) }
