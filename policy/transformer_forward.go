package policy

import "github.com/driftmesh/driftmesh/internal/kernels"

// activations are what the backward pass needs of the states from base on. Of the
// last layer only the readout's output is used, so that its queries and all that
// follows have a row for each state and not for each token.
type activations struct {
	m        *Transformer
	base     int // index in the sequences of the state whose rows are the first
	layers   []layerActivations
	top      buffer // what the heads read: the normalised readouts
	topScale []float32
}

// layerActivations are those of one layer; "normalised" is what LayerNorm gives,
// and a scale what it multiplied by.
type layerActivations struct {
	in       buffer // the layer's normalised input, by token
	inScale  []float32
	qkv      buffer    // queries, keys and values; of the last layer without the queries
	read     buffer    // last layer: in of the readouts
	query    buffer    // last layer: queries of the readouts
	prob     []float32 // attention's weights: head by query by key for each state
	att      buffer    // the heads' results
	mid      buffer    // normalised, after attention
	midScale []float32
	linear   buffer // up before its activation, where its derivative is not a function of up
	up       buffer
}

func (a *activations) init(m *Transformer) {
	a.m = m
	a.layers = make([]layerActivations, len(m.layers))
	for i := range a.layers {
		l := &a.layers[i]
		l.in.width, l.att.width, l.mid.width, l.up.width, l.qkv.width = m.width, m.width, m.width, m.upward, 3*m.width
		if m.gelu {
			l.linear.width = m.upward
		}
		if m.last(i) {
			l.qkv.width, l.read.width, l.query.width = 2*m.width, m.width, m.width
		}
	}
	a.top.width = m.width
}

// last says whether a layer is the last one.
func (m *Transformer) last(layer int) bool { return layer == len(m.layers)-1 }

// bytes is what states from..to-1 take.
func (a *activations) bytes(q *sequences, from, to int) int {
	tokens, states := q.tokens(from, to), to-from
	floats := states * (a.top.width + 1)
	for i := range a.layers {
		l, rows, weights := &a.layers[i], tokens, q.squares(from, to)
		if a.m.last(i) {
			rows, weights = states, tokens
		}
		floats += tokens*(l.in.width+1+l.qkv.width) + states*(l.read.width+l.query.width) + weights*a.m.heads +
			rows*(l.att.width+l.mid.width+1+l.linear.width+l.up.width)
	}
	return 4 * floats
}

// open makes room for the states up to to, and keeps those from base on.
func (a *activations) open(q *sequences, base, to int) {
	a.base = base
	tokens, states := q.tokens(base, to), to-base
	for i := range a.layers {
		l, rows, weights := &a.layers[i], tokens, q.squares(base, to)
		if a.m.last(i) {
			rows, weights = states, tokens
			l.read.grow(states)
			l.query.grow(states)
		}
		l.in.grow(tokens)
		l.inScale = extended(l.inScale, tokens)
		l.qkv.grow(tokens)
		l.prob = extended(l.prob, weights*a.m.heads)
		for _, b := range []*buffer{&l.att, &l.mid, &l.linear, &l.up} {
			b.grow(rows)
		}
		l.midScale = extended(l.midScale, rows)
	}
	a.top.grow(states)
	a.topScale = extended(a.topScale, states)
}

// streams are the residual streams of a chunk.
type streams struct {
	base    int
	x, y    buffer    // by token: the stream, and what the next normalisation adds to it
	xr, yr  buffer    // by state: those of the readout in the last layer
	turned  buffer    // keys as columns
	nothing []float32 // a bias of zeros
}

func (s *streams) init(m *Transformer) {
	for _, b := range []*buffer{&s.x, &s.y, &s.xr, &s.yr, &s.turned} {
		b.width = m.width
	}
	s.nothing = make([]float32, m.width)
}

func (s *streams) open(q *sequences, from, to int) {
	s.base = from
	tokens := q.tokens(from, to)
	for _, b := range []*buffer{&s.x, &s.y, &s.turned} {
		b.grow(tokens)
	}
	s.xr.grow(to - from)
	s.yr.grow(to - from)
}

// span is a run of rows of some buffers.
type span struct{ from, to int }

func (b *buffer) of(s span) kernels.Matrix { return b.rows(s.from, s.to) }

// tokens and states are the rows of states a..b-1 in buffers whose first row is
// that of state base.
func (q *sequences) tokenSpan(base, a, b int) span {
	return span{q.first[a] - q.first[base], q.first[b] - q.first[base]}
}
func stateSpan(base, a, b int) span { return span{a - base, b - base} }

// runEncode takes a part of the chunk through all layers and the heads.
func (t *transformerTape) runEncode(part int) {
	a, b := t.cuts[part], t.cuts[part+1]
	t.encodeStates(a, b)
	if !t.back.again {
		rows := t.acts.top.of(stateSpan(t.acts.base, a, b))
		t.out.score(part, rows, a, t.states, t.from+a)
	}
}

// encodeStates takes states a..b-1, of one chunk, through all layers.
func (t *transformerTape) encodeStates(a, b int) {
	m, s := t.m, &t.stream
	tokens, states := t.seq.tokenSpan(t.acts.base, a, b), stateSpan(t.acts.base, a, b)
	x, y := s.x.of(t.seq.tokenSpan(s.base, a, b)), s.y.of(t.seq.tokenSpan(s.base, a, b))
	kernels.GatherLayer(x, m.table.matrix(t.params), s.nothing, t.seq.offset[t.seq.first[a]:t.seq.first[b]+1], t.seq.index, kernels.Linear)
	added := kernels.Matrix{}
	for i, w := range m.layers {
		l, rows := &t.acts.layers[i], tokens
		in, qkv := l.in.of(tokens), l.qkv.of(tokens)
		kernels.Normalise(in, x, added, l.inScale[tokens.from:tokens.to])
		weight, bias := w.in.weight.matrix(t.params), w.in.bias.of(t.params)
		if m.last(i) { // from here on the readouts alone go on
			rows = states
			read, xr := l.read.of(states), s.xr.of(stateSpan(s.base, a, b))
			t.pickReadouts(read, in, a, b)
			t.pickReadouts(xr, x, a, b)
			kernels.Layer(l.query.of(states), read, weight.SliceCols(0, m.width), bias[:m.width], kernels.Linear)
			weight, bias = weight.SliceCols(m.width, 3*m.width), bias[m.width:]
			x, y = xr, s.yr.of(stateSpan(s.base, a, b))
		}
		kernels.Layer(qkv, in, weight, bias, kernels.Linear)
		for state := a; state < b; state++ {
			v := t.attention(i, state)
			m.attend(v, s.turned.of(t.seq.tokenSpan(s.base, state, state+1)).Data)
		}
		kernels.Layer(y, l.att.of(rows), w.out.weight.matrix(t.params), w.out.bias.of(t.params), kernels.Linear)
		mid, up := l.mid.of(rows), l.up.of(rows)
		kernels.Normalise(mid, x, y, l.midScale[rows.from:rows.to])
		if m.gelu {
			kernels.Layer(l.linear.of(rows), mid, w.up.weight.matrix(t.params), w.up.bias.of(t.params), kernels.Linear)
			kernels.GELU(up, l.linear.of(rows))
		} else {
			kernels.Layer(up, mid, w.up.weight.matrix(t.params), w.up.bias.of(t.params), m.act)
		}
		kernels.Layer(y, up, w.down.weight.matrix(t.params), w.down.bias.of(t.params), kernels.Linear)
		added = y
	}
	kernels.Normalise(t.acts.top.of(states), x, added, t.acts.topScale[states.from:states.to])
}

// pickReadouts copies the readouts of states a..b-1 out of their tokens.
func (t *transformerTape) pickReadouts(dst, src kernels.Matrix, a, b int) {
	for i := a; i < b; i++ {
		copy(dst.Row(i-a), src.Row(t.seq.first[i]-t.seq.first[a]))
	}
}
