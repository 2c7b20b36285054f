package policy

import (
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/kernels"
)

// mlpTape implements Tape for an MLP: one forward pass and what its backward
// pass needs. Buffers grow to the largest batch seen and are kept.
type mlpTape struct {
	m    *MLP
	size int // number of parameters

	// The last Score; nil batch when there is none to differentiate.
	batch  *Batch
	params []float32

	hidden  []kernels.Matrix // outputs of the trunk's layers, N × width
	heads   [2]headTape      // by Direction
	grads   [2][]float32     // gradients of two successive layers, taking turns
	weightT []float32        // a transposed matrix
}

// headTape is the part of a tape that a policy head needs.
type headTape struct {
	logits kernels.Matrix
	lse    []float64 // log-normaliser of each state
	weight []float64 // sum of the weights of each (state, action)
	grad   []float32
}

// LogProbs implements Tape.
func (t *mlpTape) LogProbs(params []float32, s *States, dir Direction, out []float32) error {
	t.batch = nil
	mask, err := t.check(params, s, dir)
	if err != nil {
		return err
	}
	if len(out) != len(mask) {
		return fmt.Errorf("%w: %d log-probabilities for %d states", ErrShape, len(out), s.N)
	}
	if h := t.m.head[dir]; h.uniform {
		uniformLogProbs(out, mask, h.out)
		return nil
	}
	t.runTrunk(params, s)
	if err := t.runHead(params, s.N, dir, mask); err != nil {
		return err
	}
	h := &t.heads[dir]
	kernels.LogSoftmax(out, h.logits, mask, h.lse)
	return nil
}

// Score implements Tape. It keeps params and b, which must be unchanged when
// Backprop is called.
func (t *mlpTape) Score(params []float32, b *Batch, out *Scores) error {
	t.batch = nil
	forward, err := t.check(params, &b.States, Forward)
	if err != nil {
		return err
	}
	backward, err := t.check(params, &b.States, Backward)
	if err != nil {
		return err
	}
	t.runTrunk(params, &b.States)
	if err := t.runHead(params, b.States.N, Forward, forward); err != nil {
		return err
	}
	if out.LogPF, err = t.pick(out.LogPF, Forward, b.States.N, b.FState, b.FAction, forward); err != nil {
		return err
	}
	if len(b.BState) > 0 && !t.m.head[Backward].uniform {
		if err := t.runHead(params, b.States.N, Backward, backward); err != nil {
			return err
		}
	}
	if out.LogPB, err = t.pick(out.LogPB, Backward, b.States.N, b.BState, b.BAction, backward); err != nil {
		return err
	}
	t.batch, t.params = b, params
	return nil
}

// check compares the shapes of params and states with the model's and returns
// the mask of the direction.
func (t *mlpTape) check(params []float32, s *States, dir Direction) ([]bool, error) {
	if len(params) < t.size {
		return nil, fmt.Errorf("%w: %d parameters, the model has %d", ErrShape, len(params), t.size)
	}
	if dir != Forward && dir != Backward {
		return nil, fmt.Errorf("%w: direction %d", ErrShape, dir)
	}
	mask := s.ForwardMask
	if dir == Backward {
		mask = s.BackwardMask
	}
	if width := t.m.head[dir].out; len(mask) != s.N*width {
		return nil, fmt.Errorf("%w: a mask of %d for %d states with %d actions", ErrShape, len(mask), s.N, width)
	}
	if s.N < 0 || len(s.FeatOffset) != s.N+1 {
		return nil, fmt.Errorf("%w: %d feature offsets for %d states", ErrShape, len(s.FeatOffset), s.N)
	}
	last := int32(0)
	for i, end := range s.FeatOffset {
		if end < last || int(end) > len(s.FeatIndex) || i == 0 && end != 0 {
			return nil, fmt.Errorf("%w: feature offset %d is %d", ErrShape, i, end)
		}
		last = end
	}
	for i, f := range s.FeatIndex[:last] {
		if uint(f) >= uint(t.m.features) {
			return nil, fmt.Errorf("%w: feature %d at %d, the model has %d", ErrShape, f, i, t.m.features)
		}
	}
	return mask, nil
}

// runTrunk fills t.hidden.
func (t *mlpTape) runTrunk(params []float32, s *States) {
	for i, l := range t.m.trunk {
		out := resize(&t.hidden[i].Data, s.N*l.out)
		h := kernels.Dense(s.N, l.out, out)
		kernels.SetRows(h, l.bias.of(params))
		if w := l.weight.matrix(params); i == 0 {
			kernels.GatherAdd(h, w, s.FeatOffset, s.FeatIndex)
		} else {
			kernels.MulNN(h, t.hidden[i-1], w)
		}
		kernels.Activate(h, t.m.act)
		t.hidden[i] = h
	}
}

// runHead fills the logits and log-normalisers of a learned head.
func (t *mlpTape) runHead(params []float32, n int, dir Direction, mask []bool) error {
	l, h := t.m.head[dir].dense, &t.heads[dir]
	h.logits = kernels.Dense(n, l.out, resize(&h.logits.Data, n*l.out))
	kernels.SetRows(h.logits, l.bias.of(params))
	kernels.MulNT(h.logits, t.hidden[len(t.hidden)-1], l.weight.matrix(params))
	if bad := kernels.LogSumExp(resize(&h.lse, n), h.logits, mask); bad >= 0 {
		return fmt.Errorf("%w of the %s policy in state %d", ErrNonFinite, dir, bad)
	}
	return nil
}

// pick writes the log-probability of every transition of a direction.
func (t *mlpTape) pick(dst []float64, dir Direction, n int, state, action []int32, mask []bool) ([]float64, error) {
	if len(state) != len(action) {
		return dst, fmt.Errorf("%w: %d states and %d actions of %s transitions", ErrShape, len(state), len(action), dir)
	}
	resize(&dst, len(state))
	h, tape := t.m.head[dir], &t.heads[dir]
	for i, s := range state {
		a := action[i]
		if uint(s) >= uint(n) {
			return dst, fmt.Errorf("%w: %s transition %d is from state %d of %d", ErrShape, dir, i, s, n)
		}
		if uint(a) >= uint(h.out) || !mask[int(s)*h.out+int(a)] {
			return dst, fmt.Errorf("%w: %s transition %d takes action %d in state %d", ErrForbidden, dir, i, a, s)
		}
		if h.uniform {
			dst[i] = uniformLogProb(mask[int(s)*h.out:][:h.out])
		} else {
			dst[i] = float64(tape.logits.Data[int(s)*h.out+int(a)]) - tape.lse[s]
		}
	}
	return dst, nil
}

// Backprop implements Tape. dlogits = Σ w·onehot − (Σ w)·π per state, the sums
// in the order of the transitions.
func (t *mlpTape) Backprop(w *Weights, grad []float32) error {
	b := t.batch
	if b == nil {
		return ErrNoScore
	}
	if len(grad) < t.size {
		return fmt.Errorf("%w: a gradient of %d, the model has %d parameters", ErrShape, len(grad), t.size)
	}
	if w.PF != nil && len(w.PF) != len(b.FState) || w.PB != nil && len(w.PB) != len(b.BState) {
		return fmt.Errorf("%w: %d and %d weights for %d forward and %d backward transitions",
			ErrShape, len(w.PF), len(w.PB), len(b.FState), len(b.BState))
	}
	n, top := b.States.N, len(t.m.trunk)-1
	d := kernels.Dense(n, t.m.trunk[top].out, resize(&t.grads[top%2], n*t.m.trunk[top].out))
	kernels.Zero(d)
	if len(w.PF) > 0 {
		t.headBackward(Forward, w.PF, b.FState, b.FAction, b.States.ForwardMask, grad, d)
	}
	if len(w.PB) > 0 && !t.m.head[Backward].uniform {
		t.headBackward(Backward, w.PB, b.BState, b.BAction, b.States.BackwardMask, grad, d)
	}
	for i := top; i >= 0; i-- {
		l := t.m.trunk[i]
		kernels.ActivateBackward(d, t.hidden[i], t.m.act)
		kernels.SumRows(l.bias.of(grad), d)
		dw := l.weight.matrix(grad)
		if i == 0 {
			kernels.ScatterAdd(dw, d, b.States.FeatOffset, b.States.FeatIndex)
			return nil
		}
		kernels.MulTN(dw, t.hidden[i-1], d)
		// Rectified gradients are half zero: Wᵀ is worth making, so that the
		// product can skip them.
		wT := kernels.Dense(l.out, l.in, resize(&t.weightT, l.in*l.out))
		kernels.Transpose(wT, l.weight.matrix(t.params))
		below := kernels.Dense(n, l.in, resize(&t.grads[(i-1)%2], n*l.in))
		kernels.Zero(below)
		kernels.MulNN(below, d, wT)
		d = below
	}
	return nil
}

// headBackward adds a head's gradient to grad and its gradient with respect to
// the trunk's output to d.
func (t *mlpTape) headBackward(dir Direction, w []float64, state, action []int32, mask []bool, grad []float32, d kernels.Matrix) {
	l, h := t.m.head[dir].dense, &t.heads[dir]
	weight := resize(&h.weight, d.Rows*l.out)
	clear(weight)
	for i, s := range state {
		weight[int(s)*l.out+int(action[i])] += w[i]
	}
	dlogits := kernels.Dense(d.Rows, l.out, resize(&h.grad, d.Rows*l.out))
	kernels.LogSoftmaxBackward(dlogits, h.logits, mask, h.lse, weight)
	kernels.SumRows(l.bias.of(grad), dlogits)
	kernels.MulTN(l.weight.matrix(grad), dlogits, t.hidden[len(t.hidden)-1])
	kernels.MulNN(d, dlogits, l.weight.matrix(t.params))
}

// String names the direction.
func (d Direction) String() string {
	if d == Backward {
		return "backward"
	}
	return "forward"
}

// uniformLogProb is −log of the number of legal actions.
func uniformLogProb(legal []bool) float64 {
	n := 0
	for _, ok := range legal {
		if ok {
			n++
		}
	}
	return -math.Log(float64(n))
}

func uniformLogProbs(out []float32, mask []bool, width int) {
	illegal := float32(math.Inf(-1))
	for i := 0; i < len(mask); i += width {
		legal := mask[i : i+width]
		logp := float32(uniformLogProb(legal))
		for j, ok := range legal {
			if ok {
				out[i+j] = logp
			} else {
				out[i+j] = illegal
			}
		}
	}
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
