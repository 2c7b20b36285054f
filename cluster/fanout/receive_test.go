package fanout

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"runtime"
	"testing"

	"google.golang.org/grpc"
	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/wire"
)

// wireStream keeps what is sent on it, as the receiver will read it.
type wireStream struct {
	grpc.ServerStreamingServer[wire.FollowReply]
	ctx context.Context
	got []*wire.FollowReply
}

func (s *wireStream) Context() context.Context { return s.ctx }

func (s *wireStream) Send(m *wire.FollowReply) error {
	data, err := wire.Marshal(m)
	if err != nil {
		return err
	}
	back := new(wire.FollowReply)
	if err := wire.Unmarshal(data, back); err != nil {
		return err
	}
	s.got = append(s.got, back)
	return nil
}

// still is a Source that has one snapshot.
type still struct{ s *Snapshot }

func (s still) Offer(context.Context, string) (Offer, error) {
	return Offer{Snapshot: s.s, Route: []string{"r"}}, nil
}

// sent returns the messages that bring a snapshot, which is a final one.
func sent(t *testing.T, s *Snapshot, req *wire.FollowRequest) []*wire.FollowReply {
	t.Helper()
	stream := &wireStream{ctx: t.Context()}
	if err := Send(still{s}, new(Egress), req, stream); err != nil {
		t.Fatal(err)
	}
	return stream.got
}

// TestSnapshotsOfAnySizeArrive, in parts where they must.
func TestSnapshotsOfAnySizeArrive(t *testing.T) {
	for _, size := range []int{4, wire.MaxPart - 4, wire.MaxPart, wire.MaxPart + 4, 3*wire.MaxPart + 512} {
		want := version(t, 3, size, true)
		got := sent(t, want, &wire.FollowRequest{Job: grid, Any: true, Kind: wire.PeerWorker})
		if parts := (size + wire.MaxPart - 1) / wire.MaxPart; len(got) != parts {
			t.Errorf("%d bytes came in %d messages, want %d", size, len(got), parts)
		}
		r := &receiver{job: grid}
		var s *Snapshot
		for i, m := range got {
			var err error
			if s, err = r.take(m); err != nil || (s != nil) != (i == len(got)-1) {
				t.Fatalf("message %d of %d: %v, %v", i, len(got), s, err)
			}
		}
		if !bytes.Equal(s.Data, want.Data) || !s.Head.Final {
			t.Errorf("%d bytes: another snapshot arrived", size)
		}
		params, err := s.Params()
		if err != nil || len(params) != size/4 {
			t.Fatalf("%d parameters, %v", len(params), err)
		}
		// Who has the bytes already gets the head alone.
		again := sent(t, want, &wire.FollowRequest{Job: grid, After: want.Position(), Have: want.Head.Hash, Kind: wire.PeerWorker})
		if len(again) != 1 || !again[0].Head.Same || len(again[0].Part) != 0 {
			t.Errorf("the bytes are sent again")
		} else if s, err := r.take(again[0]); err != nil || !bytes.Equal(s.Data, want.Data) {
			t.Errorf("the head alone: %v", err)
		}
	}
}

func TestBF16IsWhatWasRounded(t *testing.T) {
	raw := wire.EncodeFloats(nil, []float32{1, -2.00390625, 3e38, math.MaxFloat32})
	sum := sha256.Sum256(raw)
	s, err := NewSnapshot(wire.Head{Job: grid, Encoding: wire.BF16, Final: true}, raw, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	if s.Head.Size != 8 || bytes.Equal(s.Head.Hash, sum[:]) {
		t.Errorf("head %+v; want 8 bytes under a hash of their own", s.Head)
	}
	r := &receiver{job: grid}
	got, err := r.take(sent(t, s, &wire.FollowRequest{Job: grid, Any: true, Kind: wire.PeerClient})[0])
	if err != nil {
		t.Fatal(err)
	}
	params, err := got.Params()
	if err != nil || len(params) != 4 || params[0] != 1 || params[1] != -2 || math.IsInf(float64(params[3]), 0) {
		t.Errorf("decoded to %v, %v", params, err)
	}
}

// TestReceiverRefuses what does not add up.
func TestReceiverRefuses(t *testing.T) {
	good := func() *wire.FollowReply {
		return sent(t, version(t, 1, 8, true), &wire.FollowRequest{Job: grid, Any: true, Kind: wire.PeerWorker})[0]
	}
	for name, c := range map[string]struct {
		change func(*wire.FollowReply)
		want   error
	}{
		"a flipped bit":      {func(m *wire.FollowReply) { m.Part[3] ^= 1 }, ErrWrongBytes},
		"another job":        {func(m *wire.FollowReply) { m.Head.Job = "other" }, wire.ErrFrame},
		"a short part":       {func(m *wire.FollowReply) { m.Part = m.Part[:4] }, wire.ErrFrame},
		"a long part":        {func(m *wire.FollowReply) { m.Part = append(m.Part, 0) }, wire.ErrFrame},
		"no head":            {func(m *wire.FollowReply) { m.Head = nil }, wire.ErrFrame},
		"a huge size":        {func(m *wire.FollowReply) { m.Head.Size = wire.MaxParameters + 4 }, wire.ErrTooLarge},
		"a negative size":    {func(m *wire.FollowReply) { m.Head.Size = -4 }, wire.ErrFrame},
		"an odd size":        {func(m *wire.FollowReply) { m.Head.Size = 7 }, wire.ErrFrame},
		"no hash":            {func(m *wire.FollowReply) { m.Head.Hash = nil }, wire.ErrFrame},
		"another encoding":   {func(m *wire.FollowReply) { m.Head.Encoding = "zip" }, wire.ErrFrame},
		"bytes never sent":   {func(m *wire.FollowReply) { m.Head.Same, m.Part = true, nil }, wire.ErrFrame},
		"a file":             {func(m *wire.FollowReply) { m.Head.File, m.Part = "x", nil }, wire.ErrFrame},
		"an endless route":   {func(m *wire.FollowReply) { m.Route = make([]string, wire.MaxRoute+1) }, wire.ErrTooLarge},
		"bytes beside names": {func(m *wire.FollowReply) { m.Head.Same = true }, wire.ErrFrame},
	} {
		m := good()
		c.change(m)
		if s, err := (&receiver{job: grid}).take(m); !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: %v, %v; want %v", name, s, err, c.want)
		}
	}
}

// FuzzReceiver feeds two messages of anybody's making to a receiver: it answers
// with an error of a known kind or a snapshot that is what its hash says, and
// allocates in proportion to what came.
func FuzzReceiver(f *testing.F) {
	data := []byte{0, 0, 128, 63}
	sum := sha256.Sum256(data)
	head := wire.Head{Job: grid, Encoding: wire.Float32, Hash: sum[:], Size: 4}
	for _, m := range []*wire.FollowReply{
		{Route: []string{"r", "g"}},
		{Head: &head, Part: data},
		{Head: &wire.Head{Job: grid, Encoding: wire.BF16, Hash: sum[:], Size: wire.MaxParameters}, Part: data},
		{Part: data},
	} {
		raw, err := wire.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, raw)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		r := &receiver{job: grid}
		for _, raw := range [][]byte{a, b} {
			m := new(wire.FollowReply)
			if wire.Unmarshal(raw, m) != nil {
				continue
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			s, err := r.take(m)
			runtime.ReadMemStats(&after)
			if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(1<<16+4*(len(a)+len(b))) {
				t.Fatalf("%d bytes allocated %d", len(a)+len(b), spent)
			}
			switch {
			case err != nil:
				if !errors.Is(err, wire.ErrFrame) && !errors.Is(err, wire.ErrTooLarge) && !errors.Is(err, ErrWrongBytes) {
					t.Fatal(err)
				}
				return
			case s != nil:
				if sum := sha256.Sum256(s.Data); s.Head.Size > 0 && !bytes.Equal(sum[:], s.Head.Hash) {
					t.Fatal("a snapshot that is not what its hash says")
				}
				_, _ = s.Params() // of any bits: no panic
			}
		}
	})
}

// TestLateness: a parent counts as late only while something announced is
// missing, and for patience after that began.
func TestLateness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lateness
		now := epoch
		behind := now // since when the newest announced version has been missing, at the earliest
		var has, newest uint64
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			now = now.Add(rapid.Custom(duration).Draw(t, "later"))
			if rapid.Bool().Draw(t, "announce") {
				if has >= newest {
					behind = now
				}
				newest = max(newest, uint64(rapid.IntRange(1, 50).Draw(t, "announced")))
				l.announced(wire.Position{Version: newest}, now)
			} else {
				has = max(has, uint64(rapid.IntRange(1, 50).Draw(t, "came")))
				l.adopt(wire.Position{Version: has}, now)
			}
			at, waits := l.deadline()
			if waits != (has < newest) {
				t.Fatalf("waits: %v with version %d of %d", waits, has, newest)
			}
			if waits && at.Before(behind.Add(leastPatience)) {
				t.Fatalf("late %v after it fell behind", at.Sub(behind))
			}
			if waits && at.Sub(now) > mostPatience {
				t.Fatalf("waits for %v", at.Sub(now))
			}
		}
	})
}
