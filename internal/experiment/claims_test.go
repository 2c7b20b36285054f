package experiment

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

const claimed = `name: claimed
base:
  env: {name: hypergrid, params: {dim: 2, height: 8}}
  train: {batch: 16, updates: 100}
axes:
  loss.divergence: ["alpha:0", "alpha:1", "alpha:2"]
  train.lag: [0, 50]
seeds: 5
metrics: [tv, modes_held]
times: {modes: {when: modes_held >= modes_total}}
claims:
  alpha 0 finds all modes sooner than TB: {source: the paper, metric: modes, of: {loss.divergence: "alpha:0"}, expect: less, than: {loss.divergence: "alpha:1"}}
  alpha 2 holds fewer: {metric: modes_held, of: {loss.divergence: "alpha:2", train.lag: 0}, expect: less, than: {loss.divergence: "alpha:1"}}
  no member is farther away than TB: {metric: tv, of: {train.lag: [0, 50]}, expect: not more, than: {loss.divergence: "alpha:1"}}
`

// results of a plan whose runs are given by a function of cell and seed.
func resultsOf(p *Plan, of func(c *Cell, seed uint64) *Record) *Results {
	r := &Results{Plan: p}
	for _, part := range p.Parts {
		for _, c := range part.Cells {
			for _, seed := range part.Seeds {
				rec := of(c, seed)
				rec.Part, rec.Cell, rec.Seed, rec.At, rec.Budget = part.Name, c.Name, seed, c.Values, c.Budget
				r.Records = append(r.Records, rec)
			}
		}
	}
	return r
}

// TestClaimsAreJudged: one verdict for each combination of the axes that a claim leaves
// open.
func TestClaimsAreJudged(t *testing.T) {
	p := mustPlan(t, claimed, "")
	r := resultsOf(p, func(c *Cell, seed uint64) *Record {
		rec := &Record{Status: Finished, Values: map[string]float64{"tv": 0.1 + 0.001*float64(seed), "modes_held": 4, "modes": 50 + float64(seed)}}
		switch c.Name {
		case "divergence=alpha:0, lag=0":
			rec.Values["modes"] -= 20
		case "divergence=alpha:0, lag=50":
			rec.Values["modes"] += 20
			rec.Values["tv"] += 0.05
		case "divergence=alpha:2, lag=0":
			rec.Values["modes_held"] = 1
			delete(rec.Values, "modes")
		}
		return rec
	})
	var got []string
	for _, j := range r.Judge(p.Parts[0]) {
		got = append(got, strings.Join([]string{j.Claim.Text, j.Where, j.A.counted(), j.B.counted(), j.Text()}, " | "))
	}
	want := []string{
		"alpha 0 finds all modes sooner than TB | lag=0 | 32 (5 of 5) | 52 (5 of 5) | as the paper says",
		"alpha 0 finds all modes sooner than TB | lag=50 | 72 (5 of 5) | 52 (5 of 5) | the other way round",
		"alpha 2 holds fewer |  | 1 ± 0 (5 of 5) | 4 ± 0 (5 of 5) | as claimed",
		"no member is farther away than TB | lag=0 | 0.102 ± 0.002 (5 of 5) | 0.102 ± 0.002 (5 of 5) | as claimed",
		"no member is farther away than TB | lag=50 | 0.152 ± 0.002 (5 of 5) | 0.102 ± 0.002 (5 of 5) | the other way round",
		"no member is farther away than TB | lag=0 | 0.102 ± 0.002 (5 of 5) | 0.102 ± 0.002 (5 of 5) | as claimed",
		"no member is farther away than TB | lag=50 | 0.102 ± 0.002 (5 of 5) | 0.102 ± 0.002 (5 of 5) | as claimed",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestVerdictsOnClaims: an interval tells as far as it bounds the difference, and of
// times the counts do where it does not.
func TestVerdictsOnClaims(t *testing.T) {
	never, none := side{budget: 100}, side{}
	times := func(values ...float64) (out []side) {
		for _, v := range values {
			s := side{budget: 100}
			if v > 0 {
				s.value, s.known = v, true
			}
			out = append(out, s)
		}
		return out
	}
	all := func(s side) []side { return []side{s, s, s, s, s} }
	for _, c := range []struct {
		name   string
		a, b   []side
		higher bool
		expect string
		want   ClaimVerdict
	}{
		{"clearly sooner", times(10, 11, 12, 13, 14), times(30, 31, 32, 33, 35), false, Less, AsClaimed},
		{"clearly later", times(30, 31, 32, 33, 35), times(10, 11, 12, 13, 14), false, Less, OtherWay},
		{"later, as was expected", times(30, 31, 32, 33, 35), times(10, 11, 12, 13, 14), false, More, AsClaimed},
		{"about as soon", times(10, 30, 20, 40, 5), times(12, 25, 22, 33, 9), false, Less, NotApart},
		{"sooner than those that never got there", times(10, 11, 12, 13, 14), all(never), false, Less, AsClaimed},
		{"late, but the others never", times(99, 20, 98, 97, 99), all(never), false, Less, AsClaimed},
		{"never, where the others are late", all(never), times(99, 20, 98, 97, 99), false, Less, OtherWay},
		{"five of five beside one", times(99, 20, 98, 97, 99), times(0, 0, 50, 0, 0), false, Less, AsClaimed},
		{"four of five beside one", times(99, 20, 98, 97, 0), times(0, 0, 50, 0, 0), false, Less, NotApart},
		{"two of two beside none are too few", times(99, 20), times(0, 0), false, Less, NotApart},
		{"neither", all(never), all(never), false, Less, NotApart},
		{"some never, and later where not", times(90, 91, 92, 93, 0), times(10, 11, 12, 13, 14), false, Less, OtherWay},
		{"some never, sooner where not", times(10, 11, 12, 13, 0), times(90, 91, 92, 93, 94), false, Less, NotApart},
		{"fewer", known(1, 1, 1, 2, 1), known(4, 4, 4, 4, 4), true, Less, AsClaimed},
		{"within the margin", known(11, 11.1, 10.9), known(10.5, 10.5, 10.5), false, NotMore, AsClaimed},
		{"beyond the margin", known(15, 15.1, 14.9), known(10, 10, 10), false, NotMore, OtherWay},
		{"around the margin", known(9, 11, 13), known(10, 10, 10), false, NotMore, NotApart},
		{"less is not more", known(5, 5.1, 5.2), known(10, 10, 10), false, NotMore, AsClaimed},
		{"not less within the margin", known(9.5, 9.5, 9.6), known(10, 10, 10), true, NotLess, AsClaimed},
		{"equal in every seed", known(4, 4, 4), known(4, 4, 4), false, Less, NotApart},
		{"equal is not more", known(4, 4, 4), known(4, 4, 4), false, NotMore, AsClaimed},
		{"one pair", known(1), known(5), false, Less, NotApart},
		{"nearer, but without a number twice", append(known(1, 1.1, 1), none, none), known(5, 5, 5, 5, 5), false, Less, NotApart},
		{"nearer, and the other lacks numbers", known(1, 1.1, 1, 1, 1), append(known(5, 5, 5), none, none), false, Less, AsClaimed},
		{"fewer of those that have not diverged", append(known(1, 1, 1), side{diverged: true}), known(4, 4, 4, 4), true, Less, AsClaimed},
		{"more of those that have not diverged", append(known(4, 4, 4), side{diverged: true}), known(1, 1, 1, 1), true, More, NotApart},
	} {
		q := Claim{Expect: c.expect}
		p := pairUp("x", c.a, c.b, c.higher, 10)
		if got := q.verdict(p, len(c.a)); got != c.want {
			t.Errorf("%s: %s, want %s (%+v)", c.name, got, c.want, p)
		}
	}
}

// TestFisher by hand: with five of each and six that got there, C(5,5)·C(5,1)/C(10,6) =
// 5/210 for five of them on one side, and as much for the other.
func TestFisher(t *testing.T) {
	for _, c := range []struct {
		a, b, n int
		want    float64
	}{
		{5, 1, 5, 10.0 / 210}, {1, 5, 5, 10.0 / 210}, {5, 0, 5, 2.0 / 252}, {4, 0, 5, 10.0 / 210}, {2, 0, 2, 2.0 / 6}, {3, 3, 5, 1}, {0, 0, 5, 1}, {0, 0, 0, 1},
	} {
		if got := fisher(c.a, c.b, c.n); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d beside %d of %d: %v, want %v", c.a, c.b, c.n, got, c.want)
		}
	}
}

// TestDivergedRunsNeverGetThere: they count as late, and not as worse.
func TestDivergedRunsNeverGetThere(t *testing.T) {
	p := mustPlan(t, claimed, "")
	r := resultsOf(p, func(c *Cell, seed uint64) *Record {
		switch {
		case c.Values[0].Text == "alpha:0" && seed == 0:
			return &Record{Status: Diverged}
		case c.Values[0].Text == "alpha:0":
			return &Record{Status: Finished, Values: map[string]float64{"modes": 20}}
		}
		return &Record{Status: Finished, Values: map[string]float64{}}
	})
	j := r.Judge(p.Parts[0])[0]
	if j.A.counted() != "20 (4 of 5)" || j.B.counted() != "never (0 of 5)" || j.Verdict != AsClaimed {
		t.Errorf("%s beside %s: %s", j.A.counted(), j.B.counted(), j.Verdict)
	}
}

func TestClaimsOutsideTheSet(t *testing.T) {
	text := strings.Replace(claimed, "seeds: 5", "seeds: 5\nexclude: [{loss.divergence: \"alpha:2\"}, {loss.divergence: \"alpha:1\", train.lag: 50}]", 1)
	p := mustPlan(t, text, "")
	r := resultsOf(p, func(*Cell, uint64) *Record { return &Record{Status: Pending} })
	var got []string
	for _, j := range r.Judge(p.Parts[0]) {
		got = append(got, fmt.Sprintf("%s %s", j.Where, j.Verdict))
	}
	if want := "[lag=0 not run yet lag=50 not in this set  not in this set lag=0 not run yet lag=50 not in this set]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestFaultsOfClaimsHaveLines(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{`metric: modes, of`, `metric: mode, of`, `claimed.yaml:12:71: claims.alpha 0 finds all modes sooner than TB.metric: got "mode"; want a metric or a time of the part: tv, modes_held, modes; did you mean modes?`},
		{`of: {loss.divergence: "alpha:0"}`, `of: {loss.divergense: "alpha:0"}`, `claimed.yaml:12:100: claims.alpha 0 finds all modes sooner than TB.of.loss.divergense: got "loss.divergense"; want an axis of the part: loss.divergence, train.lag; did you mean loss.divergence?`},
		{`of: {loss.divergence: "alpha:0"}`, `of: {loss.divergence: ["alpha:0", "alpha:3"]}`, `claimed.yaml:12:112: claims.alpha 0 finds all modes sooner than TB.of.loss.divergence: got "alpha:3"; want a value of the axis: alpha:0, alpha:1, alpha:2`},
		{`of: {loss.divergence: "alpha:0"}`, `of: {loss.divergence: []}`, `claimed.yaml:12:100: claims.alpha 0 finds all modes sooner than TB.of.loss.divergence: got "[]"; want values of the axis`},
		{`expect: less, than: {loss.divergence: "alpha:1"}}`, `expect: fewer, than: {loss.divergence: "alpha:1"}}`, `claimed.yaml:12:120: claims.alpha 0 finds all modes sooner than TB.expect: got "fewer"; want one of less, more`},
		{`than: {loss.divergence: "alpha:1"}}`, `than: {loss.divergence: "alpha:0"}}`, `claimed.yaml:12:132: claims.alpha 0 finds all modes sooner than TB.than: got "alpha:0"; want another value`},
		{`than: {loss.divergence: "alpha:1"}}`, `than: {loss.divergence: ["alpha:1"]}}`, `claimed.yaml:12:150: claims.alpha 0 finds all modes sooner than TB.than.loss.divergence: got ["alpha:1"]; want one value`},
		{`of: {loss.divergence: "alpha:0"}, `, ``, `claimed.yaml:12:43: claims.alpha 0 finds all modes sooner than TB.of: missing; want axes with values`},
		{`source: the paper`, `sauce: the paper`, `claimed.yaml:12:44: claims.alpha 0 finds all modes sooner than TB.sauce: unknown field; did you mean source?`},
		{"seeds: 5", "seeds: 5\nparts: {a: {}}", `claimed.yaml:13:3: claims: got 3; want none here`},
	} {
		text := strings.Replace(claimed, c.old, c.new, 1)
		if text == claimed {
			t.Fatalf("nothing replaced for %s", c.want)
		}
		_, err := Parse("claimed.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got  %v\nwant %s…", err, c.want)
		}
	}
}
