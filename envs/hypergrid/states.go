package hypergrid

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
)

// ErrText is wrapped by errors about texts that are no cell of the grid.
var ErrText = errors.New("not a cell of the hypergrid")

// states implements envs.States: x holds the coordinates row by row.
type states struct {
	g      *Grid
	dim    int
	height int32
	x      []int32 // n × dim
	done   []bool  // the row is an object
}

func (s *states) cell(row int) []int32 { return s.x[row*s.dim : (row+1)*s.dim] }

func (s *states) Len() int              { return len(s.done) }
func (s *states) Terminal(row int) bool { return s.done[row] }

func (s *states) Reset(rows []int32) {
	for _, row := range rows {
		clear(s.cell(int(row)))
		s.done[row] = false
	}
}

func (s *states) CopyRow(dst int, from envs.States, src int) {
	f := from.(*states)
	copy(s.cell(dst), f.cell(src))
	s.done[dst] = f.done[src]
}

// AppendKey appends one byte that tells objects from cells under way, then the
// coordinates in as many bytes as the height needs.
func (s *states) AppendKey(dst []byte, row int) []byte {
	end := byte(0)
	if s.done[row] {
		end = 1
	}
	dst = append(dst, end)
	if s.height <= 1<<8 {
		for _, v := range s.cell(row) {
			dst = append(dst, byte(v))
		}
		return dst
	}
	for _, v := range s.cell(row) {
		dst = append(dst, byte(v>>8), byte(v))
	}
	return dst
}

// AppendFeatures appends a one-hot code of every coordinate.
func (s *states) AppendFeatures(dst []int32, row int) []int32 {
	base := int32(0)
	for _, v := range s.cell(row) {
		dst = append(dst, base+v)
		base += s.height
	}
	return dst
}

func (s *states) ForwardMask(row int, mask []bool) {
	open := !s.done[row]
	for i, v := range s.cell(row) {
		mask[i] = open && v < s.height-1
	}
	mask[s.dim] = open
}

func (s *states) BackwardMask(row int, mask []bool) {
	open := !s.done[row]
	for i, v := range s.cell(row) {
		mask[i] = open && v > 0
	}
}

// Forward takes the steps one after another; on a fault it takes them back.
func (s *states) Forward(rows, actions []int32) error {
	for i, row := range rows {
		if !s.forward(int(row), int(actions[i])) {
			err := fmt.Errorf("hypergrid: row %d: forward action %d is illegal in %s", row, actions[i], s.where(int(row)))
			for j := i - 1; j >= 0; j-- {
				s.backward(int(rows[j]), s.undo(actions[j]))
			}
			return err
		}
	}
	return nil
}

func (s *states) forward(row, action int) bool {
	if s.done[row] || action < 0 || action > s.dim {
		return false
	}
	if action == s.dim {
		s.done[row] = true
		return true
	}
	cell := s.cell(row)
	if cell[action] >= s.height-1 {
		return false
	}
	cell[action]++
	return true
}

// Backward takes the steps one after another; on a fault it takes them back.
func (s *states) Backward(rows, actions []int32) error {
	for i, row := range rows {
		if !s.backward(int(row), actions[i]) {
			err := fmt.Errorf("hypergrid: row %d: backward action %d is illegal in %s", row, actions[i], s.where(int(row)))
			for j := i - 1; j >= 0; j-- {
				s.forward(int(rows[j]), int(s.redo(actions[j])))
			}
			return err
		}
	}
	return nil
}

func (s *states) backward(row int, action int32) bool {
	if s.done[row] {
		if action != envs.Only {
			return false
		}
		s.done[row] = false
		return true
	}
	if action < 0 || int(action) >= s.dim {
		return false
	}
	cell := s.cell(row)
	if cell[action] == 0 {
		return false
	}
	cell[action]--
	return true
}

// undo and redo translate between the two directions; they depend on the
// action alone.
func (s *states) undo(action int32) int32 {
	if int(action) == s.dim {
		return envs.Only
	}
	return action
}

func (s *states) redo(action int32) int32 {
	if action == envs.Only {
		return int32(s.dim)
	}
	return action
}

func (s *states) BackwardOf(_, actions, out []int32) {
	for i, a := range actions {
		out[i] = s.undo(a)
	}
}

func (s *states) ForwardOf(_, actions, out []int32) {
	for i, b := range actions {
		out[i] = s.redo(b)
	}
}

func (s *states) LogReward(rows []int32, out []float64) error {
	for i, row := range rows {
		if !s.done[row] {
			return fmt.Errorf("hypergrid: row %d: no reward yet: %s", row, s.where(int(row)))
		}
		out[i] = s.g.rewards.logReward(s.cell(int(row)))
	}
	return nil
}

func (s *states) where(row int) string {
	if s.done[row] {
		return "object " + s.Text(row)
	}
	return "unfinished " + s.Text(row)
}

// Text is the cell, such as "(3,0,7)", of an object as of one under way.
func (s *states) Text(row int) string {
	out := []byte{'('}
	for i, v := range s.cell(row) {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, int64(v), 10)
	}
	return string(append(out, ')'))
}

// Parse reads what Text writes; spaces around the numbers are allowed. The row
// is unchanged when the text is wrong (the error wraps ErrText).
func (s *states) Parse(row int, text string) error {
	inside, ok := strings.CutPrefix(strings.TrimSpace(text), "(")
	if ok {
		inside, ok = strings.CutSuffix(inside, ")")
	}
	if !ok {
		return fmt.Errorf("%w: %.80q; want %d numbers in parentheses, such as %s", ErrText, text, s.dim, s.example())
	}
	fields := strings.Split(inside, ",")
	if len(fields) != s.dim {
		return fmt.Errorf("%w: %.80q has %d coordinates; want %d", ErrText, text, len(fields), s.dim)
	}
	cell := make([]int32, s.dim)
	for i, field := range fields {
		v, err := strconv.ParseUint(strings.TrimSpace(field), 10, 31)
		if err != nil || int32(v) >= s.height {
			return fmt.Errorf("%w: coordinate %d of %.80q is %.20q; want 0 to %d", ErrText, i, text, field, s.height-1)
		}
		cell[i] = int32(v)
	}
	copy(s.cell(row), cell)
	s.done[row] = true
	return nil
}

// example is the far corner, in at most three coordinates.
func (s *states) example() string {
	corner := strings.Repeat(","+strconv.Itoa(int(s.height-1)), min(s.dim, 3))[1:]
	if s.dim > 3 {
		corner += ",…"
	}
	return "(" + corner + ")"
}
