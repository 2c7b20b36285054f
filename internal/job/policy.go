package job

import (
	"encoding/json"
	"fmt"
)

// Transformer is the policy.kind that has layers, heads, a width and a
// feedforward width in the place of hidden layers.
const Transformer = "transformer"

// maxEncoder is the most layers of a transformer.
const maxEncoder = 64

// choose completes a policy with what its kind has beyond Default: fields of
// other kinds that the job does not give are empty then, and those of its own
// have their default. given says whether the job has a field at a dotted path.
func (p *Policy) choose(given func(path string) bool) {
	if p.Kind != Transformer {
		return
	}
	if !given("policy.hidden") {
		p.Hidden = []int{}
	}
	// A small one: on sequences of a dozen tokens it learns what two layers of 256
	// do, with a tenth of the parameters where the vocabulary is large.
	for path, d := range map[string]struct {
		field *int
		value int
	}{
		"policy.layers": {&p.Layers, 2},
		"policy.heads":  {&p.Heads, 4},
		"policy.width":  {&p.Width, 64},
	} {
		if !given(path) {
			*d.field = d.value
		}
	}
	if !given("policy.feedforward") {
		p.Feedforward = 4 * min(p.Width, maxWide) // Vaswani et al., 2017
	}
}

// maxWide is the widest of all layers but a transformer's feedforward.
const maxWide = 1 << 16

// policy checks which fields go with the kind.
func (c *checker) policy(p Policy) {
	own := []struct {
		path  string
		value int
		most  int
	}{
		{"policy.layers", p.Layers, maxEncoder},
		{"policy.heads", p.Heads, maxWide},
		{"policy.width", p.Width, maxWide},
		{"policy.feedforward", p.Feedforward, 4 * maxWide},
	}
	if p.Kind == Transformer {
		if len(p.Hidden) > 0 {
			c.fault("policy.hidden", p.Hidden[:min(len(p.Hidden), maxLayers)], "nothing: a transformer has layers, heads, width and feedforward")
		}
		for _, f := range own {
			if f.value == 0 { // the other faults are those of the table
				c.fault(f.path, f.value, fmt.Sprintf("an integer from 1 to %d", f.most))
			}
		}
		return
	}
	if n := len(p.Hidden); n < 1 || n > maxLayers {
		c.fault("policy.hidden", n, fmt.Sprintf("from 1 to %d layers", maxLayers))
	}
	for _, f := range own {
		if f.value != 0 {
			c.fault(f.path, f.value, "nothing: only a transformer has it")
		}
	}
}

// Size is the field of a job, and its value, that says how large the network is.
func (p Policy) Size() (path string, value any) {
	if p.Kind == Transformer {
		return "policy.width", p.Width
	}
	return "policy.hidden", p.Hidden
}

// givenPolicy says which fields below policy a job has that travels as JSON.
func givenPolicy(data []byte) func(path string) bool {
	var job struct {
		Policy map[string]json.RawMessage `json:"policy"`
	}
	_ = json.Unmarshal(data, &job) // it was decoded strictly before
	return func(path string) bool {
		_, ok := job.Policy[path[len("policy."):]]
		return ok
	}
}
