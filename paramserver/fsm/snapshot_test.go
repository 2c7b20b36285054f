package fsm

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

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
