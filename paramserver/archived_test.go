package paramserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/clock"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// Read, Linearize and IsLeader make the scripted log an archive.State.
func (l *scriptedLog) Read(f func(*fsm.State)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.state)
}
func (l *scriptedLog) Linearize(context.Context) error { return nil }
func (l *scriptedLog) IsLeader() bool                  { return true }

// alone is a mesh of one server, and of dead ones.
type alone struct{ dead []string }

func (alone) ClusterID() string { return "c" }
func (a alone) Members() []cluster.Member {
	out := []cluster.Member{{ID: "n", Role: cluster.RoleServer, State: cluster.Alive}}
	for _, id := range a.dead {
		out = append(out, cluster.Member{ID: id, Role: cluster.RoleServer, State: cluster.Dead, GRPCAddr: "127.0.0.1:1"})
	}
	return out
}

// archived gives a bench an archive of a policy, on one node of a cluster with
// some dead ones.
func (b *bench) archived(t *testing.T, policy string, dead ...string) (node *archive.Node, merge func(context.Context), wait func()) {
	t.Helper()
	if res := b.log.apply(&fsm.Activate{Level: 2}); res.Outcome != fsm.Applied {
		t.Fatal(res)
	}
	store, err := archive.OpenFolder(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	mesh := alone{dead}
	node = archive.NewNode(archive.Config{
		Node: "n", Store: store, Mesh: mesh, State: b.log, Clock: clock.Real{}, Logger: slog.New(slog.DiscardHandler),
		Members: func() (ids []string) {
			for _, m := range mesh.Members() {
				ids = append(ids, m.ID)
			}
			return ids
		},
	})
	t.Cleanup(func() {
		if err := errors.Join(node.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
	b.Updater.Spec.Mesh.Archive = policy
	merge, wait, err = paramserver.Archive(b.Learner, node, b.log, func(_ context.Context, cmd any) (fsm.Result, error) { return b.log.apply(cmd), nil })
	if err != nil {
		t.Fatal(err)
	}
	return node, merge, wait
}

// manifest is what the job lists.
func (b *bench) manifest() (out []fsm.Segment) {
	b.log.Read(func(s *fsm.State) { out = s.Segments("grid") })
	return out
}

// rows reads everything that is listed, oldest first.
func (b *bench) rows(t *testing.T, node *archive.Node) (out []archive.Row) {
	t.Helper()
	if err := archive.WalkBack(context.Background(), b.manifest(), node.Fetcher("grid"), func(r *archive.Row) bool { out = append(out, *r); return true }); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(out)
	return out
}

// contiguous fails the test unless the segments cover 1 to mark without a gap or
// an overlap.
func (b *bench) contiguous(t *testing.T, mark uint64) {
	t.Helper()
	next := uint64(1)
	for _, g := range b.manifest() {
		if len(g.Ranges) != 1 || g.Ranges[0].First != next {
			t.Fatalf("segment %s covers %v, %d is next", g.ID, g.Ranges, next)
		}
		next = g.Ranges[0].Last + 1
	}
	if next != mark+1 {
		t.Errorf("covered up to %d, the mark is %d", next-1, mark)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, yes func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

// stalled waits until a learner has made no update for a while.
func stalled(t *testing.T, b *bench) {
	t.Helper()
	last, since := b.updates.Load(), time.Now()
	eventually(t, "the learner stops", func() bool {
		if now := b.updates.Load(); now != last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > 2*time.Second
	})
}

// TestCommitsListWhatTheyCover: with a policy of all, every trajectory that was
// trained on is a row, once and in order, those that were refused are covered and are
// none; and merging changes neither.
func TestCommitsListWhatTheyCover(t *testing.T) {
	b := newBench(t, 600, 2*stepTime)
	b.feed.spoil = func(version uint64, batch []wire.Trajectory) {
		if version%3 == 0 && version > 0 {
			batch[version%batchSize].Actions = []int32{99}
		}
	}
	node, merge, wait := b.archived(t, "all")
	ctx, cancel := context.WithCancel(t.Context())
	merged := make(chan struct{})
	go func() { defer close(merged); merge(ctx) }()
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	j := b.log.job()
	if j.Refused == 0 || j.Trajectories() != 600*batchSize {
		t.Fatalf("%d refused, %d admitted", j.Refused, j.Admitted)
	}
	check := func() {
		t.Helper()
		b.contiguous(t, j.Trajectories())
		rows := b.rows(t, node)
		if uint64(len(rows)) != j.Admitted || int64(len(rows)) != b.log.job().ArchivedRows {
			t.Errorf("%d rows, %d were trained on", len(rows), j.Admitted)
		}
		for i, r := range rows {
			if i > 0 && r.Seq <= rows[i-1].Seq || r.Session != session || r.Worker != "worker of "+session {
				t.Fatalf("row %d is %+v after %d", i, r, rows[max(i, 1)-1].Seq)
			}
		}
	}
	check()
	eventually(t, "the segments are merged", func() bool { return archive.Plan(b.manifest()) == nil })
	cancel()
	<-merged
	if n := len(b.manifest()); b.log.proposed() > archive.FanIn+1 && n >= b.log.proposed()-archive.FanIn+1 {
		t.Errorf("%d segments of %d commits", n, b.log.proposed())
	}
	check()
}

// TestCommitsWaitForCopies: while too few nodes are alive, nothing is listed and
// nothing is committed; the learner stops at two windows.
func TestCommitsWaitForCopies(t *testing.T) {
	b := newBench(t, 1000, 2*stepTime)
	_, _, wait := b.archived(t, "all", "dead-1", "dead-2")
	ctx, cancel := context.WithCancel(t.Context())
	done := b.start(ctx)
	stalled(t, b)
	if n := b.log.proposed(); n != 1 { // version 0 covers nothing
		t.Errorf("%d commits were proposed", n)
	}
	if n := len(b.manifest()); n != 0 {
		t.Errorf("%d segments are listed", n)
	}
	cancel()
	err := <-done
	wait()
	if !errors.Is(err, context.Canceled) || err == context.Canceled {
		t.Errorf("it ended with %v, as if everything were committed", err)
	}
}

// TestAFencedLearnerGivesUpItsSegments: its wait for copies ends as a fence.
func TestAFencedLearnerGivesUpItsSegments(t *testing.T) {
	b := newBench(t, 1000, 2*stepTime)
	_, _, wait := b.archived(t, "all", "dead-1", "dead-2")
	ctx, cancel := context.WithCancel(t.Context())
	done := b.start(ctx)
	stalled(t, b)
	if res := b.log.apply(&fsm.Grant{Job: "grid", Epoch: 2, Node: "other"}); res.Outcome != fsm.Applied {
		t.Fatal(res)
	}
	cancel() // as a server does that sees the new epoch
	err := <-done
	wait()
	if !errors.Is(err, paramserver.ErrFenced) {
		t.Errorf("it ended with %v", err)
	}
}

// TestCommitsStayInOrder although their segments take longer or shorter, and
// nothing follows one that was not passed on.
func TestCommitsStayInOrder(t *testing.T) {
	b := newBench(t, 1500, stepTime)
	_, _, wait := b.archived(t, "sample:0.5")
	hold := make(chan struct{})
	b.log.hold = func(n int) <-chan struct{} {
		if n == 1 {
			return hold
		}
		return nil
	}
	done := b.start(t.Context())
	eventually(t, "a commit is held", func() bool { return b.log.proposed() > 1 })
	close(hold)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	wait()
	base := uint64(0)
	for i, c := range b.log.commits {
		if c.Base != base {
			t.Errorf("commit %d is %d → %d after %d", i, c.Base, c.Version, base)
		}
		base = c.Version
		if len(c.Marks) > 0 != (len(c.Segments) == 1) {
			t.Errorf("commit %d has %d marks and %d segments", i, len(c.Marks), len(c.Segments))
		}
	}
}

// TestPolicies decide alike for the same trajectories, whoever collects them.
func TestPolicies(t *testing.T) {
	collected := func(policy string, from, to uint64) (out []string, admitted int) {
		spec := smallSpec()
		spec.Mesh.Archive = policy
		u := newUpdater(t, spec)
		k, err := paramserver.NewCollector(u, func(string) string { return "w" }, clock.Real{})
		if err != nil {
			t.Fatal(err)
		}
		for feed := newByStep(t, spec); u.Version() < to; {
			first := u.Trajectories() + 1
			batch, err := feed.at(u.Fresh(), u.Params(), u.Version(), u.Trajectories())
			if err != nil {
				t.Fatal(err)
			}
			for i := range batch {
				batch[i].Session, batch[i].Seq = "s", first+uint64(i)
			}
			up := mustStep(t, u, batch)
			if u.Version() <= from {
				continue // another learner's
			}
			if err := k.Updated(up); err != nil {
				t.Fatal(err)
			}
			rows, ranges, err := k.Take([]fsm.Mark{{Session: "s", Seq: first + uint64(len(batch)) - 1, Admitted: uint64(len(batch))}})
			if err != nil || len(ranges) != 1 || ranges[0] != (fsm.Range{Session: "s", First: first, Last: first + uint64(len(batch)) - 1}) {
				t.Fatalf("%v, %v", ranges, err)
			}
			admitted += len(batch)
			for _, r := range rows {
				out = append(out, fmt.Sprint(r.Seq, r.Object, r.LogReward))
			}
		}
		return out, admitted
	}
	all, n := collected("all", 0, 40)
	if len(all) != n {
		t.Errorf("%d of %d", len(all), n)
	}
	half, _ := collected("sample:0.5", 0, 40)
	if p := float64(len(half)) / float64(n); math.Abs(p-0.5) > 0.08 {
		t.Errorf("a half is %.3f", p)
	}
	late, _ := collected("sample:0.5", 20, 40)
	if tail := half[len(half)-len(late):]; !slices.Equal(tail, late) || len(late) < 50 {
		t.Errorf("a successor samples %d others", len(late))
	}
	if whole, _ := collected("sample:1", 0, 40); !slices.Equal(whole, all) {
		t.Errorf("all of a sample are %d of %d", len(whole), len(all))
	}
	distinct, _ := collected("distinct", 0, 40)
	objects := map[string]bool{}
	for _, r := range all {
		objects[r[strings.Index(r, "("):]] = true
	}
	once := map[string]bool{}
	for _, r := range distinct {
		once[r[strings.Index(r, "("):]] = true
	}
	if len(distinct) != len(objects) || len(once) != len(objects) {
		t.Errorf("%d rows of %d distinct objects, %d there are", len(distinct), len(once), len(objects))
	}
	best, _ := collected("best", 0, 40)
	if len(best) == 0 || len(best) > len(distinct) {
		t.Errorf("%d of the best, %d distinct", len(best), len(distinct))
	}
	if k, err := paramserver.NewCollector(newUpdater(t, smallSpec()), nil, clock.Real{}); k != nil || err != nil {
		t.Errorf("a job without an archive: %v, %v", k, err)
	}
}

// TestRefillFromRealSegments: a successor's buffer is filled with the newest
// archived objects.
func TestRefillFromRealSegments(t *testing.T) {
	b := newBench(t, 80, 2*stepTime)
	node, _, wait := b.archived(t, "all")
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait()
	rows := b.rows(t, node)
	spec := replaySpec("fifo", 4)
	spec.Replay.Bytes = 1 << 20
	u := newUpdater(t, spec)
	for feed := newByStep(t, spec); u.Version() < 3; {
		freshStep(t, u, feed)
	}
	params, private, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v := newUpdater(t, spec)
	if err := v.Restore(3, params, private); err != nil {
		t.Fatal(err)
	}
	got, err := v.Refill(t.Context(), paramserver.ArchivedObjects(node, b.log)(b.log.job()))
	if err != nil || got.From != "archive" || got.Objects != len(rows) || got.Unread != 0 {
		t.Fatalf("%+v, %v; %d rows", got, err, len(rows))
	}
	items := v.Buffer().Items()
	for i, it := range items {
		if r := rows[len(rows)-len(items)+i]; it.Text != r.Object || it.LogReward != r.LogReward {
			t.Fatalf("item %d is %+v, want %+v", i, it, r)
		}
	}
	if len(items) < 100 {
		t.Errorf("%d items", len(items))
	}
}
