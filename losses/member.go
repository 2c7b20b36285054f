package losses

import (
	"fmt"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
)

// Overrides replace the numbers written in a spec, and may be schedules over
// updates. Nil and unset values leave the number that the spec gives.
type Overrides struct {
	Parameter *schedule.Value // of alpha, linex and huber
	Tail      *schedule.Value // k of the tail modifier; > 0
	Temper    *schedule.Value // β of the temper modifier; > 0
}

// Member is a divergence whose numbers may change from update to update. It
// keeps the last one that it built, so it is not safe for concurrent use; the
// divergences that it returns are.
type Member struct {
	spec                    *spec
	parameter, tail, temper schedule.Value
	current                 Divergence
}

// Fixed returns the Member that is d at every update.
func Fixed(d Divergence) *Member { return &Member{current: d} }

// NewMember parses a spec, as Parse does, and lets overrides replace its
// numbers: "alpha" with Parameter set needs no number of its own, and a tail or
// temper that the spec lacks is added. A temper written as temper_linear stays
// linear. Errors are *fielderr.Error with path "divergence", "parameter",
// "tail" or "temper".
func NewMember(text string, over Overrides) (*Member, error) {
	s, err := parseSpec(text)
	if err != nil {
		return nil, err
	}
	m := &Member{spec: s}
	if err := m.setParameter(text, over.Parameter); err != nil {
		return nil, err
	}
	if m.tail, err = numberOrOverride("tail", s.tail, s.hasTail, over.Tail, true); err != nil {
		return nil, err
	}
	if m.temper, err = numberOrOverride("temper", s.temper, s.hasTemper, over.Temper, true); err != nil {
		return nil, err
	}
	s.hasTail, s.hasTemper = m.tail.IsSet(), m.temper.IsSet()
	s.parameter, s.tail, s.temper = m.parameter.At(0), m.tail.At(0), m.temper.At(0)
	m.current = s.build()
	return m, nil
}

func (m *Member) setParameter(text string, over *schedule.Value) (err error) {
	s := m.spec
	takes := s.custom == nil && s.family.parameter != ""
	given := over != nil && over.IsSet()
	if given && !takes {
		return fielderr.New("parameter", over.String(), fmt.Sprintf("no parameter with %q; only alpha, linex and huber take one", text))
	}
	if takes && !given && !s.hasParam {
		return fault(text, fmt.Sprintf("a number after the name, such as %s, or the field parameter", s.family.example))
	}
	m.parameter, err = numberOrOverride("parameter", s.parameter, s.hasParam, over, s.family.positive)
	return err
}

func numberOrOverride(path string, number float64, has bool, over *schedule.Value, positive bool) (schedule.Value, error) {
	var v schedule.Value
	if has {
		v = schedule.Const(number)
	}
	if over != nil && over.IsSet() {
		v = *over
	}
	if err := v.Validate(); err != nil {
		return v, fielderr.Prefix(path, err)
	}
	if positive && v.IsSet() && v.Min() <= 0 {
		return v, fielderr.New(path, v.String(), "a number above 0 at every update")
	}
	return v, nil
}

// At returns the divergence of an update, counted from 0. It allocates only
// when a number has changed since the call before.
func (m *Member) At(update int64) Divergence {
	if m.spec == nil {
		return m.current
	}
	p, tail, temper := m.parameter.At(update), m.tail.At(update), m.temper.At(update)
	s := m.spec
	if p != s.parameter || tail != s.tail || temper != s.temper {
		s.parameter, s.tail, s.temper = p, tail, temper
		m.current = s.build()
	}
	return m.current
}
