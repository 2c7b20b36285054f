package kernels

import "math"

// SoftmaxRows replaces every row of cols numbers of z by the softmax of factor
// times them. A row that holds a NaN or +Inf becomes NaN.
func SoftmaxRows(z []float32, cols int, factor float32) {
	for ; len(z) >= cols && cols > 0; z = z[cols:] {
		row := z[:cols]
		top := float32(math.Inf(-1))
		for j, v := range row {
			v *= factor
			row[j] = v
			if v > top {
				top = v
			}
		}
		total := float32(0)
		for j, v := range row {
			e := exp(v - top)
			row[j] = e
			total += e
		}
		total = 1 / total
		for j := range row {
			row[j] *= total
		}
	}
}

// SoftmaxRowsBackward replaces grad, the gradient with respect to the softmaxes p
// of SoftmaxRows, by that with respect to its z: factor·p·(grad − Σ grad·p).
func SoftmaxRowsBackward(grad, p []float32, cols int, factor float32) {
	for ; len(grad) >= cols && cols > 0; grad, p = grad[cols:], p[cols:] {
		g, q := grad[:cols], p[:cols]
		along := float32(0)
		for j, v := range g {
			along += float32(v * q[j])
		}
		for j, v := range g {
			g[j] = factor * float32(q[j]*(v-along))
		}
	}
}

// GELU writes z·Φ(z) to dst, which is as large, with the approximation of Φ by
// Hendrycks and Gimpel (2016): Φ(z) = σ(2u), u = √(2/π)·(z + 0.044715 z³).
func GELU(dst, z Matrix) {
	for i := range z.Rows {
		out := dst.Row(i)
		for j, v := range z.Row(i) {
			out[j] = v * gate(v)
		}
	}
}

// GELUBackward multiplies grad by the derivative of GELU at z.
func GELUBackward(grad, z Matrix) {
	for i := range z.Rows {
		g := grad.Row(i)
		for j, v := range z.Row(i) {
			s := gate(v)
			slope := geluScale * (1 + float32(3*geluCube*float32(v*v)))
			g[j] *= s + float32(float32(v*s)*float32((1-s)*slope))
		}
	}
}

const (
	geluScale = 1.5957691216057308 // 2·√(2/π)
	geluCube  = 0.044715
)

// gate is σ(2u) of GELU.
func gate(z float32) float32 {
	u := geluScale * (z + float32(geluCube*float32(z*float32(z*z))))
	if u < 0 {
		e := exp(u)
		return e / (1 + e)
	}
	return 1 / (1 + exp(-u))
}

// exp is eˣ for x ≤ 0 to two units in the last place; 0 below −87, where float32
// would be denormal, and NaN for NaN and +Inf.
func exp(x float32) float32 {
	if !(x > -87) {
		if x != x {
			return x
		}
		return 0
	}
	// x = n·log 2 + r with |r| ≤ ½ log 2, log 2 in two parts; the coefficients of the
	// polynomial are those of Cephes' expf.
	const round = 3 << 22 // adds and takes away what makes a whole number
	n := float32(x*1.44269504088896341) + round - round
	r := x - float32(n*0.693359375)
	r -= float32(n * -2.12194440e-4)
	p := float32(1.9875691500e-4)
	p = float32(p*r) + 1.3981999507e-3
	p = float32(p*r) + 8.3334519073e-3
	p = float32(p*r) + 4.1665795894e-2
	p = float32(p*r) + 1.6666665459e-1
	p = float32(p*r) + 5.0000001201e-1
	p = float32(p*float32(r*r)) + r + 1
	return p * math.Float32frombits(uint32(int32(n)+127)<<23)
}
