package experiment

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMetricsThatNoCellHasAreTold, in the report and on the console: a name that is
// right is no promise that these runs evaluate it.
func TestMetricsThatNoCellHasAreTold(t *testing.T) {
	p := mustPlan(t, `name: lacking
base: {env: {name: hypergrid}, train: {updates: 100}}
axes: {train.lag: [0, 50]}
seeds: 2
metrics: [tv, chi2, kl, elbo]
figures: [hellinger]
times: {near: {when: tv <= 0.1 and eval_ess >= ess}}
`, "")
	r := resultsOf(p, func(c *Cell, seed uint64) *Record {
		if c.Name == "lag=50" {
			return &Record{Status: Diverged, Points: []Point{{Updates: 50, Values: map[string]float64{"chi2": 1}}}}
		}
		return &Record{Status: Finished, Values: map[string]float64{"tv": 0.5}, Points: []Point{
			{Updates: 50, Values: map[string]float64{"tv": 0.6, "ess": 3, "elbo": 1}},
			{Updates: 100, Values: map[string]float64{"tv": 0.5, "ess": 3}, Unbounded: map[string]bool{"kl": true}},
		}}
	})
	var told []string
	for _, line := range r.absent(p.Parts[0]) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "no cell has "), ":")
		told = append(told, name)
	}
	if want := "chi2, elbo at its last evaluation., hellinger, eval_ess"; strings.Join(told, ", ") != want {
		t.Errorf("told of %q, want %s", told, want)
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil || strings.Count(out.String(), "lacking: no cell has ") != 4 || strings.Contains(out.String(), "claims") {
		t.Errorf("%v, prints\n%s", err, out.String())
	}
	dir := t.TempDir()
	report, err := r.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(report)
	if err != nil || !bytes.Contains(page, []byte("no cell has chi2: ")) || !bytes.Contains(page, []byte("No sweep of the learning rate: every cell has 0.001.")) {
		t.Errorf("%v; the report does not say so", err)
	}
	for _, rec := range r.Records {
		rec.Status = Pending
	}
	if lines := r.absent(p.Parts[0]); len(lines) > 0 {
		t.Errorf("of runs that are not finished: %q", lines)
	}
}

// TestClaimsAreWritten into the report, the console and a table, which goes away with
// the last claim.
func TestClaimsAreWritten(t *testing.T) {
	p := mustPlan(t, claimed, "")
	r := resultsOf(p, func(c *Cell, seed uint64) *Record {
		rec := &Record{Status: Finished, Values: map[string]float64{"tv": 0.1, "modes_held": 4, "modes": 50 + float64(seed)}}
		if c.Name == "divergence=alpha:0, lag=50" {
			rec.Values["modes"] += 20
		}
		return rec
	})
	dir := t.TempDir()
	report, err := r.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	differs := "Otherwise than the paper says: &#34;alpha 0 finds all modes sooner than TB&#34;. In claimed, lag=50 it is the other way round: modes is 72 (5 of 5) beside 52 (5 of 5), by the interval of the difference, 20 [15, 25]."
	for _, want := range []string{"What was claimed", differs, "not told apart in 5 seeds", `<td class="text worse">the other way round, by the interval</td>`} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the report lacks %q", want)
		}
	}
	table, err := os.ReadFile(filepath.Join(dir, "claims.csv"))
	if err != nil {
		t.Fatal(err)
	}
	if want := `claimed,alpha 0 finds all modes sooner than TB,the paper,modes,less,lag=50,"divergence=alpha:0, lag=50",72,5,5,5,0,0,"divergence=alpha:1, lag=50",52,5,5,5,0,0,interval,5,20,15,25,,the other way round`; !strings.Contains(string(table), want) {
		t.Errorf("the table has\n%s", table)
	}
	var out bytes.Buffer
	if err := r.Print(&out); err != nil || strings.Count(out.String(), "Otherwise than the paper says: ") != 1 ||
		!strings.HasSuffix(out.String(), "\nclaims: 4 as claimed, 1 the other way round, 2 not told apart\n") {
		t.Errorf("%v, prints\n%s", err, out.String())
	}
	p.Parts[0].Claims = nil
	if _, err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "claims.*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestRatesAreSweptByAnAxis: variants that each have a rate of their own are no sweep.
func TestRatesAreSweptByAnAxis(t *testing.T) {
	for axes, want := range map[string]string{
		"axes: {optimiser.learning_rate: [1e-3, 3e-3]}":                                      "",
		"axes: {optimiser.learning_rate: [3e-3]}":                                            "No sweep of the learning rate: every cell has 0.003.",
		"variants: {a: {optimiser.learning_rate: 1e-3}, b: {optimiser.learning_rate: 2e-3}}": "No sweep of the learning rate: it is no axis of its own here.",
		"with: {optimiser.learning_rate: \"cosine:1e-2:0:100\"}\naxes: {train.lag: [0, 1]}":  "No sweep of the learning rate: every cell has cosine:0.01:0:100.",
	} {
		p := mustPlan(t, "name: rates\nbase: {env: {name: hypergrid}}\n"+axes+"\n", "")
		if got := p.Parts[0].rates(); got != want {
			t.Errorf("%s: %q, want %q", axes, got, want)
		}
	}
}
