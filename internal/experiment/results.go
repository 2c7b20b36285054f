package experiment

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Results are all tasks of a plan, done or not.
type Results struct {
	Plan    *Plan     `json:"plan"`
	Records []*Record `json:"records"`

	studyText []byte
	cells     map[[2]string][]*Record // by part and cell
	indexed   int                     // records that are in it
}

// Collect reads what became of every task of the plan.
func (r *Runner) Collect() (*Results, error) {
	out := &Results{Plan: r.Plan, studyText: r.Study.Text}
	for _, p := range r.Plan.Parts {
		for _, c := range p.Cells {
			for _, seed := range p.Seeds {
				rec, err := r.read(p, Task{c, seed, c.taskID(seed)})
				if err != nil {
					return nil, err
				}
				out.Records = append(out.Records, rec)
			}
		}
	}
	return out, nil
}

// Count returns the numbers of runs that are done, diverged, and in all. One that
// several cells share counts once, and refused combinations are none.
func (r *Results) Count() (done, diverged, total int) {
	seen := map[string]bool{}
	for _, rec := range r.Records {
		if rec.ID != "" && seen[rec.ID] {
			continue
		}
		seen[rec.ID] = true
		switch rec.Status {
		case Refused:
			continue
		case Diverged:
			diverged++
			done++
		case Finished:
			done++
		}
		total++
	}
	return done, diverged, total
}

// CountCell counts as Count, for one cell.
func (r *Results) CountCell(part, cell string) (done, diverged int) {
	for _, rec := range r.of(part, cell) {
		switch rec.Status {
		case Diverged:
			diverged++
			done++
		case Finished:
			done++
		}
	}
	return done, diverged
}

// of lists the records of a cell, by seed.
func (r *Results) of(part, cell string) []*Record {
	if r.indexed != len(r.Records) {
		r.cells, r.indexed = map[[2]string][]*Record{}, len(r.Records)
		for _, rec := range r.Records {
			at := [2]string{rec.Part, rec.Cell}
			r.cells[at] = append(r.cells[at], rec)
		}
	}
	return r.cells[[2]string{part, cell}]
}

// names are the metrics and times that a part reports, in order: what the study
// lists, or what its records have.
func (r *Results) names(p *Part) []string {
	out := slices.Clone(p.Metrics)
	if p.Kind != Train && len(out) == 0 {
		seen := map[string]bool{}
		for _, rec := range r.Records {
			if rec.Part == p.Name {
				for name := range rec.Values {
					seen[name] = true
				}
			}
		}
		out = slices.Sorted(maps.Keys(seen))
	}
	for _, t := range p.Times {
		out = append(out, t.Name)
	}
	return out
}

// Summary is one metric of one cell over its seeds.
type Summary struct {
	Interval
	Median   float64 // of a time, with those never reached as the largest
	Never    int     // a time that was not reached
	Missing  int     // finished runs without a number: not finite, or not evaluated
	Diverged int
	Done     int
	Time     bool
}

func (r *Results) summarise(p *Part, cell, name string) Summary {
	s := Summary{Time: p.isTime(name)}
	var values []float64
	for _, rec := range r.of(p.Name, cell) {
		switch rec.Status {
		case Diverged:
			s.Diverged++
			s.Done++
		case Finished:
			s.Done++
			x, ok := rec.Values[name]
			switch {
			case ok:
				values = append(values, x)
			case s.Time && !rec.lacks(name):
				s.Never++
			default:
				s.Missing++
			}
		}
	}
	s.Interval = MeanOf(values)
	s.Median = Median(values, s.Never+s.Diverged)
	return s
}

// baselineOf returns the cell that a cell is compared with: the one that agrees
// with it on every axis but those of the baseline. Nil where there is none, or
// where it is the cell itself.
func (p *Part) baselineOf(c *Cell) *Cell {
	if len(p.Baseline) == 0 || c.has(p.Baseline) {
		return nil
	}
	if base := p.at(moved(c.Values, p.Baseline)); base != nil && base.Refused == "" {
		return base
	}
	return nil
}

// at returns the cell with these values on all axes; nil where there is none.
func (p *Part) at(values []Value) *Cell {
	if p.places == nil {
		p.places = make(map[string]*Cell, len(p.Cells))
		for _, c := range p.Cells {
			p.places[fmt.Sprintf("%q", c.Values)] = c
		}
	}
	return p.places[fmt.Sprintf("%q", values)]
}

// moved is a place with the given values on their axes.
func moved(at, given []Value) []Value {
	out := slices.Clone(at)
	for i, v := range out {
		for _, b := range given {
			if b.Axis == v.Axis {
				out[i] = b
			}
		}
	}
	return out
}

// pair compares two cells of a part, or of two results, on one metric.
func (p *Part) pair(name string, isTime bool, a, b []*Record, margin float64) Paired {
	as, bs := p.sides(name, isTime, a, b)
	out := pairUp(name, as, bs, p.higherIsBetter(name), margin)
	if p.undirected(name) && out.LostA <= out.LostB {
		out.Verdict = Undirected
	}
	return out
}

// sides lists a metric of two cells at the seeds that are done of both.
func (p *Part) sides(name string, isTime bool, a, b []*Record) (as, bs []side) {
	for _, x := range a {
		i := slices.IndexFunc(b, func(y *Record) bool { return y.Seed == x.Seed })
		if i < 0 || !done(x) || !done(b[i]) {
			continue
		}
		as, bs = append(as, sideOf(x, name, isTime)), append(bs, sideOf(b[i], name, isTime))
	}
	return as, bs
}

func done(r *Record) bool { return r.Status == Finished || r.Status == Diverged }

func sideOf(r *Record, name string, isTime bool) side {
	s := side{diverged: r.Status == Diverged}
	s.value, s.known = r.Values[name]
	s.known = s.known && !math.IsNaN(s.value)
	if s.unevaluated = r.lacks(name); isTime && !s.unevaluated {
		s.budget = r.Budget
	}
	return s
}

// lacks says that a run was not evaluated for a metric or a time.
func (r *Record) lacks(name string) bool { return slices.Contains(r.Unevaluated, name) }

// betterHigher are metrics of which more is better, by the beginning of their
// names; of all others less is.
var betterHigher = []string{
	"modes_", "sample_modes", "mode_share_min", "ess", "eval_ess", "elbo", "eval_elbo", "test_spearman", "test_pearson",
	"exact_spearman", "exact_pearson",
	"best_", "top_k_", "min_mass", "cosine",
}

// undirected are metrics of which neither more nor less is better, unless a study
// says so: estimates of a number that is what it is.
var undirected = []string{"log_z", "log_z_is", "log_z_exact", "eval_log_z", "c"}

// undirected says that a metric has no better side.
func (p *Part) undirected(name string) bool {
	return !p.isTime(name) && slices.Contains(undirected, name) && !p.higherIsBetter(name)
}

// higherIsBetter says how a part orders a metric.
func (p *Part) higherIsBetter(name string) bool {
	if p.isTime(name) {
		return false
	}
	if strings.HasSuffix(name, "_error") {
		return false // of an ELBO, say
	}
	return slices.Contains(p.Higher, name) || slices.ContainsFunc(betterHigher, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// errNoResults says that a folder holds none.
var errNoResults = errors.New("no results of driftmesh experiment run")
