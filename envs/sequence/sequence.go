// Package sequence is fixed-length sequences over an alphabet whose reward stands in
// a table: a user's measurements, or TFBind8, which is built in. A value v of the
// table becomes
//
//	R = max(floor, scale · v^exponent)
//
// With floor 0.001, scale 10 and exponent 3, the defaults, that is the reward of gfnx
// for TFBind8 (where the largest value is 1).
package sequence

import (
	_ "embed"
	"errors"
	"math"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/params"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// TFBind8 is the name of the built-in table; see data/README.md.
const TFBind8 = "tfbind8"

//go:embed data/tfbind8.csv.gz
var tfbind8 []byte

// What becomes of sequences that are not in the table.
const (
	Refuse = "refuse" // an incomplete table is a fault
	Floor  = "floor"  // they have the reward floor
)

// maxModes is the most sequences that count as modes.
const maxModes = 1 << 20

// Config is one table with its reward.
type Config struct {
	// Table is TFBind8 or names a file, and File is that file (New opens none).
	Table  string
	File   *datafile.File
	SHA256 string // what the file must hash to, in hex, or ""
	// Columns of the table.
	SequenceColumn, ValueColumn string
	Alphabet                    string // one ASCII character a letter
	Order                       string // places.Left or places.Any
	Floor, Scale, Exponent      float64
	Missing                     string  // Refuse or Floor
	ModeValue                   float64 // sequences of at least this value are modes; 0: there are none
}

// Default is TFBind8 as gfnx rewards it.
func Default() Config {
	return Config{
		Table: TFBind8, SequenceColumn: "sequence", ValueColumn: "value", Alphabet: "ACGT", Order: places.Left,
		Floor: 0.001, Scale: 10, Exponent: 3, Missing: Refuse,
	}
}

// Bind names the fields of c as parameters.
func Bind(c *Config) []params.Binding {
	return []params.Binding{
		params.File("table", &c.Table, "a CSV (.gz too) or Parquet file with a sequence and a value a row, or tfbind8, which is built in"),
		params.Text("sha256", &c.SHA256, "SHA-256 that the file must have, in hex; every node opens its own file"),
		params.Text("sequence_column", &c.SequenceColumn, "name of the column of sequences"),
		params.Text("value_column", &c.ValueColumn, "name of the column of values"),
		params.Text("alphabet", &c.Alphabet, "the letters of sequences"),
		params.Text("order", &c.Order, "left: from left to right (autoregressive); any: letters in any order"),
		params.Float("scale", &c.Scale, "R = max(floor, scale value^exponent)"),
		params.Float("exponent", &c.Exponent, "R = max(floor, scale value^exponent)"),
		params.Float("floor", &c.Floor, "smallest reward, above 0"),
		params.Text("missing", &c.Missing, "sequences that are not in the table: refuse, or floor, which gives them the smallest reward"),
		params.Float("mode_value", &c.ModeValue, "every sequence of at least this value is a mode; 0: there are none"),
	}
}

// New returns the environment. It is an envs.Described and envs.Moded, and an
// envs.Enumerable when it is small. Faults in c are *fielderr.Error, joined when
// there are several; one in the table names file, line and column.
func New(c Config) (envs.Env, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	if c.Table == TFBind8 {
		c.File = datafile.New(TFBind8, tfbind8)
	}
	if c.File == nil {
		return nil, fielderr.New("table", c.Table, "a file that was read")
	}
	if err := c.File.Check(c.SHA256); err != nil {
		return nil, fielderr.New("sha256", c.SHA256, err.Error())
	}
	t, err := c.read()
	if err != nil {
		return nil, fielderr.New("table", c.Table, "a table without faults: "+err.Error())
	}
	shape := places.Shape{Name: "sequence", Places: t.length, Vocabulary: len(c.Alphabet), Order: c.Order}
	if err := shape.Check("table", "alphabet"); err != nil {
		return nil, err
	}
	s := &Sequences{Env: places.New(shape, t), table: t}
	if listing, ok := places.List(s.Env); ok {
		return &listed{s, listing}, nil
	}
	return s, nil
}

func (c Config) validate() error {
	var faults []error
	fault := func(path string, value any, want string) {
		faults = append(faults, fielderr.New(path, value, want))
	}
	if c.Table == "" {
		fault("table", nil, "tfbind8 or the path of a file")
	}
	seen := [256]bool{}
	for _, letter := range []byte(c.Alphabet) {
		if letter <= ' ' || letter > '~' || letter == '.' || seen[letter] {
			fault("alphabet", c.Alphabet, "distinct printable ASCII characters; the dot is for what is not set yet")
			break
		}
		seen[letter] = true
	}
	if len(c.Alphabet) < 2 {
		fault("alphabet", c.Alphabet, "at least 2 letters")
	}
	positive := func(path string, v float64) {
		if !(v > 0) || math.IsInf(v, 0) {
			fault(path, v, "a finite number above 0")
		}
	}
	positive("floor", c.Floor)
	positive("scale", c.Scale)
	positive("exponent", c.Exponent)
	if c.Missing != Refuse && c.Missing != Floor {
		fault("missing", c.Missing, params.OneOf(c.Missing, []string{Refuse, Floor}))
	}
	if !(c.ModeValue >= 0) {
		fault("mode_value", c.ModeValue, "a number above 0, or 0 for no modes")
	}
	if len(faults) == 1 {
		return faults[0]
	}
	return errors.Join(faults...)
}

// Sequences are sequences of any length.
type Sequences struct {
	*places.Env
	table *table
}

// listed are Sequences few enough to list.
type listed struct {
	*Sequences
	places.Listing
}

// Facts are exact: they are those of the table and of the floor, which is the reward
// of every sequence that is not in it.
func (s *Sequences) Facts() envs.Facts {
	t := s.table
	f := envs.Facts{MaxSteps: s.Spec().MaxSteps, LogZ: &t.logZ}
	if cells := t.cells(); !math.IsInf(cells, 0) {
		f.Cells = &cells
	}
	if best := math.Exp(t.best); !math.IsInf(best, 0) {
		f.MaxReward = &best
	}
	if n := float64(len(t.modes)); n > 0 {
		f.Modes = &n
	}
	return f
}

// NumModes is the number of sequences of at least mode_value.
func (s *Sequences) NumModes() int { return len(s.table.modes) }

// Mode numbers them in the order of the table.
func (s *Sequences) Mode(st envs.States, row int) int {
	if !st.Terminal(row) {
		return -1
	}
	if mode, ok := s.table.mode(places.Tokens(st, row)); ok {
		return mode
	}
	return -1
}
