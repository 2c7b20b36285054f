package paramserver_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/fsm"
)

// modalSpec is a small network on a grid that has modes.
func modalSpec() *job.Spec {
	spec := gridSpec(2, 8)
	spec.Policy.Hidden = []int{8, 8}
	return spec
}

// TestRestoredUpdaterGoesOnWithTheSameBits, whatever it was when it restored.
func TestRestoredUpdaterGoesOnWithTheSameBits(t *testing.T) {
	for name, change := range map[string]func(*job.Spec){
		"adam":    func(*job.Spec) {},
		"sgd":     func(s *job.Spec) { s.Optimiser.Kind, s.Optimiser.Momentum = "sgd", 0.9 },
		"running": func(s *job.Spec) { s.Loss.Normaliser = "running" },
		"frozen":  func(s *job.Spec) { s.Policy.Backward = "frozen" },
		"annealed": func(s *job.Spec) {
			s.Loss.Divergence = "alpha"
			s.Loss.Parameter = &schedule.Value{Kind: schedule.Linear, From: 0.75, To: 1.2, Over: 30}
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := modalSpec()
			change(spec)
			advance := func(u *paramserver.Updater, n int) {
				roller := newRoller(t, spec)
				for range n {
					batch, err := roller.SampleN(16, u.Params(), u.Version(), u.Trajectories()+1, nil)
					if err != nil {
						t.Fatal(err)
					}
					mustStep(t, u, batch)
				}
			}
			u := newUpdater(t, spec)
			advance(u, 20)
			params, private, err := u.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			v := newUpdater(t, spec)
			advance(v, 7)
			if err := v.Restore(u.Version(), params, private); err != nil {
				t.Fatal(err)
			}
			if v.Version() != 20 || v.Trajectories() != u.Trajectories() {
				t.Errorf("restored at version %d with %d trajectories", v.Version(), v.Trajectories())
			}
			advance(u, 15)
			advance(v, 15)
			if !bytes.Equal(state(t, u), state(t, v)) {
				t.Error("the restored updater goes on with other bits")
			}
			if a, _ := u.ModesFound(); a == 0 {
				t.Error("no mode found in 320 trajectories")
			} else if b, _ := v.ModesFound(); a != b {
				t.Errorf("%d modes found after a restore, want %d", b, a)
			}
		})
	}
}

// TestForeignStateIsRefused with ErrState, and changes nothing.
func TestForeignStateIsRefused(t *testing.T) {
	spec := modalSpec()
	spec.Loss.Normaliser = "running"
	source := train(t, spec, 5)
	params, private, err := source.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(change func(map[string]any)) []byte {
		var fields map[string]any
		if err := msgpack.Unmarshal(private, &fields); err != nil {
			t.Fatal(err)
		}
		change(fields)
		out, err := msgpack.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	other := train(t, gridSpec(2, 8), 1)
	otherParams, otherPrivate, err := other.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	nan := wire.EncodeFloats(nil, slices.Repeat([]float32{float32(math.NaN())}, len(params)/4))
	for name, c := range map[string]struct{ params, private []byte }{
		"another network":           {otherParams, otherPrivate},
		"another network's moments": {params, otherPrivate},
		"half a float":              {params[:len(params)-1], private},
		"NaN":                       {nan, private},
		"nothing":                   {nil, nil},
		"garbage":                   {params, []byte("garbage")},
		"cut off":                   {params, private[:len(private)/2]},
		"newer format":              {params, edit(func(f map[string]any) { f["f"] = 99 })},
		"NaN moments":               {params, edit(func(f map[string]any) { f["m"] = nan })},
		"other normaliser":          {params, edit(func(f map[string]any) { f["n"] = []float64{} })},
		"NaN normaliser":            {params, edit(func(f map[string]any) { f["n"] = []float64{math.NaN(), 1} })},
		"no modes":                  {params, edit(func(f map[string]any) { f["o"] = nil })},
		"best objects unsorted": {params, edit(func(f map[string]any) {
			f["b"] = []fsm.Object{{Text: "a", LogReward: 1}, {Text: "b", LogReward: 2}}
		})},
	} {
		u := train(t, spec, 3)
		before := state(t, u)
		if err := u.Restore(5, c.params, c.private); !errors.Is(err, paramserver.ErrState) {
			t.Errorf("%s: got %v, want ErrState", name, err)
		}
		if u.Version() != 3 || !bytes.Equal(before, state(t, u)) {
			t.Errorf("%s: the refused state has changed something", name)
		}
	}
}

// TestBestObjectsSurviveARestart: they travel with the state, are not sent
// again, and what is found later takes its place among them.
func TestBestObjectsSurviveARestart(t *testing.T) {
	spec := smallSpec()
	u := train(t, spec, 3)
	u.TakeBest()
	params, private, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v := newUpdater(t, spec)
	if err := v.Restore(u.Version(), params, private); err != nil {
		t.Fatal(err)
	}
	if len(u.Best()) < 5 || !slices.Equal(u.Best(), v.Best()) {
		t.Fatalf("%v came back as %v", u.Best(), v.Best())
	}
	if sent := v.TakeBest(); len(sent) != 0 {
		t.Errorf("sent again: %v", sent)
	}
	batch := sampled(t, u, 64)
	mustStep(t, u, batch)
	mustStep(t, v, batch)
	if !slices.Equal(u.Best(), v.Best()) || !slices.Equal(u.TakeBest(), v.TakeBest()) {
		t.Errorf("after the same update: %v and %v", u.Best(), v.Best())
	}
	// What an older build wrote says nothing of them.
	var fields map[string]any
	if err := msgpack.Unmarshal(private, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "b")
	if private, err = msgpack.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if err := v.Restore(3, params, private); err != nil || len(v.Best()) != 0 {
		t.Errorf("an older state: %v, best %v", err, v.Best())
	}
}

// TestTheLargestModelFitsOneCommit, with its moments, the marks of many workers
// and texts up to their cap.
func TestTheLargestModelFitsOneCommit(t *testing.T) {
	const n = (fsm.MaxState - 8<<20) / 12 // with two moments
	private, err := msgpack.Marshal(map[string]any{
		"f": 1, "t": uint64(math.MaxUint64), "s": uint64(math.MaxUint64),
		"m": make([]byte, 4*n), "v": make([]byte, 4*n), "n": []float64{1, 1}, "o": make([]byte, 1<<16),
		"b": slices.Repeat([]fsm.Object{{Text: strings.Repeat("x", 655), LogReward: 1.5}}, 100),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &fsm.Commit{
		Job: "grid", Version: math.MaxUint64, Params: make([]byte, 4*n), Private: private, Stamp: math.MaxInt64,
		Marks: slices.Repeat([]fsm.Mark{{Session: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Seq: math.MaxUint64, Admitted: math.MaxUint64, Stale: 1 << 40, Refused: 1 << 40}}, 10_000),
		Best:  slices.Repeat([]fsm.Object{{Text: strings.Repeat("x", 655), LogReward: 1.5}}, 100),
	}
	if _, err := fsm.Encode(c); err != nil {
		t.Error(err)
	}
}
