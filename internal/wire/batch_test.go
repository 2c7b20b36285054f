package wire_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/wire"
)

func sameBits(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) })
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func requireSameBatch(t fataler, got, want *wire.Batch) {
	t.Helper()
	if got.FirstSeq != want.FirstSeq || got.Epoch != want.Epoch || got.Version != want.Version ||
		!slices.Equal(got.Lengths, want.Lengths) || !slices.Equal(got.Actions, want.Actions) ||
		!sameBits(got.LogReward, want.LogReward) || !sameBits(got.LogBehaviour, want.LogBehaviour) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// anyFloat draws every kind of float64, NaN payloads included.
var anyFloat = rapid.Map(rapid.Uint64(), math.Float64frombits)

func drawTrajectories(t *rapid.T) []wire.Trajectory {
	n := rapid.IntRange(1, 40).Draw(t, "n")
	first := rapid.Uint64Range(1, math.MaxUint64-100).Draw(t, "first")
	epoch, version := rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "version")
	most := rapid.SampledFrom([]int32{3, 255, 256, 65535, 65536, math.MaxInt32}).Draw(t, "most")
	out := make([]wire.Trajectory, n)
	for i := range out {
		out[i] = wire.Trajectory{
			Session: "s", Seq: first + uint64(i), Epoch: epoch, Version: version,
			Actions:      rapid.SliceOfN(rapid.Int32Range(0, most), 0, 200).Draw(t, "actions"),
			LogReward:    anyFloat.Draw(t, "log_reward"),
			LogBehaviour: anyFloat.Draw(t, "log_behaviour"),
		}
	}
	return out
}

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts := drawTrajectories(t)
		b, err := wire.NewBatch(ts)
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() != len(ts) || b.LastSeq() != ts[len(ts)-1].Seq {
			t.Fatalf("%d trajectories up to %d, want %d up to %d", b.Len(), b.LastSeq(), len(ts), ts[len(ts)-1].Seq)
		}
		data, err := wire.EncodeBatch([]byte("head"), b)
		if err != nil {
			t.Fatal(err)
		}
		if string(data[:4]) != "head" {
			t.Fatalf("what was in dst is gone")
		}
		back, err := wire.DecodeBatch(data[4:])
		if err != nil {
			t.Fatal(err)
		}
		requireSameBatch(t, back, b)
		rows, err := back.Trajectories("s")
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range rows {
			w := ts[i]
			if r.Session != w.Session || r.Seq != w.Seq || r.Epoch != w.Epoch || r.Version != w.Version || !slices.Equal(r.Actions, w.Actions) ||
				!sameBits([]float64{r.LogReward, r.LogBehaviour}, []float64{w.LogReward, w.LogBehaviour}) {
				t.Fatalf("row %d is %+v, want %+v", i, r, w)
			}
		}
	})
}

func TestTrajectoriesDoNotShareRoom(t *testing.T) {
	rows, err := goldenBatch().Trajectories("s")
	if err != nil {
		t.Fatal(err)
	}
	_ = append(rows[0].Actions, 99)
	if rows[2].Actions[0] != 4 {
		t.Error("appending to one trajectory wrote into another")
	}
}

func TestNewBatchRefuses(t *testing.T) {
	good := func() []wire.Trajectory {
		return []wire.Trajectory{{Session: "s", Seq: 1, Actions: []int32{0}}, {Session: "s", Seq: 2, Actions: []int32{1}}}
	}
	for name, c := range map[string]struct {
		spoil func([]wire.Trajectory) []wire.Trajectory
		is    error
	}{
		"none":         {func([]wire.Trajectory) []wire.Trajectory { return nil }, wire.ErrFrame},
		"two sessions": {func(ts []wire.Trajectory) []wire.Trajectory { ts[1].Session = "z"; return ts }, wire.ErrFrame},
		"two versions": {func(ts []wire.Trajectory) []wire.Trajectory { ts[1].Version = 1; return ts }, wire.ErrFrame},
		"two epochs":   {func(ts []wire.Trajectory) []wire.Trajectory { ts[1].Epoch = 1; return ts }, wire.ErrFrame},
		"a gap":        {func(ts []wire.Trajectory) []wire.Trajectory { ts[1].Seq = 3; return ts }, wire.ErrFrame},
		"sequence 0":   {func(ts []wire.Trajectory) []wire.Trajectory { ts[0].Seq, ts[1].Seq = 0, 1; return ts }, wire.ErrFrame},
		"too long": {func(ts []wire.Trajectory) []wire.Trajectory {
			ts[0].Actions = make([]int32, wire.MaxActions+1)
			return ts
		}, wire.ErrTooLarge},
		"sequence wraps": {func(ts []wire.Trajectory) []wire.Trajectory { ts[0].Seq, ts[1].Seq = math.MaxUint64, 0; return ts }, wire.ErrFrame},
	} {
		if _, err := wire.NewBatch(c.spoil(good())); !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v", name, err, c.is)
		}
	}
}

// TestCoordinatesTravel: actions that are points are the bits of float32 numbers,
// negative ones too.
func TestCoordinatesTravel(t *testing.T) {
	var actions []int32
	for _, v := range []float32{0, -0.5, 3, float32(math.Copysign(0, -1)), -math.MaxFloat32, math.SmallestNonzeroFloat32} {
		actions = append(actions, int32(math.Float32bits(v)))
	}
	b, err := wire.NewBatch([]wire.Trajectory{{Session: "s", Seq: 1, Actions: actions}, {Session: "s", Seq: 2, Actions: []int32{-1}}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := wire.EncodeBatch(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.DecodeBatch(data)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got.Actions, append(actions, -1)) {
		t.Errorf("%v arrived as %v", actions, got.Actions)
	}
}

func TestDecodeBatchRefuses(t *testing.T) {
	// The frame's own struct is private; this one has the same keys.
	type frame struct {
		FirstSeq     uint64 `msgpack:"q"`
		Count        uint32 `msgpack:"n"`
		Width        uint8  `msgpack:"w"`
		Lengths      []byte `msgpack:"l"`
		Actions      []byte `msgpack:"a"`
		LogReward    []byte `msgpack:"r"`
		LogBehaviour []byte `msgpack:"b"`
	}
	good := frame{FirstSeq: 1, Count: 1, Width: 1, Lengths: []byte{2}, Actions: []byte{0, 1}, LogReward: make([]byte, 8), LogBehaviour: make([]byte, 8)}
	for name, c := range map[string]struct {
		spoil func(*frame)
		is    error
	}{
		"as it should be":     {func(*frame) {}, nil},
		"count over the cap":  {func(f *frame) { f.Count = wire.MaxTrajectories + 1 }, wire.ErrTooLarge},
		"count without rows":  {func(f *frame) { f.Count = 2 }, wire.ErrFrame},
		"width 3":             {func(f *frame) { f.Width = 3 }, wire.ErrFrame},
		"half an action":      {func(f *frame) { f.Width = 4 }, wire.ErrFrame},
		"lengths too few":     {func(f *frame) { f.Lengths = nil }, wire.ErrFrame},
		"lengths too many":    {func(f *frame) { f.Lengths = []byte{2, 2} }, wire.ErrFrame},
		"length cut off":      {func(f *frame) { f.Lengths = []byte{0x80} }, wire.ErrFrame},
		"length over the cap": {func(f *frame) { f.Lengths = []byte{0xff, 0xff, 0xff, 0x7f} }, wire.ErrTooLarge},
		"sum too large":       {func(f *frame) { f.Lengths = []byte{3} }, wire.ErrFrame},
		"sum too small":       {func(f *frame) { f.Lengths = []byte{1} }, wire.ErrFrame},
		"rewards cut":         {func(f *frame) { f.LogReward = f.LogReward[:7] }, wire.ErrFrame},
		"behaviours too many": {func(f *frame) { f.LogBehaviour = make([]byte, 16) }, wire.ErrFrame},
		"sequence 0":          {func(f *frame) { f.FirstSeq = 0 }, wire.ErrFrame},
	} {
		f := good
		c.spoil(&f)
		data, err := wire.Marshal(&f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := wire.DecodeBatch(data); !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %v", name, err, c.is)
		}
	}
}

func TestEncodeBatchRefusesAndLeavesDst(t *testing.T) {
	b := goldenBatch()
	b.LogReward = b.LogReward[:1]
	dst := []byte("x")
	out, err := wire.EncodeBatch(dst, b)
	if !errors.Is(err, wire.ErrFrame) || string(out) != "x" {
		t.Errorf("got %q, %v", out, err)
	}
	b = &wire.Batch{FirstSeq: 1, Lengths: make([]int32, wire.MaxTrajectories+1)}
	if _, err := wire.EncodeBatch(nil, b); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if _, err := (&wire.Batch{FirstSeq: 1, Lengths: []int32{-1}, LogReward: []float64{0}, LogBehaviour: []float64{0}}).Trajectories("s"); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("got %v, want ErrFrame", err)
	}
}

func BenchmarkBatch(b *testing.B) {
	batch := &wire.Batch{FirstSeq: 1}
	for range 256 {
		batch.Lengths = append(batch.Lengths, 20)
		batch.Actions = append(batch.Actions, make([]int32, 20)...)
		batch.LogReward = append(batch.LogReward, 0)
		batch.LogBehaviour = append(batch.LogBehaviour, 0)
	}
	var buf []byte
	for b.Loop() {
		var err error
		if buf, err = wire.EncodeBatch(buf[:0], batch); err != nil {
			b.Fatal(err)
		}
		if _, err := wire.DecodeBatch(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}
