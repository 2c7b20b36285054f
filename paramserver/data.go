package paramserver

import (
	"fmt"
	"math"
	"sort"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/rng"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver/replay"
)

// dataSource draws objects of a file, in proportion to their weights, and gives
// each a new trajectory by sampling backward with the present P_B. What an update
// draws follows from the seed and its number.
type dataSource struct {
	objects  []replay.Item
	until    []float64 // cumulative weights
	resample *resampler

	items []replay.Item
	drawn []wire.Trajectory // owns its actions
	batch []wire.Trajectory
}

// dataInMesh refuses a job with a data file.
func dataInMesh(spec *job.Spec) error {
	if spec.Data == nil {
		return nil
	}
	return fielderr.New("data.file", spec.Data.File, "no data file in a mesh, whose nodes do not share files; driftmesh train reads it")
}

// fromData is how many trajectories of a batch come from the job's data.
func (u *Updater) fromData() int {
	d := u.Spec.Data
	if d == nil {
		return 0
	}
	n := max(1, int(math.Round(d.Share*float64(u.Spec.Train.Batch))))
	if d.Share < 1 {
		n = min(n, u.Spec.Train.Batch-1)
	}
	return n
}

// OpenData reads the job's data file, if it names one and it was not read yet: the
// first Step would. Every object must be one of the environment. Faults name
// file, line and field.
func (u *Updater) OpenData() error {
	if u.Spec.Data == nil || u.data != nil {
		return nil
	}
	path := u.Spec.Data.File
	file, err := datafile.Read(path)
	if err != nil {
		return fmt.Errorf("data.file: %w", err)
	}
	objects, err := file.Objects()
	if err != nil {
		return fmt.Errorf("data.file: %w", err)
	}
	d := &dataSource{resample: u.resampler(rng.Data)}
	one, total := u.Env.NewStates(1), 0.0
	if u.ctx != nil {
		envs.Within(u.ctx, one)
	}
	for _, o := range objects {
		item, err := read(one, o)
		if err != nil {
			return fmt.Errorf("data.file: %w", &datafile.Error{File: path, Line: o.Line, Field: datafile.ObjectColumn, Fault: err.Error()})
		}
		total += o.Weight
		d.objects, d.until = append(d.objects, item), append(d.until, total)
	}
	if math.IsInf(total, 0) {
		return fmt.Errorf("data.file: %w", &datafile.Error{File: path, Field: datafile.WeightColumn, Fault: "want weights whose sum is finite"})
	}
	u.data = d
	return nil
}

// read makes an item of an object.
func read(one envs.States, o datafile.Object) (replay.Item, error) {
	if err := one.Parse(0, o.Text); err != nil {
		return replay.Item{}, fmt.Errorf("got %.80q; want an object of the environment (%w)", o.Text, err)
	}
	reward := [1]float64{}
	if err := one.LogReward([]int32{0}, reward[:]); err != nil {
		return replay.Item{}, fmt.Errorf("got %.80q; want an object with a reward (%w)", o.Text, err)
	}
	return replay.Item{Text: one.Text(0), LogReward: reward[0]}, nil
}

// complete adds drawn objects to the other trajectories of a batch.
func (d *dataSource) complete(u *Updater, others []wire.Trajectory) ([]wire.Trajectory, error) {
	update := u.version + 1
	r := rng.New(u.Spec.Seed, rng.Data, update)
	d.items = d.items[:0]
	last := len(d.until) - 1
	for range u.fromData() {
		at := sort.SearchFloat64s(d.until, r.Float64()*d.until[last])
		item := d.objects[min(at, last)]
		item.Version = u.version // it has no age
		d.items = append(d.items, item)
	}
	tape, params := u.backwardPolicy()
	var err error
	if d.drawn, err = d.resample.sample(tape, params, update, d.items, d.drawn); err != nil {
		return nil, err
	}
	d.batch = append(append(d.batch[:0], others...), d.drawn...)
	return d.batch, nil
}
