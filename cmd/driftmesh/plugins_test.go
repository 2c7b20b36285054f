package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/driftmesh/driftmesh/internal/plugin/plugintest"
	"github.com/driftmesh/driftmesh/internal/runs"
)

// TestPythonExamples trains the examples of docs/PYTHON.md as they stand there.
func TestPythonExamples(t *testing.T) {
	plugintest.Need(t)
	for _, name := range []string{"reward", "env"} {
		dir := t.TempDir()
		out := ok(t, "train", "../../examples/python/"+name+".yaml", "--runs", dir, "--plain", "--set", "train.updates=1000", "--set", "eval.every=0")
		if !strings.Contains(out, "finished after 1000 updates") || !strings.Contains(out, "(exact)") {
			t.Errorf("%s:\n%s", name, out)
		}
		r := command(t, "eval", filepath.Join(dir, name), "--allow-plugins", "../../examples/python", "--samples", "64", "--json")
		e := decode(t, r.stdout)
		if exact, _ := e["exact"].(map[string]any); r.code != exitOK || exact == nil || exact["distances"].(map[string]any)["tv"].(float64) > 0.5 {
			t.Errorf("%s: eval %+v", name, r)
		}
		ok(t, "best", filepath.Join(dir, name), "--diverse", "--allow-plugins", "../../examples/python")
		if r := command(t, "sample", filepath.Join(dir, name)); r.code != exitBadInput || !strings.Contains(r.stderr, "--allow-plugins") {
			t.Errorf("%s: a program ran without permission: %+v", name, r)
		}
	}
}

// TestPluginWithoutAGraph: what the walk through the whole graph finds ends train and is
// no mere warning.
func TestPluginWithoutAGraph(t *testing.T) {
	plugintest.Need(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "job.yaml")
	write(t, path, "env: {name: plugin, params: {command: [python3, careless.py], params: {fault: texts}}}\npolicy: {hidden: [8]}\ntrain: {batch: 4, updates: 20}\n")
	r := command(t, "train", path, "--plain", "--runs", filepath.Join(dir, "runs"), "--allow-plugins", "../../envs/plugin/testdata")
	if r.code != exitFailed || !strings.Contains(r.stderr, `two objects have the text a set\n: each needs its own`) || strings.Contains(r.stdout, "finished") {
		t.Errorf("%+v", r)
	}
}

// TestPluginsInStudies: the cells of a study may have rewards of a program beside it.
func TestPluginsInStudies(t *testing.T) {
	plugintest.Need(t)
	program, err := os.ReadFile("../../examples/python/reward.py")
	if err != nil {
		t.Fatal(err)
	}
	study, root := studyFile(t, strings.NewReplacer(
		"base:\n", "base:\n  reward: {command: [python3, reward.py]}\n", "seeds: 2", "seeds: 1", "metrics: [tv, modes_held]", "metrics: [tv]",
	).Replace(smallStudy))
	write(t, filepath.Join(filepath.Dir(study), "reward.py"), string(program))
	if out := ok(t, "experiment", "run", study, "--runs", root); !strings.Contains(out, "4 runs done, 0 of them diverged") {
		t.Errorf("says\n%s", out)
	}
	if out := ok(t, "experiment", "list", study, "--runs", root); !strings.Contains(out, "4 of 4 runs done") {
		t.Errorf("list says\n%s", out)
	}
	if out := ok(t, "experiment", "report", study, "--runs", root, "--allow-plugins", filepath.Dir(study)); !strings.Contains(out, "report.html") {
		t.Errorf("report says\n%s", out)
	}
	write(t, filepath.Join(filepath.Dir(study), "reward.py"), string(program)+"\n# another reward\n")
	if r := command(t, "experiment", "run", study, "--runs", root); r.code != exitBadInput || !strings.Contains(r.stderr, "the study has changed: 4 runs are new") {
		t.Errorf("another program: %+v", r)
	}
	r := command(t, "experiment", "run", study, "--runs", filepath.Join(root, "other"), "--allow-plugins", t.TempDir())
	if r.code != exitBadInput || !strings.Contains(r.stderr, "reward.command") {
		t.Errorf("a program ran without permission: %+v", r)
	}
}

// TestUpSaysWhereToLook: rewards that fail in every worker let nothing be trained on,
// and `up` says where the reason stands.
func TestUpSaysWhereToLook(t *testing.T) {
	plugintest.Need(t)
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir, root := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, "fails.py"), "import driftmesh\n\n\n@driftmesh.reward\ndef fails(texts):\n    raise KeyError('gone')\n\n\ndriftmesh.serve(fails)\n")
	write(t, filepath.Join(dir, "fails.yaml"), "env: {name: hypergrid, params: {dim: 2, height: 8}}\nreward: {command: [python3, fails.py]}\ntrain: {updates: 10}\n")
	p := start(t, "up", filepath.Join(dir, "fails.yaml"), "--runs", root, "--workers", "1", "--plain")
	p.until(t, "the logs are named", func() bool {
		return strings.Contains(p.stdout.String(), "no update for 8s; the nodes' logs are "+filepath.Join(root, "fails", "mesh", "*.log"))
	})
	if log := read(t, filepath.Join(root, "fails", "mesh"), "worker-1.log"); !strings.Contains(log, "KeyError: 'gone'") {
		t.Errorf("the log lacks the reason:\n%s", log)
	}
	p.interrupt(t)
	if code := p.wait(t); code != exitInterrupted {
		t.Errorf("exit %d", code)
	}
}

// TestPluginFaultsInTrain: a job whose program cannot run is refused before there is a
// folder, and an object without a reward ends the run with its name.
func TestPluginFaultsInTrain(t *testing.T) {
	plugintest.Need(t)
	dir := t.TempDir()
	for _, c := range []struct{ set, says string }{
		{"reward.command=[python3, nowhere.py]", "holds no nowhere.py"},
		{"reward.command=[python3, -c, 'print(1)']", "options of the interpreter are refused"},
		{"reward.command=[/bin/true]", "/bin/true is not in "},
		{"reward.command=[flaky.py]", "a script of Python is [python3, flaky.py]"},
	} {
		r := command(t, "train", "testdata/plugins/flaky.yaml", "--runs", filepath.Join(dir, "runs"), "--plain", "--set", c.set)
		if r.code != exitBadInput || !strings.Contains(r.stderr, "reward.command") || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: %+v", c.set, r)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "runs")); err == nil {
		t.Error("there is a folder all the same")
	}
	r := command(t, "train", "testdata/plugins/flaky.yaml", "--runs", filepath.Join(dir, "runs"), "--plain", "--set", "reward.command=[python3, flaky.py, "+dir+"]")
	if r.code != exitFailed || !strings.Contains(r.stderr, `object "(3,3)": reward nan; want a finite number above 0`) {
		t.Errorf("%+v", r)
	}
}

// TestPluginsInTheMesh: a reward that crashes, hangs and does not know one object, in
// the worker that may run it. Every accepted trajectory is archived once, with its
// reward; those without a reward are refused; a server never runs the program, nor
// does a worker without permission.
func TestPluginsInTheMesh(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	plugintest.Need(t)
	data := t.TempDir()
	_, addr := startServer(t, "--data", filepath.Join(data, "server"), "--init")
	worker := start(t, "worker", "--data", filepath.Join(data, "worker"), "--join", addr, "--allow-plugins", "testdata/plugins", "--allow-plugins", "../../examples/python")
	r := command(t, "submit", "testdata/plugins/flaky.yaml", "--server", addr, "--set", "reward.command=[python3, flaky.py, "+data+"]",
		"--set", "eval.samples=32") // which this server, who may not ask, leaves out
	if r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	until(t, "the job is finished", func() bool { return jobStatus(t, addr, "flaky")["status"] == "finished" })
	rows := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(ok(t, "export", "flaky", "--server", addr)), "\n") {
		var row struct {
			Object    string
			LogReward float64 `json:"log_reward"`
			Session   string
			Seq       int64
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		var x, y int
		fmt.Sscanf(row.Object, "(%d,%d)", &x, &y)
		if row.Object == "(3,3)" || math.Abs(row.LogReward-math.Log(float64(1+x+y))) > 1e-12 {
			t.Errorf("archived: %+v", row)
		}
		key := fmt.Sprint(row.Session, row.Seq)
		if rows[key] {
			t.Errorf("archived twice: %+v", row)
		}
		rows[key] = true
	}
	// Marks cover what was trained on, and what was refused for want of a reward.
	if n := jobStatus(t, addr, "flaky")["trajectories"].(float64); n <= 40*16 || len(rows) != 40*16 {
		t.Errorf("%v trajectories settled, %d archived; want 640 and some that were refused", n, len(rows))
	}
	log := worker.stderr.String()
	for _, want := range []string{"signal: aborted", "no answer within 2s", `object \"(3,3)\": reward nan`} {
		if !strings.Contains(strings.ReplaceAll(log, `\\\"`, `\"`), want) {
			t.Errorf("the worker does not say %q:\n%s", want, log)
		}
	}

	// An environment is asked by learners too, and this server may not.
	if r := command(t, "submit", "../../examples/python/env.yaml", "--server", addr); r.code != exitBadInput || !strings.Contains(r.stderr, "--allow-plugins") {
		t.Errorf("a server without permission takes an environment: %+v", r)
	}
	pythonTests(t, addr)

	stranger := start(t, "worker", "--data", filepath.Join(data, "stranger"), "--join", addr)
	if r := command(t, "submit", "testdata/plugins/flaky.yaml", "--server", addr, "--set", "name=more", "--set", "train.updates=1000000", "--set", "reward.command=[python3, flaky.py, "+data+"]"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	stranger.until(t, "the worker without permission refuses", func() bool {
		return strings.Contains(stranger.stderr.String(), "this process runs no programs of jobs without --allow-plugins")
	})
}

// pythonTests runs python/tests with this binary and a server.
func pythonTests(t *testing.T, addr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(plugintest.Root(), ".venv", "bin", "python"), "-W", "error::ResourceWarning", "-m", "unittest", "discover", "-s", "python/tests")
	cmd.Dir = plugintest.Root()
	cmd.Env = append(os.Environ(), asCommand+"=1", "DRIFTMESH="+self, "DRIFTMESH_SERVER="+addr)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "OK") {
		t.Errorf("python/tests: %v\n%s", err, out)
	}
}

// TestInterruptedWhileAsked: a command that is told to end while an evaluation waits
// for another program does not wait for it, and the same command goes on to the rows
// of an undisturbed run.
func TestInterruptedWhileAsked(t *testing.T) {
	plugintest.Need(t)
	world := t.TempDir()
	path := filepath.Join(world, "slow.yaml")
	program, err := os.ReadFile("testdata/plugins/slow.py")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(world, "slow.py"), string(program))
	for _, c := range []struct{ asks, job string }{
		{"the estimator", "eval: {every: 20, max_states: 0, samples: 64}\n"},
		{"the listing", "eval: {every: 20}\n"},
		{"the data file", "eval: {every: 20, max_states: 0}\ndata: {file: objects.csv, share: 0.5}\n"}, // all of it at once
	} {
		t.Run(c.asks, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(world, "objects.csv"), "object\n"+strings.Repeat("\"(0,0)\"\n\"(0,1)\"\n\"(0,2)\"\n\"(1,0)\"\n\"(1,1)\"\n\"(1,2)\"\n\"(2,0)\"\n\"(2,1)\"\n\"(2,2)\"\n", 2))
			write(t, path, "env: {name: hypergrid, params: {dim: 2, height: 4}}\npolicy: {hidden: [16]}\ntrain: {batch: 4, updates: 40}\n"+
				"reward: {command: [python3, slow.py, "+dir+"], timeout_ms: 600000}\n"+c.job)
			args := []string{"train", path, "--plain", "--runs"}
			p := start(t, append(args, filepath.Join(dir, "runs"))...)
			p.until(t, "the program is asked", func() bool { _, err := os.Stat(filepath.Join(dir, "asked")); return err == nil })
			told := time.Now()
			p.interrupt(t)
			if code, took := p.wait(t), time.Since(told); code != exitInterrupted || took > pluginGrace-time.Second {
				t.Errorf("exit code %d after %s\n%s%s", code, took, p.stdout.String(), p.stderr.String())
			}
			write(t, filepath.Join(dir, "go"), "")
			ok(t, append(args, filepath.Join(dir, "runs"))...)
			ok(t, append(args, filepath.Join(dir, "undisturbed"))...)
			if a, b := read(t, filepath.Join(dir, "runs/slow"), runs.MetricsFile), read(t, filepath.Join(dir, "undisturbed/slow"), runs.MetricsFile); a != b {
				t.Errorf("it went on to\n%s\nundisturbed\n%s", a, b)
			}
		})
	}
}

// TestResumedWithAnotherProgram: a run does not go on with a program, or a file that it
// depends on, that has changed.
func TestResumedWithAnotherProgram(t *testing.T) {
	plugintest.Need(t)
	dir := t.TempDir()
	path, program := filepath.Join(dir, "job.yaml"), filepath.Join(dir, "reward.py")
	const text = "import driftmesh\n\n@driftmesh.reward(objects=driftmesh.numbers, data=['floor.txt'])\ndef reward(x):\n    return 1.0 + x.sum(axis=1)\n\ndriftmesh.serve(reward)\n"
	write(t, program, text)
	write(t, filepath.Join(dir, "floor.txt"), "1\n")
	write(t, path, "env: {name: hypergrid, params: {dim: 2, height: 4}}\nreward: {command: [python3, reward.py]}\npolicy: {hidden: [8]}\ntrain: {batch: 4, updates: 20}\n")
	train := func(args ...string) result {
		return command(t, append([]string{"train", path, "--plain", "--runs", filepath.Join(dir, "runs")}, args...)...)
	}
	if r := train(); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if r := train("--set", "train.updates=30"); r.code != exitOK || !strings.Contains(r.stdout, "resuming at version 20") {
		t.Errorf("the same program: %+v", r)
	}
	for name, changed := range map[string]string{"reward.py": text + "# another\n", "floor.txt": "2\n"} {
		old := read(t, dir, name)
		write(t, filepath.Join(dir, name), changed)
		before := contents(t, filepath.Join(dir, "runs"))
		r := train("--set", "train.updates=40")
		if r.code != exitBadInput || !strings.Contains(r.stderr, "reward.command: the program, or a file that it depends on, has changed since version 30") || !strings.Contains(r.stderr, "--fresh") {
			t.Errorf("another %s: %+v", name, r)
		}
		if after := contents(t, filepath.Join(dir, "runs")); !maps.Equal(before, after) {
			t.Errorf("%s: changed files: %v", name, changes(before, after))
		}
		write(t, filepath.Join(dir, name), old)
	}
	if r := train("--set", "train.updates=40"); r.code != exitOK || !strings.Contains(r.stdout, "resuming at version 30") {
		t.Errorf("the program is back: %+v", r)
	}
}
