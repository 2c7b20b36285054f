package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/driftmesh/driftmesh/policy"
	"github.com/driftmesh/driftmesh/policy/policytest"
)

// objective64 is Σ w·log-prob + Σ w·log F of the MLP, written as plainly as it can be, in
// float64 and one transition after another.
func objective64(v variant, layout policy.Layout, params []float64, b *policy.Batch, w *policy.Weights) float64 {
	tensor := func(name string) ([]float64, policy.Param) {
		p, _ := layout.Find(name)
		return params[p.Offset : p.Offset+p.Len()], p
	}
	hidden := func(state int32) []float64 {
		x := make([]float64, v.shape.Features)
		for _, f := range b.States.FeatIndex[b.States.FeatOffset[state]:b.States.FeatOffset[state+1]] {
			x[f] = 1
		}
		for i, width := range v.config.Hidden {
			weight, _ := tensor(fmt.Sprintf("trunk.%d.weight", i))
			bias, _ := tensor(fmt.Sprintf("trunk.%d.bias", i))
			y := make([]float64, width)
			for k := range y {
				y[k] = bias[k]
				for l := range x {
					y[k] += x[l] * weight[l*width+k]
				}
				switch {
				case v.config.Activation == "tanh":
					y[k] = math.Tanh(y[k])
				case y[k] < 0 && v.config.Activation == "relu":
					y[k] = 0
				case y[k] < 0:
					y[k] *= 0.01
				}
			}
			x = y
		}
		return x
	}
	logProb := func(head string, legal []bool, state, action int32) float64 {
		weight, p := tensor(head + ".weight")
		bias, _ := tensor(head + ".bias")
		h, sum, picked := hidden(state), 0.0, 0.0
		for a, ok := range legal {
			if !ok {
				continue
			}
			z := 0.0
			if p.Name != "" {
				z = bias[a]
				for l, x := range h {
					z += x * weight[a*len(h)+l]
				}
			}
			sum += math.Exp(z)
			if a == int(action) {
				picked = z
			}
		}
		return picked - math.Log(sum)
	}
	total := 0.0
	for i, s := range b.FState {
		total += w.PF[i] * logProb("forward", b.States.ForwardMask[int(s)*v.shape.Actions:][:v.shape.Actions], s, b.FAction[i])
	}
	for i, s := range b.BState {
		total += w.PB[i] * logProb("backward", b.States.BackwardMask[int(s)*v.shape.BackwardActions:][:v.shape.BackwardActions], s, b.BAction[i])
	}
	if weight, p := tensor("flow.weight"); p.Name != "" {
		bias, _ := tensor("flow.bias")
		for i, w := range w.F {
			total += w * bias[0]
			for l, x := range hidden(int32(i)) {
				total += w * x * weight[l]
			}
		}
	}
	return total
}

// TestGradientIsTheSlope compares Backprop with central differences of the
// float64 objective, parameter by parameter.
func TestGradientIsTheSlope(t *testing.T) {
	for name, v := range variants() {
		t.Run(name, func(t *testing.T) {
			v.config.Hidden = []int{6, 5}
			m := v.model(t)
			layout := m.Layout()
			r := rand.New(rand.NewPCG(2, 3))
			params := make([]float32, layout.Size())
			m.Init(params, 3)
			b := policytest.RandomBatch(r, v.shape, 6, 4)
			w := policytest.RandomWeights(r, b)

			tape, scores := m.NewTape(), policy.Scores{}
			if err := tape.Score(params, b, &scores); err != nil {
				t.Fatal(err)
			}
			grad := make([]float32, len(params))
			if err := tape.Backprop(w, grad); err != nil {
				t.Fatal(err)
			}
			wide := make([]float64, len(params))
			for i, p := range params {
				wide[i] = float64(p)
			}
			value := 0.0
			for i, logp := range scores.LogPF {
				value += w.PF[i] * logp
			}
			for i, logp := range scores.LogPB {
				value += w.PB[i] * logp
			}
			for i, log := range scores.LogF {
				value += w.F[i] * log
			}
			if want := objective64(v, layout, wide, b, w); math.Abs(value-want) > 1e-4 {
				t.Errorf("objective %v, in float64 %v", value, want)
			}
			const h = 1e-6
			slopes := make([]float64, len(params))
			for i, p := range wide {
				wide[i] = p + h
				up := objective64(v, layout, wide, b, w)
				wide[i] = p - h
				slopes[i] = (up - objective64(v, layout, wide, b, w)) / (2 * h)
				wide[i] = p
			}
			policytest.WantNear(t, "against central differences", layout, grad, slopes, 1e-5)
		})
	}
}
