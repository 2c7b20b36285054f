package bf16

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestGolden(t *testing.T) {
	for _, c := range []struct {
		bits uint32
		want uint16
	}{
		{0x00000000, 0x0000},
		{0x80000000, 0x8000}, // -0
		{0x3f800000, 0x3f80}, // 1
		{0x3f808000, 0x3f80}, // halfway, to even
		{0x3f818000, 0x3f82}, // halfway, to even upwards
		{0x3f808001, 0x3f81}, // just above halfway
		{0xbf80ffff, 0xbf81},
		{0x40490fdb, 0x4049}, // pi
		{0x00000001, 0x0000}, // the smallest subnormal
		{0x0000c000, 0x0001},
		{0x7f7fffff, 0x7f7f}, // the largest float32 stays finite
		{0xff7fffff, 0xff7f},
		{0x7f7f8000, 0x7f7f},
		{0x7f800000, 0x7f80}, // infinity
		{0x7f800001, 0x7fc0}, // NaN whose bits are all in the lower half
	} {
		if got := Round(math.Float32frombits(c.bits)); got != c.want {
			t.Errorf("%08x rounds to %04x, want %04x", c.bits, got, c.want)
		}
	}
}

// TestRoundIsNearestEven against an oracle that looks at both neighbours.
func TestRoundIsNearestEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			t.Skip("not finite")
		}
		down := uint16(math.Float32bits(x) >> 16) // towards zero
		up := down + 1
		want := down
		if up&exponent != exponent {
			a := math.Abs(float64(x) - float64(Float(down)))
			b := math.Abs(float64(x) - float64(Float(up)))
			if b < a || a == b && down&1 == 1 {
				want = up
			}
		}
		if got := Round(x); got != want {
			t.Fatalf("%g rounds to %04x, want %04x", x, got, want)
		}
	})
}

func TestEncodeDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOf(rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32)).Draw(t, "values")
		var raw []byte
		for _, v := range values {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
		data, err := Encode(raw)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if len(back) != len(values) {
			t.Fatalf("%d values became %d", len(values), len(back))
		}
		for i, v := range back {
			if v != Float(Round(values[i])) {
				t.Fatalf("value %d: %g became %g", i, values[i], v)
			}
			if Float(Round(v)) != v {
				t.Fatalf("rounding %g again changes it", v)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	nan := binary.LittleEndian.AppendUint32(make([]byte, 4), 0x7f800001)
	for _, raw := range [][]byte{make([]byte, 3), nan} {
		if _, err := Encode(raw); !errors.Is(err, ErrFormat) {
			t.Errorf("encode % x: %v", raw, err)
		}
	}
	for _, data := range [][]byte{make([]byte, 3), {0, 0, 0x80, 0x7f}} {
		if _, err := Decode(data); !errors.Is(err, ErrFormat) {
			t.Errorf("decode % x: %v", data, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{0x80, 0x3f, 0x80, 0xbf})
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		for i, v := range values {
			if Round(v) != binary.LittleEndian.Uint16(data[2*i:]) {
				t.Fatalf("value %d does not survive", i)
			}
		}
	})
}
