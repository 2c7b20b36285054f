package kernels

import "math"

// Softmax writes the probability of each action of each row (Rows × Cols,
// row-major), 0 for those that mask (alike) forbids, and log Σ exp over the legal
// logits, -Inf for a row without a legal action. Both are computed in float64. It
// returns the first row that holds a non-finite logit, legal or not, or -1.
func Softmax(prob, lse []float64, logits Matrix, mask []bool) (bad int) {
	bad = -1
	for i := range logits.Rows {
		row := logits.Row(i)
		legal := mask[i*logits.Cols:][:len(row)]
		p := prob[i*logits.Cols:][:len(row)]
		top, odd := float32(math.Inf(-1)), float32(0)
		for j, v := range row {
			odd += v - v // NaN once a logit is ±Inf or NaN
			if legal[j] && v > top {
				top = v
			}
		}
		if odd != 0 && bad < 0 {
			bad = i
		}
		if math.IsInf(float64(top), -1) {
			clear(p)
			lse[i] = math.Inf(-1)
			continue
		}
		sum := 0.0
		for j, v := range row {
			p[j] = 0
			if legal[j] {
				p[j] = math.Exp(float64(v) - float64(top))
				sum += p[j]
			}
		}
		lse[i] = float64(top) + math.Log(sum)
		scale := 1 / sum
		for j := range p {
			p[j] *= scale
		}
	}
	return bad
}

// LogSoftmax writes logit − lse for legal actions and -Inf for the others
// (dst is Rows × Cols, row-major); lse is that of Softmax.
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
// row-major) holds the sum of the weights of each (state, action), 0 where it is
// illegal, and prob the π of Softmax. It is computed in float64 and rounded once.
func LogSoftmaxBackward(grad Matrix, prob, weight []float64) {
	for i := range grad.Rows {
		out := grad.Row(i)
		w, p := weight[i*grad.Cols:][:len(out)], prob[i*grad.Cols:][:len(out)]
		total := 0.0
		for _, v := range w {
			total += v
		}
		for j := range out {
			out[j] = float32(w[j] - float64(total*p[j]))
		}
	}
}
