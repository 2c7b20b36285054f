package policy

import (
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
)

// Option is what an objective needs of a model besides its two policies.
type Option func(*needs)

type needs struct {
	flow bool
	logZ float64
}

// WithFlow asks for log F of every state.
func WithFlow(n *needs) { n.flow = true }

// FlowsFrom is WithFlow for a job whose log Z begins at this: where a model knows
// what flows a sampler has that learned nothing yet, its own begin at those.
func FlowsFrom(logZ float64) Option {
	return func(n *needs) { n.flow, n.logZ = true, logZ }
}

// flowing are the kinds of models that can give log F, in words.
const flowing = "mlp, transformer, tabular and gaussian"

// ForJob builds the model of a job for its environment, with what the job's
// objective needs. Faults are *fielderr.Error with paths inside the job.
func ForJob(s *job.Spec, env envs.Spec) (Model, error) {
	var options []Option
	if s.Loss.NeedsFlow() {
		options = append(options, FlowsFrom(s.Loss.LogZInit))
	}
	m, err := FromSpec(s.Policy, env, options...)
	if errors.Is(err, ErrNoFlow) {
		return nil, fielderr.New("loss.objective", s.Loss.Objective, fmt.Sprintf(
			"tb or ml, or another policy.kind: %s has no log F of states, which this objective needs; %s have it", s.Policy.Kind, flowing))
	}
	if err != nil {
		return nil, fielderr.Prefix("policy", err)
	}
	return m, nil
}

// FromSpec builds the model that a job describes for an environment. Faults
// are *fielderr.Error with paths inside p; a kind that has no flows is
// ErrNoFlow with the option WithFlow.
func FromSpec(p job.Policy, env envs.Spec, options ...Option) (Model, error) {
	var n needs
	for _, set := range options {
		set(&n)
	}
	if p.Kind != "gaussian" && !env.Continuous() { // elsewhere the kind is the fault
		if p.Std != "" {
			return nil, fielderr.New("std", p.Std, "nothing; only a gaussian has one")
		}
		if p.Drift != "" {
			return nil, fielderr.New("drift", p.Drift, "nothing; only a gaussian has one")
		}
	}
	switch p.Kind {
	case "mlp":
		return mlpFromSpec(p, env, n.flow)
	case job.Transformer:
		return transformerFromSpec(p, env, n.flow)
	case "tabular":
		return tabularFromSpec(p, env, n.flow)
	case "normal":
		return normalFromSpec(p, env, n.flow)
	case "gaussian":
		return gaussianFromSpec(p, env, n)
	}
	return nil, fielderr.New("kind", p.Kind, "mlp, transformer, tabular, normal or gaussian")
}

func mlpFromSpec(p job.Policy, env envs.Spec, flow bool) (Model, error) {
	if env.Continuous() {
		return nil, fielderr.New("kind", p.Kind, "gaussian: the actions of "+env.Name+" are points")
	}
	uniform, err := uniformBackward(p.Backward)
	if err != nil {
		return nil, err
	}
	c := MLPConfig{Hidden: p.Hidden, Activation: p.Activation, UniformBackward: uniform, Flow: flow}
	m, err := NewMLP(c, env.Features, env.Actions, env.BackwardActions)
	if err != nil {
		return nil, err
	}
	return m, nil
}
