package kernels

import "math"

// Activation is an elementwise non-linearity.
type Activation int

// Activations. Each has a derivative that is a function of its output, so a
// layer keeps its outputs only.
const (
	ReLU      Activation = iota // max(z, 0)
	LeakyReLU                   // max(z, LeakySlope·z)
	Tanh
)

// LeakySlope is the slope of LeakyReLU below zero (PyTorch's default).
const LeakySlope = 0.01

// SetRows makes every row of dst equal to row: a bias before a product is added.
func SetRows(dst Matrix, row []float32) {
	for i := range dst.Rows {
		copy(dst.Row(i), row)
	}
}

// SumRows adds the rows of src to sum: the gradient of a bias.
func SumRows(sum []float32, src Matrix) {
	for i := range src.Rows {
		Axpy(1, src.Row(i), sum)
	}
}

// Activate applies the activation in place. NaN stays NaN.
func Activate(z Matrix, act Activation) {
	for i := range z.Rows {
		row := z.Row(i)
		switch act {
		case ReLU:
			for j, v := range row {
				row[j] = max(v, 0)
			}
		case LeakyReLU:
			for j, v := range row {
				row[j] = max(v, LeakySlope*v)
			}
		case Tanh:
			for j, v := range row {
				row[j] = float32(math.Tanh(float64(v)))
			}
		}
	}
}

// ActivateBackward turns the gradient with respect to the outputs y of an
// activation into the one with respect to its inputs, in place. At exactly zero,
// where rectifiers have no derivative, ReLU's is taken as 0 and LeakyReLU's as 1.
func ActivateBackward(grad, y Matrix, act Activation) {
	for i := range grad.Rows {
		d := grad.Row(i)
		out := y.Row(i)[:len(d)]
		switch act {
		case ReLU:
			for j, v := range out {
				// The output is never negative: all bits clear or positive.
				// Half of them are zero in no order, so a branch would be
				// mispredicted half of the time.
				keep := uint32(-int32(math.Float32bits(v)) >> 31)
				d[j] = math.Float32frombits(math.Float32bits(d[j]) & keep)
			}
		case LeakyReLU:
			slope := [2]float32{1, LeakySlope}
			for j, v := range out {
				d[j] *= slope[math.Float32bits(v)>>31]
			}
		case Tanh:
			for j, v := range out {
				d[j] *= 1 - float32(v*v)
			}
		}
	}
}

// GatherAdd adds to row i of dst the rows of table that index names between
// offset[i] and offset[i+1]: the product of a sparse binary matrix in CSR form
// with table, without the multiplications.
func GatherAdd(dst, table Matrix, offset, index []int32) {
	for i := range dst.Rows {
		out := dst.Row(i)
		for _, f := range index[offset[i]:offset[i+1]] {
			Axpy(1, table.Row(int(f)), out)
		}
	}
}

// ScatterAdd adds row i of src to each of those rows of table: the backward
// pass of GatherAdd, in the order of the rows.
func ScatterAdd(table, src Matrix, offset, index []int32) {
	for i := range src.Rows {
		row := src.Row(i)
		for _, f := range index[offset[i]:offset[i+1]] {
			Axpy(1, row, table.Row(int(f)))
		}
	}
}
