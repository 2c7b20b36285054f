package fsm

import (
	"bytes"
	"errors"
	"testing"
)

func reloaded(t testing.TB, s *State) *State {
	t.Helper()
	back, err := DecodeSnapshot(bytes.NewReader(encoded(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func TestRestore(t *testing.T) {
	m := active(t)
	m.do(segmented(0, 5, 9, 9, covers("g", 9, 1, 9)))
	m.put(3, split(t, big(5, 6), 600)[:2]...)
	backup := encoded(t, m.State)
	s, err := Restore(bytes.NewReader(backup), "d", 77)
	if err != nil {
		t.Fatal(err)
	}
	if s.ClusterID() != "d" || s.Generation() != 1 || s.Index() != m.Index()+1 || s.Chain() == m.Chain() || len(s.pending) != 0 || len(s.Checkpoints()) != 0 {
		t.Errorf("cluster %s, generation %d, index %d, %d pending", s.ClusterID(), s.Generation(), s.Index(), len(s.pending))
	}
	j, _ := s.Job("j")
	if j.Generation != 1 || j.Version != 5 || j.Trajectories() != 9 || j.Learner != "" || j.Sessions != 0 || j.Segments != 1 || j.Status != Running {
		t.Errorf("%+v", j)
	}
	if all := s.Sessions("j"); len(all) != 2 || !all[0].Expired || all[0].Ended != 77 || len(s.OpenSessions("j")) != 0 {
		t.Errorf("%+v", all)
	}
	if ev := s.Events(m.Index()); len(ev) != 1 || ev[0].Kind != EventRestored {
		t.Errorf("%+v", ev)
	}
	r := &machine{t, reloaded(t, s)}
	if !bytes.Equal(encoded(t, r.State), encoded(t, s)) {
		t.Fatal("another state came back")
	}
	// The old cluster's learner writes nothing, whatever it resends; the term begins anew.
	late := func(c *Commit) { c.Generation, c.Epoch = 1, 2 }
	r.play([]line{
		{segmented(0, 5, 9, 9, covers("g", 9, 1, 9)), Fenced, ""},
		{step(5, 6), Fenced, ""},
		{with(step(5, 6), func(c *Commit) { c.Generation = 1 }), Fenced, ""},
		{OpenSession{Job: "j", Session: "s", Worker: "w"}, Rejected, "expired"},
		{Grant{Job: "j", Epoch: 2, Node: "n9"}, Applied, ""},
		{with(step(5, 6), late), Applied, ""},
		{CreateJob{Job: "new"}, Applied, ""},
	})
	if j, _ := r.Job("new"); j.Generation != 1 {
		t.Error("a new job has an old generation")
	}
	again, err := Restore(bytes.NewReader(encoded(t, r.State)), "e", 78)
	if err != nil || again.Generation() != 2 {
		t.Errorf("generation %d, %v", again.Generation(), err)
	}
}

func TestRestoreOfLevel1BeginsAtLevel2(t *testing.T) {
	m := newMachine(t, story()...)
	s, err := Restore(bytes.NewReader(encoded(t, m.State)), "d", 77)
	if err != nil {
		t.Fatal(err)
	}
	if s.FeatureLevel() != 2 || s.Generation() != 1 {
		t.Errorf("level %d, generation %d", s.FeatureLevel(), s.Generation())
	}
}

func TestRestoreRefuses(t *testing.T) {
	good := encoded(t, active(t).State)
	for name, try := range map[string]struct {
		data    []byte
		cluster string
		want    error
	}{
		"no identity":    {good, "", ErrRestore},
		"an empty state": {encoded(t, New()), "d", ErrRestore},
		"damage":         {good[:len(good)-1], "d", ErrDamagedSnapshot},
	} {
		if _, err := Restore(bytes.NewReader(try.data), try.cluster, 1); !errors.Is(err, try.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
