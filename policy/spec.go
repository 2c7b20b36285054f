package policy

import (
	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
)

// FromSpec builds the model that a job describes for an environment. Faults
// are *fielderr.Error with paths inside p.
func FromSpec(p job.Policy, env envs.Spec) (Model, error) {
	switch p.Kind {
	case "mlp":
		return mlpFromSpec(p, env)
	case "tabular":
		return tabularFromSpec(p, env)
	case "normal":
		return normalFromSpec(p, env)
	case "gaussian":
		return gaussianFromSpec(p, env)
	}
	return nil, fielderr.New("kind", p.Kind, "mlp, tabular, normal or gaussian")
}

func mlpFromSpec(p job.Policy, env envs.Spec) (Model, error) {
	if env.Continuous() {
		return nil, fielderr.New("kind", p.Kind, "gaussian: the actions of "+env.Name+" are points")
	}
	if p.Std != "" {
		return nil, fielderr.New("std", p.Std, "nothing; only a gaussian has one")
	}
	c := MLPConfig{Hidden: p.Hidden, Activation: p.Activation}
	switch p.Backward {
	case "joint", "frozen", "max_likelihood":
	case "uniform":
		c.UniformBackward = true
	default:
		return nil, fielderr.New("backward", p.Backward, "joint, frozen, uniform or max_likelihood")
	}
	m, err := NewMLP(c, env.Features, env.Actions, env.BackwardActions)
	if err != nil {
		return nil, err
	}
	return m, nil
}
