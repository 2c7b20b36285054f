package paramserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/metrics"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/paramserver/replay"
)

var replayKinds = []string{"fifo", "uniform", "reward", "mixture", "diverse"}

func replaySpec(kind string, ratio float64) *job.Spec {
	spec := smallSpec()
	spec.Replay = job.Default().Replay
	spec.Replay.Kind, spec.Replay.SamplesPerInsert, spec.Replay.Bytes = kind, ratio, 64<<10
	return spec
}

// freshStep samples what the next update wants and takes the step.
func freshStep(t testing.TB, u *paramserver.Updater, feed *byStep) *paramserver.Update {
	t.Helper()
	batch, err := feed.at(u.Fresh(), u.Params(), u.Version(), u.Trajectories())
	if err != nil {
		t.Fatal(err)
	}
	return mustStep(t, u, batch)
}

// TestReplayRatioIsExact: of every batch but the first, as many trajectories are
// fresh as samples_per_insert says, and the counters say so.
func TestReplayRatioIsExact(t *testing.T) {
	for _, c := range []struct {
		ratio float64
		fresh int
	}{{1, 16}, {2, 8}, {3, 5}, {16, 1}, {1000, 1}} {
		for _, kind := range replayKinds {
			u := newUpdater(t, replaySpec(kind, c.ratio))
			feed := newByStep(t, u.Spec)
			trained, replayed := uint64(0), uint64(0)
			for i := range 6 {
				up := freshStep(t, u, feed)
				want := c.fresh
				if i == 0 {
					want = 16
				}
				if up.Fresh != want || len(up.Batch) != 16 || up.Refused != 0 {
					t.Fatalf("%s ×%v: update %d has %d fresh of %d, %d refused; want %d of 16", kind, c.ratio, i+1, up.Fresh, len(up.Batch), up.Refused, want)
				}
				trained += uint64(up.Fresh)
				replayed += uint64(16 - up.Fresh)
				for k, tr := range up.Batch {
					if old := k >= up.Fresh; math.IsNaN(tr.LogBehaviour) != old {
						t.Errorf("%s: trajectory %d of a batch with %d fresh has log behaviour %v", kind, k, up.Fresh, tr.LogBehaviour)
					}
				}
			}
			if u.Trajectories() != trained || u.Replayed() != replayed {
				t.Errorf("%s: counted %d and %d, want %d and %d", kind, u.Trajectories(), u.Replayed(), trained, replayed)
			}
		}
	}
}

// TestDiverseOfOneStep: the objects of one-step environments, which share their only
// feature, are kept beside each other.
func TestDiverseOfOneStep(t *testing.T) {
	for name, env := range map[string]job.Env{
		"categorical": {Name: "categorical"},
		"mixture":     {Name: "mixture", Params: map[string]any{"dim": 2, "cells": 4}},
	} {
		spec := replaySpec("diverse", 2)
		spec.Env, spec.Replay.MinDistance = env, 0.5
		u := newUpdater(t, spec)
		feed := newByStep(t, u.Spec)
		seen, s := map[string]bool{}, u.Env.NewStates(1)
		for range 6 {
			for _, tr := range freshStep(t, u, feed).Batch {
				s.Reset([]int32{0})
				if err := s.Forward([]int32{0}, tr.Actions); err != nil {
					t.Fatal(err)
				}
				seen[s.Text(0)] = true
			}
		}
		if n := u.Buffer().Len(); n != min(len(seen), spec.Replay.TopK) || n < 2 {
			t.Errorf("%s: %d kept of %d distinct objects", name, n, len(seen))
		}
	}
}

// TestBackwardSamplingIsExact: objects drawn from the target, given trajectories
// by a fixed P_B, are trajectories of the target's flow: R(x)/Z · P_B(τ|x).
func TestBackwardSamplingIsExact(t *testing.T) {
	for _, backward := range []string{"uniform", "frozen"} {
		spec := gridSpec(2, 3)
		spec.Policy.Hidden, spec.Policy.Backward, spec.Seed = []int{8}, backward, 5
		spec.Train.Batch = 4097
		spec.Replay = job.Default().Replay
		spec.Replay.Kind, spec.Replay.SamplesPerInsert, spec.Replay.Bytes = "reward", 1<<20, 1<<20
		u := newUpdater(t, spec)
		// Every object once: reward-prioritised draws are then exact draws of the target.
		all := everyTrajectory(u.Env)
		objects := map[string]bool{}
		var once []wire.Trajectory
		for _, tr := range all {
			if o := tr.Session; !objects[o] {
				objects[o] = true
				once = append(once, tr)
			}
		}
		mustStep(t, u, once)
		target, z := map[string]float64{}, 0.0
		logPB := map[string]float64{}
		for i, tr := range all {
			key := fmt.Sprint(tr.Actions)
			logPB[key] = scorePB(t, u, all[i])
			target[key] = math.Exp(tr.LogReward + logPB[key])
			z += target[key]
		}
		counts, total := map[string]float64{}, 0.0
		for range 10 {
			up := mustStep(t, u, slices.Clone(once[:1]))
			for _, tr := range up.Batch[up.Fresh:] {
				counts[fmt.Sprint(tr.Actions)]++
				total++
			}
		}
		x2, cells := 0.0, 0
		for key, p := range target {
			want := total * p / z
			x2 += (counts[key] - want) * (counts[key] - want) / want
			cells++
			delete(counts, key)
		}
		if len(counts) > 0 {
			t.Errorf("%s: sampled what is no trajectory: %v", backward, counts)
		}
		if df := float64(cells - 1); x2 > df+4.5*math.Sqrt(2*df) {
			t.Errorf("%s: chi-square %.1f over %d trajectories", backward, x2, cells)
		}
	}
}

// everyTrajectory lists all of an environment's; Session holds the object.
func everyTrajectory(env envs.Env) (out []wire.Trajectory) {
	spec := env.Spec()
	var walk func(actions []int32)
	walk = func(actions []int32) {
		s := env.NewStates(1)
		for _, a := range actions {
			if err := s.Forward([]int32{0}, []int32{a}); err != nil {
				panic(err)
			}
		}
		if s.Terminal(0) {
			r := make([]float64, 1)
			if err := s.LogReward([]int32{0}, r); err != nil {
				panic(err)
			}
			out = append(out, wire.Trajectory{Session: s.Text(0), Actions: slices.Clone(actions), LogReward: r[0], LogBehaviour: math.NaN()})
			return
		}
		mask := make([]bool, spec.Actions)
		s.ForwardMask(0, mask)
		for a, ok := range mask {
			if ok {
				walk(append(actions, int32(a)))
			}
		}
	}
	walk(nil)
	return out
}

// scorePB is log P_B of a trajectory at the Updater's initial parameters, which a
// fixed P_B keeps.
func scorePB(t *testing.T, u *paramserver.Updater, tr wire.Trajectory) float64 {
	t.Helper()
	spec := *u.Spec
	spec.Replay.Kind, spec.Train.Batch = "none", 1
	v := newUpdater(t, &spec)
	return mustStep(t, v, []wire.Trajectory{tr}).In.LogPB[0]
}

// TestReplayLearns: with one fresh trajectory in sixteen the small grid is
// learned, with every kind whose buffer covers the objects.
func TestReplayLearns(t *testing.T) {
	for _, kind := range []string{"fifo", "uniform", "mixture"} {
		spec := replaySpec(kind, 16)
		spec.Policy.Hidden = []int{32, 32}
		spec.Sampling.Epsilon = schedule.Const(0.1)
		spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 5e-3, To: 1e-5, Over: 3000}
		spec.Train.Updates = 3000
		u := newUpdater(t, spec)
		feed := newByStep(t, spec)
		for range spec.Train.Updates {
			freshStep(t, u, feed)
		}
		if tv := totalVariation(t, u); tv > 0.05 {
			t.Errorf("%s: TV %.3f after %d fresh and %d replayed trajectories", kind, tv, u.Trajectories(), u.Replayed())
		}
	}
}

func totalVariation(t *testing.T, u *paramserver.Updater) float64 {
	t.Helper()
	e, err := metrics.NewEvaluator(u.Env, 1)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := e.Model(u.Model.NewTape(), u.Params()[:len(u.Params())-1])
	if err != nil {
		t.Fatal(err)
	}
	return rep.Distances.TV
}

// TestSmallBuffersTravel with the state: a restored Updater takes the very same
// steps. Large ones are empty then, and filled from the best objects or the
// archive.
func TestSmallBuffersTravel(t *testing.T) {
	for _, kind := range replayKinds {
		for _, large := range []bool{false, true} {
			spec := replaySpec(kind, 4)
			if large {
				spec.Replay.Bytes = 1 << 20
			}
			u := newUpdater(t, spec)
			feed := newByStep(t, spec)
			for range 20 {
				freshStep(t, u, feed)
			}
			params, private, err := u.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			v := newUpdater(t, spec)
			if err := v.Restore(u.Version(), params, private); err != nil {
				t.Fatal(err)
			}
			if v.Trajectories() != u.Trajectories() || v.Replayed() != u.Replayed() {
				t.Errorf("%s: counters %d and %d", kind, v.Trajectories(), v.Replayed())
			}
			got, err := v.Refill(t.Context(), nil)
			if err != nil || got.Needed != large {
				t.Errorf("%s, large %v: %+v, %v", kind, large, got, err)
			}
			if large {
				if got.Objects == 0 || v.Buffer().Len() == 0 || got.From != "best" {
					t.Errorf("%s: %+v, %d in the buffer", kind, got, v.Buffer().Len())
				}
				if again, _ := v.Refill(t.Context(), nil); again.Needed {
					t.Errorf("%s: filled twice", kind)
				}
				continue
			}
			for range 5 {
				freshStep(t, u, feed)
				freshStep(t, v, feed)
			}
			if !bytes.Equal(state(t, u), state(t, v)) {
				t.Errorf("%s: the restored one went another way", kind)
			}
		}
	}
}

type source struct {
	objects []paramserver.Object // newest first
	fault   error
}

func (s source) Newest(_ context.Context, _ int64, yield func(paramserver.Object) bool) error {
	for _, o := range s.objects {
		if !yield(o) {
			return nil
		}
	}
	return s.fault
}

// TestRefillFromAnArchive keeps the newest, in their order, leaves out what does
// not parse, and says what an error cut off.
func TestRefillFromAnArchive(t *testing.T) {
	spec := replaySpec("fifo", 4)
	spec.Replay.Bytes = 1 << 20
	u := newUpdater(t, spec)
	for feed := newByStep(t, spec); u.Version() < 3; {
		freshStep(t, u, feed)
	}
	params, private, err := u.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	v := newUpdater(t, spec)
	if err := v.Restore(3, params, private); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the bucket is gone")
	got, err := v.Refill(t.Context(), source{[]paramserver.Object{{Text: "(1,2)", Version: 3}, {Text: "nonsense"}, {Text: "(0,3)", Version: 1}}, gone})
	if !errors.Is(err, gone) || got != (paramserver.Refilled{Needed: true, From: "archive", Objects: 2, Unread: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	items := v.Buffer().Items()
	texts := []string{}
	for _, it := range items {
		texts = append(texts, it.Text)
	}
	if !slices.Equal(texts, []string{"(0,3)", "(1,2)"}) || items[1].Insert > v.Trajectories() {
		t.Errorf("%v, after %d trajectories", items, v.Trajectories())
	}
	// A state of a build without replay, or of no replay, is no error.
	spec.Replay.Kind = "none"
	w := newUpdater(t, spec)
	if err := w.Restore(3, params, private); err != nil {
		t.Error(err)
	}
}

// TestNonsenseBesideReplay: a fresh trajectory that is refused is refused, the
// replayed ones never; without a fresh one there is no update.
func TestNonsenseBesideReplay(t *testing.T) {
	u := newUpdater(t, replaySpec("fifo", 4))
	feed := newByStep(t, u.Spec)
	freshStep(t, u, feed)
	batch := func() []wire.Trajectory {
		b, err := feed.at(4, u.Params(), u.Version(), u.Trajectories())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := batch()
	b[1].Actions = []int32{77}
	refused := 0
	up, err := u.Step(b, func(tr *wire.Trajectory, err error) {
		refused++
		if !strings.Contains(err.Error(), "77") {
			t.Error(err)
		}
	})
	if err != nil || up.Fresh != 3 || len(up.Batch) != 15 || refused != 1 || up.Refused != 1 {
		t.Fatalf("%+v, %d refused, %v", up, refused, err)
	}
	b = batch()
	for i := range b {
		b[i].Actions = []int32{77}
	}
	before := state(t, u)
	if _, err := u.Step(b, func(*wire.Trajectory, error) {}); !errors.Is(err, paramserver.ErrNoBatch) {
		t.Errorf("a batch of nonsense: %v", err)
	}
	if !bytes.Equal(before, state(t, u)) {
		t.Error("it changed the state")
	}
}

var _ replay.Buffer // the kinds are tested there
