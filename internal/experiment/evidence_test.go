package experiment

import "testing"

var (
	none     = side{} // no finite number
	lost     = side{diverged: true}
	untested = side{unevaluated: true}
)

// times are those of runs of 100 updates; 0 is never.
func times(values ...float64) (out []side) {
	for _, v := range values {
		s := side{budget: 100}
		if v > 0 {
			s.value, s.known = v, true
		}
		out = append(out, s)
	}
	return out
}

func five(s side) []side { return []side{s, s, s, s, s} }

type claimCase struct {
	name   string
	a, b   []side
	expect string
	want   string // verdict and evidence
}

// TestVerdictsOnTimes: the interval decides where every run got there, and the counts
// alone where not.
func TestVerdictsOnTimes(t *testing.T) {
	for _, c := range []claimCase{
		{"clearly sooner", times(10, 11, 12, 13, 14), times(30, 31, 32, 33, 35), Less, "as claimed, by the interval"},
		{"clearly later", times(30, 31, 32, 33, 35), times(10, 11, 12, 13, 14), Less, "the other way round, by the interval"},
		{"within a step", times(10, 10, 10, 10, 10), times(14, 14, 14, 14, 14), Less, "not told apart in 5 seeds, by the interval"},
		{"beyond a step", times(10, 10, 10, 10, 10), times(16, 16, 16, 16, 16), Less, "as claimed, by the interval"},
		{"not later, but by a step perhaps", times(20, 20, 20), times(20, 20, 20), NotMore, "not told apart in 3 seeds, by the interval"},
		{"not later by a step within the margin", times(60, 60, 60), times(60, 60, 60), NotMore, "as claimed, by the interval"},
		{"two pairs", times(10, 11), times(30, 31), Less, "not told apart in 2 seeds, which are too few"},
		{"one pair", times(10), times(30), Less, "not told apart in one seed, which is too few"},
		{"never beside always", times(0, 0, 0, 0, 0), times(10, 11, 12, 13, 14), Less, "the other way round, by counts: 0 of 5 beside 5 of 5, p = 0.0079"},
		{"never beside always, more", times(0, 0, 0, 0, 0), times(10, 11, 12, 13, 14), More, "as claimed, by counts: 0 of 5 beside 5 of 5, p = 0.0079"},
		{"always beside never, not later", times(10, 11, 12, 13, 14), times(0, 0, 0, 0, 0), NotMore, "as claimed, by counts: 5 of 5 beside 0 of 5, p = 0.0079"},
		{"always beside never, not sooner", times(10, 11, 12, 13, 14), times(0, 0, 0, 0, 0), NotLess, "the other way round, by counts: 5 of 5 beside 0 of 5, p = 0.0079"},
		{"four beside none", times(90, 91, 92, 93, 0), times(0, 0, 0, 0, 0), Less, "as claimed, by counts: 4 of 5 beside 0 of 5, p = 0.048"},
		{"the interval is no bound then", times(10, 11, 12, 13, 14), times(90, 91, 92, 93, 0), Less, "not told apart in 5 seeds, by counts: 5 of 5 beside 4 of 5, p = 1"},
		{"nor where A is late", times(90, 91, 92, 93, 0), times(10, 11, 12, 13, 14), Less, "not told apart in 5 seeds, by counts: 4 of 5 beside 5 of 5, p = 1"},
		{"two beside none are too few", times(99, 20), times(0, 0), Less, "not told apart in 2 seeds, by counts: 2 of 2 beside 0 of 2, p = 0.33"},
		{"neither", times(0, 0, 0), times(0, 0, 0), Less, "not told apart in 3 seeds, by counts: 0 of 3 beside 0 of 3, p = 1"},
		{"a run that diverged does not get there", append(times(10, 11, 12, 13), lost), times(30, 31, 32, 33, 35), Less, "not told apart in 5 seeds, by counts: 4 of 5 beside 5 of 5, p = 1; diverged 1 : 0"},
		{"all diverged", five(lost), times(30, 31, 32, 33, 35), Less, "the other way round, by counts: 0 of 5 beside 5 of 5, p = 0.0079; diverged 5 : 0"},
		{"never evaluated", times(10, 11, 12, 13, 14), five(untested), Less, "no numbers to compare; no number 0 : 5"},
		{"evaluated in three", times(10, 11, 12, 13, 14), append(times(40, 41, 42), untested, untested), Less, "as claimed, by the interval; no number 0 : 2"},
	} {
		e := timeEvidence(c.a, c.b, 5, 0)
		j := Judged{Claim: &Claim{Expect: c.expect}, Evidence: e}
		j.Verdict = j.Claim.verdict(e, 10)
		if got := j.verdict(); got != c.want {
			t.Errorf("%s: %q, want %q (%+v)", c.name, got, c.want, e)
		}
	}
}

// TestTimesOfDifferentBudgets are compared within the smaller.
func TestTimesOfDifferentBudgets(t *testing.T) {
	longer := times(150, 160, 170, 95, 80)
	for i := range longer { // with two more evaluations after the first
		longer[i].budget, longer[i].wait = 200, 10
	}
	e := timeEvidence(times(0, 0, 0, 0, 0), longer, 5, 100)
	j := Judged{Claim: &Claim{Expect: Less}, Evidence: e}
	j.Verdict = j.Claim.verdict(e, 10)
	if got, want := j.verdict(), "not told apart in 5 seeds, by counts within 100 updates: 0 of 5 beside 1 of 5, p = 1"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestVerdictsOnMetrics: the interval over pairs with numbers decides, unless one side
// lacks numbers in clearly more seeds.
func TestVerdictsOnMetrics(t *testing.T) {
	for _, c := range []struct {
		claimCase
		higher, undirected bool
	}{
		{claimCase{"fewer", known(1, 1, 1, 2, 1), known(4, 4, 4, 4, 4), Less, "as claimed, by the interval"}, true, false},
		{claimCase{"within the margin", known(11, 11.1, 10.9), known(10.5, 10.5, 10.5), NotMore, "as claimed, by the interval"}, false, false},
		{claimCase{"beyond the margin", known(15, 15.1, 14.9), known(10, 10, 10), NotMore, "the other way round, by the interval"}, false, false},
		{claimCase{"around the margin", known(9, 11, 13), known(10, 10, 10), NotMore, "not told apart in 3 seeds, by the interval"}, false, false},
		{claimCase{"less is not more", known(5, 5.1, 5.2), known(10, 10, 10), NotMore, "as claimed, by the interval"}, false, false},
		{claimCase{"not less within the margin", known(9.5, 9.5, 9.6), known(10, 10, 10), NotLess, "as claimed, by the interval"}, true, false},
		{claimCase{"equal in every seed", known(4, 4, 4), known(4, 4, 4), Less, "not told apart in 3 seeds, by the interval"}, false, false},
		{claimCase{"equal is not more", known(4, 4, 4), known(4, 4, 4), NotMore, "as claimed, by the interval"}, false, false},
		{claimCase{"two equal pairs", known(4, 4), known(5, 5), Less, "not told apart in 2 seeds, which are too few"}, false, false},
		{claimCase{"nearer, but without a number twice", append(known(1, 1.1, 1), none, none), known(5, 5, 5, 5, 5), Less, "not told apart in 3 seeds, by the interval; no number 2 : 0"}, false, false},
		{claimCase{"nearer, and the other lacks numbers", known(1, 1.1, 1, 1, 1), append(known(5, 5, 5), none, none), Less, "as claimed, by the interval; no number 0 : 2"}, false, false},
		{claimCase{"fewer of those that have not diverged", append(known(1, 1, 1), lost), known(4, 4, 4, 4), Less, "as claimed, by the interval; diverged 1 : 0"}, true, false},
		{claimCase{"more of those that have not diverged", append(known(4, 4, 4), lost), known(1, 1, 1, 1), More, "not told apart in 3 seeds, by the interval; diverged 1 : 0"}, true, false},
		{claimCase{"all diverged, less", five(lost), known(4, 4, 4, 4, 4), Less, "the other way round, by counts of runs without a number: 5 of 5 beside 0 of 5, p = 0.0079; diverged 5 : 0"}, false, false},
		{claimCase{"all diverged, not more", five(lost), known(4, 4, 4, 4, 4), NotMore, "the other way round, by counts of runs without a number: 5 of 5 beside 0 of 5, p = 0.0079; diverged 5 : 0"}, false, false},
		{claimCase{"all diverged, more", five(lost), known(4, 4, 4, 4, 4), More, "the other way round, by counts of runs without a number: 5 of 5 beside 0 of 5, p = 0.0079; diverged 5 : 0"}, true, false},
		{claimCase{"all diverged, not less", five(lost), known(4, 4, 4, 4, 4), NotLess, "the other way round, by counts of runs without a number: 5 of 5 beside 0 of 5, p = 0.0079; diverged 5 : 0"}, true, false},
		{claimCase{"all diverged, farther", five(lost), known(4, 4, 4, 4, 4), More, "as claimed, by counts of runs without a number: 5 of 5 beside 0 of 5, p = 0.0079; diverged 5 : 0"}, false, false},
		{claimCase{"the other diverged", known(4, 4, 4, 4, 4), append(known(1), lost, lost, none, none), Less, "as claimed, by counts of runs without a number: 0 of 5 beside 4 of 5, p = 0.048; no number 0 : 2; diverged 0 : 2"}, false, false},
		{claimCase{"three of three diverged", []side{lost, lost, lost}, known(4, 4, 4), Less, "not told apart in 3 seeds, by counts of runs without a number: 3 of 3 beside 0 of 3, p = 0.1; diverged 3 : 0"}, false, false},
		{claimCase{"all of both diverged", five(lost), five(lost), Less, "no numbers to compare; diverged 5 : 5"}, false, false},
		{claimCase{"neither side is better", five(lost), known(4, 4, 4, 4, 4), Less, "no numbers to compare; diverged 5 : 0"}, false, true},
		{claimCase{"not evaluated", five(untested), known(4, 4, 4, 4, 4), Less, "no numbers to compare; no number 5 : 0"}, false, false},
		{claimCase{"two not evaluated", append(known(1, 1.1, 1), untested, untested), known(5, 5, 5, 5, 5), Less, "as claimed, by the interval; no number 2 : 0"}, false, false},
	} {
		e := metricEvidence(c.a, c.b, direction{higher: c.higher, none: c.undirected})
		j := Judged{Claim: &Claim{Expect: c.expect}, Evidence: e}
		j.Verdict = j.Claim.verdict(e, 10)
		if got := j.verdict(); got != c.want {
			t.Errorf("%s: %q, want %q (%+v)", c.name, got, c.want, e)
		}
	}
}
