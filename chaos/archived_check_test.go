package chaos

import (
	"errors"
	"slices"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/journal"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/archive"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

var archiveAll = job.ArchivePolicy{Keep: job.ArchiveAll, Rate: 1}

// sound is a manifest of two sessions, and the state that it belongs to.
func sound() (*archive.Manifest, *wire.StateReply) {
	m := &archive.Manifest{Segments: []fsm.Segment{
		{ID: "1", Bytes: 9, Rows: 5, Ranges: []fsm.Range{{Session: "a", First: 1, Last: 4}, {Session: "b", First: 1, Last: 1}}},
		{ID: "2", Ranges: []fsm.Range{{Session: "a", First: 5, Last: 5}}}, // stale
		{ID: "3", Bytes: 9, Rows: 3, Ranges: []fsm.Range{{Session: "a", First: 6, Last: 6}, {Session: "b", First: 2, Last: 3}}},
	}}
	return m, &wire.StateReply{Sessions: []wire.SessionInfo{
		{ID: "a", Mark: 6, Admitted: 5, Stale: 1}, {ID: "b", Mark: 3, Admitted: 3}, {ID: "c"},
	}}
}

// TestManifestCheckerFinds every way in which a manifest can differ from marks.
func TestManifestCheckerFinds(t *testing.T) {
	m, s := sound()
	if err := CheckManifest(m, s, archiveAll); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*archive.Manifest, *wire.StateReply){
		"a lost segment":            func(m *archive.Manifest, _ *wire.StateReply) { m.Segments = m.Segments[:2] },
		"a hole":                    func(m *archive.Manifest, _ *wire.StateReply) { m.Segments = slices.Delete(m.Segments, 1, 2) },
		"a segment twice":           func(m *archive.Manifest, _ *wire.StateReply) { m.Segments = append(m.Segments, m.Segments[2]) },
		"an overlap":                func(m *archive.Manifest, _ *wire.StateReply) { m.Segments[2].Ranges[0].First = 5 },
		"more than the mark":        func(m *archive.Manifest, _ *wire.StateReply) { m.Segments[2].Ranges[1].Last = 4 },
		"a mark without segments":   func(_ *archive.Manifest, s *wire.StateReply) { s.Sessions[2].Mark = 1 },
		"a session that is unknown": func(_ *archive.Manifest, s *wire.StateReply) { s.Sessions = s.Sessions[1:] },
		"a row less":                func(m *archive.Manifest, _ *wire.StateReply) { m.Segments[0].Rows-- },
		"a row more":                func(m *archive.Manifest, _ *wire.StateReply) { m.Segments[0].Rows++ },
	} {
		m, s := sound()
		spoil(m, s)
		if err := CheckManifest(m, s, archiveAll); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, s = sound()
	m.Segments[0].Rows-- // not everything is kept
	if err := CheckManifest(m, s, job.ArchivePolicy{Keep: job.ArchiveSample, Rate: 0.5}); err != nil {
		t.Error(err)
	}
}

// TestRowCheckerFinds every way in which a segment's rows can be wrong.
func TestRowCheckerFinds(t *testing.T) {
	env, err := registry.New("hypergrid", map[string]any{"dim": 2, "height": 4})
	if err != nil {
		t.Fatal(err)
	}
	a := NewAccount()
	a.Take("worker-1", journal.Entry{Kind: journal.Opened, Session: "a", Time: 1})
	a.Take("worker-1", journal.Entry{Kind: journal.Sampled, Session: "a", First: 1, Last: 4, Version: 0, Time: 2})
	a.Take("worker-1", journal.Entry{Kind: journal.Sampled, Session: "a", First: 5, Last: 9, Version: 7, Time: 3})
	audit := SegmentAudit{Sessions: map[string]wire.SessionInfo{"a": {ID: "a", Worker: "w", Mark: 9}}, Version: a.SampledWith, Env: env}
	good := func() []archive.Row {
		return []archive.Row{
			{Object: "(1,2)", LogReward: worth(t, env, "(1,2)"), Worker: "w", Session: "a", Seq: 3},
			{Object: "(0,0)", LogReward: worth(t, env, "(0,0)"), Worker: "w", Session: "a", Seq: 5, Version: 7},
		}
	}
	check := func(rows []archive.Row) error {
		g, data, err := archive.New(0, 1, 9, rows, []fsm.Range{{Session: "a", First: 2, Last: 6}})
		if err != nil {
			t.Fatal(err)
		}
		return audit.Check(&g, data)
	}
	if err := check(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func([]archive.Row){
		"a trajectory twice":          func(r []archive.Row) { r[0].Seq, r[0].Version = 5, 7 },
		"one that is not covered":     func(r []archive.Row) { r[0].Seq = 1 },
		"one of another session":      func(r []archive.Row) { r[0].Session = "b" },
		"another worker":              func(r []archive.Row) { r[0].Worker = "v" },
		"another version":             func(r []archive.Row) { r[1].Version = 6 },
		"another log-reward":          func(r []archive.Row) { r[0].LogReward += 1e-9 },
		"an object that there is not": func(r []archive.Row) { r[0].Object = "(9,9)" },
	} {
		rows := good()
		spoil(rows)
		if err := check(rows); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, ok := a.SampledWith("a", 10); ok {
		t.Error("a trajectory that was never sampled has a version")
	}
}

func worth(t *testing.T, env envs.Env, text string) float64 {
	t.Helper()
	one, out := env.NewStates(1), make([]float64, 1)
	if err := errors.Join(one.Parse(0, text), one.LogReward([]int32{0}, out)); err != nil {
		t.Fatal(err)
	}
	return out[0]
}
