package losses

import (
	"fmt"
	"slices"
)

// Objective says what the residuals of a loss are made of, and so what the
// weights of scores are. Implementations keep workspace: one goroutine uses one
// at a time.
type Objective interface {
	// Evaluate computes loss, weights and diagnostics of a batch at an update. It
	// changes no state but that of State, and that only on success. A score that is
	// not finite is an error that names the trajectory and wraps ErrNonFinite.
	Evaluate(update int64, in *Input, out *Output) error
	// Member is the divergence at an update.
	Member(update int64) Divergence
	// State returns what evaluations carry over from one to the next, often
	// nothing; Restore sets it.
	State() []float64
	Restore(state []float64) error
}

// Steps are the scores of a batch's transitions and states. Slices are shared
// with whoever made them and are not changed.
type Steps struct {
	// Trajectory i owns transitions Offset[i]:Offset[i+1], from s0 to its object.
	// Those behind the last belong to none: see Into.
	Offset []int32
	// State is, for each transition, the index in LogF of the state that it leaves.
	State []int32
	// Undo is, for each transition of a trajectory, the index in LogPB of the
	// backward one; −1 where that is forced, with log P_B = 0.
	Undo         []int32
	LogPF, LogPB []float64
	// LogF is log F(s) of each state. That of s0 is not looked at: log Z is its
	// flow. An object's is its log R.
	LogF []float64
	// Potential, where there is one, is added to LogF: flows are relative to it.
	Potential []float64
	// PotentialScale multiplies Potential: the exponent of the reward.
	PotentialScale float64
	// Into is, for each transition of a trajectory, the list of all transitions
	// into the state where it leads, −1 where it is the only one; list l is
	// transitions EdgeOffset[l]:EdgeOffset[l+1]. Flow matching only.
	Into, EdgeOffset []int32
}

// flow is log F of the state that a transition leaves; of a trajectory's first
// transition it is logZ.
func (s *Steps) flow(state int32) float64 {
	f := s.LogF[state]
	if len(s.Potential) > 0 {
		f += float64(s.PotentialScale * s.Potential[state])
	}
	return f
}

// undone is log P_B of the step back over a transition.
func (s *Steps) undone(step int32) float64 {
	if b := s.Undo[step]; b >= 0 {
		return s.LogPB[b]
	}
	return 0
}

// check compares the shapes, so that whatever follows stays inside of them.
func (s *Steps) check(n int) error {
	if s == nil {
		return fmt.Errorf("%w: no transitions", ErrInput)
	}
	bad := len(s.Offset) != n+1 || len(s.State) != len(s.LogPF) || !emptyOr(len(s.Potential), len(s.LogF))
	if bad || s.Offset[0] != 0 || int(s.Offset[n]) > len(s.LogPF) || len(s.Undo) != int(s.Offset[n]) {
		return fmt.Errorf("%w: %d offsets, %d states and %d scores of transitions, %d flows, of %d trajectories",
			ErrInput, len(s.Offset), len(s.State), len(s.LogPF), len(s.LogF), n)
	}
	for i := range n {
		if s.Offset[i+1] <= s.Offset[i] {
			return fmt.Errorf("%w: trajectory %d has no transitions", ErrInput, i)
		}
	}
	for t, state := range s.State {
		if uint(state) >= uint(len(s.LogF)) {
			return fmt.Errorf("%w: transition %d leaves state %d of %d", ErrInput, t, state, len(s.LogF))
		}
	}
	for t, b := range s.Undo {
		if b < -1 || int(b) >= len(s.LogPB) {
			return fmt.Errorf("%w: transition %d is undone by %d of %d", ErrInput, t, b, len(s.LogPB))
		}
	}
	return nil
}

// checkEdges is check for the lists of transitions into states.
func (s *Steps) checkEdges() error {
	if len(s.Into) != len(s.Undo) {
		return fmt.Errorf("%w: %d transitions, the lists of transitions into states are for %d", ErrInput, len(s.Undo), len(s.Into))
	}
	lists := max(len(s.EdgeOffset)-1, 0)
	for t, l := range s.Into {
		if l < -1 || int(l) >= lists {
			return fmt.Errorf("%w: transition %d is in list %d of %d", ErrInput, t, l, lists)
		}
	}
	for l := range lists {
		if lo, hi := s.EdgeOffset[l], s.EdgeOffset[l+1]; lo < 0 || hi <= lo || int(hi) > len(s.LogPF) {
			return fmt.Errorf("%w: list %d is transitions %d to %d of %d", ErrInput, l, lo, hi, len(s.LogPF))
		}
	}
	return nil
}

// stepwise is what the objectives over Steps have in common: their log Z is
// learned, and they carry nothing over.
type stepwise struct {
	member   *Member
	backward Backward
	sorted   []float64
	tail     tailSums
}

func newStepwise(m *Member, b Backward) (stepwise, error) {
	// The checks are those of trajectory balance with the one normaliser.
	_, err := NewTB(Config{Member: m, Normaliser: Learned, Backward: b})
	return stepwise{member: m, backward: b}, err
}

// Member implements Objective.
func (s *stepwise) Member(update int64) Divergence { return s.member.At(update) }

// State implements Objective: there is none.
func (s *stepwise) State() []float64 { return nil }

// Restore implements Objective.
func (s *stepwise) Restore(state []float64) error {
	if len(state) > 0 {
		return fmt.Errorf("losses: state of %d numbers of an objective that has none: %w", len(state), ErrInput)
	}
	return nil
}

// begin checks the input and empties the output. The sum of the weights is total.
func (s *stepwise) begin(in *Input, out *Output) (total float64, err error) {
	n := len(in.LogPF)
	if err := in.check(1); err != nil {
		return 0, err
	}
	if err := in.Steps.check(n); err != nil {
		return 0, err
	}
	if total, err = checkWeights(in.Weights); err != nil {
		return 0, err
	}
	x := in.Steps
	out.PF, out.PB, out.F = resize(out.PF, len(x.LogPF)), resize(out.PB, len(x.LogPB)), resize(out.F, len(x.LogF))
	clear(out.PF)
	clear(out.PB)
	clear(out.F)
	out.W, out.WB, out.Delta = out.W[:0], out.WB[:0], out.Delta[:0]
	out.C = append(out.C[:0], in.LogZ)
	out.Loss, out.GradLogZ = 0, 0
	s.tail = tailSums{}
	return total, nil
}

// end fills the diagnostics.
func (s *stepwise) end(d Divergence, in *Input, out *Output) {
	s.sorted = out.Diagnostics.measure(d, in, out, s.sorted)
	out.Diagnostics.TailShare = s.tail.share()
}

// share is the part of the loss that is a trajectory's.
func (in *Input) share(i int, total float64) float64 {
	if len(in.Weights) > 0 {
		return in.Weights[i] / total
	}
	return 1 / float64(len(in.LogPF))
}

// likelihood gives log P_B of a trajectory's steps the weights of maximum likelihood.
func (s *stepwise) likelihood(x *Steps, i int, share float64, out *Output) {
	if s.backward != MaxLikelihood {
		return
	}
	for _, b := range x.Undo[x.Offset[i]:x.Offset[i+1]] {
		if b >= 0 {
			out.PB[b] -= share
		}
	}
}

// tailSums is the part of Σ|w| that lies at or beyond a tail.
type tailSums struct{ all, beyond float64 }

// tailScale keeps the sums finite, as weights may be near the largest float64.
const tailScale = 0x1p-64

func (t *tailSums) add(w, delta, start float64, has bool) {
	if !has {
		return
	}
	if w < 0 {
		w = -w
	}
	t.all += w * tailScale
	if delta >= start || delta <= -start {
		t.beyond += w * tailScale
	}
}

func (t *tailSums) share() float64 {
	if t.all == 0 {
		return 0
	}
	return t.beyond / t.all
}

// ObjectiveInfo describes an objective for listings.
type ObjectiveInfo struct {
	Name     string `json:"name"`
	Residual string `json:"residual"` // formula
	Weights  string `json:"weights"`  // what the residuals count
	Needs    string `json:"needs"`    // of model and environment, besides P_F
	Claims   string `json:"claims"`   // what is known of its minimum and its gradient
	Source   string `json:"source"`
	// Divergences says whether every member of the f-TB family can be its loss.
	Divergences bool `json:"divergences"`
}

const (
	onlyFixedPoint = "zero residuals are the solution for every member; no divergence is claimed"
	flowTerms      = "log F(s0) = log Z, log F(x) = log R(x)"
)

// Objectives lists all objectives.
func Objectives() []ObjectiveInfo { return slices.Clone(objectives) }

var objectives = []ObjectiveInfo{
	{
		Name: "tb", Divergences: true,
		Residual: "δ(τ) = log Z + log P_F(τ) − log R(x) − log P_B(τ|x)",
		Weights:  "one for each trajectory",
		Needs:    "P_B",
		Claims:   "on-policy gradient = ∇D_f of the member (log Z exact, P_B fixed); the same minimum off-policy",
		Source:   "Malkin et al., NeurIPS 2022; Fawkes and Hartford, ICML 2026",
	},
	{
		Name: "subtb", Divergences: true,
		Residual: "δ(i,j) = log F(s_i) + Σ_{i≤t<j} (log P_F − log P_B)(t) − log F(s_j), " + flowTerms,
		Weights:  "λ^(j−i), normalised for each trajectory",
		Needs:    "P_B, log F(s)",
		Claims:   onlyFixedPoint,
		Source:   "Madan et al., ICML 2023",
	},
	{
		Name: "db", Divergences: true,
		Residual: "δ(t) = log F(s_t) + log P_F(t) − log P_B(t) − log F(s_t+1), " + flowTerms,
		Weights:  "all transitions of a trajectory alike: subtb as λ → 0",
		Needs:    "P_B, log F(s)",
		Claims:   onlyFixedPoint,
		Source:   "Bengio et al., JMLR 2023",
	},
	{
		Name: "fl_db", Divergences: true,
		Residual: "that of db with log F(s) = φ(s) + log F̃(s), φ the environment's potential",
		Weights:  "as db",
		Needs:    "P_B, log F̃(s), rewards of unfinished states",
		Claims:   onlyFixedPoint,
		Source:   "Pan et al., ICML 2023",
	},
	{
		Name: "fm", Divergences: true,
		Residual: "δ(s) = log Σ_{s'→s} F(s') P_F(s|s') − log F(s), " + flowTerms,
		Weights:  "all states of a trajectory alike, s0 left out",
		Needs:    "log F(s), all parents of a state (listed actions)",
		Claims:   onlyFixedPoint,
		Source:   "Bengio et al., NeurIPS 2021",
	},
	{
		Name:     "ml",
		Residual: "none: the loss is −log P_F(τ), τ sampled backward from an object of a data set",
		Weights:  "one for each trajectory",
		Needs:    "a data set",
		Claims:   "minimises a bound of the forward KL from the data set to the model; rewards are not looked at",
		Source:   "Zhang et al., ICML 2022",
	},
}
