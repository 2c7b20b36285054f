package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files; only for a new format version")

// story is a log that uses every command and field.
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

// TestGolden pins the bytes of commands, snapshot and hash chain: logs and
// snapshots of older builds must stay readable, and mean the same.
func TestGolden(t *testing.T) {
	m := newMachine(t)
	for i, cmd := range story() {
		data, err := Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, fmt.Sprintf("level-1/command-%02d.bin", i), data)
		back, err := Decode(data)
		if err != nil || fmt.Sprintf("%#v", back) != fmt.Sprintf("%#v", cmd) {
			t.Errorf("%#v came back as %#v, %v", cmd, back, err)
		}
		m.do(cmd)
	}
	golden(t, "level-1/snapshot.bin", encoded(t, m.State))
	chain := m.Chain()
	golden(t, "level-1/chain.bin", chain[:])
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what format %d wrote:\n% x\n% x", name, FormatVersion, got, want)
	}
}

func TestEveryDamagedByteOfASnapshotIsFound(t *testing.T) {
	good := encoded(t, newMachine(t, story()...).State)
	if _, err := DecodeSnapshot(bytes.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := DecodeSnapshot(bytes.NewReader(bad)); !errors.Is(err, ErrDamagedSnapshot) && !errors.Is(err, ErrNewerSnapshot) {
			t.Fatalf("byte %d: %v", i, err)
		}
		if _, err := DecodeSnapshot(bytes.NewReader(good[:i])); !errors.Is(err, ErrDamagedSnapshot) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	newer := bytes.Clone(good)
	newer[len(snapshotMagic)] = formatLevel2 + 1
	if _, err := DecodeSnapshot(bytes.NewReader(newer)); !errors.Is(err, ErrNewerSnapshot) {
		t.Fatal(err)
	}
}

func TestManySessionsTravelInChunks(t *testing.T) {
	m := newMachine(t, base()...)
	e := m.jobs["j"]
	for i := range 3*sessionChunk + 5 {
		id := fmt.Sprint(i)
		e.sessions[id] = Session{ID: id, Worker: "w", Expired: true}
	}
	data := encoded(t, m.State)
	back, err := DecodeSnapshot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded(t, back), data) {
		t.Fatal("another state came back")
	}
}

func TestAFailingWriterIsReported(t *testing.T) {
	m := newMachine(t, story()...)
	size := len(encoded(t, m.State))
	for _, room := range []int{0, 5, 100, size - 1} {
		if err := m.Snapshot().Encode(&shortWriter{room}); !errors.Is(err, errFull) {
			t.Fatalf("%d bytes of room: %v", room, err)
		}
	}
}

var errFull = errors.New("full")

type shortWriter struct{ room int }

func (w *shortWriter) Write(b []byte) (int, error) {
	if w.room -= len(b); w.room < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func FuzzDecodeCommand(f *testing.F) {
	for _, cmd := range story() {
		data, err := Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{1, 1, 4, 0x81, 0xa1, 'm', 0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		before := allocated()
		cmd, err := Decode(data)
		if grown := allocated() - before; grown > 64<<20 {
			t.Fatalf("%d bytes allocated for %d", grown, len(data))
		}
		if err != nil {
			return
		}
		again, err := Encode(cmd)
		if err != nil {
			t.Fatalf("%#v was decoded but does not encode: %v", cmd, err)
		}
		if back, err := Decode(again); err != nil || fmt.Sprintf("%#v", back) != fmt.Sprintf("%#v", cmd) {
			t.Fatalf("%#v came back as %#v, %v", cmd, back, err)
		}
	})
}

func FuzzApply(f *testing.F) {
	for _, cmd := range append(story(), step(170, 171)) {
		data, err := Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMachine(t, base()...)
		m.do(step(0, 170))
		r, err := m.Apply(m.Index()+1, 1, data)
		if (err == nil) != (r.Outcome != "") {
			t.Fatalf("%+v, %v", r, err)
		}
		whole := encoded(t, m.State)
		back, err := DecodeSnapshot(bytes.NewReader(whole))
		if err != nil {
			t.Fatalf("the state after %+v has no snapshot: %v", r, err)
		}
		if !bytes.Equal(encoded(t, back), whole) {
			t.Fatal("another state came back")
		}
	})
}

// FuzzDecodeSnapshot decodes its input as it is and once more with the checksum that
// a careful forger would put at the end.
func FuzzDecodeSnapshot(f *testing.F) {
	f.Add(encoded(f, New()))
	f.Add(encoded(f, newMachine(f, base()...).State))
	f.Add(encoded(f, newMachine(f, story()...).State))
	const end = 1 + 8 + sha256.Size
	f.Fuzz(func(t *testing.T, data []byte) {
		inputs := [][]byte{data}
		if body := data[:max(0, len(data)-end)]; len(body) > 0 {
			sum := sha256.Sum256(body)
			forged := append(bytes.Clone(body), sectionEnd, sha256.Size, 0, 0, 0, 0, 0, 0, 0)
			inputs = append(inputs, append(forged, sum[:]...))
		}
		for _, in := range inputs {
			before := allocated()
			s, err := DecodeSnapshot(bytes.NewReader(in))
			if grown := allocated() - before; grown > 64<<20 {
				t.Fatalf("%d bytes allocated for %d", grown, len(in))
			}
			if err == nil {
				encoded(t, s)
			}
		}
	})
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
