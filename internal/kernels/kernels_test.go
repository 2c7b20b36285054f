package kernels_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// matrix draws a rows × cols matrix with a random gap between rows and about
// zeros of its elements zero.
func matrix(r *rand.Rand, rows, cols int, zeros float64) kernels.Matrix {
	stride := cols + r.IntN(3)
	m := kernels.Matrix{Rows: rows, Cols: cols, Stride: stride, Data: make([]float32, rows*stride)}
	for i := range m.Data {
		if r.Float64() >= zeros {
			m.Data[i] = float32(r.NormFloat64())
		}
	}
	return m
}

func clone(m kernels.Matrix) kernels.Matrix {
	m.Data = append([]float32(nil), m.Data...)
	return m
}

func draw(t *rapid.T) *rand.Rand {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
}

// wantClose compares got with a float64 reference per element, and requires
// that the gaps between rows were left alone.
func wantClose(t *rapid.T, got, before kernels.Matrix, want func(i, j int) float64) {
	t.Helper()
	for i := range got.Rows {
		for j := range got.Stride {
			at := i*got.Stride + j
			if j >= got.Cols {
				if got.Data[at] != before.Data[at] {
					t.Fatalf("wrote outside row %d", i)
				}
				continue
			}
			w := want(i, j)
			if d := math.Abs(float64(got.Data[at]) - w); d > 1e-5*(1+math.Abs(w)) {
				t.Fatalf("(%d,%d) = %v, want %v", i, j, got.Data[at], w)
			}
		}
	}
}

func at(m kernels.Matrix, i, j int) float64 { return float64(m.Data[i*m.Stride+j]) }

func TestProductsAgreeWithTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := rapid.IntRange(0, 40).Draw(t, "m")
		n := rapid.IntRange(1, 40).Draw(t, "n")
		k := rapid.IntRange(0, 40).Draw(t, "k")
		r := draw(t)
		before := matrix(r, m, n, 0)
		sum := func(i, j int, a, b func(i, l int) float64) float64 {
			s := at(before, i, j)
			for l := range k {
				s += a(i, l) * b(l, j)
			}
			return s
		}
		a, b := matrix(r, m, k, 0.5), matrix(r, k, n, 0)
		aT, bT := matrix(r, k, m, 0.5), matrix(r, n, k, 0)
		plain := func(x kernels.Matrix) func(i, j int) float64 {
			return func(i, j int) float64 { return at(x, i, j) }
		}
		turned := func(x kernels.Matrix) func(i, j int) float64 {
			return func(i, j int) float64 { return at(x, j, i) }
		}

		c := clone(before)
		kernels.MulNN(c, a, b)
		wantClose(t, c, before, func(i, j int) float64 { return sum(i, j, plain(a), plain(b)) })

		c = clone(before)
		kernels.MulTN(c, aT, b)
		wantClose(t, c, before, func(i, j int) float64 { return sum(i, j, turned(aT), plain(b)) })

		c = clone(before)
		kernels.MulNT(c, a, bT)
		wantClose(t, c, before, func(i, j int) float64 { return sum(i, j, plain(a), turned(bT)) })

		c = clone(before)
		src := matrix(r, n, m, 0)
		kernels.Transpose(c, src)
		wantClose(t, c, before, turned(src))
	})
}

// The order of a sum may depend on shapes only. A vectorised dot product that
// aligns itself first would fail here.
func TestProductsDoNotDependOnAddresses(t *testing.T) {
	const m, n, k = 7, 9, 61
	r := rand.New(rand.NewPCG(1, 2))
	a, b, bT := matrix(r, m, k, 0), matrix(r, k, n, 0), matrix(r, n, k, 0)
	shift := func(x kernels.Matrix, by int) kernels.Matrix {
		x.Data = append(make([]float32, by), x.Data...)[by:]
		return x
	}
	var first []float32
	for by := range 5 {
		c := kernels.Dense(m, n, make([]float32, m*n))
		kernels.MulNN(c, shift(a, by), shift(b, 4-by))
		kernels.MulNT(c, shift(a, 2*by), shift(bT, by))
		if by == 0 {
			first = c.Data
			continue
		}
		for i, v := range c.Data {
			if v != first[i] {
				t.Fatalf("element %d is %v at one address and %v at another", i, first[i], v)
			}
		}
	}
}

func TestGatherAndScatterAreSparseProducts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t)
		n, features, width := r.IntN(20), 1+r.IntN(12), 1+r.IntN(20)
		dense := kernels.Dense(n, features, make([]float32, n*features))
		offset, index := []int32{0}, []int32{}
		for i := range n {
			for f := range features {
				if r.IntN(3) == 0 {
					index = append(index, int32(f))
					dense.Data[i*features+f] = 1
				}
			}
			offset = append(offset, int32(len(index)))
		}
		table, before := matrix(r, features, width, 0), matrix(r, n, width, 0)

		got, want := clone(before), clone(before)
		kernels.GatherAdd(got, table, offset, index)
		kernels.MulNN(want, dense, table)
		wantClose(t, got, before, func(i, j int) float64 { return at(want, i, j) })

		got, want = clone(table), clone(table)
		kernels.ScatterAdd(got, before, offset, index)
		kernels.MulTN(want, dense, before)
		wantClose(t, got, table, func(i, j int) float64 { return at(want, i, j) })
	})
}

func TestActivationsAndTheirDerivatives(t *testing.T) {
	for act, f := range map[kernels.Activation]func(float64) float64{
		kernels.ReLU:      func(x float64) float64 { return math.Max(x, 0) },
		kernels.LeakyReLU: func(x float64) float64 { return math.Max(x, kernels.LeakySlope*x) },
		kernels.Tanh:      math.Tanh,
	} {
		rapid.Check(t, func(t *rapid.T) {
			r := draw(t)
			z := matrix(r, 5, 9, 0)
			for i, v := range z.Data { // away from the kink, where a difference quotient means nothing
				z.Data[i] = v + float32(math.Copysign(1e-3, float64(v)))
			}
			y, grad := clone(z), matrix(r, 5, 9, 0)
			kernels.Activate(y, act)
			wantClose(t, y, z, func(i, j int) float64 { return f(at(z, i, j)) })
			back := clone(grad)
			kernels.ActivateBackward(back, y, act)
			const h = 1e-6
			wantClose(t, back, grad, func(i, j int) float64 {
				x := at(z, i, j)
				return at(grad, i, j) * (f(x+h) - f(x-h)) / (2 * h)
			})
		})
		nan := kernels.Dense(1, 1, []float32{float32(math.NaN())})
		kernels.Activate(nan, act)
		if v := nan.Data[0]; v == v {
			t.Errorf("activation %d hides NaN as %v", act, v)
		}
	}
}

func TestLogSoftmaxAndItsGradient(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := draw(t)
		n, actions := 1+r.IntN(6), 1+r.IntN(8)
		scale := float32(math.Pow(10, 4*r.Float64()-1)) // up to where exp overflows
		z := matrix(r, n, actions, 0)
		for i := range z.Data {
			z.Data[i] *= scale
		}
		mask := make([]bool, n*actions)
		weight := make([]float64, n*actions)
		for i := range mask {
			if mask[i] = r.IntN(3) > 0; mask[i] {
				weight[i] = r.NormFloat64()
			}
		}
		lse, logp := make([]float64, n), make([]float32, n*actions)
		if bad := kernels.LogSumExp(lse, z, mask); bad != -1 {
			t.Fatalf("row %d called non-finite", bad)
		}
		kernels.LogSoftmax(logp, z, mask, lse)
		grad := matrix(r, n, actions, 0)
		before := clone(grad)
		kernels.LogSoftmaxBackward(grad, z, mask, lse, weight)
		pi := func(i, j int) float64 { return math.Exp(float64(logp[i*actions+j])) }
		for i := range n {
			total, legal := 0.0, 0
			for j := range actions {
				total += pi(i, j)
				if mask[i*actions+j] {
					legal++
				} else if !math.IsInf(float64(logp[i*actions+j]), -1) {
					t.Fatalf("illegal action has log-probability %v", logp[i*actions+j])
				}
			}
			if want := float64(min(legal, 1)); math.Abs(total-want) > 1e-3 {
				t.Fatalf("row %d with %d legal actions sums to %v", i, legal, total)
			}
		}
		wantClose(t, grad, before, func(i, j int) float64 {
			if !mask[i*actions+j] {
				return 0
			}
			total := 0.0
			for a := range actions {
				total += weight[i*actions+a]
			}
			return weight[i*actions+j] - total*math.Exp(at(z, i, j)-lse[i])
		})
	})
}

func TestLogSumExpFindsNonFiniteLogits(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, v := range []float32{inf, -inf, inf - inf} {
		z := kernels.Dense(3, 2, []float32{1, 2, 3, 4, v, 6})
		mask := []bool{true, true, true, true, false, true}
		if bad := kernels.LogSumExp(make([]float64, 3), z, mask); bad != 2 {
			t.Errorf("logit %v: row %d, want 2", v, bad)
		}
	}
}

func TestSumSquaresSeesEveryNonFiniteElement(t *testing.T) {
	if got := kernels.SumSquares([]float32{3, -4, math.MaxFloat32}); math.IsInf(got, 0) || got < 1e76 {
		t.Errorf("the largest float32 gives %v", got)
	}
	inf := float32(math.Inf(1))
	for _, v := range []float32{inf, -inf, inf - inf} {
		if got := kernels.SumSquares([]float32{1, v, 2}); got-got == 0 {
			t.Errorf("%v gives %v", v, got)
		}
	}
}

func BenchmarkProducts(b *testing.B) {
	for _, n := range []int{16, 200, 1000} {
		r := rand.New(rand.NewPCG(1, 2))
		x, w := matrix(r, n, 256, 0.5), matrix(r, 256, 256, 0)
		head := matrix(r, 5, 256, 0)
		for name, f := range map[string]func(dst kernels.Matrix){
			"NN":     func(dst kernels.Matrix) { kernels.MulNN(dst, x, w) },
			"TN":     func(dst kernels.Matrix) { kernels.MulTN(dst, x, x) },
			"headNT": func(dst kernels.Matrix) { dst.Cols = 5; kernels.MulNT(dst, x, head) },
		} {
			dst := matrix(r, max(n, 256), 256, 0)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					f(dst)
				}
			})
		}
	}
}
