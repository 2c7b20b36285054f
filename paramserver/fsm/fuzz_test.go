package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
)

func FuzzDecodeCommand(f *testing.F) {
	for _, cmd := range append(story(), story2(f)...) {
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
		bounded(t, before, len(data))
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
	for _, cmd := range append(append(story(), step(170, 171)), story2(f)...) {
		data, err := Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := active(t)
		m.do(segmented(0, 170, 9, 9, covers("g", 9, 1, 9)))
		m.put(1, split(t, big(170, 171), 1200)[0])
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
	full := newMachine(f, story()...)
	for _, cmd := range story2(f) {
		full.do(cmd)
	}
	f.Add(encoded(f, full.State))
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
			bounded(t, before, len(in))
			if err != nil {
				continue
			}
			if whole := encoded(t, s); !bytes.Equal(encoded(t, reloaded(t, s)), whole) {
				t.Fatal("another state came back")
			}
		}
	})
}

// FuzzChunks plays a script of parts. A byte below 0xc0 sends a part of one of
// two real Commits, in any order; up to 0xef a forged one, made of the bytes
// that follow; the rest begin a new term. A plain account of what is whole
// says what must become of the real parts.
func FuzzChunks(f *testing.F) {
	// Begun, begun again and completed; two interleaved; a term in between; a gap; forgeries.
	for _, script := range []string{
		"\x00\x02\x00\x02\x04\x06\x08", "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09", "\x00\x02\xf0\x04\x00",
		"\x00\x04\x02", "\xc0\x00\x02\x09\x04\xc0\x01\x02\x09\x04", "\xc0\x00\xff\xff\xff",
	} {
		f.Add([]byte(script))
	}
	var real [2][][]byte
	for i := range real {
		real[i] = split(f, with(big(0, 1), func(c *Commit) { c.Stamp = int64(i) }), 900)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		m, term := active(t), uint64(1)
		var next [2]int
		committed := -1 // the transfer that was completed first
		before, fed := allocated(), 0
		for len(script) > 0 && fed < 1<<20 {
			op := script[0]
			script = script[1:]
			if op >= 0xf0 {
				term++
				next = [2]int{}
				continue
			}
			if op >= 0xc0 {
				r := m.put(term, forged(t, op, &script))
				if r.Outcome == AlreadyApplied || r.Outcome == Fenced || r.Outcome == WrongBase {
					t.Fatalf("a forgery: %+v", r)
				}
				fed += 256
				continue
			}
			which, part := int(op&1), int(op>>1)%len(real[0])
			r := m.put(term, real[which][part])
			fed += len(real[which][part])
			want := Applied
			switch {
			case part == 0:
				next[which] = 1
			case part != next[which]:
				want, next[which] = Aborted, 0
			case part == len(real[which])-1:
				next[which] = 0
				switch committed {
				case -1:
					committed = which
				case which:
					want = AlreadyApplied
				default:
					want = WrongBase
				}
			default:
				next[which]++
			}
			if r.Outcome != want {
				t.Fatalf("part %d of transfer %d: %+v; want %s", part, which, r, want)
			}
		}
		if j, _ := m.Job("j"); j.HasState != (committed >= 0) {
			t.Fatalf("state %v, completed %d", j.HasState, committed)
		}
		if n := m.pendingBytes(); n > int64(fed) {
			t.Fatalf("%d bytes pending of %d that came", n, fed)
		}
		bounded(t, before, fed)
		if !bytes.Equal(encoded(t, reloaded(t, m.State)), encoded(t, m.State)) {
			t.Fatal("another state came back")
		}
	})
}

// forged makes a chunk of a transfer that is none, as it came from a careless
// or hostile proposer.
func forged(t *testing.T, op byte, script *[]byte) []byte {
	var b [4]byte
	*script = (*script)[copy(b[:], *script):]
	c := Chunk{Transfer: Hash{0xff, op & 3}, Part: int(b[0]), Parts: int(b[1]), Size: int64(b[2]), Data: append([]byte{1, 1, 4}, make([]byte, b[3]&0x7f)...)}
	if b[2] == 0xff {
		c.Size, c.Parts = MaxCommand, maxParts
	}
	data, err := Encode(c)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// bounded fails if far more was allocated than there was input.
func bounded(t *testing.T, before uint64, input int) {
	t.Helper()
	if grown := allocated() - before; grown > 64<<20 {
		t.Fatalf("%d bytes allocated for %d", grown, input)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}
