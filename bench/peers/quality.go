package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// setting is a point of the grid from which every library takes its best.
type setting struct {
	Batch        int     `json:"batch"`
	LearningRate float64 `json:"lr"`
}

// settings are tried in this order, each for no longer than the best so far took.
// Small steps in large batches, and large ones in small batches, are far from best.
var settings = []setting{{256, 3e-3}, {64, 3e-3}, {512, 3e-3}, {256, 1e-2}, {512, 1e-2}, {16, 3e-3}, {16, 1e-3}, {64, 1e-3}}

// attempt is a run towards the distance.
type attempt struct {
	setting
	Seed uint64 `json:"seed"`
	training
}

// search is how a library's setting was found on one reward.
type search struct {
	Library library   `json:"library"`
	R0      float64   `json:"r0"`
	Best    setting   `json:"best"`
	Tries   []attempt `json:"tries"` // those that took longer than the best one before were cut off
}

// tuning is tuning.json.
type tuning struct {
	header
	Threads  int      `json:"threads"`
	Searches []search `json:"searches"`
}

// race is a library's runs on one reward.
type race struct {
	Library library   `json:"library"`
	R0      float64   `json:"r0"`
	Runs    []attempt `json:"runs"`
}

// races is quality.json.
type races struct {
	header
	Threads int     `json:"threads"`
	Target  float64 `json:"target_tv"`
	Limit   float64 `json:"limit_s"`
	Races   []*race `json:"races"`
}

const (
	targetTV   = 0.05
	inARow     = 3
	evalEvery  = 25  // updates
	tuningSeed = 100 // not one of those that are measured
)

var rewards = []float64{0.1, 0.001}

// quality trains until the exact distance is small.
func (c *comparison) quality(ctx context.Context) error {
	known, err := c.loadTuning()
	if err != nil {
		return err
	}
	c.results.Quality = &races{header: c.header(), Threads: c.most(), Target: targetTV, Limit: c.limit}
	c.progress.expect(float64(len(rewards)) * 100 * float64(c.seeds))
	for _, r0 := range rewards {
		var group []*race
		var best []setting
		for _, lib := range libraries {
			s, err := c.best(ctx, known, lib, r0)
			if err != nil {
				return err
			}
			one := &race{Library: lib, R0: r0}
			group, best = append(group, one), append(best, s)
			c.results.Quality.Races = append(c.results.Quality.Races, one)
		}
		for seed := uint64(1); seed <= uint64(c.seeds); seed++ {
			for i, one := range group {
				a, err := c.attempt(ctx, one.Library, r0, best[i], seed, c.limit)
				if err != nil {
					return err
				}
				one.Runs = append(one.Runs, a)
				c.progress.add(100/float64(len(libraries)), "R0 = %g, seed %d: %s %s", r0, seed, one.Library, a.brief())
			}
		}
	}
	c.results.Quality.Complete = true
	return nil
}

func (a *attempt) brief() string {
	verdict := "reached"
	if !a.Reached {
		verdict = fmt.Sprintf("not reached (TV %.3f)", a.TVs[len(a.TVs)-1])
	}
	return fmt.Sprintf("%s in %s s, %d updates of %d, rate %g", verdict, short(a.Seconds), a.Updates, a.Batch, a.LearningRate)
}

func (c *comparison) attempt(ctx context.Context, lib library, r0 float64, s setting, seed uint64, limit float64) (attempt, error) {
	g := standard(4, 8)
	g.R0 = r0
	a := attempt{setting: s, Seed: seed}
	p, err := c.worker(lib, c.most())
	if err != nil {
		return a, err
	}
	err = p.ask(ctx, request{
		Op: "quality", Grid: g, Batch: s.Batch, Backward: "joint", Seed: seed, LearningRate: s.LearningRate, LogZRate: learnedZRate,
		Every: evalEvery, Target: targetTV, InARow: inARow, Limit: limit,
	}, &a.training)
	if err != nil {
		return a, fmt.Errorf("%s, R0 = %g: %w", lib, r0, err)
	}
	return a, nil
}

// best is a library's setting on a reward, searched unless it is known or there is
// no time for that.
func (c *comparison) best(ctx context.Context, known *tuning, lib library, r0 float64) (setting, error) {
	for _, s := range known.Searches {
		if s.Library == lib && s.R0 == r0 {
			return s.Best, nil
		}
	}
	s := search{Library: lib, R0: r0, Best: settings[0]}
	if c.quick && !c.tune {
		c.progress.say("R0 = %g, %s: tuning.json has no setting, so the first one is taken", r0, lib)
		return s.Best, nil
	}
	limit := c.limit
	for _, one := range settings {
		a, err := c.attempt(ctx, lib, r0, one, tuningSeed, limit)
		if err != nil {
			return s.Best, err
		}
		s.Tries = append(s.Tries, a)
		if a.Reached && a.Seconds < limit {
			s.Best, limit = one, a.Seconds
		}
		c.progress.say("R0 = %g, %s: %s", r0, lib, a.brief())
	}
	known.Searches = append(known.Searches, s)
	known.header, known.Threads, known.Complete = c.header(), c.most(), true
	return s.Best, c.write("tuning.json", known)
}

// loadTuning reads what was found earlier.
func (c *comparison) loadTuning() (*tuning, error) {
	known := new(tuning)
	if c.tune {
		return known, nil
	}
	path := filepath.Join(c.out, "tuning.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err == nil {
		err = json.Unmarshal(data, known)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return known, nil
}
