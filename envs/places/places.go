// Package places is what environments have in common whose objects are a fixed
// number of places, each of which holds one token: strings, sequences, spins on a
// lattice. What the tokens mean, and what they are worth, is a Task.
//
// There are two orders of filling them:
//
//   - Any: an action picks an empty place and a token, a backward action empties a
//     place, so an object with L places can be made in L! ways. States are the
//     partial fillings; the number of an action is place × vocabulary + token.
//   - Left: an action is the token of the first empty place. Every object is made in
//     one way, log P_B = 0 and backward actions are envs.Only.
//
// Both end by themselves when the last place is filled, without a stop action. A
// library that has one there (torchgfn) makes the same distribution: it is the only
// legal action of a full row, with log-probability 0.
package places

import (
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Orders of filling the places.
const (
	Any  = "any"
	Left = "left"
)

// Empty is the token of a place that is not filled.
const Empty int32 = -1

// maxFeatures bounds places × vocabulary, the width of the one-hot features and of
// the actions of order Any.
const maxFeatures = 1 << 16

// Task says what the tokens mean. It is pure and may be shared.
type Task interface {
	// LogReward is log R of an object; no place is empty.
	LogReward(tokens []int32) float64
	// AppendText appends the text of an object, or of what is under way: Empty
	// places have a form of their own, so that texts tell states apart.
	AppendText(dst []byte, tokens []int32) []byte
	// ReadText reads the tokens of an object. The error wraps ErrText.
	ReadText(tokens []int32, text string) error
}

// Partial is a Task that knows the reward of what is under way. The States of its
// environment are an envs.Potential.
type Partial interface {
	Task
	// LogPotential is 0 when all places are Empty and LogReward when none is.
	LogPotential(tokens []int32) float64
}

// ErrText is wrapped by errors about texts that are no object.
var ErrText = errors.New("not an object")

// Shape is what an Env is made of.
type Shape struct {
	Name       string // of the environment
	Places     int    // L
	Vocabulary int    // V, number of tokens
	Order      string // Any or Left
}

// Check returns the faults of a shape whose places and vocabulary have these names
// in the user's input.
func (s Shape) Check(places, vocabulary string) error {
	var faults []error
	fault := func(path string, value any, want string) {
		faults = append(faults, fielderr.New(path, value, want))
	}
	if s.Places < 1 {
		fault(places, s.Places, "an integer of at least 1")
	}
	if s.Vocabulary < 2 {
		fault(vocabulary, s.Vocabulary, "at least 2 tokens")
	}
	if len(faults) == 0 && s.Places > maxFeatures/s.Vocabulary {
		fault(places, s.Places, fmt.Sprintf("at most %d places of %d tokens (their product is limited to %d)",
			maxFeatures/s.Vocabulary, s.Vocabulary, maxFeatures))
	}
	if s.Order != Any && s.Order != Left {
		fault("order", s.Order, params.OneOf(s.Order, []string{Any, Left}))
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// Env is an environment of places. It implements envs.Env; List makes it
// enumerable.
type Env struct {
	shape Shape
	task  Task
	spec  envs.Spec
}

// New returns the environment of a shape that Check finds no fault with.
func New(shape Shape, task Task) *Env {
	e := &Env{shape: shape, task: task, spec: envs.Spec{
		Name:       shape.Name,
		Actions:    shape.Vocabulary,
		Features:   shape.Places * shape.Vocabulary,
		MaxActive:  shape.Places,
		MaxSteps:   shape.Places,
		Positions:  shape.Places,
		Vocabulary: shape.Vocabulary,
	}}
	if shape.Order == Any {
		e.spec.Actions, e.spec.BackwardActions = e.spec.Features, shape.Places
	}
	return e
}

// Spec is the fixed shape of the environment.
func (e *Env) Spec() envs.Spec { return e.spec }

// Shape is what the environment was made of.
func (e *Env) Shape() Shape { return e.shape }

// NewStates returns n states whose places are empty.
func (e *Env) NewStates(n int) envs.States {
	s := &States{
		env: e, places: e.shape.Places, vocabulary: int32(e.shape.Vocabulary), any: e.shape.Order == Any,
		tokens: make([]int32, n*e.shape.Places), filled: make([]int32, n),
	}
	for i := range s.tokens {
		s.tokens[i] = Empty
	}
	if p, ok := e.task.(Partial); ok {
		return &potentialStates{s, p}
	}
	return s
}

// Tokens are those of a row of states that an Env made, Empty where a place is not
// filled. They must not be changed.
func Tokens(s envs.States, row int) []int32 { return s.(based).base().row(row) }
