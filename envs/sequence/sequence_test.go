package sequence_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/envs/sequence"
	"github.com/driftmesh/driftmesh/internal/datafile"
	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/metrics"
)

func build(t testing.TB, change func(*sequence.Config)) envs.Env {
	t.Helper()
	c := sequence.Default()
	change(&c)
	env, err := sequence.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// given makes a config of a CSV's text.
func given(text string) func(*sequence.Config) {
	return func(c *sequence.Config) { c.Table, c.File = "t.csv", datafile.New("t.csv", []byte(text)) }
}

// pairs is a whole table of two letters of ABC, with value i/4 in row i.
func pairs() string {
	text := "sequence,value\n"
	for i := range 9 {
		text += fmt.Sprintf("%c%c,%v\n", "ABC"[i/3], "ABC"[i%3], float64(i)/4)
	}
	return text
}

func TestContract(t *testing.T) {
	for name, change := range map[string]func(*sequence.Config){
		"pairs left": func(c *sequence.Config) { given(pairs())(c); c.Alphabet = "ABC" },
		"pairs any":  func(c *sequence.Config) { given(pairs())(c); c.Alphabet, c.Order = "ABC", places.Any },
		"modes":      func(c *sequence.Config) { given(pairs())(c); c.Alphabet, c.ModeValue = "ABC", 1 },
		"sparse": func(c *sequence.Config) {
			given("sequence,value\nACGTACGTACGTACGT,1\nAAAAAAAAAAAAAAAA,0\nCCCCCCCCCCCCCCCC,0.5\n")(c)
			c.Missing = sequence.Floor
		},
		"tfbind8": func(c *sequence.Config) { c.ModeValue = 0.9 },
	} {
		t.Run(name, func(t *testing.T) { envtest.Run(t, build(t, change)) })
	}
}

// TestTFBind8 holds the whole table against the published facts, which are of the
// float32 values that the texts stand for; here they are read as float64.
func TestTFBind8(t *testing.T) {
	for _, order := range []string{places.Left, places.Any} {
		env := build(t, func(c *sequence.Config) { c.Order = order })
		f := envs.FactsOf(env)
		near(t, "log Z", *f.LogZ, 11.462147130694, 1e-10)
		if *f.Cells != 65536 || f.MaxSteps != 8 || math.Abs(*f.MaxReward-10) > 1e-12 || f.Modes != nil {
			t.Errorf("%+v", f)
		}
		e, err := envs.Enumerate(env)
		if err != nil {
			t.Fatal(err)
		}
		r, err := metrics.Exact(env, envs.Uniform(e))
		if err != nil {
			t.Fatal(err)
		}
		near(t, "log Z of the list", r.LogZ, 11.462147130694, 1e-10)
		near(t, "expected reward", r.TargetReward, 3.319954589, 1e-8)
		near(t, "TV of the uniform policy", r.Distances.TV, 0.403, 5e-4)
	}
	for _, c := range []struct {
		value float64
		modes int
	}{{0.9, 934}, {0.95, 294}} {
		m := build(t, func(c2 *sequence.Config) { c2.ModeValue = c.value }).(envs.Moded)
		if m.NumModes() != c.modes {
			t.Errorf("%d sequences of at least %v, want %d", m.NumModes(), c.value, c.modes)
		}
	}
	s, out := build(t, func(*sequence.Config) {}).NewStates(1), make([]float64, 1)
	for text, want := range map[string]float64{"AGGTATCA": 10, "TGATACCT": 10, "GGCCGGCC": 0.001, "AAAAAAAC": 10 * math.Pow(0.36651134, 3)} {
		if err := errors.Join(s.Parse(0, text), s.LogReward([]int32{0}, out)); err != nil {
			t.Fatal(err)
		}
		near(t, "log R of "+text, out[0], math.Log(want), 1e-7)
	}
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol*max(1, math.Abs(want))) {
		t.Errorf("%s = %.17g, want %.17g", what, got, want)
	}
}

// TestSparseFacts: the sequences that are not in the table have the floor, and count.
func TestSparseFacts(t *testing.T) {
	text := "sequence,value\n" + strings.Repeat("A", 40) + ",1\n" + strings.Repeat("AC", 20) + ",0.5\n"
	env := build(t, func(c *sequence.Config) { given(text)(c); c.Missing, c.Floor, c.ModeValue = sequence.Floor, 1e-30, 1 })
	f := envs.FactsOf(env)
	want := math.Log(10 + 1.25 + (math.Pow(4, 40)-2)*1e-30)
	near(t, "log Z", *f.LogZ, want, 1e-12)
	if *f.Cells != math.Pow(4, 40) || math.Abs(*f.MaxReward-10) > 1e-12 || *f.Modes != 1 {
		t.Errorf("%+v", f)
	}
	s, out := env.NewStates(1), make([]float64, 1)
	for text, want := range map[string]float64{strings.Repeat("A", 40): 10, strings.Repeat("AC", 20): 1.25, strings.Repeat("T", 40): 1e-30} {
		if err := errors.Join(s.Parse(0, text), s.LogReward([]int32{0}, out)); err != nil {
			t.Fatal(err)
		}
		near(t, text, out[0], math.Log(want), 1e-12)
	}
}

// TestMoreThanAFloat: log Z of more sequences than a float64 can count is finite, and
// is that of the floor, or of the rows where those outweigh all others.
func TestMoreThanAFloat(t *testing.T) {
	const letters = "ACDEFGHIKLMNPQRSTVWY"
	text := "sequence,value\n" + strings.Repeat("A", 300) + ",1\n" + strings.Repeat("AC", 150) + ",0.5\n"
	floors := 300 * math.Log(20)
	for _, c := range []struct{ floor, scale, exponent, want float64 }{
		{0.001, 10, 3, floors + math.Log(0.001)},
		{1e-300, 1e200, 1, math.Log(1e200) + math.Log(1.5)},
		{1e-200, 1e190, 1, floors - 200*math.Ln10 + math.Log1p(1.5*math.Exp(390*math.Ln10-floors))},
	} {
		f := envs.FactsOf(build(t, func(s *sequence.Config) {
			given(text)(s)
			s.Alphabet, s.Missing, s.Floor, s.Scale, s.Exponent = letters, sequence.Floor, c.floor, c.scale, c.exponent
		}))
		near(t, "log Z", *f.LogZ, c.want, 1e-12)
		if f.Cells != nil || math.Abs(*f.MaxReward/c.scale-1) > 1e-12 {
			t.Errorf("%+v", f)
		}
	}
}

// TestFormats: the same table as CSV, gzipped CSV and Parquet, under other names of
// the columns and among others, gives the same bits.
func TestFormats(t *testing.T) {
	type row struct {
		Note  string
		Score float32
		DNA   string
	}
	var rows []row
	csv := "Note,Score,DNA\r\n"
	for i := range 16 {
		r := row{fmt.Sprintf("n, %d", i), float32(i) / 16, fmt.Sprintf("%c%c", "ACGT"[i/4], "ACGT"[i%4])}
		rows = append(rows, r)
		csv += fmt.Sprintf("\"%s\",%v,%s\r\n", r.Note, r.Score, r.DNA)
	}
	var zipped, columns bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(csv)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), parquet.Write(&columns, rows)); err != nil {
		t.Fatal(err)
	}
	var first float64
	for i, data := range [][]byte{[]byte(csv), zipped.Bytes(), columns.Bytes(), append([]byte("\ufeff"), csv...)} {
		file := datafile.New("t", data)
		env := build(t, func(c *sequence.Config) {
			c.Table, c.File, c.SequenceColumn, c.ValueColumn, c.SHA256 = "t", file, "DNA", "Score", strings.ToUpper(file.SHA256)
		})
		z := *envs.FactsOf(env).LogZ
		if i == 0 {
			first = z
		} else if z != first {
			t.Errorf("format %d: log Z %v, want %v", i, z, first)
		}
	}
}

func TestFaults(t *testing.T) {
	head := "sequence,value\n"
	for _, c := range []struct {
		name, path, want string
		change           func(*sequence.Config)
	}{
		{"empty", "table", "t.csv: empty", given("")},
		{"no rows", "table", "t.csv: no rows", given(head)},
		{"no column", "table", `t.csv:1: value: no such column; there are ["sequence" "valeu"] (did you mean "valeu"?)`, given("sequence,valeu\nA,1\n")},
		{"not a number", "table", `t.csv:3: value: got "x"; want a finite number`, given(head + "A,1\nC,x\n")},
		{"nan", "table", `t.csv:2: value: got "NaN"`, given(head + "A,NaN\n")},
		{"infinite", "table", `t.csv:2: value: got "1e999"`, given(head + "A,1e999\n")},
		{"negative", "table", "t.csv:2: value: got -0.5; want a number of at least 0", given(head + "A,-0.5\n")},
		{"twice", "table", `t.csv:4: sequence: "A" again`, given(head + "A,1\nC,1\nA,1\n")},
		{"letter", "table", `t.csv:3: sequence: letter 2 of "AX" is 'X'; the alphabet is "ACGT"`, given(head + "AA,1\nAX,1\n")},
		{"length", "table", `t.csv:3: sequence: "AAA" has 3 letters; the first row has 2`, given(head + "AA,1\nAAA,1\n")},
		{"no sequence", "table", "t.csv:2: sequence: empty", given(head + ",1\n")},
		{"missing", "table", `3 rows; there are 4 sequences of 1 letters of "ACGT", and "G" is not there`, given(head + "A,1\nC,1\nT,1\n")},
		{"fields", "table", "t.csv:3: got 1 fields, and the header has 2", given(head + "A,1\nC\n")},
		{"huge reward", "table", "t.csv:2: value: got 1e+300", func(c *sequence.Config) { given(head + "A,1e300\n")(c); c.Exponent = 1e308 }},
		{"no table", "table", "tfbind8", func(c *sequence.Config) { c.Table = "" }},
		{"no file", "table", "read", func(c *sequence.Config) { c.Table = "x.csv" }},
		{"sum", "sha256", "the SHA-256 of tfbind8, which is a0fa9f5e", func(c *sequence.Config) { c.SHA256 = "00" }},
		{"alphabet", "alphabet", "distinct", func(c *sequence.Config) { c.Alphabet = "ACCT" }},
		{"dot", "alphabet", "dot", func(c *sequence.Config) { c.Alphabet = "AC.T" }},
		{"one letter", "alphabet", "2 letters", func(c *sequence.Config) { c.Alphabet = "A" }},
		{"floor", "floor", "above 0", func(c *sequence.Config) { c.Floor = 0 }},
		{"scale", "scale", "above 0", func(c *sequence.Config) { c.Scale = math.Inf(1) }},
		{"exponent", "exponent", "above 0", func(c *sequence.Config) { c.Exponent = math.NaN() }},
		{"missing kind", "missing", `did you mean "floor"`, func(c *sequence.Config) { c.Missing = "flor" }},
		{"order", "order", "any, left", func(c *sequence.Config) { c.Order = "right" }},
		{"mode value", "mode_value", "above 0", func(c *sequence.Config) { c.ModeValue = -1 }},
	} {
		conf := sequence.Default()
		c.change(&conf)
		_, err := sequence.New(conf)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	s := build(t, func(*sequence.Config) {}).NewStates(1)
	for _, text := range []string{"", "ACGT", "ACGTACGU", "ACGTACG.", "acgtacgt", "ACGTACGTA"} {
		if err := s.Parse(0, text); !errors.Is(err, places.ErrText) {
			t.Errorf("Parse(%q) = %v", text, err)
		}
	}
}
