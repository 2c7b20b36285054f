package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// libraryFrame is a batch's frame as the library writes it.
func libraryFrame(t *rapid.T, b *Batch) (batchFrame, []byte) {
	f := batchFrame{
		FirstSeq: b.FirstSeq, Epoch: b.Epoch, Version: b.Version, Count: uint32(b.Len()), Width: actionWidth(b.Actions),
		Lengths: []byte{}, LogReward: appendDoubles([]byte{}, b.LogReward), LogBehaviour: appendDoubles([]byte{}, b.LogBehaviour),
	}
	for _, l := range b.Lengths {
		f.Lengths = binary.AppendUvarint(f.Lengths, uint64(l))
	}
	f.Actions = appendActions([]byte{}, b.Actions, f.Width)
	data, err := Marshal(&f)
	if err != nil {
		t.Fatal(err)
	}
	return f, data
}

// TestBatchFrameIsTheLibrarys: written and read without it, the frame is the same
// to the byte.
func TestBatchFrameIsTheLibrarys(t *testing.T) {
	number := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(1<<16-2, 1<<16+2), rapid.Uint64Range(1<<32-2, 1<<32+2), rapid.Uint64Range(0, 1<<63))
	rapid.Check(t, func(t *rapid.T) {
		b := &Batch{FirstSeq: 1 + number.Draw(t, "seq"), Epoch: number.Draw(t, "epoch"), Version: number.Draw(t, "version")}
		most := rapid.SampledFrom([]int32{1, 255, 256, 65535, 65536, 1<<31 - 1}).Draw(t, "most")
		for range rapid.SampledFrom([]int{1, 3, 40, 300}).Draw(t, "n") {
			l := rapid.SampledFrom([]int{0, 1, 7, 130}).Draw(t, "length")
			b.Lengths = append(b.Lengths, int32(l))
			for range l {
				b.Actions = append(b.Actions, most)
			}
			b.LogReward = append(b.LogReward, 1.5)
			b.LogBehaviour = append(b.LogBehaviour, -2.5)
		}
		want, data := libraryFrame(t, b)
		if got := appendBatchFrame(nil, b); !bytes.Equal(got, data) {
			t.Fatalf("%d bytes written, the library writes %d: %x", len(got), len(data), got[:min(len(got), 60)])
		}
		if size := batchFrameSize(b); size < len(data) {
			t.Fatalf("a size of %d for %d bytes", size, len(data))
		}
		got, ok := readBatchFrame(data)
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("read %v, %+v", ok, got)
		}
		at := rapid.IntRange(0, len(data)-1).Draw(t, "at")
		if _, ok := readBatchFrame(data[:at]); ok {
			t.Fatalf("%d of %d bytes were read as a frame", at, len(data))
		}
		// Whatever is damaged, what is read at once is what the library reads.
		spoilt := bytes.Clone(data)
		spoilt[rapid.IntRange(0, min(60, len(data)-1)).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if got, ok := readBatchFrame(spoilt); ok {
			var slow batchFrame
			if err := Unmarshal(spoilt, &slow); err != nil || !reflect.DeepEqual(got, slow) {
				t.Fatalf("read at once: %+v, by the library: %+v, %v", got, slow, err)
			}
		}
	})
}
