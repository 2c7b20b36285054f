package places_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/envs"
	"github.com/driftmesh/driftmesh/envs/envtest"
	"github.com/driftmesh/driftmesh/envs/places"
	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// digits is a Task whose objects are numbers; log R is the sum of the digits.
type digits struct{ base int32 }

func (d digits) LogReward(tokens []int32) float64 {
	sum := 0.0
	for i, t := range tokens {
		sum += float64(t) * float64(i+1) / 7
	}
	return sum
}

func (d digits) AppendText(dst []byte, tokens []int32) []byte {
	for i, t := range tokens {
		if i > 0 {
			dst = append(dst, ' ')
		}
		if t == places.Empty {
			dst = append(dst, '.')
			continue
		}
		dst = fmt.Append(dst, t)
	}
	return dst
}

func (d digits) ReadText(tokens []int32, text string) error {
	fields := strings.Split(text, " ")
	if len(fields) != len(tokens) {
		return fmt.Errorf("%w: %q", places.ErrText, text)
	}
	for i, f := range fields {
		if _, err := fmt.Sscanf(f+"!", "%d!", &tokens[i]); err != nil || tokens[i] < 0 || tokens[i] >= d.base || fmt.Sprint(tokens[i]) != f {
			return fmt.Errorf("%w: %q", places.ErrText, text)
		}
	}
	return nil
}

// listed is enumerable.
type listed struct {
	*places.Env
	places.Listing
}

func open(shape places.Shape) envs.Env {
	e := places.New(shape, digits{int32(shape.Vocabulary)})
	if l, ok := places.List(e); ok {
		return listed{e, l}
	}
	return e
}

func TestContract(t *testing.T) {
	for _, s := range []places.Shape{
		{Places: 1, Vocabulary: 2}, {Places: 1, Vocabulary: 300}, {Places: 4, Vocabulary: 3}, {Places: 6, Vocabulary: 2}, {Places: 9, Vocabulary: 400},
	} {
		for _, order := range []string{places.Any, places.Left} {
			s.Name, s.Order = "digits", order
			t.Run(fmt.Sprintf("%d of %d %s", s.Places, s.Vocabulary, order), func(t *testing.T) { envtest.Run(t, open(s)) })
		}
	}
}

// TestNumbers: numbers of states are distinct, and as many as partial fillings.
func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		shape           places.Shape
		states, objects int
		paths           float64
	}{
		{places.Shape{Places: 3, Vocabulary: 4, Order: places.Any}, 125 - 64, 64, 6 * 64},
		{places.Shape{Places: 3, Vocabulary: 4, Order: places.Left}, 1 + 4 + 16, 64, 64},
		{places.Shape{Places: 8, Vocabulary: 4, Order: places.Any}, 390625 - 65536, 65536, 40320 * 65536},
		{places.Shape{Places: 22, Vocabulary: 2, Order: places.Left}, 1<<22 - 1, 1 << 22, 1 << 22},
	} {
		e, err := envs.Enumerate(open(c.shape))
		if err != nil {
			t.Fatal(err)
		}
		if e.NumStates() != c.states || e.NumObjects() != c.objects {
			t.Errorf("%+v: %d states, %d objects", c.shape, e.NumStates(), e.NumObjects())
		}
		if testing.Short() && c.states > 1<<20 {
			continue
		}
		if n := envs.CountTrajectories(e); n != c.paths {
			t.Errorf("%+v: %v trajectories, want %v", c.shape, n, c.paths)
		}
	}
	for _, s := range []places.Shape{{Places: 23, Vocabulary: 2, Order: places.Left}, {Places: 14, Vocabulary: 2, Order: places.Any}, {Places: 3, Vocabulary: 256, Order: places.Left}} {
		if _, err := envs.Enumerate(open(s)); !errors.Is(err, envs.ErrNotEnumerable) {
			t.Errorf("%+v is listed: %v", s, err)
		}
	}
}

// TestStatesAgainstModel runs random steps, legal and not, against a plain map
// from places to tokens.
func TestStatesAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := places.Shape{Name: "digits", Places: rapid.IntRange(1, 5).Draw(t, "places"), Vocabulary: rapid.IntRange(2, 4).Draw(t, "vocabulary"),
			Order: rapid.SampledFrom([]string{places.Any, places.Left}).Draw(t, "order")}
		s, model := open(shape).NewStates(1), map[int]int32{}
		for range 20 {
			if rapid.Bool().Draw(t, "forward") {
				a := rapid.Int32Range(-1, int32(shape.Places*shape.Vocabulary)).Draw(t, "action")
				place, token := len(model), a
				if shape.Order == places.Any && a >= 0 {
					place, token = int(a)/shape.Vocabulary, a%int32(shape.Vocabulary)
				}
				_, taken := model[place]
				legal := a >= 0 && place < shape.Places && token < int32(shape.Vocabulary) && !taken
				if err := s.Forward([]int32{0}, []int32{a}); (err == nil) != legal {
					t.Fatalf("action %d in %s: %v", a, s.Text(0), err)
				}
				if legal {
					model[place] = token
				}
			} else {
				b := rapid.Int32Range(-1, int32(shape.Places)).Draw(t, "back")
				place := int(b)
				if shape.Order == places.Left && b == envs.Only {
					place = len(model) - 1
				} else if shape.Order == places.Left {
					place = -1
				}
				_, legal := model[place]
				if err := s.Backward([]int32{0}, []int32{b}); (err == nil) != legal {
					t.Fatalf("backward action %d in %s: %v", b, s.Text(0), err)
				}
				delete(model, place)
			}
			for i, token := range places.Tokens(s, 0) {
				if want, set := model[i]; set != (token != places.Empty) || set && token != want {
					t.Fatalf("place %d of %s, want %v", i, s.Text(0), model)
				}
			}
			if s.Terminal(0) != (len(model) == shape.Places) {
				t.Fatalf("%s: terminal %v", s.Text(0), s.Terminal(0))
			}
		}
	})
}

// TestUniform: in order Any the uniform policy makes every object equally often.
func TestUniform(t *testing.T) {
	e, err := envs.Enumerate(open(places.Shape{Places: 4, Vocabulary: 3, Order: places.Any}))
	if err != nil {
		t.Fatal(err)
	}
	logP, err := envs.Terminating(e, envs.Uniform(e))
	if err != nil {
		t.Fatal(err)
	}
	for object, lp := range logP {
		if math.Abs(lp+4*math.Log(3)) > 1e-6 {
			t.Errorf("object %d has probability %v", object, math.Exp(lp))
		}
	}
}

func TestSteppingAllocatesNothing(t *testing.T) {
	for _, order := range []string{places.Any, places.Left} {
		env := open(places.Shape{Places: 5, Vocabulary: 3, Order: order})
		s, rows, back := env.NewStates(2), []int32{0, 1}, []int32{0, 0}
		mask, backMask := make([]bool, env.Spec().Actions), make([]bool, env.Spec().BackwardActions)
		var key []byte
		var features []int32
		actions := []int32{1, 2}
		step := func() {
			s.BackwardOf(rows, actions, back)
			if err := s.Forward(rows, actions); err != nil {
				t.Fatal(err)
			}
			key, features = s.AppendKey(key[:0], 1), s.AppendFeatures(features[:0], 1)
			s.ForwardMask(0, mask)
			s.BackwardMask(0, backMask)
			if err := s.Backward(rows, back); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(100, step); n > 0 {
			t.Errorf("%s: %v allocations", order, n)
		}
	}
}

func TestShapeFaults(t *testing.T) {
	for _, c := range []struct {
		shape places.Shape
		path  string
	}{
		{places.Shape{Places: 0, Vocabulary: 2, Order: places.Any}, "n"},
		{places.Shape{Places: 3, Vocabulary: 1, Order: places.Any}, "v"},
		{places.Shape{Places: 1 << 40, Vocabulary: 2, Order: places.Any}, "n"},
		{places.Shape{Places: 3, Vocabulary: 2, Order: "rigth"}, "order"},
	} {
		var fault *fielderr.Error
		if err := c.shape.Check("n", "v"); !errors.As(err, &fault) || fault.Path != c.path {
			t.Errorf("%+v: %v", c.shape, err)
		}
	}
}
