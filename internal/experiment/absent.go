package experiment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// absent says which of the metrics that a study names no finished run of a part has. A
// name that is right may still be of something that these runs do not evaluate, and an
// empty column alone would not be noticed.
func (r *Results) absent(p *Part) []string {
	anywhere, atEnd := map[string]bool{}, map[string]bool{}
	finished := false
	for _, rec := range r.Records {
		if rec.Part != p.Name || rec.Status != Finished {
			continue
		}
		finished = true
		for name := range rec.Values {
			anywhere[name], atEnd[name] = true, true
		}
		for i, pt := range rec.Points {
			for _, names := range []func(func(string) bool){maps.Keys(pt.Values), maps.Keys(pt.Unbounded)} {
				for name := range names {
					anywhere[name] = true
					atEnd[name] = atEnd[name] || i == len(rec.Points)-1
				}
			}
		}
	}
	if !finished {
		return nil
	}
	var out []string
	for _, name := range p.named() {
		switch {
		case !anywhere[name] && p.Kind == Train:
			out = append(out, fmt.Sprintf("no cell has %s: their evaluations do not give it. Estimates need eval.samples or eval.test_set, exact distances an environment that can be listed.", name))
		case !anywhere[name]:
			out = append(out, fmt.Sprintf("no cell has %s: the computation gives %s.", name, strings.Join(slices.Sorted(maps.Keys(anywhere)), ", ")))
		case slices.Contains(p.Metrics, name) && !atEnd[name]:
			out = append(out, fmt.Sprintf("no cell has %s at its last evaluation.", name))
		}
	}
	return out
}

// named lists the metrics that a part names anywhere, each once.
func (p *Part) named() []string {
	out := p.drawn()
	add := func(name string) {
		if !slices.Contains(out, name) && !p.isTime(name) {
			out = append(out, name)
		}
	}
	for _, t := range p.Times {
		when, err := parseCondition(t.When)
		if err != nil {
			continue
		}
		for _, c := range when {
			if !c.isNumber {
				add(c.right)
			}
		}
	}
	for _, name := range p.Higher {
		add(name)
	}
	for _, q := range p.Claims {
		add(q.Metric)
	}
	return out
}
