package wire_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// requireDecoderManners checks what every decoder promises about any input: no
// panic, an error of the two kinds, allocation in proportion to the input.
func requireDecoderManners(t *testing.T, data []byte, decode func() error) error {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := decode()
	runtime.ReadMemStats(&after)
	if err != nil && !errors.Is(err, wire.ErrFrame) && !errors.Is(err, wire.ErrTooLarge) {
		t.Fatalf("an error of neither kind: %v", err)
	}
	// The largest element, JobInfo, is some 300 bytes and may take one byte on
	// the wire; the constant covers what the runtime does on the side.
	if spent, allowed := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+1024*len(data)); spent > allowed {
		t.Fatalf("%d bytes of input allocated %d", len(data), spent)
	}
	return err
}

func FuzzUnmarshal(f *testing.F) {
	for _, msg := range golden() {
		data, err := wire.Marshal(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x81\xa1s\xc6\x40\x00\x00\x00"))
	f.Add([]byte("\x81\xa1j\xdd\x00\x00\x00\x03\xc0\xc0\xc0"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, msg := range golden() {
			v := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
			err := requireDecoderManners(t, data, func() error {
				return wire.Codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, v)
			})
			if err != nil {
				continue
			}
			// What was understood can be said again, and means the same.
			again, err := wire.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			w := reflect.New(reflect.TypeOf(msg).Elem()).Interface()
			if err := wire.Unmarshal(again, w); err != nil {
				t.Fatal(err)
			}
			twice, err := wire.Marshal(w)
			if err != nil || !bytes.Equal(again, twice) {
				t.Fatalf("%T: %x became %x (%v)", v, again, twice, err)
			}
		}
	})
}

func FuzzDecodeBatch(f *testing.F) {
	data, err := wire.EncodeBatch(nil, goldenBatch())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)-1])
	f.Add([]byte("\x80"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var b *wire.Batch
		if err := requireDecoderManners(t, data, func() (err error) { b, err = wire.DecodeBatch(data); return err }); err != nil {
			return
		}
		if _, err := b.Trajectories("s"); err != nil {
			t.Fatalf("a decoded batch is not well-formed: %v", err)
		}
		again, err := wire.EncodeBatch(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		back, err := wire.DecodeBatch(again)
		if err != nil {
			t.Fatal(err)
		}
		requireSameBatch(t, back, b)
	})
}

func FuzzDecodeFloats(f *testing.F) {
	f.Add(wire.EncodeFloats(nil, []float32{0, 1, float32(math.NaN())}))
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		var v []float32
		if err := requireDecoderManners(t, data, func() (err error) { v, err = wire.DecodeFloats(data); return err }); err != nil {
			return
		}
		if !bytes.Equal(wire.EncodeFloats(nil, v), data) {
			t.Fatalf("%x does not survive", data)
		}
	})
}
