package metrics_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/metrics"
)

// TestModesAreASet compares with a map.
func TestModesAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 200).Draw(t, "modes")
		m, other, want := metrics.NewModes(n), metrics.NewModes(n), map[int]bool{}
		for _, mode := range rapid.SliceOf(rapid.IntRange(-2, 210)).Draw(t, "samples") {
			fresh := mode >= 0 && mode < n && !want[mode]
			if m.Add(mode) != fresh {
				t.Fatalf("Add(%d) = %t", mode, !fresh)
			}
			if fresh {
				want[mode] = true
			}
			if m.Has(mode) != want[mode] {
				t.Fatalf("Has(%d) = %t", mode, m.Has(mode))
			}
			other.Add(n - 1 - mode)
		}
		data, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back metrics.Modes
		if err := back.UnmarshalBinary(data); err != nil {
			t.Fatal(err)
		}
		if back.Found() != len(want) || back.Len() != n {
			t.Fatalf("%d of %d read back, want %d of %d", back.Found(), back.Len(), len(want), n)
		}
		if err := back.Merge(other); err != nil {
			t.Fatal(err)
		}
		union := 0
		for mode := range n {
			if back.Has(mode) != (want[mode] || other.Has(mode)) {
				t.Fatalf("merged: mode %d is %t", mode, back.Has(mode))
			}
			if back.Has(mode) {
				union++
			}
		}
		if back.Found() != union {
			t.Fatalf("merged: %d found, want %d", back.Found(), union)
		}
	})
}

func TestModesRefuse(t *testing.T) {
	if err := metrics.NewModes(3).Merge(metrics.NewModes(4)); !errors.Is(err, metrics.ErrModes) {
		t.Errorf("merge: %v", err)
	}
	if m := metrics.NewModes(-1); m.Len() != 0 || m.Add(0) {
		t.Error("modes in an empty set")
	}
	set := func(words ...uint64) (out []byte) {
		for _, w := range words {
			out = binary.LittleEndian.AppendUint64(out, w)
		}
		return out
	}
	m := metrics.NewModes(7)
	m.Add(2)
	for what, data := range map[string][]byte{
		"nothing":       nil,
		"half a number": {1, 2, 3},
		"no words":      set(5),
		"two words":     set(64, 0, 0),
		"huge":          set(1<<63, 0),
		"overflowing":   set(1<<64-1, 0),
		"a bit too far": set(5, 1<<5),
	} {
		if err := m.UnmarshalBinary(data); !errors.Is(err, metrics.ErrModes) || m.Len() != 7 || !m.Has(2) {
			t.Errorf("%s: %v, %+v", what, err, m)
		}
	}
}

func FuzzModes(f *testing.F) {
	m := metrics.NewModes(70)
	m.Add(0)
	m.Add(69)
	good, _ := m.MarshalBinary()
	f.Add(good)
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 24))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m metrics.Modes
		if m.UnmarshalBinary(data) != nil {
			return
		}
		if again, _ := m.MarshalBinary(); !bytes.Equal(again, data) {
			t.Errorf("%x becomes %x", data, again)
		}
	})
}
