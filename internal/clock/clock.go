// Package clock is the only source of wall-clock time for the live loops, so
// that fault injection can skew it and tests can hold it still. (raft and
// memberlist read the monotonic clock themselves and are not affected.)
package clock

import "time"

// Clock tells the time.
type Clock interface {
	Now() time.Time
}

// Real is the machine's clock.
type Real struct{}

// Now implements Clock.
func (Real) Now() time.Time { return time.Now() }
