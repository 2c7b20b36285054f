package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// ErrArchive: the archive does not hold what the marks say, or holds it twice.
var ErrArchive = errors.New("the archive is not what was counted")

// Archived is a job's archive as clients of a Rig see it.
type Archived struct {
	rig *Rig
	job string
}

// Archived returns the archive of a job.
func (r *Rig) Archived(job string) *Archived { return &Archived{r, job} }

var _ archive.Source = (*Archived)(nil)

// Manifest implements archive.Source: it asks the servers until one answers.
func (a *Archived) Manifest(ctx context.Context) (*archive.Manifest, error) {
	var m *archive.Manifest
	err := a.ask(ctx, func(ctx context.Context, c *cluster.Client) error {
		m = &archive.Manifest{Job: a.job}
		return errors.Join(c.Manifest(ctx, &wire.ManifestRequest{ClusterID: a.rig.clusterID, Job: a.job}, m.Take), m.Whole())
	})
	return m, err
}

// Fetch implements archive.Source.
func (a *Archived) Fetch(ctx context.Context, g *fsm.Segment) (data []byte, err error) {
	err = a.ask(ctx, func(ctx context.Context, c *cluster.Client) error {
		data, err = c.GetSegment(ctx, &wire.GetSegmentRequest{ClusterID: a.rig.clusterID, Segment: *archive.SegmentName(a.job, g), Anywhere: true})
		return err
	})
	return data, err
}

// ask calls f with one server after the other until one succeeds or ctx ends.
func (a *Archived) ask(ctx context.Context, f func(context.Context, *cluster.Client) error) error {
	var last error
	for {
		for _, n := range a.rig.Nodes(cluster.RoleServer) {
			if !n.Running() || n.Frozen() {
				continue
			}
			c, err := a.rig.leader.Client(n.GRPC)
			if err != nil {
				return err
			}
			actx, cancel := context.WithTimeout(ctx, 5*askTimeout)
			err = f(actx, c)
			cancel()
			if err == nil {
				return nil
			}
			last = fmt.Errorf("%s: %w", n.Name, err)
		}
		if err := clock.Rest(ctx, lookEvery); err != nil {
			return fmt.Errorf("%w (last: %w)", err, last)
		}
	}
}

// CheckManifest holds what a job lists against its sessions' marks, of the same
// state or a job at rest: the segments cover every trajectory that a mark covers,
// once, and as many rows as were admitted where everything is archived.
func CheckManifest(m *archive.Manifest, s *wire.StateReply, policy job.ArchivePolicy) error {
	var out []error
	covered := map[string][]fsm.Range{}
	rows := int64(0)
	for _, g := range m.Segments {
		rows += g.Rows
		for _, r := range g.Ranges {
			covered[r.Session] = append(covered[r.Session], r)
		}
	}
	var admitted uint64
	for _, x := range s.Sessions {
		admitted += x.Admitted
		ranges := covered[x.ID]
		delete(covered, x.ID)
		slices.SortFunc(ranges, func(a, b fsm.Range) int { return cmp.Compare(a.First, b.First) })
		next := uint64(1)
		for _, r := range ranges {
			if r.First != next {
				out = append(out, fmt.Errorf("%w: session %s: a segment covers %d to %d, %d is next", ErrArchive, x.ID, r.First, r.Last, next))
			}
			next = max(next, r.Last+1)
		}
		if next != x.Mark+1 {
			out = append(out, fmt.Errorf("%w: session %s is covered up to %d, its mark is %d", ErrArchive, x.ID, next-1, x.Mark))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(covered)) {
		out = append(out, fmt.Errorf("%w: segments cover a session %s that does not exist", ErrArchive, id))
	}
	if n := uint64(rows); n > admitted || policy.Keep == job.ArchiveAll && n != admitted {
		out = append(out, fmt.Errorf("%w: %d rows, %d trajectories were trained on", ErrArchive, n, admitted))
	}
	return errors.Join(out...)
}

// SegmentAudit holds the rows of a segment against what else is known.
type SegmentAudit struct {
	Sessions map[string]wire.SessionInfo
	// Version is what a trajectory was sampled with, by its worker's own journal;
	// false where that does not say.
	Version func(session string, seq uint64) (uint64, bool)
	Env     envs.Env
}

// Check holds one listed segment against its entry: as many rows as are listed,
// each of another trajectory, all within the ranges (of which no two segments'
// overlap, so that no trajectory of the archive is there twice), sampled by the node that
// holds the session, with the version that it sampled with; and each object is
// worth its log-reward.
func (a *SegmentAudit) Check(g *fsm.Segment, data []byte) error {
	type trajectory struct {
		session string
		seq     int64
	}
	seen := map[trajectory]bool{}
	one, reward := a.Env.NewStates(1), make([]float64, 1)
	return archive.Decode(data, g.Rows, func(r *archive.Row) error {
		at := trajectory{r.Session, r.Seq}
		in := slices.ContainsFunc(g.Ranges, func(x fsm.Range) bool {
			return x.Session == r.Session && x.First <= uint64(r.Seq) && uint64(r.Seq) <= x.Last
		})
		version, known := a.Version(r.Session, uint64(r.Seq))
		switch {
		case !in:
			return fmt.Errorf("%w: segment %s holds trajectory %d of session %s and does not cover it", ErrArchive, g.ID, r.Seq, r.Session)
		case seen[at]:
			return fmt.Errorf("%w: segment %s holds trajectory %d of session %s twice", ErrArchive, g.ID, r.Seq, r.Session)
		case r.Worker != a.Sessions[r.Session].Worker:
			return fmt.Errorf("%w: session %s is of worker %q, a row says %q", ErrArchive, r.Session, a.Sessions[r.Session].Worker, r.Worker)
		case known && version != uint64(r.Version):
			return fmt.Errorf("%w: trajectory %d of session %s was sampled with version %d, its row says %d", ErrArchive, r.Seq, r.Session, version, r.Version)
		}
		seen[at] = true
		err := one.Parse(0, r.Object)
		if err == nil {
			err = one.LogReward([]int32{0}, reward)
		}
		if err != nil || reward[0] != r.LogReward {
			return fmt.Errorf("%w: object %.80q has log-reward %v, it is worth %v (%v)", ErrArchive, r.Object, r.LogReward, reward[0], err)
		}
		return nil
	})
}

// auditArchive holds the archive of a job at rest against its state and the
// journals: the whole manifest, and the rows of segments that no audit before has
// read. Every segment is on as many nodes as it should be, or soon is.
func (t *torture) auditArchive(ctx context.Context, s *wire.StateReply) error {
	policy, err := job.ParseArchive(t.Spec.Mesh.Archive)
	if err != nil || policy.Keep == job.ArchiveOff {
		return err
	}
	src := t.rig.Archived(t.Spec.Name)
	m, err := src.Manifest(ctx)
	if err != nil {
		return fmt.Errorf("%w: archive: %w", ErrStuck, err)
	}
	if err := CheckManifest(m, s, policy); err != nil {
		return err
	}
	env, err := registry.OfJob(t.Spec)
	if err != nil {
		return err
	}
	check := SegmentAudit{Sessions: map[string]wire.SessionInfo{}, Env: env, Version: func(session string, seq uint64) (v uint64, ok bool) {
		t.obs.Account(func(a *Account) { v, ok = a.SampledWith(session, seq) })
		return v, ok
	}}
	for _, x := range s.Sessions {
		check.Sessions[x.ID] = x
	}
	for i := range m.Segments {
		g := &m.Segments[i]
		if g.Bytes == 0 || t.read[g.ID] {
			continue
		}
		data, err := src.Fetch(ctx, g)
		if err != nil {
			return fmt.Errorf("%w: segment %s is listed and nobody has it: %w", ErrArchive, g.ID, err)
		}
		if err := check.Check(g, data); err != nil {
			return err
		}
		if t.read == nil {
			t.read = map[string]bool{}
		}
		t.read[g.ID] = true
	}
	return t.rig.Replicated(ctx, t.Spec.Name, max(t.Spec.Mesh.ArchiveCopies, min(2, t.Servers)))
}

// Replicated waits until every segment that a job lists is on at least so many
// servers.
func (r *Rig) Replicated(ctx context.Context, name string, copies int) error {
	for {
		few, err := r.underReplicated(ctx, name, copies)
		if err == nil && few == 0 {
			return nil
		}
		if again := clock.Rest(ctx, 4*lookEvery); again != nil {
			return fmt.Errorf("%w: %d segments are on fewer than %d nodes: %w", ErrArchive, few, copies, errors.Join(err, again))
		}
	}
}

func (r *Rig) underReplicated(ctx context.Context, name string, copies int) (few int, err error) {
	m, err := r.Archived(name).Manifest(ctx)
	if err != nil {
		return 0, err
	}
	req := &wire.HoldsRequest{ClusterID: r.clusterID, Job: name}
	for _, g := range m.Segments {
		if g.Bytes > 0 {
			req.Segments = append(req.Segments, g.ID)
		}
	}
	held := make([]int, len(req.Segments))
	for _, n := range r.Nodes(cluster.RoleServer) {
		c, err := r.leader.Client(n.GRPC)
		if err != nil {
			return 0, err
		}
		reply, err := c.Holds(ctx, req)
		if err != nil {
			continue // it holds nothing for anyone now
		}
		for i, yes := range reply.Held {
			if yes {
				held[i]++
			}
		}
	}
	for _, n := range held {
		if n < copies {
			few++
		}
	}
	return few, nil
}

// SampledWith returns the version that a trajectory was sampled with.
func (a *Account) SampledWith(session string, seq uint64) (version uint64, ok bool) {
	s := a.sessions[session]
	if s == nil {
		return 0, false
	}
	i, _ := slices.BinarySearchFunc(s.sampled, seq, func(r run, seq uint64) int { return cmp.Compare(r.last, seq) })
	if i == len(s.sampled) {
		return 0, false
	}
	return s.sampled[i].version, true
}
