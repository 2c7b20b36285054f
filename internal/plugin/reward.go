package plugin

import (
	"context"
	"fmt"
	"math"
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
	err = p.Each(ctx, req, func(first int, reply *Reply) error {
		part := out[first : first+len(reply.LogRewards)/8]
		floats(reply.LogRewards, part)
		known := make(map[int]bool, len(reply.Errors))
		for _, e := range reply.Errors {
			if !known[e.Item] {
				known[e.Item] = true
				faults = append(faults, Fault{first + e.Item, fmt.Errorf("plugin %s: %s: %.400s", p, name(first+e.Item), e.Text)})
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
