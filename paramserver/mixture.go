package paramserver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/paramserver/replay"
	"github.com/driftmesh/driftmesh/policy"
)

// mixture makes the batches of a job with a replay buffer: fresh trajectories,
// each of which counts once, and beside them objects of the past with new
// trajectories. What an update replays follows from the seed, its number, and
// the buffer's contents.
type mixture struct {
	buffer   replay.Buffer
	resample *resampler
	fresh    int                                               // trajectories of a batch, unless the buffer is empty
	marks    func(dst []int32, s envs.States, row int) []int32 // that the buffer looks at; nil: none
	lost     bool                                              // the buffer is empty because its contents were not restored

	items  []replay.Item
	old    []wire.Trajectory // the replayed ones: owns their actions
	batch  []wire.Trajectory
	marked []int32
}

// maxCarried is the largest bound of a buffer, in bytes, that is part of every
// Commit. A larger one is filled anew by a successor.
const maxCarried = 256 << 10

// newMixture returns nil for a job without replay.
func newMixture(u *Updater) (*mixture, error) {
	c := u.Spec.Replay
	buffer, err := replay.New(c, u.Spec.Seed)
	if err != nil {
		return nil, fielderr.New("replay.kind", c.Kind, "none, fifo, uniform, reward, mixture or diverse")
	}
	if buffer == nil {
		return nil, nil
	}
	m := &mixture{buffer: buffer, resample: u.resampler(rng.Resample)}
	if c.Kind == "diverse" {
		marks := envs.MarksOf(u.Env)
		if marks.Features == 0 {
			return nil, fielderr.New("replay.kind", c.Kind, "another kind: "+u.Env.Spec().Name+" has no features to tell objects apart by")
		}
		m.marks = marks.Append
	}
	ratio := max(c.SamplesPerInsert, 1)
	m.fresh = max(1, int(math.Round(float64(u.Spec.Train.Batch-u.fromData())/ratio)))
	return m, nil
}

// Fresh is how many trajectories the next Step should be given: what data leave of
// the batch without replay, and while there is nothing to replay. It is 0 for a
// job that learns from data alone.
func (u *Updater) Fresh() int {
	if left := u.Spec.Train.Batch - u.fromData(); left == 0 || u.mix == nil || u.mix.buffer.Len() == 0 {
		return left
	}
	return u.mix.fresh
}

// Replayed is the number of trajectories that objects of the buffer, and of data,
// were trained on with, since the job began.
func (u *Updater) Replayed() uint64 { return u.replayed }

// Buffer is the replay buffer; nil for a job without.
func (u *Updater) Buffer() replay.Buffer {
	if u.mix == nil {
		return nil
	}
	return u.mix.buffer
}

// complete adds replayed trajectories to fresh ones, up to the job's batch.
func (m *mixture) complete(u *Updater, fresh []wire.Trajectory) ([]wire.Trajectory, error) {
	missing := u.Spec.Train.Batch - u.fromData() - len(fresh)
	if missing <= 0 || m.buffer.Len() == 0 {
		return fresh, nil
	}
	update := u.version + 1
	m.items = m.buffer.Draw(rng.New(u.Spec.Seed, rng.Resample, update), missing, m.items[:0])
	tape, params := u.backwardPolicy()
	var err error
	if m.old, err = m.resample.sample(tape, params, update, m.items, m.old); err != nil {
		return nil, err
	}
	m.batch = append(append(m.batch[:0], fresh...), m.old...)
	return m.batch, nil
}

// backwardPolicy is what gives the present P_B.
func (u *Updater) backwardPolicy() (policy.Tape, []float32) {
	if u.frozen != nil {
		return u.frozen.tape, u.frozen.params
	}
	return u.tape, u.params[:len(u.params)-1]
}

// remember puts fresh trajectories, whose objects are the first rows of the
// assembler's states, into the buffer. They are the last of all trajectories
// trained on since the job began, and numbered so.
func (m *mixture) remember(fresh []wire.Trajectory, asm *policy.Assembler, trajectories uint64) {
	states := asm.States()
	first := trajectories - uint64(len(fresh)) + 1
	for i := range fresh {
		m.insert(replay.Item{
			Text: states.Text(i), LogReward: fresh[i].LogReward, Version: fresh[i].Version,
			Worker: fresh[i].Session, Insert: first + uint64(i),
		}, states, i)
	}
	m.lost = false
}

// insert offers an item, the object of a terminal row; what no buffer can keep is not kept.
func (m *mixture) insert(it replay.Item, s envs.States, row int) bool {
	m.marked = m.marked[:0]
	if m.marks != nil {
		m.marked = m.marks(m.marked, s, row)
	}
	return m.buffer.Insert(it, m.marked) == nil
}

// state is what a Commit holds of the buffer; nothing of a large one.
func (m *mixture) state() ([]byte, error) {
	if m.buffer.Limit() > maxCarried {
		return nil, nil
	}
	return m.buffer.MarshalBinary()
}

// restored returns the mixture with the buffer of a Commit, an empty one when
// the Commit holds none.
func (m *mixture) restored(u *Updater, data []byte) (*mixture, error) {
	n, err := newMixture(u)
	if err != nil || len(data) == 0 {
		if n != nil {
			n.lost = true
		}
		return n, err
	}
	return n, n.buffer.Restore(data)
}

// ObjectSource gives the newest of the objects that were trained on: a job's
// archive.
type ObjectSource interface {
	// Newest calls yield with objects, newest first, until about maxBytes of them
	// were given, yield returns false, or there are no more. What an error cuts
	// off was not given.
	Newest(ctx context.Context, maxBytes int64, yield func(Object) bool) error
}

// Object is one terminal object of an ObjectSource.
type Object struct {
	Text      string
	LogReward float64
	Version   uint64
	Worker    string
}

// Refilled says what became of a buffer after Restore.
type Refilled struct {
	Needed  bool   // the buffer's contents were not in the restored state
	From    string // archive or best
	Objects int    // given to the buffer
	Unread  int    // that this environment cannot parse, left out
}

// Refill fills a buffer that Restore left empty: from the source, oldest of its
// objects first, or without one from the best objects of the committed state.
// What a source's error cuts off is missing; the error says so, and the buffer
// is of use all the same.
func (u *Updater) Refill(ctx context.Context, src ObjectSource) (Refilled, error) {
	if u.mix == nil || !u.mix.lost {
		return Refilled{}, nil
	}
	out := Refilled{Needed: true, From: "best"}
	var objects []Object // newest first
	var fault error
	if src != nil {
		out.From = "archive"
		size, limit := int64(0), u.mix.buffer.Limit()
		err := src.Newest(ctx, limit, func(o Object) bool {
			if size += int64(len(o.Text)) + 16; size > limit {
				return false
			}
			objects = append(objects, o)
			return true
		})
		if err != nil {
			fault = fmt.Errorf("replay buffer refilled from %d archived objects only: %w", len(objects), err)
		}
	} else {
		objects = fromBest(u.best.list)
	}
	slices.Reverse(objects)
	before := max(u.trajectories, uint64(len(objects))) - uint64(len(objects))
	one := u.Env.NewStates(1)
	envs.Within(ctx, one)
	for i, o := range objects {
		if err := one.Parse(0, o.Text); err != nil {
			out.Unread++
			continue
		}
		it := replay.Item{Text: o.Text, LogReward: o.LogReward, Version: o.Version, Worker: o.Worker, Insert: before + uint64(i) + 1}
		if u.mix.insert(it, one, 0) {
			out.Objects++
		}
	}
	u.mix.lost = false
	return out, fault
}

// fromBest orders objects by the version they are from, newest first.
func fromBest(list []fsm.Object) []Object {
	out := make([]Object, 0, len(list))
	for _, o := range list {
		out = append(out, Object{Text: o.Text, LogReward: o.LogReward, Version: o.Version})
	}
	slices.SortStableFunc(out, func(a, b Object) int {
		switch {
		case a.Version > b.Version:
			return -1
		case a.Version < b.Version:
			return 1
		}
		return 0
	})
	return out
}

// errReplayed is about a trajectory that this process made itself.
var errReplayed = errors.New("a replayed object's new trajectory is not valid")
