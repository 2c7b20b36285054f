package wire

import (
	"fmt"
	"math"
)

// MaxBatchActions bounds the actions of a whole batch, so that the decoded
// column, four bytes an action, is never larger than a frame may be.
const MaxBatchActions = MaxFrame / 4

// Batch is a run of consecutive trajectories of one session, all sampled with
// one version of the parameters, as columns. The session is not part of it: the
// stream that carries the batch implies it.
//
// With n trajectories, Lengths, LogReward and LogBehaviour have length n, and
// Actions has the length of their sum: trajectory i has sequence number
// FirstSeq+i, and its actions follow those of trajectory i−1.
type Batch struct {
	FirstSeq     uint64    // sequence number of the first trajectory, from 1
	Epoch        uint64    // as Trajectory.Epoch
	Version      uint64    // as Trajectory.Version
	Lengths      []int32   // actions per trajectory
	Actions      []int32   // forward actions of all trajectories; coordinates, as the bits of a float32, may be negative
	LogReward    []float64 // as Trajectory.LogReward, taken as it is: admission judges it
	LogBehaviour []float64 // as Trajectory.LogBehaviour
}

// Len returns the number of trajectories.
func (b *Batch) Len() int { return len(b.Lengths) }

// LastSeq returns the sequence number of the last trajectory; of an empty batch,
// the one before FirstSeq.
func (b *Batch) LastSeq() uint64 { return b.FirstSeq + uint64(len(b.Lengths)) - 1 }

// NewBatch copies trajectories into columns. They must be of one session, epoch
// and version, and their sequence numbers must be consecutive.
func NewBatch(ts []Trajectory) (*Batch, error) {
	if len(ts) == 0 {
		return nil, fmt.Errorf("%w: a batch of no trajectories", ErrFrame)
	}
	actions := 0
	for i := range ts {
		t, first := &ts[i], &ts[0]
		switch {
		case t.Session != first.Session:
			return nil, fmt.Errorf("%w: a batch of two sessions, %q and %q", ErrFrame, first.Session, t.Session)
		case t.Epoch != first.Epoch || t.Version != first.Version:
			return nil, fmt.Errorf("%w: a batch of two versions, %d and %d (epochs %d and %d)", ErrFrame, first.Version, t.Version, first.Epoch, t.Epoch)
		case t.Seq != first.Seq+uint64(i):
			return nil, fmt.Errorf("%w: sequence number %d where %d was due", ErrFrame, t.Seq, first.Seq+uint64(i))
		case len(t.Actions) > MaxActions:
			return nil, fmt.Errorf("%w: trajectory %d has %d actions, the cap is %d", ErrTooLarge, t.Seq, len(t.Actions), MaxActions)
		}
		actions += len(t.Actions)
	}
	b := &Batch{
		FirstSeq:     ts[0].Seq,
		Epoch:        ts[0].Epoch,
		Version:      ts[0].Version,
		Lengths:      make([]int32, len(ts)),
		Actions:      make([]int32, 0, actions),
		LogReward:    make([]float64, len(ts)),
		LogBehaviour: make([]float64, len(ts)),
	}
	for i := range ts {
		b.Lengths[i] = int32(len(ts[i].Actions))
		b.Actions = append(b.Actions, ts[i].Actions...)
		b.LogReward[i] = ts[i].LogReward
		b.LogBehaviour[i] = ts[i].LogBehaviour
	}
	return b, b.check()
}

// Trajectories returns the rows of the batch as trajectories of session. Their
// actions are views of b.Actions, each with no room to grow into the next.
func (b *Batch) Trajectories(session string) ([]Trajectory, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	out := make([]Trajectory, b.Len())
	lo := 0
	for i := range out {
		hi := lo + int(b.Lengths[i])
		out[i] = Trajectory{
			Session:      session,
			Seq:          b.FirstSeq + uint64(i),
			Epoch:        b.Epoch,
			Version:      b.Version,
			Actions:      b.Actions[lo:hi:hi],
			LogReward:    b.LogReward[i],
			LogBehaviour: b.LogBehaviour[i],
		}
		lo = hi
	}
	return out, nil
}

// check says whether the columns fit together and keep the caps.
func (b *Batch) check() error {
	n := b.Len()
	switch {
	case n > MaxTrajectories:
		return fmt.Errorf("%w: %d trajectories, the cap is %d", ErrTooLarge, n, MaxTrajectories)
	case len(b.Actions) > MaxBatchActions:
		return fmt.Errorf("%w: %d actions in a batch, the cap is %d", ErrTooLarge, len(b.Actions), MaxBatchActions)
	case len(b.LogReward) != n || len(b.LogBehaviour) != n:
		return fmt.Errorf("%w: %d trajectories, but %d log-rewards and %d log-behaviours", ErrFrame, n, len(b.LogReward), len(b.LogBehaviour))
	case b.FirstSeq == 0:
		return fmt.Errorf("%w: sequence numbers begin at 1", ErrFrame)
	case b.FirstSeq > math.MaxUint64-uint64(n):
		return fmt.Errorf("%w: sequence number %d leaves no room for %d trajectories", ErrFrame, b.FirstSeq, n)
	}
	sum := 0
	for i, l := range b.Lengths {
		if l < 0 {
			return fmt.Errorf("%w: trajectory %d has a negative length %d", ErrFrame, b.FirstSeq+uint64(i), l)
		}
		if l > MaxActions {
			return fmt.Errorf("%w: trajectory %d has %d actions, the cap is %d", ErrTooLarge, b.FirstSeq+uint64(i), l, MaxActions)
		}
		sum += int(l)
	}
	if sum != len(b.Actions) {
		return fmt.Errorf("%w: the lengths sum to %d, but there are %d actions", ErrFrame, sum, len(b.Actions))
	}
	return nil
}
