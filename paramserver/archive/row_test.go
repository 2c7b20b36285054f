package archive

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func someRows(n int) []Row {
	out := make([]Row, n)
	for i := range out {
		out[i] = Row{Object: fmt.Sprintf("(%d,%d)", i%7, i%11), LogReward: float64(i%5) - 2.5, Version: int64(i / 64), Time: 1_700_000_000_000_000 + int64(i), Worker: fmt.Sprintf("w%d", i%3), Session: fmt.Sprintf("s%d", i%3), Seq: int64(i/3 + 1)}
	}
	return out
}

func decoded(t testing.TB, data []byte, n int) []Row {
	t.Helper()
	var out []Row
	if err := Decode(data, int64(n), func(r *Row) error { out = append(out, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestSegmentsHoldTheirRows: decode ∘ encode is the identity, and equal rows
// give equal bytes.
func TestSegmentsHoldTheirRows(t *testing.T) {
	for _, n := range []int{0, 1, 64, 5000, 200_000} {
		rows := someRows(n)
		data, err := Encode(rows)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Encode(rows)
		if err != nil || !bytes.Equal(data, again) {
			t.Errorf("%d rows: two encodings of %d and %d bytes differ (%v)", n, len(data), len(again), err)
		}
		got := decoded(t, data, n)
		if len(got) != n {
			t.Fatalf("%d rows of %d", len(got), n)
		}
		for i := range rows {
			if got[i] != rows[i] {
				t.Fatalf("row %d is %+v, want %+v", i, got[i], rows[i])
			}
		}
		t.Logf("%d rows: %d bytes", n, len(data))
	}
}

func TestAnyRowSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Row {
			return Row{
				Object: rapid.StringN(1, 40, 200).Draw(t, "object"), LogReward: rapid.Float64Range(-1e300, 1e300).Draw(t, "log-reward"),
				Version: rapid.Int64Min(0).Draw(t, "version"), Time: rapid.Int64().Draw(t, "time"), Worker: rapid.String().Draw(t, "worker"),
				Session: rapid.StringN(1, 40, 200).Draw(t, "session"), Seq: rapid.Int64Min(1).Draw(t, "seq"),
			}
		}), 0, 50).Draw(t, "rows")
		data, err := Encode(rows)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		err = Decode(data, int64(len(rows)), func(r *Row) error {
			if *r != rows[i] {
				return fmt.Errorf("row %d is %+v, want %+v", i, *r, rows[i])
			}
			i++
			return nil
		})
		if err != nil || i != len(rows) {
			t.Fatalf("%d of %d rows: %v", i, len(rows), err)
		}
	})
}

// TestWrongCounts: the manifest says how many rows there are.
func TestWrongCounts(t *testing.T) {
	data, err := Encode(someRows(10))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{0, 9, 11, MaxRows + 1} {
		if err := Decode(data, n, func(*Row) error { return nil }); !errors.Is(err, ErrSegment) {
			t.Errorf("%d rows wanted of 10: %v", n, err)
		}
	}
	if _, err := Encode(make([]Row, MaxRows+1)); err == nil {
		t.Error("a segment over the cap was encoded")
	}
}

// FuzzDecode: whatever the bytes, Decode answers and does not allocate without
// bound.
func FuzzDecode(f *testing.F) {
	for _, n := range []int{0, 3, 100} {
		data, err := Encode(someRows(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, int64(n))
		f.Add(data[:len(data)/2], int64(n))
	}
	f.Fuzz(func(t *testing.T, data []byte, rows int64) {
		if err := Decode(data, rows, func(r *Row) error { return r.check() }); err != nil && !errors.Is(err, ErrSegment) {
			t.Fatal(err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	for _, n := range []int{64, 1000, 100_000} {
		rows := someRows(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, n := range []int{64, 100_000} {
		data, err := Encode(someRows(n))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Decode(data, int64(n), func(*Row) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
