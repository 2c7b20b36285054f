package kernels

import "math"

// LogSumExp writes log Σ exp over the legal logits of each row, summed in
// float64, or -Inf for a row without a legal action; mask is Rows × Cols,
// row-major. It returns the first row that holds a non-finite logit, legal or
// not, or -1.
func LogSumExp(lse []float64, logits Matrix, mask []bool) (bad int) {
	bad = -1
	for i := range logits.Rows {
		row := logits.Row(i)
		legal := mask[i*logits.Cols:][:len(row)]
		top := math.Inf(-1)
		for j, v := range row {
			if v-v != 0 && bad < 0 { // ±Inf or NaN
				bad = i
			}
			if legal[j] {
				top = max(top, float64(v))
			}
		}
		if math.IsInf(top, -1) {
			lse[i] = top
			continue
		}
		sum := 0.0
		for j, v := range row {
			if legal[j] {
				sum += math.Exp(float64(v) - top)
			}
		}
		lse[i] = top + math.Log(sum)
	}
	return bad
}

// LogSoftmax writes logit − lse for legal actions and -Inf for the others
// (dst is Rows × Cols, row-major); lse is that of LogSumExp.
func LogSoftmax(dst []float32, logits Matrix, mask []bool, lse []float64) {
	illegal := float32(math.Inf(-1))
	for i := range logits.Rows {
		row := logits.Row(i)
		legal := mask[i*logits.Cols:][:len(row)]
		out := dst[i*logits.Cols:][:len(row)]
		for j, v := range row {
			if legal[j] {
				out[j] = float32(float64(v) - lse[i])
			} else {
				out[j] = illegal
			}
		}
	}
}

// LogSoftmaxBackward writes the gradient of Σ weight·log-prob with respect to
// the logits, weight[s,a] − (Σ_a weight[s,a])·π(a|s), where weight (Rows × Cols,
// row-major) holds the sum of the weights of each (state, action). It is
// computed in float64 and rounded once.
func LogSoftmaxBackward(grad, logits Matrix, mask []bool, lse, weight []float64) {
	for i := range logits.Rows {
		row := logits.Row(i)
		legal := mask[i*logits.Cols:][:len(row)]
		w := weight[i*logits.Cols:][:len(row)]
		out := grad.Row(i)
		total := 0.0
		for _, v := range w {
			total += v
		}
		for j, v := range row {
			if legal[j] {
				pi := math.Exp(float64(v) - lse[i])
				out[j] = float32(w[j] - float64(total*pi))
			} else {
				out[j] = 0
			}
		}
	}
}
