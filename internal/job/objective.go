package job

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/fielderr"
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
