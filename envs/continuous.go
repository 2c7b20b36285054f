package envs

import (
	"math"
	"math/rand/v2"
)

// Continuous says whether the actions are points of a space.
func (s *Spec) Continuous() bool { return s.ActionDim > 0 }

// Words is the number of int32 words of an action: 1, or ActionDim where actions
// are points. Wherever actions stand one after another, each takes as many.
func (s *Spec) Words() int { return max(1, s.ActionDim) }

// Word is a coordinate of an action that is a point, as it travels.
func Word(coordinate float32) int32 { return int32(math.Float32bits(coordinate)) }

// Coordinate is what Word was made of. A word of Only is no number.
func Coordinate(word int32) float32 { return math.Float32frombits(uint32(word)) }

// Points are the States of an environment with continuous actions. In the methods
// of States an action is then Spec.ActionDim words, so that slices of actions are
// that many times as long as rows; a forced backward action (Only) is a word of
// Only in the first place, which is the bits of no number. Masks and sparse
// features are empty. Coordinates that are not finite are illegal.
type Points interface {
	States
	// AppendDense appends the Spec.Dense features of a row.
	AppendDense(dst []float32, row int) []float32
}

// Improper is an Env that may have rewards without a finite sum. They are a target only
// beside a prior that they tilt, and what the Env says of log Z, and its draws, are of
// that with the prior that it was made for.
type Improper interface {
	Env
	Improper() bool
}

// Drawn is an Env whose target R/Z can be sampled exactly.
type Drawn interface {
	Env
	// Draw makes the rows terminal states of independent objects of the target.
	Draw(r *rand.Rand, s States, rows []int32)
}

// Limited is States that can write down objects which are too far out to be learned
// from. Whoever takes objects that a user brings along asks.
type Limited interface {
	States
	// Limit says why a terminal row is such an object; nil where it is none.
	Limit(row int) error
}
