package runs

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var testInfo = Info{Name: "demo", Seed: 7, Version: "v0", Sessions: []Session{{
	Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Command: []string{"driftmesh", "train", "job.yaml"},
}}}

func create(t testing.TB) *Run {
	t.Helper()
	r, err := Create(filepath.Join(t.TempDir(), "demo"), testInfo, []byte("name: demo\n"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func reopen(t testing.TB, dir string) *Run {
	t.Helper()
	r, err := Open(dir, Session{From: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func versions(t testing.TB, dir string) []int64 {
	t.Helper()
	rows, err := ReadRows(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []int64
	for _, r := range rows {
		out = append(out, r.Version)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreateOpen(t *testing.T) {
	r := create(t)
	if _, err := Open(r.Dir(), Session{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("open twice: %v; want ErrLocked", err)
	}
	must(t, r.Append(Row{Version: 1, Loss: 2}))
	must(t, r.AppendTiming(Timing{Version: 1, Seconds: 0.5}))
	must(t, r.Close())
	if _, err := Create(r.Dir(), testInfo, nil); !errors.Is(err, ErrExists) {
		t.Fatalf("create twice: %v; want ErrExists", err)
	}
	again := reopen(t, r.Dir())
	if again.Last() != 1 {
		t.Fatalf("last version %d; want 1", again.Last())
	}
	info, err := ReadInfo(r.Dir())
	if err != nil || len(info.Sessions) != 2 || info.Sessions[1].From != 3 || info.Seed != 7 {
		t.Fatalf("info %+v, %v", info, err)
	}
	if config, err := ReadConfig(r.Dir()); err != nil || string(config) != "name: demo\n" {
		t.Fatalf("config %q, %v", config, err)
	}
	if timings, err := ReadTimings(r.Dir()); err != nil || len(timings) != 1 || timings[0].Seconds != 0.5 {
		t.Fatalf("timings %v, %v", timings, err)
	}
}

func TestOpenWhereNothingIs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	if _, err := Open(dir, Session{}); !errors.Is(err, ErrNoRun) {
		t.Fatalf("got %v; want ErrNoRun", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("Open made a folder")
	}
}

func TestVersionsRise(t *testing.T) {
	r := create(t)
	must(t, r.Append(Row{Version: 0}))
	must(t, r.Append(Row{Version: 10}))
	for _, v := range []int64{10, 9} {
		if err := r.Append(Row{Version: v}); !errors.Is(err, ErrOrder) {
			t.Fatalf("version %d after 10: %v; want ErrOrder", v, err)
		}
	}
}

func TestTruncateAfter(t *testing.T) {
	r := create(t)
	for v := int64(0); v <= 50; v += 10 {
		must(t, r.Append(Row{Version: v}))
		must(t, r.AppendTiming(Timing{Version: v}))
	}
	must(t, r.TruncateAfter(25))
	if r.Last() != 20 {
		t.Fatalf("last %d; want 20", r.Last())
	}
	must(t, r.Append(Row{Version: 30, Loss: 1}))
	must(t, r.AppendTiming(Timing{Version: 30}))
	rows, err := ReadRows(r.Dir())
	if err != nil || len(rows) != 4 || rows[3].Loss != 1 {
		t.Fatalf("rows %v, %v", rows, err)
	}
}

// A crash may cut the file anywhere: whatever lines were whole stay, the rest
// goes, and appending goes on behind them.
func TestTornLines(t *testing.T) {
	r := create(t)
	path := filepath.Join(r.Dir(), MetricsFile)
	for v := range int64(4) {
		must(t, r.Append(Row{Version: v, Loss: Float(v) / 3}))
	}
	must(t, r.Close())
	whole, err := os.ReadFile(path)
	must(t, err)
	rapid.Check(t, func(rt *rapid.T) {
		at := rapid.IntRange(0, len(whole)).Draw(rt, "cut")
		torn := append([]byte(nil), whole[:at]...)
		if rapid.Bool().Draw(rt, "zeros") {
			torn = append(torn, make([]byte, 5)...)
		}
		must(t, os.WriteFile(path, torn, 0o644))
		want := int64(strings.Count(string(whole[:at]), "\n"))
		if got := versions(t, r.Dir()); int64(len(got)) != want {
			rt.Fatalf("cut at %d: reading sees %v; want %d rows", at, got, want)
		}
		again, err := Open(r.Dir(), Session{})
		must(t, err)
		defer again.Close()
		must(t, again.Append(Row{Version: want}))
		if got := versions(t, r.Dir()); int64(len(got)) != want+1 || got[want] != want {
			rt.Fatalf("cut at %d: after appending %d: %v", at, want, got)
		}
	})
}

func TestDamageInTheMiddleIsNotCutOff(t *testing.T) {
	r := create(t)
	must(t, r.Close())
	path := filepath.Join(r.Dir(), MetricsFile)
	must(t, os.WriteFile(path, []byte("{\"version\":1}\ngarbage\n{\"version\":2}\n"), 0o644))
	if _, err := Open(r.Dir(), Session{}); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "line 2") {
		t.Fatalf("got %v; want ErrCorrupt at line 2", err)
	}
	if _, err := ReadRows(r.Dir()); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v; want ErrCorrupt", err)
	}
}

func TestInfoHoldsMachineFactsApart(t *testing.T) {
	b, err := json.Marshal(Session{Machine: ThisMachine()})
	must(t, err)
	var m map[string]map[string]any
	_ = json.Unmarshal(b, &m)
	if m["machine"]["go_version"] == "" || m["machine"]["cpus"] == float64(0) {
		t.Fatalf("machine %v", m["machine"])
	}
}
