package fsm

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

// segmented is a step that moves the mark of session "s" and lists what it covers.
func segmented(base, version, seq, admitted uint64, list ...Segment) Commit {
	return with(step(base, version), func(c *Commit) {
		c.Marks = []Mark{{Session: "s", Seq: seq, Admitted: admitted}}
		c.Segments = list
	})
}

func covers(id string, rows int64, ranges ...uint64) Segment {
	g := Segment{ID: id, Hash: Hash{1}, Bytes: 100, Rows: rows, Nodes: []string{"n1", "n2"}}
	for i := 0; i < len(ranges); i += 2 {
		g.Ranges = append(g.Ranges, Range{Session: "s", First: ranges[i], Last: ranges[i+1]})
	}
	return g
}

func TestTranscriptsOfLevel2(t *testing.T) {
	alter := func(g Segment, edit func(*Segment)) Segment { edit(&g); return g }
	compact := func(add Segment, remove ...string) Compact {
		return Compact{Job: "j", Epoch: 1, Remove: remove, Add: add}
	}
	for name, script := range map[string][]line{
		"activate": {
			{Activate{Level: 2}, AlreadyApplied, ""},
			{Activate{Level: 1}, AlreadyApplied, ""},
			{Activate{}, AlreadyApplied, ""},
		},
		"weights": {
			{SetShare{Job: "j", Weight: 1}, AlreadyApplied, ""},
			{SetShare{Job: "j", Weight: 2.5, Priority: -3}, Applied, ""},
			{SetShare{Job: "j", Weight: 2.5, Priority: -3}, AlreadyApplied, ""},
			{SetShare{Job: "j"}, Rejected, "weight 0"},
			{SetShare{Job: "j", Weight: math.NaN()}, Rejected, "weight NaN"},
			{SetShare{Job: "j", Weight: math.Inf(1)}, Rejected, "weight +Inf"},
			{SetShare{Job: "j", Weight: -1}, Rejected, "weight -1"},
			{SetShare{Job: "j", Weight: 1, Priority: 1001}, Rejected, "priority 1001"},
			{SetShare{Job: "k", Weight: 1}, Rejected, "no job"},
			{CreateJob{Job: "k", Weight: -1}, Rejected, "weight -1"},
			{CreateJob{Job: "k", Weight: 3, Priority: 1}, Applied, ""},
			{SetShare{Job: "k", Weight: 3, Priority: 1}, AlreadyApplied, ""},
			{CreateJob{Job: "k"}, AlreadyApplied, ""},
		},
		"segments": {
			{segmented(0, 1, 5, 5, covers("g", 6, 1, 5)), Rejected, "6 rows in ranges of 5"},
			{segmented(0, 1, 5, 5, covers("g", 5, 1, 6)), Rejected, "covers 1 to 6"},
			{segmented(0, 1, 5, 5, covers("g", 0, 0, 5)), Rejected, "range 0 to 5"},
			{segmented(0, 1, 5, 5, covers("g", 0, 3, 2)), Rejected, "range 3 to 2"},
			{segmented(0, 1, 5, 5, covers("g", 2, 4, 5, 1, 2)), Rejected, "out of order"},
			{segmented(0, 1, 5, 5, covers("g", 2, 1, 2), covers("h", 2, 2, 3)), Rejected, "two segments cover trajectory 2"},
			{segmented(0, 1, 5, 5, covers("g", 2, 1, 2), covers("g", 2, 3, 4)), Rejected, `two segments "g"`},
			{segmented(0, 1, 5, 5, covers("", 2, 1, 2)), Rejected, "segment id"},
			{segmented(0, 1, 5, 5, alter(covers("g", 2, 1, 2), func(g *Segment) { g.Bytes = -1 })), Rejected, "-1 bytes"},
			{segmented(0, 1, 5, 5, alter(covers("g", 2, 1, 2), func(g *Segment) { g.Nodes = []string{""} })), Rejected, "node has 0"},
			{segmented(0, 1, 5, 5, alter(covers("g", 2, 1, 2), func(g *Segment) { g.Nodes = make([]string, 17) })), Rejected, "on 17 nodes"},
			{segmented(0, 1, 5, 5, alter(covers("g", 2, 1, 2), func(g *Segment) { g.Ranges[0].Session = "x" })), Rejected, `session "x"`},
			{segmented(0, 1, 5, 5, covers("h", 2, 4, 5), covers("g", 2, 1, 3)), Applied, ""},
			{segmented(1, 2, 9, 4, covers("i", 2, 5, 6)), Rejected, "moves from 5 to 9"},
			{segmented(1, 2, 9, 4, covers("g", 2, 6, 7)), Rejected, "listed already"},
			{segmented(1, 2, 9, 4, covers("i", 4, 6, 9)), Applied, ""},
			{with(step(2, 3), func(c *Commit) { c.Segments = []Segment{covers("k", 0, 9, 9)} }), Rejected, "covers 9 to 9"},
		},
		"compact": {
			{segmented(0, 1, 5, 5, covers("g", 2, 1, 3), covers("h", 2, 4, 5)), Applied, ""},
			{segmented(1, 2, 9, 4, covers("i", 3, 6, 9)), Applied, ""},
			{compact(covers("k", 4, 1, 5)), Rejected, "0 of 0"},
			{compact(covers("k", 4, 1, 5), "g", "z"), Rejected, "1 of 2"},
			{compact(covers("k", 2, 1, 3), "g", "g"), Rejected, "named twice"},
			{compact(covers("k", 3, 1, 5), "g", "h"), Rejected, "those it replaces have 4"},
			{compact(covers("k", 4, 1, 4), "g", "h"), Rejected, "does not cover"},
			{compact(covers("i", 4, 1, 5), "g", "h"), Rejected, "listed already"},
			{compact(alter(covers("i", 4, 1, 5), func(g *Segment) { g.Hash[0]++ }), "g", "h"), Rejected, "another hash"},
			{Compact{Job: "j", Epoch: 2, Remove: []string{"g", "h"}, Add: covers("k", 4, 1, 5)}, Fenced, ""},
			{Compact{Job: "j", Epoch: 1, Generation: 1, Remove: []string{"g", "h"}, Add: covers("k", 4, 1, 5)}, Fenced, ""},
			{compact(covers("k", 4, 1, 5), "h", "g"), Applied, ""},
			{compact(covers("k", 4, 1, 5), "h", "g"), AlreadyApplied, ""},
			{compact(covers("i", 7, 1, 9), "k", "i"), Applied, ""},
		},
		"notes": {
			{Note{Kind: EventJoined, Node: "n"}, Applied, ""},
			{Note{Kind: "disk-full", Job: "j", Node: "n", Detail: "4 MiB left"}, Applied, ""},
			{Note{}, Rejected, "kind"},
			{Note{Kind: "Upper"}, Rejected, "lower-case"},
			{Note{Kind: strings.Repeat("a", maxKind+1)}, Rejected, "lower-case"},
			{Note{Kind: EventGranted}, Rejected, "for other commands"},
			{Note{Kind: EventDied, Node: strings.Repeat("n", MaxID+1)}, Rejected, "node of 257"},
			{Note{Kind: EventDied, Detail: strings.Repeat("n", MaxDetail+1)}, Rejected, "detail of 1025"},
		},
	} {
		t.Run(name, func(t *testing.T) { active(t).play(script) })
	}
}

func TestBeforeActivationLevel2IsRejected(t *testing.T) {
	newMachine(t, base()...).play([]line{
		{Chunk{Parts: 1, Size: 3, Data: []byte{1, 1, 1}}, Rejected, "needs feature level 2"},
		{SetShare{Job: "j", Weight: 2}, Rejected, "needs feature level 2"},
		{Compact{Job: "j"}, Rejected, "needs feature level 2"},
		{Note{Kind: EventJoined}, Rejected, "needs feature level 2"},
		{CreateJob{Job: "k", Weight: 2}, Rejected, "needs feature level 2"},
		{Grant{Job: "j", Epoch: 2, Node: "n", Reason: "it is there"}, Rejected, "needs feature level 2"},
		{segmented(0, 1, 5, 5, covers("g", 5, 1, 5)), Rejected, "needs feature level 2"},
		{segmented(0, 1, 5, 5), Applied, ""},
		{Activate{Level: 2}, Applied, ""},
		{Grant{Job: "j", Epoch: 2, Node: "n", Reason: "it is there"}, Applied, ""},
	})
}

// TestAFieldOfLevel2MarkedLevel1IsMalformed: an older build refuses it, so must this one.
func TestAFieldOfLevel2MarkedLevel1IsMalformed(t *testing.T) {
	data, err := Encode(CreateJob{Job: "k", Weight: 2})
	if err != nil {
		t.Fatal(err)
	}
	if data[1] != 2 {
		t.Fatalf("level %d", data[1])
	}
	data[1] = 1
	if _, err := Decode(data); !errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
	if Level(7) != 0 || Level(&SetShare{}) != 2 || Level(&Init{}) != 1 || Level(Activate{Level: 9}) != 9 {
		t.Error("levels")
	}
	if _, err := Encode(Activate{Level: 9}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("a level that nobody has: %v", err)
	}
}

// capped makes this build an older one for the rest of the test.
func capped(t *testing.T, level string) {
	levelCap = level
	t.Cleanup(func() { levelCap = "" })
}

func TestAnOlderBuildStopsAtTheActivation(t *testing.T) {
	note, err := Encode(Activate{Level: 2})
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, base()...)
	before := encoded(t, m.State)
	capped(t, "1")
	if Supported() != 1 {
		t.Fatal(Supported())
	}
	if _, err := m.Apply(m.Index()+1, 1, note); !errors.Is(err, ErrUnknownCommand) || !strings.Contains(err.Error(), "feature level 2; this build has 1") {
		t.Fatal(err)
	}
	if !bytes.Equal(before, encoded(t, m.State)) {
		t.Error("the state changed")
	}
	if _, err := Encode(Activate{Level: 2}); !errors.Is(err, ErrUnknownCommand) {
		t.Error(err)
	}
	if _, err := Restore(bytes.NewReader(before), "d", 1); !errors.Is(err, ErrRestore) {
		t.Error(err)
	}
	for _, odd := range []string{"", "0", "x", "3", "300"} {
		if levelCap = odd; Supported() != FeatureLevel {
			t.Errorf("cap %q: %d", odd, Supported())
		}
	}
}

// TestDowngradeBeforeActivation: what a new build writes at level 1 the old one
// reads, and what comes after is the same on both.
func TestDowngradeBeforeActivation(t *testing.T) {
	m := newMachine(t, story()...)
	data := encoded(t, m.State)
	capped(t, "1")
	old, err := DecodeSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded(t, old), data) {
		t.Fatal("another state came back")
	}
	levelCap = ""
	// Restarted from it or not, replicas activate to equal bytes.
	a, b := m, &machine{t, old}
	for _, cmd := range []any{Activate{Level: 2, Stamp: 9}, SetShare{Job: "j", Weight: 4, Stamp: 10}} {
		if ra, rb := a.do(cmd), b.do(cmd); ra != rb || ra.Outcome != Applied {
			t.Fatalf("%+v and %+v", ra, rb)
		}
	}
	if !bytes.Equal(encoded(t, a.State), encoded(t, b.State)) {
		t.Error("a replica that restarted before the activation has other bytes")
	}
}

func TestANewerCommandInPartsStopsAtTheFirst(t *testing.T) {
	m := active(t)
	before := encoded(t, m.State)
	for _, data := range [][]byte{{FormatVersion, FeatureLevel + 1, 1}, {FormatVersion, 1, 200}, {FormatVersion + 1, 1, 1}} {
		part, err := Encode(Chunk{Parts: 2, Size: 100, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Apply(m.Index()+1, 1, part); !errors.Is(err, ErrUnknownCommand) {
			t.Error(err)
		}
	}
	if !bytes.Equal(before, encoded(t, m.State)) {
		t.Error("the state changed")
	}
}

func TestATermThatGoesBackStopsTheReplica(t *testing.T) {
	m := active(t)
	data, err := Encode(Note{Kind: EventJoined})
	if err != nil {
		t.Fatal(err)
	}
	m.put(7, data)
	if _, err := m.Apply(m.Index()+1, 6, data); !errors.Is(err, ErrIndex) {
		t.Fatal(err)
	}
}
