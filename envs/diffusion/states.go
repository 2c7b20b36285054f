package diffusion

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
)

// ErrText is wrapped by errors about texts that are no point of the space.
var ErrText = errors.New("not a point of the target's space")

// floor is the least log-reward. Far out, where densities are nothing in any
// arithmetic, it keeps residuals finite.
const floor = -1e6

// maxScore bounds the gradient, which may be anything far out.
const maxScore = 1e4

// states implements envs.Points: x holds the coordinates row by row.
type states struct {
	env  *Env
	dim  int
	x    []float32 // n × dim
	step []int32   // steps taken
}

// NewStates returns n states in the origin.
func (e *Env) NewStates(n int) envs.States {
	return &states{env: e, dim: e.spec.ActionDim, x: make([]float32, n*e.spec.ActionDim), step: make([]int32, n)}
}

func (s *states) point(row int) []float32 { return s.x[row*s.dim : (row+1)*s.dim] }
func (s *states) Len() int                { return len(s.step) }
func (s *states) last() int32             { return int32(s.env.spec.MaxSteps) }
func (s *states) Terminal(row int) bool   { return s.step[row] == s.last() }

func (s *states) Reset(rows []int32) {
	for _, row := range rows {
		clear(s.point(int(row)))
		s.step[row] = 0
	}
}

func (s *states) CopyRow(dst int, from envs.States, src int) {
	f := from.(*states)
	copy(s.point(dst), f.point(src))
	s.step[dst] = f.step[src]
}

// AppendKey appends the step and the bits of the coordinates.
func (s *states) AppendKey(dst []byte, row int) []byte {
	dst = binary.LittleEndian.AppendUint16(dst, uint16(s.step[row]))
	for _, v := range s.point(row) {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
	}
	return dst
}

// AppendDense appends the number of steps taken, the coordinates, and the gradient
// of the log-density there, within ±maxScore.
func (s *states) AppendDense(dst []float32, row int) []float32 {
	x := s.point(row)
	dst = append(append(dst, float32(s.step[row])), x...)
	from := len(dst)
	dst = s.env.target.score(dst, x)
	for i, g := range dst[from:] {
		dst[from+i] = max(-maxScore, min(maxScore, g))
	}
	return dst
}

func (s *states) AppendFeatures(dst []int32, _ int) []int32 { return dst }
func (s *states) ForwardMask(int, []bool)                   {}
func (s *states) BackwardMask(int, []bool)                  {}

// Forward goes to the points.
func (s *states) Forward(rows, actions []int32) error {
	for i, row := range rows {
		if s.Terminal(int(row)) {
			return fmt.Errorf("diffusion: row %d: a step from the finished %s", row, s.Text(int(row)))
		}
		if err := s.check(row, actions[i*s.dim:(i+1)*s.dim]); err != nil {
			return err
		}
	}
	for i, row := range rows {
		s.move(int(row), actions[i*s.dim:(i+1)*s.dim])
		s.step[row]++
	}
	return nil
}

// Backward goes back to the points; the first step is taken back by Only.
func (s *states) Backward(rows, actions []int32) error {
	for i, row := range rows {
		a := actions[i*s.dim : (i+1)*s.dim]
		switch s.step[row] {
		case 0:
			return fmt.Errorf("diffusion: row %d: a step back from the origin", row)
		case 1:
			if a[0] != envs.Only {
				return fmt.Errorf("diffusion: row %d: the only way back from %s is to the origin", row, s.Text(int(row)))
			}
		default:
			if err := s.check(row, a); err != nil {
				return err
			}
		}
	}
	for i, row := range rows {
		if s.step[row]--; s.step[row] == 0 {
			clear(s.point(int(row)))
			continue
		}
		s.move(int(row), actions[i*s.dim:(i+1)*s.dim])
	}
	return nil
}

// check refuses coordinates that are not finite.
func (s *states) check(row int32, action []int32) error {
	for j, w := range action {
		if v := envs.Coordinate(w); v-v != 0 {
			return fmt.Errorf("diffusion: row %d: coordinate %d of an action is %v; want a finite number", row, j, v)
		}
	}
	return nil
}

func (s *states) move(row int, action []int32) {
	x := s.point(row)
	for j, w := range action {
		x[j] = envs.Coordinate(w)
	}
}

// BackwardOf is the point where a row is, or Only in the origin.
func (s *states) BackwardOf(rows, _, out []int32) {
	for i, row := range rows {
		s.words(int(row), out[i*s.dim:(i+1)*s.dim])
		if s.step[row] == 0 {
			for j := range s.dim {
				out[i*s.dim+j] = envs.Only
			}
		}
	}
}

// ForwardOf is the point where a row is.
func (s *states) ForwardOf(rows, _, out []int32) {
	for i, row := range rows {
		s.words(int(row), out[i*s.dim:(i+1)*s.dim])
	}
}

func (s *states) words(row int, out []int32) {
	for j, v := range s.point(row) {
		out[j] = envs.Word(v)
	}
}

// LogReward is the log-density, at least the floor.
func (s *states) LogReward(rows []int32, out []float64) error {
	for i, row := range rows {
		if !s.Terminal(int(row)) {
			return fmt.Errorf("diffusion: row %d: %s is not finished", row, s.Text(int(row)))
		}
		out[i] = max(s.env.target.logDensity(s.point(int(row))), floor)
	}
	return nil
}

// Draw implements envs.Drawn.
func (e *Env) Draw(r *rand.Rand, s envs.States, rows []int32) {
	st, x := s.(*states), make([]float64, e.spec.ActionDim)
	for _, row := range rows {
		e.target.draw(r, x)
		for j, v := range x {
			st.point(int(row))[j] = float32(v)
		}
		st.step[row] = st.last()
	}
}

// PointDim implements envs.Located.
func (e *Env) PointDim() int { return e.spec.ActionDim }

// Point implements envs.Located.
func (e *Env) Point(s envs.States, row int, out []float64) {
	for j, v := range s.(*states).point(row) {
		out[j] = float64(v)
	}
}

// Text lists the coordinates in the fewest digits that tell them apart.
func (s *states) Text(row int) string {
	out := []byte{'('}
	for j, v := range s.point(row) {
		if j > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendFloat(out, float64(v), 'g', -1, 32)
	}
	out = append(out, ')')
	if t := s.step[row]; t < s.last() {
		out = fmt.Appendf(out, " after %d of %d steps", t, s.last())
	}
	return string(out)
}

// Parse reads the coordinates of an object.
func (s *states) Parse(row int, text string) error {
	if len(text) < 2 || text[0] != '(' || text[len(text)-1] != ')' {
		return fmt.Errorf("%w: %q; want %d numbers in parentheses, such as (1.5,-2)", ErrText, clip(text), s.dim)
	}
	fields := strings.Split(text[1:len(text)-1], ",")
	if len(fields) != s.dim {
		return fmt.Errorf("%w: %q has %d coordinates; want %d", ErrText, clip(text), len(fields), s.dim)
	}
	at := make([]float32, s.dim)
	for j, f := range fields {
		v, err := strconv.ParseFloat(f, 32)
		if at[j] = float32(v); err != nil || at[j]-at[j] != 0 {
			return fmt.Errorf("%w: coordinate %d of %q is %q; want a finite number", ErrText, j, clip(text), clip(f))
		}
	}
	copy(s.point(row), at)
	s.step[row] = s.last()
	return nil
}

// reach is the farthest coordinate of an object to learn from, in sigma. The reference
// process has a log-density of -reach²/2 there, which is what floor is to the reward's.
const reach = 1000

// Limit implements envs.Limited.
func (s *states) Limit(row int) error {
	most := reach * s.env.spec.Sigma
	for j, v := range s.point(row) {
		if !(math.Abs(float64(v)) <= most) {
			return fmt.Errorf("%w: coordinate %d is %g; want -%g to %g, %d sigma", ErrText, j, v, most, most, reach)
		}
	}
	return nil
}

func clip(text string) string {
	if len(text) > 80 {
		return text[:77] + "..."
	}
	return text
}
