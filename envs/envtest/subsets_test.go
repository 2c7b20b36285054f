package envtest_test

import (
	"fmt"
	"math"
	"math/bits"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
)

// size is the number of elements that a subset is chosen from.
const size = 4

// subsets is a correct little environment, and with a fault a broken one: add
// elements of {0..3} in any order and stop anywhere. A subset with k elements
// has k parents. The number of a subset is its bit pattern.
type subsets struct{ fault string }

type subsetStates struct {
	env  subsets
	bits []int
	done []bool
}

// broken says whether the environment has that fault.
func (e subsets) broken(fault string) bool { return e.fault == fault }

// pick is bad in an environment with that fault and good otherwise.
func pick[T any](e subsets, fault string, bad, good T) T {
	if e.broken(fault) {
		return bad
	}
	return good
}

func (e subsets) Spec() envs.Spec {
	return envs.Spec{
		Name: pick(e, "nameless", "", "subsets"), Actions: size + 1, BackwardActions: size, Features: size,
		MaxActive: pick(e, "many features", 3, size), MaxSteps: pick(e, "long", size-1, size+1),
	}
}

func (e subsets) NewStates(n int) envs.States {
	s := &subsetStates{e, make([]int, n), make([]bool, n)}
	if e.broken("started") && n > 1 {
		s.bits[1] = 1
	}
	if e.broken("short") {
		s.done = s.done[1:]
	}
	return s
}

func (e subsets) NumStates() int {
	return pick(e, "phantom state", 1<<size+1, 1<<size)
}

func (e subsets) NumObjects() int { return pick(e, "phantom object", 1<<size+1, 1<<size) }

func (e subsets) Load(s envs.States, row, state int) {
	t := s.(*subsetStates)
	t.bits[row], t.done[row] = state, e.broken("load ends")
	switch {
	case e.broken("load mixes up") && state > 0:
		t.bits[row] = 1<<size - state
	case e.broken("load repeats"):
		t.bits[row] = state &^ 1
	case e.broken("load flips"):
		t.bits[row] = state ^ 1
	}
}

func (e subsets) Child(state, action int) (int, bool) {
	switch {
	case action == size && e.broken("child outside"):
		return 1 << size, true
	case action == size && e.broken("child never ends"):
		return min(state+1, 1<<size-1), false
	case action == size && e.broken("objects differ"):
		return state ^ 1, true
	case action == size:
		return state, true
	case e.broken("child goes down"):
		return state, false
	case e.broken("child elsewhere") && action == 0 && state == 0:
		return 2, false
	}
	return state | 1<<action, false
}

func (e subsets) Object(s envs.States, row int) int {
	return s.(*subsetStates).bits[row] ^ pick(e, "object elsewhere", 1, 0)
}

func logReward(set int) float64 { return math.Log(1 + float64(bits.OnesCount(uint(set)))) }

func (e subsets) LogRewards(out []float64) {
	for i := range out {
		out[i] = logReward(i) + pick(e, "rewards differ", 1.0, 0)
	}
}

func (e subsets) NumModes() int { return pick(e, "phantom mode", 2, 1) }

func (e subsets) Mode(s envs.States, row int) int {
	if t := s.(*subsetStates); t.bits[row] == 1<<size-1 && t.done[row] {
		return pick(e, "mode outside", 5, 0)
	}
	return -1
}

func (e subsets) AppendModes(dst []int, s envs.States, row int) []int {
	dst = pick(e, "modes overwrite", nil, dst)
	if mode := e.Mode(s, row); mode >= 0 && !e.broken("modes differ") {
		dst = append(dst, mode)
		if e.broken("mode twice") {
			dst = append(dst, mode)
		}
	}
	return dst
}

func (s *subsetStates) Len() int { return len(s.done) }

func (s *subsetStates) Reset(rows []int32) {
	for _, r := range rows {
		s.bits[r], s.done[r] = pick(s.env, "reset halfway", s.bits[r]&1, 0), false
	}
}

func (s *subsetStates) CopyRow(dst int, from envs.States, src int) {
	f := from.(*subsetStates)
	s.bits[dst], s.done[dst] = f.bits[src], pick(s.env, "copy unfinished", false, f.done[src])
	if s.env.broken("copy spills") {
		s.bits[0] = f.bits[src]
	}
}

func (s *subsetStates) Terminal(row int) bool { return s.done[row] }

func (s *subsetStates) AppendKey(dst []byte, row int) []byte {
	key := byte(s.bits[row])
	if s.done[row] && !s.env.broken("key without end") {
		key |= 1 << size
	}
	return append(pick(s.env, "key overwrites", nil, dst), key&pick(s.env, "coarse key", 0x1e, byte(0xff)))
}

func (s *subsetStates) AppendFeatures(dst []int32, row int) []int32 {
	dst = pick(s.env, "features overwrite", dst[:0], dst)
	for i := range size {
		if s.bits[row]>>i&1 == 1 {
			dst = append(dst, int32(i)+pick(s.env, "features outside", int32(1), 0))
		}
	}
	return dst
}

func (s *subsetStates) ForwardMask(row int, mask []bool) {
	open := !s.done[row] || s.env.broken("no end")
	for i := range size {
		mask[i] = open && s.bits[row]>>i&1 == 0 || s.env.broken("mask too wide")
	}
	mask[size] = open && !(s.env.broken("dead end") && s.bits[row] == 1<<size-1)
}

func (s *subsetStates) BackwardMask(row int, mask []bool) {
	for i := range mask {
		mask[i] = (!s.done[row] || s.env.broken("no forced step")) && s.bits[row]>>i&1 == 1 || s.env.broken("back mask too wide")
	}
}

func (s *subsetStates) step(row int, action int32, on bool) bool {
	if s.done[row] || action < 0 || action >= size || (s.bits[row]>>action&1 == 1) == on {
		return false
	}
	s.bits[row] ^= 1 << action
	return true
}

// all applies take to every row, or to none: it works on a copy.
func (s *subsetStates) all(rows, actions []int32, take func(row int, action int32) bool) error {
	keptBits, keptDone := append([]int(nil), s.bits...), append([]bool(nil), s.done...)
	for i, r := range rows {
		if !take(int(r), actions[i]) && !s.env.broken("lenient") {
			if !s.env.broken("half a batch") && !s.env.broken("moves then fails") {
				s.bits, s.done = keptBits, keptDone
			}
			return fmt.Errorf("row %d: action %d is illegal", r, actions[i])
		}
	}
	return nil
}

func (s *subsetStates) Forward(rows, actions []int32) error {
	return s.all(rows, actions, func(row int, a int32) bool {
		if a == size && !s.done[row] {
			s.done[row] = true
			return true
		}
		if s.env.broken("moves then fails") && !s.done[row] {
			s.bits[row] ^= 1
		}
		return s.step(row, a, true)
	})
}

func (s *subsetStates) Backward(rows, actions []int32) error {
	return s.all(rows, actions, func(row int, b int32) bool {
		if b == envs.Only && (s.done[row] || s.env.broken("only anywhere")) {
			s.done[row] = false
			return true
		}
		if s.env.broken("back elsewhere") && s.bits[row] == 3 {
			b = 1 - b
		}
		return s.step(row, b, false)
	})
}

func (s *subsetStates) BackwardOf(_, actions, out []int32) {
	for i, a := range actions {
		out[i] = a
		if a == size {
			out[i] = envs.Only
		}
		if s.env.broken("undo wrong") {
			out[i] = (a + 1) % size
		}
	}
}

func (s *subsetStates) ForwardOf(_, actions, out []int32) {
	for i, b := range actions {
		out[i] = b
		if b == envs.Only {
			out[i] = pick(s.env, "redo wrong", 0, int32(size))
		}
	}
}

func (s *subsetStates) LogReward(rows []int32, out []float64) error {
	for i, r := range rows {
		if !s.done[r] && !s.env.broken("early reward") {
			return fmt.Errorf("row %d is no object", r)
		}
		out[i] = logReward(s.bits[r])
		if s.env.broken("infinite reward") {
			out[i] = math.Inf(-1)
		}
	}
	return nil
}

func (s *subsetStates) Text(row int) string {
	return fmt.Sprintf("%0*b", size, s.bits[row])
}

func (s *subsetStates) Parse(row int, text string) error {
	if s.env.broken("credulous") {
		text = strings.Trim(text, "\x00\xff")
	}
	var set int
	if _, err := fmt.Sscanf(text+"!", "%b!", &set); err != nil || len(text) != size && !s.env.broken("credulous") {
		return fmt.Errorf("%q is no subset", text)
	}
	s.bits[row], s.done[row] = set^pick(s.env, "parse changes", 1, 0), true
	return nil
}
