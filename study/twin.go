package study

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/policy"
)

// twin is a tanh network with a uniform P_B written a second time, in float64
// and as simply as can be: the reference for numeric gradients, which the
// float32 of the real one would drown.
type twin struct {
	layers []twinLayer // the trunk, then the P_F head
	params int
	acts   int
}

type twinLayer struct {
	weight, bias policy.Param
	in, out      int
	turned       bool // the matrix is [out, in]
}

func newTwin(m policy.Model, features, actions int) (*twin, error) {
	layout := m.Layout()
	t := &twin{params: layout.Size(), acts: actions}
	in := features
	for i := 0; ; i++ {
		w, ok := layout.Find(fmt.Sprintf("trunk.%d.weight", i))
		if !ok {
			break
		}
		b, _ := layout.Find(fmt.Sprintf("trunk.%d.bias", i))
		t.layers = append(t.layers, twinLayer{w, b, in, b.Len(), false})
		in = b.Len()
	}
	w, found := layout.Find("forward.weight")
	b, biased := layout.Find("forward.bias")
	if !found || !biased || len(t.layers) == 0 || t.used()+w.Len()+b.Len() != t.params {
		return nil, fmt.Errorf("study: no perceptron with a uniform P_B: %v", layout)
	}
	t.layers = append(t.layers, twinLayer{w, b, in, actions, true})
	return t, nil
}

func (t *twin) used() (n int) {
	for _, l := range t.layers {
		n += l.weight.Len() + l.bias.Len()
	}
	return n
}

// logPF is log P_F of every trajectory of a batch.
func (t *twin) logPF(params []float64, b *policy.Batch, out []float64) {
	s := &b.States
	rows := make([]float64, s.N*t.acts)
	for i := range s.N {
		t.row(params, s.FeatIndex[s.FeatOffset[i]:s.FeatOffset[i+1]], s.ForwardMask[i*t.acts:(i+1)*t.acts], rows[i*t.acts:(i+1)*t.acts])
	}
	for i := range out {
		out[i] = 0
		for k := b.FOffset[i]; k < b.FOffset[i+1]; k++ {
			out[i] += rows[int(b.FState[k])*t.acts+int(b.FAction[k])]
		}
	}
}

// row is the masked log-softmax of one state.
func (t *twin) row(params []float64, features []int32, legal []bool, out []float64) {
	var x []float64
	for i, l := range t.layers {
		w := params[l.weight.Offset:]
		y := append([]float64(nil), params[l.bias.Offset:l.bias.Offset+l.out]...)
		for k := range y {
			if i == 0 {
				for _, f := range features {
					y[k] += w[int(f)*l.out+k]
				}
			}
			for j, v := range x {
				if l.turned {
					y[k] += v * w[k*l.in+j]
				} else {
					y[k] += v * w[j*l.out+k]
				}
			}
			if !l.turned {
				y[k] = math.Tanh(y[k])
			}
		}
		x = y
	}
	sum := 0.0
	for a, ok := range legal {
		if ok {
			sum += math.Exp(x[a])
		}
	}
	for a, ok := range legal {
		if out[a] = math.Inf(-1); ok {
			out[a] = x[a] - math.Log(sum)
		}
	}
}
