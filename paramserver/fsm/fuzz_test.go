package fsm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
)

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
