package losses_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/hypergrid"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/policy"
)

// scored is trajectories of a 4×4 grid with scores of all their transitions and
// states; P_B is uniform.
type scored struct {
	grid  envs.Enumerable
	batch policy.Batch
	in    losses.Input
	steps losses.Steps
}

// everyTrajectory lists them all; scores are still empty.
func everyTrajectory(t *testing.T) *scored { return everyNth(t, 1) }

// everyNth lists one in n of them.
func everyNth(t *testing.T, n int) *scored {
	t.Helper()
	c := hypergrid.Default()
	c.Dim, c.Height, c.R0 = 2, 4, 0.1
	env, err := hypergrid.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &scored{grid: env.(envs.Enumerable)}
	rewards := make([]float64, s.grid.NumObjects())
	s.grid.LogRewards(rewards)
	var paths [][]int32
	seen := 0
	envs.Trajectories(s.grid, func(p envs.Path) bool {
		if seen++; seen%n > 0 {
			return true
		}
		paths = append(paths, append([]int32(nil), p.Actions...))
		s.in.LogReward = append(s.in.LogReward, rewards[p.Object])
		return true
	})
	asm := policy.NewAssembler(env)
	asm.Parents(true)
	asm.Potentials(true)
	if err := asm.Assemble(paths, &s.batch); err != nil {
		t.Fatal(err)
	}
	b := &s.batch
	s.steps = losses.Steps{
		Offset: b.FOffset, State: b.FState, Undo: b.Undo, PotentialScale: 1, Into: b.Into, EdgeOffset: b.EdgeOffset,
		LogPF: make([]float64, len(b.FState)), LogPB: make([]float64, len(b.BState)), LogF: make([]float64, b.States.N),
	}
	for i, at := range b.BState {
		parents := 0.0
		for _, ok := range b.States.BackwardMask[int(at)*2:][:2] {
			if ok {
				parents++
			}
		}
		s.steps.LogPB[i] = -math.Log(parents)
	}
	s.in.Steps = &s.steps
	return s
}

// cell is the number of a state of the batch.
func (s *scored) cell(state int32) int {
	f := s.batch.States.FeatIndex[s.batch.States.FeatOffset[state]:]
	return int(f[0]) + 4*(int(f[1])-4)
}

// sum fills the scores of whole trajectories from those of transitions.
func (s *scored) sum() {
	n := len(s.in.LogReward)
	s.in.LogPF, s.in.LogPB = make([]float64, n), make([]float64, n)
	for i := range n {
		for t := s.steps.Offset[i]; t < s.steps.Offset[i+1]; t++ {
			s.in.LogPF[i] += s.steps.LogPF[t]
			if b := s.steps.Undo[t]; b >= 0 {
				s.in.LogPB[i] += s.steps.LogPB[b]
			}
		}
	}
}

// randomly gives transitions, states and trajectories scores that mean nothing.
func (s *scored) randomly(seed uint64) *scored {
	r := rand.New(rand.NewPCG(seed, 5))
	for _, x := range [][]float64{s.steps.LogPF, s.steps.LogPB, s.steps.LogF} {
		for i := range x {
			x[i] = 0.5 * r.NormFloat64()
		}
	}
	s.in.LogZ = 0.7
	s.in.Weights = make([]float64, len(s.in.LogReward))
	for i := range s.in.Weights {
		s.in.Weights[i] = 0.2 + r.Float64()
	}
	s.sum()
	return s
}

// exactly gives every transition the score of the one policy that samples in
// proportion to the reward and has the uniform P_B, and every state its flow.
func (s *scored) exactly() *scored {
	rewards := make([]float64, s.grid.NumObjects())
	s.grid.LogRewards(rewards)
	n := s.grid.NumStates()
	flow := make([]float64, n)
	edge := func(state, action int) float64 { // the flow along it: F(child)·P_B
		to, terminal := s.grid.Child(state, action)
		if terminal {
			return math.Exp(rewards[to])
		}
		parents := 0.0
		for _, x := range []int{to % 4, to / 4} {
			if x > 0 {
				parents++
			}
		}
		return flow[to] / parents
	}
	mask, one := make([]bool, 3), s.grid.NewStates(1)
	for state := n - 1; state >= 0; state-- {
		s.grid.Load(one, 0, state)
		one.ForwardMask(0, mask)
		for a, ok := range mask {
			if ok {
				flow[state] += edge(state, a)
			}
		}
	}
	for i, at := range s.batch.FState {
		state := s.cell(at)
		s.steps.LogPF[i] = math.Log(edge(state, int(s.batch.FAction[i])) / flow[state])
	}
	for i := range s.steps.LogF {
		s.steps.LogF[i] = math.Log(flow[s.cell(int32(i))])
	}
	s.in.LogZ = math.Log(flow[0])
	s.sum()
	return s
}

// stepwise builds the objectives over transitions and states.
func stepwise(t *testing.T, text string, b losses.Backward) map[string]losses.Objective {
	t.Helper()
	out := map[string]losses.Objective{}
	add := func(name string, o losses.Objective, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = o
	}
	m := losses.Fixed(member(t, text))
	for _, lambda := range []float64{0.5, 0.9, 1.5} {
		o, err := losses.NewSubTB(m, lambda, b)
		add(fmt.Sprintf("subtb, λ = %v", lambda), o, err)
	}
	db, err := losses.NewDB(m, b)
	add("db", db, err)
	fldb, err := losses.NewDB(m, b)
	add("fl_db", fldb, err)
	fm, err := losses.NewFM(m, b)
	add("fm", fm, err)
	return out
}

// use sets what of the batch an objective is given.
func (s *scored) use(name string) {
	s.steps.Potential = nil
	if name == "fl_db" {
		s.steps.Potential = s.batch.Potential
	}
}

// TestWeightsAreTheSlopeOfTheLoss: of every objective with every member, the
// weights are the derivatives of the loss by the scores.
func TestWeightsAreTheSlopeOfTheLoss(t *testing.T) {
	s := everyNth(t, 6).randomly(1)
	for _, text := range family() {
		for name, o := range stepwise(t, text, losses.Joint) {
			s.use(name)
			loss := func() float64 {
				var out losses.Output
				if err := o.Evaluate(0, &s.in, &out); err != nil {
					t.Fatalf("%s, %s: %v", name, text, err)
				}
				return out.Loss
			}
			var out losses.Output
			if err := o.Evaluate(0, &s.in, &out); err != nil {
				t.Fatal(err)
			}
			size := 0.0
			slope := func(what string, at *float64, got float64) {
				t.Helper()
				const h = 1e-5
				v := *at
				*at = v + h
				up := loss()
				*at = v - h
				want := (up - loss()) / (2 * h)
				*at = v
				size = max(size, math.Abs(got))
				if math.Abs(got-want) > 1e-7*(1+math.Abs(want)) {
					t.Errorf("%s, %s: weight %v of %s, the slope is %v", name, text, got, what, want)
				}
			}
			slope("log Z", &s.in.LogZ, out.GradLogZ)
			r := rand.New(rand.NewPCG(2, 3))
			probes := 8 // of hundreds
			if strings.HasPrefix(text, "custom:") {
				probes = 1 // their g is an integral
			}
			for range probes {
				i := r.IntN(len(out.PF))
				slope(fmt.Sprintf("log P_F %d", i), &s.steps.LogPF[i], out.PF[i])
				i = r.IntN(len(out.F))
				slope(fmt.Sprintf("log F %d", i), &s.steps.LogF[i], out.F[i])
				i = r.IntN(len(out.PB))
				slope(fmt.Sprintf("log P_B %d", i), &s.steps.LogPB[i], out.PB[i])
			}
			slope("log F of the first state after the source", &s.steps.LogF[1], out.F[1])
			if size == 0 {
				t.Errorf("%s, %s: all weights are 0", name, text)
			}
		}
	}
}

// TestFlowsOfTheTargetAreAFixedPoint: where flows are consistent and end in the
// reward, every residual of every objective is zero, and so are all weights.
func TestFlowsOfTheTargetAreAFixedPoint(t *testing.T) {
	s := everyTrajectory(t).exactly()
	if _, exact := envs.Target(s.grid); math.Abs(s.in.LogZ-exact) > 1e-12 {
		t.Fatalf("the source has flow %v, log Z is %v", s.in.LogZ, exact)
	}
	for _, text := range family() {
		for name, o := range stepwise(t, text, losses.Joint) {
			flows := s.steps.LogF
			if s.use(name); name == "fl_db" { // relative to the potential
				s.steps.LogF = make([]float64, len(flows))
				for i, f := range flows {
					s.steps.LogF[i] = f - s.batch.Potential[i]
				}
			}
			var out losses.Output
			err := o.Evaluate(0, &s.in, &out)
			s.steps.LogF = flows
			if err != nil {
				t.Fatal(err)
			}
			if !member(t, text).Smooth() {
				if out.Loss > 1e-12 {
					t.Errorf("%s, %s: loss %v", name, text, out.Loss)
				}
				continue // its slope jumps at zero: rounding decides
			}
			for what, x := range map[string][]float64{"residual": out.Delta, "log P_F": out.PF, "log P_B": out.PB, "log F": out.F, "log Z": {out.GradLogZ}, "loss": {out.Loss}} {
				for i, v := range x {
					if math.Abs(v) > 1e-12 {
						t.Errorf("%s, %s: %s %d is %v, want 0", name, text, what, i, v)
					}
				}
			}
		}
	}
}

// TestOnlyTheWholeTrajectoryIsTrajectoryBalance: with all weight on the longest
// piece, sub-trajectory balance is what it is named after.
func TestOnlyTheWholeTrajectoryIsTrajectoryBalance(t *testing.T) {
	s := everyTrajectory(t).randomly(4)
	for _, text := range family() {
		for _, b := range []losses.Backward{losses.Joint, losses.Uniform, losses.MaxLikelihood} {
			var want, got losses.Output
			if err := trajectoryBalance(t, text, losses.Learned, b).Evaluate(0, &s.in, &want); err != nil {
				t.Fatal(err)
			}
			sub, err := losses.NewSubTB(losses.Fixed(member(t, text)), math.Inf(1), b)
			if err != nil {
				t.Fatal(err)
			}
			if err := sub.Evaluate(0, &s.in, &got); err != nil {
				t.Fatal(err)
			}
			same := func(what string, got, want float64) {
				t.Helper()
				if math.Abs(got-want) > 1e-12*(1+math.Abs(want)) {
					t.Fatalf("%s, %s: %s is %v, of trajectory balance %v", text, b, what, got, want)
				}
			}
			same("loss", got.Loss, want.Loss)
			same("slope of log Z", got.GradLogZ, want.GradLogZ)
			for i := range want.W {
				same("residual", got.Delta[i], want.Delta[i])
				for step := s.steps.Offset[i]; step < s.steps.Offset[i+1]; step++ {
					same("weight of log P_F", got.PF[step], want.W[i])
					if u := s.steps.Undo[step]; u >= 0 {
						same("weight of log P_B", got.PB[u], want.WB[i])
					}
				}
			}
			for _, f := range got.F {
				same("weight of log F", f, 0)
			}
			same("share of the tail", got.Diagnostics.TailShare, want.Diagnostics.TailShare)
			for i, q := range got.Diagnostics.DeltaQuantiles {
				same("quantile of residuals", q, want.Diagnostics.DeltaQuantiles[i])
			}
		}
	}
}

// TestShortPiecesAreDetailedBalance: as λ falls, only single transitions count.
func TestShortPiecesAreDetailedBalance(t *testing.T) {
	s := everyTrajectory(t).randomly(5)
	m := losses.Fixed(member(t, "hellinger"))
	db, _ := losses.NewDB(m, losses.Joint)
	sub, _ := losses.NewSubTB(m, 1e-9, losses.Joint)
	var want, got losses.Output
	if err := errors.Join(db.Evaluate(0, &s.in, &want), sub.Evaluate(0, &s.in, &got)); err != nil {
		t.Fatal(err)
	}
	for i := range want.F {
		if math.Abs(want.F[i]-got.F[i]) > 1e-8 {
			t.Errorf("log F %d has weight %v, of detailed balance %v", i, got.F[i], want.F[i])
		}
	}
}

// TestMaximumLikelihood raises log P_F of every trajectory alike, and looks at
// nothing else.
func TestMaximumLikelihood(t *testing.T) {
	s := everyTrajectory(t).randomly(6)
	for _, b := range []losses.Backward{losses.Uniform, losses.Frozen, losses.MaxLikelihood} {
		o, err := losses.NewML(b)
		if err != nil {
			t.Fatal(err)
		}
		var out losses.Output
		if err := o.Evaluate(3, &s.in, &out); err != nil {
			t.Fatal(err)
		}
		total, loss := 0.0, 0.0
		for _, w := range s.in.Weights {
			total += w
		}
		for i, w := range s.in.Weights {
			loss -= w / total * s.in.LogPF[i]
			wantB := 0.0
			if b == losses.MaxLikelihood {
				wantB = -w / total
			}
			if math.Abs(out.W[i]+w/total) > 1e-15 || out.WB[i] != wantB {
				t.Fatalf("%s: trajectory %d of weight %v has coefficients %v and %v", b, i, w/total, out.W[i], out.WB[i])
			}
		}
		if math.Abs(out.Loss-loss) > 1e-12 || out.GradLogZ != 0 {
			t.Errorf("%s: loss %v with slope %v of log Z, want %v and 0", b, out.Loss, out.GradLogZ, loss)
		}
	}
	var fault *fielderr.Error
	if _, err := losses.NewML(losses.Joint); !errors.As(err, &fault) || fault.Path != "backward" {
		t.Errorf("a joint P_B: %v", err)
	}
}

// TestBackwardModesOfObjectives: only a joint P_B has the weights of the loss;
// flow matching, which has no log P_B, leaves it alone.
func TestBackwardModesOfObjectives(t *testing.T) {
	s := everyTrajectory(t).randomly(7)
	for _, b := range []losses.Backward{losses.Uniform, losses.Frozen, losses.MaxLikelihood} {
		for name, o := range stepwise(t, "jeffreys", b) {
			s.use(name)
			var out losses.Output
			if err := o.Evaluate(0, &s.in, &out); err != nil {
				t.Fatal(err)
			}
			sum := 0.0
			for _, w := range out.PB {
				sum += w
			}
			if b != losses.MaxLikelihood && sum != 0 {
				t.Errorf("%s, %s: log P_B has weights that sum to %v", name, b, sum)
			}
			if b == losses.MaxLikelihood && sum >= 0 {
				t.Errorf("%s: maximum likelihood has weights that sum to %v", name, sum)
			}
		}
	}
}

// TestObjectivesRefuseWhatDoesNotFit, and leave nothing to panic over.
func TestObjectivesRefuseWhatDoesNotFit(t *testing.T) {
	for what, spoil := range map[string]func(s *scored){
		"no steps":                func(s *scored) { s.in.Steps = nil },
		"a trajectory too few":    func(s *scored) { s.steps.Offset = s.steps.Offset[1:] },
		"an empty trajectory":     func(s *scored) { s.steps.Offset[2] = s.steps.Offset[1] },
		"a state too far":         func(s *scored) { s.steps.State[3] = int32(len(s.steps.LogF)) },
		"a negative state":        func(s *scored) { s.steps.State[3] = -1 },
		"scores missing":          func(s *scored) { s.steps.LogPF = s.steps.LogPF[1:] },
		"undone by what is not":   func(s *scored) { s.steps.Undo[0] = int32(len(s.steps.LogPB)) },
		"potentials missing":      func(s *scored) { s.steps.Potential = []float64{0} },
		"an infinite flow":        func(s *scored) { s.steps.LogF[1] = math.Inf(1) },
		"a log P_F that is NaN":   func(s *scored) { s.steps.LogPF[len(s.steps.LogPF)-1] = math.NaN() },
		"a reward that is NaN":    func(s *scored) { s.in.LogReward[0] = math.NaN() },
		"a list that is not":      func(s *scored) { s.steps.Into[1] = 1 << 20 },
		"lists that end nowhere":  func(s *scored) { s.steps.EdgeOffset[1] = 1 << 20 },
		"lists that are empty":    func(s *scored) { s.steps.EdgeOffset[1] = s.steps.EdgeOffset[0] },
		"lists of too few states": func(s *scored) { s.steps.Into = s.steps.Into[1:] },
	} {
		s := everyTrajectory(t).randomly(8)
		spoil(s)
		o, err := losses.NewFM(losses.Fixed(member(t, "hellinger")), losses.Uniform)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Evaluate(0, &s.in, &losses.Output{}); !errors.Is(err, losses.ErrInput) && !errors.Is(err, losses.ErrNonFinite) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestObjectivesOfJobs: names, defaults, and what is refused.
func TestObjectivesOfJobs(t *testing.T) {
	listed := map[string]bool{}
	for _, info := range losses.Objectives() {
		listed[info.Name] = true
		l := job.Default().Loss
		l.Objective = info.Name
		if _, _, err := losses.FromSpec(l, "uniform", 16); err != nil {
			t.Errorf("%s: %v", info.Name, err)
		}
		l.Normaliser = "batch_optimal"
		_, _, err := losses.FromSpec(l, "uniform", 16)
		var fault *fielderr.Error
		if refused := errors.As(err, &fault) && fault.Path == "normaliser"; refused != l.NeedsFlow() {
			t.Errorf("%s with a fitted normaliser: %v", info.Name, err)
		}
	}
	if len(listed) != 6 {
		t.Errorf("objectives %v", listed)
	}
	if _, err := losses.NewSubTB(losses.Fixed(member(t, "hellinger")), 0, losses.Joint); err == nil {
		t.Error("λ = 0 is accepted")
	}
	o, _ := losses.NewDB(losses.Fixed(member(t, "hellinger")), losses.Joint)
	if o.Restore([]float64{1}) == nil || o.Restore(o.State()) != nil {
		t.Error("a state that is none is restored")
	}
}

// TestObjectivesAllocateNothing in the steady state.
func TestObjectivesAllocateNothing(t *testing.T) {
	s := everyTrajectory(t).randomly(9)
	for name, o := range stepwise(t, "hellinger,tail:5", losses.Joint) {
		s.use(name)
		var out losses.Output
		n := testing.AllocsPerRun(5, func() {
			if err := o.Evaluate(0, &s.in, &out); err != nil {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
