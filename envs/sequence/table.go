package sequence

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/datafile"
)

// table is the Task: log R of every sequence.
type table struct {
	alphabet string
	letter   [256]int32 // token of a character, -1 for none
	length   int
	floor    float64 // log of it
	// Log-rewards by the number of a sequence in lexicographic order where all can
	// be held, and otherwise by its tokens, one byte each.
	dense  []float64
	sparse map[string]float64
	modes  map[string]int
	rows   int
	logZ   float64
	best   float64
}

// absent marks what the table does not have, while it is read.
var absent = math.Inf(-1)

// read reads the rows. Its errors name file, line and column.
func (c Config) read() (*table, error) {
	rows, err := c.File.Table(datafile.Columns{Text: c.SequenceColumn, Value: c.ValueColumn})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, &datafile.Error{File: c.File.Name, Fault: "no rows"}
	}
	t := &table{alphabet: c.Alphabet, length: len(rows[0].Text), floor: math.Log(c.Floor), rows: len(rows), modes: map[string]int{}}
	for i := range t.letter {
		t.letter[i] = -1
	}
	for i := range len(c.Alphabet) {
		t.letter[c.Alphabet[i]] = int32(i)
	}
	if t.length == 0 {
		return nil, &datafile.Error{File: c.File.Name, Line: rows[0].Line, Field: c.SequenceColumn, Fault: "empty; want a sequence"}
	}
	if err := t.fill(c, rows); err != nil {
		return nil, err
	}
	if missing := t.cells() - float64(t.rows); missing > 0 && c.Missing == Refuse {
		return nil, &datafile.Error{File: c.File.Name, Fault: fmt.Sprintf(
			"%d rows; there are %v sequences of %d letters of %q%s; missing: floor gives the others the smallest reward",
			t.rows, t.cells(), t.length, t.alphabet, t.example())}
	}
	t.sum()
	return t, nil
}

// fill checks the rows and stores their rewards.
func (t *table) fill(c Config, rows []datafile.Row) error {
	if t.cells() <= envs.MaxStates {
		t.dense = make([]float64, int(t.cells()))
		for i := range t.dense {
			t.dense[i] = absent
		}
	} else {
		t.sparse = make(map[string]float64, len(rows))
	}
	key := make([]byte, t.length)
	logScale := math.Log(c.Scale)
	for _, row := range rows {
		fault := func(field, format string, args ...any) error {
			return &datafile.Error{File: c.File.Name, Line: row.Line, Field: field, Fault: fmt.Sprintf(format, args...)}
		}
		if len(row.Text) != t.length {
			return fault(c.SequenceColumn, "%.80q has %d letters; the first row has %d", row.Text, len(row.Text), t.length)
		}
		for i := range key {
			token := t.letter[row.Text[i]]
			if token < 0 {
				return fault(c.SequenceColumn, "letter %d of %.80q is %q; the alphabet is %q", i+1, row.Text, row.Text[i], t.alphabet)
			}
			key[i] = byte(token)
		}
		if row.Value < 0 {
			return fault(c.ValueColumn, "got %v; want a number of at least 0", row.Value)
		}
		logR := max(t.floor, logScale+c.Exponent*math.Log(row.Value))
		if math.IsInf(logR, 1) {
			return fault(c.ValueColumn, "got %v; want a value whose reward is finite", row.Value)
		}
		if _, twice := t.find(key); twice {
			return fault(c.SequenceColumn, "%.80q again; want every sequence once", row.Text)
		}
		if t.dense != nil {
			t.dense[number(key, len(t.alphabet))] = logR
		} else {
			t.sparse[string(key)] = logR
		}
		if c.ModeValue > 0 && row.Value >= c.ModeValue {
			if len(t.modes) == maxModes {
				return fault(c.ValueColumn, "more than %d sequences have at least mode_value, %v", maxModes, c.ModeValue)
			}
			t.modes[string(key)] = len(t.modes)
		}
	}
	return nil
}

// sum gives what is absent the floor, and adds up the rewards in a fixed order, so
// that every node has the same bits.
func (t *table) sum() {
	t.best = math.Inf(-1)
	total, logRest := 0.0, math.Inf(-1) // of more sequences than a float64 counts
	add := func(logR, times float64) {
		if logR > t.best {
			total *= math.Exp(t.best - logR)
			t.best = logR
		}
		total += times * math.Exp(logR-t.best)
	}
	for i, logR := range t.dense {
		if logR == absent {
			logR = t.floor
			t.dense[i] = logR
		}
		add(logR, 1)
	}
	if t.dense == nil {
		for _, key := range slices.Sorted(maps.Keys(t.sparse)) {
			add(t.sparse[key], 1)
		}
		if rest := t.cells() - float64(t.rows); !math.IsInf(rest, 1) {
			add(t.floor, rest)
		} else { // what the rows are of so many is lost in rounding
			add(t.floor, 0)
			logRest = t.floor + float64(t.length)*math.Log(float64(len(t.alphabet)))
		}
	}
	t.logZ = envs.LogAdd(t.best+math.Log(total), logRest)
}

// cells is the number of sequences.
func (t *table) cells() float64 { return math.Pow(float64(len(t.alphabet)), float64(t.length)) }

// find is the log-reward of a sequence that the table has.
func (t *table) find(key []byte) (logR float64, ok bool) {
	if t.dense != nil {
		logR = t.dense[number(key, len(t.alphabet))]
		return logR, logR != absent
	}
	logR, ok = t.sparse[string(key)]
	return logR, ok
}

// example names a sequence that the table does not have.
func (t *table) example() string {
	for n, logR := range t.dense {
		if logR != absent {
			continue
		}
		text := make([]byte, t.length)
		for i := len(text) - 1; i >= 0; i-- {
			text[i] = t.alphabet[n%len(t.alphabet)]
			n /= len(t.alphabet)
		}
		return fmt.Sprintf(", and %.80q is not there", text)
	}
	return ""
}

// number is that of a sequence in lexicographic order.
func number(key []byte, letters int) int {
	n := 0
	for _, k := range key {
		n = n*letters + int(k)
	}
	return n
}

func (t *table) LogReward(tokens []int32) float64 {
	if t.dense != nil {
		n := 0
		for _, k := range tokens {
			n = n*len(t.alphabet) + int(k)
		}
		return t.dense[n]
	}
	var buf [64]byte
	if logR, ok := t.sparse[string(appendKey(buf[:0], tokens))]; ok {
		return logR
	}
	return t.floor
}

func (t *table) mode(tokens []int32) (int, bool) {
	var buf [64]byte
	mode, ok := t.modes[string(appendKey(buf[:0], tokens))]
	return mode, ok
}

func appendKey(dst []byte, tokens []int32) []byte {
	for _, k := range tokens {
		dst = append(dst, byte(k))
	}
	return dst
}

// AppendText appends the letters; a dot is not set.
func (t *table) AppendText(dst []byte, tokens []int32) []byte {
	for _, k := range tokens {
		if k == places.Empty {
			dst = append(dst, '.')
		} else {
			dst = append(dst, t.alphabet[k])
		}
	}
	return dst
}

func (t *table) ReadText(tokens []int32, text string) error {
	text = strings.TrimSpace(text)
	if len(text) != len(tokens) {
		return fmt.Errorf("%w: %.80q has %d letters; want %d of %q", places.ErrText, text, len(text), len(tokens), t.alphabet)
	}
	for i := range tokens {
		if tokens[i] = t.letter[text[i]]; tokens[i] < 0 {
			return fmt.Errorf("%w: letter %d of %.80q is %q; want one of %q", places.ErrText, i+1, text, text[i], t.alphabet)
		}
	}
	return nil
}
