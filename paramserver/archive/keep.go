package archive

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Run cares for what is held until ctx ends: it removes what no state can list
// any more, reads segments back, and while this node leads it replaces copies
// that were lost with a node.
func (n *Node) Run(ctx context.Context) {
	tick := time.NewTicker(n.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.Care(ctx)
		}
	}
}

// holding is one job as a round of care sees it.
type holding struct {
	job      *fsm.Job
	segments []fsm.Segment
}

// Care is one round of what Run does.
func (n *Node) Care(ctx context.Context) {
	var jobs []holding
	n.State.Read(func(s *fsm.State) {
		for _, j := range s.Jobs() {
			jobs = append(jobs, holding{j, s.Segments(j.ID)})
		}
	})
	leads := n.State.IsLeader()
	for _, h := range jobs {
		steps := []func(context.Context, holding) error{n.sweep, n.readBack}
		if leads {
			steps = append(steps, n.repair)
		}
		for _, step := range steps {
			if err := step(ctx, h); err != nil && ctx.Err() == nil {
				n.Logger.Warn("archive", "job", h.job.ID, "error", err)
			}
		}
	}
}

// sweep removes blobs that no command can list any more. The job and its
// manifest are of one state, so it does not matter how old that is: what an epoch
// that is over has not listed by then, it never will.
func (n *Node) sweep(ctx context.Context, h holding) error {
	if n.Store.Shared() && !n.State.IsLeader() {
		return nil
	}
	blobs, err := n.Store.List(ctx, h.job.ID)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(h.segments))
	for _, g := range h.segments {
		listed[g.ID] = true
	}
	now := n.Clock.Now()
	var due []string
	n.mu.Lock()
	for _, b := range blobs {
		k := h.job.ID + "/" + b.ID
		made, ok := ParseName(b.ID)
		switch {
		case listed[b.ID]:
			n.seen[k] = true
			delete(n.first, k)
		case !ok:
		case n.seen[k], made.Fenced(h.job.Generation, h.job.Epoch), made.void(h.job):
			since, known := n.first[k]
			if !known {
				n.first[k] = now
			} else if now.Sub(since) >= n.Grace {
				due = append(due, b.ID)
				delete(n.first, k)
				delete(n.seen, k)
			}
		}
	}
	n.mu.Unlock()
	var errs []error
	for _, id := range slices.Compact(due) {
		errs = append(errs, n.Store.Delete(ctx, h.job.ID, id))
	}
	if len(due) > 0 {
		n.Logger.Debug("archive segments removed that nobody lists", "job", h.job.ID, "segments", len(due))
	}
	return errors.Join(errs...)
}

// void says whether a segment was made for a Commit of the present epoch that
// can no longer be applied: the job is at its version, or beyond.
func (m Name) void(j *fsm.Job) bool {
	return m.Tier == 0 && m.Generation == j.Generation && m.Epoch == j.Epoch && m.Version <= j.Version
}

// readBackBytes is what one round reads of a job's segments to compare hashes.
const readBackBytes = 8 << 20

// readBack compares the hashes of some of the segments that are here, where the
// last round stopped. Those that are damaged are put aside, and count as lost.
func (n *Node) readBack(ctx context.Context, h holding) error {
	n.mu.Lock()
	after := n.scrub[h.job.ID]
	n.mu.Unlock()
	sorted := slices.SortedFunc(slices.Values(h.segments), func(a, b fsm.Segment) int { return strings.Compare(a.ID, b.ID) })
	size := int64(0)
	last := ""
	for _, g := range sorted {
		if g.ID <= after || g.Bytes == 0 {
			continue
		}
		if size += g.Bytes; size > readBackBytes && last != "" {
			break
		}
		last = g.ID
		if _, err := n.Store.Get(ctx, SegmentName(h.job.ID, &g)); err != nil && !errors.Is(err, ErrNotHeld) {
			if !errors.Is(err, ErrSegment) {
				return err
			}
			n.Logger.Error("an archive segment is damaged here", "job", h.job.ID, "segment", g.ID, "error", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	n.mu.Lock()
	n.scrub[h.job.ID] = last // "" at the end: from the beginning
	n.mu.Unlock()
	return nil
}

// repair gives segments that too few nodes hold to others.
func (n *Node) repair(ctx context.Context, h holding) error {
	spec, err := job.FromJSON(h.job.Spec)
	if err != nil || n.Store.Shared() {
		return err
	}
	want := n.Copies(spec.Mesh.ArchiveCopies)
	segments := slices.DeleteFunc(h.segments, func(g fsm.Segment) bool { return g.Bytes == 0 || len(g.Nodes) == 0 })
	absent := n.absent()
	missing := 0
	for part := range slices.Chunk(segments, wire.MaxHeld) {
		holders, err := n.holders(ctx, h.job.ID, part)
		if err != nil {
			return err
		}
		for i := range part {
			g := &part[i]
			held := holders[i]
			coming := 0 // dead nodes that may come back
			for _, id := range g.Nodes {
				if absent[id] && !held[id] {
					coming++
				}
			}
			if len(held) == 0 {
				missing++
			} else if len(held)+coming < want {
				if err := n.replace(ctx, h.job.ID, g, held, want-coming); err != nil {
					return err
				}
			}
		}
	}
	if missing > 0 {
		n.Logger.Warn("archive segments are on no node that is alive", "job", h.job.ID, "segments", missing)
	}
	return nil
}

// absent are the nodes that are dead, but not for long and not for good: those
// that were taken out of the log are.
func (n *Node) absent() map[string]bool {
	now := n.Clock.Now()
	members := n.Members()
	out := map[string]bool{}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.Mesh.Members() {
		if m.State == cluster.Alive {
			delete(n.dead, m.ID)
			continue
		}
		if n.dead[m.ID].IsZero() {
			n.dead[m.ID] = now
		}
		out[m.ID] = m.State == cluster.Dead && slices.Contains(members, m.ID) && now.Sub(n.dead[m.ID]) < n.Absent
	}
	return out
}

// holders asks every node that is alive which of the segments it has.
func (n *Node) holders(ctx context.Context, jobID string, part []fsm.Segment) ([]map[string]bool, error) {
	req := &wire.HoldsRequest{ClusterID: n.Mesh.ClusterID(), Job: jobID}
	for _, g := range part {
		req.Segments = append(req.Segments, g.ID)
	}
	out := make([]map[string]bool, len(part))
	note := func(id string, reply *wire.HoldsReply) {
		for i, held := range reply.Held {
			if out[i] == nil {
				out[i] = map[string]bool{}
			}
			if held {
				out[i][id] = true
			}
		}
	}
	own, err := n.Holds(ctx, req)
	if err != nil {
		return nil, err
	}
	note(n.Node, own)
	for _, m := range n.peers(jobID) {
		c, err := n.clients.Client(m.GRPCAddr)
		if err != nil {
			return nil, err
		}
		pctx, cancel := context.WithTimeout(ctx, putPatience)
		reply, err := c.Holds(pctx, req)
		cancel()
		if err == nil {
			note(m.ID, reply)
		} else {
			n.failed(m.ID)
		}
	}
	return out, ctx.Err()
}

// replace copies a segment from a node that holds it to others, until want do.
func (n *Node) replace(ctx context.Context, jobID string, g *fsm.Segment, held map[string]bool, want int) error {
	from := *g
	from.Nodes = nil
	for id := range held {
		from.Nodes = append(from.Nodes, id)
	}
	data, err := n.Fetch(ctx, jobID, &from)
	if err != nil {
		return err
	}
	for _, m := range slices.Insert(n.peers(g.ID), 0, cluster.Member{ID: n.Node}) {
		if len(held) >= want || ctx.Err() != nil {
			break
		}
		if held[m.ID] {
			continue
		}
		pctx, cancel := context.WithTimeout(ctx, patience(g.Bytes))
		err := n.give(pctx, m, jobID, g, data)
		cancel()
		if err != nil {
			n.failed(m.ID)
			n.Logger.Warn("archive segment not copied", "job", jobID, "segment", g.ID, "to", m.ID, "error", err)
			continue
		}
		held[m.ID] = true
		n.Logger.Info("archive segment copied, because too few nodes hold it", "job", jobID, "segment", g.ID, "to", m.ID)
	}
	return ctx.Err()
}
