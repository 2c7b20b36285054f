package places

import (
	"math"

	"github.com/driftmesh/driftmesh/envs"
)

// mostListed is the most places of an environment that is listed: two tokens and
// envs.MaxStates objects.
const mostListed = 22

// Listing numbers the states and objects of an Env. Embedded beside it, it makes an
// envs.Enumerable.
//
// Objects are numbered as their tokens spell a number in base V, the first place
// the most significant digit: the lexicographic order. States of order Left come by
// their length, then in that order. States of order Any are the numbers in base
// V + 1, 0 for an empty place, that have a 0 among their digits, ranked by size:
// filling a place makes the number larger, so both orders are topological.
type Listing struct {
	env             *Env
	states, objects int
	full            []int // V^i
	all             []int // (V+1)^i, order Any only
	first           []int // number of the first state with i tokens, order Left only
}

// List returns the listing of e; false when it has more than envs.MaxStates states
// or objects.
func List(e *Env) (Listing, bool) {
	places, v := e.shape.Places, e.shape.Vocabulary
	base := float64(v)
	if e.shape.Order == Any {
		base++
	}
	// Far too many is decided in floating point, where nothing overflows.
	if places > mostListed || math.Pow(base, float64(places)) > 1<<50 {
		return Listing{}, false
	}
	l := Listing{env: e, full: powers(v, places)}
	l.objects = l.full[places]
	if e.shape.Order == Any {
		l.all = powers(v+1, places)
		l.states = l.all[places] - l.full[places]
	} else {
		l.first = make([]int, places+1)
		for i := range places {
			l.first[i+1] = l.first[i] + l.full[i]
		}
		l.states = l.first[places]
	}
	return l, max(l.states, l.objects) <= envs.MaxStates
}

// powers are base^0 to base^n.
func powers(base, n int) []int {
	out := []int{1}
	for range n {
		out = append(out, out[len(out)-1]*base)
	}
	return out
}

// NumStates is the number of partial fillings, the empty one included.
func (l Listing) NumStates() int { return l.states }

// NumObjects is V^L.
func (l Listing) NumObjects() int { return l.objects }

// Load makes the row the state with that number.
func (l Listing) Load(s envs.States, row int, state int) {
	b := s.(based).base()
	b.filled[row] = l.fill(b.row(row), state)
}

// fill writes the tokens of a state and returns how many are not Empty.
func (l Listing) fill(tokens []int32, state int) (filled int32) {
	if l.all == nil {
		return l.fillLeft(tokens, state)
	}
	holed := false // a place to the left is empty
	for i := range tokens {
		rest := len(tokens) - 1 - i
		digit := 0
		switch {
		case holed:
			digit = state / l.all[rest]
			state %= l.all[rest]
		case state < l.all[rest]:
			holed = true
		default: // without a hole so far: V^rest of the ways on have none either
			state -= l.all[rest]
			ways := l.all[rest] - l.full[rest]
			digit = 1 + state/ways
			state %= ways
		}
		if tokens[i] = int32(digit) - 1; digit > 0 {
			filled++
		}
	}
	return filled
}

func (l Listing) fillLeft(tokens []int32, state int) (filled int32) {
	for l.first[filled+1] <= state {
		filled++
	}
	value := state - l.first[filled]
	for i := range tokens {
		if i >= int(filled) {
			tokens[i] = Empty
			continue
		}
		ways := l.full[int(filled)-1-i]
		tokens[i] = int32(value / ways)
		value %= ways
	}
	return filled
}

// rank is the number of a state of order Any.
func (l Listing) rank(tokens []int32) int {
	state, holed := 0, false
	for i, t := range tokens {
		rest := len(tokens) - 1 - i
		switch {
		case t == Empty:
			holed = true
		case holed:
			state += int(t+1) * l.all[rest]
		default:
			state += l.all[rest] + int(t)*(l.all[rest]-l.full[rest])
		}
	}
	return state
}

// Child returns the state with one more token, or the object.
func (l Listing) Child(state int, action int) (to int, terminal bool) {
	var buf [mostListed]int32
	v, places := l.env.shape.Vocabulary, l.env.shape.Places
	if l.all == nil {
		n := 0
		for l.first[n+1] <= state {
			n++
		}
		value := (state-l.first[n])*v + action
		if n+1 == places {
			return value, true
		}
		return l.first[n+1] + value, false
	}
	tokens := buf[:places]
	filled := int(l.fill(tokens, state))
	tokens[action/v] = int32(action % v)
	if filled+1 == places {
		return l.number(tokens), true
	}
	return l.rank(tokens), false
}

// number is that of an object.
func (l Listing) number(tokens []int32) int {
	n := 0
	for _, t := range tokens {
		n = n*l.env.shape.Vocabulary + int(t)
	}
	return n
}

// Object returns the number of a terminal row.
func (l Listing) Object(s envs.States, row int) int { return l.number(Tokens(s, row)) }

// LogRewards writes log R of every object.
func (l Listing) LogRewards(out []float64) {
	tokens := make([]int32, l.env.shape.Places)
	for n := range out {
		out[n] = l.env.task.LogReward(tokens)
		for i := len(tokens) - 1; i >= 0; i-- { // count one up
			if tokens[i]++; int(tokens[i]) < l.env.shape.Vocabulary {
				break
			}
			tokens[i] = 0
		}
	}
}
