package experiment

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/plots"
)

//go:embed report.html.tmpl
var pageSource string

var page = template.Must(template.New("report").Parse(pageSource))

// pageView is what the template sees.
type pageView struct {
	Title, About, Outcome string
	Claims                string   // how they came out
	Differ                []string // from what is claimed
	Parts                 []partView
	Study                 string
	Light, Dark           template.CSS
}

type partView struct {
	Name, About, Kind string
	Facts             []string
	Axes              []string
	Head              []string // of the metrics
	Rows              []rowView
	Refused           []string
	Failed            []string // divergences
	Paired            []pairView
	Claims            []claimRow
	Notes             []string
	Columns           []string // of a computation's table
	Table             [][]string
	Cut               int // rows left out of Table
	Figures           []figureView
}

type rowView struct {
	Values   []string
	Done     string
	Diverged int
	Cells    []string
	Base     bool
}

type pairView struct{ Cell, Metric, Pairs, Base, Diff, Range, Verdict, Class string }

type figureView struct {
	Title, Caption, PNG string
	SVG                 template.HTML
}

const maxShown = 400 // rows of a computation's table

// writeReport makes dir/report.html and dir/plots/*.png.
func (r *Results) writeReport(dir string, claims []*Judged) (string, error) {
	plotsDir := filepath.Join(dir, "plots")
	if err := os.RemoveAll(plotsDir); err != nil { // of an earlier report
		return "", fmt.Errorf("report: %w", err)
	}
	if err := os.MkdirAll(plotsDir, 0o755); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	done, diverged, total := r.Count()
	view := pageView{
		Title: r.Plan.Study + ", " + r.Plan.Set, About: r.Plan.About, Study: string(r.studyText),
		Outcome: fmt.Sprintf("%d of %d runs done, %d of them diverged.", done, total, diverged),
		Light:   template.CSS(plots.Style(false)), Dark: template.CSS(plots.Style(true)),
	}
	if len(claims) > 0 {
		view.Claims, view.Differ = tallyClaims(claims), differing(claims)
	}
	for _, p := range r.Plan.Parts {
		v := r.view(p)
		v.Claims = claimRows(slices.DeleteFunc(slices.Clone(claims), func(j *Judged) bool { return j.Part != p }))
		for _, f := range r.figures(p) {
			png, err := plots.PNG(f.plot)
			if err != nil {
				return "", fmt.Errorf("report: %w", err)
			}
			if err := atomicfile.WriteBytes(filepath.Join(plotsDir, f.file+".png"), 0o644, png); err != nil {
				return "", fmt.Errorf("report: %w", err)
			}
			svg, err := plots.SVG(f.plot)
			if err != nil {
				return "", fmt.Errorf("report: %w", err)
			}
			v.Figures = append(v.Figures, figureView{Title: f.title, Caption: f.caption, PNG: "plots/" + f.file + ".png",
				SVG: template.HTML(svg)}) // drawn by package plots, which escapes every text in it
		}
		view.Parts = append(view.Parts, v)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, view); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	path := filepath.Join(dir, "report.html")
	if err := atomicfile.WriteBytes(path, 0o644, b.Bytes()); err != nil {
		return "", fmt.Errorf("report: %w", err)
	}
	return path, nil
}

// view is a part's section of the page.
func (r *Results) view(p *Part) partView {
	v := partView{Name: p.Name, About: p.About, Kind: p.Kind}
	names := r.names(p)
	for i := range p.Axes {
		v.Axes = append(v.Axes, p.label(i))
	}
	for _, n := range names {
		head := n
		if p.isTime(n) {
			head += " (updates, median)" // a seed that never got there has no mean
		}
		v.Head = append(v.Head, head)
	}
	for _, t := range p.Times {
		v.Facts = append(v.Facts, fmt.Sprintf("%s: updates until %s, at the first of %d evaluations running.", t.Name, t.When, t.Runs))
	}
	for _, fact := range []string{p.budget(), p.rates()} {
		if fact != "" {
			v.Facts = append(v.Facts, fact)
		}
	}
	v.Facts = append(v.Facts, r.absent(p)...)
	for _, c := range p.Cells {
		if c.Refused != "" {
			v.Refused = append(v.Refused, c.Name+": "+c.Refused)
			continue
		}
		row := rowView{Base: len(p.Baseline) > 0 && c.has(p.Baseline)}
		for _, at := range c.Values {
			row.Values = append(row.Values, at.Text)
		}
		finished, diverged := r.CountCell(p.Name, c.Name)
		row.Done, row.Diverged = fmt.Sprintf("%d of %d", finished, len(p.Seeds)), diverged
		for _, n := range names {
			row.Cells = append(row.Cells, r.summarise(p, c.Name, n).text())
		}
		v.Rows = append(v.Rows, row)
		for _, rec := range r.of(p.Name, c.Name) {
			if rec.Status == Diverged {
				v.Failed = append(v.Failed, fmt.Sprintf("%s, seed %d: %s", c.Name, rec.Seed, strings.TrimPrefix(rec.Note, ErrDiverged.Error()+" ")))
			}
		}
		if base := p.baselineOf(c); base != nil {
			v.Paired = append(v.Paired, r.pairs(p, c, base, names)...)
		}
	}
	r.computed(p, &v)
	return v
}

// pairs compares a cell with its baseline on every metric.
func (r *Results) pairs(p *Part, c, base *Cell, names []string) []pairView {
	var out []pairView
	name := c.Name
	for _, n := range names {
		q := p.pair(n, p.isTime(n), r.of(p.Name, c.Name), r.of(p.Name, base.Name), p.Margin)
		if !q.shown() {
			continue
		}
		out = append(out, pairView{
			Cell: name, Metric: n, Pairs: fmt.Sprint(q.Diff.N), Base: format(float64(q.Base)),
			Diff: format(q.Diff.Mean), Range: q.Range(), Verdict: q.Text(), Class: strings.ReplaceAll(string(q.Verdict), " ", "-"),
		})
		name = ""
	}
	return out
}

// text is a summary as the table shows it.
func (s Summary) text() string {
	if s.Done == s.Diverged && s.Done > 0 {
		return "diverged"
	}
	if !s.Time {
		if of := s.Done - s.Diverged; s.N < of && s.N > 0 {
			return fmt.Sprintf("%s (%d of %d)", s.Interval.Text(), s.N, of)
		}
		return s.Interval.Text()
	}
	if s.Done == 0 {
		return "–"
	}
	switch {
	case s.N == s.Done:
		return s.median()
	case s.Missing == s.Done:
		return "–"
	case s.Missing > 0:
		return fmt.Sprintf("%s (%d of %d, %d not evaluated)", s.median(), s.N, s.Done, s.Missing)
	}
	return fmt.Sprintf("%s (%d of %d)", s.median(), s.N, s.Done)
}

// median writes that of a time, over the runs of which it is known.
func (s Summary) median() string {
	if s.Median != s.Median && s.Never+s.Diverged > 0 {
		return "never"
	}
	return format(s.Median)
}

// budget says what every cell was given, where it is the same for all.
func (p *Part) budget() string {
	if p.Kind != Train || len(p.Cells) == 0 {
		return ""
	}
	b := p.Cells[0].Budget
	for _, c := range p.Cells {
		if c.Budget != b {
			return "Cells have different budgets: see train.updates."
		}
	}
	return fmt.Sprintf("Every cell has %.0f updates.", b)
}

// rates says so where a part has no sweep of the learning rate, which suits one member
// more than another.
func (p *Part) rates() string {
	at := slices.Index(p.Axes, "optimiser.learning_rate")
	rates := map[string]bool{}
	for _, c := range p.Cells {
		switch {
		case c.Spec == nil:
			return ""
		case at >= 0:
			rates[c.Values[at].Text] = true
		default:
			rates[c.Spec.Optimiser.LearningRate.String()] = true
		}
	}
	switch {
	case at >= 0 && len(rates) > 1:
		return ""
	case len(rates) == 1:
		return fmt.Sprintf("No sweep of the learning rate: every cell has %s.", slices.Collect(maps.Keys(rates))[0])
	}
	return "No sweep of the learning rate: it is no axis of its own here."
}

// computed adds the tables of a computation.
func (r *Results) computed(p *Part, v *partView) {
	t := r.table(p)
	if t == nil {
		return
	}
	if len(t.rows) > 0 {
		v.Columns = t.columns
	}
	for i, row := range t.rows {
		if i == maxShown {
			v.Cut = len(t.rows) - maxShown
			break
		}
		line := make([]string, len(row))
		for j, x := range row {
			if f, ok := x.(float64); ok {
				line[j] = format(f)
			} else {
				line[j] = textCell(x)
			}
		}
		v.Table = append(v.Table, line)
	}
	seen := map[string]bool{}
	for _, rec := range r.Records {
		if rec.Part != p.Name || rec.Table == nil {
			continue
		}
		for _, n := range rec.Table.Notes {
			if !seen[n] {
				seen[n] = true
				v.Notes = append(v.Notes, n)
			}
		}
	}
}
