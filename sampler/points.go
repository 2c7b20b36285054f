package sampler

import (
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/policy"
)

// Wide is how many times the standard deviation of P_F the noise of an exploring
// step has: there is no uniform distribution over a space.
const Wide = 3

// draw takes a step of every active row where actions are points; the states from
// scored on are new. With the mean m and the standard deviations s of P_F the
// behaviour is, as for listed actions, P_F at a temperature mixed with exploration:
//
//	(1−ε)·N(m, T·s²) + ε·N(m, Wide²·s²)
//
// P_F^(1/T), normalised, is the normal distribution of T times the variance. The
// mixture is of whole steps, not of coordinates. LogBehaviour is of the point as it
// was rounded to float32.
func (r *Roller) draw(scored int, eps, temp float64, dst []wire.Trajectory) error {
	n, d := r.batch.States.N, r.spec.ActionDim
	known, more := scored*2*d, (n-scored)*2*d
	r.q = slices.Grow(r.q[:known], more)[:known+more]
	moments, err := r.tape.Extend()
	if err != nil {
		return err
	}
	copy(r.q[known:], moments)
	narrow := math.Sqrt(temp)
	for k, row := range r.active {
		at := int(r.trace.At(row)) * 2 * d
		mean, std := r.q[at:at+d], r.q[at+d:at+2*d]
		pcg, factor := &r.pcg[row], narrow
		if eps > 0 && uniform(pcg) < eps {
			factor = Wide
		}
		point := r.actions[k*d : (k+1)*d]
		for j := 0; j < d; j += 2 {
			a, b := normals(uniform(pcg), uniform(pcg))
			point[j] = envs.Word(float32(mean[j] + float64(factor*std[j]*a)))
			if j+1 < d {
				point[j+1] = envs.Word(float32(mean[j+1] + float64(factor*std[j+1]*b)))
			}
		}
		lq := logScaled(point, mean, std, narrow)
		if eps > 0 {
			lq = logMix(eps, logScaled(point, mean, std, Wide), lq)
		}
		if lq-lq != 0 {
			return fmt.Errorf("%w: a step of trajectory %d has log-probability %v", policy.ErrNonFinite, dst[row].Seq, lq)
		}
		dst[row].LogBehaviour += lq
		dst[row].Actions = append(dst[row].Actions, point...)
	}
	return nil
}

// logScaled is the log-density of a point where all standard deviations are a
// multiple of std.
func logScaled(point []int32, mean, std []float64, factor float64) float64 {
	sum := -float64(len(point)) * (math.Log(factor) + math.Log(2*math.Pi)/2)
	for j, w := range point {
		z := (float64(envs.Coordinate(w)) - mean[j]) / (std[j] * factor)
		sum -= float64(z*z)/2 + math.Log(std[j])
	}
	return sum
}

// logMix is log(ε·e^a + (1−ε)·e^b).
func logMix(eps, a, b float64) float64 {
	if eps == 1 {
		return a
	}
	a, b = a+math.Log(eps), b+math.Log1p(-eps)
	top := max(a, b)
	return top + math.Log(math.Exp(a-top)+math.Exp(b-top))
}

// normals turns two uniform numbers of [0, 1) into two independent standard normal
// ones (Box and Muller, 1958).
func normals(u, v float64) (float64, float64) {
	radius := math.Sqrt(-2 * math.Log(1-u))
	sin, cos := math.Sincos(2 * math.Pi * v)
	return radius * cos, radius * sin
}
