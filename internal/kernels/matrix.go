// Package kernels is the arithmetic of the models and the optimiser: every
// loop that is worth writing for a particular processor is here, and nothing
// else is, so that faster kernels replace this package and no other.
//
// All kernels are deterministic and single-threaded: each sum has one order,
// fixed by the shapes, whatever GOMAXPROCS, the load or the addresses of the
// slices are. That rules out two things that a BLAS does. A parallel product
// allocates and synchronises at the sizes met here, and the two cores of a
// small machine already have a sampler and a learner to run. A vectorised dot
// product that first walks to an aligned address sums in an order that depends
// on where the slice lies. So products are built on y += αx, which has no sum
// inside, wherever rows are long.
//
// Shapes are the caller's promise: a slice that is too short panics like any
// index out of range. No kernel allocates.
package kernels

import "gonum.org/v1/gonum/blas/gonum"

// Matrix is a row-major matrix over a slice that it does not own: element
// (i, j) is Data[i*Stride+j].
type Matrix struct {
	Rows, Cols, Stride int
	Data               []float32
}

// Dense is a rows × cols matrix over data, without gaps between rows.
func Dense(rows, cols int, data []float32) Matrix {
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: data[:rows*cols]}
}

// Row is row i, Cols long.
func (m Matrix) Row(i int) []float32 {
	return m.Data[i*m.Stride : i*m.Stride+m.Cols : i*m.Stride+m.Cols]
}

var blas gonum.Implementation // stateless

// Axpy adds alpha·x to y, which is at least as long.
func Axpy(alpha float32, x, y []float32) {
	blas.Saxpy(len(x), alpha, x, 1, y, 1)
}

// Zero clears a matrix.
func Zero(m Matrix) {
	for i := range m.Rows {
		clear(m.Row(i))
	}
}

// Transpose writes srcᵀ to dst (src.Cols × src.Rows).
func Transpose(dst, src Matrix) {
	const tile = 16 // a tile of both matrices stays in the first-level cache
	for i0 := 0; i0 < src.Rows; i0 += tile {
		i1 := min(i0+tile, src.Rows)
		for j0 := 0; j0 < src.Cols; j0 += tile {
			j1 := min(j0+tile, src.Cols)
			for i := i0; i < i1; i++ {
				for j, v := range src.Data[i*src.Stride+j0 : i*src.Stride+j1] {
					dst.Data[(j0+j)*dst.Stride+i] = v
				}
			}
		}
	}
}

// MulNN adds a·b to dst (a is m×k, b k×n, dst m×n). It is made for long rows of
// b. Zeros of a cost nothing, so rectified activations halve the work; a zero
// therefore also hides a non-finite element of b.
func MulNN(dst, a, b Matrix) {
	for i := range a.Rows {
		out := dst.Row(i)
		for l, v := range a.Row(i) {
			if v != 0 {
				Axpy(v, b.Row(l), out)
			}
		}
	}
}

// MulTN adds aᵀ·b to dst (a is k×m, b k×n, dst m×n): the gradient of a weight
// matrix, summed over the rows of a batch in order. Zeros of a are skipped.
func MulTN(dst, a, b Matrix) {
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

// MulNT adds a·bᵀ to dst (a is m×k, b n×k, dst m×n). It is made for few rows of
// b, such as the actions of a policy head; for many, transpose b and use MulNN.
func MulNT(dst, a, b Matrix) {
	for i := range a.Rows {
		x, out := a.Row(i), dst.Row(i)
		j := 0
		for ; j+4 <= b.Rows; j += 4 {
			s0, s1, s2, s3 := dot4(x, b.Row(j), b.Row(j+1), b.Row(j+2), b.Row(j+3))
			out[j] += s0
			out[j+1] += s1
			out[j+2] += s2
			out[j+3] += s3
		}
		for ; j < b.Rows; j++ {
			out[j] += dot(x, b.Row(j))
		}
	}
}

// dot4 is four dot products that share x, each a single chain of sums: four
// chains keep the adder busy and x is read once.
func dot4(x, b0, b1, b2, b3 []float32) (s0, s1, s2, s3 float32) {
	b0, b1, b2, b3 = b0[:len(x)], b1[:len(x)], b2[:len(x)], b3[:len(x)]
	for l, v := range x {
		s0 += float32(v * b0[l])
		s1 += float32(v * b1[l])
		s2 += float32(v * b2[l])
		s3 += float32(v * b3[l])
	}
	return s0, s1, s2, s3
}

func dot(x, y []float32) float32 {
	y = y[:len(x)]
	var s0, s1, s2, s3 float32
	l := 0
	for ; l+4 <= len(x); l += 4 {
		s0 += float32(x[l] * y[l])
		s1 += float32(x[l+1] * y[l+1])
		s2 += float32(x[l+2] * y[l+2])
		s3 += float32(x[l+3] * y[l+3])
	}
	for ; l < len(x); l++ {
		s0 += float32(x[l] * y[l])
	}
	return (s0 + s1) + (s2 + s3)
}
