package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestWhatIsNotKeptIsComputedAgain: whatever part of a pass the budget holds, also
// when it grows, the bits are the same.
func TestWhatIsNotKeptIsComputedAgain(t *testing.T) {
	for _, activation := range []string{"relu", "gelu"} {
		m, err := NewTransformer(TransformerConfig{Layers: 2, Heads: 2, Width: 8, Activation: activation, Flow: true},
			Sequence{Positions: 12, Vocabulary: 3, Conditions: 1}, 4, 3)
		if err != nil {
			t.Fatal(err)
		}
		params := make([]float32, m.Layout().Size())
		m.Init(params, 1)
		b, w := manySequences(m, 700)
		tokens := 0
		gradient := func(budget, steps int) (Scores, []float32) {
			tape, grad := newTransformerTape(m), make([]float32, len(params))
			tape.budget = budget
			all := b.States
			if err := tape.Begin(params, &b.States, true); err != nil {
				t.Fatal(err)
			}
			for i := range steps {
				b.States = all
				b.States.N = all.N * (i + 1) / steps
				b.States.FeatOffset = all.FeatOffset[:b.States.N+1]
				b.States.ForwardMask, b.States.BackwardMask = all.ForwardMask[:b.States.N*4], all.BackwardMask[:b.States.N*3]
				if _, err := tape.Extend(); err != nil {
					t.Fatal(err)
				}
			}
			b.States = all
			var scores Scores
			if err := tape.Finish(b, &scores); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := tape.Backprop(w, grad); err != nil {
					t.Fatal(err)
				}
			}
			tokens = tape.seq.tokens(0, all.N)
			if whole := tape.kept.bytes(&tape.seq, 0, all.N); budget < whole == (tape.held == all.N) {
				t.Fatalf("of %d bytes a budget of %d holds %d of %d states", whole, budget, tape.held, all.N)
			}
			return scores, grad
		}
		want, wantGrad := gradient(keptBytes, 1)
		if tokens < 3*tokenChunk {
			t.Fatalf("%d tokens are few", tokens)
		}
		for _, budget := range []int{0, 1 << 20, 2 << 20, keptBytes} {
			for _, steps := range []int{1, 3, 50} {
				got, grad := gradient(budget, steps)
				if !slices.Equal(got.LogPF, want.LogPF) || !slices.Equal(got.LogPB, want.LogPB) || !slices.Equal(got.LogF, want.LogF) || !slices.Equal(grad, wantGrad) {
					t.Errorf("%s: a budget of %d bytes and %d steps give other bits", activation, budget, steps)
				}
			}
		}
	}
}

// manySequences is a batch with a transition each way in each of n states, and weights.
func manySequences(m *Transformer, n int) (*Batch, *Weights) {
	r := rand.New(rand.NewPCG(8, 9))
	b, w := &Batch{}, &Weights{}
	b.States.Reset()
	for i := range n {
		s := &b.States
		for p := range m.seq.Positions {
			if r.IntN(3) > 0 {
				s.FeatIndex = append(s.FeatIndex, int32(p*m.seq.Vocabulary+r.IntN(m.seq.Vocabulary)))
			}
		}
		s.FeatOffset = append(s.FeatOffset, int32(len(s.FeatIndex)))
		for dir, mask := range []*[]bool{&s.ForwardMask, &s.BackwardMask} {
			for range m.head[dir].out {
				*mask = append(*mask, true)
			}
		}
		s.N++
		b.FState, b.FAction = append(b.FState, int32(i)), append(b.FAction, int32(r.IntN(m.head[Forward].out)))
		w.PF, w.F = append(w.PF, r.NormFloat64()), append(w.F, r.NormFloat64())
		if back := m.head[Backward].out; back > 0 {
			b.BState, b.BAction = append(b.BState, int32(i)), append(b.BAction, int32(r.IntN(back)))
			w.PB = append(w.PB, r.NormFloat64())
		}
	}
	return b, w
}

// BenchmarkTransformer is what an update takes of the model: Score and Backprop of
// 500 states of bit sequences of 120 bits in 15 words of 8, two thirds of them
// filled. A word is put at the left, or anywhere: 256 or 3,840 actions.
func BenchmarkTransformer(b *testing.B) {
	for _, c := range []struct {
		name, activation string
		actions          int
		update           bool
	}{
		{"left/relu/score", "relu", 256, false}, {"left/relu/update", "relu", 256, true},
		{"left/gelu/score", "gelu", 256, false}, {"left/gelu/update", "gelu", 256, true},
		{"any/relu/score", "relu", 15 * 256, false}, {"any/relu/update", "relu", 15 * 256, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			m, err := NewTransformer(TransformerConfig{Layers: 2, Heads: 4, Width: 64, Activation: c.activation, UniformBackward: true},
				Sequence{Positions: 15, Vocabulary: 256}, c.actions, 15)
			if err != nil {
				b.Fatal(err)
			}
			params := make([]float32, m.Layout().Size())
			m.Init(params, 1)
			batch, w := manySequences(m, 500)
			tape, scores, grad := m.NewTape(), Scores{}, make([]float32, len(params))
			b.ReportAllocs()
			for b.Loop() {
				err := tape.Score(params, batch, &scores)
				if err == nil && c.update {
					err = tape.Backprop(w, grad)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			tokens := tape.(*transformerTape).seq.tokens(0, 500)
			b.ReportMetric(float64(tokens)*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
