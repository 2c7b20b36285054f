package job

import (
	"fmt"
	"reflect"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
)

// Objectives: what the residuals of a loss are made of. docs/OBJECTIVES.md has
// their formulas.
const (
	TB    = "tb"    // trajectory balance: one residual for each trajectory
	SubTB = "subtb" // sub-trajectory balance: one for each piece of a trajectory, weighted by lambda
	DB    = "db"    // detailed balance: one for each transition
	FLDB  = "fl_db" // forward-looking detailed balance: flows relative to the reward of unfinished states
	FM    = "fm"    // flow matching: one for each state
	ML    = "ml"    // maximum likelihood of P_F on objects of a data set
)

// DefaultLambda is loss.lambda where a job does not set it.
const DefaultLambda = 0.9

// ObjectiveName is loss.objective with its default written out.
func (l Loss) ObjectiveName() string {
	if l.Objective == "" {
		return TB
	}
	return l.Objective
}

// NeedsFlow says whether the objective needs a model of log F(s), the flow
// through a state.
func (l Loss) NeedsFlow() bool {
	switch l.ObjectiveName() {
	case SubTB, DB, FLDB, FM:
		return true
	}
	return false
}

// NeedsPotential says whether the objective needs the reward of unfinished states.
func (l Loss) NeedsPotential() bool { return l.Objective == FLDB }

// NeedsParents says whether the objective needs all parents of the states that
// trajectories pass.
func (l Loss) NeedsParents() bool { return l.Objective == FM }

// LearnsLogZ says whether log Z is a trained scalar.
func (l Loss) LearnsLogZ() bool { return l.Normaliser == "learned" && l.Objective != ML }

// LambdaOr is loss.lambda, or its default.
func (l Loss) LambdaOr() float64 {
	if l.Lambda == 0 {
		return DefaultLambda
	}
	return l.Lambda
}

// objective checks what fields of a job an objective allows. What it makes of
// the environment and the network is for their packages to say.
func (c *checker) objective(s *Spec) {
	name := s.Loss.ObjectiveName()
	if s.Loss.Lambda != 0 && name != SubTB {
		c.fault("loss.lambda", s.Loss.Lambda, fmt.Sprintf("no lambda: it weighs the pieces of loss.objective subtb, this is %s", name))
	}
	if s.Optimiser.FlowRate != nil && !s.Loss.NeedsFlow() {
		c.fault("optimiser.flow_rate", s.Optimiser.FlowRate.String(), fmt.Sprintf("no flow_rate: %s has no flows of states", name))
	}
	if s.Loss.NeedsFlow() && s.Loss.Normaliser != "learned" {
		c.fault("loss.normaliser", s.Loss.Normaliser, fmt.Sprintf("learned: for %s log Z is the flow of the source, which trajectories of a batch cannot fit", name))
	}
	if (name == FM || name == ML) && s.Policy.Backward == "joint" {
		c.fault("policy.backward", s.Policy.Backward, fmt.Sprintf("uniform, frozen or max_likelihood: P_B is no part of the loss of %s", name))
	}
	if name == ML {
		c.likelihood(s)
	}
	switch d := s.Data; {
	case d == nil && name == ML:
		c.faults = append(c.faults, fielderr.New("data.file", nil, "a file of objects: loss.objective ml is the likelihood of a data set"))
	case d == nil:
	case d.File == "":
		c.fault("data.file", nil, "a file of objects: .csv, .parquet or .txt")
	case name == ML && d.Share != 1:
		c.fault("data.share", d.Share, "1: loss.objective ml learns from data alone")
	case d.Share < 1 && s.Train.Batch == 1:
		c.fault("data.share", d.Share, "1, or a train.batch of at least 2: one trajectory is of data or sampled")
	case d.Share == 1 && s.Replay.Kind != "none":
		c.fault("replay.kind", s.Replay.Kind, "none: with data.share 1 nothing is sampled, and so nothing kept")
	}
}

// likelihood refuses what maximum likelihood would silently leave out. What a job
// that is written out in full has of it is the default.
func (c *checker) likelihood(s *Spec) {
	d := Default()
	for _, f := range []struct {
		path       string
		got, plain any
		why        string
	}{
		{"loss.divergence", s.Loss.Divergence, d.Loss.Divergence, "no divergence: loss.objective ml is the likelihood, a bound of the forward KL from the data"},
		{"loss.parameter", s.Loss.Parameter, d.Loss.Parameter, "no parameter: loss.objective ml has no divergence"},
		{"loss.tail", s.Loss.Tail, d.Loss.Tail, "no tail: loss.objective ml has no residuals"},
		{"loss.temper", s.Loss.Temper, d.Loss.Temper, "no temper: loss.objective ml has no residuals"},
		{"loss.normaliser", s.Loss.Normaliser, d.Loss.Normaliser, "no normaliser: loss.objective ml needs no log Z"},
		{"loss.running_decay", s.Loss.RunningDecay, d.Loss.RunningDecay, "no running_decay: loss.objective ml needs no log Z"},
		{"loss.log_z_init", s.Loss.LogZInit, d.Loss.LogZInit, "no log_z_init: loss.objective ml needs no log Z"},
		{"optimiser.log_z_rate", s.Optimiser.LogZRate, d.Optimiser.LogZRate, "no log_z_rate: loss.objective ml needs no log Z"},
		{"sampling.epsilon", s.Sampling.Epsilon, d.Sampling.Epsilon, "no epsilon: loss.objective ml samples nothing"},
		{"sampling.temperature", s.Sampling.Temperature, d.Sampling.Temperature, "no temperature: loss.objective ml samples nothing"},
		{"sampling.reward_delay_ms", s.Sampling.RewardDelayMS, d.Sampling.RewardDelayMS, "no reward_delay_ms: loss.objective ml samples nothing"},
		{"train.lag", s.Train.Lag, d.Train.Lag, "no lag: loss.objective ml samples nothing"},
	} {
		if f.got == f.plain {
			continue
		}
		if text, ok := f.got.(string); ok {
			f.got = shorten(text)
		} else if v := reflect.ValueOf(f.got); v.Kind() == reflect.Pointer {
			f.got = v.Elem().Interface()
		}
		if v, ok := f.got.(schedule.Value); ok {
			f.got = v.String()
		}
		c.fault(f.path, f.got, f.why)
	}
}
