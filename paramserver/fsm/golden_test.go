package fsm

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write golden files that are missing; none is ever rewritten")

// story is a log that uses every command and field of level 1.
func story() []any {
	return append(base(),
		with(step(0, 0), func(c *Commit) { c.Best = []Object{{Text: "(0,1)", LogReward: -0.5}} }),
		with(step(0, 170), func(c *Commit) {
			c.Marks = []Mark{{Session: "s", Seq: 9, Admitted: 6, Stale: 2, Refused: 1}}
			c.Best = []Object{{Text: "(3,0)", LogReward: 2.25, Version: 160}}
		}),
		SetStatus{Job: "j", Status: Paused, Reason: "maintenance", Fence: true, Stamp: 171},
		CreateJob{Job: "empty", Spec: []byte("{}"), Updates: 1, Stamp: 172},
	)
}

// story2 goes on with every command and field of level 2, and ends in the
// middle of a chunked Commit.
func story2(t testing.TB) []any {
	cmds := []any{
		Activate{Level: 2, Stamp: 200},
		CreateJob{Job: "k", Spec: []byte(`{"name":"k"}`), Updates: 7, Stamp: 201, Weight: 2.5, Priority: 3},
		SetStatus{Job: "j", Status: Running, Stamp: 202},
		Grant{Job: "j", Epoch: 3, Node: "n2", Addr: "127.0.0.1:2", Stamp: 203, Reason: "2 cores free, the most"},
		SetShare{Job: "j", Weight: 0.5, Priority: -1, Stamp: 204},
		with(segmented(170, 180, 20, 11, covers("0-3-180", 4, 10, 14), covers("0-3-181", 5, 16, 20)), func(c *Commit) { c.Epoch = 3 }),
		Compact{Job: "j", Epoch: 3, Remove: []string{"0-3-180", "0-3-181"}, Add: covers("0-3-c1", 9, 10, 14, 16, 20), Stamp: 205},
		Note{Kind: EventRollback, Job: "j", Node: "n2", Detail: "version 181: parameters are not finite", Stamp: 206},
	}
	parts := split(t, with(big(180, 190), func(c *Commit) { c.Epoch = 3 }), 1200)
	for _, data := range parts[:2] {
		c, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, c)
	}
	return cmds
}

// TestGolden pins the bytes of commands, snapshot and hash chain of level 1:
// logs and snapshots of older builds must stay readable, and mean the same.
func TestGolden(t *testing.T) {
	m := newMachine(t)
	for i, cmd := range story() {
		goldenCommand(t, fmt.Sprintf("level-1/command-%02d.bin", i), cmd)
		m.do(cmd)
	}
	golden(t, "level-1/snapshot.bin", encoded(t, m.State))
	chain := m.Chain()
	golden(t, "level-1/chain.bin", chain[:])
}

// TestGoldenLevel2 does so for what level 2 added.
func TestGoldenLevel2(t *testing.T) {
	m := newMachine(t, story()...)
	for i, cmd := range story2(t) {
		kind := strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", cmd), "fsm."))
		data := goldenCommand(t, fmt.Sprintf("level-2/command-%02d-%s.bin", i, kind), cmd)
		if r, err := m.Apply(m.Index()+9, 2, data); err != nil || r.Outcome != Applied {
			t.Fatalf("%T: %+v, %v", cmd, r, err)
		}
	}
	golden(t, "level-2/snapshot.bin", encoded(t, m.State))
	chain := m.Chain()
	golden(t, "level-2/chain.bin", chain[:])
}

func goldenCommand(t *testing.T, name string, cmd any) []byte {
	t.Helper()
	data, err := Encode(cmd)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, name, data)
	back, err := Decode(data)
	if err != nil || fmt.Sprintf("%#v", back) != fmt.Sprintf("%#v", cmd) {
		t.Errorf("%#v came back as %#v, %v", cmd, back, err)
	}
	return data
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update {
		want, err = got, os.WriteFile(path, got, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what was released:\n% x\n% x", name, got, want)
	}
}

// TestGoldenFilesOfEveryLevel reads whatever lies there, also what no story
// writes any more, writes it again, and lets an older build see it.
func TestGoldenFilesOfEveryLevel(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "level-*", "*.bin"))
	if err != nil {
		t.Fatal(err)
	}
	kindsSeen := map[byte]bool{}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(path), "command") {
			kindsSeen[data[2]] = true
		}
		err = roundTrip(t, path, data)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		levelCap = "1"
		err = roundTrip(t, path, data)
		levelCap = ""
		refused := errors.Is(err, ErrUnknownCommand) || errors.Is(err, ErrNewerSnapshot)
		if newer := strings.Contains(path, "level-2") && data[1] != 1 && filepath.Base(path) != "chain.bin"; refused != newer || !newer && err != nil {
			t.Errorf("%s, read by a build of level 1: %v", path, err)
		}
	}
	for kind := range kinds {
		if kinds[kind] != nil && !kindsSeen[byte(kind)] {
			t.Errorf("no golden file of a %s", kinds[kind].Name())
		}
	}
}

func roundTrip(t *testing.T, path string, data []byte) error {
	t.Helper()
	again := data
	switch name := filepath.Base(path); {
	case strings.HasPrefix(name, "command"):
		cmd, err := Decode(data)
		if err != nil {
			return err
		}
		if again, err = Encode(cmd); err != nil {
			return err
		}
	case strings.HasPrefix(name, "snapshot"):
		s, err := DecodeSnapshot(bytes.NewReader(data))
		if err != nil {
			return err
		}
		again = encoded(t, s)
	}
	if !bytes.Equal(again, data) {
		return errors.New("is written otherwise now")
	}
	return nil
}
