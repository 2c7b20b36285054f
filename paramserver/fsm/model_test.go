package fsm

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"
)

// model is the naive state machine: the smallest account of what the rules
// promise, written independently of them.
type model struct {
	status   Status
	epoch    uint64
	leased   bool
	hasState bool
	version  uint64
	marks    map[string]uint64
	expired  map[string]bool
	counted  uint64
	commits  map[string]bool // every Commit ever applied, by its encoding
	level    uint8
	weight   float64
	archive  map[string]file // what is listed
}

// file is an archive segment as a set of trajectories.
type file struct {
	rows  int64
	holds map[trajectory]bool
}

type trajectory struct {
	session string
	seq     uint64
}

func fileOf(g Segment) file {
	f := file{rows: g.Rows, holds: map[trajectory]bool{}}
	for _, r := range g.Ranges {
		for seq := r.First; seq <= r.Last; seq++ {
			f.holds[trajectory{r.Session, seq}] = true
		}
	}
	return f
}

func newModel() *model {
	return &model{
		status: Running, level: 1, weight: 1, marks: map[string]uint64{}, expired: map[string]bool{},
		commits: map[string]bool{}, archive: map[string]file{},
	}
}

func (m *model) apply(cmd any) Outcome {
	switch c := cmd.(type) {
	case Activate:
		if c.Level <= m.level {
			return AlreadyApplied
		}
		m.level = c.Level
	case SetShare:
		switch {
		case m.level < 2 || m.status == Finished || c.Weight <= 0:
			return Rejected
		case c.Weight == m.weight:
			return AlreadyApplied
		}
		m.weight = c.Weight
	case Compact:
		return m.compact(c)
	case Grant:
		switch {
		case c.Epoch != m.epoch+1:
			return Fenced
		case m.status != Running:
			return Rejected
		}
		m.epoch, m.leased = c.Epoch, true
	case Commit:
		switch {
		case m.level < 2 && len(c.Segments) > 0:
			return Rejected
		case m.commits[key(c)]:
			return AlreadyApplied
		case c.Epoch != m.epoch || !m.leased:
			return Fenced
		case m.status == Finished || m.status == Failed:
			return Rejected
		case c.Base != m.version:
			return WrongBase
		case c.Version <= c.Base && (m.hasState || c.Version != c.Base):
			return Rejected
		}
		for _, mark := range c.Marks {
			present, ok := m.marks[mark.Session]
			if !ok || mark.Seq < present || mark.Admitted != mark.Seq-present {
				return Rejected
			}
		}
		if !m.mayList(c) {
			return Rejected
		}
		for _, g := range c.Segments {
			m.archive[g.ID] = fileOf(g)
		}
		for _, mark := range c.Marks {
			m.marks[mark.Session] = mark.Seq
			m.counted += mark.Admitted
		}
		m.version, m.hasState = c.Version, true
		m.commits[key(c)] = true
		if c.Done {
			m.status = Finished
		}
	case OpenSession:
		if _, ok := m.marks[c.Session]; ok {
			if m.expired[c.Session] {
				return Rejected
			}
			return AlreadyApplied
		}
		if m.status != Running && m.status != Paused {
			return Rejected
		}
		m.marks[c.Session] = 0
	case ExpireSession:
		if _, ok := m.marks[c.Session]; !ok {
			return Rejected
		}
		if m.expired[c.Session] {
			return AlreadyApplied
		}
		m.expired[c.Session] = true
	case SetStatus:
		if m.status == Finished {
			return Rejected
		}
		if !c.Fence && c.Status == m.status {
			return AlreadyApplied
		}
		m.status = c.Status
		if c.Fence {
			m.epoch++
			m.leased = false
		}
	}
	return Applied
}

// mayList says whether every trajectory in the Commit's segments is one that
// its mark covers now and did not before, and is there once.
func (m *model) mayList(c Commit) bool {
	seen := map[trajectory]bool{}
	ids := map[string]bool{}
	for _, g := range c.Segments {
		f := fileOf(g)
		if _, listed := m.archive[g.ID]; listed || ids[g.ID] || g.Rows > int64(len(f.holds)) {
			return false
		}
		ids[g.ID] = true
		for tr := range f.holds {
			if seen[tr] || len(c.Marks) == 0 || c.Marks[0].Session != tr.session || tr.seq > c.Marks[0].Seq || tr.seq <= m.marks[tr.session] {
				return false
			}
			seen[tr] = true
		}
	}
	return true
}

func (m *model) compact(c Compact) Outcome {
	if m.level < 2 {
		return Rejected
	}
	if c.Epoch != m.epoch || !m.leased {
		return Fenced
	}
	add := fileOf(c.Add)
	if add.rows > int64(len(add.holds)) {
		return Rejected
	}
	present := 0
	gone := file{holds: map[trajectory]bool{}}
	for _, id := range c.Remove {
		if f, ok := m.archive[id]; ok {
			present++
			gone.rows += f.rows
			maps.Copy(gone.holds, f.holds)
		}
	}
	_, there := m.archive[c.Add.ID]
	switch {
	case there && !slices.Contains(c.Remove, c.Add.ID) && present == 0 && len(c.Remove) > 0:
		return AlreadyApplied // drawn hashes are equal
	case there && !slices.Contains(c.Remove, c.Add.ID), present != len(c.Remove), present == 0, gone.rows != add.rows, !maps.Equal(gone.holds, add.holds):
		return Rejected
	}
	for _, id := range c.Remove {
		delete(m.archive, id)
	}
	m.archive[c.Add.ID] = add
	return Applied
}

func key(c Commit) string { return fmt.Sprintf("%+v", c) }

// drawCommand aims near the model's present state, so that most commands are
// one detail away from the border between outcomes.
func drawCommand(t *rapid.T, m *model, sent *[]Commit) any {
	near := func(v uint64, label string) uint64 {
		return uint64(max(0, int64(v)+rapid.SampledFrom([]int64{0, 0, 0, 0, 0, 0, 0, 0, 1, -1}).Draw(t, label)))
	}
	session := rapid.SampledFrom([]string{"s0", "s1", "s2"}).Draw(t, "session")
	switch rapid.SampledFrom([]string{"commit", "commit", "commit", "commit", "resend", "grant", "open", "expire", "status", "activate", "share", "compact"}).Draw(t, "command") {
	case "grant":
		return Grant{Job: "j", Epoch: near(m.epoch+1, "epoch"), Node: "n"}
	case "open":
		return OpenSession{Job: "j", Session: session, Worker: "w"}
	case "activate":
		return Activate{Level: rapid.Uint8Range(1, 2).Draw(t, "level")}
	case "share":
		return SetShare{Job: "j", Weight: rapid.SampledFrom([]float64{0, 1, 2, 2.5}).Draw(t, "weight")}
	case "compact":
		return drawCompact(t, m, near(m.epoch, "epoch"))
	case "expire":
		return ExpireSession{Job: "j", Session: session}
	case "status":
		status := rapid.SampledFrom([]Status{Running, Running, Running, Paused, Stopped, Failed}).Draw(t, "status")
		return SetStatus{Job: "j", Status: status, Fence: rapid.Bool().Draw(t, "fence")}
	case "resend":
		// A learner has two in flight; older ones it never sends again.
		if n := len(*sent); n > 0 {
			return (*sent)[n-1-rapid.IntRange(0, min(1, n-1)).Draw(t, "back")]
		}
	}
	base := near(m.version, "base")
	c := Commit{
		Job: "j", Epoch: near(m.epoch, "epoch"), Base: base, Version: base + rapid.Uint64Range(0, 3).Draw(t, "steps"),
		Params: rapid.SliceOfN(rapid.ByteMax(100), 8, 8).Draw(t, "params"), Private: bytes.Repeat([]byte("p"), 300), // enough to travel in parts

		Done: rapid.IntRange(0, 60).Draw(t, "done") == 0,
	}
	if rapid.Bool().Draw(t, "marked") {
		seq := near(m.marks[session]+2, "seq")
		c.Marks = []Mark{{Session: session, Seq: seq, Admitted: near(seq-min(seq, m.marks[session]), "admitted")}}
		c.Segments = drawSegments(t, m, c.Marks[0], near)
	}
	return c
}

func drawSegments(t *rapid.T, m *model, mark Mark, near func(uint64, string) uint64) (out []Segment) {
	if m.level < 2 && rapid.IntRange(0, 9).Draw(t, "too early") > 0 || rapid.IntRange(0, 3).Draw(t, "archived") == 0 {
		return nil
	}
	first := near(m.marks[mark.Session]+1, "first")
	for range rapid.IntRange(0, 2).Draw(t, "segments") {
		r := Range{Session: mark.Session, First: max(1, first)}
		r.Last = r.First + rapid.Uint64Range(0, 1).Draw(t, "length")
		out = append(out, Segment{
			ID: fmt.Sprintf("g%d", len(m.archive)+rapid.IntRange(0, 4).Draw(t, "id")), Rows: rapid.Int64Range(0, 2).Draw(t, "rows"), Ranges: []Range{r},
		})
		first = near(r.Last+1, "next")
	}
	return out
}

func drawCompact(t *rapid.T, m *model, epoch uint64) Compact {
	c := Compact{Job: "j", Epoch: epoch, Add: Segment{ID: fmt.Sprintf("g%d", rapid.IntRange(0, 9).Draw(t, "id"))}}
	var held []trajectory
	for _, id := range slices.Sorted(maps.Keys(m.archive)) {
		if rapid.Bool().Draw(t, "remove") {
			c.Remove = append(c.Remove, id)
			c.Add.Rows += m.archive[id].rows
			held = slices.AppendSeq(held, maps.Keys(m.archive[id].holds))
		}
	}
	slices.SortFunc(held, func(a, b trajectory) int {
		return cmp.Or(cmp.Compare(a.session, b.session), cmp.Compare(a.seq, b.seq))
	})
	if rapid.IntRange(0, 5).Draw(t, "miscount") == 0 {
		c.Add.Rows++
	}
	if len(held) > 0 && rapid.IntRange(0, 5).Draw(t, "forget") == 0 {
		held = held[1:]
	}
	for _, tr := range held { // adjoining ones joined, or one range each
		if n := len(c.Add.Ranges); n > 0 && c.Add.Ranges[n-1].Session == tr.session && c.Add.Ranges[n-1].Last+1 == tr.seq && rapid.Bool().Draw(t, "join") {
			c.Add.Ranges[n-1].Last++
			continue
		}
		c.Add.Ranges = append(c.Add.Ranges, Range{Session: tr.session, First: tr.seq, Last: tr.seq})
	}
	return c
}

func check(t *rapid.T, m *model, s *State) {
	j, _ := s.Job("j")
	if j.Status != m.status || j.Epoch != m.epoch || j.Version != m.version || j.HasState != m.hasState || j.Trajectories() != m.counted {
		t.Fatalf("%+v; the model says %+v", j, m)
	}
	if s.FeatureLevel() != m.level || j.Weight != m.weight {
		t.Fatalf("level %d, weight %v; the model says %d, %v", s.FeatureLevel(), j.Weight, m.level, m.weight)
	}
	var rows int64
	archived := map[trajectory]bool{}
	for _, g := range s.Segments("j") {
		f := fileOf(g)
		if want, ok := m.archive[g.ID]; !ok || want.rows != f.rows || !maps.Equal(want.holds, f.holds) {
			t.Fatalf("segment %+v; the model says %+v", g, want)
		}
		for tr := range f.holds {
			if archived[tr] {
				t.Fatalf("%v is archived twice", tr)
			}
			archived[tr] = true
		}
		rows += g.Rows
	}
	if j.Segments != len(m.archive) || j.ArchivedRows != rows {
		t.Fatalf("%d segments with %d rows; the model says %d", j.Segments, j.ArchivedRows, len(m.archive))
	}
	open := 0
	for id, mark := range m.marks {
		if got, ok := s.Session("j", id); !ok || got.Mark != mark || got.Expired != m.expired[id] {
			t.Fatalf("%+v; the model says %d", got, mark)
		}
		if !m.expired[id] {
			open++
		}
	}
	if len(s.OpenSessions("j")) != open {
		t.Fatalf("%d sessions are listed as open; the model says %d", len(s.OpenSessions("j")), open)
	}
	if j.Sessions != open {
		t.Fatalf("%d open sessions; the model says %d", j.Sessions, open)
	}
}
