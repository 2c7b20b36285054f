package kernels

import "math"

// NormEpsilon is added to the variance of a row before its root (PyTorch's default).
const NormEpsilon = 1e-5

// normChains is how many chains of sums run along a row. All levels give the same
// bits; rows of whole multiples of it are the fast ones.
const normChains = 16

// Normalise writes the rows of x with mean 0 and variance 1 to dst, and what they
// were multiplied by, 1/√(variance + NormEpsilon), to scale: LayerNorm without a
// gain and a bias (Ba, Kiros and Hinton, 2016). Where add has data it is added to
// x first, in place.
func Normalise(dst, x, add Matrix, scale []float32) {
	dst.check()
	x.check()
	if dst.Rows != x.Rows || dst.Cols != x.Cols {
		panic("kernels: shapes of a normalisation do not fit")
	}
	if add.Data != nil {
		add.check()
		if add.Rows != x.Rows || add.Cols != x.Cols {
			panic("kernels: shapes of a normalisation do not fit")
		}
	}
	if x.Cols == 0 {
		return
	}
	scale = scale[:x.Rows]
	if level != Go && x.Rows > 0 && x.Cols%normChains == 0 {
		normalise(dst, x, add, scale)
		return
	}
	over := 1 / float32(x.Cols)
	for i := range x.Rows {
		row, out := x.Row(i), dst.Row(i)
		if add.Data != nil {
			Axpy(1, add.Row(i), row)
		}
		mean := float32(sum(row) * over)
		for j, v := range row {
			out[j] = v - mean
		}
		r := float32(1 / math.Sqrt(float64(float32(dot(out, out)*over))+NormEpsilon))
		for j := range out {
			out[j] *= r
		}
		scale[i] = r
	}
}

// NormaliseBackward writes base plus the gradient with respect to the x of
// Normalise to dst, where grad is the one with respect to its rows y:
// scale·(grad − mean(grad) − y·mean(grad·y)), row by row. Where base has no data
// it is zero; dst may be base or grad.
func NormaliseBackward(dst, base, grad, y Matrix, scale []float32) {
	dst.check()
	grad.check()
	y.check()
	if dst.Rows != y.Rows || dst.Cols != y.Cols || grad.Rows != y.Rows || grad.Cols != y.Cols {
		panic("kernels: shapes of a normalisation do not fit")
	}
	if base.Data != nil {
		base.check()
		if base.Rows != y.Rows || base.Cols != y.Cols {
			panic("kernels: shapes of a normalisation do not fit")
		}
	}
	if y.Cols == 0 {
		return
	}
	scale = scale[:y.Rows]
	if level != Go && y.Rows > 0 && y.Cols%normChains == 0 {
		normaliseBackward(dst, base, grad, y, scale)
		return
	}
	over := 1 / float32(y.Cols)
	for i := range y.Rows {
		g, n, out := grad.Row(i), y.Row(i), dst.Row(i)
		mean, along, r := float32(sum(g)*over), float32(dot(g, n)*over), scale[i]
		if base.Data == nil {
			for j, v := range n {
				out[j] = r * (g[j] - mean - float32(v*along))
			}
			continue
		}
		b := base.Row(i)
		for j, v := range n {
			out[j] = b[j] + float32(r*(g[j]-mean-float32(v*along)))
		}
	}
}

// sum adds up x in chains.
func sum(x []float32) float32 {
	var s [normChains]float32
	for ; len(x) >= normChains; x = x[normChains:] {
		for j, v := range x[:normChains] {
			s[j] += v
		}
	}
	for j, v := range x {
		s[j] += v
	}
	return fold(&s)
}

// dot is the inner product of x and y, which is as long, in chains.
func dot(x, y []float32) float32 {
	var s [normChains]float32
	y = y[:len(x)]
	for ; len(x) >= normChains; x, y = x[normChains:], y[normChains:] {
		b := y[:normChains]
		for j, v := range x[:normChains] {
			s[j] += float32(v * b[j])
		}
	}
	for j, v := range x {
		s[j] += float32(v * y[j])
	}
	return fold(&s)
}

// fold adds up the chains in pairs.
func fold(s *[normChains]float32) float32 {
	for half := normChains / 2; half > 0; half /= 2 {
		for j := range half {
			s[j] += s[half+j]
		}
	}
	return s[0]
}
