package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/cluster"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// exported runs `driftmesh export` and returns how often each trajectory is there.
func exported(t *testing.T, bin string, n *Node, name string) map[string]int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if out, err := exec.Command(bin, "export", name, "--server", n.GRPC, "--out", path).CombinedOutput(); err != nil {
		t.Fatalf("export: %v\n%s", err, out)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := map[string]int{}
	for in := bufio.NewScanner(f); in.Scan(); {
		var row struct {
			Session string
			Seq     int64
		}
		if err := json.Unmarshal(in.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		count[fmt.Sprintf("%s %d", row.Session, row.Seq)]++
	}
	return count
}

// segmentFiles lists the segments in a node's folder.
func segmentFiles(t *testing.T, n *Node) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.Dir, "archive", "*", "*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

// TestArchiveThroughKills: every trajectory that a mark covers is archived once,
// on two of three servers, although the leader, which trains, is killed twice on
// the way, and a worker; damage is found and mended from another copy; and one server's
// disk can be lost with all it holds.
func TestArchiveThroughKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and kills them for half a minute")
	}
	bin := binary(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	spec := endless(t, "name=kept", "mesh.window_ms=20", "policy.hidden=[128,128]", "mesh.archive=all", "mesh.archive_copies=2")
	r, err := NewRig(RigConfig{Binary: bin, Dir: t.TempDir(), Servers: 3, Workers: 2, Slots: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range r.Nodes() {
				t.Logf("%s:\n%s", n.Name, n.Tail(3000))
			}
		}
	})
	tt := &torture{TortureConfig: TortureConfig{Spec: spec, Servers: 3, Workers: 2, Slots: 2, Log: t.Logf}, rig: r}
	tt.defaults()
	tt.Recovery = 90 * time.Second
	tt.obs = Observe(r, spec.Name, 0)
	t.Cleanup(func() {
		if err := tt.obs.Close(); err != nil {
			t.Error(err)
		}
	})
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("submit", r.Submit(ctx, data))
	for round := range 2 {
		must("commits", tt.obs.Progress(ctx, 12))
		n, err := r.Lead(ctx)
		must("leader", err)
		must("a commit under way", tt.obs.Aim(ctx))
		must("kill "+n.Name, n.Kill())
		if round == 0 {
			must("kill a worker", r.Node("worker-1").Kill())
		}
		must("commits without "+n.Name, tt.obs.Progress(ctx, 6))
		must("restart", r.Restart(n))
		if round == 0 {
			must("restart", r.Restart(r.Node("worker-1")))
		}
		must("audit", tt.audit(ctx))
	}
	must("pause", r.Control(ctx, spec.Name, wire.VerbPause))
	state, err := r.State(ctx, spec.Name)
	must("state", err)
	m, err := r.Archived(spec.Name).Manifest(ctx)
	must("manifest", err)
	must("manifest", CheckManifest(m, state, job.ArchivePolicy{Keep: job.ArchiveAll, Rate: 1}))
	var admitted uint64
	for _, x := range state.Sessions {
		admitted += x.Admitted
	}
	whole := func(when string) {
		t.Helper()
		lead, err := r.Lead(ctx)
		must("leader", err)
		count := exported(t, bin, lead, spec.Name)
		for at, n := range count {
			if n != 1 {
				t.Errorf("%s: trajectory %s is there %d times", when, at, n)
			}
		}
		if uint64(len(count)) != admitted {
			t.Errorf("%s: %d trajectories exported, %d were trained on", when, len(count), admitted)
		}
	}
	whole("after kills")
	t.Logf("%d trajectories of %d sessions in %d segments, version %d", admitted, len(state.Sessions), len(m.Segments), m.Version)

	// A byte that changed: found, and mended from the other copy.
	victim := r.Nodes(cluster.RoleServer)[0]
	var path string
	for _, p := range segmentFiles(t, victim) {
		id := strings.TrimSuffix(filepath.Base(p), ".parquet")
		if slices.ContainsFunc(m.Segments, func(g fsm.Segment) bool { return g.ID == id }) {
			path = p
		}
	}
	content, err := os.ReadFile(path)
	must("read", err)
	flipped := bytes.Clone(content)
	flipped[len(flipped)/2] ^= 0x10
	must("flip", os.WriteFile(path, flipped, 0o644))
	id := strings.TrimSuffix(filepath.Base(path), ".parquet")
	at := slices.IndexFunc(m.Segments, func(g fsm.Segment) bool { return g.ID == id })
	c, err := r.leader.Client(victim.GRPC)
	must("client", err)
	ask := &wire.GetSegmentRequest{ClusterID: r.clusterID, Segment: *archive.SegmentName(spec.Name, &m.Segments[at])}
	if _, err := c.GetSegment(ctx, ask); !errors.Is(err, cluster.ErrNotFound) {
		t.Errorf("a node with a damaged segment answered %v", err)
	}
	ask.Anywhere = true
	if got, err := c.GetSegment(ctx, ask); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the other copy of a damaged segment: %d bytes, %v", len(got), err)
	}
	must("mended", r.Replicated(ctx, spec.Name, 2))
	whole("after damage")

	// A whole disk that is lost.
	lost := r.Nodes(cluster.RoleServer)[1]
	must("kill", lost.Kill())
	must("wipe", os.RemoveAll(filepath.Join(lost.Dir, "archive")))
	whole("without one holder")
	must("restart", r.Restart(lost))
	must("replicated", r.Replicated(ctx, spec.Name, 2))
	must("resume", r.Control(ctx, spec.Name, wire.VerbResume))
	must("commits", tt.obs.Progress(ctx, 3))
	must("audit", tt.audit(ctx))
}
