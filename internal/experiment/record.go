package experiment

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// Record is the result of one task.
type Record struct {
	Part   string  `json:"part"`
	Cell   string  `json:"cell"`
	Seed   uint64  `json:"seed"`
	ID     string  `json:"id,omitempty"` // of its folder in cells/
	Status string  `json:"status"`
	Note   string  `json:"note,omitempty"` // why it diverged or was refused
	At     []Value `json:"at"`             // the cell's values
	// Values are the metrics at the end, and the times; those that are not known
	// are absent. A diverged task has none.
	Values map[string]float64 `json:"values,omitempty"`
	// Budget is the number of updates that a time would not have been reached in.
	Budget float64 `json:"budget,omitempty"`
	// Unevaluated are the metrics that the last evaluation does not have at all, and the
	// times of which nothing is known: no evaluation has all metrics of the condition.
	// Others that Values lack are not finite, or were not reached.
	Unevaluated []string `json:"unevaluated,omitempty"`

	Points  []Point `json:"-"`
	Seconds float64 `json:"-"` // of training, or of computing, and of evaluating:
	Eval    float64 `json:"-"`
	Table   *Table  `json:"-"` // of a computation
}

// Point is one evaluation of a training.
type Point struct {
	Updates, Trajectories float64
	Values                map[string]float64
	// Unbounded are the metrics that were evaluated and have no finite number.
	Unbounded map[string]bool
}

// record reads the result of a task from its folder.
func (r *Runner) record(t Task) (*Record, error) {
	for _, p := range r.Plan.Parts {
		if p.Name == t.Cell.Part {
			return r.read(p, t)
		}
	}
	return nil, fmt.Errorf("no part %q", t.Cell.Part)
}

func (r *Runner) read(p *Part, t Task) (*Record, error) {
	rec := &Record{Part: p.Name, Cell: t.Cell.Name, Seed: t.Seed, ID: t.ID, Status: Pending, At: t.Cell.Values, Budget: t.Cell.Budget}
	if t.Cell.Refused != "" {
		rec.ID, rec.Status, rec.Note = "", Refused, t.Cell.Refused
		return rec, nil
	}
	folder := r.taskDir(t)
	o, err := readOutcome(folder)
	if err != nil || o == nil {
		return rec, err
	}
	rec.Status, rec.Note = o.Status, o.Error
	if p.Kind != Train {
		return rec, rec.readTable(folder, r.Computations[p.Kind].Conclude)
	}
	if rec.Points, err = readPoints(folder); err != nil {
		return nil, err
	}
	timings, err := runs.ReadTimings(folder)
	if err != nil {
		return nil, err
	}
	if n := len(timings); n > 0 {
		rec.Seconds, rec.Eval = float64(timings[n-1].Seconds), float64(timings[n-1].EvalSeconds)
	}
	if rec.Status == Finished {
		rec.Values, rec.Unevaluated = p.values(rec.Points), p.unevaluated(rec.Points)
	}
	return rec, nil
}

func (rec *Record) readTable(folder string, conclude func(*Table)) error {
	data, err := os.ReadFile(filepath.Join(folder, tableFile))
	if err != nil {
		return err
	}
	rec.Table = &Table{}
	if err = json.Unmarshal(data, rec.Table); err == nil {
		err = rec.Table.check()
	}
	if err != nil {
		return fmt.Errorf("%s: damaged file: %w", filepath.Join(folder, tableFile), err)
	}
	if conclude != nil {
		conclude(rec.Table)
	}
	rec.Values = rec.Table.Values
	if data, err = os.ReadFile(filepath.Join(folder, secondsFile)); err == nil {
		var s struct {
			Seconds float64 `json:"seconds"`
		}
		if json.Unmarshal(data, &s) == nil {
			rec.Seconds = s.Seconds
		}
	}
	return nil
}

// readPoints reads every number of every line of metrics.jsonl under its dotted
// name, so that a metric added there needs nothing here.
func readPoints(folder string) ([]Point, error) {
	file, err := os.Open(filepath.Join(folder, runs.MetricsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var out []Point
	in := bufio.NewScanner(file)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var row map[string]any
		if err := json.Unmarshal(bytes.TrimSpace(in.Bytes()), &row); err != nil {
			break // torn by a crash; the run cuts it off when it goes on
		}
		p := Point{Values: map[string]float64{}}
		p.read("", row)
		p.derive()
		p.Updates, p.Trajectories = p.Values["version"], p.Values["trajectories"]
		out = append(out, p)
	}
	return out, in.Err()
}

// read collects the numbers below v by dotted path. Lists are left out.
func (p *Point) read(path string, v any) {
	switch v := v.(type) {
	case float64:
		p.Values[path] = v
	case nil:
		if p.Unbounded == nil {
			p.Unbounded = map[string]bool{}
		}
		p.Unbounded[path] = true
	case map[string]any:
		for k, inner := range v {
			at := k
			if path != "" {
				at = path + "." + k
			}
			p.read(at, inner)
		}
	}
}

// derive adds what studies ask for and no row has.
func (p *Point) derive() {
	exact, ok := p.Values["log_z_exact"]
	if !ok {
		return
	}
	// The _error of the others is a standard error.
	for name, away := range map[string]string{"log_z": "log_z_error", "log_z_is": "log_z_is_abs_error", "eval_log_z": "eval_log_z_abs_error"} {
		if got, ok := p.Values[name]; ok {
			p.Values[away] = math.Abs(got - exact)
		} else if p.Unbounded[name] {
			p.Unbounded[away] = true
		}
	}
}

// values are the part's metrics at the end, and its times.
func (p *Part) values(points []Point) map[string]float64 {
	out := map[string]float64{}
	if len(points) == 0 {
		return out
	}
	last := points[len(points)-1].Values
	for _, m := range p.Metrics {
		if x, ok := last[m]; ok {
			out[m] = x
		}
	}
	for _, t := range p.Times {
		if x, ok := t.first(points); ok {
			out[t.Name] = x
		}
	}
	return out
}

// unevaluated lists the metrics that the last row does not have, and the times whose
// conditions no row can tell, such as those of a run from before a metric was there.
func (p *Part) unevaluated(points []Point) []string {
	var out []string
	for _, m := range p.Metrics {
		if n := len(points); n == 0 || !points[n-1].has(m) {
			out = append(out, m)
		}
	}
	for _, t := range p.Times {
		when, err := parseCondition(t.When)
		if err != nil || !slices.ContainsFunc(points, when.known) {
			out = append(out, t.Name)
		}
	}
	return out
}

// first returns the number of updates at the first of Runs successive
// evaluations that meet the condition. Rows that lack one of its metrics are no
// evaluation.
func (t Time) first(points []Point) (float64, bool) {
	when, err := parseCondition(t.When)
	if err != nil {
		return 0, false
	}
	run, begin := 0, 0.0
	for _, p := range points {
		if !when.known(p) {
			continue
		}
		if !when.holds(p.Values) {
			run = 0
			continue
		}
		if run++; run == 1 {
			begin = p.Updates
		}
		if run == max(t.Runs, 1) {
			return begin, true
		}
	}
	return 0, false
}

// isTime says whether a value is a time: censored where it is absent.
func (p *Part) isTime(name string) bool {
	return slices.ContainsFunc(p.Times, func(t Time) bool { return t.Name == name })
}
