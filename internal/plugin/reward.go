package plugin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// Fault is an object that has no reward.
type Fault struct {
	Item int // its number in the request
	Err  error
}

// LogRewards writes the log-reward of every item of a request for rewards to out.
// What is not finite is a fault of its object, which text names, and NaN in out.
func (p *Pool) LogRewards(ctx context.Context, req *Request, text func(int) string, out []float64) (faults []Fault, err error) {
	name := func(i int) string { return fmt.Sprintf("object %.100q", text(i)) }
	err = p.each(ctx, req, p.rewards, func(first int, reply *Reply) error {
		part := out[first : first+len(reply.LogRewards)/8]
		floats(reply.LogRewards, part)
		known := make(map[int]bool, len(reply.Errors))
		for _, e := range reply.Errors {
			if !known[e.Item] {
				known[e.Item] = true
				faults = append(faults, Fault{first + e.Item, fmt.Errorf("plugin %s: %s: %s", p, name(first+e.Item), e.Text)})
			}
			part[e.Item] = math.NaN()
		}
		for i, v := range part {
			if (math.IsNaN(v) || math.IsInf(v, 0)) && !known[i] {
				faults = append(faults, Fault{first + i, fmt.Errorf("plugin %s: %s: log-reward %v; want a finite number", p, name(first+i), v)})
				part[i] = math.NaN()
			}
		}
		return nil
	})
	return faults, err
}

// rewards is Call, and when the request kills whoever answers it, a search for the
// objects that do: sampling is repeatable, so they would come again and again.
func (p *Pool) rewards(ctx context.Context, req *Request) (*Reply, error) {
	reply, err := p.Call(ctx, req)
	if !errors.Is(err, ErrFailed) || errors.Is(err, errStillborn) || ctx.Err() != nil {
		return reply, err
	}
	s := search{pool: p, patience: bits.Len(uint(req.Len())) + 1}
	if found, serr := s.rewards(ctx, req, err); serr == nil && s.answered {
		return found, nil
	}
	return nil, err // nothing gets an answer: it is no object's fault
}

// search halves a request until the parts get answers, or are one object.
type search struct {
	pool     *Pool
	patience int  // failures that are left, renewed by the first answer
	answered bool // something was
}

const searchFailures = 64 // of a search that gets answers

// rewards answers what can be answered of a request that failed with err.
func (s *search) rewards(ctx context.Context, req *Request, err error) (*Reply, error) {
	n := req.Len()
	if n == 1 {
		nan := binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.NaN()))
		return &Reply{LogRewards: nan, Errors: []ItemError{{Item: 0, Text: err.Error()}}}, nil
	}
	whole := &Reply{}
	for _, cut := range [][2]int{{0, n / 2}, {n / 2, n}} {
		part := req.slice(cut[0], cut[1])
		s.pool.hurry()
		reply, err := s.pool.call(ctx, 0, part)
		switch {
		case err == nil:
			if !s.answered {
				s.answered, s.patience = true, searchFailures
			}
		case !errors.Is(err, ErrFailed) || ctx.Err() != nil:
			return nil, err
		default:
			if s.patience--; s.patience < 0 {
				return nil, err
			}
			if reply, err = s.rewards(ctx, part, err); err != nil {
				return nil, err
			}
		}
		whole.LogRewards = append(whole.LogRewards, reply.LogRewards...)
		for _, e := range reply.Errors {
			e.Item += cut[0]
			whole.Errors = append(whole.Errors, e)
		}
	}
	return whole, nil
}
