// Package policy holds models: things that give log-probabilities to
// trajectories, and gradients of weighted sums of them. A model knows nothing
// about losses, and a loss nothing about models: the gradient of any f-TB
// member is Σ w·∇log-prob, so Score and Backprop are all that they share.
package policy

// Param names one tensor inside the flat parameter vector.
type Param struct {
	Name   string `msgpack:"name" json:"name"`
	Shape  []int  `msgpack:"shape" json:"shape"`
	Group  string `msgpack:"group" json:"group"` // optimiser group: "forward" (trunk and P_F), "backward" (P_B head), "flow", "log_z"
	Offset int    `msgpack:"offset" json:"offset"`
}

// Layout lists the tensors of a flat float32 vector in order, without gaps.
type Layout []Param

// Direction selects one of the two policies of a model.
type Direction int

const (
	Forward  Direction = iota // P_F, over Spec.Actions
	Backward                  // P_B, over Spec.BackwardActions
)

// States are n distinct states as a model sees them: sparse binary features
// in CSR form and the masks of legal actions.
type States struct {
	N            int
	FeatOffset   []int32 // len N+1; row i has features FeatIndex[FeatOffset[i]:FeatOffset[i+1]]
	FeatIndex    []int32
	ForwardMask  []bool // N × Actions, row-major
	BackwardMask []bool // N × BackwardActions, row-major; a row may be all false
	// Dense features, N × Spec.Dense, row-major: what states have in place of all
	// the others where actions are points.
	Dense []float32
}

// Batch is a set of transitions over shared states. States that coincide are
// stored, scored and differentiated once; the transitions point at them. Where
// actions are points, each takes Spec.ActionDim words of FAction and BAction.
type Batch struct {
	States States
	// Forward transitions: the action FAction[t] was taken in state FState[t].
	FState, FAction []int32
	// Backward transitions: BAction[t] leads from state BState[t] to its
	// parent. Forced steps (envs.Only) have log P_B = 0 and do not appear.
	BState, BAction []int32
	// Trajectory i owns forward transitions FOffset[i]:FOffset[i+1] and
	// backward transitions BOffset[i]:BOffset[i+1]. Forward transitions behind
	// those of the last trajectory belong to none: see Into.
	FOffset, BOffset []int32
	// Undo is, for each forward transition of a trajectory, the backward one that
	// undoes it; −1 where that is forced.
	Undo []int32
	// Potential is, for each state, the log-reward that it is known to have while
	// it is unfinished (envs.Potential); 0 for objects. Only with Trace.Potentials.
	Potential []float64
	// Into is, for each forward transition of a trajectory, the list of all
	// transitions that lead where it leads; −1 where it is the only one. List l
	// is forward transitions EdgeOffset[l]:EdgeOffset[l+1], which belong to no
	// trajectory. Only with Trace.Parents.
	Into, EdgeOffset []int32
}

// Scores are the log-probabilities of a batch's transitions.
type Scores struct {
	LogPF []float64 // one per forward transition
	LogPB []float64 // one per backward transition
	LogF  []float64 // log F of each state; empty for a model without flows
}

// Weights are the coefficients of each transition's log-probability, and of each
// state's log F, in the objective whose gradient Backprop computes. A nil slice
// means all zero. A model without flows does not look at F.
type Weights struct {
	PF []float64
	PB []float64
	F  []float64
}

// Model is an architecture: pure, immutable, shareable.
type Model interface {
	Layout() Layout
	// Init writes initial parameters (len Layout().Size()) drawn from seed.
	Init(params []float32, seed uint64)
	// NewTape returns a workspace for one goroutine.
	NewTape() Tape
}

// Tape evaluates a model and remembers what the backward pass needs. Its
// buffers are reused: in the steady state a call allocates nothing. Parameter
// vectors may be longer than the layout (a learner appends its log Z); what
// follows is not touched. Equal calls give equal bits, however many cores share
// the work.
type Tape interface {
	// LogProbs writes the masked log-softmax of each state (N × actions of the
	// direction, row-major); illegal actions get -Inf, rows without a legal
	// action are all -Inf.
	LogProbs(params []float32, s *States, dir Direction, out []float32) error
	// Begin starts a pass over states that may still be appended to s: a rollout
	// is scored as it is sampled. Parameters, and states that were scored, must not
	// change until the pass is over. With keep the tape remembers the pass for
	// Finish.
	Begin(params []float32, s *States, keep bool) error
	// Extend scores the states that were appended to s since the last Extend and
	// returns the probabilities P_F of their actions, row by row, 0 for illegal
	// ones; of a Continuous model the moments of P_F. They are the tape's own, and
	// valid until the next call.
	Extend() (prob []float64, err error)
	// Finish writes the log-probability of every transition (float64 sums), and
	// log F of every state where the model has flows, of a batch whose States are those of a pass that is kept. A transition that the
	// mask forbids (ErrForbidden), a non-finite logit (ErrNonFinite) or slices that
	// do not fit (ErrShape) are errors; without such a pass it is ErrNoPass. It
	// ends the pass.
	Finish(b *Batch, out *Scores) error
	// Score is Begin and Finish.
	Score(params []float32, b *Batch, out *Scores) error
	// Backprop adds ∇ Σ w·log-prob, and w·log F, for the batch and parameters of the last
	// Score or Finish to grad. Both must be as they were then. It may be called several
	// times, but is ErrNoScore after a failed Score or any other call.
	Backprop(w *Weights, grad []float32) error
	// Share lets a tape spread its work over cores; nil takes that back.
	Share(c Cores)
}

// Continuous is the Tape of a model whose actions are points. Its LogProbs is
// ErrContinuous: there is no list of actions.
type Continuous interface {
	Tape
	// Moments writes the parameters of the direction's normal distribution of every
	// state to out (N × 2·ActionDim, row-major): the means of all coordinates, then
	// their standard deviations. Both are NaN where the step is forced, or none is left.
	Moments(params []float32, s *States, dir Direction, out []float64) error
}

// Cores runs parts of some work at the same time. Models hold no goroutines of
// their own: whoever owns a tape lends it some.
type Cores interface {
	// Num is how many parts can run at once, at least 1.
	Num() int
	// Do calls *f once for each part from 0 to parts−1 and returns when all have
	// returned.
	Do(parts int, f *func(part int))
}

// Size returns the number of parameters.
func (l Layout) Size() int {
	n := 0
	for _, p := range l {
		n += p.Len()
	}
	return n
}

// Len returns the number of elements of the tensor.
func (p Param) Len() int {
	n := 1
	for _, d := range p.Shape {
		n *= d
	}
	return n
}

// Append returns the layout with one more tensor at the end.
func (l Layout) Append(name, group string, shape ...int) Layout {
	out := append(Layout(nil), l...)
	return append(out, Param{Name: name, Shape: shape, Group: group, Offset: l.Size()})
}

// Find returns the tensor of that name.
func (l Layout) Find(name string) (Param, bool) {
	for _, p := range l {
		if p.Name == name {
			return p, true
		}
	}
	return Param{}, false
}
