package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/cores"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/wire"
	"github.com/driftmesh/driftmesh/paramserver"
	"github.com/driftmesh/driftmesh/sampler"
)

// ownSide is Driftmesh in a process of its own: the sampler and the updater that
// `driftmesh train` puts together.
type ownSide struct {
	spec    *job.Spec
	updater *paramserver.Updater
	roller  *sampler.Roller // leaves its forward pass to the updater
	alone   *sampler.Roller // samples and nothing else
	batch   []wire.Trajectory
	team    *cores.Team
	states  float64 // scored in all batches: the distinct ones
}

// job is what `driftmesh train` would be given.
func (r *request) job() (*job.Spec, error) {
	spec := job.Default()
	spec.Name, spec.Seed = "bench-peers", r.Seed
	spec.Env = job.Env{Name: "hypergrid", Params: map[string]any{
		"dim": int64(r.Grid.Dim), "height": int64(r.Grid.Height), "r0": r.Grid.R0, "r1": r.Grid.R1, "r2": r.Grid.R2,
	}}
	spec.Policy = job.Policy{Kind: "mlp", Hidden: []int{256, 256}, Activation: "relu", Backward: r.Backward}
	spec.Loss.Divergence, spec.Loss.Normaliser = "reverse_kl", "learned" // classic trajectory balance
	switch r.Loss {
	case "", "tb":
	case "forward_kl":
		spec.Loss.Divergence, spec.Loss.Normaliser = "forward_kl", "batch_optimal"
	default:
		return nil, fmt.Errorf("loss %q: want tb or forward_kl", r.Loss)
	}
	spec.Optimiser.LearningRate, spec.Optimiser.LogZRate = schedule.Const(r.LearningRate), schedule.Const(r.LogZRate)
	spec.Train.Batch, spec.Train.Updates, spec.Mesh.Rollout = r.Batch, math.MaxInt32, r.Batch
	spec.Mesh.ReplayMax, spec.Eval.Every = 4*r.Batch, 0
	return spec, spec.Validate()
}

func openOurs(r *request) (*ownSide, error) {
	spec, err := r.job()
	if err != nil {
		return nil, err
	}
	o := &ownSide{spec: spec}
	if o.updater, err = paramserver.NewUpdater(spec); err != nil {
		return nil, err
	}
	if o.roller, err = sampler.NewRoller(spec, 0); err != nil {
		return nil, err
	}
	o.roller.Rehearse(o.updater.Tape())
	if o.alone, err = sampler.NewRoller(spec, 0); err != nil {
		return nil, err
	}
	o.team = cores.New(runtime.GOMAXPROCS(0))
	o.updater.Share(o.team)
	o.alone.Share(o.team)
	if r.Params == "" {
		return o, nil
	}
	data, err := os.ReadFile(r.Params)
	if err != nil {
		return nil, err
	}
	params, err := wire.DecodeFloats(data)
	if err == nil && len(params) != len(o.updater.Params()) {
		err = fmt.Errorf("%d parameters; want %d", len(params), len(o.updater.Params()))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Params, err)
	}
	copy(o.updater.Params(), params)
	return o, nil
}

// close ends the goroutines of a side, if there is one.
func (o *ownSide) close() {
	if o != nil {
		o.team.Close()
	}
}

// update is one on-policy update as the learner of a local run makes it: sample,
// loss, optimiser. All that is timed of Driftmesh's training is here.
func (o *ownSide) update() (err error) {
	u := o.updater
	if o.batch, err = o.roller.SampleN(u.Fresh(), u.Params(), u.Version(), u.Trajectories()+1, o.batch); err != nil {
		return err
	}
	pass := o.roller.Pass()
	o.states += float64(pass.Batch.States.N)
	u.Rehearsed(pass)
	_, err = u.Step(o.batch, func(_ *wire.Trajectory, err error) { panic(err) }) // its own trajectories can be replayed
	return err
}

// run makes n updates and returns the mean number of actions.
func (o *ownSide) run(n int) (length float64, err error) { return o.repeat(n, o.update) }

// sample rolls out n batches and returns the mean number of actions.
func (o *ownSide) sample(n int) (length float64, err error) {
	first := uint64(1)
	return o.repeat(n, func() (err error) {
		o.batch, err = o.alone.SampleN(o.spec.Train.Batch, o.updater.Params(), 0, first, o.batch)
		first += uint64(o.spec.Train.Batch)
		o.states += float64(o.alone.Pass().Batch.States.N)
		return err
	})
}

func (o *ownSide) repeat(n int, once func() error) (length float64, err error) {
	steps := 0
	for range n {
		if err := once(); err != nil {
			return 0, err
		}
		for i := range o.batch {
			steps += len(o.batch[i].Actions)
		}
	}
	return float64(steps) / float64(n*len(o.batch)), nil
}

// timed is its namesake in serve.py.
func timed(run func(int) (float64, error), seconds float64, least int) (a answer, err error) {
	began := time.Now()
	if _, err := run(1); err != nil {
		return a, err
	}
	a.First = time.Since(began).Seconds()
	began = time.Now()
	done := 0
	for ; done < 1 || time.Since(began).Seconds() < 0.25*seconds && done < 20; done++ {
		if _, err := run(1); err != nil {
			return a, err
		}
	}
	chunk := int(max(1, min(math.Round(0.1/(time.Since(began).Seconds()/float64(done))), 1000)))
	for began = time.Now(); a.Count < least || time.Since(began).Seconds() < seconds; a.Count += chunk {
		length, err := run(chunk)
		if err != nil {
			return a, err
		}
		a.Length += float64(chunk) * length
	}
	a.MS = 1e3 * time.Since(began).Seconds() / float64(a.Count)
	a.Length /= float64(a.Count)
	return a, nil
}

// counted is timed, and the mean number of distinct states of a batch.
func (o *ownSide) counted(run func(int) (float64, error), r *request) (a answer, err error) {
	batches := 0
	before := o.states
	a, err = timed(func(n int) (float64, error) { batches += n; return run(n) }, r.Seconds, r.Least)
	a.States = (o.states - before) / float64(batches)
	return a, err
}

// maxChecked is the number of cells up to which the exact distance is computed.
const maxChecked = 1 << 16

func (o *ownSide) check() (a answer, err error) {
	e, err := envs.Enumerate(o.updater.Env)
	if err != nil {
		return a, err
	}
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	a = answer{Parameters: len(o.updater.Params()), Cells: map[string]int{}}
	z := 0.0
	for _, v := range logR {
		z += math.Exp(v)
		a.Cells[strconv.FormatFloat(math.Round(1e5*math.Exp(v))/1e5, 'g', 6, 64)]++
	}
	a.LogZ = math.Log(z)
	if len(logR) > maxChecked {
		return a, nil
	}
	tv, err := o.distance()()
	a.TV = &tv
	return a, err
}

// distance prepares the exact total variation.
func (o *ownSide) distance() func() (float64, error) {
	exact, tape := o.updater.Exact(context.Background()), o.updater.Model.NewTape()
	return func() (float64, error) {
		if exact == nil {
			return 0, errors.New("the grid cannot be enumerated")
		}
		p := o.updater.Params()
		rep, err := exact.Model(tape, p[:len(p)-1])
		if err != nil {
			return 0, err
		}
		return rep.Distances.TV, nil
	}
}

// quality is its namesake in serve.py.
func (o *ownSide) quality(r *request) (t training, err error) {
	distance := o.distance()
	var spent []float64
	met := 0
	for met < r.InARow && (len(spent) == 0 || spent[len(spent)-1] < r.Limit) {
		began := time.Now()
		if t.Length, err = o.run(r.Every); err != nil {
			return t, err
		}
		took := time.Since(began).Seconds()
		if len(spent) > 0 {
			took += spent[len(spent)-1]
		}
		spent = append(spent, took)
		tv, err := distance()
		if err != nil {
			return t, err
		}
		t.TVs = append(t.TVs, math.Round(1e5*tv)/1e5)
		if met++; tv > r.Target {
			met = 0
		}
	}
	at := len(spent) - 1
	if t.Reached = met == r.InARow; t.Reached {
		at = len(spent) - met
	}
	t.Seconds, t.Updates = spent[at], (at+1)*r.Every
	return t, nil
}

// prepare trains, or not, and writes what all libraries are to begin with.
func (o *ownSide) prepare(r *request) (a answer, err error) {
	if r.Updates > 0 {
		if a.Length, err = o.run(r.Updates); err != nil {
			return a, err
		}
	}
	a.Count = r.Updates
	return a, os.WriteFile(r.Params, wire.EncodeFloats(nil, o.updater.Params()), 0o644)
}

// runOurs answers requests from standard input until it closes.
func runOurs(ctx context.Context, _ []string) error {
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	var o *ownSide
	defer func() { o.close() }()
	for ctx.Err() == nil {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r := new(request)
		if err := json.Unmarshal(line, r); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		reply, err := o.answer(&o, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Op, err)
		}
		if err := out.Encode(reply); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (*ownSide) answer(o **ownSide, r *request) (any, error) {
	if r.Op == "versions" {
		return answer{Versions: map[string]string{"go": runtime.Version()}}, nil
	}
	if !r.GoOn {
		open := *r
		if r.Op == "prepare" {
			open.Params = "" // that is where to write
		}
		side, err := openOurs(&open)
		if err != nil {
			return nil, err
		}
		(*o).close()
		*o = side
	}
	switch r.Op {
	case "check":
		return (*o).check()
	case "update":
		a, err := (*o).counted((*o).run, r)
		a.Sgemm = sgemm(r.Batch)
		return a, err
	case "sample":
		return (*o).counted((*o).sample, r)
	case "quality":
		return (*o).quality(r)
	case "prepare":
		return (*o).prepare(r)
	}
	return nil, fmt.Errorf("want check, update, sample, quality or prepare")
}
