package conditional

import (
	"errors"
	"fmt"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
)

// ErrText is wrapped by errors about texts that are no pair.
var ErrText = errors.New("not a condition and an object")

// unset is the condition before the choice.
const unset int32 = -1

// states implements envs.States: the rows of the given environment, which are at its
// source until a condition is chosen.
type states struct {
	env     *Env
	inner   envs.States
	actions int32 // of the given environment; those of the conditions follow
	source  []byte
	chosen  []int32
	key     []byte
	redo    []int32 // forward actions that a Backward under way has taken back
}

// NewStates returns n states without a condition.
func (e *Env) NewStates(n int) envs.States {
	s := &states{env: e, inner: e.inner.NewStates(n), actions: int32(e.inner.Spec().Actions), chosen: make([]int32, n)}
	s.source = e.inner.NewStates(1).AppendKey(nil, 0)
	for i := range s.chosen {
		s.chosen[i] = unset
	}
	return s
}

func (s *states) Len() int { return len(s.chosen) }

func (s *states) Terminal(row int) bool { return s.chosen[row] != unset && s.inner.Terminal(row) }

func (s *states) Reset(rows []int32) {
	s.inner.Reset(rows)
	for _, row := range rows {
		s.chosen[row] = unset
	}
}

func (s *states) CopyRow(dst int, from envs.States, src int) {
	f := from.(*states)
	s.inner.CopyRow(dst, f.inner, src)
	s.chosen[dst] = f.chosen[src]
}

// AppendKey appends two bytes of the condition, then the given environment's key.
func (s *states) AppendKey(dst []byte, row int) []byte {
	c := s.chosen[row] + 1
	return s.inner.AppendKey(append(dst, byte(c>>8), byte(c)), row)
}

// AppendFeatures appends the given environment's, then the thermometer.
func (s *states) AppendFeatures(dst []int32, row int) []int32 {
	dst = s.inner.AppendFeatures(dst, row)
	first := int32(s.env.inner.Spec().Features)
	for i := int32(0); i <= s.chosen[row]; i++ {
		dst = append(dst, first+i)
	}
	return dst
}

func (s *states) ForwardMask(row int, mask []bool) {
	choosing := s.chosen[row] == unset
	if choosing {
		clear(mask[:s.actions])
	} else {
		s.inner.ForwardMask(row, mask[:s.actions])
	}
	for i := range mask[s.actions:] {
		mask[int(s.actions)+i] = choosing
	}
}

// BackwardMask is the given environment's: the choice is undone by envs.Only.
func (s *states) BackwardMask(row int, mask []bool) { s.inner.BackwardMask(row, mask) }

// Forward takes the steps one after another; on a fault it takes them back.
func (s *states) Forward(rows, actions []int32) error {
	for i := range rows {
		if err := s.forward(rows[i:i+1], actions[i:i+1]); err != nil {
			for j := i - 1; j >= 0; j-- {
				back := []int32{0}
				s.BackwardOf(rows[j:j+1], actions[j:j+1], back)
				if undo := s.backward(rows[j:j+1], back); undo != nil {
					panic(undo) // a step that was just taken
				}
			}
			return err
		}
	}
	return nil
}

func (s *states) forward(row, action []int32) error {
	at, a := row[0], action[0]
	if choosing := s.chosen[at] == unset; choosing != (a >= s.actions) || a < 0 || int(a-s.actions) >= len(s.env.betas) {
		return fmt.Errorf("hypergrid_conditional: row %d: forward action %d is illegal in %s", at, a, s.Text(int(at)))
	} else if choosing {
		s.chosen[at] = a - s.actions
		return nil
	}
	return s.inner.Forward(row, action)
}

// Backward takes the steps one after another; on a fault it takes them back.
func (s *states) Backward(rows, actions []int32) error {
	s.redo = s.redo[:0]
	for i := range rows {
		s.redo = append(s.redo, 0)
		if s.canUndo(int(rows[i]), actions[i]) {
			s.ForwardOf(rows[i:i+1], actions[i:i+1], s.redo[i:i+1])
		}
		if err := s.backward(rows[i:i+1], actions[i:i+1]); err != nil {
			for j := i - 1; j >= 0; j-- {
				if redo := s.forward(rows[j:j+1], s.redo[j:j+1]); redo != nil {
					panic(redo) // a step that was just taken back
				}
			}
			return err
		}
	}
	return nil
}

// canUndo says whether ForwardOf may be asked about a backward action.
func (s *states) canUndo(row int, action int32) bool {
	return s.chosen[row] != unset && action >= envs.Only && int(action) < s.env.inner.Spec().BackwardActions
}

func (s *states) backward(row, action []int32) error {
	at := int(row[0])
	switch {
	case s.chosen[at] == unset:
		return fmt.Errorf("hypergrid_conditional: row %d: backward action %d is illegal in %s", at, action[0], s.Text(at))
	case action[0] == envs.Only && s.atSource(at):
		s.chosen[at] = unset
		return nil
	}
	return s.inner.Backward(row, action)
}

// atSource says whether the condition is all that was chosen.
func (s *states) atSource(row int) bool {
	s.key = s.inner.AppendKey(s.key[:0], row)
	return string(s.key) == string(s.source)
}

func (s *states) BackwardOf(rows, actions, out []int32) {
	for i, a := range actions {
		if a >= s.actions {
			out[i] = envs.Only
			continue
		}
		s.inner.BackwardOf(rows[i:i+1], actions[i:i+1], out[i:i+1])
	}
}

func (s *states) ForwardOf(rows, actions, out []int32) {
	for i, b := range actions {
		if row := int(rows[i]); b == envs.Only && s.atSource(row) {
			out[i] = s.actions + s.chosen[row]
			continue
		}
		s.inner.ForwardOf(rows[i:i+1], actions[i:i+1], out[i:i+1])
	}
}

func (s *states) LogReward(rows []int32, out []float64) error {
	if err := s.inner.LogReward(rows, out); err != nil {
		return err
	}
	for i, row := range rows {
		c := s.chosen[row]
		if c == unset {
			return fmt.Errorf("hypergrid_conditional: row %d: no reward yet: %s", row, s.Text(int(row)))
		}
		out[i] = s.env.betas[c]*out[i] + s.env.offset[c]
	}
	return nil
}

// LogPotential implements envs.Potential: nothing before the choice, then the given
// environment's at the condition's temperature. The weight of the condition, which all its
// objects share, is left to the flow.
func (s *states) LogPotential(rows []int32, out []float64) error {
	if err := s.inner.(envs.Potential).LogPotential(rows, out); err != nil {
		return err
	}
	for i, row := range rows {
		if c := s.chosen[row]; c != unset {
			out[i] *= s.env.betas[c]
		} else {
			out[i] = 0
		}
	}
	return nil
}

// Text is the condition and the object, such as "beta=0.5 (3,0)".
func (s *states) Text(row int) string {
	name := "beta=?"
	if c := s.chosen[row]; c != unset {
		name = s.env.Conditions()[c]
	}
	return name + " " + s.inner.Text(row)
}

func (s *states) Parse(row int, text string) error {
	name, object, _ := strings.Cut(strings.TrimSpace(text), " ")
	for c, known := range s.env.Conditions() {
		if name != known {
			continue
		}
		if err := s.inner.Parse(row, object); err != nil {
			return fmt.Errorf("%w: %w", ErrText, err)
		}
		s.chosen[row] = int32(c)
		return nil
	}
	return fmt.Errorf("%w: %.80q; want one of %v, a space, and an object", ErrText, text, s.env.Conditions())
}
