package experiment

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/safetensors"
)

const grid = `name: grid
base:
  env: {name: hypergrid, params: {dim: 2, height: 8}}
  train: {batch: 16, updates: 100}
axes:
  loss.divergence: [reverse_kl, "forward_kl,tail:5"]
  train.lag: [0, 50]
seeds: 3
baseline: {loss.divergence: reverse_kl}
sets:
  quick:
    parts:
      a: {}
  full:
    with: {train.updates: 700}
    seeds: [7, 9]
parts:
  a: {}
  b:
    axes:
      loss.divergence: [reverse_kl, hellinger]
    variants:
      small: {policy.hidden: [8]}
      large: {policy.hidden: [64, 64], optimiser.learning_rate: "cosine:1e-3:0:100"}
    exclude:
      - {variant: small, loss.divergence: hellinger}
`

func mustPlan(t testing.TB, text, set string) *Plan {
	t.Helper()
	s, err := Parse("grid.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(set, Checks{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGridsExpand(t *testing.T) {
	quick := mustPlan(t, grid, "")
	if quick.Set != "quick" || len(quick.Parts) != 1 {
		t.Fatalf("the first set has parts %v", quick.Parts)
	}
	var names []string
	for _, c := range quick.Parts[0].Cells {
		names = append(names, c.Name)
	}
	want := []string{
		"divergence=reverse_kl, lag=0", "divergence=reverse_kl, lag=50",
		"divergence=forward_kl,tail:5, lag=0", "divergence=forward_kl,tail:5, lag=50",
	}
	if !slices.Equal(names, want) {
		t.Errorf("cells %q, want %q", names, want)
	}
	if c := quick.Parts[0].Cells[3].Spec; c.Loss.Divergence != "forward_kl,tail:5" || c.Train.Lag != 50 || c.Train.Updates != 100 || c.Train.Batch != 16 {
		t.Errorf("the last cell trains %+v", c)
	}
	if n := len(quick.Tasks()); n != 12 {
		t.Errorf("%d tasks, want 12", n)
	}
	full := mustPlan(t, grid, "full")
	if len(full.Parts) != 2 {
		t.Fatalf("%d parts in full, want 2", len(full.Parts))
	}
	b := full.Parts[1]
	names = nil
	for _, c := range b.Cells {
		names = append(names, c.Name)
	}
	want = []string{"variant=small, divergence=reverse_kl", "variant=large, divergence=reverse_kl", "variant=large, divergence=hellinger"}
	if !slices.Equal(names, want) || !slices.Equal(b.Seeds, []uint64{7, 9}) {
		t.Errorf("cells %q of seeds %v, want %q of 7, 9", names, b.Seeds, want)
	}
	if s := b.Cells[2].Spec; !slices.Equal(s.Policy.Hidden, []int{64, 64}) || s.Optimiser.LearningRate.At(0) != 1e-3 || s.Train.Updates != 700 {
		t.Errorf("the last cell trains %+v", s)
	}
	if base := b.baselineOf(b.Cells[2]); base != b.Cells[1] {
		t.Errorf("%s is compared with %v", b.Cells[2].Name, base)
	}
}

// TestSetsShareWhatIsEqual: the same job and seed is the same folder whatever
// set or part asks for it, and another job is another.
func TestSetsShareWhatIsEqual(t *testing.T) {
	ids := func(p *Plan) map[string]bool {
		out := map[string]bool{}
		for _, task := range p.Tasks() {
			out[task.ID] = true
		}
		return out
	}
	quick := ids(mustPlan(t, grid, "quick"))
	more := ids(mustPlan(t, strings.Replace(grid, "[0, 50]", "[0, 50, 60]", 1), "quick"))
	for id := range quick {
		if !more[id] {
			t.Errorf("task %s has another folder once the axis is longer", id)
		}
	}
	if len(more) != 18 {
		t.Errorf("%d folders, want 18", len(more))
	}
	for id := range ids(mustPlan(t, strings.Replace(grid, "updates: 100", "updates: 101", 1), "quick")) {
		if quick[id] {
			t.Errorf("task %s of another job has the same folder", id)
		}
	}
}

// TestEqualCellsAreOneTask: two parts that ask for the same job share its folder,
// and never train it twice, least of all at once.
func TestEqualCellsAreOneTask(t *testing.T) {
	p := mustPlan(t, `name: twins
base: {env: {name: hypergrid}}
seeds: 2
parts:
  a: {axes: {train.lag: [0, 5]}}
  b: {variants: {on-policy: {train.lag: 0}, same: {train.batch: 16}, slow: {train.lag: 9}}}
`, "")
	if n := len(p.Tasks()); n != 6 {
		t.Errorf("%d tasks for three jobs and two seeds", n)
	}
	if _, err := Parse("x.yaml", []byte("name: x\naxes: {seed: [1, 2]}\n")); err == nil || !strings.Contains(err.Error(), "x.yaml:2:14: axes.seed") {
		t.Errorf("an axis of seeds: %v", err)
	}
}

func TestFaultsHaveLines(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown field", "seeds: 3", "seed: 3", `grid.yaml:8:1: seed: unknown field; did you mean seeds?`},
		{"unknown field of the job", "train: {batch: 16", "train: {bach: 16", `grid.yaml:4:11: train.bach: unknown field; did you mean batch?`},
		{"value of an axis", "[0, 50]", "[0, -50]", `grid.yaml:7:18: train.lag: got -50; want an integer`},
		{"unknown axis", "train.lag:", "train.leg:", `grid.yaml:7:15: train.leg: unknown field; did you mean lag?`},
		{"value twice", "[0, 50]", "[0, 0]", `grid.yaml:7:18: axes.train.lag[1]: got "0"; want each value once`},
		{"baseline", "baseline: {loss.divergence", "baseline: {loss.tail", `grid.yaml:9:23: baseline.loss.tail: got "loss.tail"; want an axis`},
		{"no such baseline", "baseline: {loss.divergence: reverse_kl}", "baseline: {loss.divergence: huber}", `grid.yaml:9:29: baseline: got "huber"; want values that a cell has`},
		{"seeds", "seeds: 3", "seeds: 0", `grid.yaml:8:8: seeds: got 0; want a number of seeds`},
		{"part", "      a: {}\n  full", "      c: {}\n  full", `grid.yaml:13:10: sets.quick.parts.c: got "c"; want the name of a part`},
		{"condition", "seeds: 3", "times: {x: {when: tv is small}}", `grid.yaml:8:19: times.x.when: got "tv is small"; want comparisons`},
		{"no such metric", "seeds: 3", "metrics: [tv, mode_held]", `grid.yaml:8:15: metrics[1]: got "mode_held"; want a field of metrics.jsonl, such as tv; did you mean modes_held?`},
		{"no such figure", "  a: {}\n  b:", "  a: {figures: [tw]}\n  b:", `grid.yaml:18:17: parts.a.figures[0]: got "tw"; want a field of metrics.jsonl`},
		{"no such metric of a time", "seeds: 3", "times: {x: {when: tv <= 0.1 and zork > tv}}", `grid.yaml:8:19: times.x.when: got "zork"; want a field`},
		{"filter of no axis", "{variant: small, loss.divergence: hellinger}", "{variant: small, los.divergence: hellinger}", `grid.yaml:26:42: parts.b.exclude[0].los.divergence: got "los.divergence"; want an axis of the study: loss.divergence, train.lag, variant`},
		{"filter of a set", "    seeds: [7, 9]", "    select: [{train.lagg: 0}]", `grid.yaml:16:27: sets.full.select[0].train.lagg: got "train.lagg"; want an axis`},
		{"no job", "base:\n  env: {name: hypergrid, params: {dim: 2, height: 8}}\n  train: {batch: 16, updates: 100}\n", "", "grid.yaml: env.name: missing"},
		{"variant of two lines", "      small: {policy", `      "sm\nall": {policy`, `grid.yaml:23:7: parts.b.variants: got "sm\nall"; want a name of 1 to 200 bytes on one line`},
		{"variant without a name", "      small: {policy", `      "": {policy`, `grid.yaml:23:7: parts.b.variants: got ""; want a name of 1 to 200 bytes on one line`},
		{"kind", "  a: {}\n  b:", "  a: {kind: trian}\n  b:", `grid.yaml:18:13: parts.a.kind: got "trian"; want one of train; did you mean train?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(grid, c.old, c.new, 1)
			if text == grid {
				t.Fatal("nothing replaced")
			}
			s, err := Parse("grid.yaml", []byte(text))
			if err == nil {
				_, err = s.Plan("", Checks{})
			}
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s…", err, c.want)
			}
		})
	}
}

func TestChecksOfTheJobHaveLines(t *testing.T) {
	s, err := Parse("grid.yaml", []byte(grid))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Plan("", Checks{Job: func(spec *job.Spec) error {
		if spec.Loss.Divergence != "reverse_kl" {
			return fielderr.New("loss.divergence", spec.Loss.Divergence, "another")
		}
		return nil
	}})
	if want := `grid.yaml:6:33: loss.divergence: got "forward_kl,tail:5"; want another`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	p, err := s.Plan("", Checks{Job: func(spec *job.Spec) error {
		if spec.Train.Lag > 0 {
			return fielderr.New("loss.normaliser", "learned", "no lag")
		}
		return nil
	}})
	if err != nil || p.Parts[0].Cells[1].Refused != "no lag" || len(p.Tasks()) != 6 {
		t.Errorf("a combination that the family lacks: %v, %+v", err, p)
	}
}

func TestBaseFromAFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("job.yaml", "env: {name: hypergrid}\ntrain: {batch: 64}\n")
	study := write("study.yaml", "name: s\nbase: job.yaml\naxes:\n  train.updates: [5, 6.5]\n")
	s, err := Load(study)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Plan("", Checks{})
	if err == nil || !strings.HasPrefix(err.Error(), study+":4:22: train.updates: got 6.5; want an integer") {
		t.Errorf("a fault of the study: %v", err)
	}
	write("job.yaml", "env: {name: hypergrid}\ntrain: {batch: many}\n")
	if _, err = s.Plan("", Checks{}); err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, "job.yaml")+":2:16: train.batch") {
		t.Errorf("a fault of the job's file: %v", err)
	}
	write("study.yaml", "name: s\nbase: elsewhere.yaml\n")
	if s, err = Load(study); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Plan("", Checks{}); !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), study+":2:7: base: ") {
		t.Errorf("no such file: %v", err)
	}
}

func TestCaps(t *testing.T) {
	var axes strings.Builder
	for _, path := range []string{"train.lag", "train.updates", "train.batch", "eval.every", "eval.max_states", "replay.bytes"} {
		axes.WriteString("  " + path + ": [1,2,3,4,5,6,7,8,9,10]\n")
	}
	s, err := Parse("big.yaml", []byte("name: big\nbase: {env: {name: hypergrid}}\naxes:\n"+axes.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan("", Checks{}); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "more than 10000 cells") {
		t.Errorf("1,000,000 cells: %v", err)
	}
	if _, err := Parse("big.yaml", make([]byte, maxFile+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large file: %v", err)
	}
}

// TestExpansionIsAFunction: cells are distinct in name and folder, their number
// is the product of the axes less what is excluded, and a second reading gives
// the same in the same order.
func TestExpansionIsAFunction(t *testing.T) {
	paths := []string{"train.lag", "train.updates", "loss.divergence", "optimiser.learning_rate", "env.params.height", "policy.hidden"}
	values := map[string][]any{
		"train.lag": {0, 1, 2, 50}, "train.updates": {10, 20, 30}, "loss.divergence": {"hellinger", "alpha:0.5", "huber:1"},
		"optimiser.learning_rate": {1e-3, 0.5, "linear:1:0:5"}, "env.params.height": {4, 5, 8}, "policy.hidden": {[]int{4}, []int{4, 4}},
	}
	rapid.Check(t, func(t *rapid.T) {
		chosen := rapid.SliceOfNDistinct(rapid.SampledFrom(paths), 1, 4, rapid.ID).Draw(t, "axes")
		var axes yaml.MapSlice
		want := 1
		for _, p := range chosen {
			vs := values[p][:rapid.IntRange(1, len(values[p])).Draw(t, p)]
			axes = append(axes, yaml.MapItem{Key: p, Value: vs})
			want *= len(vs)
		}
		text, err := yaml.Marshal(yaml.MapSlice{
			{Key: "name", Value: "random"},
			{Key: "base", Value: map[string]any{"env": map[string]any{"name": "hypergrid"}}},
			{Key: "axes", Value: axes},
			{Key: "seeds", Value: rapid.IntRange(1, 4).Draw(t, "seeds")},
		})
		if err != nil {
			t.Fatal(err)
		}
		one, two := planOf(t, text), planOf(t, text)
		names, ids := map[string]bool{}, map[string]bool{}
		for i, c := range one.Parts[0].Cells {
			names[c.Name] = true
			if other := two.Parts[0].Cells[i]; other.Name != c.Name || other.Digest != c.Digest {
				t.Fatalf("cell %d is %s, and then %s", i, c.Name, other.Name)
			}
		}
		tasks := one.Tasks()
		for _, task := range tasks {
			ids[task.ID] = true
		}
		if len(names) != want || len(one.Parts[0].Cells) != want || len(ids) != len(tasks) {
			t.Fatalf("%d cells with %d names, %d tasks in %d folders; want %d cells", len(one.Parts[0].Cells), len(names), len(tasks), len(ids), want)
		}
	})
}

func planOf(t *rapid.T, text []byte) *Plan {
	s, err := Parse("random.yaml", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	p, err := s.Plan("", Checks{})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return p
}

// FuzzStudy: whatever a file says, it is refused or expanded within the caps.
func FuzzStudy(f *testing.F) {
	f.Add([]byte(grid))
	f.Add([]byte(claimed))
	f.Add([]byte("name: x\nbase: [1]\naxes: {a.b: [1, {c: d}]}\nseeds: [1, -1]\n"))
	f.Add([]byte("name: x\nkind: y\nvariants: {a: {}, b: {}}\nselect: [{variant: [a]}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Parse("fuzz.yaml", text)
		if err != nil {
			return
		}
		for _, set := range s.Sets() {
			if p, err := s.Plan(set, Checks{}); err == nil && len(p.Tasks()) > maxTasks {
				t.Fatalf("%d tasks", len(p.Tasks()))
			}
		}
	})
}

// TestDigestsStay: cells that name no file keep the folders of runs that are there.
func TestDigestsStay(t *testing.T) {
	s, err := Parse("fixed.yaml", []byte("name: fixed\nbase: {env: {name: hypergrid, params: {dim: 2}}}\naxes: {train.lag: [0, 50]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan("", Checks{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"103c93e47a51f2f8a7b3c7b02acc84abab1088c488cbbc8fa194fa23941a309b",
		"0600c5a4fb95c9c845cb1739f169a462a74c00e52d3ae5e1ed3d919b06660492",
	} {
		if got := p.Parts[0].Cells[i].Digest; got != want {
			t.Errorf("%s has the digest %s, before %s", p.Parts[0].Cells[i].Name, got, want)
		}
	}
}

// TestPriorsInDigests: what a prior has learned decides, not where it is or how far
// its optimiser.
func TestPriorsInDigests(t *testing.T) {
	dir := t.TempDir()
	prior := func(name string, params []float32, moments string) string {
		path := filepath.Join(dir, name)
		r, err := runs.Create(path, runs.Info{Name: name}, []byte("name: prior\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = r.SaveCheckpoint(&runs.Checkpoint{
			Spec: []byte(`{"name":"prior"}`), Layout: []runs.Param{{Name: "w", Shape: []int{2}, Group: "forward"}}, Params: params,
			Optimiser: []safetensors.Tensor{safetensors.FromBytes("learner_state", []byte(moments))},
		})
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	digest := func(path string) string {
		c := &Cell{Spec: job.Default()}
		c.Spec.Loss.Prior = path
		if err := c.digest(Train, contents{}); err != nil {
			t.Fatal(err)
		}
		return c.Digest
	}
	a := digest(prior("a", []float32{1, 2}, "x"))
	if b := digest(prior("b", []float32{1, 2}, "y")); b != a {
		t.Error("the same prior elsewhere is another cell")
	}
	if c := digest(prior("c", []float32{1, 3}, "x")); c == a {
		t.Error("another prior is the same cell")
	}
	c := &Cell{Spec: job.Default()}
	c.Spec.Loss.Prior = filepath.Join(dir, "nowhere")
	if err := c.digest(Train, contents{}); err == nil || !strings.Contains(err.Error(), "loss.prior: ") {
		t.Errorf("no prior: %v", err)
	}
}
