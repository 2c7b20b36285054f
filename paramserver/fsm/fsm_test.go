package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

// machine applies commands at consecutive indices.
type machine struct {
	t testing.TB
	*State
}

func newMachine(t testing.TB, cmds ...any) *machine {
	m := &machine{t, New()}
	for _, c := range cmds {
		if r := m.do(c); r.Outcome != Applied {
			t.Fatalf("%#v: %+v", c, r)
		}
	}
	return m
}

func (m *machine) do(cmd any) Result {
	m.t.Helper()
	data, err := Encode(cmd)
	if err != nil {
		m.t.Fatal(err)
	}
	r, err := m.Apply(m.Index()+1, 1, data)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// base is a cluster with job "j" at epoch 1 and sessions "s" and "x" (expired).
func base() []any {
	return []any{
		Init{ClusterID: "c", Stamp: 1},
		CreateJob{Job: "j", Spec: []byte(`{"name":"j"}`), Updates: 100, Stamp: 2},
		Grant{Job: "j", Epoch: 1, Node: "n1", Addr: "127.0.0.1:1", Stamp: 3},
		OpenSession{Job: "j", Session: "s", Worker: "w", Slot: 0, Stamp: 4},
		OpenSession{Job: "j", Session: "x", Worker: "w", Slot: 1, Stamp: 5},
		ExpireSession{Job: "j", Session: "x", Stamp: 6},
	}
}

func step(base, version uint64) Commit {
	return Commit{
		Job: "j", Epoch: 1, Base: base, Version: version,
		Params: []byte{byte(version), 0, 0, 0, 1, 2, 3, 4}, Private: []byte{9, byte(version)}, Stamp: int64(version),
	}
}

func with(c Commit, edit func(*Commit)) Commit {
	edit(&c)
	return c
}

// line is a command with the answer that it must get.
type line struct {
	cmd  any
	want Outcome
	says string // within the reason
}

// TestTranscripts runs commands after base and compares every answer.
func TestTranscripts(t *testing.T) {
	marks := func(base, version uint64, m ...Mark) Commit {
		return with(step(base, version), func(c *Commit) { c.Marks = m })
	}
	for name, script := range map[string][]line{
		"init": {
			{Init{ClusterID: "c"}, AlreadyApplied, ""},
			{Init{ClusterID: "d"}, Rejected, `already "c"`},
			{Init{}, Rejected, "cluster id"},
		},
		"create": {
			{CreateJob{Job: "j", Spec: []byte(`{"name":"j"}`), Updates: 100, Stamp: 99}, AlreadyApplied, ""},
			{CreateJob{Job: "j", Spec: []byte(`{}`), Updates: 100}, Rejected, "another spec"},
			{CreateJob{Job: "k", Updates: -1}, Rejected, "budget"},
			{CreateJob{Job: "k", Spec: make([]byte, MaxSpec+1)}, Rejected, "spec of"},
			{CreateJob{}, Rejected, "job id"},
			{CreateJob{Job: strings.Repeat("k", MaxID+1)}, Rejected, "job id"},
			{CreateJob{Job: "k"}, Applied, ""},
		},
		"grant is fenced by number": {
			{Grant{Job: "j", Epoch: 1, Node: "n1"}, Fenced, ""},
			{Grant{Job: "j", Epoch: 3, Node: "n1"}, Fenced, ""},
			{Grant{Job: "j", Epoch: 2}, Rejected, "node"},
			{Grant{Job: "k", Epoch: 1, Node: "n1"}, Rejected, `no job "k"`},
			{Grant{Job: "j", Epoch: 2, Node: "n2"}, Applied, ""},
			{step(0, 0), Fenced, ""},
			{with(step(0, 0), func(c *Commit) { c.Epoch = 2 }), Applied, ""},
		},
		"commit": {
			{step(0, 0), Applied, ""},
			{step(0, 0), AlreadyApplied, ""},
			{with(step(0, 0), func(c *Commit) { c.Stamp = 7 }), Rejected, "does not follow"},
			{step(0, 5), Applied, ""},
			{step(0, 6), WrongBase, ""},
			{step(5, 5), Rejected, "does not follow"},
			{step(5, 4), Rejected, "does not follow"},
			{with(step(5, 6), func(c *Commit) { c.Generation = 1 }), Fenced, ""},
			{with(step(5, 6), func(c *Commit) { c.Epoch = 2 }), Fenced, ""},
			{with(step(5, 6), func(c *Commit) { c.Job = "k" }), Rejected, "no job"},
			{step(0, 0), AlreadyApplied, ""},
		},
		"commit resent behind a later one and after a fence": {
			{step(0, 1), Applied, ""},
			{step(1, 2), Applied, ""},
			{Grant{Job: "j", Epoch: 2, Node: "n2"}, Applied, ""},
			{step(0, 1), AlreadyApplied, ""},
			{step(1, 2), AlreadyApplied, ""},
			{step(2, 3), Fenced, ""},
		},
		"parameters": {
			{with(step(0, 1), func(c *Commit) { c.Params = nil }), Rejected, "multiple of 4"},
			{with(step(0, 1), func(c *Commit) { c.Params = make([]byte, 6) }), Rejected, "multiple of 4"},
			{with(step(0, 1), func(c *Commit) { c.Params = []byte{0, 0, 0, 0, 0, 0, 0x80, 0x7f} }), Rejected, "parameter 1"},
			{step(0, 1), Applied, ""},
			{with(step(1, 2), func(c *Commit) { c.Params = make([]byte, 4) }), Rejected, "the job's have 8"},
		},
		"marks move forward only, and a bad one rejects the whole commit": {
			{marks(0, 1, Mark{Session: "s", Seq: 5, Admitted: 3, Stale: 1, Refused: 1}), Applied, ""},
			{marks(1, 2, Mark{Session: "s", Seq: 4}), Rejected, "goes back from 5 to 4"},
			{marks(1, 2, Mark{Session: "u", Seq: 1, Admitted: 1}), Rejected, `unknown session "u"`},
			{marks(1, 2, Mark{Session: "s", Seq: 7, Admitted: 1}), Rejected, "moves by 2"},
			{marks(1, 2, Mark{Session: "s", Seq: 5, Admitted: 1}), Rejected, "moves by 0"},
			{marks(1, 2, Mark{Session: "s", Seq: 6, Admitted: math.MaxUint64, Stale: 2}), Rejected, "moves by 1"},
			{marks(1, 2, Mark{Session: "s", Seq: 6, Admitted: 1}, Mark{Session: "s", Seq: 7, Admitted: 1}), Rejected, "two marks"},
			{marks(1, 2, Mark{Session: "s", Seq: 6, Admitted: 1}, Mark{Session: "x", Seq: 2, Stale: 2}), Applied, ""},
			{OpenSession{Job: "j", Session: "s", Worker: "w"}, AlreadyApplied, ""},
		},
		"sessions": {
			{OpenSession{Job: "j", Session: "s", Worker: "w", Stamp: 99}, AlreadyApplied, ""},
			{OpenSession{Job: "j", Session: "s", Worker: "v"}, Rejected, `belongs to worker "w"`},
			{OpenSession{Job: "j", Session: "x", Worker: "w", Slot: 1}, Rejected, "expired"},
			{OpenSession{Job: "j", Session: "y", Worker: "w", Slot: -1}, Rejected, "slot"},
			{OpenSession{Job: "j", Session: "", Worker: "w"}, Rejected, "session id"},
			{OpenSession{Job: "j", Session: "y"}, Rejected, "worker id"},
			{OpenSession{Job: "k", Session: "y", Worker: "w"}, Rejected, "no job"},
			{ExpireSession{Job: "j", Session: "y"}, Rejected, "no session"},
			{ExpireSession{Job: "j", Session: "x"}, AlreadyApplied, ""},
		},
		"pausing without a fence lets the learner finish its windows": {
			{SetStatus{Job: "j", Status: Paused}, Applied, ""},
			{step(0, 1), Applied, ""},
			{Grant{Job: "j", Epoch: 2, Node: "n2"}, Rejected, "paused"},
			{SetStatus{Job: "j", Status: Paused, Fence: true}, Applied, ""},
			{step(1, 2), Fenced, ""},
			{with(step(1, 2), func(c *Commit) { c.Epoch = 2 }), Fenced, ""},
			{SetStatus{Job: "j", Status: Running}, Applied, ""},
			{Grant{Job: "j", Epoch: 3, Node: "n2"}, Applied, ""},
			{with(step(1, 2), func(c *Commit) { c.Epoch = 3 }), Applied, ""},
		},
		"stopped and failed": {
			{SetStatus{Job: "j", Status: Stopped, Reason: "asked"}, Applied, ""},
			{SetStatus{Job: "j", Status: Stopped, Reason: "asked"}, AlreadyApplied, ""},
			{OpenSession{Job: "j", Session: "y", Worker: "w"}, Rejected, "stopped"},
			{SetStatus{Job: "j", Status: Failed, Reason: "not finite"}, Applied, ""},
			{step(0, 1), Rejected, "failed"},
			{SetStatus{Job: "j", Status: "odd"}, Rejected, "cannot be set"},
			{SetStatus{Job: "j", Status: Finished}, Rejected, "cannot be set"},
			{SetStatus{Job: "j", Status: Failed, Reason: strings.Repeat("r", MaxReason+1)}, Rejected, "reason"},
		},
		"finished jobs refuse": {
			{with(step(0, 100), func(c *Commit) { c.Done = true }), Applied, ""},
			{with(step(0, 100), func(c *Commit) { c.Done = true }), AlreadyApplied, ""},
			{step(100, 101), Rejected, "finished"},
			{SetStatus{Job: "j", Status: Running}, Rejected, "finished"},
			{Grant{Job: "j", Epoch: 2, Node: "n2"}, Rejected, "finished"},
			{OpenSession{Job: "j", Session: "y", Worker: "w"}, Rejected, "finished"},
			{ExpireSession{Job: "j", Session: "s"}, Applied, ""},
		},
		"objects": {
			{with(step(0, 1), func(c *Commit) { c.Best = []Object{{Text: "a", LogReward: math.Inf(-1)}} }), Rejected, "log-reward"},
			{with(step(0, 1), func(c *Commit) { c.Best = []Object{{LogReward: 1}} }), Rejected, "object text"},
			{with(step(0, 1), func(c *Commit) { c.Best = []Object{{Text: strings.Repeat("a", MaxBestBytes)}} }), Rejected, "object text"},
		},
	} {
		t.Run(name, func(t *testing.T) { newMachine(t, base()...).play(script) })
	}
}

// play applies a transcript and compares the answers.
func (m *machine) play(script []line) {
	m.t.Helper()
	for i, l := range script {
		before := m.bytes()
		r := m.do(l.cmd)
		if r.Outcome != l.want || !strings.Contains(r.Reason, l.says) {
			m.t.Fatalf("line %d %T: %+v; want %s %q", i, l.cmd, r, l.want, l.says)
		}
		if (r.Reason != "") != (r.Outcome == Rejected) {
			m.t.Fatalf("line %d: %s with reason %q", i, r.Outcome, r.Reason)
		}
		if r.Outcome != Applied && !bytes.Equal(before, m.bytes()) {
			m.t.Fatalf("line %d: %s changed the state", i, r.Outcome)
		}
	}
}

// bytes is the encoded state without index, term and chain, which every entry moves.
func (m *machine) bytes() []byte {
	s := *m.State
	s.index, s.term, s.chain, s.checkpoints = 0, 0, Hash{}, nil
	return encoded(m.t, &s)
}

func encoded(t testing.TB, s *State) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Snapshot().Encode(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestNothingBeforeInit(t *testing.T) {
	m := newMachine(t)
	if r := m.do(CreateJob{Job: "j"}); r.Outcome != Rejected {
		t.Fatal(r)
	}
	if len(m.Jobs()) != 0 || m.ClusterID() != "" {
		t.Fatal("state changed")
	}
}

func TestReadsAfterACommit(t *testing.T) {
	m := newMachine(t, base()...)
	c := with(step(0, 5), func(c *Commit) {
		c.Marks = []Mark{{Session: "s", Seq: 4, Admitted: 2, Stale: 1, Refused: 1}}
		c.Best = []Object{{Text: "a", LogReward: 1, Version: 3}}
	})
	if r := m.do(c); r.Outcome != Applied {
		t.Fatal(r)
	}
	j, ok := m.Job("j")
	if !ok || j.Version != 5 || !j.HasState || j.CommitEpoch != 1 || j.Trajectories() != 4 || j.Admitted != 2 ||
		j.Sessions != 1 || j.Learner != "n1" || j.Committed != 5 || !bytes.Equal(j.Params, c.Params) || !bytes.Equal(j.Private, c.Private) {
		t.Fatalf("%+v", j)
	}
	if _, ok := m.Job("k"); ok || m.Sessions("k") != nil || m.Best("k") != nil {
		t.Fatal("an unknown job")
	}
	if s, ok := m.Session("j", "s"); !ok || s.Mark != 4 || s.Refused != 1 {
		t.Fatalf("%+v", s)
	}
	if _, ok := m.Session("k", "s"); ok {
		t.Fatal("session of an unknown job")
	}
	if all := m.Sessions("j"); len(all) != 2 || all[0].ID != "s" || !all[1].Expired {
		t.Fatalf("%+v", all)
	}
	if r := m.do(OpenSession{Job: "j", Session: "s", Worker: "w"}); r.Outcome != AlreadyApplied || r.Mark != 4 {
		t.Fatalf("%+v", r)
	}
	if b := m.Best("j"); !slices.Equal(b, c.Best) {
		t.Fatalf("%+v", b)
	}
}

func TestBestKeepsTheBestDistinctWithinItsCaps(t *testing.T) {
	var many []Object
	for i := range MaxBest + 50 {
		many = append(many, Object{Text: fmt.Sprintf("o%04d", i), LogReward: float64(i % 7)})
	}
	best := mergeBest(nil, many)
	best = mergeBest(best, []Object{{Text: "o0006", LogReward: 6, Version: 1}, {Text: "o0000", LogReward: 9}})
	if len(best) != MaxBest || !slices.IsSortedFunc(best, betterFirst) || best[0].Text != "o0000" {
		t.Fatalf("%d objects, first %+v", len(best), best[0])
	}
	texts := map[string]bool{}
	for _, o := range best {
		if texts[o.Text] {
			t.Fatalf("%q twice", o.Text)
		}
		texts[o.Text] = true
	}
	long := make([]Object, 10)
	for i := range long {
		long[i] = Object{Text: strings.Repeat(string(rune('a'+i)), MaxBestBytes/4), LogReward: float64(i)}
	}
	if got := mergeBest(nil, long); len(got) != 3 || got[0].LogReward != 9 {
		t.Fatalf("%d long objects", len(got))
	}
}

func TestErrorsThatStopAReplica(t *testing.T) {
	m := newMachine(t, base()...)
	before, chain := m.bytes(), m.Chain()
	for name, data := range map[string][]byte{
		"kind":   {FormatVersion, 1, 99, 0x80},
		"kind 0": {FormatVersion, FeatureLevel, 0, 0x80},
		"level":  {FormatVersion, FeatureLevel + 1, 1, 0x80},
		"format": {FormatVersion + 1, FeatureLevel, 1, 0x80},
	} {
		if _, err := m.Apply(m.Index()+1, 1, data); !errors.Is(err, ErrUnknownCommand) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good, err := Encode(Init{ClusterID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(m.Index(), 1, good); !errors.Is(err, ErrIndex) {
		t.Error(err)
	}
	if !bytes.Equal(before, m.bytes()) || chain != m.Chain() {
		t.Error("the state changed")
	}
}

func TestMalformedCommandsAreRejectedByEveryReplicaAlike(t *testing.T) {
	good, err := Encode(base()[1])
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty":       {},
		"header only": good[:3],
		"truncated":   good[:len(good)-1],
		"trailing":    append(slices.Clone(good), 0),
		"field":       append(slices.Clone(good[:3]), 0x81, 0xa1, 'z', 0x01),
		"huge list":   append(slices.Clone(good[:2]), 4, 0x81, 0xa1, 'm', 0xdd, 0xff, 0xff, 0xff, 0xff),
		"huge bytes":  append(slices.Clone(good[:2]), 4, 0x81, 0xa1, 'p', 0xc6, 0xff, 0xff, 0xff, 0xff),
		"deep":        append(slices.Clone(good[:2]), 4, 0x91, 0x91, 0x91, 0x91, 0x91, 0x91),
	} {
		m := newMachine(t, base()...)
		before, chain := m.bytes(), m.Chain()
		r, err := m.Apply(m.Index()+1, 1, data)
		if err != nil || r.Outcome != Rejected || !bytes.Equal(before, m.bytes()) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if m.Chain() == chain {
			t.Errorf("%s: not in the hash chain", name)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, cmd := range []any{nil, 7, (*Init)(nil), struct{}{}} {
		if _, err := Encode(cmd); !errors.Is(err, ErrUnknownCommand) {
			t.Errorf("%T: %v", cmd, err)
		}
	}
	if _, err := Encode(Commit{Params: make([]byte, MaxCommand)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	a, err := Encode(Init{ClusterID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Encode(&Init{ClusterID: "c"}); err != nil || !bytes.Equal(a, b) {
		t.Error("a pointer encodes otherwise", err)
	}
}

func TestAViewIsFrozen(t *testing.T) {
	m := newMachine(t, base()...)
	m.do(step(0, 1))
	v := m.Snapshot()
	var before, after bytes.Buffer
	if err := v.Encode(&before); err != nil {
		t.Fatal(err)
	}
	m.do(with(step(1, 2), func(c *Commit) {
		c.Marks = []Mark{{Session: "s", Seq: 1, Admitted: 1}}
		c.Best = []Object{{Text: "a"}}
	}))
	m.do(ExpireSession{Job: "j", Session: "s"})
	if err := v.Encode(&after); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before.Bytes(), after.Bytes()) || v.Index() == m.Index() || v.Chain() == m.Chain() {
		t.Fatal("the view moved")
	}
	v.Read(func(s *State) {
		if j, _ := s.Job("j"); j.Version != 1 {
			t.Errorf("version %d", j.Version)
		}
	})
}
