package experiment

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
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

// verdict is the text of a verdict with what was left out or taken as a bound.
func (j *Judged) verdict() string { return j.Text() + j.Paired.rests() }

// sheet of the claims; nil where there are none.
func claimSheet(all []*Judged) *sheet {
	if len(all) == 0 {
		return nil
	}
	s := &sheet{columns: []string{"part", "claim", "source", "metric", "expect", "where", "of", "of_value", "of_number", "of_seeds",
		"than", "than_value", "than_number", "than_seeds", "pairs", "difference", "low", "high", "verdict"}}
	number := func(x float64) any {
		if x != x {
			return nil
		}
		return x
	}
	value := func(s Summary) any {
		if s.Time {
			return number(s.Median)
		}
		return number(s.Mean)
	}
	for _, j := range all {
		q := j.Claim
		row := []any{j.Part.Name, q.Text, q.Source, q.Metric, q.Expect, j.Where}
		if j.Of == nil {
			row = append(row, make([]any, len(s.columns)-len(row)-1)...)
		} else {
			d := j.Paired.Diff
			row = append(row, j.Of.Name, value(j.A), int64(j.A.N), int64(j.A.Done), j.Than.Name, value(j.B), int64(j.B.N), int64(j.B.Done),
				int64(d.N), number(d.Mean), number(d.Low), number(d.High))
		}
		s.rows = append(s.rows, append(row, j.Text()))
	}
	return s
}

// writeClaims makes the table of claims, or removes that of an earlier report.
func (r *Results) writeClaims(dir string) error {
	if s := claimSheet(r.claims()); s != nil {
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
			row.Diff, row.Range = format(j.Paired.Diff.Mean), j.Paired.Range()
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
	for _, verdict := range []ClaimVerdict{AsClaimed, OtherWay, NotApart, NotRun, NotInSet} {
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
		out = append(out, fmt.Sprintf("%s: %q. In %s it is the other way round: %s is %s beside %s, difference %s %s.",
			who, j.Claim.Text, where, j.Claim.Metric, j.A.counted(), j.B.counted(), format(j.Paired.Diff.Mean), j.Paired.Range()))
	}
	return out
}

// Print says what the results show at a glance: metrics that no cell has, and how every
// claim came out. It prints nothing where there is nothing of either.
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range r.Plan.Parts {
		judged := r.Judge(p)
		for i, row := range claimRows(judged) {
			if row.Claim != "" {
				fmt.Fprintf(t, "%s: %s\n", p.Name, row.Claim)
			}
			if row.Where == "" {
				row.Where = "all"
			}
			if judged[i].Of == nil {
				fmt.Fprintf(t, "  %s\t%s\n", row.Where, row.Verdict)
				continue
			}
			fmt.Fprintf(t, "  %s\t%s\tbeside %s\tdifference %s\t%s\t%s\n", row.Where, row.Of, row.Than, row.Diff, row.Range, row.Verdict)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "claims: %s\n", tallyClaims(all))
	return err
}
