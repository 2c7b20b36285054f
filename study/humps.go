package study

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/envs/registry"
	"github.com/driftmesh/driftmesh/internal/experiment"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/losses"
	"github.com/driftmesh/driftmesh/study/fit"
)

// humpsConfig is what both studies of restricted fits take.
type humpsConfig struct {
	cells       int
	weights     []float64
	separations []float64
	alphas      []float64
	seeds       int
	batch       int
	updates     int
	rate        float64
	picture     float64
}

func defaultHumps() humpsConfig {
	return humpsConfig{
		cells: 64, weights: []float64{0.7, 0.3},
		separations: []float64{4, 5, 6}, alphas: []float64{-1, 0, 0.5, 0.75, 1, 1.5, 2},
		seeds: 5, batch: 256, updates: 4000, rate: 0.02, picture: 6,
	}
}

func (c *humpsConfig) bind() []params.Binding {
	return []params.Binding{
		params.Int("cells", &c.cells, "cells of the mixture"),
		params.Floats("weights", &c.weights, "masses of the two humps"),
		params.Floats("separations", &c.separations, "distances between the humps, whose widths are 1"),
		params.Floats("alphas", &c.alphas, "members of the alpha family, ascending"),
		params.Int("seeds", &c.seeds, "trainings of each cell; 0: only the deterministic fits"),
		params.Int("batch", &c.batch, "trajectories per update"),
		params.Int("updates", &c.updates, "updates of each training"),
		params.Float("rate", &c.rate, "first learning rate; it falls to a hundredth of it"),
		params.Float("picture", &c.picture, "separation of the picture of the fits"),
	}
}

func (c *humpsConfig) check() error {
	var faults []error
	fault := func(path string, value any, want string) { faults = append(faults, fielderr.New(path, value, want)) }
	if len(c.weights) != 2 {
		fault("weights", c.weights, "two numbers")
	}
	if len(c.separations) < 1 || len(c.separations) > 64 {
		fault("separations", c.separations, "1 to 64 numbers")
	}
	if n := len(c.alphas); n < 2 || n > 64 || !slices.IsSorted(c.alphas) {
		fault("alphas", c.alphas, "2 to 64 numbers, ascending")
	}
	if c.seeds < 0 || c.seeds > 1000 {
		fault("seeds", c.seeds, "an integer from 0 to 1000")
	}
	if c.batch < 4 || c.batch > 1<<20 {
		fault("batch", c.batch, "an integer from 4 to 1048576")
	}
	if c.updates < 1 || c.updates > 1e9 {
		fault("updates", c.updates, "an integer of at least 1")
	}
	if !(c.rate > 0 && c.rate <= 10) {
		fault("rate", c.rate, "a number above 0, at most 10")
	}
	return errors.Join(faults...)
}

// decodeHumps reads the parameters over the defaults.
func decodeHumps(given map[string]any) (humpsConfig, error) {
	c := defaultHumps()
	if err := params.Decode(c.bind(), given); err != nil {
		return c, err
	}
	if err := c.check(); err != nil {
		return c, err
	}
	for _, s := range c.separations {
		if _, err := registry.New("mixture", c.env(s)); err != nil {
			return c, fmt.Errorf("separation %v: %w", s, err)
		}
	}
	return c, nil
}

func (c *humpsConfig) env(separation float64) map[string]any {
	weights := make([]any, len(c.weights)) // as a job file has it
	for i, w := range c.weights {
		weights[i] = w
	}
	return map[string]any{"cells": c.cells, "weights": weights, "separation": separation}
}

// job is a training of the single Gaussian on the mixture.
func (c *humpsConfig) job(separation, alpha float64, normaliser string, seed uint64) *job.Spec {
	s := job.Default()
	s.Name, s.Seed = "restricted", seed
	s.Env = job.Env{Name: "mixture", Params: c.env(separation)}
	s.Policy.Kind, s.Policy.Backward = "normal", "uniform"
	s.Loss.Divergence, s.Loss.Normaliser = memberName(alpha), normaliser
	fall := schedule.Value{Kind: schedule.Cosine, From: c.rate, To: c.rate / 100, Over: int64(c.updates)}
	s.Optimiser.LearningRate, s.Optimiser.LogZRate = fall, fall
	// The weights of members that seek start very large and fall at once; a memory
	// of a thousand updates would hold the steps down long after.
	s.Optimiser.Beta2 = 0.99
	s.Train.Batch, s.Train.Updates = c.batch, int64(c.updates)
	s.Mesh.ReplayMax = max(s.Mesh.ReplayMax, 4*c.batch)
	s.Eval.Every = 0
	return s
}

func memberName(alpha float64) string { return fmt.Sprintf("alpha:%v", alpha) }

// humps is one mixture with its deterministic fits.
type humps struct {
	*fit.Problem
	points [][]float64
	class  []int // hump of every cell
}

func newHumps(given map[string]any) (*humps, error) {
	env, err := registry.New("mixture", given)
	if err != nil {
		return nil, err
	}
	e, err := envs.Enumerate(env)
	if err != nil {
		return nil, err
	}
	h := &humps{points: env.Spec().Points, class: make([]int, e.NumObjects())}
	logR := make([]float64, e.NumObjects())
	e.LogRewards(logR)
	if h.Problem, err = fit.New(h.points, logR); err != nil {
		return nil, err
	}
	s, row, action := env.NewStates(1), []int32{0}, []int32{0}
	for a := range h.class {
		s.Reset(row)
		action[0] = int32(a)
		if err := s.Forward(row, action); err != nil {
			return nil, err
		}
		h.class[a] = env.(envs.Moded).Mode(s, 0)
	}
	return h, nil
}

func (h *humps) smaller(logQ []float64) float64 { return slices.Min(fit.Masses(logQ, h.class, 2)) }

func (h *humps) smallerOf(f fit.Fit) float64 {
	logQ := make([]float64, len(h.class))
	h.LogProb(f.Theta, logQ)
	return h.smaller(logQ)
}

// start is where policy kind normal begins, up to the little by which its mean
// differs from seed to seed.
func (h *humps) start() []float64 {
	low, high := h.points[0][0], h.points[len(h.points)-1][0]
	return []float64{(low + high) / 2, math.Log((high - low) / 4)}
}

// task is one training.
type task struct {
	spec *job.Spec
	done func(logModel []float64) // nil where it diverged
}

// trainAll trains tasks, several at once. The results do not depend on how many.
func trainAll(ctx context.Context, train Trainer, tasks []task) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		queue = make(chan task)
	)
	for range min(runtime.GOMAXPROCS(0), len(tasks)) {
		wg.Go(func() {
			for t := range queue {
				logModel, err := train(ctx, t.spec)
				mu.Lock()
				switch {
				case err == nil:
					t.done(logModel)
				case errors.Is(err, experiment.ErrDiverged):
					t.done(nil)
				case first == nil:
					first = err
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for _, t := range tasks {
		if ctx.Err() != nil {
			break
		}
		queue <- t
	}
	close(queue)
	wg.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}

func divergence(alpha float64) (losses.Divergence, error) { return losses.Parse(memberName(alpha)) }

// number is a cell of a table: nil where there is no finite number.
func number(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return x
}
