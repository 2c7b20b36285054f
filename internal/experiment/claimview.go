package experiment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ClaimsFile is the table of claims in a set's folder, .csv and .parquet: a line per
// claim and combination. There is none where the study claims nothing.
const ClaimsFile = "claims"

// claims judges those of all parts.
func (r *Results) claims() []*Judged {
	var out []*Judged
	for _, p := range r.Plan.Parts {
		out = append(out, r.Judge(p)...)
	}
	return out
}

// counted is a summary with the number of seeds that it rests on, always.
func (s Summary) counted() string {
	if s.Done == 0 {
		return "–"
	}
	value := s.Interval.Text()
	if s.Time {
		value = s.median()
	}
	return fmt.Sprintf("%s (%d of %d)", value, s.N, s.Done)
}

// verdict is the text of a verdict with the evidence that decided, and what was left out.
func (j *Judged) verdict() string {
	out := j.Text()
	if by := j.Evidence.Text(); by != "" {
		out += ", " + by
	}
	return out + j.Evidence.rests()
}

// claimSheet has a row for each; nil where there are none.
func claimSheet(all []*Judged) *sheet {
	if len(all) == 0 {
		return nil
	}
	s := &sheet{columns: []string{"part", "claim", "source", "metric", "expect", "where",
		"of", "of_value", "of_number", "of_seeds", "of_reached", "of_missing", "of_diverged",
		"than", "than_value", "than_number", "than_seeds", "than_reached", "than_missing", "than_diverged",
		"by", "pairs", "difference", "low", "high", "p", "verdict"}}
	number := func(x float64) any {
		if math.IsNaN(x) {
			return nil
		}
		return x
	}
	side := func(c *Cell, s Summary, o Outcomes) []any {
		value, reached := s.Mean, any(nil)
		if s.Time {
			value, reached = s.Median, int64(o.Reached)
		}
		return []any{c.Name, number(value), int64(s.N), int64(s.Done), reached, int64(o.Missing), int64(o.Diverged)}
	}
	for _, j := range all {
		q, e := j.Claim, j.Evidence
		row := []any{j.Part.Name, q.Text, q.Source, q.Metric, q.Expect, j.Where}
		if j.Of != nil {
			row = slices.Concat(row, side(j.Of, j.A, e.A), side(j.Than, j.B, e.B), []any{string(e.By), int64(e.Pairs)})
		}
		switch e.By {
		case ByInterval:
			row = append(row, number(e.Diff.Mean), number(e.Diff.Low), number(e.Diff.High), nil)
		case ByCounts:
			row = append(row, nil, nil, nil, e.P)
		}
		row = append(row, make([]any, len(s.columns)-len(row)-1)...)
		s.rows = append(s.rows, append(row, j.Text()))
	}
	return s
}

// writeClaims makes the table of claims, or removes that of an earlier report.
func writeClaims(dir string, all []*Judged) error {
	if s := claimSheet(all); s != nil {
		return s.write(dir, ClaimsFile)
	}
	var errs []error
	for _, ext := range []string{".csv", ".parquet"} {
		if err := os.Remove(filepath.Join(dir, ClaimsFile+ext)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// claimRow is a line of the report's tables.
type claimRow struct{ Claim, Where, Of, Than, Diff, Range, Verdict, Class string }

// claimRows are the lines of a part; a claim's text stands in its first.
func claimRows(all []*Judged) []claimRow {
	var out []claimRow
	last := ""
	for _, j := range all {
		row := claimRow{Claim: j.Claim.sentence(), Where: j.Where, Of: "–", Than: "–", Diff: "–", Range: "–", Verdict: j.verdict()}
		if j.Of != nil {
			row.Of, row.Than = j.A.counted(), j.B.counted()
			if j.Evidence.By == ByInterval {
				row.Diff, row.Range = format(j.Evidence.Diff.Mean), j.Evidence.Diff.bounds()
			}
		}
		switch j.Verdict {
		case AsClaimed:
			row.Class = "better"
		case OtherWay:
			row.Class = "worse"
		}
		if row.Claim == last {
			row.Claim = ""
		} else {
			last = row.Claim
		}
		out = append(out, row)
	}
	return out
}

// sentence is a claim with what it is about and who says it.
func (q *Claim) sentence() string {
	out := fmt.Sprintf("%s: %s, %s", q.Text, q.Metric, q.Expect)
	if q.Source != "" {
		out += " (" + q.Source + ")"
	}
	return out
}

// tallyClaims says in one line how claims came out: "5 as the paper says, 1 the other
// way round".
func tallyClaims(all []*Judged) string {
	var order []string
	counts := map[string]int{}
	for _, verdict := range []ClaimVerdict{AsClaimed, OtherWay, NotApart, NoNumbers, NotRun, IsRefused, NotInSet} {
		for _, j := range all {
			if j.Verdict != verdict {
				continue
			}
			text := string(verdict)
			if verdict == AsClaimed {
				text = j.Text()
			}
			if counts[text]++; counts[text] == 1 {
				order = append(order, text)
			}
		}
	}
	for i, text := range order {
		order[i] = fmt.Sprintf("%d %s", counts[text], text)
	}
	return strings.Join(order, ", ")
}

// differing lists what is the other way round than was claimed, a sentence each.
func differing(all []*Judged) []string {
	var out []string
	for _, j := range all {
		if j.Verdict != OtherWay {
			continue
		}
		where := j.Part.Name
		if j.Where != "" {
			where += ", " + j.Where
		}
		who := "This study expects"
		if j.Claim.Source != "" {
			who = "Otherwise than " + j.Claim.Source + " says"
		}
		by := j.Evidence.Text()
		if j.Evidence.By == ByInterval {
			by += fmt.Sprintf(" of the difference, %s %s", format(j.Evidence.Diff.Mean), j.Evidence.Diff.bounds())
		}
		out = append(out, fmt.Sprintf("%s: %q. In %s it is the other way round: %s is %s beside %s, %s.",
			who, j.Claim.Text, where, j.Claim.Metric, j.A.counted(), j.B.counted(), by))
	}
	return out
}

// maxPrinted is how many claims the console shows: the report has them all.
const maxPrinted = 40

// Print says what the results show at a glance: metrics that cells lack, the claims that
// came out the other way round, and how many came out how. It prints nothing where there
// is nothing of any.
func (r *Results) Print(w io.Writer) error {
	for _, p := range r.Plan.Parts {
		for _, line := range r.absent(p) {
			fmt.Fprintf(w, "%s: %s\n", p.Name, line)
		}
	}
	all := r.claims()
	if len(all) == 0 {
		return nil
	}
	lines := differing(all)
	for _, line := range lines[:min(len(lines), maxPrinted)] {
		fmt.Fprintln(w, line)
	}
	if more := len(lines) - maxPrinted; more > 0 {
		fmt.Fprintf(w, "and %d more the other way round: the report and %s.csv have them all\n", more, ClaimsFile)
	}
	_, err := fmt.Fprintf(w, "claims: %s\n", tallyClaims(all))
	return err
}
