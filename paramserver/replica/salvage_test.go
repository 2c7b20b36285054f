package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// history makes a data directory with n jobs, the first snapshot of which holds
// half, and returns it closed.
func history(t *testing.T, n int) (dir string, chain fsm.Hash) {
	t.Helper()
	dir = t.TempDir()
	r, err := Open(Config{Dir: dir, ID: "a", Listen: "127.0.0.1:0", Single: true, Bootstrap: true})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(cmd any) {
		t.Helper()
		for {
			_, err := r.Apply(t.Context(), cmd)
			if err == nil {
				return
			}
			if !errors.Is(err, ErrNotLeader) {
				t.Fatal(err)
			}
			<-r.LeaderCh()
		}
	}
	apply(&fsm.Init{ClusterID: "c", Stamp: 1})
	for i := range n {
		apply(&fsm.CreateJob{Job: fmt.Sprintf("job-%03d", i), Spec: bytes.Repeat([]byte{byte(i)}, 500), Updates: 9, Stamp: 2})
		if i == n/2 {
			if err := r.Snapshot(); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.Read(func(s *fsm.State) { chain = s.Chain() })
	if err := r.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return dir, chain
}

func TestSalvageReadsSnapshotAndLog(t *testing.T) {
	dir, chain := history(t, 40)
	s, err := Salvage(dir, t.TempDir())
	if err != nil || s.Damage != nil {
		t.Fatal(err, s)
	}
	if s.State.Chain() != chain || len(s.State.Jobs()) != 40 || s.Snapshot == 0 || s.Last <= s.Snapshot {
		t.Errorf("%d jobs through %d from %d", len(s.State.Jobs()), s.Last, s.Snapshot)
	}
}

// TestSalvageTakesWhatIsWhole of a log with a flipped bit, and of one without
// its newest snapshot, and says where it ends.
func TestSalvageTakesWhatIsWhole(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"a flipped bit in the log": func(t *testing.T, dir string) {
			flipAfter(t, one(t, filepath.Join(dir, logName, "*.wal")), []byte("job-035"))
		},
		"a flipped bit in the snapshot": func(t *testing.T, dir string) {
			flipAfter(t, one(t, filepath.Join(dir, snapshotsName, "*", "state.bin")), []byte("job-010"))
		},
		"no record of the log's end": func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, tailName)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, chain := history(t, 40)
			damage(t, dir)
			s, err := Salvage(dir, t.TempDir())
			if err != nil { // nothing is left to tell of: that is said, too
				if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "no state") {
					t.Fatal(err)
				}
				return
			}
			if s.State.Chain() == chain && s.Damage == nil {
				return // the log still had what the snapshot had
			}
			if !errors.Is(s.Damage, ErrDamaged) || s.State.Chain() == chain {
				t.Fatalf("the damage is not seen: %v", s.Damage)
			}
			for i, j := range s.State.Jobs() {
				if j.ID != fmt.Sprintf("job-%03d", i) {
					t.Errorf("job %d is %s", i, j.ID)
				}
			}
		})
	}
}

func one(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

// flipAfter changes the last byte of a text in a file.
func flipAfter(t *testing.T, path string, text []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(data, text)
	if at < 0 {
		t.Fatalf("no %s in %s", text, path)
	}
	data[at+len(text)-1] ^= 0x40
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSeedLeads: a seeded directory opens as the only voter with that state,
// takes commands, and is never seeded again.
func TestSeedLeads(t *testing.T) {
	old, _ := history(t, 8)
	s, err := Salvage(old, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := Seed(dir, "b", s.State.Snapshot()); err != nil {
		t.Fatal(err)
	}
	if err := Seed(dir, "b", s.State.Snapshot()); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("seeded again: %v", err)
	}
	for round := range 2 { // also after a restart
		r, err := Open(Config{Dir: dir, ID: "b", Listen: "127.0.0.1:0", Single: true})
		if err != nil {
			t.Fatal(err)
		}
		for {
			_, err := r.Apply(t.Context(), &fsm.CreateJob{Job: fmt.Sprint("more-", round), Stamp: 3})
			if err == nil {
				break
			}
			if !errors.Is(err, ErrNotLeader) {
				t.Fatal(err)
			}
			<-r.LeaderCh()
		}
		r.Read(func(st *fsm.State) {
			if n := len(st.Jobs()); n != 8+round+1 {
				t.Errorf("%d jobs", n)
			}
		})
		if err := r.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
