package experiment

import (
	"fmt"
	"math"
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
	A, B    Summary
	Paired  Paired
	Verdict ClaimVerdict
}

// ClaimVerdict is what results say of a claim.
type ClaimVerdict string

// Verdicts on claims.
const (
	AsClaimed ClaimVerdict = "as claimed"
	OtherWay  ClaimVerdict = "the other way round"
	NotApart  ClaimVerdict = "not told apart"
	NotRun    ClaimVerdict = "not run yet"
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
		if j.Paired.Diff.N == 1 {
			return string(NotApart) + " in one seed"
		}
		return fmt.Sprintf("%s in %d seeds", NotApart, j.Paired.Diff.N)
	}
	return string(j.Verdict)
}

// Judge compares the cells of every claim of a part, in the order of the file.
func (r *Results) Judge(p *Part) []*Judged {
	var out []*Judged
	for i := range p.Claims {
		q := &p.Claims[i]
		found := false
		for _, c := range p.Cells {
			if !q.about(c) {
				continue
			}
			found = true
			out = append(out, r.judge(p, q, c))
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

func (r *Results) judge(p *Part, q *Claim, c *Cell) *Judged {
	j := &Judged{Part: p, Claim: q, Where: p.open(q, c), Verdict: NotInSet}
	other := p.counterpart(c, q.Than)
	if c.Refused != "" || other == nil {
		return j
	}
	j.Of, j.Than = c, other
	j.A, j.B = r.summarise(p, c.Name, q.Metric), r.summarise(p, other.Name, q.Metric)
	time := p.isTime(q.Metric)
	as, bs := p.sides(q.Metric, time, r.of(p.Name, c.Name), r.of(p.Name, other.Name))
	if time { // a run that diverged does not get there either
		for _, list := range [][]side{as, bs} {
			for i := range list {
				if list[i].diverged {
					list[i] = side{budget: list[i].budget}
				}
			}
		}
	}
	j.Paired = pairUp(q.Metric, as, bs, p.higherIsBetter(q.Metric), p.Margin)
	if len(as) == 0 {
		j.Verdict = NotRun
		return j
	}
	j.Verdict = q.verdict(j.Paired, len(as))
	return j
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

// verdict reads an interval of A − B as far as it bounds the difference, and of times
// the counts of seeds that got there, out of n each, where they alone tell.
func (q *Claim) verdict(p Paired, n int) ClaimVerdict {
	low, high, oftener := p.Diff.Low, p.Diff.High, p.oftener(n)
	above, below := p.bounds() // the difference, by the interval
	if q.Expect == More || q.Expect == NotLess {
		low, high, oftener = -high, -low, -oftener
		above, below = below, above
	}
	loose, limit := q.Expect == NotMore || q.Expect == NotLess, 0.0
	if loose {
		limit = math.Abs(float64(p.Base)) * p.Margin / 100
	}
	switch {
	case oftener > 0:
		return AsClaimed
	case oftener < 0:
		return OtherWay
	case !p.Diff.Known():
		return NotApart
	case above && (high < 0 || loose && high <= limit):
		return AsClaimed
	case below && low > limit:
		return OtherWay
	}
	return NotApart
}

// bounds says whether the interval bounds A − B from above, and from below. A time that
// A did not reach is longer than the budget that stands for it. A side that lacks numbers
// in more seeds than the other is not called better for those that it has.
func (p Paired) bounds() (above, below bool) {
	lacksA, lacksB := p.LostA+p.MissingA, p.LostB+p.MissingB
	better, worse := lacksA <= lacksB, lacksB <= lacksA
	if p.Higher {
		better, worse = worse, better
	}
	return p.CensoredA == 0 && better, p.CensoredB == 0 && worse
}

// oftener is 1 where A got to a time in clearly more of n seeds than B (Fisher's exact
// test at 5 %), −1 where B did, and 0 otherwise.
func (p Paired) oftener(n int) int {
	if fisher(n-p.CensoredA, n-p.CensoredB, n) >= 1-Confidence {
		return 0
	}
	if p.CensoredA < p.CensoredB {
		return 1
	}
	return -1
}

// fisher is the two-sided p-value of Fisher's exact test for a of n beside b of n: the
// probability of all tables with the same margins that are no likelier than this one.
func fisher(a, b, n int) float64 {
	choose := func(n, k int) float64 {
		x, _ := math.Lgamma(float64(n + 1))
		y, _ := math.Lgamma(float64(k + 1))
		z, _ := math.Lgamma(float64(n - k + 1))
		return x - y - z
	}
	log := func(k int) float64 { return choose(n, k) + choose(n, a+b-k) - choose(2*n, a+b) }
	sum := 0.0
	for k := max(0, a+b-n); k <= min(n, a+b); k++ {
		if log(k) <= log(a)+1e-9 {
			sum += math.Exp(log(k))
		}
	}
	return sum
}
