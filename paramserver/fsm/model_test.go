package fsm

import (
	"bytes"
	"fmt"
	"testing"

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
}

func (m *model) apply(cmd any) Outcome {
	switch c := cmd.(type) {
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

func key(c Commit) string { return fmt.Sprintf("%+v", c) }

// drawCommand aims near the model's present state, so that most commands are
// one detail away from the border between outcomes.
func drawCommand(t *rapid.T, m *model, sent *[]Commit) any {
	near := func(v uint64, label string) uint64 {
		return uint64(max(0, int64(v)+rapid.SampledFrom([]int64{0, 0, 0, 0, 1, -1}).Draw(t, label)))
	}
	session := rapid.SampledFrom([]string{"s0", "s1", "s2"}).Draw(t, "session")
	switch rapid.SampledFrom([]string{"commit", "commit", "commit", "commit", "resend", "grant", "open", "expire", "status"}).Draw(t, "command") {
	case "grant":
		return Grant{Job: "j", Epoch: near(m.epoch+1, "epoch"), Node: "n"}
	case "open":
		return OpenSession{Job: "j", Session: session, Worker: "w"}
	case "expire":
		return ExpireSession{Job: "j", Session: session}
	case "status":
		status := rapid.SampledFrom([]Status{Running, Running, Paused, Stopped, Failed}).Draw(t, "status")
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
		Params: rapid.SliceOfN(rapid.ByteMax(100), 8, 8).Draw(t, "params"), Private: []byte("p"),
		Done: rapid.IntRange(0, 30).Draw(t, "done") == 0,
	}
	if rapid.Bool().Draw(t, "marked") {
		seq := near(m.marks[session]+2, "seq")
		c.Marks = []Mark{{Session: session, Seq: seq, Admitted: near(seq-min(seq, m.marks[session]), "admitted")}}
	}
	return c
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{status: Running, marks: map[string]uint64{}, expired: map[string]bool{}, commits: map[string]bool{}}
		a, b := New(), New()
		var sent []Commit
		index := uint64(0)
		apply := func(cmd any) Outcome {
			data, err := Encode(cmd)
			if err != nil {
				t.Fatal(err)
			}
			index += 1 + rapid.Uint64Range(0, 2).Draw(t, "gap")
			ra, err := a.Apply(index, 1, data)
			if err != nil {
				t.Fatal(err)
			}
			if rb, err := b.Apply(index, 1, data); err != nil || ra != rb {
				t.Fatalf("replicas answer %+v and %+v, %v", ra, rb, err)
			}
			return ra.Outcome
		}
		apply(Init{ClusterID: "c"})
		apply(CreateJob{Job: "j"})
		for range rapid.IntRange(1, 60).Draw(t, "commands") {
			cmd := drawCommand(t, m, &sent)
			want := m.apply(cmd)
			if got := apply(cmd); got != want {
				t.Fatalf("%+v: %s; the model says %s", cmd, got, want)
			}
			if c, ok := cmd.(Commit); ok && want == Applied {
				sent = append(sent, c)
			}
			check(t, m, a)
			if rapid.IntRange(0, 10).Draw(t, "restart") == 0 {
				b = reload(t, b) // one replica goes on from a snapshot
			}
		}
		if a.Chain() != b.Chain() || !bytes.Equal(snapshotBytes(t, a), snapshotBytes(t, b)) {
			t.Fatal("snapshot and replay differs from replay")
		}
	})
}

func check(t *rapid.T, m *model, s *State) {
	j, _ := s.Job("j")
	if j.Status != m.status || j.Epoch != m.epoch || j.Version != m.version || j.HasState != m.hasState || j.Trajectories() != m.counted {
		t.Fatalf("%+v; the model says %+v", j, m)
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
	if j.Sessions != open {
		t.Fatalf("%d open sessions; the model says %d", j.Sessions, open)
	}
}

func snapshotBytes(t *rapid.T, s *State) []byte {
	var buf bytes.Buffer
	if err := s.Snapshot().Encode(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func reload(t *rapid.T, s *State) *State {
	out, err := DecodeSnapshot(bytes.NewReader(snapshotBytes(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
