package fsm

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

// pair is two replicas of one log; b restarts from snapshots at any entry.
type pair struct {
	t     *rapid.T
	a, b  *State
	index uint64
	term  uint64
	left  map[string]bool // transfers that were begun and left alone, by their command
}

func (p *pair) entry(data []byte) Result {
	p.index += 1 + rapid.Uint64Range(0, 2).Draw(p.t, "gap")
	ra, err := p.a.Apply(p.index, p.term, data)
	if err != nil {
		p.t.Fatal(err)
	}
	if rb, err := p.b.Apply(p.index, p.term, data); err != nil || ra != rb || p.a.Chain() != p.b.Chain() {
		p.t.Fatalf("replicas answer %+v and %+v, %v", ra, rb, err)
	}
	if rapid.IntRange(0, 10).Draw(p.t, "restart") == 0 {
		p.b = reload(p.t, p.b)
	}
	return ra
}

func encode(t *rapid.T, cmd any) []byte {
	data, err := Encode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (p *pair) newTerm() {
	p.term++
	clear(p.left)
}

func (p *pair) entries(parts [][]byte) {
	for _, part := range parts {
		if r := p.entry(part); r.Outcome != Applied {
			p.t.Fatalf("a part: %+v", r)
		}
	}
}

// deliver brings a command into the log, whole or in parts. ok says whether it
// got there; if not, it must have changed nothing.
func (p *pair) deliver(cmd any, level uint8) (out Outcome, ok bool) {
	data := encode(p.t, cmd)
	how := rapid.SampledFrom([]string{"whole", "whole", "parts", "begun again", "others between", "new term", "gap", "left"}).Draw(p.t, "delivery")
	parts, err := Split(data, chunkOverhead+rapid.IntRange(40, 120).Draw(p.t, "room"))
	if err != nil {
		p.t.Fatal(err)
	}
	if how == "whole" || len(parts) < 3 {
		return p.entry(data).Outcome, true
	}
	if level < 2 {
		if r := p.entry(parts[0]); r.Outcome != Rejected {
			p.t.Fatalf("a chunk at level 1: %+v", r)
		}
		return "", false
	}
	if len(p.left) == MaxTransfers-1 {
		p.newTerm()
	}
	k := rapid.IntRange(1, len(parts)-2).Draw(p.t, "parts before")
	last := len(parts) - 1
	p.entries(parts[:k])
	delete(p.left, string(data))
	switch how {
	case "parts":
		p.entries(parts[k:last])
		return p.entry(parts[last]).Outcome, true
	case "begun again":
		p.entries(parts[:last])
		return p.entry(parts[last]).Outcome, true
	case "others between":
		p.entries([][]byte{encode(p.t, Note{Kind: EventJoined, Node: "n"})})
		p.entries(parts[k:last])
		return p.entry(parts[last]).Outcome, true
	case "new term":
		p.newTerm()
	case "gap":
		k++
	case "left":
		p.left[string(data)] = true
		return "", false
	}
	if r := p.entry(parts[k]); r.Outcome != Aborted {
		p.t.Fatalf("%s: %+v", how, r)
	}
	return "", false
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		p := &pair{t: t, a: New(), b: New(), term: 1, left: map[string]bool{}}
		script := []any{Init{ClusterID: "c"}, CreateJob{Job: "j"}}
		for _, cmd := range script {
			p.entries([][]byte{encode(t, cmd)})
		}
		script = []any{Grant{Job: "j", Epoch: 1, Node: "n"}, OpenSession{Job: "j", Session: "s0", Worker: "w"}}
		if rapid.IntRange(0, 5).Draw(t, "active") > 0 {
			script = append(script, Activate{Level: 2})
		}
		for _, cmd := range script {
			m.apply(cmd)
			p.entries([][]byte{encode(t, cmd)})
		}
		var sent []Commit
		for range rapid.IntRange(10, 80).Draw(t, "commands") {
			cmd := drawCommand(t, m, &sent)
			if got, ok := p.deliver(cmd, m.level); ok {
				want := m.apply(cmd)
				if got != want {
					t.Fatalf("%+v: %s; the model says %s", cmd, got, want)
				}
				if c, ok := cmd.(Commit); ok && want == Applied {
					sent = append(sent, c)
				}
			}
			check(t, m, p.a)
			if len(p.a.pending) != len(p.left) {
				t.Fatalf("%d transfers are pending, %d were left", len(p.a.pending), len(p.left))
			}
		}
		if !bytes.Equal(snapshotBytes(t, p.a), snapshotBytes(t, p.b)) {
			t.Fatal("snapshot and replay differs from replay")
		}
	})
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
