package bitseq_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/bitseq"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

func build(t testing.TB, change func(*bitseq.Config)) envs.Env {
	t.Helper()
	c := bitseq.Default()
	change(&c)
	env, err := bitseq.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// texts are what a test needs of the environment beside the contract.
type texts interface {
	envs.Overlapping
	envs.Tested
	ModeTexts() []string
}

func TestContract(t *testing.T) {
	for name, change := range map[string]func(*bitseq.Config){
		"n 40 k 8 any":  func(c *bitseq.Config) { c.Bits = 40 },
		"n 120 k 8":     func(c *bitseq.Config) { c.Order = places.Left },
		"n 8 k 2 any":   func(c *bitseq.Config) { c.Bits, c.Word, c.Modes = 8, 2, 5 },
		"n 8 k 1 any":   func(c *bitseq.Config) { c.Bits, c.Word, c.Modes, c.Threshold = 8, 1, 3, 5 },
		"n 8 k 4 left":  func(c *bitseq.Config) { c.Bits, c.Word, c.Modes, c.Order = 8, 4, 2, places.Left },
		"n 16 k 8 any":  func(c *bitseq.Config) { c.Bits, c.Word, c.Modes, c.Beta = 16, 8, 25, 10 },
		"n 72 k 3 left": func(c *bitseq.Config) { c.Bits, c.Word, c.Order = 72, 3, places.Left },
		"n 6 k 3 given": func(c *bitseq.Config) {
			c.Bits, c.Word, c.ModesFile, c.Given = 6, 3, "modes.txt", []string{"000111", "010101"}
		},
	} {
		t.Run(name, func(t *testing.T) { envtest.Run(t, build(t, change)) })
	}
}

// hamming is the oracle: texts compared letter by letter.
func hamming(a, b string) int {
	d := 0
	for i := range a {
		if a[i] != b[i] {
			d++
		}
	}
	return d
}

// TestAgainstTexts compares rewards and modes with their definition on texts.
func TestAgainstTexts(t *testing.T) {
	for _, k := range []int{1, 3, 5, 8, 12} {
		env := build(t, func(c *bitseq.Config) { c.Word, c.Order = k, places.Left }).(texts)
		modes, s := env.ModeTexts(), env.NewStates(1)
		rapid.Check(t, func(t *rapid.T) {
			near := rapid.SampledFrom(modes).Draw(t, "near")
			x := []byte(near)
			for _, i := range rapid.SliceOfN(rapid.IntRange(0, len(x)-1), 0, 60).Draw(t, "flips") {
				x[i] ^= 1
			}
			var want []int
			least, nearest := len(x), -1
			for i, m := range modes {
				d := hamming(string(x), m)
				if d < 30 {
					want = append(want, i)
				}
				if d < least {
					least, nearest = d, i
				}
			}
			if least >= 30 {
				nearest = -1
			}
			out := []float64{0}
			if err := errors.Join(s.Parse(0, string(x)), s.LogReward([]int32{0}, out)); err != nil {
				t.Fatal(err)
			}
			if math.Abs(out[0]+3*float64(least)/120) > 1e-15 {
				t.Errorf("k %d: log R = %v at distance %d", k, out[0], least)
			}
			if got := env.AppendModes(nil, s, 0); !slices.Equal(got, want) {
				t.Errorf("k %d: modes %v, want %v", k, got, want)
			}
			if got := env.Mode(s, 0); got != nearest {
				t.Errorf("k %d: mode %d, want %d", k, got, nearest)
			}
		})
	}
}

// TestModesAreBlocks: as many as asked for, distinct, of the five blocks; equal
// seeds give equal modes whatever k is, and other seeds others.
func TestModesAreBlocks(t *testing.T) {
	env := build(t, func(*bitseq.Config) {}).(texts)
	modes := env.ModeTexts()
	if len(modes) != 60 || env.NumModes() != 60 {
		t.Fatalf("%d modes", len(modes))
	}
	seen := map[string]bool{}
	for _, m := range modes {
		if seen[m] || len(m) != 120 {
			t.Errorf("%s again, or not of 120 bits", m)
		}
		seen[m] = true
		for i := 0; i < len(m); i += 8 {
			switch m[i : i+8] {
			case "00000000", "11111111", "11110000", "00001111", "00111100":
			default:
				t.Errorf("block %s", m[i:i+8])
			}
		}
	}
	same := build(t, func(c *bitseq.Config) { c.Word, c.Order = 1, places.Left }).(texts).ModeTexts()
	other := build(t, func(c *bitseq.Config) { c.ModesSeed = 1 }).(texts).ModeTexts()
	if !slices.Equal(modes, same) || slices.Equal(modes, other) {
		t.Error("modes do not follow their seed")
	}
	// What seed 0 draws must never change: results are published with it.
	if want := "000000000000111100001111111100000000000011110000111100000000111111111111001111000000111111111111111111111111000000000000"; modes[0] != want {
		t.Errorf("the first mode is %s", modes[0])
	}
}

func TestTestSet(t *testing.T) {
	env := build(t, func(*bitseq.Config) {}).(texts)
	again, modes, s := build(t, func(*bitseq.Config) {}).(texts), env.ModeTexts(), env.NewStates(2)
	if env.NumTests() != 7200 {
		t.Fatalf("%d tests", env.NumTests())
	}
	for i := range env.NumTests() {
		env.LoadTest(s, 0, i)
		again.LoadTest(s, 1, i)
		if x := s.Text(0); !s.Terminal(0) || x != s.Text(1) || hamming(x, modes[i/120]) != i%120 {
			t.Fatalf("test %d is %s at distance %d of mode %d", i, x, hamming(x, modes[i/120]), i/120)
		}
	}
}

// TestSmallExact: n = 8, k = 2, all 256 objects by hand.
func TestSmallExact(t *testing.T) {
	env := build(t, func(c *bitseq.Config) { c.Bits, c.Word, c.Modes = 8, 2, 5 })
	modes, sum := []string{"00000000", "11111111", "11110000", "00001111", "00111100"}, 0.0
	for x := range 256 {
		text, least := make([]byte, 8), 8
		for i := range text {
			text[i] = '0' + byte(x>>i&1)
		}
		for _, m := range modes {
			least = min(least, hamming(string(text), m))
		}
		sum += math.Exp(-3 * float64(least) / 8)
	}
	f := envs.FactsOf(env)
	if math.Abs(*f.LogZ-math.Log(sum)) > 1e-13 || *f.Cells != 256 || *f.Modes != 5 || *f.MaxReward != 1 {
		t.Errorf("log Z = %v, want %v; %v objects", *f.LogZ, math.Log(sum), *f.Cells)
	}
	if e, err := envs.Enumerate(env); err != nil || e.NumStates() != 625-256 || envs.CountTrajectories(e) != 256*24 {
		t.Errorf("listing: %v", err)
	}
}

// TestWordsAreBigEndian: action 0b10000000 sets the first bit of a word of eight.
func TestWordsAreBigEndian(t *testing.T) {
	s := build(t, func(*bitseq.Config) {}).NewStates(1)
	if err := s.Forward([]int32{0}, []int32{1*256 + 0x80}); err != nil {
		t.Fatal(err)
	}
	if want := "........10000000" + strings.Repeat(".", 104); s.Text(0) != want {
		t.Errorf("%s", s.Text(0))
	}
}

func TestParseRefuses(t *testing.T) {
	s := build(t, func(*bitseq.Config) {}).NewStates(1)
	for _, text := range []string{"", "01", strings.Repeat("2", 120), strings.Repeat("0", 121), strings.Repeat("0", 119) + "."} {
		if err := s.Parse(0, text); !errors.Is(err, places.ErrText) {
			t.Errorf("Parse(%q) = %v", text, err)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		change     func(*bitseq.Config)
		path, want string
	}{
		{func(c *bitseq.Config) { c.Bits = 0 }, "n", "1 to 1024"},
		{func(c *bitseq.Config) { c.Word = 7 }, "k", "divides n = 120"},
		{func(c *bitseq.Config) { c.Bits, c.Word = 12, 4 }, "n", "multiple of 8"},
		{func(c *bitseq.Config) { c.Bits, c.Word = 1024, 16 }, "n", "65536"},
		{func(c *bitseq.Config) { c.Beta = 0 }, "beta", "above 0"},
		{func(c *bitseq.Config) { c.Bits, c.Modes = 8, 6 }, "modes", "1 to 5"},
		{func(c *bitseq.Config) { c.ModesSeed = -1 }, "modes_seed", "at least 0"},
		{func(c *bitseq.Config) { c.Threshold = 121 }, "threshold", "1 to n = 120"},
		{func(c *bitseq.Config) { c.SHA256 = "00" }, "sha256", "no modes_file"},
		{func(c *bitseq.Config) { c.Order = "an" }, "order", `did you mean "any"`},
		{func(c *bitseq.Config) { c.ModesFile = "m" }, "modes_file", "it has 0"},
		{func(c *bitseq.Config) { c.ModesFile, c.Given = "m", []string{strings.Repeat("0", 119)} }, "modes_file", "line 1"},
		{func(c *bitseq.Config) {
			c.ModesFile, c.Given = "m", []string{strings.Repeat("0", 120), strings.Repeat("0", 120)}
		}, "modes_file", "line 2 repeats line 1"},
	} {
		conf := bitseq.Default()
		c.change(&conf)
		_, err := bitseq.New(conf)
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != c.path || !strings.Contains(fault.Want, c.want) {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}

func BenchmarkLogReward(b *testing.B) {
	env := build(b, func(*bitseq.Config) {})
	s, out, rows := env.NewStates(64), make([]float64, 64), make([]int32, 64)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		rows[i] = int32(i)
		for place := range 15 {
			if err := s.Forward(rows[i:i+1], []int32{int32(place*256 + r.IntN(256))}); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.LogReward(rows, out); err != nil {
			b.Fatal(err)
		}
	}
}
