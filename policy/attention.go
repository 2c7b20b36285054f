package policy

import (
	"math"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// attention is that of one state in one layer: queries × width, keys × width.
type attention struct {
	query, key, value kernels.Matrix
	result            kernels.Matrix // queries × width: the heads' results beside each other
	prob              []float32      // heads × queries × keys
}

// attention is that of a state (an index in the sequences) in a layer.
func (t *transformerTape) attention(layer, state int) attention {
	m, l, q, base := t.m, &t.acts.layers[layer], &t.seq, t.acts.base
	tokens, row := q.tokenSpan(base, state, state+1), stateSpan(base, state, state+1)
	qkv := l.qkv.of(tokens)
	if m.last(layer) {
		return attention{
			query: l.query.of(row), key: qkv.SliceCols(0, m.width), value: qkv.SliceCols(m.width, 2*m.width), result: l.att.of(row),
			prob: l.prob[m.heads*tokens.from : m.heads*tokens.to],
		}
	}
	return attention{
		query: qkv.SliceCols(0, m.width), key: qkv.SliceCols(m.width, 2*m.width), value: qkv.SliceCols(2*m.width, 3*m.width), result: l.att.of(tokens),
		prob: l.prob[m.heads*q.squares(base, state) : m.heads*q.squares(base, state+1)],
	}
}

// columns are those of a head.
func (m *Transformer) columns(x kernels.Matrix, head int) kernels.Matrix {
	return x.SliceCols(head*m.headWidth, (head+1)*m.headWidth)
}

// weights are a head's part of attention weights, or of what is like them.
func (v *attention) weights(prob []float32, head int) kernels.Matrix {
	queries, keys := v.query.Rows, v.key.Rows
	return kernels.Dense(queries, keys, prob[head*queries*keys:])
}

// temperature is what scores are multiplied by.
func (m *Transformer) temperature() float32 { return float32(1 / math.Sqrt(float64(m.headWidth))) }

// attend computes softmax(q·kᵀ/√width)·v head by head. turned has room for the keys.
func (m *Transformer) attend(v attention, turned []float32) {
	keys := kernels.Dense(m.width, v.key.Rows, turned)
	kernels.Transpose(keys, v.key)
	for h := range m.heads {
		kernels.Mul(v.weights(v.prob, h), m.columns(v.query, h), keys.SliceRows(h*m.headWidth, (h+1)*m.headWidth))
	}
	kernels.SoftmaxRows(v.prob, v.key.Rows, m.temperature())
	for h := range m.heads {
		kernels.Mul(m.columns(v.result, h), v.weights(v.prob, h), m.columns(v.value, h))
	}
}

// attendBackward writes the gradients with respect to queries, keys and values to
// those of d, whose result is the one with respect to the results and whose prob
// is room for as many weights. turned has room for the values.
func (m *Transformer) attendBackward(d, v attention, turned []float32) {
	values := kernels.Dense(m.width, v.value.Rows, turned)
	kernels.Transpose(values, v.value)
	for i := range v.key.Rows {
		clear(d.key.Row(i))
		clear(d.value.Row(i))
	}
	for h := range m.heads {
		result := m.columns(d.result, h)
		kernels.Mul(v.weights(d.prob, h), result, values.SliceRows(h*m.headWidth, (h+1)*m.headWidth))
		kernels.MulTN(m.columns(d.value, h), v.weights(v.prob, h), result)
	}
	kernels.SoftmaxRowsBackward(d.prob, v.prob, v.key.Rows, m.temperature())
	for h := range m.heads {
		kernels.Mul(m.columns(d.query, h), v.weights(d.prob, h), m.columns(v.key, h))
		kernels.MulTN(m.columns(d.key, h), v.weights(d.prob, h), m.columns(v.query, h))
	}
}
