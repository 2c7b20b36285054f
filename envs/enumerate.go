package envs

import (
	"errors"
	"fmt"
	"math"
)

// MaxStates is the most states, and the most objects, that are enumerated.
const MaxStates = 4 << 20

// Errors of exact computations.
var (
	// ErrNotEnumerable says that an environment cannot list its states.
	ErrNotEnumerable = errors.New("environment cannot be enumerated")
	// ErrPolicy says that what was given as a forward policy is none.
	ErrPolicy = errors.New("not a policy")
)

// LogPolicy writes the log-probabilities of every forward action of the states
// first, first+1, … of an Enumerable, n × Spec.Actions, row-major, and −Inf for
// illegal actions. out has room for whole rows; n = len(out) / Spec.Actions.
type LogPolicy func(first int, out []float32) error

// chunkRows is how many states a LogPolicy is asked for at once: enough for an
// efficient matrix product, small beside the distribution itself.
const chunkRows = 4096

// Enumerate returns env as an Enumerable, or an error that wraps
// ErrNotEnumerable when it is none or has more than MaxStates states or objects.
func Enumerate(env Env) (Enumerable, error) {
	e, ok := env.(Enumerable)
	if !ok {
		return nil, fmt.Errorf("%w: %s does not list its states (at most %d are listed)", ErrNotEnumerable, env.Spec().Name, MaxStates)
	}
	if n := max(e.NumStates(), e.NumObjects()); n > MaxStates {
		return nil, fmt.Errorf("%w: %s has %d states or objects; at most %d are listed", ErrNotEnumerable, env.Spec().Name, n, MaxStates)
	}
	return e, nil
}

// Terminating returns the log-probability with which a forward policy ends in
// each object (len NumObjects; −Inf where it cannot).
//
// One pass over the states in topological order suffices, whatever the
// dimension: the probability of passing through a state is known once all its
// parents are done, and is handed on to its children along P_F. Sums are in log
// space, so very long trajectories do not underflow, and in a fixed order, so
// the result is the same to the last bit everywhere. It needs 8 bytes a state,
// 8 an object, and one chunk of policy rows.
func Terminating(e Enumerable, policy LogPolicy) ([]float64, error) {
	var (
		actions = e.Spec().Actions
		reach   = filled(e.NumStates(), math.Inf(-1))
		objects = filled(e.NumObjects(), math.Inf(-1))
		rows    = make([]float32, min(chunkRows, len(reach))*actions)
	)
	reach[0] = 0
	for first := 0; first < len(reach); first += chunkRows {
		rows = rows[:min(chunkRows, len(reach)-first)*actions]
		if err := policy(first, rows); err != nil {
			return nil, fmt.Errorf("policy of states %d to %d: %w", first, first+len(rows)/actions-1, err)
		}
		for i, lp := range rows {
			state, action := first+i/actions, i%actions
			p := float64(lp)
			if math.IsNaN(p) || p > 1e-3 {
				return nil, fmt.Errorf("%w: state %d, action %d: log-probability %v", ErrPolicy, state, action, lp)
			}
			if p = reach[state] + p; math.IsInf(p, -1) {
				continue
			}
			if to, terminal := e.Child(state, action); terminal {
				objects[to] = LogAdd(objects[to], p)
			} else {
				reach[to] = LogAdd(reach[to], p)
			}
		}
	}
	total := 0.0
	for _, lp := range objects {
		total += math.Exp(lp)
	}
	// Rows are float32: a path of T steps may lose T times 1e-7.
	if slack := 1e-3 + 1e-6*float64(e.Spec().MaxSteps); math.Abs(total-1) > slack {
		return nil, fmt.Errorf("%w: the probabilities of all objects add up to %v", ErrPolicy, total)
	}
	return objects, nil
}

// Target returns log(R(x)/Z) of every object, and log Z.
func Target(e Enumerable) (logP []float64, logZ float64) {
	logP = make([]float64, e.NumObjects())
	e.LogRewards(logP)
	return logP, Normalise(logP)
}

// Normalise subtracts log Z = log Σ e^x from every element and returns it.
func Normalise(logs []float64) (logZ float64) {
	top := math.Inf(-1)
	for _, x := range logs {
		top = max(top, x)
	}
	sum := 0.0
	for _, x := range logs {
		sum += math.Exp(x - top)
	}
	logZ = top + math.Log(sum)
	for i := range logs {
		logs[i] -= logZ
	}
	return logZ
}

// Uniform is the policy that takes every legal action with equal probability.
func Uniform(e Enumerable) LogPolicy {
	s, mask := e.NewStates(1), make([]bool, e.Spec().Actions)
	return func(first int, out []float32) error {
		for i := 0; i < len(out); i += len(mask) {
			e.Load(s, 0, first+i/len(mask))
			s.ForwardMask(0, mask)
			legal := 0
			for _, ok := range mask {
				if ok {
					legal++
				}
			}
			for a, ok := range mask {
				out[i+a] = float32(math.Inf(-1))
				if ok {
					out[i+a] = float32(-math.Log(float64(legal)))
				}
			}
		}
		return nil
	}
}

// Path is a complete trajectory by its numbers: Actions[i] was taken in
// States[i], and the last one made Object.
type Path struct {
	States  []int
	Actions []int32
	Object  int
}

// Trajectories calls visit with every complete trajectory, in lexicographic
// order of the actions, until visit returns false. The path's slices are
// reused: copy what is to be kept. Their number grows exponentially with the
// environment; see CountTrajectories.
func Trajectories(e Enumerable, visit func(Path) bool) {
	s, path := e.NewStates(1), Path{States: []int{0}}
	var walk func() bool
	walk = func() bool {
		state := path.States[len(path.States)-1]
		mask := make([]bool, e.Spec().Actions)
		e.Load(s, 0, state)
		s.ForwardMask(0, mask)
		for a, ok := range mask {
			if !ok {
				continue
			}
			path.Actions = append(path.Actions, int32(a))
			to, terminal := e.Child(state, a)
			if terminal {
				path.Object = to
				ok = visit(path)
			} else {
				path.States = append(path.States, to)
				ok = walk()
				path.States = path.States[:len(path.States)-1]
			}
			path.Actions = path.Actions[:len(path.Actions)-1]
			if !ok {
				return false
			}
		}
		return true
	}
	walk()
}

// CountTrajectories returns the number of complete trajectories (+Inf when it
// exceeds a float64).
func CountTrajectories(e Enumerable) float64 {
	s, mask := e.NewStates(1), make([]bool, e.Spec().Actions)
	ways := make([]float64, e.NumStates())
	ways[0] = 1
	total := 0.0
	for state, n := range ways {
		e.Load(s, 0, state)
		s.ForwardMask(0, mask)
		for a, ok := range mask {
			if !ok {
				continue
			}
			if to, terminal := e.Child(state, a); terminal {
				total += n
			} else {
				ways[to] += n
			}
		}
	}
	return total
}

// EachObject finishes every state in every way and visits each object once, in row 0
// of s.
func EachObject(e Enumerable, visit func(s States, object int)) error {
	var (
		s    = e.NewStates(1)
		mask = make([]bool, e.Spec().Actions)
		seen = make([]bool, e.NumObjects())
		row  = []int32{0}
		act  = []int32{0}
	)
	for state := range e.NumStates() {
		e.Load(s, 0, state)
		s.ForwardMask(0, mask)
		for a, legal := range mask {
			if !legal {
				continue
			}
			object, terminal := e.Child(state, a)
			if !terminal || seen[object] {
				continue
			}
			seen[object] = true
			e.Load(s, 0, state)
			act[0] = int32(a)
			if err := s.Forward(row, act); err != nil {
				return fmt.Errorf("listing the objects of %s: %w", e.Spec().Name, err)
			}
			visit(s, object)
		}
	}
	return nil
}

// FactsOf returns what is known of env: what it says of itself, or else what
// listing its objects tells.
func FactsOf(env Env) Facts {
	if d, ok := env.(Described); ok {
		return d.Facts()
	}
	f := Facts{MaxSteps: env.Spec().MaxSteps}
	if m, ok := env.(Moded); ok && m.NumModes() > 0 {
		n := float64(m.NumModes())
		f.Modes = &n
	}
	if e, err := Enumerate(env); err == nil {
		logP, logZ := Target(e)
		cells, best := float64(len(logP)), math.Inf(-1)
		for _, lp := range logP {
			best = max(best, lp)
		}
		f.Cells, f.LogZ = &cells, &logZ
		if best = math.Exp(best + logZ); !math.IsInf(best, 0) {
			f.MaxReward = &best
		}
	}
	return f
}

// LogAdd is log(e^a + e^b); one of them is finite, and neither is +Inf.
func LogAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	return a + math.Log1p(math.Exp(b-a))
}

func filled(n int, v float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = v
	}
	return out
}
