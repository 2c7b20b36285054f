package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// plainly decodes a command as decodeCommand does, but by copying everything.
func plainly(body []byte, into any) error { return decodeBody(body, into) }

// TestLiftedBlobsAreTheDecoders: whatever the body, decoding without copies and
// decoding with them agree, on the command and on whether it is one.
func TestLiftedBlobsAreTheDecoders(t *testing.T) {
	blob := func(head []byte, n int) []byte { return append(head, bytes.Repeat([]byte{7}, n)...) }
	long := func(n int) []byte { return blob(binary.BigEndian.AppendUint32([]byte{0xc6}, uint32(n)), n) }
	short := func(n int) []byte { return blob(binary.BigEndian.AppendUint16([]byte{0xc5}, uint16(n)), n) }
	text := func(n int) []byte { return blob(binary.BigEndian.AppendUint16([]byte{0xda}, uint16(n)), n) }
	values := [][]byte{{0xc0}, {0xc4, 0}, {0xc4, 1, 9}, {5}, {0xc2}, {0x90}, long(5000), long(10), short(9000), short(3), text(5000), long(4096), {0xa1, 'p'}}
	keys := [][]byte{{0xa1, 'p'}, {0xa1, 's'}, {0xa1, 'd'}, {0xa1, 'v'}, {0xa1, 'j'}, {0xa1, 'm'}, {0xd9, 1, 'p'}, {0xc4, 1, 's'}, {0xa1, '?'}, {0xa2, 'p', 's'}, {0xa0}, {1}}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "pairs")
		body := []byte{0x80 | byte(n)}
		for range n {
			body = append(body, rapid.SampledFrom(keys).Draw(t, "key")...)
			body = append(body, rapid.SampledFrom(values).Draw(t, "value")...)
		}
		for _, pair := range [][2]any{{&Commit{}, &Commit{}}, {&Chunk{}, &Chunk{}}} {
			got, want := decodeCommand(body, pair[0]), plainly(body, pair[1])
			if (got == nil) != (want == nil) {
				t.Fatalf("%x: %v, copying %v", body[:min(len(body), 60)], got, want)
			}
			if want == nil && !reflect.DeepEqual(pair[0], pair[1]) {
				t.Fatalf("%x: another command", body[:min(len(body), 60)])
			}
		}
	})
}

// TestLargeBlobsAreNotCopied, and cannot grow into what follows them.
func TestLargeBlobsAreNotCopied(t *testing.T) {
	c := step(0, 1)
	c.Params, c.Private = bytes.Repeat([]byte{1, 2, 3, 4}, 5000), bytes.Repeat([]byte{9}, 30000)
	data, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	back := cmd.(Commit)
	if !reflect.DeepEqual(back, c) {
		t.Fatal("another commit came back")
	}
	for _, b := range [][]byte{back.Params, back.Private} {
		if at := bytes.Index(data, b); at < 0 || &data[at] != &b[0] {
			t.Error("a blob was copied")
		}
		if cap(b) != len(b) {
			t.Errorf("a blob of %d bytes may grow to %d", len(b), cap(b))
		}
	}
	if n := testing.AllocsPerRun(20, func() { Decode(data) }); n > 60 {
		t.Errorf("%v allocations", n)
	}
}

// TestPreparedIsApplied: an entry that was looked at before changes the state as
// one that was not, and is known by its place in memory.
func TestPreparedIsApplied(t *testing.T) {
	a, b := newMachine(t, base()...), newMachine(t, base()...)
	c := step(0, 1)
	c.Params, c.Private = bytes.Repeat([]byte{1, 2, 3, 4}, 5000), bytes.Repeat([]byte{9}, 30000)
	first := c
	first.Base, first.Version = 0, 0
	for _, cmd := range []any{first, c, c, SetStatus{Job: "j", Status: Paused}} {
		data, err := Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		p := Prepare(data)
		if !p.Of(data) || p.Of(bytes.Clone(data)) || p.Of(data[:len(data)-1]) {
			t.Error("prepared of other bytes")
		}
		if p.sums.command != sha256.Sum256(data) {
			t.Error("another digest")
		}
		at := a.Index() + 1
		x, err := a.ApplyPrepared(at, 1, p)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Apply(at, 1, bytes.Clone(data))
		if err != nil || !reflect.DeepEqual(x, y) || a.Chain() != b.Chain() {
			t.Errorf("%T: %+v, %+v, %v", cmd, x, y, err)
		}
	}
	if !bytes.Equal(encoded(t, a.State), encoded(t, b.State)) {
		t.Error("another state")
	}
}
