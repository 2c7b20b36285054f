package sampler

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/driftmesh/driftmesh/cluster/fanout"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// sample rolls out batch after batch with the newest parameters; they are
// swapped only here, between trajectories.
func (s *shift) sample(ctx context.Context, roller *Roller, published *fanout.Subscription) error {
	var (
		batch  []wire.Trajectory
		latest *fanout.Snapshot
		first  uint64
		final  bool
	)
	watch, spent := stopwatch{time.Now()}, &s.w.spent
	var failing failing
	var began time.Time // of the last batch
	for {
		waited := &spent.credit
		err := s.await(ctx, func() (bool, time.Duration) {
			first, final = s.outbox.Next(), s.final
			room, again := s.room(time.Since(began))
			if s.outbox.Kept() >= keepLimit {
				waited = &spent.marks
			}
			return final || room, again
		})
		began = time.Now()
		watch.lap(waited)
		if err != nil || final {
			return err
		}
		newest, err := newest(ctx, published)
		if err != nil || newest == nil {
			return err
		}
		watch.lap(&spent.parameters)
		at := newest.Position()
		if latest == nil || latest.Position() != at {
			s.note(journal.Entry{Kind: journal.Adopted, Generation: at.Generation, Version: at.Version, Epoch: newest.Head.Epoch, Digest: hex.EncodeToString(newest.Head.Hash)})
			if s.w.Observe != nil {
				s.w.Observe(s.job, at)
			}
		}
		latest = newest
		params, err := latest.Params()
		if err != nil {
			return err
		}
		if batch, err = roller.Sample(params, at.Version, first, batch); err != nil {
			if failing.after(ctx, err, s.logger) {
				continue
			}
			return err
		}
		failing.answered()
		watch.lap(&spent.sampling)
		if err := AwaitReward(ctx, roller.sampling, len(batch)); err != nil {
			return err
		}
		watch.lap(&spent.reward)
		columns, err := wire.NewBatch(batch)
		if err != nil {
			return err
		}
		frame, err := wire.EncodeBatch(nil, columns)
		if err != nil {
			return err
		}
		if s.w.Journal != nil { // before anything of it can be sent
			digest := sha256.Sum256(frame)
			s.note(journal.Entry{
				Kind: journal.Sampled, First: first, Last: first + uint64(len(batch)) - 1,
				Generation: at.Generation, Version: at.Version, Digest: hex.EncodeToString(digest[:8]),
			})
		}
		s.change(func() { s.outbox.Push(len(batch), frame) })
		s.w.Sampled.Add(uint64(len(batch)))
		watch.lap(&spent.sampling)
	}
}

// room says whether there is room for another batch, or after what time there will
// be without anything else having happened; since is the time since the last one.
// The lock is held.
func (s *shift) room(since time.Duration) (now bool, again time.Duration) {
	waiting := s.outbox.Waiting()
	switch {
	case s.outbox.Kept() >= keepLimit:
		return false, 0
	case !s.outbox.Lost():
		return waiting <= readyBatches, 0
	case waiting <= outageBatches || since >= outagePace:
		return true, 0
	}
	return false, outagePace - since
}

// newest returns the newest published parameters and waits for the first; nil if
// the job ended without any.
func newest(ctx context.Context, published *fanout.Subscription) (*fanout.Snapshot, error) {
	for {
		s, changed := published.Latest()
		if s != nil && s.Head.Size > 0 {
			return s, nil
		}
		select {
		case <-changed:
		case <-published.Ended():
			return nil, published.Err()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
