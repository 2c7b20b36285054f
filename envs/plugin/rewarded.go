// Package plugin lets other programs take part: Rewarded replaces the rewards of
// any environment by those of a program, and Env is an environment that lives in
// one. internal/plugin runs the programs.
package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plugin"
)

// Rewarded is an environment with the rewards of a plugin in place of its own. It
// is no envs.Moded or envs.Described, for modes and log Z belong to the rewards;
// it is an envs.Lister where the environment is enumerable.
//
// A process that may not run the plugin has the environment all the same, and no
// rewards: a learner needs none, for trajectories bring theirs along.
type Rewarded struct {
	envs.Env
	pool *plugin.Pool
	why  error // there is no pool
}

// regioned keeps the regions of an environment.
type regioned struct {
	*Rewarded
	base envs.Regioned
}

// Region implements envs.Regioned.
func (r regioned) Region(s envs.States, row int) string { return r.base.Region(inner(s), row) }

// Reward returns base with the rewards of the job's plugin.
func Reward(base envs.Env, r *job.Reward) envs.Env {
	e := &Rewarded{Env: base}
	e.pool, e.why = plugin.Open(plugin.Command{
		Args: r.Command, Params: r.Params, Processes: r.Processes, Timeout: r.Timeout(), Batch: r.Batch, Retries: r.Retries,
	})
	if base, ok := base.(envs.Regioned); ok {
		return regioned{e, base}
	}
	return e
}

// Marks implements envs.Marked: they are the environment's.
func (e *Rewarded) Marks() envs.Marks {
	m := envs.MarksOf(e.Env)
	own := m.Append
	m.Append = func(dst []int32, s envs.States, row int) []int32 { return own(dst, inner(s), row) }
	return m
}

// Ready implements envs.Remote.
func (e *Rewarded) Ready() error { return e.why }

// Programs implements envs.Programmed.
func (e *Rewarded) Programs(ctx context.Context) (programs map[string]string, err error) {
	if base, ok := e.Env.(envs.Programmed); ok {
		if programs, err = base.Programs(ctx); err != nil {
			return nil, err
		}
	}
	if e.why != nil {
		return programs, nil
	}
	hello, err := e.pool.Hello(ctx)
	if err != nil {
		return nil, err
	}
	return told(programs, "reward.command", hello), nil
}

// NewStates implements envs.Env.
func (e *Rewarded) NewStates(n int) envs.States {
	return &rewardedStates{States: e.Env.NewStates(n), env: e, ctx: context.Background()}
}

// logRewards asks the plugin about objects.
func (e *Rewarded) logRewards(ctx context.Context, texts []string, out []float64) error {
	if e.why != nil {
		return e.why
	}
	hello, err := e.pool.Hello(ctx)
	if err != nil {
		return err
	}
	if hello.Kind != plugin.KindReward {
		return fmt.Errorf("plugin %s: it is no reward but an environment, %s", e.pool, hello.Name)
	}
	faults, err := e.pool.LogRewards(ctx, &plugin.Request{Op: plugin.OpReward, Texts: texts}, func(i int) string { return texts[i] }, out)
	if err != nil {
		return err // whatever is known of some objects
	}
	return faultsOf(faults)
}

// faultsOf is nil without any.
func faultsOf(faults []plugin.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	f := &envs.RewardFaults{}
	for _, x := range faults {
		f.Index, f.Errs = append(f.Index, x.Item), append(f.Errs, x.Err)
	}
	return f
}

// rewardedStates are the environment's own, but for rewards.
type rewardedStates struct {
	envs.States
	env   *Rewarded
	ctx   context.Context
	texts []string       // distinct objects of a call
	at    map[string]int // by text: its place
	place []int          // by row asked about
	log   []float64
}

// inner are the states that the environment below knows.
func inner(s envs.States) envs.States {
	if r, ok := s.(*rewardedStates); ok {
		return r.States
	}
	return s
}

// Within implements envs.Contextual.
func (s *rewardedStates) Within(ctx context.Context) {
	s.ctx = ctx
	envs.Within(ctx, s.States)
}

// CopyRow implements envs.States.
func (s *rewardedStates) CopyRow(dst int, from envs.States, src int) {
	s.States.CopyRow(dst, inner(from), src)
}

// AppendDense implements envs.Points, where the environment's states do.
func (s *rewardedStates) AppendDense(dst []float32, row int) []float32 {
	return s.States.(envs.Points).AppendDense(dst, row)
}

// Limit implements envs.Limited, where the environment's states do.
func (s *rewardedStates) Limit(row int) error {
	if l, ok := s.States.(envs.Limited); ok {
		return l.Limit(row)
	}
	return nil
}

// LogReward asks the plugin about every distinct object once.
func (s *rewardedStates) LogReward(rows []int32, out []float64) error {
	s.texts, s.place = s.texts[:0], s.place[:0]
	if s.at == nil {
		s.at = map[string]int{}
	}
	clear(s.at)
	for _, row := range rows {
		if !s.Terminal(int(row)) {
			return fmt.Errorf("%s: row %d: no reward yet: unfinished %s", s.env.Spec().Name, row, s.Text(int(row)))
		}
		text := s.Text(int(row))
		k, known := s.at[text]
		if !known {
			k = len(s.texts)
			s.at[text] = k
			s.texts = append(s.texts, text)
		}
		s.place = append(s.place, k)
	}
	if len(rows) == 0 {
		return nil
	}
	s.log = append(s.log[:0], make([]float64, len(s.texts))...)
	err := s.env.logRewards(s.ctx, s.texts, s.log)
	for i, k := range s.place {
		out[i] = s.log[k]
	}
	var faults *envs.RewardFaults
	if errors.As(err, &faults) {
		return s.spread(faults)
	}
	return err
}

// spread turns faults of distinct objects into faults of rows.
func (s *rewardedStates) spread(of *envs.RewardFaults) error {
	why := map[int]error{}
	for i, k := range of.Index {
		why[k] = of.Errs[i]
	}
	out := &envs.RewardFaults{}
	for i, k := range s.place {
		if err := why[k]; err != nil {
			out.Index, out.Errs = append(out.Index, i), append(out.Errs, err)
		}
	}
	return out
}
