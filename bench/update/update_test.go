// Package update times whole updates: sampling, loss and optimiser.
//
//	go test ./bench/update -bench . -benchmem
package update

import (
	"fmt"
	"testing"

	"github.com/driftmesh/driftmesh/internal/cores"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// spec is trajectory balance on a hypergrid, as the peers are compared with it.
func spec(dim, height, batch int) *job.Spec {
	s := job.Default()
	s.Name = "bench"
	s.Env = job.Env{Name: "hypergrid", Params: map[string]any{"dim": dim, "height": height, "r0": 0.1}}
	s.Policy.Hidden = []int{256, 256}
	s.Train.Batch = batch
	s.Train.Updates = 1 << 40
	s.Optimiser.LearningRate = schedule.Const(1e-3)
	s.Optimiser.LogZRate = schedule.Const(0.1)
	return s
}

// trainer makes on-policy updates.
type trainer struct {
	u      *paramserver.Updater
	roller *sampler.Roller
	batch  []wire.Trajectory
}

func newTrainer(tb testing.TB, s *job.Spec) *trainer {
	u, err := paramserver.NewUpdater(s)
	if err != nil {
		tb.Fatal(err)
	}
	roller, err := sampler.NewRoller(s, 0)
	if err != nil {
		tb.Fatal(err)
	}
	roller.Rehearse(u.Tape())
	return &trainer{u: u, roller: roller}
}

func (t *trainer) sample(tb testing.TB, n int) {
	var err error
	if t.batch, err = t.roller.SampleN(n, t.u.Params(), t.u.Version(), t.u.Trajectories()+1, t.batch); err != nil {
		tb.Fatal(err)
	}
}

func (t *trainer) update(tb testing.TB, n int) {
	t.sample(tb, n)
	t.u.Rehearsed(t.roller.Pass())
	if _, err := t.u.Step(t.batch, nil); err != nil {
		tb.Fatal(err)
	}
}

func (t *trainer) meanLength() float64 {
	total := 0
	for i := range t.batch {
		total += len(t.batch[i].Actions)
	}
	return float64(total) / float64(len(t.batch))
}

var cells = []struct{ dim, height, batch int }{
	{2, 8, 16}, {2, 8, 512}, {4, 8, 16}, {4, 8, 512}, {4, 16, 16}, {4, 16, 128}, {4, 16, 512}, {4, 32, 16}, {4, 32, 512},
}

// BenchmarkUpdate is a TB update from the start, and after 2,000 updates with
// batches of 16, when trajectories are longer.
func BenchmarkUpdate(b *testing.B) {
	for _, trained := range []int{0, 2000} {
		for _, c := range cells {
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("%dD-h%d/batch%d/after%d/threads%d", c.dim, c.height, c.batch, trained, threads), func(b *testing.B) {
					team := cores.New(threads)
					defer team.Close()
					t := newTrainer(b, spec(c.dim, c.height, c.batch))
					t.u.Share(team)
					for range trained {
						t.update(b, 16)
					}
					t.update(b, c.batch)
					b.ReportAllocs()
					for b.Loop() {
						t.update(b, c.batch)
					}
					b.ReportMetric(t.meanLength(), "steps/trajectory")
				})
			}
		}
	}
}

// BenchmarkSample is sampling alone.
func BenchmarkSample(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("4D-h16/batch512/threads%d", threads), func(b *testing.B) {
			team := cores.New(threads)
			defer team.Close()
			t := newTrainer(b, spec(4, 16, 512))
			alone, err := sampler.NewRoller(spec(4, 16, 512), 0)
			if err != nil {
				b.Fatal(err)
			}
			alone.Share(team)
			t.roller = alone
			b.ReportAllocs()
			for b.Loop() {
				t.sample(b, 512)
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "trajectories/s")
		})
	}
}

// BenchmarkManyActions is an update where the output layer is most of the network: 120
// bits in 15 words of 8, in any order, which is 3,840 actions.
func BenchmarkManyActions(b *testing.B) {
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("bits120/batch16/threads%d", threads), func(b *testing.B) {
			team := cores.New(threads)
			defer team.Close()
			s := spec(2, 8, 16)
			s.Env = job.Env{Name: "bitseq", Params: map[string]any{"n": 120, "k": 8, "beta": 3}}
			s.Policy.Backward = "uniform"
			t := newTrainer(b, s)
			t.u.Share(team)
			t.update(b, 16)
			b.ReportAllocs()
			for b.Loop() {
				t.update(b, 16)
			}
		})
	}
}
