package kernels

import "math"

// portable is a product in Go.
func (p *product) portable() {
	for i := range p.dst.Rows {
		switch p.start {
		case fromBias:
			copy(p.dst.Row(i), p.bias)
		case fromZero:
			clear(p.dst.Row(i))
		}
	}
	if p.turned {
		addTN(p.dst, p.a, p.b)
	} else {
		addNN(p.dst, p.a, p.b)
	}
	if p.slope == 1 {
		return
	}
	for i := range p.dst.Rows {
		if p.y.Data != nil {
			damp(p.dst.Row(i), p.y.Row(i), p.slope)
		} else {
			activate(p.dst.Row(i), p.slope)
		}
	}
}

// addNN adds a·b to dst. Zeros of a cost nothing, so rectified activations halve
// the work.
func addNN(dst, a, b Matrix) {
	for i := range a.Rows {
		out := dst.Row(i)
		for l, v := range a.Row(i) {
			if v != 0 {
				Axpy(v, b.Row(l), out)
			}
		}
	}
}

// addTN adds aᵀ·b to dst.
func addTN(dst, a, b Matrix) {
	// A band of dst rows stays in the first-level cache while b streams by.
	const band = 24
	for i0 := 0; i0 < a.Cols; i0 += band {
		i1 := min(i0+band, a.Cols)
		for l := range a.Rows {
			row := b.Row(l)
			for i, v := range a.Row(l)[i0:i1] {
				if v != 0 {
					Axpy(v, row, dst.Row(i0+i))
				}
			}
		}
	}
}

// activate is max(z, slope·z) in place.
func activate(z []float32, slope float32) {
	for j, v := range z {
		z[j] = max(v, slope*v)
	}
}

// damp multiplies grad by slope where y is not above zero.
func damp(grad, y []float32, slope float32) {
	factor := [2]float32{1, slope}
	for j, v := range y[:len(grad)] {
		// Half of them are zero in no order, so a branch would be mispredicted half
		// of the time. The sign of 0−v says which side; of NaN no matter.
		grad[j] *= factor[1-math.Float32bits(0-v)>>31]
	}
}

func tanh(z Matrix) {
	for i := range z.Rows {
		row := z.Row(i)
		for j, v := range row {
			row[j] = float32(math.Tanh(float64(v)))
		}
	}
}

func tanhBackward(grad, y Matrix) {
	for i := range grad.Rows {
		d := grad.Row(i)
		for j, v := range y.Row(i)[:len(d)] {
			d[j] *= 1 - float32(v*v)
		}
	}
}
