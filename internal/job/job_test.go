package job

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/driftmesh/driftmesh/internal/fielderr"
	"github.com/driftmesh/driftmesh/internal/schedule"
	"github.com/driftmesh/driftmesh/internal/strictyaml"
)

const minimal = "env: {name: hypergrid}\n"

func TestMinimalJobIsTheDefault(t *testing.T) {
	got, src, err := Parse("dir/grid-8.yaml", []byte(minimal), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Name, want.Env.Name = "grid-8", "hypergrid"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if line, col := src.At("env.name"); line != 1 || col != 13 {
		t.Errorf("env.name is at %d:%d", line, col)
	}
}

func TestNameFromTheFileMustBeSafe(t *testing.T) {
	_, _, err := Parse("my job!.yaml", []byte(minimal), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "my job!.yaml: name: missing; want a file name") {
		t.Errorf("got %v", err)
	}
}

func TestOverrides(t *testing.T) {
	text := "name: a\nenv: {name: hypergrid, params: {dim: 2, height: 8}}\nloss: {divergence: forward_kl, tail: 5}\nsampling:\n"
	sets := []string{
		"env.params.height=16", "env.params.reward=cosine", "seed=18446744073709551615",
		"policy.hidden=[32, 16]", "loss.divergence=custom:g1=tanh(delta)", "loss.tail=null",
		"optimiser.learning_rate=cosine:1e-3:1e-5:100", "optimiser.backward_rate={kind: linear, from: 1, to: 0, over: 9}",
		"sampling.epsilon=0.5", "sampling.epsilon=0.25", "train.updates=6e3", "train.batch=100",
	}
	s, src, err := Parse("a.yaml", []byte(text), sets)
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"dim": int64(2), "height": int64(16), "reward": "cosine"}; !reflect.DeepEqual(s.Env.Params, want) {
		t.Errorf("params %v, want %v", s.Env.Params, want)
	}
	if s.Seed != math.MaxUint64 || !reflect.DeepEqual(s.Policy.Hidden, []int{32, 16}) || s.Train.Updates != 6000 {
		t.Errorf("got %+v", s)
	}
	if s.Loss.Divergence != "custom:g1=tanh(delta)" || s.Loss.Tail != nil {
		t.Errorf("loss %+v", s.Loss)
	}
	if want := (schedule.Value{Kind: schedule.Cosine, From: 1e-3, To: 1e-5, Over: 100}); s.Optimiser.LearningRate != want {
		t.Errorf("learning rate %v", s.Optimiser.LearningRate)
	}
	if r := s.Optimiser.BackwardRate; r == nil || *r != (schedule.Value{Kind: schedule.Linear, From: 1, Over: 9}) {
		t.Errorf("backward rate %v", r)
	}
	if s.Sampling.Epsilon != schedule.Const(0.25) {
		t.Errorf("epsilon %v: the last override wins", s.Sampling.Epsilon)
	}
	if s.Mesh.ReplayMax != 400 {
		t.Errorf("replay_max %d, want four batches", s.Mesh.ReplayMax)
	}
	if line, col := src.At("env.params.height"); line != 0 || col != 0 {
		t.Errorf("an override has no line, got %d:%d", line, col)
	}
}

// TestDeeperFaultsGetTheirLine is what a caller does with the faults of an
// environment, which knows nothing of files.
func TestDeeperFaultsGetTheirLine(t *testing.T) {
	text := "env:\n  name: hypergrid\n  params:\n    dim: 4\n    height: 1\n"
	_, src, err := Parse("job.yaml", []byte(text), []string{"env.params.r0=-1"})
	if err != nil {
		t.Fatal(err)
	}
	deep := fielderr.Prefix("env.params", errors.Join(
		fielderr.New("r0", -1, "a number above 0"),
		fielderr.New("height", 1, "an integer of at least 2"),
		fielderr.New("reward", nil, "standard or cosine"),
	))
	want := `job.yaml:4:5: env.params.reward: missing; want standard or cosine
job.yaml:5:13: env.params.height: got 1; want an integer of at least 2
--set env.params.r0=-1: env.params.r0: got -1; want a number above 0`
	if got := src.Locate(deep); got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
}

// leaves lists the paths of Spec below v that are not structs themselves.
func leaves(path string, t reflect.Type) []string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[schedule.Value]() {
		return []string{path}
	}
	out := []string{path}
	for i := range t.NumField() {
		out = append(out, leaves(joinPath(path, yamlName(t.Field(i))), t.Field(i).Type)...)
	}
	return out
}

func TestTableCoversSpec(t *testing.T) {
	known := map[string]bool{}
	for _, path := range leaves("", reflect.TypeFor[Spec]())[1:] {
		known[path] = true
		if f, ok := fields[path]; !ok || f.doc == "" {
			t.Errorf("%s is not described", path)
		}
	}
	for path := range fields {
		if !known[path] {
			t.Errorf("%s is described but does not exist", path)
		}
	}
}

// TestEveryBoundIsEnforced steps over each end of each range in the table.
func TestEveryBoundIsEnforced(t *testing.T) {
	refused := func(path, value string) {
		t.Helper()
		at, text := path, value
		if path == "policy.hidden" {
			at, text = "policy.hidden[0]", "["+value+"]"
		}
		whole, sets := minimal, []string{path + "=" + text}
		switch {
		case strings.HasPrefix(path, "data."):
			whole += "data: {file: objects.csv, share: 1}\n"
		case strings.HasPrefix(path, "reward."):
			sets = append([]string{"reward.command=[a]"}, sets...)
		}
		_, _, err := Parse("job.yaml", []byte(whole), sets)
		var fe *fielderr.Error
		if !errors.As(err, &fe) || fe.Path != at {
			t.Errorf("%s=%s gave %v", path, text, err)
		}
	}
	for path, f := range fields {
		switch path {
		case "name", "env", "env.name", "env.params", "reward", "reward.command", "reward.params", "policy", "loss", "loss.divergence", "optimiser", "sampling", "train", "eval", "mesh", "data.file":
			continue
		}
		if f.enum != nil {
			refused(path, f.enum[0]+"x")
			continue
		}
		refused(path, ".nan")
		refused(path, ".inf")
		if f.above {
			refused(path, fmt.Sprint(f.min))
		}
		if f.below {
			refused(path, fmt.Sprint(f.max))
		}
		if !math.IsInf(f.min, -1) {
			refused(path, fmt.Sprintf("%.0f", f.min-1))
		}
		if !math.IsInf(f.max, 1) {
			refused(path, fmt.Sprintf("%.0f", f.max+1))
		}
	}
}

func TestValidateOfLiterals(t *testing.T) {
	deep := any("x")
	for range 40 {
		deep = []any{deep}
	}
	cases := []struct {
		path  string
		spoil func(*Spec)
	}{
		{"name", func(s *Spec) { s.Name = strings.Repeat("a", 65) }},
		{"name", func(s *Spec) { s.Name = ".." }},
		{"loss.divergence", func(s *Spec) { s.Loss.Divergence = "a\nb" }},
		{"loss.divergence", func(s *Spec) { s.Loss.Divergence = strings.Repeat("a", 3000) }},
		{"loss.lambda", func(s *Spec) { s.Loss.Lambda = 0.5 }},
		{"loss.lambda", func(s *Spec) { s.Loss.Objective, s.Loss.Lambda = DB, 0.5 }},
		{"optimiser.flow_rate", func(s *Spec) { s.Optimiser.FlowRate = new(schedule.Const(1)) }},
		{"loss.normaliser", func(s *Spec) { s.Loss.Objective, s.Loss.Normaliser = SubTB, "batch_optimal" }},
		{"policy.backward", func(s *Spec) { s.Loss.Objective = FM }},
		{"policy.backward", func(s *Spec) { s.Loss.Objective, s.Data = ML, &Data{File: "x.csv", Share: 1} }},
		{"data.file", func(s *Spec) { s.Loss.Objective, s.Policy.Backward = ML, "uniform" }},
		{"data.file", func(s *Spec) { s.Data = &Data{Share: 1} }},
		{"data.share", func(s *Spec) { s.Data = &Data{File: "x.csv"} }},
		{"data.share", func(s *Spec) { s.Data, s.Train.Batch = &Data{File: "x.csv", Share: 0.5}, 1 }},
		{"replay.kind", func(s *Spec) { s.Data, s.Replay.Kind = &Data{File: "x.csv", Share: 1}, "fifo" }},
		{"data.share", func(s *Spec) {
			s.Loss.Objective, s.Policy.Backward, s.Data = ML, "uniform", &Data{File: "x.csv", Share: 0.5}
		}},
		{"policy.hidden", func(s *Spec) { s.Policy.Hidden = nil }},
		{"policy.hidden", func(s *Spec) { s.Policy.Hidden = slices.Repeat([]int{8}, 17) }},
		{"reward_exponent", func(s *Spec) { s.RewardExponent = schedule.Value{} }},
		{"loss.tail.from", func(s *Spec) { s.Loss.Tail = &schedule.Value{Kind: schedule.Linear, From: math.Inf(1), Over: 1} }},
		{"loss.tail", func(s *Spec) { s.Loss.Tail = &schedule.Value{Kind: schedule.Constant, From: math.Inf(1)} }},
		{"optimiser.clip_norm", func(s *Spec) { s.Optimiser.ClipNorm = math.NaN() }},
		{"env.params.x[1]", func(s *Spec) { s.Env.Params["x"] = []any{1.5, math.Inf(-1)} }},
		{"env.params", func(s *Spec) { s.Env.Params["a b"] = 1 }},
		{"reward.command", func(s *Spec) { s.Reward = &Reward{} }},
		{"reward.command[1]", func(s *Spec) { s.Reward = &Reward{Command: []string{"python3", ""}} }},
		{"reward.retries", func(s *Spec) { s.Reward = &Reward{Command: []string{"a"}, Retries: -2} }},
		{"reward.params.x", func(s *Spec) {
			s.Reward = &Reward{Command: []string{"a"}, Params: map[string]any{"x": math.NaN()}}
		}},
		{"env.params.c", func(s *Spec) { s.Env.Params["c"] = make(chan int) }},
		{"env.params.deep" + strings.Repeat("[0]", 16), func(s *Spec) { s.Env.Params["deep"] = deep }},
	}
	for _, c := range cases {
		s, _, err := Parse("job.yaml", []byte(minimal), nil)
		if err != nil {
			t.Fatal(err)
		}
		c.spoil(s)
		var fe *fielderr.Error
		if err := s.Validate(); !errors.As(err, &fe) || fe.Path != c.path {
			t.Errorf("want a fault of %s, got %v", c.path, err)
		}
	}
}

func drawValue(t *rapid.T, label string, lo, hi float64) schedule.Value {
	num := rapid.Float64Range(lo, hi)
	kind := rapid.SampledFrom([]schedule.Kind{schedule.Constant, schedule.Linear, schedule.Cosine}).Draw(t, label)
	if kind == schedule.Constant {
		return schedule.Const(num.Draw(t, label))
	}
	return schedule.Value{
		Kind: kind, From: num.Draw(t, label), To: num.Draw(t, label),
		Over: rapid.Int64Range(1, 1e9).Draw(t, label), Start: rapid.Int64Range(0, 1e9).Draw(t, label),
	}
}

// drawSpec draws any valid job.
func drawSpec(t *rapid.T) *Spec {
	s := Default()
	s.Name = rapid.StringMatching(`[A-Za-z0-9_][A-Za-z0-9._-]{0,20}`).Draw(t, "name")
	s.Seed = rapid.Uint64().Draw(t, "seed")
	s.Env.Name = rapid.StringMatching(`[a-z][a-z0-9_-]{0,9}`).Draw(t, "env")
	texts := rapid.OneOf(rapid.StringMatching(`[ -~]{0,12}`), rapid.SampledFrom([]string{"1", "1e3", "true", "null", "~", ".nan", "- a", "a: b", "#x", "'", "\"", "é", "|", ">", "a\nb", " a", "0x1F", "yes", "*a", "&a", "!x", "%", "@", "{", "[", ","}))
	param := rapid.OneOf(
		rapid.Map(texts, func(v string) any { return v }),
		rapid.Map(rapid.Int64(), func(v int64) any { return v }),
		rapid.Map(rapid.Bool(), func(v bool) any { return v }),
		rapid.Map(rapid.Float64Range(-10, 10), func(v float64) any { return strictyaml.Whole(v) }),
		rapid.Map(rapid.Float64(), func(v float64) any { return strictyaml.Whole(v) }),
	)
	s.Env.Params = rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9_]{0,9}`), param, 0, 5).Draw(t, "params")
	s.Policy.Hidden = rapid.SliceOfN(rapid.IntRange(1, 1<<16), 1, maxLayers).Draw(t, "hidden")
	s.Policy.Activation = rapid.SampledFrom(fields["policy.activation"].enum).Draw(t, "activation")
	s.Loss.Divergence = rapid.SampledFrom([]string{"hellinger", "alpha:0.5", "forward_kl,tail:5", "custom:g1=tanh(delta)", "custom:f2=delta < 0 ? 1 : 2"}).Draw(t, "divergence")
	if rapid.Bool().Draw(t, "tailed") {
		v := drawValue(t, "tail", 1e-3, 1e3)
		s.Loss.Tail = &v
	}
	s.Loss.Objective = rapid.SampledFrom(append(fields["loss.objective"].enum, "")).Draw(t, "objective")
	switch {
	case s.Loss.Objective == SubTB:
		s.Loss.Lambda = rapid.Float64Range(0, 1e3).Draw(t, "lambda")
		s.Optimiser.FlowRate = new(drawValue(t, "flow_rate", 0, 1))
	case s.Loss.Objective == ML:
		s.Data = &Data{File: "a.csv", Share: 1}
		s.Loss.Divergence, s.Loss.Tail = Default().Loss.Divergence, nil
	case rapid.Bool().Draw(t, "with data"):
		s.Data = &Data{File: rapid.StringMatching(`[!-~é]{1,12}`).Draw(t, "file"), Share: rapid.Float64Range(1e-9, 1).Draw(t, "share")}
	}
	if s.Loss.Objective == ML || s.Loss.Objective == FM {
		s.Policy.Backward = "uniform"
	}
	if s.Loss.Objective != ML {
		s.Loss.LogZInit = rapid.Float64Range(-1e9, 1e9).Draw(t, "log_z_init")
		s.Sampling.Epsilon = drawValue(t, "epsilon", 0, 1)
	}
	s.RewardExponent = drawValue(t, "reward_exponent", 0, 100)
	if rapid.Bool().Draw(t, "rewarded") {
		s.Reward = &Reward{
			Command: rapid.SliceOfN(rapid.StringMatching(`[ -~]{1,12}`), 1, 4).Draw(t, "command"),
			Params:  rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9_]{0,9}`), param, 1, 3).Draw(t, "reward params"),
			Retries: rapid.IntRange(-1, 3).Draw(t, "retries"),
		}
	}
	s.Optimiser.LearningRate = drawValue(t, "learning_rate", 0, 1)
	s.Train.Batch = rapid.IntRange(2, 1000).Draw(t, "batch")
	s.Mesh.ReplayMax = s.Train.Batch + rapid.IntRange(0, 1000).Draw(t, "replay")
	return s
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSpec(t)
		data, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromJSON(data)
		if err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("JSON: %s\ngave %+v, %v\nwant %+v", data, back, err, s)
		}
		again, err := back.JSON()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("equal jobs, other bytes: %s\n%s, %v", data, again, err)
		}
		data, err = s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		back, _, err = Parse("job.yaml", data, nil)
		if err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("YAML:\n%s\ngave %+v, %v\nwant %+v", data, back, err, s)
		}
	})
}

// TestLikelihoodHasNoDivergence: what maximum likelihood would leave out is refused by
// the field's name and line, unless it is the default that a run's config.yaml has.
func TestLikelihoodHasNoDivergence(t *testing.T) {
	plain := "env: {name: hypergrid}\npolicy: {backward: uniform}\ndata: {file: a.csv, share: 1}\nloss: {objective: ml}\n"
	s, _, err := Parse("a.yaml", []byte(plain), nil)
	if err != nil {
		t.Fatal(err)
	}
	full, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Parse("a.yaml", full, nil); err != nil {
		t.Errorf("written out in full: %v", err)
	}
	for path, value := range map[string]string{
		"loss.divergence": "forward_kl", "loss.parameter": "0.5", "loss.tail": "{kind: linear, from: 9, to: 5, over: 10}", "loss.temper": "0.5",
		"loss.normaliser": "batch_mean", "loss.running_decay": "0.5", "loss.log_z_init": "1", "optimiser.log_z_rate": "1e-3",
		"sampling.epsilon": "0.1", "sampling.temperature": "2", "sampling.reward_delay_ms": "5", "train.lag": "50",
	} {
		_, _, err := Parse("a.yaml", []byte(plain), []string{path + "=" + value})
		var fault *fielderr.Error
		if !errors.As(err, &fault) || fault.Path != path || !strings.Contains(fault.Want, "loss.objective ml") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestFilesAreBesideTheJob: no path of a job depends on where the program runs.
func TestFilesAreBesideTheJob(t *testing.T) {
	s, _, err := Load("../../examples/data.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.Data.File); err != nil || !filepath.IsAbs(s.Data.File) {
		t.Errorf("%s: %v", s.Data.File, err)
	}
	dir := t.TempDir()
	for env, names := range map[string]string{
		"{name: bitseq, params: {n: 8, modes_file: modes.txt}}": "env.params.modes_file=modes.txt",
		"{name: sequence, params: {table: ../t.csv}}":           "env.params.table=../t.csv",
		"{name: sequence, params: {table: tfbind8}}":            "",
		"{name: hypergrid, params: {table: t.csv}}":             "",
	} {
		path := filepath.Join(dir, "job.yaml")
		text := "env: " + env + "\nloss: {prior: runs/prior}\ndata: {file: objects.txt, share: 0.5}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := Load(path, []string{"data.file=sub/objects.txt"})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"data.file": filepath.Join(dir, "sub/objects.txt"), "loss.prior": filepath.Join(dir, "runs/prior")}
		if field, file, ok := strings.Cut(names, "="); ok {
			want[field] = filepath.Join(dir, file)
		}
		got := map[string]string{}
		for _, f := range s.Files() {
			got[f.Field] = f.Path
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: files %v; want %v", env, got, want)
		}
		if err := s.Resolve(func(string) string { return "/elsewhere" }); err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Files() {
			if f.Path != want[f.Field] {
				t.Errorf("%s moved to %s when it was resolved again", f.Field, f.Path)
			}
		}
	}
}

func TestFromJSONRefuses(t *testing.T) {
	s, _, err := Parse("job.yaml", []byte(minimal), nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := s.JSON()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct{ text, says string }{
		{"", "decode job: EOF"},
		{"{}", "env.name: missing"},
		{string(good) + "{}", "data after the job"},
		{strings.Replace(string(good), `"seed"`, `"sed"`, 1), `unknown field "sed"`},
		{strings.Replace(string(good), `"params":{}`, `"params":{"x":1e999}`, 1), "env.params"},
		{strings.Replace(string(good), `"params":{}`, `"params":{"x":[-1e999]}`, 1), "env.params"},
		{strings.Replace(string(good), `"batch":16`, `"batch":-1`, 1), "train.batch: got -1"},
		{strings.Replace(string(good), `"batch":16`, `"batch":"16"`, 1), "cannot unmarshal string"},
		{strings.Replace(string(good), `"reward_exponent":1`, `"reward_exponent":null`, 1), "reward_exponent: missing"},
	}
	for _, c := range cases {
		if _, err := FromJSON([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s\ngave %v, which does not say %q", c.text, err, c.says)
		}
	}
	if _, err := FromJSON(bytes.Repeat([]byte(" "), maxEncoded+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge: %v", err)
	}
	s.Env.Params["x"] = strings.Repeat("x", maxEncoded)
	if _, err := s.JSON(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("huge: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "../../examples/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, "train.batch=32")
		}
	}
	f.Add([]byte(minimal), "loss.tail={kind: linear, from: 1, to: 2, over: 3}")
	f.Add([]byte("a: !!x\n? [b]\n: &c {<<: *c}"), "env.params.a.b=[1, {c: |\n d}]")
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		if len(data)+len(set) > 1<<12 {
			t.Skip("long inputs only slow the search down")
		}
		s, src, err := Parse("job.yaml", data, []string{set})
		if err != nil {
			if s != nil || err.Error() == "" {
				t.Fatalf("%v with %+v", err, s)
			}
			return
		}
		if src.Locate(s.Validate()) != nil {
			t.Fatal("Parse let through what Validate refuses")
		}
		encoded, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := FromJSON(encoded)
		if err != nil {
			t.Fatalf("%s: %v", encoded, err)
		}
		if again, err := back.JSON(); err != nil || !bytes.Equal(again, encoded) {
			t.Fatalf("%s\n%s, %v", encoded, again, err)
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	s, _, err := Parse("job.yaml", []byte(minimal), []string{"env.params={a: [1, 2.5, {b: x}]}", "loss.tail=linear:1:5:10"})
	if err != nil {
		f.Fatal(err)
	}
	good, err := s.JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"name":"a","env":{"name":"b","params":{"x":1e400}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := FromJSON(data)
		if err != nil {
			return
		}
		encoded, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := FromJSON(encoded); err != nil || !reflect.DeepEqual(back, s) {
			t.Fatalf("%s\ngave %+v, %v\nwant %+v", encoded, back, err, s)
		}
		text, err := s.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Parse("job.yaml", text, nil); err != nil {
			t.Fatalf("%s\n%v", text, err)
		}
	})
}
