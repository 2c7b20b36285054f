package experiment

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// Caps of a study, checked before anything is built.
const (
	maxFile   = 1 << 20 // bytes
	maxParts  = 100
	maxCells  = 10_000 // of all parts of a set
	maxSeeds  = 1000
	maxTasks  = 100_000
	maxAxes   = 8
	maxSplit  = 256 // processes at once
	maxMetric = 64  // metrics and times of a part

	maxVariant = 200 // bytes of a name
)

// ErrTooLarge is wrapped by the error of a study that is above a cap.
var ErrTooLarge = errors.New("too large for a study")

// Train is the kind of a part whose cells are training jobs.
const Train = "train"

var safeName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$`)

// document is a study's file. What a part does not say it takes from the top.
type document struct {
	Name     string `yaml:"name"`
	Parallel int    `yaml:"parallel"`
	section
	Parts []part   `yaml:"parts"`
	Sets  []subset `yaml:"sets"`
}

// section describes a grid.
type section struct {
	About    string          `yaml:"about"`
	Kind     string          `yaml:"kind"`
	Base     strictyaml.Part `yaml:"base"`
	With     []setting       `yaml:"with"`
	Axes     []axis          `yaml:"axes"`
	Variants []variant       `yaml:"variants"`
	Select   [][]setting     `yaml:"select"`
	Exclude  [][]setting     `yaml:"exclude"`
	Seeds    strictyaml.Part `yaml:"seeds"`
	Metrics  []string        `yaml:"metrics"`
	Higher   []string        `yaml:"higher"`
	Times    []timing        `yaml:"times"`
	Figures  []string        `yaml:"figures"`
	Baseline []setting       `yaml:"baseline"`
	Margin   float64         `yaml:"margin"`
	Claims   []claim         `yaml:"claims"`
}

type part struct {
	Name string `yaml:",key"`
	section
}

// setting is one field with its value.
type setting struct {
	Path  string          `yaml:",key"`
	Value strictyaml.Part `yaml:",value"`
}

type axis struct {
	Path   string            `yaml:",key"`
	Values []strictyaml.Part `yaml:",value"`
}

type variant struct {
	Name string    `yaml:",key"`
	With []setting `yaml:",value"`
}

// timing is a condition whose first time is reported.
type timing struct {
	Name string `yaml:",key"`
	When string `yaml:"when"`
	Runs int    `yaml:"times"`
}

// subset is a named choice of parts and cells, with a budget of its own.
type subset struct {
	Name    string          `yaml:",key"`
	About   string          `yaml:"about"`
	With    []setting       `yaml:"with"`
	Seeds   strictyaml.Part `yaml:"seeds"`
	Select  [][]setting     `yaml:"select"`
	Exclude [][]setting     `yaml:"exclude"`
	Parts   []choice        `yaml:"parts"`
}

// choice is what a set changes in one part.
type choice struct {
	Name    string          `yaml:",key"`
	With    []setting       `yaml:"with"`
	Seeds   strictyaml.Part `yaml:"seeds"`
	Axes    []axis          `yaml:"axes"`
	Select  [][]setting     `yaml:"select"`
	Exclude [][]setting     `yaml:"exclude"`
}

// Study is a file that was read: its grids are expanded by Plan.
type Study struct {
	Name  string
	About string
	// Text is the file as it was read.
	Text     []byte
	Parallel int // 0: one task per core

	doc    document
	source *strictyaml.Source
	dir    string // that base files are relative to
}

// Load reads a study's file. Faults have their lines.
func Load(path string) (*Study, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("study: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fielderr.New("study", path, "a file such as examples/paper/synthetic.yaml")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("study %s: %w", path, err)
	}
	return Parse(path, data)
}

// Parse reads a study; name is what messages call it, and its folder is where
// base files are looked for.
func Parse(name string, data []byte) (*Study, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %w; want at most %d bytes", name, ErrTooLarge, maxFile)
	}
	s := &Study{Text: data, dir: filepath.Dir(name)}
	s.doc.Margin = 10
	var err error
	s.source, err = strictyaml.Parse(name, data, nil, &s.doc)
	if err != nil {
		return nil, err
	}
	s.Name, s.About, s.Parallel = s.doc.Name, s.doc.About, s.doc.Parallel
	if err := s.source.Locate(s.check()); err != nil {
		return nil, err
	}
	return s, nil
}

// Sets lists the names of the study's sets, in the order of the file; AllCells
// where it has none.
func (s *Study) Sets() []string {
	if len(s.doc.Sets) == 0 {
		return []string{AllCells}
	}
	out := make([]string, len(s.doc.Sets))
	for i, set := range s.doc.Sets {
		out[i] = set.Name
	}
	return out
}

// AllCells is the name of the only set of a study that names none.
const AllCells = "all"

// check finds the faults of the study that need no job.
func (s *Study) check() error {
	var errs []error
	d := &s.doc
	if !safeName.MatchString(d.Name) {
		errs = append(errs, fielderr.New("name", orMissing(d.Name), "a file name of at most 64 letters, digits, dots, dashes and underscores"))
	}
	if d.Parallel < 0 || d.Parallel > maxSplit {
		errs = append(errs, fielderr.New("parallel", d.Parallel, fmt.Sprintf("1 to %d tasks at once, or 0 for one per core", maxSplit)))
	}
	if len(d.Parts) > maxParts {
		errs = append(errs, fielderr.New("parts", len(d.Parts), fmt.Sprintf("at most %d parts", maxParts)))
	}
	errs = append(errs, d.section.check(""), d.checkFilters(), d.checkClaims())
	var parts []string
	for _, p := range d.Parts {
		at := "parts." + p.Name
		parts = append(parts, p.Name)
		if !safeName.MatchString(p.Name) {
			errs = append(errs, fielderr.New(at, p.Name, "a name of letters, digits, dots, dashes and underscores"))
		}
		errs = append(errs, p.section.check(at+"."))
	}
	for _, set := range d.Sets {
		at := "sets." + set.Name
		if !safeName.MatchString(set.Name) || set.Name == cellsDir {
			errs = append(errs, fielderr.New(at, set.Name, "a name of letters, digits, dots, dashes and underscores other than "+cellsDir))
		}
		for _, c := range set.Parts {
			if !slices.Contains(parts, c.Name) {
				want := "the name of a part"
				if near := suggest.Closest(c.Name, parts); near != "" {
					want += "; did you mean " + near + "?"
				}
				errs = append(errs, fielderr.New(at+".parts."+c.Name, c.Name, want))
			}
			errs = append(errs, checkAxes(at+".parts."+c.Name+".", c.Axes))
		}
	}
	return errors.Join(errs...)
}

func orMissing(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (c *section) check(at string) error {
	errs := []error{checkAxes(at, c.Axes)}
	for _, v := range c.Variants {
		if !oneLine(v.Name) { // it names lines of charts and rows of tables
			errs = append(errs, fielderr.New(at+"variants", v.Name, fmt.Sprintf("a name of 1 to %d bytes on one line", maxVariant)))
		}
	}
	if len(c.Metrics)+len(c.Times) > maxMetric {
		errs = append(errs, fielderr.New(at+"metrics", len(c.Metrics)+len(c.Times), fmt.Sprintf("at most %d metrics and times", maxMetric)))
	}
	seen := map[string]bool{}
	for i, m := range c.Metrics {
		if !metricName.MatchString(m) || seen[m] {
			errs = append(errs, fielderr.New(fmt.Sprintf("%smetrics[%d]", at, i), m, "a field of metrics.jsonl, such as tv, once"))
		}
		seen[m] = true
	}
	for _, t := range c.Times {
		if !metricName.MatchString(t.Name) || seen[t.Name] {
			errs = append(errs, fielderr.New(at+"times."+t.Name, t.Name, "a name of its own, of letters, digits and underscores"))
		}
		seen[t.Name] = true
		if _, err := parseCondition(t.When); err != nil {
			errs = append(errs, fielderr.Prefix(at+"times."+t.Name+".when", err))
		}
		if t.Runs < 0 || t.Runs > 1000 {
			errs = append(errs, fielderr.New(at+"times."+t.Name+".times", t.Runs, "1 to 1000 successive evaluations"))
		}
	}
	if c.Margin < 0 || c.Margin > 1000 {
		errs = append(errs, fielderr.New(at+"margin", c.Margin, "0 to 1000 percent"))
	}
	return errors.Join(errs...)
}

func oneLine(name string) bool {
	return name != "" && len(name) <= maxVariant && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

func checkAxes(at string, axes []axis) error {
	var errs []error
	if len(axes) > maxAxes {
		errs = append(errs, fielderr.New(at+"axes", len(axes), fmt.Sprintf("at most %d axes", maxAxes)))
	}
	for _, a := range axes {
		if a.Path == "seed" || a.Path == "name" {
			errs = append(errs, fielderr.New(at+"axes."+a.Path, a.Path, "a field that decides a result; seeds are given by seeds"))
		}
		if len(a.Values) == 0 {
			errs = append(errs, fielderr.New(at+"axes."+a.Path, nil, "a list of values, such as [0, 50]"))
		}
		seen := map[string]bool{}
		for i, v := range a.Values {
			text := textOf(v)
			if seen[text] {
				errs = append(errs, fielderr.New(fmt.Sprintf("%saxes.%s[%d]", at, a.Path, i), text, "each value once"))
			}
			seen[text] = true
		}
	}
	return errors.Join(errs...)
}
