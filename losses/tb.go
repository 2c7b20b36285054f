package losses

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Backward is how the backward policy P_B learns.
type Backward string

const (
	// Joint gives log P_B the coefficient −w: P_B descends the same loss.
	Joint Backward = "joint"
	// Frozen leaves a P_B as it is.
	Frozen Backward = "frozen"
	// Uniform has no parameters to learn.
	Uniform Backward = "uniform"
	// MaxLikelihood fits P_B to the trajectories: it descends −mean log P_B.
	MaxLikelihood Backward = "max_likelihood"
)

// ParseBackward reads a mode; the error is a *fielderr.Error.
func ParseBackward(text string) (Backward, error) {
	switch b := Backward(text); b {
	case Joint, Frozen, Uniform, MaxLikelihood:
		return b, nil
	}
	return "", fielderr.New("backward", text, "joint, frozen, uniform or max_likelihood")
}

// Config chooses a trajectory-balance objective.
type Config struct {
	Member     *Member
	Normaliser Normaliser
	Backward   Backward
	// RunningDecay is the weight of the past in Running, in [0, 1).
	RunningDecay float64
	// Groups is the number of normaliser groups (conditions, prompts); 0 means one.
	Groups int
}

// TB is the trajectory-balance objective: scores in, weights out. It keeps
// workspace and the running normaliser, so one goroutine uses it at a time.
type TB struct {
	cfg     Config
	running []float64 // per group: weighted sum of fitted c, and its weight
	groups  grouping
	sorted  []float64
}

// Input holds the scores of n trajectories, in nats; slices have length n.
type Input struct {
	LogPF, LogPB, LogReward []float64
	// LogBehaviour is the log-probability under the policy that really sampled
	// the trajectory; NaN where there is none (backward-sampled, data). A nil
	// slice means none at all.
	LogBehaviour []float64
	// Groups are the normaliser groups, in [0, Config.Groups); nil: all in 0.
	Groups []int32
	// LogZ is the learned scalar, or the exact value; used by Learned and Exact only.
	LogZ float64
	// Weights are positive and say how much each trajectory counts; nil: all
	// alike. Loss, gradients and fitted normalisers are weighted means: an
	// integer weight is as many copies of a trajectory in the batch. Only
	// LeaveOneOut differs: it leaves out all of a trajectory's weight, where one
	// of several copies would leave the others. Multiplying all weights by the
	// same number changes nothing.
	Weights []float64
	// Lag is the age of each trajectory's policy in updates; nil: unknown.
	Lag []int64
	// Steps are the scores of transitions and states, for objectives that balance
	// more than whole trajectories.
	Steps *Steps
}

// Output is the loss and what a backward pass needs. Evaluate reuses its slices.
type Output struct {
	Loss float64 // weighted mean of g(δ_i)
	// W is the coefficient of log P_F of each trajectory: g'(δ_i)/n, with
	// c in δ; with Weights, w_i g'(δ_i)/Σw.
	W []float64
	// WB is the coefficient of log P_B of each trajectory.
	WB []float64
	// PF, PB and F are the coefficients of log P_F and log P_B of each transition,
	// and of log F of each state, in the order of Steps; objectives that use Steps
	// give these instead of W and WB, which are empty then.
	PF, PB, F []float64
	// GradLogZ is ∂Loss/∂LogZ; 0 unless the normaliser is Learned.
	GradLogZ float64
	// C is the normaliser of each group; NaN for groups without a trajectory.
	// For LeaveOneOut it is that of the whole group.
	C []float64
	// Delta holds the residuals with c added: one for each trajectory; of flow
	// matching one for each state that a trajectory comes to.
	Delta       []float64
	Diagnostics Diagnostics
}

// ErrInput is wrapped by errors about the shape of an Input.
var ErrInput = errors.New("losses: malformed input")

// NewTB checks the configuration; faults are *fielderr.Error.
func NewTB(cfg Config) (*TB, error) {
	if cfg.Member == nil {
		return nil, fielderr.New("divergence", nil, "a member of the family")
	}
	if _, err := ParseNormaliser(string(cfg.Normaliser)); err != nil {
		return nil, err
	}
	if _, err := ParseBackward(string(cfg.Backward)); err != nil {
		return nil, err
	}
	if !(cfg.RunningDecay >= 0 && cfg.RunningDecay < 1) {
		return nil, fielderr.New("running_decay", cfg.RunningDecay, "a number in [0, 1)")
	}
	if cfg.Groups < 0 {
		return nil, fielderr.New("groups", cfg.Groups, "a number of groups, at least 1")
	}
	cfg.Groups = max(cfg.Groups, 1)
	t := &TB{cfg: cfg}
	if cfg.Normaliser == Running {
		t.running = make([]float64, 2*cfg.Groups)
	}
	return t, nil
}

// State returns a copy of the running normaliser, two numbers per group (the
// exponentially weighted sum of fitted c and the sum of the weights); empty for
// other normalisers.
func (t *TB) State() []float64 { return slices.Clone(t.running) }

// Restore sets what State returned. A state of another shape is an error and
// changes nothing.
func (t *TB) Restore(state []float64) error {
	if len(state) != len(t.running) {
		return fmt.Errorf("losses: normaliser state of %d numbers, want %d: %w", len(state), len(t.running), ErrInput)
	}
	for i, v := range state {
		if !isFinite(v) || i%2 == 1 && (v < 0 || v > 1+1e-9) {
			return fmt.Errorf("losses: normaliser state [%d] = %v: %w", i, v, ErrInput)
		}
	}
	copy(t.running, state)
	return nil
}

// Evaluate computes loss, weights and diagnostics of a batch. It changes no
// state but the running normaliser, and that only on success; in the steady
// state it allocates nothing. A score that is not finite is an error that names
// the trajectory and wraps ErrNonFinite.
func (t *TB) Evaluate(update int64, in *Input, out *Output) error {
	n := len(in.LogPF)
	if err := in.check(t.cfg.Groups); err != nil {
		return err
	}
	d := t.cfg.Member.At(update)
	out.Delta, out.W, out.WB = resize(out.Delta, n), resize(out.W, n), resize(out.WB, n)
	out.PF, out.PB, out.F = out.PF[:0], out.PB[:0], out.F[:0]
	out.C = resize(out.C, t.cfg.Groups)
	for i := range n {
		delta := in.LogPF[i] - in.LogReward[i] - in.LogPB[i]
		if !isFinite(delta) {
			return fmt.Errorf("losses: trajectory %d: residual %v: %w", i, delta, ErrNonFinite)
		}
		out.Delta[i] = delta
	}
	total, err := checkWeights(in.Weights)
	if err != nil {
		return err
	}
	t.groups.sort(in.Groups, n, t.cfg.Groups, out.Delta)
	t.groups.weigh(in.Weights)
	if err := t.normalise(d, in, out); err != nil {
		return err
	}
	t.weigh(d, in.Weights, total, out)
	t.sorted = out.Diagnostics.measure(d, in, out, t.sorted)
	return nil
}

// weigh fills the loss and the coefficients from the normalised residuals.
// weights, which sum to total, are nil when all trajectories count alike.
func (t *TB) weigh(d Divergence, weights []float64, total float64, out *Output) {
	n := float64(len(out.Delta))
	out.Loss, out.GradLogZ = 0, 0
	for i, delta := range out.Delta {
		loss, w, share := d.G(delta)/n, d.G1(delta)/n, 1/n
		if len(weights) > 0 {
			share = weights[i] / total
			loss, w = d.G(delta)*share, d.G1(delta)*share
		}
		out.Loss += loss
		out.W[i] = w
		out.GradLogZ += w
		switch t.cfg.Backward {
		case Joint:
			out.WB[i] = -w
		case MaxLikelihood:
			out.WB[i] = -share
		default:
			out.WB[i] = 0
		}
	}
	if t.cfg.Normaliser != Learned {
		out.GradLogZ = 0
	}
}

// normalise adds c to the residuals, group by group.
func (t *TB) normalise(d Divergence, in *Input, out *Output) error {
	gr := &t.groups
	for g := range t.cfg.Groups { // all refusals before the first change of state
		if k := gr.size(g); k > 0 {
			if err := t.cfg.Normaliser.refuse(d, k); err != nil {
				return fmt.Errorf("losses: group %d: %w", g, err)
			}
		}
	}
	for g := range t.cfg.Groups {
		rows, delta, scratch := gr.group(g)
		if len(rows) == 0 {
			out.C[g] = math.NaN()
			continue
		}
		out.C[g] = t.constant(d, g, in.LogZ, delta, scratch)
		if t.cfg.Normaliser == LeaveOneOut && !allEqual(delta) {
			b, _ := alphaFamily(d)
			if w := gr.weights(g); w != nil {
				newWeighted(delta, w).leaveOneOut(b, scratch)
			} else {
				leaveOneOut(delta, b, scratch)
			}
			for i, row := range rows {
				out.Delta[row] += scratch[i]
			}
			continue
		}
		for _, row := range rows {
			out.Delta[row] += out.C[g]
		}
	}
	return nil
}

// constant returns the c of one group and advances the running average.
func (t *TB) constant(d Divergence, g int, logZ float64, delta, scratch []float64) float64 {
	switch t.cfg.Normaliser {
	case Learned, Exact:
		return logZ
	case BatchMean:
		if allEqual(delta) {
			return -delta[0]
		}
		if w := t.groups.weights(g); w != nil {
			return -newWeighted(delta, w).mean()
		}
		return -mean(delta)
	case Running:
		sum, weight := &t.running[2*g], &t.running[2*g+1]
		decay := t.cfg.RunningDecay
		*sum = float64(decay**sum) + float64((1-decay)*t.optimal(d, g, delta, scratch))
		*weight = float64(decay**weight) + (1 - decay)
		return *sum / *weight
	}
	return t.optimal(d, g, delta, scratch)
}

func (t *TB) optimal(d Divergence, g int, delta, scratch []float64) float64 {
	if w := t.groups.weights(g); w != nil {
		return newWeighted(delta, w).optimal(d, scratch)
	}
	return Optimal(d, delta, scratch)
}

func allEqual(x []float64) bool {
	for _, v := range x {
		if v != x[0] {
			return false
		}
	}
	return true
}

func resize(s []float64, n int) []float64 { return slices.Grow(s[:0], n)[:n] }
