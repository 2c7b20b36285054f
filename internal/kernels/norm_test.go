package kernels_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// TestNormaliseAgreesWithItsDefinition, and all levels with each other bit for bit.
func TestNormaliseAgreesWithItsDefinition(t *testing.T) {
	before := kernels.Used()
	t.Cleanup(func() { _ = kernels.Use(before) })
	rapid.Check(t, func(t *rapid.T) {
		m, n := rapid.IntRange(0, 9).Draw(t, "m"), rapid.OneOf(rapid.IntRange(1, 50), rapid.SampledFrom([]int{16, 32, 48, 64, 128})).Draw(t, "n")
		added, based := rapid.Bool().Draw(t, "added"), rapid.Bool().Draw(t, "based")
		seed := rapid.Uint64().Draw(t, "seed")
		var first [][]float32
		for _, l := range []kernels.Level{kernels.Go, kernels.AVX2, kernels.AVX512} {
			if kernels.Use(l) != nil {
				continue
			}
			r := rand.New(rand.NewPCG(seed, 1))
			x, y, grad, dst, back := matrix(r, m, n, 0), matrix(r, m, n, 0), matrix(r, m, n, 0), matrix(r, m, n, 0), matrix(r, m, n, 0)
			stream, base := clone(x), kernels.Matrix{}
			sum := x
			if added {
				sum = clone(x)
				for i := range m {
					for j := range n {
						sum.Row(i)[j] += y.Row(i)[j]
					}
				}
			} else {
				y = kernels.Matrix{}
			}
			if based {
				base = clone(x)
			}
			scale := make([]float32, m)
			kernels.Normalise(dst, stream, y, scale)
			kernels.NormaliseBackward(back, base, grad, dst, scale)
			for i := range m {
				mean, variance, g, along := 0.0, 0.0, 0.0, 0.0
				for j := range n {
					mean += at(sum, i, j) / float64(n)
				}
				for j := range n {
					variance += (at(sum, i, j) - mean) * (at(sum, i, j) - mean) / float64(n)
				}
				s := 1 / math.Sqrt(variance+kernels.NormEpsilon)
				for j := range n {
					g += at(grad, i, j) / float64(n)
					along += at(grad, i, j) * (at(sum, i, j) - mean) * s / float64(n)
				}
				for j := range n {
					if stream.Row(i)[j] != sum.Row(i)[j] {
						t.Fatalf("%v: the stream is %v, want %v", l, stream.Row(i)[j], sum.Row(i)[j])
					}
					want := (at(sum, i, j) - mean) * s
					if got := at(dst, i, j); math.Abs(got-want) > 1e-5*(1+s*math.Abs(mean)) {
						t.Fatalf("%v: normalised %v, want %v", l, got, want)
					}
					slope := s * (at(grad, i, j) - g - want*along)
					if based {
						slope += at(x, i, j)
					}
					if got := at(back, i, j); math.Abs(got-slope) > 1e-4*(1+s) {
						t.Fatalf("%v: backward %v, want %v", l, got, slope)
					}
				}
			}
			all := [][]float32{dst.Data, back.Data, scale}
			if first == nil {
				first = all
			}
			for k := range all {
				if !slices.Equal(all[k], first[k]) {
					t.Fatalf("%v has other bits", l)
				}
			}
		}
	})
}

// TestSoftmaxRows against the definition, and its backward pass against the slope.
func TestSoftmaxRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		rows, cols := rapid.IntRange(0, 5).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "cols")
		factor := float32(rapid.Float64Range(0.01, 3).Draw(t, "factor"))
		z, grad := make([]float32, rows*cols), make([]float32, rows*cols)
		for i := range z {
			z[i], grad[i] = float32(20*r.NormFloat64()), float32(r.NormFloat64())
		}
		p, back := slices.Clone(z), slices.Clone(grad)
		kernels.SoftmaxRows(p, cols, factor)
		kernels.SoftmaxRowsBackward(back, p, cols, factor)
		for i := range rows {
			top, sum, along := math.Inf(-1), 0.0, 0.0
			for _, v := range z[i*cols : (i+1)*cols] {
				top = max(top, float64(v*factor))
			}
			for _, v := range z[i*cols : (i+1)*cols] {
				sum += math.Exp(float64(v*factor) - top)
			}
			want := make([]float64, cols)
			for j := range cols {
				want[j] = math.Exp(float64(z[i*cols+j]*factor)-top) / sum
				along += want[j] * float64(grad[i*cols+j])
			}
			for j := range cols {
				if got := float64(p[i*cols+j]); math.Abs(got-want[j]) > 2e-5*want[j]+1e-37 {
					t.Fatalf("softmax %v, want %v", got, want[j])
				}
				slope := float64(factor) * want[j] * (float64(grad[i*cols+j]) - along)
				if got := float64(back[i*cols+j]); math.Abs(got-slope) > 1e-5*float64(factor) {
					t.Fatalf("backward %v, want %v", got, slope)
				}
			}
		}
	})
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		z := []float32{1, bad, 2}
		if kernels.SoftmaxRows(z, 3, 1); z[1] == z[1] {
			t.Errorf("softmax with %v is %v", bad, z)
		}
	}
}

// TestGELU against its definition and the slope of that.
func TestGELU(t *testing.T) {
	f := func(z float64) float64 {
		return z * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(z+0.044715*z*z*z))) / 2
	}
	var zs []float32
	for z := float32(-12); z <= 12; z += 0.01 {
		zs = append(zs, z)
	}
	z := kernels.Dense(1, len(zs), zs)
	y, grad := kernels.Dense(1, len(zs), make([]float32, len(zs))), kernels.Dense(1, len(zs), slices.Repeat([]float32{2}, len(zs)))
	kernels.GELU(y, z)
	kernels.GELUBackward(grad, z)
	for i, v := range zs {
		x := float64(v)
		if want := f(x); math.Abs(float64(y.Data[i])-want) > 1e-6*(1+math.Abs(want)) {
			t.Errorf("GELU(%v) = %v, want %v", v, y.Data[i], want)
		}
		if want := 2 * (f(x+1e-5) - f(x-1e-5)) / 2e-5; math.Abs(float64(grad.Data[i])-want) > 1e-5 {
			t.Errorf("slope of GELU at %v is %v, want %v", v, grad.Data[i]/2, want/2)
		}
	}
	odd := kernels.Dense(1, 1, []float32{float32(math.NaN())})
	if kernels.GELU(odd, odd); odd.Data[0] == odd.Data[0] {
		t.Error("GELU of NaN is a number")
	}
}
