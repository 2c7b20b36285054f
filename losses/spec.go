package losses

import (
	"math"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
)

// FromSpec builds the objective that a job describes: all trajectories of a
// batch are one normaliser group. Faults are *fielderr.Error with paths inside
// the loss section; warnings are for people, about settings that are legal but
// known to mislead.
func FromSpec(l job.Loss, backward string, batch int) (o Objective, warnings []string, err error) {
	member, err := NewMember(l.Divergence, Overrides{Parameter: l.Parameter, Tail: l.Tail, Temper: l.Temper})
	if err != nil {
		return nil, nil, err
	}
	normaliser, err := ParseNormaliser(l.Normaliser)
	if err != nil {
		return nil, nil, err
	}
	for _, update := range []int64{math.MaxInt64, 0} { // a schedule has gone from one to the other
		more, err := normaliser.CheckGroup(member.At(update), batch)
		if err != nil {
			return nil, nil, err
		}
		if len(more) > 0 {
			warnings = more
		}
	}
	b := Backward(backward)
	if l.NeedsFlow() && normaliser != Learned {
		return nil, nil, fielderr.New("normaliser", l.Normaliser, "learned: log Z is the flow of the source")
	}
	switch l.ObjectiveName() {
	case job.SubTB:
		o, err = NewSubTB(member, l.LambdaOr(), b)
		return o, nil, err
	case job.DB, job.FLDB:
		o, err = NewDB(member, b)
		return o, nil, err
	case job.FM:
		o, err = NewFM(member, b)
		return o, nil, err
	case job.ML:
		o, err = NewML(b)
		return o, nil, err
	}
	o, err = NewTB(Config{Member: member, Normaliser: normaliser, Backward: b, RunningDecay: l.RunningDecay})
	return o, warnings, err
}

// Member is the divergence at an update.
func (t *TB) Member(update int64) Divergence { return t.cfg.Member.At(update) }
