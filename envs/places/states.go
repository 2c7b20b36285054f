package places

import (
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
)

// States implements envs.States for an Env.
type States struct {
	env        *Env
	places     int
	vocabulary int32
	any        bool    // the order
	tokens     []int32 // n × places
	filled     []int32 // places that are not empty
	undone     []int32 // tokens that a Backward under way has taken out
}

// based are States, or what embeds them.
type based interface{ base() *States }

func (s *States) base() *States { return s }

func (s *States) row(row int) []int32 { return s.tokens[row*s.places : (row+1)*s.places] }

// Len implements envs.States, and so do the others.
func (s *States) Len() int { return len(s.filled) }

func (s *States) Terminal(row int) bool { return int(s.filled[row]) == s.places }

func (s *States) Reset(rows []int32) {
	for _, row := range rows {
		tokens := s.row(int(row))
		for i := range tokens {
			tokens[i] = Empty
		}
		s.filled[row] = 0
	}
}

func (s *States) CopyRow(dst int, from envs.States, src int) {
	f := from.(based).base()
	copy(s.row(dst), f.row(src))
	s.filled[dst] = f.filled[src]
}

// AppendKey appends a number for each place, 0 for an empty one, in as many bytes
// as the vocabulary needs.
func (s *States) AppendKey(dst []byte, row int) []byte {
	if s.vocabulary < 1<<8 {
		for _, t := range s.row(row) {
			dst = append(dst, byte(t+1))
		}
		return dst
	}
	for _, t := range s.row(row) {
		t++
		dst = append(dst, byte(t>>16), byte(t>>8), byte(t))
	}
	return dst
}

// AppendFeatures appends place × vocabulary + token for every filled place.
func (s *States) AppendFeatures(dst []int32, row int) []int32 {
	base := int32(0)
	for _, t := range s.row(row) {
		if t != Empty {
			dst = append(dst, base+t)
		}
		base += s.vocabulary
	}
	return dst
}

func (s *States) ForwardMask(row int, mask []bool) {
	if !s.any {
		open := !s.Terminal(row)
		for i := range mask {
			mask[i] = open
		}
		return
	}
	for _, t := range s.row(row) {
		here := mask[:s.vocabulary]
		for i := range here {
			here[i] = t == Empty
		}
		mask = mask[s.vocabulary:]
	}
}

func (s *States) BackwardMask(row int, mask []bool) {
	if !s.any {
		return // no backward action but Only
	}
	for i, t := range s.row(row) {
		mask[i] = t != Empty
	}
}

// Forward takes the steps one after another; on a fault it takes them back.
func (s *States) Forward(rows, actions []int32) error {
	for i, row := range rows {
		place, token, ok := s.step(int(row), actions[i])
		if !ok {
			err := fmt.Errorf("%s: row %d: forward action %d is illegal in %s", s.env.spec.Name, row, actions[i], s.where(int(row)))
			for j := i - 1; j >= 0; j-- {
				s.clear(int(rows[j]), s.placeOf(int(rows[j]), actions[j]))
			}
			return err
		}
		s.row(int(row))[place] = token
		s.filled[row]++
	}
	return nil
}

// step is the place and token of a forward action; false when it is illegal.
func (s *States) step(row int, action int32) (place int, token int32, ok bool) {
	if action < 0 || int(action) >= s.env.spec.Actions || s.Terminal(row) {
		return 0, 0, false
	}
	if !s.any {
		return int(s.filled[row]), action, true
	}
	place, token = int(action/s.vocabulary), action%s.vocabulary
	return place, token, s.row(row)[place] == Empty
}

// placeOf is the place that a forward action has filled in the row as it is now.
func (s *States) placeOf(row int, action int32) int {
	if s.any {
		return int(action / s.vocabulary)
	}
	return int(s.filled[row]) - 1
}

func (s *States) clear(row, place int) (token int32) {
	at := &s.row(row)[place]
	token, *at = *at, Empty
	s.filled[row]--
	return token
}

// Backward takes the steps one after another; on a fault it takes them back.
func (s *States) Backward(rows, actions []int32) error {
	s.undone = s.undone[:0]
	for i, row := range rows {
		place := s.emptied(int(row), actions[i])
		if place < 0 {
			err := fmt.Errorf("%s: row %d: backward action %d is illegal in %s", s.env.spec.Name, row, actions[i], s.where(int(row)))
			for j := i - 1; j >= 0; j-- {
				back := int(rows[j])
				at := int(actions[j])
				if !s.any {
					at = int(s.filled[back])
				}
				s.row(back)[at] = s.undone[j]
				s.filled[back]++
			}
			return err
		}
		s.undone = append(s.undone, s.clear(int(row), place))
	}
	return nil
}

// emptied is the place that a backward action empties; −1 when it is illegal.
func (s *States) emptied(row int, action int32) int {
	if !s.any {
		if action != envs.Only {
			return -1
		}
		return int(s.filled[row]) - 1
	}
	if action < 0 || int(action) >= s.places || s.row(row)[action] == Empty {
		return -1
	}
	return int(action)
}

func (s *States) BackwardOf(_, actions, out []int32) {
	for i, a := range actions {
		out[i] = envs.Only
		if s.any {
			out[i] = a / s.vocabulary
		}
	}
}

// ForwardOf reads the token from the place that the backward action will empty.
func (s *States) ForwardOf(rows, actions, out []int32) {
	for i, b := range actions {
		row := int(rows[i])
		if s.any {
			out[i] = b*s.vocabulary + s.row(row)[b]
		} else {
			out[i] = s.row(row)[s.filled[row]-1]
		}
	}
}

func (s *States) LogReward(rows []int32, out []float64) error {
	for i, row := range rows {
		if !s.Terminal(int(row)) {
			return fmt.Errorf("%s: row %d: no reward yet: %s", s.env.spec.Name, row, s.where(int(row)))
		}
		out[i] = s.env.task.LogReward(s.row(int(row)))
	}
	return nil
}

func (s *States) where(row int) string {
	if s.Terminal(row) {
		return "object " + s.Text(row)
	}
	return "unfinished " + s.Text(row)
}

func (s *States) Text(row int) string {
	return string(s.env.task.AppendText(nil, s.row(row)))
}

// Parse reads what Text writes of objects. The row is unchanged when the text is
// wrong (the error wraps ErrText).
func (s *States) Parse(row int, text string) error {
	tokens := make([]int32, s.places)
	if err := s.env.task.ReadText(tokens, text); err != nil {
		return err
	}
	copy(s.row(row), tokens)
	s.filled[row] = int32(s.places)
	return nil
}

// potentialStates are States of a Partial task.
type potentialStates struct {
	*States
	task Partial
}

// LogPotential implements envs.Potential.
func (s *potentialStates) LogPotential(rows []int32, out []float64) error {
	for i, row := range rows {
		out[i] = s.task.LogPotential(s.row(int(row)))
	}
	return nil
}
