package envs

import (
	"context"
	"fmt"
)

// What follows is for environments that ask another program: its answers take
// time, and may fail. Such an Env is still a pure function of its parameters.

// Remote is an Env whose rewards another program evaluates.
type Remote interface {
	Env
	// Ready says why rewards cannot be had in this process; nil if they can. It
	// does not start the program.
	Ready() error
}

// Contextual is States that ask another program.
type Contextual interface {
	States
	// Within makes calls end with ctx.
	Within(ctx context.Context)
}

// Within gives s a context if it can use one.
func Within(ctx context.Context, s States) {
	if c, ok := s.(Contextual); ok {
		c.Within(ctx)
	}
}

// Programmed is an Env that other programs answer for.
type Programmed interface {
	Env
	// Programs tells, by the field of a job that names each program, what its answers
	// depend on: a hash that the program gives of itself. One that gives none is left
	// out. Programs that do not run yet are started.
	Programs(ctx context.Context) (map[string]string, error)
}

// Lister is an Env that becomes an Enumerable by work that may fail.
type Lister interface {
	Env
	// List returns the environment with its objects and their rewards listed. The
	// error wraps ErrNotEnumerable where it has more than atMost states or objects.
	List(ctx context.Context, atMost int) (Enumerable, error)
}

// RewardFaults is the error of LogReward when some of the objects have no reward
// while the others' were written: the faulty ones have NaN.
type RewardFaults struct {
	Index []int   // which of the rows asked about
	Errs  []error // why, by Index
}

func (f *RewardFaults) Error() string {
	if len(f.Errs) == 1 {
		return f.Errs[0].Error()
	}
	return fmt.Sprintf("%v (and %d objects more)", f.Errs[0], len(f.Errs)-1)
}

// Unwrap gives the faults of the objects.
func (f *RewardFaults) Unwrap() []error { return f.Errs }
