package losses

import "github.com/driftmesh/driftmesh/internal/job"

// FromSpec builds the objective that a job describes: all trajectories of a
// batch are one normaliser group. Faults are *fielderr.Error with paths inside
// the loss section; warnings are for people, about settings that are legal but
// known to mislead.
func FromSpec(l job.Loss, backward string, batch int) (tb *TB, warnings []string, err error) {
	member, err := NewMember(l.Divergence, Overrides{Parameter: l.Parameter, Tail: l.Tail, Temper: l.Temper})
	if err != nil {
		return nil, nil, err
	}
	normaliser, err := ParseNormaliser(l.Normaliser)
	if err != nil {
		return nil, nil, err
	}
	if warnings, err = normaliser.CheckGroup(member.At(0), batch); err != nil {
		return nil, nil, err
	}
	tb, err = NewTB(Config{Member: member, Normaliser: normaliser, Backward: Backward(backward), RunningDecay: l.RunningDecay})
	return tb, warnings, err
}

// Member is the divergence at an update.
func (t *TB) Member(update int64) Divergence { return t.cfg.Member.At(update) }
