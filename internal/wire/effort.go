package wire

import "time"

// Spent is where sampler loops spent their time, summed over those that it is told of.
type Spent struct {
	Sampling   time.Duration `msgpack:"s,omitempty" json:"sampling"`   // rollouts, and encoding them
	Reward     time.Duration `msgpack:"r,omitempty" json:"reward"`     // sampling.reward_delay_ms
	Credit     time.Duration `msgpack:"c,omitempty" json:"credit"`     // waiting: the learner takes no more now
	Marks      time.Duration `msgpack:"m,omitempty" json:"marks"`      // waiting: too much is not committed
	Parameters time.Duration `msgpack:"p,omitempty" json:"parameters"` // waiting for the first ones
}

// Add adds o, where it is not negative: peers are not believed to turn time back.
func (s *Spent) Add(o Spent) {
	s.Sampling += max(0, o.Sampling)
	s.Reward += max(0, o.Reward)
	s.Credit += max(0, o.Credit)
	s.Marks += max(0, o.Marks)
	s.Parameters += max(0, o.Parameters)
}

// Sub returns the time between two readings.
func (s Spent) Sub(o Spent) Spent {
	return Spent{s.Sampling - o.Sampling, s.Reward - o.Reward, s.Credit - o.Credit, s.Marks - o.Marks, s.Parameters - o.Parameters}
}

// Total is the time of all kinds.
func (s Spent) Total() time.Duration {
	return s.Sampling + s.Reward + s.Credit + s.Marks + s.Parameters
}

// Effort is where the time of a job's learner, and of the workers that sample
// for it, went since its lease began.
type Effort struct {
	Update  time.Duration `msgpack:"u" json:"update"` // gradients and optimiser steps
	Batch   time.Duration `msgpack:"b" json:"batch"`  // waiting for a batch
	Commit  time.Duration `msgpack:"c" json:"commit"` // making commits, and waiting for answers before going on
	Workers Spent         `msgpack:"w" json:"workers"`
	Trained uint64        `msgpack:"t" json:"trained"` // fresh trajectories in updates, committed or not
	Stale   uint64        `msgpack:"s" json:"stale"`   // trajectories dropped as too old, as committed
	Waiting int           `msgpack:"q" json:"waiting"` // trajectories in the queue now
	Window  time.Duration `msgpack:"l" json:"window"`  // present length of a commit window
	Answer  time.Duration `msgpack:"a" json:"answer"`  // smoothed time from a commit to its answer
}
