package policy

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
)

func transformerFromSpec(p job.Policy, env envs.Spec, flow bool) (Model, error) {
	s := Sequence{Positions: env.Positions, Vocabulary: env.Vocabulary, Conditions: env.Features - env.Positions*env.Vocabulary}
	if s.Positions < 1 || s.Vocabulary < 1 || s.Conditions < 0 {
		return nil, fielderr.New("kind", p.Kind, fmt.Sprintf("mlp: states of %s are not positions that hold tokens, which a transformer reads", env.Name))
	}
	uniform, err := uniformBackward(p.Backward)
	if err != nil {
		return nil, err
	}
	c := TransformerConfig{Layers: p.Layers, Heads: p.Heads, Width: p.Width, Feedforward: p.Feedforward, Activation: p.Activation,
		UniformBackward: uniform, Flow: flow}
	m, err := NewTransformer(c, s, env.Actions, env.BackwardActions)
	if err != nil {
		return nil, err
	}
	return m, nil
}
