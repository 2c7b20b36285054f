package policy

import "github.com/driftmesh/driftmesh/internal/kernels"

// transformerBackward is the backward pass of a transformerTape. States go through
// it in the chunks of the forward pass, which computes again what was not kept of
// one: first the gradients with respect to all layers' inputs, a run of states
// for each part; then those with respect to the parameters, some rows or columns
// of a matrix for each part. So every sum runs over the tokens in order, whatever
// the number of parts.
type transformerBackward struct {
	t     *transformerTape
	grad  []float32
	again bool // the encoder runs for the backward pass: no heads

	top    buffer           // gradients of the chunk with respect to the readouts after the last layer
	layers []layerGradients // of the chunk
	room   buffer           // for gradients that no other part needs, by token
	rooms  buffer           // the same, by state
	prob   []float32
	turned [][4]kernels.Matrix // transposed weights of in, out, up and down

	linears []linear
	tasks   []linearTask

	transposes, inputs, weights func(part int)
}

// layerGradients are those with respect to the like-named activations: x is the
// residual stream that the layer takes, mid the one after attention, up and qkv
// are before their activation.
type layerGradients struct {
	x, mid, up, qkv, query buffer
}

// linear is a layer, or some columns of one, whose gradient is inputᵀ·grad.
type linear struct {
	layer     dense
	from, to  int // columns of its matrix
	input     func(a *activations) *buffer
	grad      *buffer
	perState  bool // a row for each state, not for each token
	direction int  // of a head, whose matrix is [out, in]; −1 otherwise
}

// linearTask is a part of the gradient with respect to the parameters: rows
// lo..hi-1 of a linear layer's matrix (columns of a head's), or its bias, or
// columns of the table of embeddings.
type linearTask struct {
	kind   linearKind
	linear *linear
	lo, hi int
}

type linearKind int

const (
	linearWeights linearKind = iota
	linearBias
	embeddingColumns
)

func (k *transformerBackward) init(t *transformerTape) {
	k.t = t
	m := t.m
	k.layers = make([]layerGradients, len(m.layers))
	k.turned = make([][4]kernels.Matrix, len(m.layers))
	k.top.width, k.room.width, k.rooms.width = m.width, m.width, m.width
	for i, w := range m.layers {
		g, last := &k.layers[i], m.last(i)
		g.x.width, g.mid.width, g.up.width, g.qkv.width = m.width, m.width, m.upward, 3*m.width
		after := &k.top
		add := func(l dense, from, to int, input func(l *layerActivations) *buffer, grad *buffer, perState bool) {
			k.linears = append(k.linears, linear{
				layer: l, from: from, to: to, grad: grad, perState: perState, direction: -1,
				input: func(a *activations) *buffer { return input(&a.layers[i]) },
			})
		}
		in := func(l *layerActivations) *buffer { return &l.in }
		if last {
			g.qkv.width, g.query.width = 2*m.width, m.width
			add(w.in, 0, m.width, func(l *layerActivations) *buffer { return &l.read }, &g.query, true)
			add(w.in, m.width, 3*m.width, in, &g.qkv, false)
		} else {
			after = &k.layers[i+1].x
			add(w.in, 0, 3*m.width, in, &g.qkv, false)
		}
		add(w.out, 0, m.width, func(l *layerActivations) *buffer { return &l.att }, &g.mid, last)
		add(w.up, 0, m.upward, func(l *layerActivations) *buffer { return &l.mid }, &g.up, last)
		add(w.down, 0, m.width, func(l *layerActivations) *buffer { return &l.up }, after, last)
		for n, l := range []dense{w.in, w.out, w.up, w.down} {
			k.turned[i][n] = kernels.Matrix{Rows: l.out, Cols: l.in, Stride: l.in}
		}
	}
	for dir, h := range m.head {
		k.linears = append(k.linears, linear{
			layer: h.dense, from: 0, to: h.out, input: func(a *activations) *buffer { return &a.top },
			grad: &t.out.grad[dir], perState: true, direction: dir,
		})
	}
	k.transposes, k.inputs, k.weights = k.runTransposes, k.runInputs, k.runWeights
}

// Backprop implements Tape.
func (t *transformerTape) Backprop(w *Weights, grad []float32) error {
	b, err := t.scored(t.size, !t.m.head[flow].uniform, w, grad)
	if err != nil {
		return err
	}
	k := &t.back
	if !t.out.weigh(w, b) {
		return nil
	}
	k.grad = grad
	for i := range k.turned {
		for n := range k.turned[i] {
			m := &k.turned[i][n]
			resize(&m.Data, m.Rows*m.Cols)
		}
	}
	t.do(4*len(k.turned), &k.transposes)
	k.plan()
	t.states, k.again = &b.States, true
	defer func() { t.states, k.again = nil, false }()
	for t.lo = 0; t.lo < b.States.N; t.lo = t.hi {
		t.hi = t.seq.chunk(t.lo, b.States.N)
		t.acts = &t.kept
		if t.lo < t.held {
			t.hi = min(t.hi, t.held)
			t.open(t.lo, t.hi)
		} else {
			t.acts = &t.scratch
			t.open(t.lo, t.hi)
			t.do(len(t.cuts)-1, &t.encode)
		}
		k.open()
		t.do(len(t.cuts)-1, &k.inputs)
		t.do(len(k.tasks), &k.weights)
	}
	return nil
}

// plan makes the tasks of a chunk.
func (k *transformerBackward) plan() {
	cores := 1
	if k.t.num() > 1 {
		cores = 2 * k.t.num() // who has begun late has less to do
	}
	k.tasks = k.tasks[:0]
	cut := func(kind linearKind, l *linear, size, parts int) { // in whole vectors
		step := max((size/parts+vector-1)/vector*vector, vector)
		for lo := 0; lo < size; lo += step {
			k.tasks = append(k.tasks, linearTask{kind, l, lo, min(lo+step, size)})
		}
	}
	for i := len(k.linears) - 1; i >= 0; i-- {
		l := &k.linears[i]
		if l.direction >= 0 && !k.t.out.has[l.direction] {
			continue
		}
		cut(linearWeights, l, l.layer.in, cores)
		k.tasks = append(k.tasks, linearTask{kind: linearBias, linear: l})
	}
	cut(embeddingColumns, nil, k.t.m.width, cores)
}

// open makes room for the gradients of the chunk.
func (k *transformerBackward) open() {
	m, q := k.t.m, &k.t.seq
	tokens, states := q.tokens(k.t.lo, k.t.hi), k.t.hi-k.t.lo
	k.top.grow(states)
	k.room.grow(tokens)
	k.rooms.grow(states)
	k.prob = extended(k.prob, m.heads*q.squares(k.t.lo, k.t.hi))
	for i := range k.layers {
		g, rows := &k.layers[i], tokens
		if m.last(i) {
			rows = states
			g.query.grow(states)
		}
		g.x.grow(tokens)
		g.qkv.grow(tokens)
		g.mid.grow(rows)
		g.up.grow(rows)
	}
	for dir, has := range k.t.out.has {
		if has {
			k.t.out.grad[dir].grow(states)
		}
	}
}

// runTransposes turns a matrix.
func (k *transformerBackward) runTransposes(part int) {
	w := k.t.m.layers[part/4]
	l := [4]dense{w.in, w.out, w.up, w.down}[part%4]
	kernels.Transpose(k.turned[part/4][part%4], l.weight.matrix(k.t.params))
}

// runInputs takes a part of the chunk back through the layers.
func (k *transformerBackward) runInputs(part int) {
	t, m, acts := k.t, k.t.m, k.t.acts
	a, b := t.cuts[part], t.cuts[part+1]
	// Where the part's rows are: among the activations, and in the chunk.
	tokens, states := t.seq.tokenSpan(acts.base, a, b), stateSpan(acts.base, a, b)
	chunkTokens, chunkStates := t.seq.tokenSpan(t.lo, a, b), stateSpan(t.lo, a, b)

	after := k.top.of(chunkStates)
	d := k.rooms.of(chunkStates)
	t.out.back(t.params, d, chunkStates.from, a, kernels.Matrix{}, kernels.Linear)
	kernels.NormaliseBackward(after, kernels.Matrix{}, d, acts.top.of(states), acts.topScale[states.from:states.to])
	for i := len(m.layers) - 1; i >= 0; i-- {
		g, l, turned := &k.layers[i], &acts.layers[i], &k.turned[i]
		rows, chunkRows := tokens, chunkTokens
		d := k.room.of(chunkTokens)
		if m.last(i) {
			rows, chunkRows = states, chunkStates
			d = k.rooms.of(chunkStates)
		}
		up, mid := g.up.of(chunkRows), g.mid.of(chunkRows)
		if m.gelu {
			kernels.Mul(up, after, turned[3])
			kernels.GELUBackward(up, l.linear.of(rows))
		} else {
			kernels.LayerBackward(up, after, turned[3], l.up.of(rows), m.act, false)
		}
		kernels.Mul(d, up, turned[2])
		kernels.NormaliseBackward(mid, after, d, l.mid.of(rows), l.midScale[rows.from:rows.to])
		kernels.Mul(d, mid, turned[1])
		for state := a; state < b; state++ {
			m.attendBackward(k.attention(i, state, d, a), t.attention(i, state), t.stream.turned.of(t.seq.tokenSpan(t.lo, state, state+1)).Data)
		}
		x, in := g.x.of(chunkTokens), l.in.of(tokens)
		if m.last(i) {
			k.joinReadouts(i, a, b)
		} else {
			kernels.Mul(x, g.qkv.of(chunkTokens), turned[0])
			kernels.NormaliseBackward(x, mid, x, in, l.inScale[tokens.from:tokens.to])
		}
		after = x
	}
}

// joinReadouts goes back from the last layer's keys and values, of all tokens, and
// the readouts' queries and residual streams to the layer's inputs.
func (k *transformerBackward) joinReadouts(layer, a, b int) {
	t, m, g, l := k.t, k.t.m, &k.layers[layer], &k.t.acts.layers[layer]
	tokens, chunkTokens := t.seq.tokenSpan(t.acts.base, a, b), t.seq.tokenSpan(t.lo, a, b)
	chunkStates := stateSpan(t.lo, a, b)
	turned, x, d := k.turned[layer][0], g.x.of(chunkTokens), k.rooms.of(chunkStates)
	kernels.Mul(x, g.qkv.of(chunkTokens), turned.SliceRows(m.width, 3*m.width))
	kernels.Mul(d, g.query.of(chunkStates), turned.SliceRows(0, m.width))
	each := func(add kernels.Matrix) {
		for i := a; i < b; i++ {
			kernels.Axpy(1, add.Row(i-a), x.Row(t.seq.first[i]-t.seq.first[a]))
		}
	}
	each(d)
	kernels.NormaliseBackward(x, kernels.Matrix{}, x, l.in.of(tokens), l.inScale[tokens.from:tokens.to])
	each(g.mid.of(chunkStates))
}

// attention are the gradients of a state's attention in a layer; result holds
// those of the results of states from.. .
func (k *transformerBackward) attention(layer, state int, result kernels.Matrix, from int) attention {
	m, q, g := k.t.m, &k.t.seq, &k.layers[layer]
	qkv := g.qkv.of(q.tokenSpan(k.t.lo, state, state+1))
	prob := k.prob[m.heads*q.squares(k.t.lo, state) : m.heads*q.squares(k.t.lo, state+1)]
	if m.last(layer) {
		return attention{
			query: g.query.of(stateSpan(k.t.lo, state, state+1)), key: qkv.SliceCols(0, m.width), value: qkv.SliceCols(m.width, 2*m.width),
			result: result.SliceRows(state-from, state-from+1), prob: prob[:m.heads*qkv.Rows],
		}
	}
	rows := q.tokenSpan(from, state, state+1)
	return attention{
		query: qkv.SliceCols(0, m.width), key: qkv.SliceCols(m.width, 2*m.width), value: qkv.SliceCols(2*m.width, 3*m.width),
		result: result.SliceRows(rows.from, rows.to), prob: prob,
	}
}

// runWeights computes one of the tasks for the chunk's states.
func (k *transformerBackward) runWeights(part int) {
	t, task, l := k.t, k.tasks[part], k.tasks[part].linear
	tokens, chunkTokens := t.seq.tokenSpan(t.acts.base, t.lo, t.hi), t.seq.tokenSpan(t.lo, t.lo, t.hi)
	if task.kind == embeddingColumns {
		table := t.m.table.matrix(k.grad).SliceCols(task.lo, task.hi)
		kernels.ScatterAdd(table, k.layers[0].x.of(chunkTokens).SliceCols(task.lo, task.hi),
			t.seq.offset[t.seq.first[t.lo]:t.seq.first[t.hi]+1], t.seq.index)
		return
	}
	rows, chunkRows := tokens, chunkTokens
	if l.perState {
		rows, chunkRows = stateSpan(t.acts.base, t.lo, t.hi), stateSpan(t.lo, t.lo, t.hi)
	}
	grad := l.grad.of(chunkRows)
	grad.Cols = l.to - l.from // a head's fills up vectors
	if task.kind == linearBias {
		kernels.SumRows(l.layer.bias.of(k.grad)[l.from:l.to], grad)
		return
	}
	dw, input := l.layer.weight.matrix(k.grad), l.input(t.acts).of(rows).SliceCols(task.lo, task.hi)
	if l.direction >= 0 {
		kernels.MulTN(dw.SliceCols(task.lo, task.hi), grad, input)
	} else {
		kernels.MulTN(dw.Block(task.lo, l.from, task.hi-task.lo, l.to-l.from), input, grad)
	}
}
