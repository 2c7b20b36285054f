package fsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTheHistory(t *testing.T) {
	m := active(t)
	for _, cmd := range []any{
		Grant{Job: "j", Epoch: 2, Node: "n2", Reason: "n1 was silent for 600 ms", Stamp: 20},
		with(step(0, 3), func(c *Commit) { c.Epoch = 2 }),
		SetStatus{Job: "j", Status: Paused, Reason: "asked", Stamp: 21},
		SetShare{Job: "j", Weight: 2, Priority: 1, Stamp: 22},
		Note{Kind: EventRollback, Job: "j", Node: "n2", Detail: "not finite", Stamp: 23},
		with(step(3, 100), func(c *Commit) { c.Epoch, c.Done = 2, true }),
		SetStatus{Job: "j", Status: Running}, // rejected: the job is finished
	} {
		m.do(cmd)
	}
	var got []string
	for _, ev := range m.Events(0) {
		got = append(got, fmt.Sprintf("%d %d %s job=%s node=%s e%d v%d %s", ev.Index, ev.Stamp, ev.Kind, ev.Job, ev.Node, ev.Epoch, ev.Version, ev.Detail))
	}
	want := []string{
		"2 1 cluster-founded job= node= e0 v0 c",
		"2 1 feature-level job= node= e0 v0 2",
		"3 2 job-submitted job=j node= e0 v0 ",
		"4 3 job-granted job=j node=n1 e1 v0 ",
		"5 4 session-opened job=j node=w e0 v0 slot 0, session s",
		"6 5 session-opened job=j node=w e0 v0 slot 1, session x",
		"7 6 session-expired job=j node=w e0 v0 slot 1, session x, at mark 0",
		"8 20 job-granted job=j node=n2 e2 v0 n1 was silent for 600 ms",
		"10 21 job-status job=j node= e2 v3 paused: asked",
		"11 22 job-share job=j node= e0 v0 weight 2, priority 1",
		"12 23 learner-rollback job=j node=n2 e0 v0 not finite",
		"13 100 job-status job=j node= e2 v100 finished",
	}
	if !slices.Equal(got, want) {
		t.Errorf("history:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if after := m.Events(10); len(after) != 3 || after[0].Index != 11 {
		t.Errorf("after 10: %+v", after)
	}
	if after := m.Events(99); len(after) != 0 {
		t.Errorf("after 99: %+v", after)
	}
}

func TestTheHistoryIsBounded(t *testing.T) {
	m := active(t)
	v := m.Snapshot()
	for range MaxEvents + 10 {
		m.do(Note{Kind: EventJoined})
	}
	if all := m.Events(0); len(all) != MaxEvents || all[MaxEvents-1].Index != m.Index() {
		t.Fatalf("%d events", len(all))
	}
	if back := reloaded(t, m.State); len(back.Events(0)) != MaxEvents {
		t.Error("the snapshot has another history")
	}
	v.Read(func(s *State) {
		if len(s.Events(0)) != 7 {
			t.Error("the view moved")
		}
	})
	m.do(Grant{Job: "j", Epoch: 2, Node: "n", Reason: strings.Repeat("é", MaxReason/2)})
	all := m.Events(m.Index() - 1)
	if n := len(all[0].Detail); n > MaxDetail || n < MaxDetail-3 || !utf8.ValidString(all[0].Detail) {
		t.Errorf("a detail of %d bytes", n)
	}
}

func TestCheckpoints(t *testing.T) {
	m := active(t)
	note, err := Encode(Note{Kind: EventJoined})
	if err != nil {
		t.Fatal(err)
	}
	want := map[uint64]Hash{}
	at := m.Index()
	for i := range uint64(3000) {
		next := at + 1 + i%3*20
		if _, err := m.Apply(next, 1, note); err != nil {
			t.Fatal(err)
		}
		if next/64 > at/64 {
			want[next] = m.Chain()
		}
		at = next
	}
	got := m.Checkpoints()
	if len(got) != maxCheckpoints {
		t.Fatalf("%d checkpoints", len(got))
	}
	for i, c := range got {
		if want[c.Index] != c.Chain || i > 0 && got[i-1].Index >= c.Index {
			t.Errorf("checkpoint at %d", c.Index)
		}
	}
	if last := got[len(got)-1].Index; at-last > 64 {
		t.Errorf("the last one is at %d of %d", last, at)
	}
	if !slices.Equal(reloaded(t, m.State).Checkpoints(), got) {
		t.Error("the snapshot has others")
	}
}
