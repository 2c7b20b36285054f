package policy

import (
	"fmt"
	"math"

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
	// Flow adds a head with one output, log F(s), as in the MLP.
	Flow bool
}

// Sequence is what a transformer must know of an environment; see envs.Spec.
type Sequence struct {
	Positions, Vocabulary int // feature position·Vocabulary + token: that token is there
	Conditions            int // further features: what the whole state is under
}

// Transformer is a pre-norm encoder (Vaswani et al., 2017; Xiong et al., 2020)
// over the set of the (position, token) pairs of a state and one token more, the
// readout, whose output the heads of P_F, P_B and log F read. Every token attends to
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
	head                            heads
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
	m.head = newHeads(m.width, actions, backwardActions, c.UniformBackward, c.Flow)
	if err := checkParameters("width", c.Width, m.parameters(c.Layers)); err != nil {
		return nil, err
	}
	m.addEmbeddings()
	for i := range c.Layers {
		name := func(part string) string { return fmt.Sprintf("layer.%d.%s", i, part) }
		m.layers = append(m.layers, encoderLayer{
			in:   m.layout.add(name("attention.in"), GroupForward, m.width, 3*m.width),
			out:  m.layout.add(name("attention.out"), GroupForward, m.width, m.width),
			up:   m.layout.add(name("feedforward.up"), GroupForward, m.width, m.upward),
			down: m.layout.add(name("feedforward.down"), GroupForward, m.upward, m.width),
		})
	}
	m.head.append(&m.layout)
	return m, nil
}

// parameters counts them; see that of the MLP.
func (m *Transformer) parameters(layers int) (n float64) {
	w, up := float64(m.width), float64(m.upward)
	n = w * (float64(m.seq.Vocabulary) + float64(m.seq.Positions) + float64(m.seq.Conditions) + 1)
	n += float64(layers) * ((w+1)*3*w + (w+1)*w + (w+1)*up + (up+1)*w)
	for _, out := range m.head.outs() {
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

// Layout implements Model.
func (m *Transformer) Layout() Layout { return append(Layout(nil), m.layout...) }

// Init implements Model. Linear layers are uniform in ±1/√(fan in), as in the MLP,
// but those that write to the residual stream are divided by √(2·layers), so that
// its variance does not grow with the depth (GPT-2: Radford et al., 2019);
// embeddings are normal with variance 1 (PyTorch's nn.Embedding). Each tensor or
// layer has a stream of its own, the heads' the last.
func (m *Transformer) Init(params []float32, seed uint64) {
	stream := uint64(0)
	next := func() uint64 { stream++; return stream - 1 }
	table := m.table.of(params)
	r := rng.New(seed, rng.Init, next())
	for i := range table {
		table[i] = float32(r.NormFloat64())
	}
	residual := 1 / math.Sqrt(2*float64(len(m.layers)))
	for _, l := range m.layers {
		l.in.draw(params, seed, next(), 1)
		l.out.draw(params, seed, next(), residual)
		l.up.draw(params, seed, next(), 1)
		l.down.draw(params, seed, next(), residual)
	}
	for _, l := range m.head.learned() {
		l.draw(params, seed, next(), 1)
	}
}

// NewTape implements Model.
func (m *Transformer) NewTape() Tape { return newTransformerTape(m) }
