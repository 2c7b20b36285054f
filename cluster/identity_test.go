package cluster_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/cluster"
)

func closed(t *testing.T, id *cluster.Identity) {
	t.Helper()
	if err := id.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestIdentityIsBornOnceWithItsDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "node")
	first, err := cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if first.ClusterID() != "" || first.NodeID() == "" || first.Created().IsZero() || first.Dir() != dir {
		t.Fatalf("a fresh identity is %q of cluster %q", first.NodeID(), first.ClusterID())
	}
	closed(t, first)

	again, err := cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, again)
	if again.NodeID() != first.NodeID() || !again.Created().Equal(first.Created()) {
		t.Errorf("node %s became %s", first.NodeID(), again.NodeID())
	}
	other, err := cluster.LoadOrCreate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, other)
	if other.NodeID() == first.NodeID() {
		t.Error("two directories have one ID")
	}
}

func TestInitFoundsOneCluster(t *testing.T) {
	dir := t.TempDir()
	id, err := cluster.Init(dir)
	if err != nil {
		t.Fatal(err)
	}
	founded := id.ClusterID()
	if founded == "" {
		t.Fatal("no cluster ID")
	}
	closed(t, id)
	if _, err := cluster.Init(dir); !errors.Is(err, cluster.ErrInitialised) || !strings.Contains(err.Error(), founded) {
		t.Errorf("a second init: got %v, want ErrInitialised naming %s", err, founded)
	}
	// The refusal must not keep the lock.
	id, err = cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, id)
	if id.ClusterID() != founded {
		t.Errorf("cluster %s became %s", founded, id.ClusterID())
	}
}

func TestSetClusterIDNeverChanges(t *testing.T) {
	const a, b = "5f0c1f4e-6a0f-4b6e-9c53-0d7f7a1f2a01", "5f0c1f4e-6a0f-4b6e-9c53-0d7f7a1f2a02"
	dir := t.TempDir()
	id, err := cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.SetClusterID("x"); err == nil {
		t.Error("a cluster ID that is no UUID was taken")
	}
	for range 2 {
		if err := id.SetClusterID(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := id.SetClusterID(b); !errors.Is(err, cluster.ErrInitialised) {
		t.Errorf("got %v, want ErrInitialised", err)
	}
	closed(t, id)
	id, err = cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closed(t, id)
	if id.ClusterID() != a {
		t.Errorf("cluster %q was kept, want %q", id.ClusterID(), a)
	}
}

func TestDirectoryIsForOneProcess(t *testing.T) {
	dir := t.TempDir()
	id, err := cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cluster.LoadOrCreate(dir)
	if !errors.Is(err, cluster.ErrLocked) {
		t.Fatalf("got %v, want ErrLocked", err)
	}
	if want := "cluster: data directory " + dir + ": in use by another process"; !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %q, want %q", err, want)
	}
	closed(t, id)
	id, err = cluster.LoadOrCreate(dir)
	if err != nil {
		t.Fatalf("after the other closed: %v", err)
	}
	closed(t, id)
}

func TestDamagedIdentityIsLeftAlone(t *testing.T) {
	record := func(format int, id, clusterID string) string {
		data, err := json.Marshal(map[string]any{"format": format, "id": id, "cluster_id": clusterID})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	const good = "5f0c1f4e-6a0f-4b6e-9c53-0d7f7a1f2a01"
	for name, c := range map[string]struct {
		content string
		damaged bool
	}{
		"empty":            {"", true},
		"cut off":          {`{"format":1,"id":"5f`, true},
		"no UUID":          {record(1, "me", ""), true},
		"no cluster UUID":  {record(1, good, "us"), true},
		"a format to come": {record(2, good, ""), false},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "node.json")
		if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := cluster.LoadOrCreate(dir)
		if err == nil || errors.Is(err, cluster.ErrDamaged) != c.damaged {
			t.Errorf("%s: got %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != c.content {
			t.Errorf("%s: the file was changed to %q (%v)", name, after, err)
		}
	}
}

func TestDataWithoutIdentityGetsNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "raft"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.LoadOrCreate(dir); !errors.Is(err, cluster.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}
