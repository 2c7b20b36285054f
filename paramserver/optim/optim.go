// Package optim updates parameters along gradients: Adam and SGD with momentum,
// with clipping by the global norm and a learning rate per parameter group. It
// is deterministic, and its whole state can be taken out and put back.
package optim

import (
	"errors"
	"fmt"
	"math"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/kernels"
	"github.com/driftmesh/driftmesh/policy"
)

var (
	// ErrNonFinite: the gradient holds NaN or infinity, or its squares would
	// overflow float32. Nothing was changed.
	ErrNonFinite = errors.New("optim: non-finite gradient")
	// ErrShape: a vector's length is not that of the layout.
	ErrShape = errors.New("optim: shapes do not fit")
	// ErrRate: a learning rate is negative or not finite.
	ErrRate = errors.New("optim: bad learning rate")
)

// maxNorm is the longest gradient whose squares fit into float32 moments.
const maxNorm = 1e19

// Kinds of optimisers.
const (
	Adam = "adam"
	SGD  = "sgd"
)

// Hyper holds what does not change over a job.
type Hyper struct {
	Kind         string  // Adam or SGD
	Beta1, Beta2 float64 // Adam: decay of the moments, in [0, 1)
	Epsilon      float64 // Adam: added to √v, positive
	Momentum     float64 // SGD: heavy-ball momentum, in [0, 1)
	ClipNorm     float64 // longest gradient; longer ones are scaled down to it. 0: no clipping
}

// FromSpec takes the constants out of a job's optimiser.
func FromSpec(o job.Optimiser) Hyper {
	return Hyper{Kind: o.Kind, Beta1: o.Beta1, Beta2: o.Beta2, Epsilon: o.Epsilon,
		Momentum: o.Momentum, ClipNorm: o.ClipNorm}
}

// Rates are the learning rates of one step, by parameter group.
type Rates struct {
	Forward  float64 // trunk and P_F head
	Backward float64 // P_B head
	Flow     float64 // head of log F(s)
	LogZ     float64 // learned log Z
}

// of is the rate of a group, nil for a group that has none.
func (r *Rates) of(group string) *float64 {
	switch group {
	case policy.GroupForward:
		return &r.Forward
	case policy.GroupBackward:
		return &r.Backward
	case policy.GroupFlow:
		return &r.Flow
	case policy.GroupLogZ:
		return &r.LogZ
	}
	return nil
}

// State is everything that an optimiser remembers between steps.
type State struct {
	Step uint64 // steps taken
	// M holds Adam's first moments, or SGD's momentum; V Adam's second moments.
	// Each has the length of the parameters, or is nil where there is none.
	M, V []float32
}

// span is a range of parameters of one group.
type span struct {
	lo, hi int
	group  string
}

// Optimiser applies gradients to one parameter vector. It is for one goroutine;
// a step allocates nothing.
type Optimiser struct {
	hyper Hyper
	size  int
	spans []span
	state State

	// The step under way, which cores share.
	cores        policy.Cores
	params, grad []float32
	rates        Rates
	scale        float64
	part         func(part int)
}

// Moments is how many vectors of the parameters' length an optimiser keeps.
func (h Hyper) Moments() int {
	switch {
	case h.Kind == Adam:
		return 2
	case h.Momentum > 0:
		return 1
	}
	return 0
}

// New returns an optimiser at step 0 for parameters of that layout. Faults in h
// are *fielderr.Error, joined when there are several.
func New(h Hyper, layout policy.Layout) (*Optimiser, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	o := &Optimiser{hyper: h, size: layout.Size()}
	o.part = o.move
	for _, p := range layout {
		if new(Rates).of(p.Group) == nil {
			return nil, fmt.Errorf("optim: tensor %s is in the unknown group %q", p.Name, p.Group)
		}
		if n := len(o.spans); n > 0 && o.spans[n-1].group == p.Group && o.spans[n-1].hi == p.Offset {
			o.spans[n-1].hi += p.Len()
			continue
		}
		o.spans = append(o.spans, span{p.Offset, p.Offset + p.Len(), p.Group})
	}
	if h.Moments() > 0 {
		o.state.M = make([]float32, o.size)
	}
	if h.Moments() > 1 {
		o.state.V = make([]float32, o.size)
	}
	return o, nil
}

// Check says what is wrong with the constants, as New does.
func (h Hyper) Check() error {
	var faults []error
	within := func(path string, v float64, ok bool, want string) {
		if !ok || math.IsNaN(v) || math.IsInf(v, 0) {
			faults = append(faults, fielderr.New(path, v, want))
		}
	}
	switch h.Kind {
	case Adam:
		within("beta1", h.Beta1, h.Beta1 >= 0 && h.Beta1 < 1, "a number from 0 to below 1")
		within("beta2", h.Beta2, h.Beta2 >= 0 && h.Beta2 < 1, "a number from 0 to below 1")
		within("epsilon", h.Epsilon, float32(h.Epsilon) > 0, "a small number above 0")
	case SGD:
		within("momentum", h.Momentum, h.Momentum >= 0 && h.Momentum < 1, "a number from 0 to below 1")
	default:
		faults = append(faults, fielderr.New("kind", h.Kind, "adam or sgd"))
	}
	within("clip_norm", h.ClipNorm, h.ClipNorm >= 0, "a number above 0, or 0 for no clipping")
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// Step moves params against grad, each group at its rate, and returns the
// Euclidean norm of grad over all groups, before clipping. After an error
// nothing has changed.
func (o *Optimiser) Step(params, grad []float32, rates Rates) (norm float64, err error) {
	if len(params) != o.size || len(grad) != o.size {
		return 0, fmt.Errorf("%w: %d parameters and a gradient of %d, the layout has %d",
			ErrShape, len(params), len(grad), o.size)
	}
	for _, s := range o.spans {
		if r := *rates.of(s.group); !(r >= 0) || math.IsInf(float64(float32(r)), 0) {
			return 0, fmt.Errorf("%w: %v for %s", ErrRate, r, s.group)
		}
	}
	norm = math.Sqrt(kernels.SumSquares(grad))
	scale := 1.0
	if o.hyper.ClipNorm > 0 && norm > o.hyper.ClipNorm {
		scale = o.hyper.ClipNorm / norm
	}
	if !(norm*scale <= maxNorm) { // NaN too
		return norm, fmt.Errorf("%w: its norm is %v", ErrNonFinite, norm)
	}
	o.state.Step++
	o.params, o.grad, o.rates, o.scale = params, grad, rates, scale
	if parts := (o.size + piece - 1) / piece; o.cores != nil && parts > 1 {
		o.cores.Do(parts, &o.part)
	} else {
		for p := range parts {
			o.move(p)
		}
	}
	return norm, nil
}

// Share lets a step be spread over cores; nil takes that back. The bits are the same.
func (o *Optimiser) Share(c policy.Cores) { o.cores = c }

// piece is how many parameters one core moves at a time.
const piece = 16 << 10

// move moves the parameters of a piece.
func (o *Optimiser) move(part int) {
	from, to := part*piece, min((part+1)*piece, o.size)
	for _, s := range o.spans {
		if lo, hi := max(s.lo, from), min(s.hi, to); lo < hi {
			o.apply(span{lo, hi, s.group}, o.params[lo:hi], o.grad[lo:hi], *o.rates.of(s.group), o.scale)
		}
	}
}

func (o *Optimiser) apply(s span, params, grad []float32, rate, scale float64) {
	h, t := &o.hyper, float64(o.state.Step)
	switch {
	case h.Kind == Adam:
		kernels.Adam(params, grad, o.state.M[s.lo:s.hi], o.state.V[s.lo:s.hi], kernels.AdamStep{
			Beta1: float32(h.Beta1), Beta2: float32(h.Beta2),
			Rate:      float32(rate / (1 - math.Pow(h.Beta1, t))),
			VScale:    float32(1 / math.Sqrt(1-math.Pow(h.Beta2, t))),
			Epsilon:   float32(h.Epsilon),
			GradScale: float32(scale),
		})
	case h.Momentum > 0:
		kernels.Momentum(params, grad, o.state.M[s.lo:s.hi], float32(rate), float32(h.Momentum), float32(scale))
	default:
		kernels.Axpy(-float32(rate*scale), grad, params)
	}
}

// State returns the present state, to be written down before the next Step or
// Restore: its slices are the optimiser's own.
func (o *Optimiser) State() State { return o.state }

// Restore puts a copy of s in place of the present state. It must come from an
// optimiser of the same kind and layout; after an error nothing has changed.
func (o *Optimiser) Restore(s State) error {
	if len(s.M) != len(o.state.M) || len(s.V) != len(o.state.V) {
		return fmt.Errorf("%w: a state with moments of %d and %d elements, want %d and %d",
			ErrShape, len(s.M), len(s.V), len(o.state.M), len(o.state.V))
	}
	if sum := kernels.SumSquares(s.M) + kernels.SumSquares(s.V); math.IsNaN(sum) || math.IsInf(sum, 0) {
		return fmt.Errorf("%w: in the moments of a restored state", ErrNonFinite)
	}
	for i, v := range s.V {
		if v < 0 {
			return fmt.Errorf("optim: second moment %d of a restored state is %v, below 0", i, v)
		}
	}
	copy(o.state.M, s.M)
	copy(o.state.V, s.V)
	o.state.Step = s.Step
	return nil
}
