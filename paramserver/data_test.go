package paramserver_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
)

func dataSpec(t *testing.T, text string, share float64) *job.Spec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "objects.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := smallSpec()
	spec.Data = &job.Data{File: path, Share: share}
	return spec
}

const twoObjects = "object,weight\n\"(1,2)\",3\n\"( 3 , 0 )\",1\n"

func withData(t *testing.T, spec *job.Spec) *paramserver.Updater {
	t.Helper()
	u := newUpdater(t, spec)
	if err := u.OpenData(); err != nil {
		t.Fatal(err)
	}
	return u
}

// TestDataTakesItsShare of every batch, in proportion to the weights, with
// trajectories that end in the objects.
func TestDataTakesItsShare(t *testing.T) {
	for share, want := range map[float64]int{0.25: 4, 0.001: 1, 0.999: 15, 1: 16} {
		u := withData(t, dataSpec(t, twoObjects, share))
		if got := u.Fresh(); got != 16-want {
			t.Fatalf("share %v: %d fresh trajectories, want %d", share, got, 16-want)
		}
		counts := map[string]int{}
		ways := map[string]map[string]bool{}
		for range 40 {
			var fresh []wire.Trajectory
			if u.Fresh() > 0 {
				fresh = sampled(t, u, u.Fresh())
			}
			update := mustStep(t, u, fresh)
			if update.Fresh != 16-want || len(update.Batch) != 16 {
				t.Fatalf("share %v: %d of %d are fresh", share, update.Fresh, len(update.Batch))
			}
			one := u.Env.NewStates(1)
			for i, tr := range update.Batch[update.Fresh:] {
				if !math.IsNaN(tr.LogBehaviour) || update.In.Lag[update.Fresh+i] != 0 {
					t.Fatalf("a trajectory of data: %+v, lag %d", tr, update.In.Lag[update.Fresh+i])
				}
				one.Reset([]int32{0})
				for _, a := range tr.Actions {
					if err := one.Forward([]int32{0}, []int32{a}); err != nil {
						t.Fatal(err)
					}
				}
				reward := []float64{0}
				if err := one.LogReward([]int32{0}, reward); err != nil || reward[0] != tr.LogReward {
					t.Fatalf("%s has log-reward %v, want %v (%v)", one.Text(0), tr.LogReward, reward[0], err)
				}
				text := one.Text(0)
				counts[text]++
				if ways[text] == nil {
					ways[text] = map[string]bool{}
				}
				ways[text][string(fmtActions(tr.Actions))] = true
			}
		}
		if len(counts) > 2 || counts["(1,2)"] == 0 {
			t.Fatalf("share %v: drawn %v", share, counts)
		}
		if n := float64(40 * want); share == 1 && math.Abs(float64(counts["(1,2)"])/n-0.75) > 4*math.Sqrt(0.75*0.25/n) {
			t.Errorf("drawn %v of weights 3 and 1", counts)
		}
		if share == 1 && len(ways["(1,2)"]) != 3 {
			t.Errorf("%d ways to (1,2), there are 3", len(ways["(1,2)"]))
		}
		if got := u.Replayed(); got != uint64(40*want) {
			t.Errorf("share %v: %d counted as not fresh, want %d", share, got, 40*want)
		}
	}
}

func fmtActions(actions []int32) []byte {
	var out []byte
	for _, a := range actions {
		out = append(out, byte(a))
	}
	return out
}

// TestDataAndReplayShareABatch.
func TestDataAndReplayShareABatch(t *testing.T) {
	spec := dataSpec(t, twoObjects, 0.5)
	spec.Replay.Kind, spec.Replay.SamplesPerInsert = "fifo", 2
	u := withData(t, spec)
	for i, want := range []int{8, 4, 4} {
		if u.Fresh() != want {
			t.Fatalf("update %d: %d fresh, want %d", i, u.Fresh(), want)
		}
		if update := mustStep(t, u, sampled(t, u, want)); len(update.Batch) != 16 {
			t.Fatalf("update %d: a batch of %d", i, len(update.Batch))
		}
	}
}

// TestDataFollowsFromTheSeed: the same job gives the same bits.
func TestDataFollowsFromTheSeed(t *testing.T) {
	spec := dataSpec(t, twoObjects, 1)
	spec.Policy.Backward = "frozen"
	run := func(seed uint64) []float32 {
		s := *spec
		s.Seed = seed
		u := withData(t, &s)
		for range 10 {
			mustStep(t, u, nil)
		}
		return slices.Clone(u.Params())
	}
	if !slices.Equal(run(1), run(1)) {
		t.Error("the same seed gives other parameters")
	}
	if slices.Equal(run(1), run(2)) {
		t.Error("another seed gives the same parameters")
	}
}

// TestTrajectoryBalanceLearnsFromDataAlone: with full support the minimum is the
// target, whatever the data's weights are.
func TestTrajectoryBalanceLearnsFromDataAlone(t *testing.T) {
	spec := gridSpec(2, 4)
	spec.Policy.Hidden, spec.Policy.Backward = []int{32, 32}, "uniform"
	spec.Optimiser.LearningRate = schedule.Value{Kind: schedule.Cosine, From: 5e-3, To: 1e-4, Over: 500}
	spec.Train.Batch = 32
	var text strings.Builder
	for _, cell := range []string{"(0,0)", "(0,1)", "(0,2)", "(0,3)", "(1,0)", "(1,1)", "(1,2)", "(1,3)", "(2,0)", "(2,1)", "(2,2)", "(2,3)", "(3,0)", "(3,1)", "(3,2)", "(3,3)"} {
		text.WriteString(cell + "\n")
	}
	path := filepath.Join(t.TempDir(), "cells.txt")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	spec.Data = &job.Data{File: path, Share: 1}
	u := trainAny(t, spec, 500)
	if tv := exactTV(t, u); tv > 0.03 {
		t.Errorf("total variation %v", tv)
	}
	if u.Trajectories() != 0 {
		t.Errorf("%d trajectories were sampled", u.Trajectories())
	}
}

// TestFarDataIsRefused: a coordinate that no walk of the process could reach.
func TestFarDataIsRefused(t *testing.T) {
	spec := pointSpec() // sigma 1
	spec.Data = dataSpec(t, "object\n\"(999,-999)\"\n\"(0.5,1e20)\"\n", 0.5).Data
	err := newUpdater(t, spec).OpenData()
	var fault *datafile.Error
	if !errors.As(err, &fault) || fault.Line != 3 || !strings.Contains(err.Error(), `objects.csv:3: object: got "(0.5,1e20)"`) || !strings.Contains(err.Error(), "coordinate 1 is 1e+20; want -1000 to 1000, 1000 sigma") {
		t.Errorf("%v", err)
	}
	spec.Data = dataSpec(t, "object\n\"(999,-999)\"\n", 0.5).Data
	if err := newUpdater(t, spec).OpenData(); err != nil {
		t.Error(err)
	}
}

// TestBadDataIsNamed, by file, line and field.
func TestBadDataIsNamed(t *testing.T) {
	for text, says := range map[string]string{
		"object\n\"(1,2)\"\n\"(1,9)\"\n":                      `objects.csv:3: object: got "(1,9)"; want an object of the environment (`,
		"object,weight\n\"(1,2)\",x\n":                        `objects.csv:2: weight: got "x"; want`,
		"object,weight\n\"(1,2)\",1e308\n\"(1,2)\",1.7e308\n": `objects.csv: weight: want weights whose sum is finite`,
	} {
		u := newUpdater(t, dataSpec(t, text, 1))
		err := u.OpenData()
		var fault *datafile.Error
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, which does not say %q", text, err, says)
		}
		if _, err := u.Step(nil, nil); err == nil {
			t.Error("a step without data")
		}
	}
}
