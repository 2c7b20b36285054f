package experiment

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
	"github.com/driftmesh/driftmesh/internal/suggest"
)

// Plan is what one set of a study runs.
type Plan struct {
	Study string  `json:"study"`
	About string  `json:"about,omitempty"`
	Set   string  `json:"set"`
	Parts []*Part `json:"parts"`
}

// Part is one grid of a plan.
type Part struct {
	Name  string   `json:"name"`
	About string   `json:"about,omitempty"`
	Kind  string   `json:"kind"`
	Seeds []uint64 `json:"seeds"`
	Axes  []string `json:"axes"` // paths, "variant" first where there are variants
	Cells []*Cell  `json:"cells"`

	Metrics  []string `json:"metrics"`
	Times    []Time   `json:"times"`
	Figures  []string `json:"figures"`
	Higher   []string `json:"higher,omitempty"`
	Baseline []Value  `json:"baseline,omitempty"`
	Margin   float64  `json:"margin"` // percent
	Claims   []Claim  `json:"claims,omitempty"`

	places map[string]*Cell // by their values, once they were looked for
}

// Cell is one point of a grid.
type Cell struct {
	Part   string  `json:"part"`
	Name   string  `json:"name"` // distinct in the part
	Values []Value `json:"values"`
	// Refused says why the family of losses has no such combination.
	Refused string `json:"refused,omitempty"`

	Spec   *job.Spec      `json:"-"` // of a training part; its seed is another for each task
	Params map[string]any `json:"params,omitempty"`
	Digest string         `json:"digest"` // of everything that decides the result but the seed
	Budget float64        `json:"budget"` // updates, 0 where there are none
}

// Value is a cell's place on one axis.
type Value struct {
	Axis string `json:"axis"`
	Text string `json:"text"` // as a file would say it
}

// Time is the number of updates until a condition held for the first of
// several successive evaluations.
type Time struct {
	Name string `json:"name"`
	When string `json:"when"`
	Runs int    `json:"times"`
}

// Task is a cell with a seed.
type Task struct {
	Cell *Cell
	Seed uint64
	ID   string // names its folder
}

// VariantAxis is the axis of a part's named variants.
const VariantAxis = "variant"

// Checks are what a plan asks about jobs and computations.
type Checks struct {
	// Job finds the faults of a job that its packages know of.
	Job func(*job.Spec) error
	// Computations are the kinds of parts beside training, by name.
	Computations map[string]Computation
	// Mesh says that trainings run on a cluster: their results are others, and
	// have folders of their own.
	Mesh bool
}

// Plan expands the grids of a set, "" for the first. Every job is decoded and
// checked; faults have the line that the value at fault was written on.
func (s *Study) Plan(name string, checks Checks) (*Plan, error) {
	set := subset{Name: AllCells}
	if len(s.doc.Sets) > 0 {
		set = s.doc.Sets[0]
	}
	if name != "" {
		names := s.Sets()
		i := slices.Index(names, name)
		if i < 0 {
			want := "one of " + strings.Join(names, ", ")
			if near := suggest.Closest(name, names); near != "" {
				want += "; did you mean " + near + "?"
			}
			return nil, fielderr.New("--use", name, want)
		}
		if len(s.doc.Sets) > 0 {
			set = s.doc.Sets[i]
		}
	}
	plan := &Plan{Study: s.Name, About: s.About, Set: set.Name}
	parts := s.doc.Parts
	if len(parts) == 0 {
		parts = []part{{Name: s.Name, section: section{Claims: s.doc.Claims}}}
	}
	var errs []error
	cells, tasks, named := 0, 0, contents{}
	for _, p := range parts {
		c := choice{Name: p.Name}
		if len(set.Parts) > 0 {
			i := slices.IndexFunc(set.Parts, func(c choice) bool { return c.Name == p.Name })
			if i < 0 {
				continue
			}
			c = set.Parts[i]
		}
		e := &expansion{study: s, checks: checks, named: named, at: "parts." + p.Name + ".", section: p.section.over(s.doc.section)}
		if len(s.doc.Parts) == 0 {
			e.at = ""
		}
		if len(c.Axes) > 0 {
			e.section.Axes = replaceAxes(e.section.Axes, c.Axes)
		}
		e.section.With = slices.Concat(s.doc.With, p.With, set.With, c.With)
		if e.section.Kind != "" && e.section.Kind != Train && len(s.doc.Parts) > 0 { // those of all parts are fields of jobs
			e.section.With = slices.Concat(p.With, c.With)
		}
		e.filters = [][][]setting{e.section.Select, set.Select, c.Select}
		e.excluded = slices.Concat(e.section.Exclude, set.Exclude, c.Exclude)
		seeds := e.section.Seeds
		for _, given := range []strictyaml.Part{set.Seeds, c.Seeds} {
			if given.Given() {
				seeds = given
			}
		}
		out, err := e.expand(p.Name, seeds, maxCells-cells)
		if err != nil {
			errs = append(errs, s.locate(err))
			continue
		}
		cells += len(out.Cells)
		tasks += len(out.Cells) * len(out.Seeds)
		if tasks > maxTasks {
			return nil, fmt.Errorf("%s: %w: more than %d cells × seeds", s.source.Name(), ErrTooLarge, maxTasks)
		}
		plan.Parts = append(plan.Parts, out)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return plan, nil
}

func (s *Study) locate(err error) error { return s.source.Locate(err) }

// over fills what the section does not say with what the outer one does.
func (c section) over(outer section) section {
	out := outer
	out.About, out.Claims = c.About, c.Claims
	if c.Kind != "" {
		out.Kind = c.Kind
		if c.Kind != Train { // a computation is no job, and has results of its own
			out.Base, out.With, out.Baseline = strictyaml.Part{}, nil, nil
			out.Metrics, out.Higher, out.Figures, out.Times = nil, nil, nil, nil
		}
	}
	if c.Base.Given() {
		out.Base = c.Base
	}
	if c.Seeds.Given() {
		out.Seeds = c.Seeds
	}
	if c.Axes != nil || c.Variants != nil {
		out.Axes, out.Variants = c.Axes, c.Variants
	}
	for _, field := range []struct{ mine, theirs *[]string }{
		{&c.Metrics, &out.Metrics}, {&c.Higher, &out.Higher}, {&c.Figures, &out.Figures},
	} {
		if *field.mine != nil {
			*field.theirs = *field.mine
		}
	}
	if c.Times != nil {
		out.Times = c.Times
	}
	if c.Select != nil {
		out.Select = c.Select
	}
	if c.Exclude != nil {
		out.Exclude = c.Exclude
	}
	if c.Baseline != nil {
		out.Baseline = c.Baseline
	}
	if c.Margin != 0 {
		out.Margin = c.Margin
	}
	return out
}

// replaceAxes puts a set's values on the axes that the part has, and appends
// those that it has not.
func replaceAxes(axes, by []axis) []axis {
	out := slices.Clone(axes)
	for _, a := range by {
		if i := slices.IndexFunc(out, func(b axis) bool { return b.Path == a.Path }); i >= 0 {
			out[i] = a
		} else {
			out = append(out, a)
		}
	}
	return out
}

// Tasks lists every cell with every seed: part by part, one seed of all cells
// before the next, so that what can be compared is there early. What several
// cells have in common is one task.
func (p *Plan) Tasks() []Task {
	var out []Task
	seen := map[string]bool{}
	for _, part := range p.Parts {
		for _, seed := range part.Seeds {
			for _, c := range part.Cells {
				id := c.taskID(seed)
				if c.Refused == "" && !seen[id] {
					seen[id] = true
					out = append(out, Task{c, seed, id})
				}
			}
		}
	}
	return out
}

// Results is the number of cells × seeds, of which several may be one task.
func (p *Plan) Results() int {
	n := 0
	for _, part := range p.Parts {
		for _, c := range part.Cells {
			if c.Refused == "" {
				n += len(part.Seeds)
			}
		}
	}
	return n
}

func (c *Cell) taskID(seed uint64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", c.Digest, seed))
	return hex.EncodeToString(sum[:8])
}

// digest identifies what a cell computes.
func (c *Cell) digest(kind string, named contents) error {
	data, err := json.Marshal(c.Params)
	if c.Spec != nil {
		data, err = named.encode(*c.Spec)
	}
	if err != nil {
		return fmt.Errorf("cell %s of %s: %w", c.Name, c.Part, err)
	}
	sum := sha256.Sum256(append([]byte(kind+"\n"), data...))
	c.Digest = hex.EncodeToString(sum[:])
	return nil
}

// base returns the job that a part's cells change, and what messages call it.
func (e *expansion) base() (strictyaml.Part, string, error) {
	s := e.study
	if train := e.section.Kind == "" || e.section.Kind == Train; train && !e.section.Base.Given() { // with and axes say all
		none, err := strictyaml.Document(s.source.Name(), []byte("{}"))
		return none, s.source.Name(), err
	}
	path, isText := e.section.Base.Text()
	if !isText {
		return e.section.Base, s.source.Name(), nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.dir, path)
	}
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) {
		err = fmt.Errorf("not a file of at most %d bytes", maxFile)
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return strictyaml.Part{}, "", e.section.Base.Fault(fmt.Errorf("base: %w", err))
	}
	doc, err := strictyaml.Document(path, data)
	return doc, path, err
}
