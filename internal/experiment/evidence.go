package experiment

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/stat"
)

// Basis is what tells two sides of a claim apart. Only one of them does.
type Basis string

// Bases of verdicts.
const (
	ByInterval Basis = "interval" // the paired interval of A − B
	ByCounts   Basis = "counts"   // Fisher's exact test on counts of runs, two-sided
)

// fewest is the number of pairs that an interval needs to decide anything: two that
// happen to agree look certain.
const fewest = 3

// Evidence is what the runs of two cells say of their difference A − B.
type Evidence struct {
	By    Basis // "" where there are no numbers to compare
	Pairs int   // of seeds, that it rests on
	// Diff is the interval, Base the mean of B over the same pairs; unknown by counts.
	Diff Interval
	Base float64
	// CountA and CountB, of Pairs each, are the runs that got to a time, or those without
	// a number of another metric; P is the probability that Fisher's test gives them.
	CountA, CountB int
	P              float64
	// Within is the number of updates that times are counted in, where budgets differ.
	Within float64
	Time   bool
	// A and B count the runs at all seeds that are done of both.
	A, B Outcomes

	// sign is −1 where the counts are in favour of A < B, and 1 where of A > B.
	sign int
	// mayLess and mayMore say whether the interval may call A less, or more.
	mayLess, mayMore bool
}

// Outcomes counts what became of runs.
type Outcomes struct{ Reached, Missing, Diverged int }

func (o *Outcomes) add(s side, got bool) {
	switch {
	case s.diverged:
		o.Diverged++
	case got:
		o.Reached++
	case !s.known && s.budget == 0:
		o.Missing++
	}
}

// timeEvidence compares times, seed by seed. If every run got there, the interval of the
// difference decides, which is no narrower than step, the updates between evaluations, to
// either side: times are no finer. Otherwise some values are bounds only, and the counts
// of runs that got there decide. A run that diverged did not; one that was not evaluated
// for it is left out. within is the smaller budget where they differ, and 0 where not.
func timeEvidence(as, bs []side, step, within float64) Evidence {
	e := Evidence{Time: true, Base: math.NaN(), P: math.NaN(), Diff: MeanOf(nil), mayLess: true, mayMore: true}
	arrived := func(s side, within float64) bool {
		return s.known && !s.diverged && (within == 0 || s.value+s.wait <= within || s.budget <= within)
	}
	var diffs, base []float64
	all := true
	for i, a := range as {
		b := bs[i]
		e.A.add(a, arrived(a, 0))
		e.B.add(b, arrived(b, 0))
		if a.unknown() || b.unknown() {
			continue
		}
		e.Pairs++
		all = all && arrived(a, 0) && arrived(b, 0)
		diffs, base = append(diffs, a.value-b.value), append(base, b.value)
	}
	switch {
	case e.Pairs == 0:
		return e
	case all:
		e.interval(diffs, base)
		if e.Diff.Known() {
			e.Diff.Half = max(e.Diff.Half, step)
			e.Diff.Low, e.Diff.High = e.Diff.Mean-e.Diff.Half, e.Diff.Mean+e.Diff.Half
		}
		return e
	}
	e.A.Reached, e.B.Reached, e.Within = 0, 0, within
	for i, a := range as {
		b := bs[i]
		gotA, gotB := arrived(a, within), arrived(b, within)
		if gotA {
			e.A.Reached++
		}
		if gotB {
			e.B.Reached++
		}
		if a.unknown() || b.unknown() {
			continue
		}
		if gotA {
			e.CountA++
		}
		if gotB {
			e.CountB++
		}
	}
	e.count(e.CountB - e.CountA) // who gets there oftener is sooner
	return e
}

// direction says which values of a metric are better.
type direction struct{ higher, none bool }

// metricEvidence compares values, seed by seed. The interval over pairs with numbers on
// both sides decides, but for a side that has no number (it diverged, say) in clearly more
// seeds: that is worse. Runs that were not evaluated are left out.
func metricEvidence(as, bs []side, better direction) Evidence {
	e := Evidence{Base: math.NaN(), P: math.NaN(), Diff: MeanOf(nil), mayLess: true, mayMore: true}
	var diffs, base []float64
	n, lacksA, lacksB := 0, 0, 0
	for i, a := range as {
		b := bs[i]
		e.A.add(a, a.known)
		e.B.add(b, b.known)
		if a.unevaluated || b.unevaluated {
			continue
		}
		n++
		hasA, hasB := a.known && !a.diverged, b.known && !b.diverged
		if !hasA {
			lacksA++
		}
		if !hasB {
			lacksB++
		}
		if hasA && hasB {
			diffs, base = append(diffs, a.value-b.value), append(base, b.value)
		}
	}
	if lacksA != lacksB && !better.none {
		aWorse := 1 // a side without numbers is at the worse end
		if lacksA < lacksB {
			aWorse = -1
		}
		if better.higher {
			aWorse = -aWorse
		}
		if len(diffs) < fewest || fisher(lacksA, lacksB, n) < 1-Confidence {
			e.Pairs, e.CountA, e.CountB = n, lacksA, lacksB
			e.count(aWorse)
			return e
		}
		// What it has is no reason to call it better.
		e.mayLess, e.mayMore = aWorse < 0, aWorse > 0
	}
	if len(diffs) > 0 {
		e.interval(diffs, base)
	}
	return e
}

func (e *Evidence) interval(diffs, base []float64) {
	e.By, e.Pairs, e.Diff, e.Base = ByInterval, len(diffs), MeanOf(diffs), stat.Mean(base, nil)
}

func (e *Evidence) count(sign int) {
	e.By, e.P, e.sign = ByCounts, fisher(e.CountA, e.CountB, e.Pairs), sign
}

// Text says what a verdict rests on: "by counts: 0 of 5 beside 4 of 5, p = 0.048".
func (e Evidence) Text() string {
	switch {
	case e.By == ByInterval && e.Pairs < fewest:
		if e.Pairs == 1 {
			return "which is too few"
		}
		return "which are too few"
	case e.By == ByInterval:
		return "by the interval"
	case e.By == "":
		return ""
	}
	what := ""
	switch {
	case !e.Time:
		what = " of runs without a number"
	case e.Within > 0:
		what = fmt.Sprintf(" within %s updates", format(e.Within))
	}
	return fmt.Sprintf("by counts%s: %d of %d beside %d of %d, p = %s", what, e.CountA, e.Pairs, e.CountB, e.Pairs, format(roundHalf(e.P)))
}

// rests says which runs have no value beside that.
func (e Evidence) rests() (out string) {
	if e.A.Missing+e.B.Missing > 0 {
		out += fmt.Sprintf("; no number %d : %d", e.A.Missing, e.B.Missing)
	}
	if e.A.Diverged+e.B.Diverged > 0 {
		out += fmt.Sprintf("; diverged %d : %d", e.A.Diverged, e.B.Diverged)
	}
	return out
}

// verdict reads the evidence in the direction of a claim, with a margin in percent.
func (q *Claim) verdict(e Evidence, margin float64) ClaimVerdict {
	low, high, sign, may, mayNot := e.Diff.Low, e.Diff.High, e.sign, e.mayLess, e.mayMore
	if q.Expect == More || q.Expect == NotLess {
		low, high, sign, may, mayNot = -high, -low, -sign, mayNot, may
	}
	loose, limit := q.Expect == NotMore || q.Expect == NotLess, 0.0
	if loose {
		limit = math.Abs(e.Base) * margin / 100
	}
	switch {
	case e.By == "":
		return NoNumbers
	case e.By == ByCounts && e.P >= 1-Confidence:
		return NotApart
	case e.By == ByCounts && sign < 0:
		return AsClaimed
	case e.By == ByCounts:
		return OtherWay
	case e.Pairs < fewest:
		return NotApart
	case may && (high < 0 || loose && high <= limit):
		return AsClaimed
	case mayNot && low > limit:
		return OtherWay
	}
	return NotApart
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
	return min(sum, 1)
}
