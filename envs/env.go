// Package envs defines the contract between Driftmesh and the things it learns
// to build: directed acyclic state graphs with one source s0, in which every
// terminal state is an object x with a reward R(x) > 0.
//
// Environments are pure: they hold no goroutine, clock, socket or source of
// randomness, so that live training and simulation run the very same code.
package envs

// Only is the backward action of a step whose target has exactly one parent
// and needs no backward policy (the stop action, for example): log P_B = 0.
const Only int32 = -1

// Spec is the fixed shape of an environment.
type Spec struct {
	Name            string // registry name, such as "hypergrid"
	Actions         int    // forward actions, the stop action included
	BackwardActions int    // backward actions; Only is not counted
	Features        int    // width of the sparse binary feature vector
	MaxActive       int    // most active features of any state
	MaxSteps        int    // most forward actions of any trajectory, the stop action included

	// Positions and Vocabulary say that states are places which each hold a token
	// or are empty: feature position·Vocabulary + token is active where one is set.
	// Further features come after these. 0 for other environments.
	Positions, Vocabulary int

	// ActionDim is the number of coordinates of an action where actions are points
	// of a space: an action is then ActionDim words, the bits of a float32 each, and
	// Actions and BackwardActions are 0. Dense is the width of the dense features
	// that such an environment has in place of the sparse ones; its States are Points.
	ActionDim, Dense int

	// Points are the coordinates of what the forward actions lead to, one point for
	// each action, where actions are places in a space (a mixture's cells); nil
	// elsewhere. Not to be changed.
	Points [][]float64
	// Sigma is the noise, per unit of time, of the reference process of a diffusion
	// sampler, whose MaxSteps steps take one unit together. 0 for other environments.
	// The dense features of one are the number of steps taken, the ActionDim
	// coordinates, and the gradient of log R there.
	Sigma float64
}

// Env is one environment with fixed parameters. It is immutable and may be
// shared between goroutines; the States it makes may not.
type Env interface {
	Spec() Spec
	// NewStates returns n states, all at s0.
	NewStates(n int) States
}

// States is a vector of n states, advanced together (structure of arrays).
// Rows are named by index; arguments rows and actions have equal length.
// Slices passed in are not kept.
type States interface {
	Len() int
	// Reset puts the rows back to s0.
	Reset(rows []int32)
	// CopyRow makes row dst equal to row src of from, which was made by the same Env.
	CopyRow(dst int, from States, src int)
	// Terminal says whether the row is a finished object.
	Terminal(row int) bool

	// AppendKey appends a canonical encoding of the row: two states have equal
	// keys exactly when they are the same node of the graph.
	AppendKey(dst []byte, row int) []byte
	// AppendFeatures appends the active feature indices of a row, ascending,
	// each in [0, Spec.Features), at most Spec.MaxActive of them.
	AppendFeatures(dst []int32, row int) []int32
	// ForwardMask sets mask[a] for every legal forward action (len Actions).
	// A terminal row has none.
	ForwardMask(row int, mask []bool)
	// BackwardMask sets mask[b] for every legal backward action (len
	// BackwardActions). It is all false at s0 and where the only way back is Only.
	BackwardMask(row int, mask []bool)

	// Forward applies one forward action to each row. An illegal action is an
	// error that names row and action; no row has moved then.
	Forward(rows, actions []int32) error
	// Backward applies one backward action (or Only) to each row; errors as Forward.
	Backward(rows, actions []int32) error
	// BackwardOf writes, for each row and forward action legal there, the
	// backward action that undoes it once it was taken (Only for forced ones).
	BackwardOf(rows, actions, out []int32)
	// ForwardOf is the mirror: the forward action that redoes a backward action.
	ForwardOf(rows, actions, out []int32)

	// LogReward writes log R of terminal rows. Rewards are finite and positive;
	// anything else is an error that names the object.
	LogReward(rows []int32, out []float64) error

	// Text is the textual form of the row's object (of its partial object while
	// not terminal), such as "(3,0,7)".
	Text(row int) string
	// Parse makes the row the *terminal* state of the object written in text;
	// Parse then Text is the identity on canonical text.
	Parse(row int, text string) error
}

// Enumerable is an Env small enough to list. Non-terminal states are numbered
// 0..NumStates-1 in a topological order (every action leads to a higher number
// or to an object), objects 0..NumObjects-1.
type Enumerable interface {
	Env
	NumStates() int
	NumObjects() int
	// Load makes the row the non-terminal state with that number.
	Load(s States, row int, state int)
	// Child returns what a legal forward action leads to: the number of a
	// state, or of an object when terminal.
	Child(state int, action int) (to int, terminal bool)
	// Object returns the number of a terminal row.
	Object(s States, row int) int
	// LogRewards writes log R of every object (len NumObjects).
	LogRewards(out []float64)
}

// Described is an Env that knows closed-form facts about itself, beyond what
// can be enumerated. Facts are nil where unknown.
type Described interface {
	Env
	Facts() Facts
}

// Facts describes an environment for `driftmesh envs describe`.
type Facts struct {
	Cells     *float64 `json:"cells"`      // number of terminal objects
	MaxSteps  int      `json:"max_steps"`  // longest trajectory, the stop action included
	LogZ      *float64 `json:"log_z"`      // log of the sum of rewards
	Modes     *float64 `json:"modes"`      // number of modes
	MaxReward *float64 `json:"max_reward"` // largest reward
}

// Moded is an Env whose target has named modes.
type Moded interface {
	Env
	// NumModes is the number of modes; 0 when there are none, or too many to number.
	NumModes() int
	// Mode returns the mode of a terminal row, -1 when it belongs to none.
	Mode(s States, row int) int
}

// Regioned is an Env that divides its objects into a few named regions, so that
// reports can say which of them some treatment of the data favours.
type Regioned interface {
	Env
	// Region names the region of a terminal row.
	Region(s States, row int) string
}
