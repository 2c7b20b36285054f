package policy

import "fmt"

// pass is the forward pass that is under way on a tape, or the one that was scored
// last: the protocol of Begin, Extend, Finish and Backprop, which all models share.
type pass struct {
	params []float32
	states *States // nil: none is under way
	keep   bool
	from   int    // the first state whose rows are in the buffers: 0 if they are kept
	done   int    // states scored so far
	batch  *Batch // that of the last Score; nil: there is none to differentiate
}

// begin starts a pass of a model with so many parameters.
func (p *pass) begin(size int, params []float32, s *States, keep bool) error {
	p.batch, p.states = nil, nil
	if len(params) < size {
		return fmt.Errorf("%w: %d parameters, the model has %d", ErrShape, len(params), size)
	}
	p.params, p.states, p.keep, p.from, p.done = params, s, keep, 0, 0
	return nil
}

// end ends the pass: b is its batch, score gives the scores of that.
func (p *pass) end(b *Batch, score func() error) error {
	if p.states == nil || p.states != &b.States || !p.keep {
		p.states = nil
		return ErrNoPass
	}
	err := score()
	if p.states = nil; err == nil {
		p.batch = b
	}
	return err
}

// scored is the batch to differentiate, for which w and grad have to fit; flows says
// whether weights of flows concern the model.
func (p *pass) scored(size int, flows bool, w *Weights, grad []float32) (*Batch, error) {
	b := p.batch
	switch {
	case b == nil:
		return nil, ErrNoScore
	case len(grad) < size:
		return nil, fmt.Errorf("%w: a gradient of %d, the model has %d parameters", ErrShape, len(grad), size)
	case w.PF != nil && len(w.PF) != len(b.FState) || w.PB != nil && len(w.PB) != len(b.BState):
		return nil, fmt.Errorf("%w: %d and %d weights for %d forward and %d backward transitions",
			ErrShape, len(w.PF), len(w.PB), len(b.FState), len(b.BState))
	case flows && w.F != nil && len(w.F) != b.States.N:
		return nil, fmt.Errorf("%w: %d weights of flows for %d states", ErrShape, len(w.F), b.States.N)
	}
	return b, nil
}

// crew runs the work of a tape on the cores that are lent to it.
type crew struct{ cores Cores }

// Share implements Tape.
func (c *crew) Share(cores Cores) { c.cores = cores }

// do runs a function for parts 0..parts-1, on several cores if they are lent.
func (c *crew) do(parts int, f *func(int)) {
	if c.cores != nil && parts > 1 {
		c.cores.Do(parts, f)
		return
	}
	for p := range parts {
		(*f)(p)
	}
}

// num is how many cores there are.
func (c *crew) num() int {
	if c.cores == nil {
		return 1
	}
	return max(c.cores.Num(), 1)
}

const (
	// wideBlock is how many rows go through the layers together: their activations
	// stay in the second-level cache.
	wideBlock = 112
	// thinBlock is the fewest rows that are worth another core.
	thinBlock = 8
)

// blockOf is how many of n rows a part takes: every core gets as many parts.
func (c *crew) blockOf(n int) int {
	cores := c.num()
	rounds := (n + cores*wideBlock - 1) / (cores * wideBlock)
	parts := max(cores*rounds, 1)
	return max((n+parts-1)/parts, thinBlock)
}
