package policy_test

import (
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/envs"
)

// slots is a small environment with what the hypergrid lacks: a forced step
// that does not end the object, and objects with several parents. The first
// action, "open", is forced; then each of n places gets a bit in any order, and
// the object is done when all are filled. Action 2p+v puts v in place p, action
// 2n opens; backward action p empties place p.
type slots int

func (n slots) Spec() envs.Spec {
	k := int(n)
	return envs.Spec{Name: "slots", Actions: 2*k + 1, BackwardActions: k, Features: 2*k + 1, MaxActive: k + 1, MaxSteps: k + 1}
}

func (n slots) NewStates(count int) envs.States {
	s := &slotStates{n: int(n), open: make([]bool, count), place: make([]int8, count*int(n))}
	for i := range s.place {
		s.place[i] = -1
	}
	return s
}

type slotStates struct {
	n     int
	open  []bool
	place []int8 // −1, 0 or 1
}

var errSlots = errors.New("slots: illegal")

func (s *slotStates) of(row int) []int8 { return s.place[row*s.n : (row+1)*s.n] }
func (s *slotStates) Len() int          { return len(s.open) }

func (s *slotStates) Reset(rows []int32) {
	for _, row := range rows {
		s.open[row] = false
		for p := range s.of(int(row)) {
			s.of(int(row))[p] = -1
		}
	}
}

func (s *slotStates) CopyRow(dst int, from envs.States, src int) {
	f := from.(*slotStates)
	s.open[dst] = f.open[src]
	copy(s.of(dst), f.of(src))
}

func (s *slotStates) Terminal(row int) bool {
	for _, v := range s.of(row) {
		if v < 0 {
			return false
		}
	}
	return true
}

func (s *slotStates) AppendKey(dst []byte, row int) []byte {
	if s.open[row] {
		dst = append(dst, 1)
	}
	for _, v := range s.of(row) {
		dst = append(dst, byte(v+2))
	}
	return dst
}

func (s *slotStates) AppendFeatures(dst []int32, row int) []int32 {
	for p, v := range s.of(row) {
		if v >= 0 {
			dst = append(dst, int32(2*p)+int32(v))
		}
	}
	if s.open[row] {
		dst = append(dst, int32(2*s.n))
	}
	return dst
}

func (s *slotStates) ForwardMask(row int, mask []bool) {
	for p, v := range s.of(row) {
		mask[2*p] = s.open[row] && v < 0
		mask[2*p+1] = mask[2*p]
	}
	mask[2*s.n] = !s.open[row]
}

func (s *slotStates) BackwardMask(row int, mask []bool) {
	for p, v := range s.of(row) {
		mask[p] = v >= 0
	}
}

func (s *slotStates) Forward(rows, actions []int32) error {
	for i, row := range rows {
		a := int(actions[i])
		switch {
		case a == 2*s.n && !s.open[row]:
			s.open[row] = true
		case a < 2*s.n && a >= 0 && s.open[row] && s.of(int(row))[a/2] < 0:
			s.of(int(row))[a/2] = int8(a % 2)
		default:
			return fmt.Errorf("%w: row %d, action %d", errSlots, row, a)
		}
	}
	return nil
}

func (s *slotStates) Backward(rows, actions []int32) error {
	for i, row := range rows {
		if actions[i] == envs.Only {
			s.open[row] = false
		} else {
			s.of(int(row))[actions[i]] = -1
		}
	}
	return nil
}

func (s *slotStates) BackwardOf(_, actions, out []int32) {
	for i, a := range actions {
		if out[i] = a / 2; int(a) == 2*s.n {
			out[i] = envs.Only
		}
	}
}

func (s *slotStates) ForwardOf(rows, actions, out []int32) {
	for i, b := range actions {
		if out[i] = int32(2 * s.n); b != envs.Only {
			out[i] = 2*b + int32(s.of(int(rows[i]))[b])
		}
	}
}

func (s *slotStates) LogReward(_ []int32, out []float64) error {
	clear(out)
	return nil
}

func (s *slotStates) Text(row int) string     { return fmt.Sprint(s.of(row)) }
func (s *slotStates) Parse(int, string) error { return errSlots }
