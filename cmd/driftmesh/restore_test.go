package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// TestBackupAndRestore runs a cluster, saves it, loses its only server, and
// goes on from the backup while the worker never stopped; then once more from
// the data directory of the server that was lost.
func TestBackupAndRestore(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	root := t.TempDir()
	data := func(name string) string { return filepath.Join(root, name) }
	server, addr := startServer(t, "--data", data("s1"), "--init")
	seen := data("journal")
	start(t, "worker", "--data", data("w"), "--join", addr, "--journal", seen)
	ok(t, "submit", quickJob, "--set", "train.updates=100000000", "--server", addr)
	at := func(addr string) (generation, version float64) {
		if j := jobStatus(t, addr, "quick"); j != nil {
			return j["generation"].(float64), j["version"].(float64)
		}
		return -1, -1
	}
	until(t, "the job is trained", func() bool { _, v := at(addr); return v > 100 })

	file := data("cluster.backup")
	saved := decode(t, ok(t, "backup", "--out", file, "--server", addr, "--json"))
	job := saved["jobs"].([]any)[0].(map[string]any)
	if job["id"] != "quick" || job["generation"] != 0.0 || job["version"].(float64) <= 100 || job["trajectories"].(float64) <= 0 {
		t.Errorf("the backup has %v", job)
	}
	if again := decode(t, ok(t, "backup", "verify", file, "--json")); again["jobs"].([]any)[0].(map[string]any)["state_hash"] != job["state_hash"] {
		t.Errorf("verify: %v, saved %v", again, saved)
	}
	damagedBackups(t, file)
	if names, err := filepath.Glob(filepath.Join(root, ".*")); err != nil || len(names) > 0 {
		t.Errorf("left over: %v, %v", names, err)
	}

	until(t, "more is trained than was saved", func() bool { _, v := at(addr); return v > job["version"].(float64) })
	if r := command(t, "restore", "--from-data", data("s1"), "--data", data("s2")); r.code != exitBadInput || !strings.Contains(r.stderr, "in use") {
		t.Errorf("from a server that runs: %+v", r)
	}
	kill := func(p *process) {
		t.Helper()
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p.wait(t)
	}
	kill(server)

	// From the backup.
	restored := decode(t, ok(t, "restore", file, "--data", data("s2"), "--json"))
	if restored["generation"] != 1.0 || restored["cluster_id"] != saved["cluster_id"] || !strings.Contains(restored["lost"].(string), "after log index") {
		t.Errorf("restore says %v", restored)
	}
	if r := command(t, "restore", file, "--data", data("s2")); r.code != exitBadInput || !strings.Contains(r.stderr, "new or empty") {
		t.Errorf("into a directory with data: %+v", r)
	}
	server, _ = startServer(t, "--data", data("s2"), "--grpc", addr)
	until(t, "training goes on from the backup", func() bool {
		g, v := at(addr)
		return g == 1 && v > job["version"].(float64)+100
	})
	first := events(t, addr)
	if !slices.ContainsFunc(first, func(e fsm.Event) bool { return e.Kind == fsm.EventRestored }) {
		t.Errorf("no event tells of the restore: %v", first)
	}

	// From the directory of the server that was lost, log and all.
	var last float64
	until(t, "some more is trained", func() bool { _, last = at(addr); return last > 0 })
	kill(server)
	before := contents(t, data("s2"))
	text := ok(t, "restore", "--from-data", data("s2"), "--data", data("s3"))
	if !strings.Contains(text, "at generation 2") || !strings.Contains(text, "quick") {
		t.Errorf("restore says\n%s", text)
	}
	after := contents(t, data("s2"))
	for _, lock := range []string{"lock", filepath.Join(raftDir, "lock")} { // names its last holder
		delete(before, data(filepath.Join("s2", lock)))
		delete(after, data(filepath.Join("s2", lock)))
	}
	if !maps.Equal(before, after) {
		t.Errorf("the old directory was changed:\n%v\n%v", before, after)
	}
	_, _ = startServer(t, "--data", data("s3"), "--grpc", addr)
	until(t, "training goes on from the log", func() bool {
		g, v := at(addr)
		return g == 2 && v > last
	})
	// The server gossips elsewhere now. The log held more than was last seen, which
	// alone says nothing of the worker.
	until(t, "the worker beside the new server", func() bool {
		live := decode(t, ok(t, "status", "--server", addr, "--json"))["workers"].([]any)
		return len(live) == 1 && live[0].(map[string]any)["alive"] == true
	})
	until(t, "the worker in the new generation", func() bool { return monotone(t, seen) == 2 })
}

// damagedBackups are refused with the place of the damage.
func damagedBackups(t *testing.T, file string) {
	t.Helper()
	whole := read(t, file)
	newer := []byte(whole)
	newer[5] = 200 // the feature level
	flipped := []byte(whole)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct{ content, want string }{
		"cut":     {whole[:len(whole)*2/3], "damaged snapshot"},
		"longer":  {whole + "x", "1 bytes follow its end"},
		"flipped": {string(flipped), "damaged snapshot"},
		"newer":   {string(newer), "newer build"},
		"empty":   {"", "damaged snapshot"},
		"other":   {"name: quick\n" + strings.Repeat("#", 100), "damaged snapshot"},
	} {
		bad := filepath.Join(t.TempDir(), "bad")
		write(t, bad, c.content)
		for _, args := range [][]string{{"backup", "verify", bad}, {"restore", bad, "--data", bad + "-new"}} {
			if r := command(t, args...); r.code != exitBadInput || !strings.Contains(r.stderr, c.want) || !strings.Contains(r.stderr, "byte ") {
				t.Errorf("%s, %s: %+v", name, args[0], r)
			}
			if exists(bad + "-new") {
				t.Errorf("%s: a directory was made", name)
			}
		}
	}
}

// events are all events that a server tells of, in the order of their indices.
func events(t *testing.T, addr string) (out []fsm.Event) {
	t.Helper()
	for line := range strings.Lines(ok(t, "events", "--server", addr, "--format", "json")) {
		var e fsm.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if len(out) > 0 && e.Index < out[len(out)-1].Index {
			t.Errorf("event %d after %d", e.Index, out[len(out)-1].Index)
		}
		out = append(out, e)
	}
	return out
}

// monotone checks that no slot of a worker ever went back, and returns the
// newest generation that it came to.
func monotone(t *testing.T, path string) (reached uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, _, err := journal.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	type position struct{ generation, version uint64 }
	latest := map[int]position{}
	for _, e := range entries {
		if e.Kind != journal.Adopted {
			continue
		}
		was, now := latest[e.Slot], position{e.Generation, e.Version}
		if now.generation < was.generation || now.generation == was.generation && now.version < was.version {
			t.Errorf("slot %d went back from %v to %v", e.Slot, was, now)
		}
		latest[e.Slot], reached = now, max(reached, e.Generation)
	}
	return reached
}
