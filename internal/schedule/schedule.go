// Package schedule holds numeric parameters that may be annealed over updates:
// learning rates, exploration, and the parameters of a loss.
package schedule

import (
	"math"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Kind is the shape of a schedule.
type Kind string

const (
	Constant    Kind = "constant"
	Linear      Kind = "linear"
	Cosine      Kind = "cosine"      // half a cosine: flat at both ends
	Exponential Kind = "exponential" // a constant ratio from each update to the next
)

// Value is a number, or a schedule that leads from one number to another. Up to
// update Start it is From, at update Start+Over and later it is To.
//
// The zero Value is "unset": IsSet reports false and At gives 0. Values are
// comparable with ==.
type Value struct {
	Kind  Kind
	From  float64 // the number itself when Kind is Constant
	To    float64 // unused when Constant
	Over  int64   // updates between the two ends
	Start int64   // the update at which the change begins
}

// Const returns the number v.
func Const(v float64) Value { return Value{Kind: Constant, From: v} }

// IsSet tells a value from the zero Value.
func (v Value) IsSet() bool { return v.Kind != "" }

// IsConst reports whether the value is the same at every update: a plain
// number, or a schedule whose ends are equal.
func (v Value) IsConst() bool { return v.Kind == Constant || v.IsSet() && v.From == v.To }

// Or returns v, or Const(def) where v is unset.
func (v Value) Or(def float64) Value {
	if v.IsSet() {
		return v
	}
	return Const(def)
}

// At returns the value for the update with that number; the first is 0. It
// holds From before Start and exactly To from Start+Over on.
func (v Value) At(update int64) float64 {
	if v.Kind == Constant || update <= v.Start {
		return v.From
	}
	// Start+Over may overflow; the difference of two non-negatives cannot.
	if update-v.Start >= v.Over {
		return v.To
	}
	t := float64(update-v.Start) / float64(v.Over)
	var x float64
	switch v.Kind {
	case Cosine:
		x = mix(v.From, v.To, 0.5*(1-math.Cos(math.Pi*t)))
	case Exponential:
		x = v.From * math.Pow(v.To/v.From, t)
	default:
		x = mix(v.From, v.To, t)
	}
	// Rounding must not carry a value beyond the ends that were validated.
	return min(max(x, v.Min()), v.Max())
}

// mix is a convex combination; the conversions keep the compiler from fusing
// the operations, so that every machine computes the same bits.
func mix(a, b, t float64) float64 { return float64(a*(1-t)) + float64(b*t) }

// Max returns the largest value over all updates.
func (v Value) Max() float64 {
	if v.Kind == Constant || !v.IsSet() {
		return v.From
	}
	return math.Max(v.From, v.To)
}

// Min returns the smallest value over all updates.
func (v Value) Min() float64 {
	if v.Kind == Constant || !v.IsSet() {
		return v.From
	}
	return math.Min(v.From, v.To)
}

// Validate checks the schedule itself: a known kind, finite ends, Over ≥ 1,
// Start ≥ 0, and ends of one sign for an exponential. What range the value
// must lie in is for its user to check, with Min and Max. An unset Value is
// valid. The error is a *fielderr.Error.
func (v Value) Validate() error {
	switch v.Kind {
	case "":
		return v.validateUnset()
	case Constant:
		return checkFinite("", v.From)
	case Linear, Cosine, Exponential:
	default:
		return fielderr.New("kind", string(v.Kind), "constant, linear, cosine or exponential")
	}
	if err := checkFinite("from", v.From); err != nil {
		return err
	}
	if err := checkFinite("to", v.To); err != nil {
		return err
	}
	if v.Over < 1 {
		return fielderr.New("over", v.Over, "a number of updates, at least 1")
	}
	if v.Start < 0 {
		return fielderr.New("start", v.Start, "an update, at least 0")
	}
	if v.Kind == Exponential && !(v.From > 0 && v.To > 0) && !(v.From < 0 && v.To < 0) {
		return fielderr.New("to", v.To, "a number of the same sign as from, neither zero, for an exponential schedule")
	}
	return nil
}

func (v Value) validateUnset() error {
	if v != (Value{}) {
		return fielderr.New("kind", nil, "constant, linear, cosine or exponential")
	}
	return nil
}

// checkFinite takes NaN for a number that was not given: no notation that
// Value reads from can spell it otherwise.
func checkFinite(path string, x float64) error {
	switch {
	case math.IsNaN(x):
		return fielderr.New(path, nil, "a number")
	case math.IsInf(x, 0):
		return fielderr.New(path, x, "a finite number")
	}
	return nil
}
