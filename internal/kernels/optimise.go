package kernels

import "math"

// chains is how many sums SumSquares keeps: as many as hide the time of an addition.
const chains = 32

// SumSquares is Σ x² in float64, over 32 interleaved chains that are added up in
// order. It is NaN or +Inf exactly when x holds a non-finite element: squares of
// float32 cannot overflow float64. All levels give the same bits.
func SumSquares(x []float32) float64 {
	var sums [chains]float64
	if level != Go {
		x = x[squareBlocks(&sums, x):]
	}
	for ; len(x) >= chains; x = x[chains:] {
		for i, v := range x[:chains] {
			a := float64(v)
			sums[i] += float64(a * a)
		}
	}
	for i, v := range x {
		a := float64(v)
		sums[i] += float64(a * a)
	}
	total := 0.0
	for _, s := range sums {
		total += s
	}
	return total
}

// AdamStep holds the coefficients of one step of Adam.
type AdamStep struct {
	Beta1, Beta2 float32
	// Rate is the learning rate over 1 − β1ᵗ; VScale is 1 / sqrt(1 − β2ᵗ).
	Rate, VScale float32
	Epsilon      float32
	GradScale    float32 // multiplies the gradient first (clipping)
}

// Adam descends along grad, with first and second moments m and v:
// m ← β1 m + (1−β1) g, v ← β2 v + (1−β2) g²,
// p ← p − Rate·m / (VScale·√v + ε). Source: Kingma and Ba, ICLR 2015. All levels
// give the same bits.
func Adam(p, grad, m, v []float32, s AdamStep) {
	grad, m, v = grad[:len(p)], m[:len(p)], v[:len(p)]
	if level != Go {
		n := adamBlocks(p, grad, m, v, s)
		p, grad, m, v = p[n:], grad[n:], m[n:], v[n:]
	}
	c1, c2 := 1-s.Beta1, 1-s.Beta2
	for i := range p {
		g := float32(s.GradScale * grad[i])
		mi := float32(s.Beta1*m[i]) + float32(c1*g)
		vi := float32(s.Beta2*v[i]) + float32(c2*float32(g*g))
		m[i], v[i] = mi, vi
		root := float32(math.Sqrt(float64(vi)))
		p[i] -= float32(s.Rate*mi) / (float32(s.VScale*root) + s.Epsilon)
	}
}

// Momentum descends with heavy-ball momentum: b ← μ b + scale·g, p ← p − rate·b.
func Momentum(p, grad, b []float32, rate, mu, scale float32) {
	grad, b = grad[:len(p)], b[:len(p)]
	for i := range p {
		bi := float32(mu*b[i]) + float32(scale*grad[i])
		b[i] = bi
		p[i] -= float32(rate * bi)
	}
}
