package experiment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// absent says which of the metrics that a study names the finished runs of a part lack,
// all or some of them. A name that is right may still be of something that these runs do
// not evaluate, and an empty column alone would not be noticed.
func (r *Results) absent(p *Part) []string {
	anywhere, atEnd, finished := map[string]int{}, map[string]int{}, 0
	for _, rec := range r.Records {
		if rec.Part != p.Name || rec.Status != Finished {
			continue
		}
		finished++
		some, last := rec.evaluated()
		for name := range some {
			anywhere[name]++
		}
		for name := range last {
			atEnd[name]++
		}
	}
	if finished == 0 {
		return nil
	}
	const old = "were made by an older version or are not evaluated for it"
	why := "they " + old
	if p.Kind != Train {
		why = "the computation gives no finite number of it there"
	}
	var out []string
	for _, name := range p.named() {
		has := anywhere[name]
		switch {
		case has == 0 && p.Kind == Train:
			hint := "estimates need eval.samples or eval.test_set"
			if anywhere["tv"] == 0 {
				hint += ", exact distances an environment that can be listed"
			}
			out = append(out, fmt.Sprintf("no cell has %s: the runs %s (%s).", name, old, hint))
		case has == 0:
			out = append(out, fmt.Sprintf("no cell has %s: the computation gives %s.", name, strings.Join(slices.Sorted(maps.Keys(anywhere)), ", ")))
		case has < finished:
			out = append(out, fmt.Sprintf("%d of %d runs have no %s: %s.", finished-has, finished, name, why))
		}
		if at := atEnd[name]; has > 0 && at < has && slices.Contains(p.Metrics, name) {
			if at == 0 {
				out = append(out, fmt.Sprintf("no cell has %s at its last evaluation.", name))
			} else {
				out = append(out, fmt.Sprintf("%d of %d runs have %s, but not at their last evaluation.", has-at, finished, name))
			}
		}
	}
	return out
}

// evaluated are the metrics that a run has at some evaluation, and at its last one, with
// those that have no finite number.
func (rec *Record) evaluated() (some, last map[string]bool) {
	some, last = map[string]bool{}, map[string]bool{}
	for name := range rec.Values {
		some[name], last[name] = true, true
	}
	for i, pt := range rec.Points {
		for _, names := range []func(func(string) bool){maps.Keys(pt.Values), maps.Keys(pt.Unbounded)} {
			for name := range names {
				some[name] = true
				if i == len(rec.Points)-1 {
					last[name] = true
				}
			}
		}
	}
	return some, last
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
