package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

// active is base on a cluster at level 2.
func active(t testing.TB) *machine {
	m := newMachine(t, base()[0], Activate{Level: 2, Stamp: 1})
	for _, c := range base()[1:] {
		if r := m.do(c); r.Outcome != Applied {
			t.Fatalf("%#v: %+v", c, r)
		}
	}
	return m
}

func split(t testing.TB, cmd any, limit int) [][]byte {
	t.Helper()
	data, err := Encode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := Split(data, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if len(p) > limit {
			t.Fatalf("an entry of %d bytes; the limit is %d", len(p), limit)
		}
	}
	return parts
}

// put applies entries of a term.
func (m *machine) put(term uint64, entries ...[]byte) (last Result) {
	m.t.Helper()
	for i, data := range entries {
		var err error
		if last, err = m.Apply(m.Index()+1, term, data); err != nil {
			m.t.Fatal(err)
		}
		if i < len(entries)-1 && last.Outcome != Applied {
			m.t.Fatalf("entry %d of %d: %+v", i, len(entries), last)
		}
	}
	return last
}

func big(base, version uint64) Commit {
	return with(step(base, version), func(c *Commit) {
		c.Private = bytes.Repeat([]byte{byte(version), 1, 2}, 1000)
	})
}

func TestAChunkedCommandIsTheCommand(t *testing.T) {
	m, whole := active(t), active(t)
	parts := split(t, big(0, 1), 600)
	if len(parts) < 5 {
		t.Fatalf("%d parts", len(parts))
	}
	if r := m.put(1, parts...); r.Outcome != Applied {
		t.Fatalf("%+v", r)
	}
	whole.do(big(0, 1))
	if !bytes.Equal(m.bytes(), whole.bytes()) {
		t.Error("the state differs from that of the whole command")
	}
	if r := m.do(big(0, 1)); r.Outcome != AlreadyApplied {
		t.Errorf("the same bytes whole: %+v", r)
	}
	if r := m.put(1, parts...); r.Outcome != AlreadyApplied {
		t.Errorf("the same bytes in parts: %+v", r)
	}
	if r := m.put(1, split(t, big(5, 6), 600)...); r.Outcome != WrongBase {
		t.Errorf("the last part's result is not the command's: %+v", r)
	}
	if len(m.pending) != 0 {
		t.Errorf("%d transfers left", len(m.pending))
	}
}

func TestWhatAbortsATransfer(t *testing.T) {
	parts := split(t, big(0, 1), 600)
	n := len(parts)
	for name, try := range map[string]func(m *machine) Result{
		"a newer term": func(m *machine) Result {
			m.put(1, parts[:n-1]...)
			return m.put(2, parts[n-1])
		},
		"a newer term in between": func(m *machine) Result {
			m.put(1, parts[:n-1]...)
			note, err := Encode(Note{Kind: EventJoined})
			if err != nil {
				t.Fatal(err)
			}
			m.put(2, note)
			return m.put(2, parts[n-1])
		},
		"no beginning": func(m *machine) Result { return m.put(1, parts[1]) },
		"a gap":        func(m *machine) Result { return m.put(1, parts[0], parts[2]) },
		"a part twice": func(m *machine) Result { return m.put(1, parts[0], parts[1], parts[1]) },
		"age": func(m *machine) Result {
			m.put(1, parts[0])
			r, err := m.Apply(m.Index()+MaxAge+1, 1, parts[1])
			if err != nil {
				t.Fatal(err)
			}
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := active(t)
			r := try(m)
			if r.Outcome != Aborted || r.Reason == "" || len(m.pending) != 0 {
				t.Fatalf("%+v with %d pending", r, len(m.pending))
			}
			if r := m.put(m.term, parts...); r.Outcome != Applied {
				t.Fatalf("begun again: %+v", r)
			}
		})
	}
	m := active(t)
	m.put(1, parts[:3]...)
	if r := m.put(1, parts...); r.Outcome != Applied {
		t.Errorf("begun again in the same term: %+v", r)
	}
}

func TestCapsOfTransfers(t *testing.T) {
	m := active(t)
	chunk := func(edit func(*Chunk)) Result {
		c := Chunk{Transfer: Hash{1}, Part: 0, Parts: 2, Size: 10, Data: []byte{1, 1, 4, 4}}
		edit(&c)
		return m.do(c)
	}
	for says, edit := range map[string]func(*Chunk){
		"part 2 of 2":       func(c *Chunk) { c.Part = 2 },
		"part -1":           func(c *Chunk) { c.Part = -1 },
		"of 65537":          func(c *Chunk) { c.Parts = maxParts + 1 },
		"the cap is 30":     func(c *Chunk) { c.Size = MaxCommand + 1 },
		"a part of 0":       func(c *Chunk) { c.Part, c.Data = 1, nil },
		"no command header": func(c *Chunk) { c.Data = c.Data[:2] },
		"bytes of a":        func(c *Chunk) { c.Size = 3 },
	} {
		if r := chunk(edit); r.Outcome != Rejected || !strings.Contains(r.Reason, says) {
			t.Errorf("%s: %+v", says, r)
		}
	}
	for i := range MaxTransfers {
		if r := chunk(func(c *Chunk) { c.Transfer[0] = byte(i) }); r.Outcome != Applied {
			t.Fatal(r)
		}
	}
	if r := chunk(func(c *Chunk) { c.Transfer[0] = 99 }); r.Outcome != Aborted {
		t.Errorf("%+v", r)
	}
	if r := chunk(func(c *Chunk) { c.Part = 1 }); r.Outcome != Rejected || !strings.Contains(r.Reason, "8 of 10 bytes") {
		t.Errorf("too short: %+v", r)
	}
	if r := chunk(func(c *Chunk) { c.Transfer, c.Part, c.Data = Hash{2}, 1, make([]byte, 6) }); r.Outcome != Rejected || !strings.Contains(r.Reason, "SHA-256") {
		t.Errorf("other bytes: %+v", r)
	}
	if r := chunk(func(c *Chunk) { c.Transfer, c.Part, c.Parts = Hash{3}, 1, 3 }); r.Outcome != Aborted {
		t.Errorf("another count: %+v", r)
	}
	if len(m.pending) != MaxTransfers-3 {
		t.Errorf("%d pending", len(m.pending))
	}
}

// TestTheLargestStateGoesThrough, in parts and across a restart. It takes about
// two gigabytes of memory.
func TestTheLargestStateGoesThrough(t *testing.T) {
	if testing.Short() {
		t.Skip("a state of 256 MiB")
	}
	m := active(t)
	c := with(step(0, 1), func(c *Commit) {
		c.Params, c.Private = make([]byte, MaxState/4), make([]byte, MaxState-MaxState/4)
		for i := range 5000 {
			c.Marks = append(c.Marks, Mark{Session: fmt.Sprintf("6ba7b810-9dad-11d1-80b4-%012d", i), Seq: math.MaxUint64, Admitted: math.MaxUint64})
			m.do(OpenSession{Job: "j", Session: c.Marks[i].Session, Worker: "w"})
		}
		for i := range MaxBest {
			c.Best = append(c.Best, Object{Text: fmt.Sprintf("%0200d", i), LogReward: 1})
		}
	})
	parts := split(t, c, MaxEntry)
	if len(parts) < 64 {
		t.Fatalf("%d parts", len(parts))
	}
	m.put(1, parts[:20]...)
	m = &machine{t, reloaded(t, m.State)}
	if r := m.put(1, parts[20:]...); r.Outcome != Applied {
		t.Fatalf("%+v", r)
	}
	e := &entry{Job: Job{Epoch: 1, Learner: "n"}}
	c.Marks, c.Private = nil, make([]byte, len(c.Private)+1)
	if r, _ := e.commit(c, digests{}); r.Outcome != Rejected || !strings.Contains(r.Reason, "the cap is 268435456") {
		t.Fatalf("%+v", r)
	}
	if _, err := Encode(Commit{Params: make([]byte, MaxCommand)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestSplitRefuses(t *testing.T) {
	for limit, size := range map[int]int{0: 1, chunkOverhead: 1000, chunkOverhead + 1: maxParts + chunkOverhead + 2, MaxEntry: MaxCommand + 1} {
		if _, err := Split(make([]byte, size), limit); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes into %d: %v", size, limit, err)
		}
	}
	if parts, err := Split([]byte{1, 2}, 2); err != nil || len(parts) != 1 || len(parts[0]) != 2 {
		t.Error(parts, err)
	}
}

func TestPendingBytesAreCapped(t *testing.T) {
	m := active(t)
	parts := split(t, big(0, 1), 600)
	m.put(1, parts[:2]...)
	m.pending[0].have, m.pending[0].id = MaxPending-100, Hash{1} // as large transfers of others would be
	if r := m.put(1, parts[0]); r.Outcome != Aborted || !strings.Contains(r.Reason, "bytes are pending already") || len(m.pending) != 1 {
		t.Fatalf("%+v with %d pending", r, len(m.pending))
	}
}
