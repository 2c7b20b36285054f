package experiment

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/driftmesh/driftmesh/internal/suggest"
)

// Comparison is what two results say of each other.
type Comparison struct {
	A     string           `json:"a"`
	B     string           `json:"b"`
	Cells []CellComparison `json:"cells"`
	// OnlyA and OnlyB are cells that the other does not have.
	OnlyA []string `json:"only_a,omitempty"`
	OnlyB []string `json:"only_b,omitempty"`
}

// CellComparison compares two cells, metric by metric.
type CellComparison struct {
	A     string   `json:"a"` // part/cell
	B     string   `json:"b"`
	Pairs []Paired `json:"pairs"`
}

// ReadResults reads what Write left in a set's folder, without curves.
func ReadResults(dir string) (*Results, error) {
	path := filepath.Join(dir, ResultsFile+".json")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("%s: %w: %w; want a set's folder, such as runs/synthetic/quick", dir, errNoResults, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	var r Results
	if err := json.Unmarshal(data, &r); err != nil || r.Plan == nil {
		return nil, fmt.Errorf("%s: %w: damaged file: %v", path, errNoResults, err)
	}
	return &r, nil
}

// cellRef is one cell of a result.
type cellRef struct {
	part *Part
	cell *Cell
}

func (c cellRef) String() string { return c.part.Name + "/" + c.cell.Name }

// open reads FOLDER or FOLDER@CELL.
func open(target string) (*Results, []cellRef, error) {
	dir, name, one := strings.Cut(target, "@")
	r, err := ReadResults(dir)
	if err != nil {
		return nil, nil, err
	}
	var all, found []cellRef
	var names []string
	for _, p := range r.Plan.Parts {
		for _, c := range p.Cells {
			ref := cellRef{p, c}
			all, names = append(all, ref), append(names, c.Name)
			if c.Name == name || ref.String() == name {
				found = append(found, ref)
			}
		}
	}
	switch {
	case !one:
		return r, all, nil
	case len(found) == 0:
		return nil, nil, fmt.Errorf("%s: %w %q; %s", dir, errNoCell, name, listCells(name, names))
	case len(found) > 1:
		return nil, nil, fmt.Errorf("%s has %d cells %q; write %s", dir, len(found), name, found[0])
	}
	return r, found, nil
}

// errNoCell says that a set has no such cell.
var errNoCell = errors.New("no cell")

// listCells says which cells there are instead of one that there is not: what was
// probably meant, or the first of them.
func listCells(name string, names []string) string {
	if near := suggest.Closest(name, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	const most = 8
	var b strings.Builder
	b.WriteString("there are")
	for i, n := range names[:min(len(names), most)] {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, " %q", n)
	}
	if more := len(names) - most; more > 0 {
		fmt.Fprintf(&b, " and %d more: see the report, or driftmesh experiment list", more)
	}
	return b.String()
}

// Compare compares two results on the cells that both have, or two single cells,
// over the seeds and metrics that both have. margin is in percent of B's mean.
func Compare(a, b string, margin float64) (*Comparison, error) {
	ra, as, err := open(a)
	if err != nil {
		return nil, err
	}
	rb, bs, err := open(b)
	if err != nil {
		return nil, err
	}
	out := &Comparison{A: a, B: b}
	single := strings.Contains(a, "@") && strings.Contains(b, "@")
	matched := map[string]bool{}
	for _, ca := range as {
		i := slices.IndexFunc(bs, func(cb cellRef) bool { return single || cb.String() == ca.String() })
		if i < 0 {
			out.OnlyA = append(out.OnlyA, ca.String())
			continue
		}
		cb := bs[i]
		matched[cb.String()] = true
		c := CellComparison{A: ca.String(), B: cb.String()}
		theirs := rb.names(cb.part)
		for _, name := range ra.names(ca.part) {
			if !slices.Contains(theirs, name) {
				continue
			}
			p := ca.part.pair(name, ca.part.isTime(name) && cb.part.isTime(name), ra.of(ca.part.Name, ca.cell.Name), rb.of(cb.part.Name, cb.cell.Name), margin)
			if p.shown() {
				c.Pairs = append(c.Pairs, p)
			}
		}
		out.Cells = append(out.Cells, c)
	}
	for _, cb := range bs {
		if !matched[cb.String()] {
			out.OnlyB = append(out.OnlyB, cb.String())
		}
	}
	if len(out.Cells) == 0 {
		return nil, fmt.Errorf("%s and %s have no cell in common; FOLDER@CELL names one of each", a, b)
	}
	return out, nil
}

// Print writes the comparison as a table.
func (c *Comparison) Print(w io.Writer) error {
	fmt.Fprintf(w, "A  %s\nB  %s\n\n", c.A, c.B)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CELL\tMETRIC\tPAIRS\tB, MEAN\tA − B, MEAN\t95 % INTERVAL\tA IS")
	for _, cell := range c.Cells {
		name := cell.A
		if cell.A != cell.B {
			name = cell.A + " beside " + cell.B
		}
		for _, p := range cell.Pairs {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", name, p.Metric, p.Diff.N, format(float64(p.Base)), format(p.Diff.Mean), p.Range(), p.Text())
			name = ""
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, only := range []struct {
		side  string
		cells []string
	}{{"A", c.OnlyA}, {"B", c.OnlyB}} {
		if n := len(only.cells); n > 0 {
			fmt.Fprintf(w, "%d cells are in %s only, such as %s\n", n, only.side, only.cells[0])
		}
	}
	_, err := fmt.Fprintln(w, "Intervals by Student's t over pairs of equal seeds; not worse: the interval lies within the margin.")
	return err
}

// shown says whether there is anything to tell: pairs, or a side that lacks what the
// other has.
func (p Paired) shown() bool {
	return p.Diff.N > 0 || p.LostA+p.LostB > 0 || p.MissingA != p.MissingB
}

// Range writes the interval of a difference.
func (p Paired) Range() string { return p.Diff.bounds() }

// Text writes the verdict with what it rests on.
func (p Paired) Text() string {
	out := string(p.Verdict)
	if p.Verdict == NotWorse {
		out += fmt.Sprintf(" (margin %g %%)", p.Margin)
	}
	return out + p.rests()
}

// rests says what a comparison rests on beside its pairs.
func (p Paired) rests() (out string) {
	if p.CensoredA+p.CensoredB > 0 {
		out += fmt.Sprintf("; never %d : %d", p.CensoredA, p.CensoredB)
	}
	if p.MissingA+p.MissingB > 0 {
		out += fmt.Sprintf("; no number %d : %d", p.MissingA, p.MissingB)
	}
	if p.LostA+p.LostB > 0 {
		out += fmt.Sprintf("; diverged %d : %d", p.LostA, p.LostB)
	}
	return out
}
