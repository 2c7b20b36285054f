package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// slotsOf asks how many slots each job holds.
func slotsOf(t *testing.T, addr string) map[string]int {
	t.Helper()
	held := map[string]int{}
	for _, j := range decode(t, ok(t, "status", "--server", addr, "--json"))["jobs"].([]any) {
		j := j.(map[string]any)
		held[j["id"].(string)] = int(j["slots"].(float64))
	}
	return held
}

// sessions returns the open sessions of a job, with the worker of each.
func sessions(t *testing.T, addr, job string) map[string]string {
	t.Helper()
	open := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(ok(t, "events", "--server", addr, "--job", job, "--format", "json")), "\n") {
		ev := decode(t, line)
		detail, _ := ev["detail"].(string)
		_, session, _ := strings.Cut(detail, "session ")
		session, _, _ = strings.Cut(session, ",")
		switch ev["kind"] {
		case "session-opened":
			open[session] = ev["node"].(string)
		case "session-expired":
			delete(open, session)
		}
	}
	return open
}

// TestTwoJobsShareTheSlots: two jobs by weight, then by other weights, then by
// priority; and the death of the worker that held a job's only slot.
func TestTwoJobsShareTheSlots(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	data := t.TempDir()
	_, addr := startServer(t, "--data", filepath.Join(data, "server"), "--init")
	workers := map[string]*process{}
	for _, name := range []string{"one", "two"} {
		p := start(t, "worker", "--data", filepath.Join(data, name), "--join", addr, "--slots", "4", "--cache", "none")
		id := ""
		until(t, name+" works", func() bool {
			_, after, found := strings.Cut(p.stderr.String(), "node=")
			id, _, _ = strings.Cut(after, " ")
			return found && strings.Contains(p.stderr.String(), "msg=working")
		})
		workers[id] = p
	}
	for name, weight := range map[string]string{"light": "1", "heavy": "3"} {
		ok(t, "submit", quickJob, "--server", addr, "--set", "name="+name, "--set", "train.updates=100000000", "--set", "mesh.weight="+weight)
	}
	share := func(light, heavy int) {
		t.Helper()
		until(t, "the slots are shared", func() bool {
			held := slotsOf(t, addr)
			return held["light"] == light && held["heavy"] == heavy
		})
		until(t, "they have as many sessions", func() bool { // an old one ends when its slot opens the next
			return len(sessions(t, addr, "light")) >= light && len(sessions(t, addr, "heavy")) == heavy
		})
	}
	share(2, 6)
	before := sessions(t, addr, "heavy")
	if out := ok(t, "share", "light", "--weight", "3", "--server", addr); !strings.Contains(out, "weight 3 and priority 0") {
		t.Errorf("share: %s", out)
	}
	share(4, 4)
	for session := range sessions(t, addr, "heavy") {
		if before[session] == "" {
			t.Error("a slot of heavy, which gave two away, has a new session")
		}
	}
	reply := decode(t, ok(t, "share", "light", "--priority", "1", "--server", addr, "--json"))
	keys(t, reply, "job", "weight", "priority")
	if reply["weight"] != 3.0 || reply["priority"] != 1.0 {
		t.Errorf("share: %v", reply)
	}
	share(7, 1)
	for _, want := range []string{"PRIORITY", "WEIGHT", "SLOTS"} {
		if text := ok(t, "status", "--server", addr); !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if text := ok(t, "events", "--server", addr); !strings.Contains(text, "weight 3, priority 1") {
		t.Errorf("no share in the events:\n%s", text)
	}

	// The only slot of heavy dies with its worker, and three of light.
	var holder string
	for _, node := range sessions(t, addr, "heavy") {
		holder = node
	}
	if err := workers[holder].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	until(t, "heavy has a slot elsewhere", func() bool {
		for _, node := range sessions(t, addr, "heavy") {
			if node != holder {
				return true
			}
		}
		return false
	})
	took := time.Since(killed)
	t.Logf("heavy samples again after %v", took.Round(time.Millisecond))
	if took > 3*time.Second {
		t.Errorf("a dead worker's share went to live slots after %v", took)
	}
	until(t, "the rest is light's", func() bool {
		held := slotsOf(t, addr)
		return held["light"] == 3 && held["heavy"] == 1
	})

	for _, bad := range [][]string{
		{"light"}, {"light", "--weight", "0"}, {"light", "--weight", "NaN"}, {"light", "--priority", "1001"}, {"nothing", "--weight", "2"},
	} {
		if r := command(t, append(append([]string{"share"}, bad...), "--server", addr)...); r.code != exitBadInput || r.stderr == "" {
			t.Errorf("share %v: exit %d, %s", bad, r.code, r.stderr)
		}
	}
}
