package policy

import (
	"errors"
	"fmt"
)

var (
	// ErrNonFinite: a logit is NaN or infinite, so the parameters have diverged.
	ErrNonFinite = errors.New("policy: non-finite logit")
	// ErrForbidden: a transition takes an action that its state's mask forbids.
	ErrForbidden = errors.New("policy: forbidden action")
	// ErrShape: slices of a call do not fit each other or the model.
	ErrShape = errors.New("policy: shapes do not fit")
	// ErrContinuous: a list of actions was asked of a model whose actions are points.
	ErrContinuous = errors.New("policy: actions are points and have no list")
	// ErrNoScore: Backprop without a Score before it on the same tape.
	ErrNoScore = errors.New("policy: Backprop needs a Score first")
	// ErrNoFlow: the kind of model has no log F of states.
	ErrNoFlow = errors.New("policy: no flows of states")
	// ErrNoPass: Extend or Finish without a Begin for the same states before it.
	ErrNoPass = errors.New("policy: no pass over these states was begun")
)

// TrajectoryError says why one trajectory of several cannot be replayed. The
// others are not judged by it.
type TrajectoryError struct {
	Trajectory int // index among the trajectories given
	Step       int // index of the action at fault; the number of actions when the end is at fault
	Reason     string
}

func (e *TrajectoryError) Error() string {
	return fmt.Sprintf("trajectory %d, step %d: %s", e.Trajectory, e.Step, e.Reason)
}
