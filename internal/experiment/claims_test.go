package experiment

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

const claimed = `name: claimed
base: {env: {name: hypergrid, params: {dim: 2, height: 8}},
  train: {batch: 16, updates: 100},
  eval: {every: 5}}
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

// TestManyClaimsAreCut on the console: what came out the other way round, up to a number
// of lines, and how many more; the report's table has them all.
func TestManyClaimsAreCut(t *testing.T) {
	lags := make([]string, 60)
	for i := range lags {
		lags[i] = fmt.Sprint(i)
	}
	p := mustPlan(t, strings.Replace(claimed, "train.lag: [0, 50]\nseeds", "train.lag: ["+strings.Join(lags, ", ")+"]\nseeds", 1), "")
	r := resultsOf(p, func(c *Cell, seed uint64) *Record {
		rec := &Record{Status: Finished, Values: map[string]float64{"tv": 0.1, "modes_held": 4, "modes": 50},
			Points: []Point{{Values: map[string]float64{"tv": 0.1, "modes_held": 4, "modes_total": 4}}}}
		if strings.HasPrefix(c.Name, "divergence=alpha:0") {
			rec.Values["modes"] = 90
		}
		return rec
	})
	var out strings.Builder
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != maxPrinted+2 || lines[maxPrinted] != "and 20 more the other way round: the report and claims.csv have them all" || !strings.HasPrefix(lines[maxPrinted+1], "claims: ") {
		t.Errorf("%d lines, the last\n%s", len(lines), strings.Join(lines[max(0, len(lines)-3):], "\n"))
	}
	if s := claimSheet(r.claims()); len(s.rows) != 60+1+4 {
		t.Errorf("%d rows", len(s.rows))
	}
}

// TestClaimsOfRefusedCells say so, on either side.
func TestClaimsOfRefusedCells(t *testing.T) {
	for _, refused := range []string{"divergence=alpha:0, lag=50", "divergence=alpha:1, lag=50"} {
		p := mustPlan(t, claimed, "")
		for _, c := range p.Parts[0].Cells {
			if c.Name == refused {
				c.Refused = "no such combination"
			}
		}
		r := resultsOf(p, func(*Cell, uint64) *Record { return &Record{Status: Pending} })
		if j := r.Judge(p.Parts[0])[1]; j.Where != "lag=50" || j.Verdict != IsRefused || j.Text() != "refused" {
			t.Errorf("without %s: %s is %s", refused, j.Where, j.Text())
		}
	}
}

// TestClaimsWithoutASecondCell: of matches only the cell that than names, in whatever set.
func TestClaimsWithoutASecondCell(t *testing.T) {
	const end = `expect: less, than: {loss.divergence: "alpha:1"}}`
	for _, c := range []struct {
		old, new string
		fault    bool
	}{
		{`of: {loss.divergence: "alpha:0"}`, `of: {loss.divergence: ["alpha:1", "alpha:1"]}`, true},
		{`of: {loss.divergence: "alpha:0"}, ` + end, `of: {loss.divergence: "alpha:0", train.lag: 50}, expect: less, than: {train.lag: 50, loss.divergence: "alpha:0"}}`, true},
		{`of: {loss.divergence: "alpha:0"}, ` + end, `of: {loss.divergence: "alpha:0"}, expect: less, than: {train.lag: 50, loss.divergence: "alpha:0"}}`, false},
		{`of: {loss.divergence: "alpha:0"}`, `of: {train.lag: 50}`, false},
		{"train.lag: [0, 50]\nseeds: 5", "train.lag: [0]\nseeds: 5", false}, // of the other claims
	} {
		text := strings.Replace(claimed, c.old, c.new, 1)
		if text == claimed {
			t.Fatalf("nothing replaced for %s", c.new)
		}
		text = strings.Replace(text, "train.lag: [0, 50]}, expect: not more", "loss.divergence: \"alpha:0\"}, expect: not more", 1)
		_, err := Parse("claimed.yaml", []byte(text))
		if (err != nil) != c.fault || err != nil && (!strings.HasPrefix(err.Error(), "claimed.yaml:12:") || !strings.Contains(err.Error(), ".than: got ")) {
			t.Errorf("%s: %v, a fault: %v", c.new, err, c.fault)
		}
	}
	// An axis of one value leaves no other cell to compare.
	text := strings.Replace(claimed, "train.lag: [0, 50]\nseeds: 5", "train.lag: [50]\nseeds: 5", 1)
	text = text[:strings.Index(text, "  alpha 2 holds")] + "  lag is no matter: {metric: tv, of: {loss.divergence: \"alpha:0\"}, expect: less, than: {train.lag: 50}}\n"
	_, err := Parse("claimed.yaml", []byte(text))
	if err == nil || !strings.HasPrefix(err.Error(), "claimed.yaml:13:") || !strings.Contains(err.Error(), `claims.lag is no matter.than: got "50"`) {
		t.Errorf("an axis of one value: %v", err)
	}
}
