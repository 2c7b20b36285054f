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

// failer is a test, or one of its cases.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// wantClose compares got with a float64 reference per element, and requires
// that the gaps between rows were left alone.
func wantClose(t failer, got, before kernels.Matrix, want func(i, j int) float64) {
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
			if d := math.Abs(float64(got.Data[at]) - w); d > 1e-4*(1+math.Abs(w)) {
				t.Fatalf("(%d,%d) = %v, want %v", i, j, got.Data[at], w)
			}
		}
	}
}

func at(m kernels.Matrix, i, j int) float64 { return float64(m.Data[i*m.Stride+j]) }

// eachLevel runs f with every set of kernels that the processor has.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	before := kernels.Used()
	t.Cleanup(func() { _ = kernels.Use(before) })
	for _, l := range []kernels.Level{kernels.Go, kernels.AVX2, kernels.AVX512} {
		if kernels.Use(l) != nil {
			t.Logf("no %s kernels on this processor", l)
			continue
		}
		t.Run(l.String(), f)
	}
}

// length draws sizes with the edges of tiles and vectors among them.
func length(t *rapid.T, name string, least int) int {
	return rapid.OneOf(rapid.IntRange(least, 40), rapid.SampledFrom([]int{64, 72, 113, 128, 256, 300})).Draw(t, name)
}

func TestProductsAgreeWithTheirDefinition(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m, n, k := length(t, "m", 0), length(t, "n", 1), length(t, "k", 0)
			checkProducts(t, draw(t), m, n, k)
		})
	})
}

func FuzzProducts(f *testing.F) {
	f.Add(uint64(1), uint16(14), uint16(32), uint16(256))
	f.Add(uint64(2), uint16(113), uint16(97), uint16(257))
	f.Fuzz(func(t *testing.T, seed uint64, m, n, k uint16) {
		checkProducts(t, rand.New(rand.NewPCG(seed, 1)), int(m%300), 1+int(n%300), int(k%600))
	})
}

// checkProducts compares every kind of product with its definition.
func checkProducts(t failer, r *rand.Rand, m, n, k int) {
	before := matrix(r, m, n, 0)
	a, b := matrix(r, m, k, 0.5), matrix(r, k, n, 0)
	turned := kernels.Dense(k, m, make([]float32, k*m))
	for i := range m {
		for l := range k {
			turned.Data[l*m+i] = a.Data[i*a.Stride+l]
		}
	}
	bias := matrix(r, 1, n, 0).Row(0)
	y := matrix(r, m, n, 0.3)
	sums := make([]float64, m*n)
	for i := range m {
		for l := range k {
			for j := range n {
				sums[i*n+j] += at(a, i, l) * at(b, l, j)
			}
		}
	}

	c := clone(before)
	kernels.Mul(c, a, b)
	wantClose(t, c, before, func(i, j int) float64 { return sums[i*n+j] })

	c = clone(before)
	kernels.MulTN(c, turned, b)
	wantClose(t, c, before, func(i, j int) float64 { return at(before, i, j) + sums[i*n+j] })

	for act, f := range activations {
		c = clone(before)
		kernels.Layer(c, a, b, bias, act)
		wantClose(t, c, before, func(i, j int) float64 { return f(float64(bias[j]) + sums[i*n+j]) })
		for _, add := range []bool{false, true} {
			c = clone(before)
			kernels.LayerBackward(c, a, b, y, act, add)
			wantClose(t, c, before, func(i, j int) float64 {
				s := sums[i*n+j]
				if add {
					s += at(before, i, j)
				}
				return s * derivative(act, at(y, i, j))
			})
		}
	}
}

var activations = map[kernels.Activation]func(float64) float64{
	kernels.ReLU:      func(x float64) float64 { return math.Max(x, 0) },
	kernels.LeakyReLU: func(x float64) float64 { return math.Max(x, kernels.LeakySlope*x) },
	kernels.Tanh:      math.Tanh,
	kernels.Linear:    func(x float64) float64 { return x },
}

// derivative is that of an activation where its output is y.
func derivative(act kernels.Activation, y float64) float64 {
	switch {
	case act == kernels.Tanh:
		return 1 - y*y
	case act == kernels.Linear || y > 0:
		return 1
	case act == kernels.LeakyReLU:
		return kernels.LeakySlope
	}
	return 0
}

func TestDerivativesAreThoseOfTheActivations(t *testing.T) {
	const h = 1e-6
	for act, f := range activations {
		for _, x := range []float64{-3, -0.2, 0.1, 2} {
			if got, want := derivative(act, f(x)), (f(x+h)-f(x-h))/(2*h); math.Abs(got-want) > 1e-5 {
				t.Errorf("activation %d at %v: %v, want %v", act, x, got, want)
			}
		}
	}
}

func TestTransposition(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m, n := length(t, "m", 0), length(t, "n", 1)
			r := draw(t)
			c, src := matrix(r, m, n, 0), matrix(r, n, m, 0)
			before := clone(c)
			kernels.Transpose(c, src)
			wantClose(t, c, before, func(i, j int) float64 { return at(src, j, i) })
		})
	})
}

// The order of a sum may depend on shapes only. A vectorised dot product that
// aligns itself first would fail here.
func TestProductsDoNotDependOnAddresses(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		const m, n, k = 7, 9, 61
		r := rand.New(rand.NewPCG(1, 2))
		a, b := matrix(r, m, k, 0), matrix(r, k, n, 0)
		shift := func(x kernels.Matrix, by int) kernels.Matrix {
			x.Data = append(make([]float32, by), x.Data...)[by:]
			return x
		}
		var first []float32
		for by := range 5 {
			c := kernels.Dense(m, n, make([]float32, m*n))
			kernels.LayerBackward(c, shift(a, by), shift(b, 4-by), kernels.Matrix{}, kernels.Linear, true)
			if by == 0 {
				first = c.Data
			}
			wantSame(t, c.Data, first)
		}
	})
}

func wantSame(t failer, got, want []float32) {
	t.Helper()
	for i, v := range got {
		if math.Float32bits(v) != math.Float32bits(want[i]) {
			t.Fatalf("element %d is %v, want the bits of %v", i, v, want[i])
		}
	}
}

// Cores share a product by its rows or its columns: no bit may change.
func TestPartsOfAProductHaveItsBits(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m, n, k := length(t, "m", 1), length(t, "n", 1), length(t, "k", 0)
			r := draw(t)
			a, b := matrix(r, k, m, 0), matrix(r, k, n, 0)
			whole := kernels.Dense(m, n, make([]float32, m*n))
			parts := kernels.Dense(m, n, make([]float32, m*n))
			kernels.MulTN(whole, a, b)
			row, col := r.IntN(m+1), r.IntN(n+1)
			for _, i := range [][2]int{{0, row}, {row, m}} {
				for _, j := range [][2]int{{0, col}, {col, n}} {
					kernels.MulTN(parts.SliceRows(i[0], i[1]).SliceCols(j[0], j[1]), a.SliceCols(i[0], i[1]), b.SliceCols(j[0], j[1]))
				}
			}
			wantSame(t, parts.Data, whole.Data)
		})
	})
}

// The two sets in assembly differ in their tiles, and in nothing that shows.
func TestAVX2AndAVX512HaveEqualBits(t *testing.T) {
	before := kernels.Used()
	defer func() { _ = kernels.Use(before) }()
	if kernels.Use(kernels.AVX512) != nil {
		t.Skip("no AVX-512 on this processor")
	}
	rapid.Check(t, func(t *rapid.T) {
		m, n, k := length(t, "m", 1), length(t, "n", 1), length(t, "k", 0)
		r := draw(t)
		a, b, bias := matrix(r, m, k, 0), matrix(r, k, n, 0), matrix(r, 1, n, 0).Row(0)
		var results [2][]float32
		for i, l := range []kernels.Level{kernels.AVX2, kernels.AVX512} {
			if err := kernels.Use(l); err != nil {
				t.Fatal(err)
			}
			c := kernels.Dense(m, n, make([]float32, m*n))
			kernels.Layer(c, a, b, bias, kernels.LeakyReLU)
			results[i] = c.Data
		}
		wantSame(t, results[0], results[1])
	})
}

func TestGatherAndScatterAreSparseProducts(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			r := draw(t)
			n, features, width := r.IntN(20), 1+r.IntN(12), length(t, "width", 1)
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
			bias := matrix(r, 1, width, 0).Row(0)
			for act := range activations {
				got, want := clone(before), clone(before)
				kernels.GatherLayer(got, table, bias, offset, index, act)
				kernels.Layer(want, dense, table, bias, act)
				wantClose(t, got, before, func(i, j int) float64 { return at(want, i, j) })
			}
			got, want := clone(table), clone(table)
			kernels.ScatterAdd(got, before, offset, index)
			kernels.MulTN(want, dense, before)
			wantClose(t, got, table, func(i, j int) float64 { return at(want, i, j) })

			sum := kernels.Dense(1, width, append([]float32(nil), bias...))
			start := clone(sum)
			kernels.SumRows(sum.Data, before)
			wantClose(t, sum, start, func(_, j int) float64 {
				s := float64(bias[j])
				for i := range n {
					s += at(before, i, j)
				}
				return s
			})
		})
	})
}

func TestListsAreChecked(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		table, dst := kernels.Dense(2, 3, make([]float32, 6)), kernels.Dense(1, 3, make([]float32, 3))
		for _, lists := range [][2][]int32{{{0, 1}, {2}}, {{0, 1}, {-1}}, {{1, 0}, {0}}, {{0, 2}, {0}}} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("lists %v were taken", lists)
					}
				}()
				kernels.ScatterAdd(table, dst, lists[0], lists[1])
			}()
		}
	})
}

func TestNaNStaysNaN(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for act := range activations {
			z := kernels.Dense(1, 1, []float32{0})
			kernels.Layer(z, kernels.Dense(1, 1, []float32{1}), kernels.Dense(1, 1, []float32{float32(math.NaN())}), []float32{0}, act)
			if v := z.Data[0]; v == v {
				t.Errorf("activation %d hides NaN as %v", act, v)
			}
		}
	})
}

// The optimiser's kernels have one result, whatever computes them.
func TestOptimisersHaveEqualBitsAtEveryLevel(t *testing.T) {
	before := kernels.Used()
	defer func() { _ = kernels.Use(before) }()
	rapid.Check(t, func(t *rapid.T) {
		seed, n := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 200).Draw(t, "n")
		var want [4][]float32
		var squares float64
		for _, l := range []kernels.Level{kernels.Go, kernels.AVX2, kernels.AVX512} {
			if kernels.Use(l) != nil {
				continue
			}
			r := rand.New(rand.NewPCG(seed, 1))
			var x [4][]float32
			for i := range x {
				x[i] = matrix(r, 1, n, 0.1).Row(0)
			}
			for i, v := range x[3] {
				x[3][i] = v * v
			}
			sum := kernels.SumSquares(x[0])
			kernels.Adam(x[0], x[1], x[2], x[3], kernels.AdamStep{Beta1: 0.9, Beta2: 0.999, Rate: 0.01, VScale: 1.5, Epsilon: 1e-8, GradScale: 0.5})
			if l == kernels.Go {
				want, squares = x, sum
			}
			for i := range x {
				wantSame(t, x[i], want[i])
			}
			if sum != squares {
				t.Fatalf("%s: sum of squares %v, want %v", l, sum, squares)
			}
		}
	})
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
		lse, logp, prob := make([]float64, n), make([]float32, n*actions), make([]float64, n*actions)
		if bad := kernels.Softmax(prob, lse, z, mask); bad != -1 {
			t.Fatalf("row %d called non-finite", bad)
		}
		kernels.LogSoftmax(logp, z, mask, lse)
		grad := matrix(r, n, actions, 0)
		before := clone(grad)
		kernels.LogSoftmaxBackward(grad, prob, weight)
		pi := func(i, j int) float64 { return math.Exp(float64(logp[i*actions+j])) }
		for i := range n {
			total, legal := 0.0, 0
			for j := range actions {
				total += pi(i, j)
				if p := prob[i*actions+j]; math.Abs(p-math.Exp(float64(logp[i*actions+j]))) > 1e-3*p+1e-300 {
					t.Fatalf("probability %v, want exp of %v", p, logp[i*actions+j])
				}
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

func TestSoftmaxFindsNonFiniteLogits(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, v := range []float32{inf, -inf, inf - inf} {
		z := kernels.Dense(3, 2, []float32{1, 2, 3, 4, v, 6})
		mask := []bool{true, true, true, true, false, true}
		if bad := kernels.Softmax(make([]float64, 6), make([]float64, 3), z, mask); bad != 2 {
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

// BenchmarkProducts are those of a layer of 256 for a batch of n.
func BenchmarkProducts(b *testing.B) {
	for _, n := range []int{16, 256, 1024} {
		r := rand.New(rand.NewPCG(1, 2))
		dense := func(rows, cols int) kernels.Matrix {
			m := kernels.Dense(rows, cols, make([]float32, rows*cols))
			for i := range m.Data {
				m.Data[i] = float32(r.NormFloat64())
			}
			return m
		}
		x, y, w, head := dense(n, 256), dense(n, 256), dense(256, 256), dense(256, 16)
		out, logits, dw, bias := dense(n, 256), dense(n, 16), dense(256, 256), make([]float32, 256)
		dw.Data = append([]float32(nil), dw.Data...)
		for _, c := range []struct {
			name  string
			flops int
			f     func()
		}{
			{"layer", 2 * n * 256 * 256, func() { kernels.Layer(out, x, w, bias, kernels.ReLU) }},
			{"backward", 2 * n * 256 * 256, func() { kernels.LayerBackward(out, x, w, y, kernels.ReLU, false) }},
			{"weights", 2 * n * 256 * 256, func() { kernels.MulTN(dw, x, y) }},
			{"head", 2 * n * 256 * 16, func() { kernels.Layer(logits, x, head, bias, kernels.Linear) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					c.f()
				}
				b.ReportMetric(float64(c.flops)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
