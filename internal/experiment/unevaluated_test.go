package experiment

import (
	"encoding/json"
	"strings"
	"testing"
)

const older = `name: older
base: {env: {name: hypergrid}, train: {updates: 100}}
axes: {train.lag: [0, 50]}
seeds: 5
metrics: [tv, chi2]
times: {near: {when: chi2 <= 1}}
claims: {it is sooner with lag: {metric: near, of: {train.lag: 50}, expect: less, than: {train.lag: 0}}}
`

// TestTimesNeverEvaluatedAreMissing: a run of an older version, whose rows lack what a
// time looks at, is no run that never got there.
func TestTimesNeverEvaluatedAreMissing(t *testing.T) {
	part := mustPlan(t, older, "").Parts[0]
	old := part.values([]Point{{Updates: 50, Values: map[string]float64{"tv": 0.5}}, {Updates: 100, Values: map[string]float64{"tv": 0.4}}})
	if names := part.unevaluated([]Point{{Updates: 100, Values: map[string]float64{"tv": 0.4}}}); len(old) != 1 || strings.Join(names, " ") != "chi2 near" {
		t.Errorf("values %v, unevaluated %q", old, names)
	}
	far := Point{Updates: 50, Values: map[string]float64{"tv": 0.4, "chi2": 4}}
	infinite := Point{Updates: 50, Values: map[string]float64{"tv": 0.4}, Unbounded: map[string]bool{"chi2": true}}
	for _, points := range [][]Point{{far}, {infinite}, {{Updates: 10, Values: map[string]float64{}}, far}} {
		if names := part.unevaluated(points); len(names) > 0 {
			t.Errorf("%v: unevaluated %q", points, names)
		}
	}

	r := resultsOf(mustPlan(t, older, ""), func(c *Cell, seed uint64) *Record {
		if c.Name == "lag=0" {
			return &Record{Status: Finished, Values: map[string]float64{"tv": 0.4}, Unevaluated: []string{"near"}}
		}
		return &Record{Status: Finished, Values: map[string]float64{"tv": 0.4, "chi2": 0.5, "near": 20 + float64(seed)}}
	})
	p := r.Plan.Parts[0]
	data, err := json.Marshal(r.Records[0])
	if err != nil {
		t.Fatal(err)
	}
	var stored Record
	if err := json.Unmarshal(data, &stored); err != nil || len(stored.Unevaluated) != 1 {
		t.Errorf("%v: stored as %s", err, data)
	}
	got := p.pair("near", true, r.of(p.Name, "lag=50"), r.of(p.Name, "lag=0"), 10)
	if got.Verdict != Open || got.CensoredB != 0 || got.MissingB != 5 || got.Diff.N != 0 {
		t.Errorf("compared: %s, %+v", got.Text(), got)
	}
	s := r.summarise(p, "lag=0", "near")
	if s.Never != 0 || s.Missing != 5 || s.text() != "–" || s.counted() != "– (0 of 5)" {
		t.Errorf("%+v: %q, %q", s, s.text(), s.counted())
	}
	if j := r.Judge(p)[0]; j.Verdict == AsClaimed || j.Verdict == OtherWay {
		t.Errorf("the claim is %s", j.Text())
	}
	// Of which only some have them, too.
	r.Records[0].Unevaluated, r.Records[0].Values["near"] = nil, 30
	if s := r.summarise(p, "lag=0", "near"); s.text() != "30 (1 of 5, 4 not evaluated)" {
		t.Errorf("%+v: %q", s, s.text())
	}
}

// TestMetricsThatSomeCellsLackAreTold, with how many, and without a guess at a reason
// that the rows refute.
func TestMetricsThatSomeCellsLackAreTold(t *testing.T) {
	r := resultsOf(mustPlan(t, older, ""), func(c *Cell, seed uint64) *Record {
		p := Point{Updates: 100, Values: map[string]float64{"tv": 0.4}}
		if c.Name == "lag=50" && seed < 3 {
			p.Values["chi2"] = 2
		}
		rec := &Record{Status: Finished, Values: p.Values, Points: []Point{p}}
		if c.Name == "lag=50" && seed == 4 {
			rec.Status = Diverged
		}
		return rec
	})
	told := strings.Join(r.absent(r.Plan.Parts[0]), "\n")
	if want := "6 of 9 runs have no chi2: they were made by an older version or are not evaluated for it."; told != want {
		t.Errorf("told %q, want %q", told, want)
	}
	for _, rec := range r.Records {
		delete(rec.Points[0].Values, "chi2")
	}
	told = strings.Join(r.absent(r.Plan.Parts[0]), "\n")
	if !strings.HasPrefix(told, "no cell has chi2: ") || !strings.Contains(told, "older version") || strings.Contains(told, "listed") {
		t.Errorf("told %q", told)
	}
}
