package diffusion

import (
	"math"
	"math/rand/v2"
)

// manywell is a product of pairs, each a double well in its first coordinate and a
// Gaussian in its second (Noé et al., Science 2019; Midgley et al., ICLR 2023):
// log R = Σ −a⁴ + 6a² + a/2 − b²/2 over the pairs (a, b). It has 2^pairs modes.
type manywell struct {
	pairs int
	pair  float64 // log Z of a pair
}

func (m manywell) dim() int         { return 2 * m.pairs }
func (m manywell) logZ() float64    { return float64(m.pairs) * m.pair }
func (manywell) modes() int         { return 0 }
func (manywell) mode([]float32) int { return -1 }

func (m manywell) logDensity(x []float32) float64 {
	sum := 0.0
	for j := 0; j < len(x); j += 2 {
		a, b := float64(x[j]), float64(x[j+1])
		sum += wellLog(a) - b*b/2
	}
	return sum
}

func (manywell) score(dst, x []float32) []float32 {
	for j := 0; j < len(x); j += 2 {
		a := float64(x[j])
		dst = append(dst, float32(a*(12-4*a*a)+0.5), -x[j+1])
	}
	return dst
}

func (m manywell) peak() float64 {
	a := 0.0
	for x := 1.5; x < 2; x += 1e-4 { // flat at the top: 1e-4 is 1e-8 of height
		if wellLog(x) > wellLog(a) {
			a = x
		}
	}
	return float64(m.pairs) * wellLog(a)
}

func wellLog(a float64) float64 { return a*a*(6-a*a) + a/2 }

// logZWell is log ∫ e^{wellLog}, by the trapezoidal rule, which converges faster
// than any power of the step where all derivatives vanish at both ends.
func logZWell() float64 {
	const end, step = 6.0, 1.0 / 256
	sum := 0.0
	for i := -int(end / step); i <= int(end/step); i++ {
		sum += math.Exp(wellLog(float64(i) * step))
	}
	return math.Log(sum * step)
}

// The double well lies below wellBound times a mixture of two Gaussians, a share of
// wellLeft left (a test looks): draw from that, and keep in proportion.
const (
	wellCentre = 1.7
	wellSpread = 0.5
	wellLeft   = 0.2
)

func wellProposal(a float64) float64 {
	side := func(c float64) float64 {
		d := (a - c) / wellSpread
		return -d*d/2 - math.Log(wellSpread) - logRoot2Pi
	}
	l, r := math.Log(wellLeft)+side(-wellCentre), math.Log(1-wellLeft)+side(wellCentre)
	top := math.Max(l, r)
	return top + math.Log(math.Exp(l-top)+math.Exp(r-top))
}

// wellBound is log of 3·Z.
func (m manywell) wellBound() float64 { return m.pair - logRoot2Pi + math.Log(3) }

func (m manywell) draw(r *rand.Rand, x []float64) {
	bound := m.wellBound()
	for j := 0; j < len(x); j += 2 {
		for {
			a := wellCentre + wellSpread*r.NormFloat64()
			if r.Float64() < wellLeft {
				a -= 2 * wellCentre
			}
			if math.Log(1-r.Float64()) <= wellLog(a)-bound-wellProposal(a) {
				x[j] = a
				break
			}
		}
		x[j+1] = r.NormFloat64()
	}
}
