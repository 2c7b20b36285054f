package paramserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/driftmesh/driftmesh/internal/nice"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// archiveLog is a Log that passes a Commit on once the rows that its marks cover
// are durable in a segment, which the Commit then lists. Commits are passed on in
// order; their segments are made durable side by side.
type archiveLog struct {
	*archiving
	inner   Log
	waiting sync.WaitGroup
	last    chan struct{} // closed when the commit before was passed on
	stopped error         // a commit before was not: what follows it has no base
}

// Commit implements Log.
func (l *archiveLog) Commit(ctx context.Context, c *fsm.Commit) (<-chan Answer, error) {
	rows, ranges, err := l.Take(c.Marks)
	if err != nil {
		return nil, err
	}
	listed := *c // proposed again as it is, whatever becomes of it
	var data []byte
	if len(ranges) > 0 {
		var g fsm.Segment
		if g, data, err = archive.New(c.Generation, c.Epoch, c.Version, rows, ranges); err != nil {
			return nil, err
		}
		listed.Segments = []fsm.Segment{g}
	}
	out := make(chan Answer, 1)
	before, passed := l.last, make(chan struct{})
	l.last = passed
	l.waiting.Go(func() {
		err := l.ready(ctx, &listed, data)
		if before != nil {
			<-before
		}
		var answer <-chan Answer
		if err = errors.Join(l.stopped, err); err == nil {
			answer, err = l.inner.Commit(ctx, &listed)
		}
		l.stopped = err
		close(passed)
		switch {
		case err == nil:
			out <- <-answer
		case l.fenced():
			out <- Answer{Result: fsm.Result{Outcome: fsm.Fenced}}
		default:
			out <- Answer{Err: err}
		}
	})
	return out, nil
}

// ready waits until a Commit may list its segments: the cluster understands them,
// and enough nodes hold them.
func (l *archiveLog) ready(ctx context.Context, c *fsm.Commit, data []byte) error {
	if len(c.Segments) == 0 {
		return nil
	}
	if err := l.understood(ctx, fsm.Level(c)); err != nil {
		return err
	}
	return l.node.Spread(ctx, c.Job, &c.Segments[0], data, l.copies)
}

// understood waits until the cluster's feature level is high enough.
func (l *archiveLog) understood(ctx context.Context, level uint8) error {
	told := false
	for {
		changed := l.changed()
		var now uint8
		l.state.Read(func(s *fsm.State) { now = s.FeatureLevel() })
		if now >= level {
			return nil
		}
		if !told {
			told = true
			l.logger.Info("a commit with an archive segment waits for the cluster's feature level", "level", now, "needed", level)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const (
	// mergeEvery is how often the manifest is looked at.
	mergeEvery = 500 * time.Millisecond
	// mergeAgain is the pause after a merge that failed.
	mergeAgain = 5 * time.Second
)

// merge keeps the manifest small until ctx ends: neighbours are merged tier by
// tier. Training goes on meanwhile.
func (a *archiving) merge(ctx context.Context) {
	if a == nil {
		return
	}
	nice.Goroutine(learnerNice) // as far as this system can
	seen := 0                   // segments when there was nothing to do
	pause := time.Duration(0)
	for {
		wait := time.NewTimer(max(pause, mergeEvery))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		pause = 0
		for more := true; more && ctx.Err() == nil; {
			var err error
			if more, err = a.mergeOnce(ctx, &seen); err != nil && ctx.Err() == nil {
				a.logger.Warn("archive segments not merged", "error", err)
				pause = mergeAgain
				break
			}
		}
	}
}

// mergeOnce replaces one run of segments, if there is one to replace.
func (a *archiving) mergeOnce(ctx context.Context, seen *int) (more bool, err error) {
	var j *fsm.Job
	var run []fsm.Segment
	a.state.Read(func(s *fsm.State) {
		if j, _ = s.Job(a.lease.Job); j != nil && j.Segments != *seen && j.Segments >= archive.FanIn {
			run = s.Segments(a.lease.Job)
		}
	})
	if j == nil || j.Generation != a.lease.Generation || j.Epoch != a.lease.Epoch || run == nil {
		return false, nil
	}
	if run = archive.Plan(run); run == nil {
		*seen = j.Segments
		return false, nil
	}
	g, data, err := archive.Merge(ctx, j, run, a.node.Fetcher(j.ID))
	if err != nil {
		return false, err
	}
	if err := a.node.Spread(ctx, j.ID, &g, data, a.copies); err != nil {
		return false, err
	}
	c := &fsm.Compact{Job: j.ID, Generation: a.lease.Generation, Epoch: a.lease.Epoch, Add: g}
	for _, old := range run {
		c.Remove = append(c.Remove, old.ID)
	}
	c.Stamp = a.clock.Now().UnixNano()
	res, err := a.propose(ctx, c)
	switch {
	case err != nil:
		return false, err // whether it got in shows in the state
	case res.Outcome == fsm.Rejected:
		return false, errors.New(res.Reason)
	}
	return res.Outcome != fsm.Fenced, nil
}
