package metrics

import (
	"math"

	"github.com/driftmesh/driftmesh/envs"
)

// ConditionReport is the exact evaluation of a model under one condition.
type ConditionReport struct {
	Name string `json:"name"`
	// TargetShare and ModelShare are the probabilities of the condition.
	TargetShare float64 `json:"target_share"`
	ModelShare  float64 `json:"model_share"`
	// TV is the total variation between the two distributions over objects given
	// the condition; 1 when the model never chooses it.
	TV float64 `json:"tv"`
}

// conditions are which object is of which condition.
type conditions struct {
	names []string
	of    []int32 // by object
}

func newConditions(e envs.Enumerable, c envs.Conditional) (*conditions, error) {
	out := &conditions{names: c.Conditions(), of: make([]int32, e.NumObjects())}
	err := envs.EachObject(e, func(s envs.States, object int) { out.of[object] = int32(c.Condition(s, 0)) })
	return out, err
}

func (c *conditions) report(logTarget, logModel []float64) []ConditionReport {
	out := make([]ConditionReport, len(c.names))
	for i, name := range c.names {
		out[i].Name = name
	}
	for object, condition := range c.of {
		out[condition].TargetShare += math.Exp(logTarget[object])
		out[condition].ModelShare += math.Exp(logModel[object])
	}
	for object, condition := range c.of {
		r := &out[condition]
		p := math.Exp(logTarget[object]) / r.TargetShare
		if r.ModelShare > 0 {
			r.TV += math.Abs(p-math.Exp(logModel[object])/r.ModelShare) / 2
		}
	}
	for i := range out {
		if out[i].ModelShare == 0 {
			out[i].TV = 1
		}
	}
	return out
}
