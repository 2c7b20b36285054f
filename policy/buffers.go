package policy

import (
	"slices"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// buffer is a matrix that grows by rows.
type buffer struct {
	data  []float32
	width int
}

// grow makes room for n rows and keeps what is there.
func (b *buffer) grow(n int) { b.data = extended(b.data, n*b.width) }

func (b *buffer) rows(from, to int) kernels.Matrix {
	return kernels.Dense(to-from, b.width, b.data[from*b.width:to*b.width])
}

// resize makes *s n long, keeping its capacity. Growth leaves room, so that
// batches of wavering size stop allocating soon. The contents are undefined.
func resize[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n, n+n/4)
	}
	*s = (*s)[:n]
	return *s
}

// extended is s with room for n elements at least, and what is in it.
func extended[T any](s []T, n int) []T {
	return slices.Grow(s, max(0, n-len(s)))[:max(n, len(s))]
}
