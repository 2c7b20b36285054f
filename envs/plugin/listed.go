package plugin

import (
	"context"
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
)

// List implements envs.Lister: it asks the plugin about every object.
func (e *Rewarded) List(ctx context.Context, atMost int) (envs.Enumerable, error) {
	base := e.Env
	if l, ok := base.(envs.Lister); ok {
		listed, err := l.List(ctx, atMost)
		if err != nil {
			return nil, err
		}
		base = listed
	}
	if err := e.Ready(); err != nil {
		return nil, err
	}
	b, err := envs.Enumerate(base)
	if err != nil {
		return nil, err
	}
	if n := max(b.NumStates(), b.NumObjects()); n > atMost {
		return nil, fmt.Errorf("%w: %s has %d states or objects; at most %d are wanted", envs.ErrNotEnumerable, b.Spec().Name, n, atMost)
	}
	texts, err := objects(b)
	if err != nil {
		return nil, err
	}
	l := &listedReward{Rewarded: e, base: b, logR: make([]float64, len(texts))}
	if err := e.logRewards(ctx, texts, l.logR); err != nil {
		return nil, err
	}
	return l, nil
}

// objects gives every object's text, by number.
func objects(e envs.Enumerable) ([]string, error) {
	texts := make([]string, e.NumObjects())
	err := envs.EachObject(e, func(s envs.States, object int) { texts[object] = s.Text(0) })
	return texts, err
}

// listedReward is an enumerable environment with the rewards of a plugin.
type listedReward struct {
	*Rewarded
	base envs.Enumerable
	logR []float64
}

func (l *listedReward) NumStates() int  { return l.base.NumStates() }
func (l *listedReward) NumObjects() int { return l.base.NumObjects() }

func (l *listedReward) Load(s envs.States, row, state int)  { l.base.Load(inner(s), row, state) }
func (l *listedReward) Child(state, action int) (int, bool) { return l.base.Child(state, action) }
func (l *listedReward) Object(s envs.States, row int) int   { return l.base.Object(inner(s), row) }
func (l *listedReward) LogRewards(out []float64)            { copy(out, l.logR) }
