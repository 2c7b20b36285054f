package mixture

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
)

// ErrText is wrapped by errors about texts that are no object of these
// environments.
var ErrText = errors.New("not an object of this environment")

// table is the one-step environment: action a leads from s0 to object a, the
// way back is forced, and the only unfinished state has one feature, which is
// always active.
type table struct {
	spec envs.Spec
	side int // objects a side: coordinates are the digits of the number in this base
	dim  int
	logR []float64
}

func newTable(name string, side, dim int) table {
	n := side
	if dim == 2 {
		n *= side
	}
	return table{side: side, dim: dim, spec: envs.Spec{Name: name, Actions: n, Features: 1, MaxActive: 1, MaxSteps: 1}}
}

// Spec is the fixed shape of the environment.
func (t *table) Spec() envs.Spec { return t.spec }

// NewStates returns n states at s0.
func (t *table) NewStates(n int) envs.States {
	s := &states{t: t, at: make([]int32, n)}
	for i := range s.at {
		s.at[i] = source
	}
	return s
}

// NumStates is 1: s0.
func (t *table) NumStates() int { return 1 }

// NumObjects is the number of actions.
func (t *table) NumObjects() int { return len(t.logR) }

// Load puts the row to s0.
func (t *table) Load(s envs.States, row int, _ int) { s.(*states).at[row] = source }

// Child returns the object of the action's number.
func (t *table) Child(_ int, action int) (to int, terminal bool) { return action, true }

// Object returns the number of a terminal row.
func (t *table) Object(s envs.States, row int) int { return int(s.(*states).at[row]) }

// LogRewards writes log R of every object.
func (t *table) LogRewards(out []float64) { copy(out, t.logR) }

// Marks are the coordinates of the object: cells are apart by the share of them that
// differ, and the objects of a categorical have one.
func (t *table) Marks() envs.Marks {
	side := int32(t.side)
	return envs.Marks{
		Positions: t.dim, Vocabulary: t.side, Features: t.dim * t.side,
		Append: func(dst []int32, s envs.States, row int) []int32 {
			at := s.(*states).at[row]
			if dst = append(dst, at%side); t.dim == 2 {
				dst = append(dst, side+at/side)
			}
			return dst
		},
	}
}

// Facts are exact.
func (t *table) Facts() envs.Facts {
	cells, logZ := float64(len(t.logR)), logSum(t.logR)
	f := envs.Facts{Cells: &cells, MaxSteps: 1, LogZ: &logZ}
	if best := math.Exp(slices.Max(t.logR)); best > 0 && finite(best) {
		f.MaxReward = &best
	}
	return f
}

// Mixture is the environment that New returns.
type Mixture struct {
	table
	hump  []int32 // of every cell
	humps int
}

// Facts are those of the table, and the number of humps.
func (m *Mixture) Facts() envs.Facts {
	f := m.table.Facts()
	modes := float64(m.humps)
	f.Modes = &modes
	return f
}

// NumModes is the number of humps.
func (m *Mixture) NumModes() int { return m.humps }

// Mode returns the hump that has the largest share of a terminal row's reward:
// every cell belongs to one, so that the masses of the humps add up to 1.
func (m *Mixture) Mode(s envs.States, row int) int {
	at := s.(*states).at[row]
	if at == source {
		return -1
	}
	return int(m.hump[at])
}

// source marks a row at s0; others hold the number of their object.
const source = -1

// states implements envs.States.
type states struct {
	t  *table
	at []int32
}

func (s *states) Len() int              { return len(s.at) }
func (s *states) Terminal(row int) bool { return s.at[row] != source }

func (s *states) Reset(rows []int32) {
	for _, row := range rows {
		s.at[row] = source
	}
}

func (s *states) CopyRow(dst int, from envs.States, src int) { s.at[dst] = from.(*states).at[src] }

// AppendKey appends the number of the object in three bytes, after a byte that tells it from s0.
func (s *states) AppendKey(dst []byte, row int) []byte {
	at := s.at[row]
	if at == source {
		return append(dst, 0)
	}
	return append(dst, 1, byte(at>>16), byte(at>>8), byte(at))
}

// AppendFeatures appends the only feature there is.
func (s *states) AppendFeatures(dst []int32, _ int) []int32 { return append(dst, 0) }

func (s *states) ForwardMask(row int, mask []bool) {
	for i := range mask {
		mask[i] = s.at[row] == source
	}
}

func (s *states) BackwardMask(_ int, mask []bool) { clear(mask) }

// Forward takes the steps one after another; on a fault it takes them back.
func (s *states) Forward(rows, actions []int32) error {
	for i, row := range rows {
		if a := actions[i]; s.at[row] != source || a < 0 || int(a) >= len(s.t.logR) {
			err := fmt.Errorf("%s: row %d: forward action %d is illegal in %s", s.t.spec.Name, row, a, s.Text(int(row)))
			s.Reset(rows[:i])
			return err
		}
		s.at[row] = actions[i]
	}
	return nil
}

// Backward puts objects back to s0; on a fault no row has moved.
func (s *states) Backward(rows, actions []int32) error {
	for i, row := range rows {
		if actions[i] != envs.Only || s.at[row] == source {
			return fmt.Errorf("%s: row %d: backward action %d is illegal in %s", s.t.spec.Name, row, actions[i], s.Text(int(row)))
		}
	}
	s.Reset(rows)
	return nil
}

func (s *states) BackwardOf(_, actions, out []int32) {
	for i := range actions {
		out[i] = envs.Only
	}
}

// ForwardOf is the action that leads to the object where the row is.
func (s *states) ForwardOf(rows, _, out []int32) {
	for i, row := range rows {
		out[i] = s.at[row]
	}
}

func (s *states) LogReward(rows []int32, out []float64) error {
	for i, row := range rows {
		if s.at[row] == source {
			return fmt.Errorf("%s: row %d: no reward yet: it is at the source", s.t.spec.Name, row)
		}
		out[i] = s.t.logR[s.at[row]]
	}
	return nil
}

// Text is the cell, such as "(3,17)", of an object, and "()" at s0.
func (s *states) Text(row int) string {
	at := int(s.at[row])
	switch {
	case at == source:
		return "()"
	case s.t.dim == 1:
		return "(" + strconv.Itoa(at) + ")"
	}
	return "(" + strconv.Itoa(at%s.t.side) + "," + strconv.Itoa(at/s.t.side) + ")"
}

// Parse reads what Text writes of an object; spaces around the numbers are
// allowed. The row is unchanged when the text is wrong (the error wraps ErrText).
func (s *states) Parse(row int, text string) error {
	inside, ok := strings.CutPrefix(strings.TrimSpace(text), "(")
	if ok {
		inside, ok = strings.CutSuffix(inside, ")")
	}
	digits := strings.Split(inside, ",")
	if !ok || len(digits) != s.t.dim {
		return fmt.Errorf("%w: %.80q; want %d numbers in parentheses", ErrText, text, s.t.dim)
	}
	at, unit := 0, 1
	for i, digit := range digits {
		v, err := strconv.ParseUint(strings.TrimSpace(digit), 10, 31)
		if err != nil || int(v) >= s.t.side {
			return fmt.Errorf("%w: coordinate %d of %.80q is %.20q; want 0 to %d", ErrText, i, text, digit, s.t.side-1)
		}
		at += unit * int(v)
		unit *= s.t.side
	}
	s.at[row] = int32(at)
	return nil
}
