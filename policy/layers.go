package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/kernels"
	"github.com/driftmesh/driftmesh/internal/rng"
)

// dense is one layer, y = xW + b.
type dense struct {
	weight, bias Param
	in, out      int
}

// add appends a layer's tensors to the layout; the matrix has shape [in, out].
func (l *Layout) add(name, group string, in, out int) dense {
	return l.addAs(name, group, in, out, in, out)
}

// addAs is add with the matrix in another shape.
func (l *Layout) addAs(name, group string, in, out int, shape ...int) dense {
	*l = l.Append(name+".weight", group, shape...).Append(name+".bias", group, out)
	n := len(*l)
	return dense{weight: (*l)[n-2], bias: (*l)[n-1], in: in, out: out}
}

// draw writes initial weights and biases, uniform in ±scale/√(fan in): with scale 1
// the default of PyTorch's nn.Linear. Every layer has a stream of its own.
func (d dense) draw(params []float32, seed, stream uint64, scale float64) {
	r, bound := rng.New(seed, rng.Init, stream), scale/math.Sqrt(float64(d.in))
	for _, p := range []Param{d.weight, d.bias} {
		values := p.of(params)
		for i := range values {
			values[i] = float32((2*r.Float64() - 1) * bound)
		}
	}
}

// of is the tensor's part of a flat vector.
func (p Param) of(flat []float32) []float32 {
	return flat[p.Offset : p.Offset+p.Len()]
}

// matrix is a two-dimensional tensor's part of a flat vector.
func (p Param) matrix(flat []float32) kernels.Matrix {
	return kernels.Dense(p.Shape[0], p.Shape[1], p.of(flat))
}

// activation is that of a policy.activation, without gelu.
func activation(name string) (kernels.Activation, error) {
	switch name {
	case "relu":
		return kernels.ReLU, nil
	case "leaky_relu":
		return kernels.LeakyReLU, nil
	case "tanh":
		return kernels.Tanh, nil
	}
	return 0, fielderr.New("activation", name, "relu, leaky_relu or tanh")
}

// checkWidths checks those of the hidden layers of a network with so many inputs
// and heads of so many outputs.
func checkWidths(features int, hidden []int, heads ...int) error {
	if n := len(hidden); n < 1 || n > maxLayers {
		return fielderr.New("hidden", hidden, fmt.Sprintf("1 to %d widths", maxLayers))
	}
	for i, width := range hidden {
		if width < 1 || width > maxWidth {
			return fielderr.New(fmt.Sprintf("hidden[%d]", i), width, fmt.Sprintf("a width from 1 to %d", maxWidth))
		}
	}
	return checkParameters("hidden", hidden, parameters(features, hidden, heads))
}

// checkParameters holds the size of a network to MaxParams; a field sets it.
func checkParameters(field string, value any, n float64) error {
	if n <= MaxParams {
		return nil
	}
	return fielderr.New(field, value, fmt.Sprintf(
		"a smaller network: %.0f parameters × 4 bytes = %.0f MiB; a state may have %d MiB", n, math.Ceil(n*4/(1<<20)), MaxParams*4>>20))
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
