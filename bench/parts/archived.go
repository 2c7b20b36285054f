package parts

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
	"github.com/driftmesh/driftmesh/policy"
)

// archiver writes what an intake takes to archive segments, as a learner with
// `mesh.archive: all` does: every object's text comes from replaying the actions in
// the environment, and a mark covers a trajectory only once its segment is synced to
// this machine's disk. Two windows are on their way at most.
type archiver struct {
	asm   *policy.Assembler
	store *archive.Store

	batch   policy.Batch
	actions [][]int32
	rows    []archive.Row
	windows chan stretch
	version uint64
}

// stretch is what one segment covers.
type stretch struct {
	version uint64
	rows    []archive.Row
	marks   []fsm.Mark
}

func newArchiver(jobFile, dir string) (*archiver, error) {
	spec, _, err := job.Load(jobFile, nil)
	if err != nil {
		return nil, err
	}
	env, err := registry.New(spec.Env.Name, spec.Env.Params)
	if err != nil {
		return nil, err
	}
	store, err := archive.OpenFolder(dir)
	if err != nil {
		return nil, err
	}
	return &archiver{asm: policy.NewAssembler(env), store: store, windows: make(chan stretch, 1)}, nil
}

// add makes rows of a batch.
func (a *archiver) add(batch []wire.Trajectory) error {
	a.actions = a.actions[:0]
	for i := range batch {
		a.actions = append(a.actions, batch[i].Actions)
	}
	if err := a.asm.Assemble(a.actions, &a.batch); err != nil {
		return err
	}
	states := a.asm.States()
	now := time.Now().UnixMicro()
	for i := range batch {
		t := &batch[i]
		a.rows = append(a.rows, archive.Row{
			Object: states.Text(i), LogReward: t.LogReward, Version: int64(t.Version), Time: now,
			Worker: t.Session, Session: t.Session, Seq: int64(t.Seq),
		})
	}
	return nil
}

// close hands the open window over to be written; it blocks while two are on
// their way.
func (a *archiver) close(ctx context.Context, marks []fsm.Mark) {
	a.version++
	w := stretch{a.version, a.rows, marks}
	a.rows = make([]archive.Row, 0, len(a.rows))
	select {
	case a.windows <- w:
	case <-ctx.Done():
	}
}

// write makes windows durable, in order, and tells of each one that is.
func (a *archiver) write(ctx context.Context, done func([]fsm.Mark)) error {
	for {
		select {
		case w := <-a.windows:
			var ranges []fsm.Range
			for _, m := range w.marks {
				if m.Admitted > 0 {
					ranges = append(ranges, fsm.Range{Session: m.Session, First: m.Seq - m.Admitted + 1, Last: m.Seq})
				}
			}
			slices.SortFunc(ranges, func(x, y fsm.Range) int { return strings.Compare(x.Session, y.Session) })
			g, data, err := archive.New(0, 1, w.version, w.rows, ranges)
			if err == nil && len(data) > 0 {
				err = a.store.Put(ctx, "bench", g.ID, data)
			}
			if err != nil {
				return fmt.Errorf("archive: %w", err)
			}
			done(w.marks)
		case <-ctx.Done():
			return nil
		}
	}
}

// consumeArchived is consume with an archive: what is taken becomes rows, and each
// window's marks follow its segment.
func (s *intakeServer) consumeArchived(ctx context.Context, a *archiver, length time.Duration) error {
	opened := time.Now()
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, max(time.Millisecond, length-time.Since(opened)))
		batch, err := s.intake.Next(wait, 1, nil)
		cancel()
		if err == nil {
			copy(s.ring[int(s.taken.Load()%kept):], batch)
			if err := a.add(batch); err != nil {
				return err
			}
			s.taken.Add(uint64(len(batch)))
		}
		if time.Since(opened) >= length {
			a.close(ctx, s.intake.Marks())
			opened = time.Now()
		}
	}
	return nil
}
