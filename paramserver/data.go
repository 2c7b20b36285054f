package paramserver

import (
	"errors"
	"fmt"
	"math"
	"slices"
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
	if d.objects, err = u.items(file.Name, objects); err != nil {
		return fmt.Errorf("data.file: %w", err)
	}
	total := 0.0
	for _, o := range objects {
		total += o.Weight
		d.until = append(d.until, total)
	}
	if math.IsInf(total, 0) {
		return fmt.Errorf("data.file: %w", &datafile.Error{File: path, Field: datafile.WeightColumn, Fault: "want weights whose sum is finite"})
	}
	u.data = d
	return nil
}

// readAtOnce is how many objects of a file have their rewards evaluated together.
const readAtOnce = 1024

// items makes items of a file's objects, whose rewards are asked for in batches. Faults
// of an object are *datafile.Error.
func (u *Updater) items(file string, objects []datafile.Object) ([]replay.Item, error) {
	n := min(readAtOnce, len(objects))
	states, rows, rewards := u.Env.NewStates(n), make([]int32, n), make([]float64, n)
	if u.ctx != nil {
		envs.Within(u.ctx, states)
	}
	for i := range rows {
		rows[i] = int32(i)
	}
	out := make([]replay.Item, 0, len(objects))
	for first := 0; first < len(objects); first += n {
		part := objects[first:min(first+n, len(objects))]
		fault := func(i int, want string, err error) error {
			return &datafile.Error{File: file, Line: part[i].Line, Field: datafile.ObjectColumn, Fault: fmt.Sprintf("got %.80q; want %s (%v)", part[i].Text, want, err)}
		}
		for i, o := range part {
			err := states.Parse(i, o.Text)
			if far, ok := states.(envs.Limited); err == nil && ok {
				err = far.Limit(i)
			}
			if err != nil {
				if u.ctx != nil && u.ctx.Err() != nil {
					return nil, err
				}
				return nil, fault(i, "an object of the environment", err)
			}
		}
		err := states.LogReward(rows[:len(part)], rewards)
		var faults *envs.RewardFaults
		if errors.As(err, &faults) {
			i := slices.Min(faults.Index)
			return nil, fault(i, "an object with a reward", faults.Errs[slices.Index(faults.Index, i)])
		}
		if _, asks := states.(envs.Contextual); err != nil && asks {
			return nil, err // of no object: another program does not answer
		}
		for i := 0; err != nil && i < len(part); i++ {
			if err := states.LogReward(rows[i:i+1], rewards[i:i+1]); err != nil {
				return nil, fault(i, "an object with a reward", err)
			}
		}
		for i := range part {
			out = append(out, replay.Item{Text: states.Text(i), LogReward: rewards[i]})
		}
	}
	return out, nil
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
