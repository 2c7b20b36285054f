package experiment

import (
	"fmt"
	"slices"
	"strings"
)

// Judged is a claim at one combination of the axes that it leaves open.
type Judged struct {
	Part  *Part
	Claim *Claim
	Where string // the values of those axes
	// Of and Than are the cells that were compared; nil where the set has none.
	Of, Than *Cell
	// A and B are the metric of each over its seeds.
	A, B     Summary
	Evidence Evidence
	Verdict  ClaimVerdict
}

// ClaimVerdict is what results say of a claim.
type ClaimVerdict string

// Verdicts on claims.
const (
	AsClaimed ClaimVerdict = "as claimed"
	OtherWay  ClaimVerdict = "the other way round"
	NotApart  ClaimVerdict = "not told apart"
	NoNumbers ClaimVerdict = "no numbers to compare"
	NotRun    ClaimVerdict = "not run yet"
	IsRefused ClaimVerdict = "refused" // the family of losses does not have one of the cells
	NotInSet  ClaimVerdict = "not in this set"
)

// Text writes the verdict in a claim's own words.
func (j *Judged) Text() string {
	switch j.Verdict {
	case AsClaimed:
		if j.Claim.Source != "" {
			return "as " + j.Claim.Source + " says"
		}
	case NotApart:
		if j.Evidence.Pairs == 1 {
			return string(NotApart) + " in one seed"
		}
		return fmt.Sprintf("%s in %d seeds", NotApart, j.Evidence.Pairs)
	}
	return string(j.Verdict)
}

// Judge compares the cells of every claim of a part, in the order of the file.
func (r *Results) Judge(p *Part) []*Judged {
	if len(p.Claims) == 0 {
		return nil
	}
	var out []*Judged
	for i := range p.Claims {
		q := &p.Claims[i]
		found := false
		for _, c := range p.Cells {
			if q.about(c) {
				found = true
				out = append(out, r.judge(p, q, c, p.at(moved(c.Values, q.Than))))
			}
		}
		if !found {
			out = append(out, &Judged{Part: p, Claim: q, Verdict: NotInSet})
		}
	}
	return out
}

// about says whether a claim is about a cell, which is not the one that it would be
// compared with.
func (q *Claim) about(c *Cell) bool {
	for _, f := range q.Of {
		if !slices.ContainsFunc(f.Values, func(text string) bool { return slices.Contains(c.Values, Value{f.Axis, text}) }) {
			return false
		}
	}
	return !c.has(q.Than)
}

// judge compares a cell with another; nil where the set has none.
func (r *Results) judge(p *Part, q *Claim, c, other *Cell) *Judged {
	j := &Judged{Part: p, Claim: q, Where: p.open(q, c), Verdict: NotInSet}
	switch {
	case c.Refused != "" || other != nil && other.Refused != "":
		j.Verdict = IsRefused
		return j
	case other == nil:
		return j
	}
	j.Of, j.Than = c, other
	j.A, j.B = r.summarise(p, c.Name, q.Metric), r.summarise(p, other.Name, q.Metric)
	as, bs := p.sides(q.Metric, p.isTime(q.Metric), r.of(p.Name, c.Name), r.of(p.Name, other.Name))
	if len(as) == 0 {
		j.Verdict = NotRun
		return j
	}
	j.Evidence = p.evidence(q.Metric, c, other, as, bs)
	j.Verdict = q.verdict(j.Evidence, p.Margin)
	return j
}

// evidence compares two cells on a metric or a time.
func (p *Part) evidence(metric string, a, b *Cell, as, bs []side) Evidence {
	i := slices.IndexFunc(p.Times, func(t Time) bool { return t.Name == metric })
	if i < 0 {
		return metricEvidence(as, bs, direction{higher: p.higherIsBetter(metric), none: p.undirected(metric)})
	}
	within := 0.0
	if a.Budget != b.Budget {
		within = min(a.Budget, b.Budget)
	}
	for c, sides := range map[*Cell][]side{a: as, b: bs} {
		for k := range sides { // a time is known once the last of its evaluations is
			sides[k].wait = float64(max(p.Times[i].Runs, 1)-1) * c.step()
		}
	}
	return timeEvidence(as, bs, max(a.step(), b.step()), within)
}

// step is the number of updates between evaluations, which is what times are rounded to.
func (c *Cell) step() float64 {
	switch {
	case c.Spec == nil:
		return 0
	case c.Spec.Eval.Every > 0:
		return float64(c.Spec.Eval.Every)
	}
	return c.Budget
}

// open names the values of a cell on the axes that a claim does not settle.
func (p *Part) open(q *Claim, c *Cell) string {
	var out []string
	for i, v := range c.Values {
		settled := slices.ContainsFunc(q.Than, func(t Value) bool { return t.Axis == v.Axis })
		for _, f := range q.Of {
			if f.Axis == v.Axis {
				settled = len(f.Values) == 1
			}
		}
		if !settled {
			out = append(out, p.label(i)+"="+v.Text)
		}
	}
	return strings.Join(out, ", ")
}
