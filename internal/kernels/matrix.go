// Package kernels is the arithmetic of the models and the optimiser: every
// loop that is worth writing for a particular processor is here, and nothing
// else is.
//
// The hot ones exist three times: in assembly for AVX-512 and for AVX2 with FMA,
// which package gen writes, and in Go for every other processor. The best that
// the processor has is used; DRIFTMESH_KERNELS=avx512, avx2 or go chooses.
//
// All kernels are deterministic and single-threaded: each sum has one order,
// fixed by the shapes, whatever GOMAXPROCS, the load or the addresses of the
// slices are. An element of a product is one chain of sums, so a product that is
// cut into rows or columns, to be shared by the cores, has the same bits.
// AVX-512 and AVX2 give the same bits as each other; the Go kernels do not fuse
// multiplications with additions, so theirs differ in the last ones.
//
// Shapes are the caller's promise: a slice that is too short panics like any
// index out of range. No kernel allocates.
package kernels

//go:generate go run -C gen . -out ../kernels_amd64.s -stubs ../stubs_amd64.go -calls ../calls_amd64.go -pkg kernels

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

// Block is rows i..i+rows-1 and columns j..j+cols-1 of m, over the same data.
func (m Matrix) Block(i, j, rows, cols int) Matrix {
	if i < 0 || j < 0 || rows < 0 || cols < 0 || i+rows > m.Rows || j+cols > m.Cols {
		panic("kernels: block outside of its matrix")
	}
	b := Matrix{Rows: rows, Cols: cols, Stride: m.Stride}
	if rows > 0 && cols > 0 {
		b.Data = m.Data[i*m.Stride+j : (i+rows-1)*m.Stride+j+cols]
	}
	return b
}

// SliceRows is rows from..to-1 of m, over the same data.
func (m Matrix) SliceRows(from, to int) Matrix { return m.Block(from, 0, to-from, m.Cols) }

// SliceCols is columns from..to-1 of m, over the same data.
func (m Matrix) SliceCols(from, to int) Matrix { return m.Block(0, from, m.Rows, to-from) }

// check panics unless the data holds the matrix.
func (m Matrix) check() {
	if m.Rows > 0 && m.Cols > 0 {
		_ = m.Data[(m.Rows-1)*m.Stride+m.Cols-1]
		if m.Stride < m.Cols && m.Rows > 1 {
			panic("kernels: rows overlap")
		}
	}
}

var blas gonum.Implementation // stateless

// Axpy adds alpha·x to y, which is at least as long.
func Axpy(alpha float32, x, y []float32) {
	blas.Saxpy(len(x), alpha, x, 1, y, 1)
}

// Transpose writes srcᵀ to dst, which has at least as many rows as src has
// columns, and as many columns as src has rows.
func Transpose(dst, src Matrix) {
	rows, cols := 0, 0 // of src, that are done
	if level != Go {
		rows, cols = transposeTiles(dst, src)
	}
	transposePart(dst, src, 0, rows, cols, src.Cols)
	transposePart(dst, src, rows, src.Rows, 0, src.Cols)
}

// transposePart does rows i0..i1-1 and columns j0..j1-1 of src.
func transposePart(dst, src Matrix, i0, i1, j0, j1 int) {
	const tile = 16 // a tile of both matrices stays in the first-level cache
	for ; i0 < i1; i0 += tile {
		end := min(i0+tile, i1)
		for j := j0; j < j1; j += tile {
			to := min(j+tile, j1)
			for i := i0; i < end; i++ {
				for c, v := range src.Data[i*src.Stride+j : i*src.Stride+to] {
					dst.Data[(j+c)*dst.Stride+i] = v
				}
			}
		}
	}
}
