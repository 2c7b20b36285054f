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
	target, model := c.shares(logTarget), c.shares(logModel)
	out := make([]ConditionReport, len(c.names))
	for i, name := range c.names {
		out[i] = ConditionReport{Name: name, TargetShare: target[i].share(), ModelShare: model[i].share()}
		if model[i].sum == 0 {
			out[i].TV = 1
		}
	}
	for object, condition := range c.of {
		p, q := target[condition], model[condition]
		if q.sum > 0 {
			out[condition].TV += math.Abs(p.given(logTarget[object])-q.given(logModel[object])) / 2
		}
	}
	return out
}

// share is the probability of a condition, sum·exp(scale): the scale is 0 unless the
// condition is so rare that exp would lose it.
type share struct{ scale, sum float64 }

// rarest is the log-probability below which exp is on its way to 0.
const rarest = -600

// shares adds up the probabilities of every condition's objects.
func (c *conditions) shares(logP []float64) []share {
	out := make([]share, len(c.names))
	for i := range out {
		out[i].scale = math.Inf(-1)
	}
	for object, condition := range c.of {
		out[condition].scale = max(out[condition].scale, logP[object])
	}
	for i := range out {
		if s := out[i].scale; s > rarest || math.IsInf(s, -1) {
			out[i].scale = 0
		}
	}
	for object, condition := range c.of {
		out[condition].sum += math.Exp(logP[object] - out[condition].scale)
	}
	return out
}

func (s share) share() float64 { return s.sum * math.Exp(s.scale) }

// given is the probability of one of the condition's objects, given the condition.
func (s share) given(logP float64) float64 { return math.Exp(logP-s.scale) / s.sum }
